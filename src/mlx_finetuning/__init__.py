"""Fine-tune language models on one's own machine with MLX: a Japanese-language studio.

`from mlx_finetuning import Studio` is the application's API; importing it loads no MLX.
"""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # When it is asked for: every module of the package imports this one first.
    if name == "Studio":
        return importlib.import_module("mlx_finetuning.studio").Studio
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
