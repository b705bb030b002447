"""A fast BLAS for MLX on Linux, and what matrix products cost with it.

MLX's Linux wheel links the reference BLAS, which is some thirty times slower than OpenBLAS. Symbols
that are global before MLX is loaded win, so `preload` opens OpenBLAS first. OpenBLAS before 0.3.25,
which Debian 12 and Ubuntu 22.04 bring, takes a processor newer than itself for one of 2004 and
computes at a third to a fifth of its speed (OpenBLAS's issue 4267); `preload` tells it what the
processor can do. On macOS MLX uses Accelerate and Metal, and nothing is to be done. Installs nothing;
`setup.sh` does.
"""

from __future__ import annotations

import _ctypes
import contextlib
import ctypes
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

OVERRIDE = "MLX_FINETUNING_BLAS"
"""A library to load instead; `off` keeps the wheel's reference BLAS."""

# Names the loader knows: Fedora's threaded build first, then Debian's, Arch's and openSUSE's.
_NAMES = ("libopenblasp.so.0", "libopenblas.so.0", "libopenblaso.so.0", "libopenblas.so")
# Places outside the loader's list: Debian without its alternative link, hand-built, conda.
_PLACES = (
    "/usr/lib/*-linux-gnu/openblas-*/libopenblas.so.0",
    "/usr/local/lib*/libopenblas.so*",
    "/opt/OpenBLAS/lib/libopenblas.so*",
)

_CORE_TYPE = "OPENBLAS_CORETYPE"
# What OpenBLAS takes processors for that it does not know: kernels without AVX.
_FALLBACKS = ("Prescott", "Barcelona")
# Kernels by the instructions they need, the fastest first. All distributions build both.
_KERNELS = (
    ("SkylakeX", {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}),
    ("Haswell", {"avx2", "fma"}),
)

State = Literal["loaded", "absent", "unusable", "too_late", "off", "not_needed"]


@dataclass(frozen=True)
class BlasInfo:
    """What became of the attempt to give MLX a fast BLAS."""

    state: State
    """`too_late`: MLX was imported first and keeps the BLAS it has."""
    description: str = ""
    """Name and version of the loaded library, or the path that could not be used."""


@dataclass(frozen=True)
class Measurement:
    """What matrix products cost in a process of its own."""

    device: str
    """MLX's default device: `cpu` or `gpu`."""
    gflops: float
    """10**9 floating-point operations a second of a float32 matrix product."""
    blas: BlasInfo
    """What was loaded before MLX in that process."""
    gpu: str = ""
    """The name of the GPU that MLX computes on."""
    gpu_bytes: int = 0
    """Memory that it may take; of a GPU that shares the machine's, as the system recommends."""


@functools.cache
def preload() -> BlasInfo:
    """Make OpenBLAS's symbols win over MLX's own. Call before anything imports `mlx.core`.

    Never raises: without OpenBLAS everything works, only slower. Repeated calls change nothing.
    """
    if sys.platform != "linux":
        return BlasInfo("not_needed")
    wanted = os.environ.get(OVERRIDE, "").strip()
    if wanted == "off":
        return BlasInfo("off")
    if "mlx.core" in sys.modules:
        return BlasInfo("too_late")
    for candidate in [wanted] if wanted else _candidates():
        description = _open(candidate)
        if description is not None:
            return BlasInfo("loaded", description)
    return BlasInfo("unusable", wanted) if wanted else BlasInfo("absent")


def measure(with_preload: bool = True, timeout_s: float = 60.0) -> Measurement | None:
    """The speed that MLX reaches in a process of its own, or None if it cannot run there.

    `with_preload=False` measures the BLAS that MLX brings along.
    """
    environment = {**os.environ, **({} if with_preload else {OVERRIDE: "off"})}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=environment,
            capture_output=True,
            timeout=timeout_s,
            check=True,
        )
        result = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    info = BlasInfo(result["state"], result["description"])
    gpu, gpu_bytes = result["gpu"], result["gpu_bytes"]
    return Measurement(result["device"], result["gflops"], info, gpu, gpu_bytes)


# 1024 is large enough to keep all cores busy; the reference BLAS needs 0.3 s for it.
_PROBE = """
from mlx_finetuning.utils import blas
info = blas.preload()
import json, time
import mlx.core as mx
size = 1024
a = mx.random.normal((size, size))
mx.eval(a @ a)
best = float("inf")
start = time.perf_counter()
while time.perf_counter() - start < 0.6:
    begin = time.perf_counter()
    mx.eval(a @ a)
    best = min(best, time.perf_counter() - begin)
device = mx.default_device().type.name
about = mx.device_info() if device == "gpu" else {}
names = ("total_memory", "max_recommended_working_set_size", "memory_size")
print(json.dumps({
    "device": device,
    "gpu": about.get("device_name", ""),
    "gpu_bytes": next((about[name] for name in names if name in about), 0),
    "gflops": 2 * size**3 / best / 1e9,
    "state": info.state,
    "description": info.description,
}))
"""


def _candidates() -> Iterator[str]:
    yield from _NAMES
    conda = os.environ.get("CONDA_PREFIX")
    if conda:
        yield str(Path(conda) / "lib" / "libopenblas.so")
    for pattern in _PLACES:
        yield from sorted(str(path) for path in Path("/").glob(pattern.lstrip("/")))


def _open(name: str) -> str | None:
    """Load `name` for the whole process and describe it; None if it is no LP64 CBLAS."""
    with contextlib.suppress(OSError):
        # Looked at privately first: a library that lacks the symbols must not become global.
        library = ctypes.CDLL(name)
        if not hasattr(library, "cblas_sgemm"):
            return None
        # The processor that OpenBLAS computes for.
        core = _says(library, "openblas_get_corename") or ""
        kernels = None if _CORE_TYPE in os.environ else _better_kernels(core, _flags())
        if kernels:
            # Read once, when the library is loaded; one that another module holds stays as it is.
            _ctypes.dlclose(library._handle)
            os.environ[_CORE_TYPE] = kernels
        try:
            config = _says(ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL), "openblas_get_config")
            return Path(name).name if config is None else " ".join(config.split()[:2])
        finally:
            if kernels:
                del os.environ[_CORE_TYPE]
    return None


def _says(library: ctypes.CDLL, function: str) -> str | None:
    """The text that a function of OpenBLAS gives; None if the library has no such function."""
    if not hasattr(library, function):
        return None
    ask = getattr(library, function)
    ask.restype = ctypes.c_char_p
    text: bytes = ask()
    return text.decode("ascii", "replace")


def _better_kernels(core: str, flags: set[str]) -> str | None:
    """The value of OPENBLAS_CORETYPE for a processor that OpenBLAS did not know, else None."""
    if core not in _FALLBACKS:
        return None
    return next((kernels for kernels, needed in _KERNELS if needed <= flags), None)


def _flags() -> set[str]:
    """The instruction sets of the first processor by Linux's names; empty if it is no x86."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        for line in lines:
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()
