"""The C++ kernels of `mlx_trainer/kernels/native`: built once for an environment, and found again.

Where a compiler is, `python -m mlx_finetuning.utils.native_kernels` (which `setup.sh` calls) makes a
library of them inside the environment; without one everything works, slower. Its folder is named by
all that it was made from, so that one of another version of MLX, Python, the sources or of another
kind of processor is never found. Imports no MLX; `mlx_trainer.kernels.backend` loads the library.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from mlx_finetuning.language import _

OVERRIDE = "MLX_FINETUNING_KERNELS"
"""`off` computes by MLX's own operations, without the library."""
MODULE = "mlx_finetuning_native"
"""The name that Python knows the library by."""
SOURCES = Path(__file__).parents[1] / "mlx_trainer" / "kernels" / "native"
_FLAGS = (
    "-std=c++20 -O3 -fPIC -fvisibility=hidden -fopenmp-simd -fno-math-errno -fno-trapping-math"
    # MLX's Python module and this one know each other's types by the domain's name.
    " -DNDEBUG -DNB_DOMAIN=mlx -DNB_COMPACT_ASSERTIONS"
).split()

_PER_PROCESSOR = "processor.cpp"
"""What is compiled once for each kind of processor; the others once."""
_PROCESSORS = {"any": ""}
"""Of this kind of machine: names, which the sources know, and what the compiler may use for each."""
if platform.machine() == "x86_64":
    _PROCESSORS |= {
        "avx2": "-mavx2 -mfma -mbmi2 -mf16c",
        "avx512": "-mavx2 -mfma -mbmi2 -mf16c -mavx512f -mavx512dq -mavx512bw -mavx512vl",
    }

State = Literal[
    "built", "off", "not_needed", "no_compiler", "no_headers", "failed", "stale", "absent"
]


def state() -> State:
    """Whether there is a library to load, or why not. `stale`: one that was made from something else."""
    if sys.platform != "linux":
        return "not_needed"
    if os.environ.get(OVERRIDE, "").strip() == "off":
        return "off"
    if library().exists():
        return "built"
    if complaint_file().exists():
        return "failed"
    if compiler() is None:
        return "no_compiler"
    if not (_python_headers() / "Python.h").exists():
        return "no_headers"
    return "stale" if any(_home().glob("*/*.so")) else "absent"


def library() -> Path:
    """Where the library lies, once it is built."""
    return _home() / _digest() / f"{MODULE}.so"


def complaint_file() -> Path:
    """What the compiler said, where building these sources failed; it is not tried again."""
    return library().with_name("failed.txt")


def compiler() -> str | None:
    """The C++ compiler to build with."""
    return next(
        filter(None, map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++"))), None
    )


def build() -> str:
    """Build the library where it is missing; the compiler's complaint, or nothing.

    What comes into its place has been loaded, and has computed, in a process of its own.
    """
    target, found = library(), compiler()
    if target.exists() or found is None:
        return ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / target.name
            _compile(found, made)
            _run([sys.executable, "-c", _PROBE, str(made)])
            made.replace(target)
    except (OSError, subprocess.SubprocessError) as error:
        complaint = str(getattr(error, "stderr", None) or error).strip()
        with contextlib.suppress(OSError):
            complaint_file().write_text(complaint, "utf-8")
        return complaint
    for other in _home().iterdir():
        if other != target.parent:
            shutil.rmtree(other, ignore_errors=True)
    return ""


_PROBE = """
import sys
from mlx_finetuning.mlx_trainer.kernels import backend
backend.load(sys.argv[1])
"""


def _compile(found: str, target: Path) -> None:
    mlx, nanobind = _package("mlx"), _package("nanobind")
    includes = (
        *(mlx / "include", nanobind / "include", nanobind / "ext" / "robin_map" / "include"),
        _python_headers(),
    )
    options = [*_FLAGS, *(f"-I{folder}" for folder in includes)]
    objects: dict[str, list[str]] = {}
    """By name: what is compiled to it."""
    for source in (nanobind / "src" / "nb_combined.cpp", *sorted(SOURCES.glob("*.cpp"))):
        if source.name == _PER_PROCESSOR:
            for name, flags in _PROCESSORS.items():
                objects[f"{name}.o"] = [*flags.split(), f"-DPROCESSOR={name}", str(source)]
        else:
            objects[f"{source.stem}.o"] = [str(source)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        commands = [
            [found, *options, *what, "-c", "-o", str(target.with_name(name))]
            for name, what in objects.items()
        ]
        list(pool.map(_run, commands))
    made = [str(target.with_name(name)) for name in objects]
    libraries = [f"-L{mlx / 'lib'}", "-lmlx", f"-Wl,-rpath,{mlx / 'lib'}"]
    _run([found, "-shared", "-o", str(target), *made, *libraries])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)


def _home() -> Path:
    return Path(sys.prefix) / "lib" / "mlx-finetuning"


@functools.cache
def _digest() -> str:
    made_of = [platform.machine(), sys.implementation.cache_tag, str(_package("mlx")), *_FLAGS]
    made_of += _PROCESSORS.values()
    made_of += [f"{name} {importlib.metadata.version(name)}" for name in ("mlx", "nanobind")]
    made_of += [path.read_text("utf-8") for path in sorted(SOURCES.iterdir()) if path.is_file()]
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]


def _package(name: str) -> Path:
    """The folder of an installed package, which is not imported; one of that name elsewhere on the
    path, which Python would join to it, is not meant."""
    return Path(str(importlib.metadata.distribution(name).locate_file(name)))


def _python_headers() -> Path:
    return Path(sysconfig.get_paths()["include"])


def main() -> int:
    """Build, and say so."""
    if state() not in ("absent", "stale"):
        return 0
    print(_("[準備] CPUでの学習を速くするC++のカーネルをコンパイルしています（1分ほど）…"))  # noqa: T201
    if complaint := build():
        failed = _(
            "[準備] コンパイルできませんでした（なくても動きますが、CPUでの学習が遅くなります）:"
        )
        print(failed)  # noqa: T201
        print(complaint[-2000:])  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
