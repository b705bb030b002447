"""CUDA sources to machine code, by the run-time compiler (NVRTC) that comes with MLX's CUDA build.

MLX compiles sources that it is given at every start, 20 s for a run's kernels. Here each is compiled
once, and kept inside the environment by a digest of all that it was made from.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

HOME = Path(sys.prefix) / "lib" / "mlx-finetuning-cuda"
"""Where compiled kernels are kept."""
_DIGEST_BYTES = 32
_PREAMBLE = """
typedef int int32_t;
typedef long long int64_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#include <cuda_bf16.h>
#include <cuda_fp16.h>
"""


@dataclass(frozen=True)
class _Compiler:
    library: Any
    headers: Path

    @functools.cached_property
    def version(self) -> str:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}"

    def compiled(self, source: str, target: str) -> bytes:
        """Raises RuntimeError with what the compiler says."""
        program = ctypes.c_void_p()
        text = source.encode()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text, b"kernel.cu", 0, None, None)
        try:
            words = (f"--gpu-architecture={target}", f"--include-path={self.headers}")
            options = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
            try:
                self._call("nvrtcCompileProgram", program, len(words), options)
            except RuntimeError as error:
                log = self._read("ProgramLog", program).rstrip(b"\0").decode(errors="replace")
                raise RuntimeError(f"{error}\n{log}") from None
            return self._read("CUBIN", program)
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))

    def _read(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _call(self, function: str, *values: Any) -> None:
        status = getattr(self.library, function)(*values)
        if status:
            raise RuntimeError(f"{function}: {status}")


def is_found() -> bool:
    """Whether there is a compiler, with its headers."""
    return _compiler() is not None


@functools.cache
def _compiler() -> _Compiler | None:
    """The library that MLX has loaded, wherever it found it."""
    mapped = ""
    with contextlib.suppress(OSError):
        mapped = Path("/proc/self/maps").read_text("utf-8", errors="replace")
    paths = (Path(line.split()[-1]) for line in mapped.splitlines())
    loaded = next((path for path in paths if path.name.startswith("libnvrtc.so")), None)
    if loaded is None:
        return None
    folders = _header_folders(loaded)
    headers = next((folder for folder in folders if (folder / "cuda_bf16.h").exists()), None)
    return None if headers is None else _Compiler(ctypes.CDLL(str(loaded)), headers)


def _header_folders(library: Path) -> list[Path]:
    """Where headers may lie: in NVIDIA's packages beside MLX's, beside the library, or in a toolkit."""
    packages = [Path(mx.__file__).parents[1] / "nvidia", library.parents[2]]
    named = [os.environ.get(name, "") for name in ("CUDA_HOME", "CUDA_PATH")]
    toolkits = [Path(name) for name in (*named, "/usr/local/cuda") if name]
    return [
        *(root / part / "include" for root in packages for part in ("cu13", "cuda_runtime")),
        library.parents[1] / "include",
        *(root / "include" for root in toolkits),
    ]


@functools.cache
def machine_code(source: str) -> bytes:
    """Of the kernels in `source`, for the GPU that MLX computes on. Raises RuntimeError."""
    found = _compiler()
    if found is None:
        raise RuntimeError("NVRTC")
    info: Any = mx.device_info()
    major, minor = (int(info[f"compute_capability_{part}"]) for part in ("major", "minor"))
    # With the instructions that later kinds do not have.
    target = f"sm_{major}{minor}{'a' if major >= 9 else ''}"
    whole = _PREAMBLE + source
    made_of = "\n".join((found.version, target, whole))
    path = HOME / f"{hashlib.sha256(made_of.encode()).hexdigest()[:32]}.cubin"
    with contextlib.suppress(OSError):
        kept = path.read_bytes()
        if hashlib.sha256(kept[_DIGEST_BYTES:]).digest() == kept[:_DIGEST_BYTES]:
            return kept[_DIGEST_BYTES:]
    code = found.compiled(whole, target)
    with contextlib.suppress(OSError):  # kept in memory alone, then
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}")
        new.write_bytes(hashlib.sha256(code).digest() + code)
        new.replace(path)
    return code
