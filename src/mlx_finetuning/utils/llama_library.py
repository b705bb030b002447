"""Finds and loads the shared object with ggml and llama.cpp that ships in `xllamacpp`.

Only C functions of that object are used; the Python module in it is never imported here.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlx_finetuning.errors import QuantizerUnusable
from mlx_finetuning.language import _

PACKAGE = "xllamacpp"


def library_path() -> Path:
    """Where the shared object lies. Raises QuantizerUnusable."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise QuantizerUnusable(
            reason=_("Pythonパッケージ {package} がありません。").format(package=PACKAGE)
        )
    libraries = sorted(Path(spec.origin).parent.glob(f"{PACKAGE}*.so"))
    if not libraries:
        raise QuantizerUnusable(
            reason=_("{package} の中に共有ライブラリがありません。").format(package=PACKAGE)
        )
    return libraries[0]


@functools.cache
def load() -> ctypes.CDLL:
    """The library, loaded once per process. Raises QuantizerUnusable."""
    path = library_path()
    # Else ggml calls a debugger, where there is one, before it ends the process over a damaged file.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise QuantizerUnusable(
            reason=_("{name} を読み込めません: {error}").format(name=path.name, error=error)
        ) from error


Signatures = Mapping[str, tuple[object, Sequence[object]]]
"""Name of a C function → its result's type and its arguments'; None is void."""


def declare(functions: ctypes.CDLL, signatures: Signatures) -> None:
    """Tell ctypes the types of the functions. Raises QuantizerUnusable where one is missing."""
    try:
        for name, (result, arguments) in signatures.items():
            function = getattr(functions, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise QuantizerUnusable(
            reason=_("必要な関数がありません: {error}").format(error=error)
        ) from error
