from mlx_finetuning.studio import Studio as Studio

__version__: str
