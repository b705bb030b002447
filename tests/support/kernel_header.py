"""Compiles once what every kernel of MLX on Linux's CPU begins with.

MLX has g++ compile each fused function there, hundreds in a run of the tests, and four fifths of the
half second that each takes go to the same header. Where g++ finds that header compiled with the same
flags, it takes it; the kernels are the same.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

HEADER = "mlx/backend/cpu/compiled_preamble.h"
FLAGS = ("-std=c++17", "-O3", "-Wall", "-fPIC")
"""MLX's own."""


def compile_once() -> None:
    """Put it beside MLX's kernels, in the temporary folder; nothing happens where it is already."""
    compiler, found = shutil.which("g++"), importlib.util.find_spec("mlx")
    if sys.platform != "linux" or compiler is None or found is None:
        return
    assert found.submodule_search_locations is not None  # it is a package
    [package] = found.submodule_search_locations
    include = Path(package) / "include"
    kernels = Path(tempfile.gettempdir()) / "mlx" / metadata.version("mlx") / "cpu"
    target = kernels / f"{HEADER}.gch"
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(f".{os.getpid()}")
    command = [compiler, *FLAGS, "-w", f"-I{include}", "-x", "c++-header", str(include / HEADER)]
    done = subprocess.run([*command, "-o", str(unfinished)], capture_output=True, check=False)
    if done.returncode == 0:  # without it everything works, only slower
        unfinished.replace(target)
