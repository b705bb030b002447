"""Fine-tune language models on one's own machine with MLX: a Japanese-language studio.

The application API is `mlx_finetuning.studio.Studio`; importing it loads no MLX.
"""

__version__ = "0.1.0"
