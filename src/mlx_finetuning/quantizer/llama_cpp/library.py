"""Finds and loads the shared object with ggml and llama.cpp that ships in `xllamacpp`.

Only C functions of that object are used; the Python module in it is never imported here.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path

from mlx_finetuning.errors import QuantizerUnusable

PACKAGE = "xllamacpp"


def library_path() -> Path:
    """Where the shared object lies. Raises QuantizerUnusable."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise QuantizerUnusable(reason=f"Pythonパッケージ {PACKAGE} がありません。")
    found = sorted(Path(spec.origin).parent.glob(f"{PACKAGE}*.so"))
    if not found:
        raise QuantizerUnusable(reason=f"{PACKAGE} の中に共有ライブラリがありません。")
    return found[0]


@functools.cache
def load() -> ctypes.CDLL:
    """The library, loaded once per process. Raises QuantizerUnusable."""
    path = library_path()
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise QuantizerUnusable(reason=f"{path.name} を読み込めません: {error}") from error
