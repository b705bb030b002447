"""How long a GGUF base takes to load, beside reading its file.

    python benchmarks/gguf_loading.py FOLDER [--rounds 9]

FOLDER is a base's (`models/from-gguf/…` of a workspace). Reading is by `read` into one buffer; loading goes
from the folder to all weights in memory and the tokenizer. Cold: the system has forgotten the file. Linux.
"""

# ruff: noqa: E402

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from mlx_finetuning.utils import blas

blas.preload()

from mlx_finetuning.mlx_trainer.model import gguf_weights
from mlx_finetuning.mlx_trainer.model.load import load, load_module
from mlx_finetuning.utils import gguf_base

BUFFER_BYTES = 1 << 22


def read(file: Path) -> None:
    buffer = bytearray(BUFFER_BYTES)
    with file.open("rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


def forget(file: Path) -> None:
    with file.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(work: Callable[[], object], is_packed: bool) -> tuple[float, float]:
    """Seconds of the clock, and of the processor."""
    with patch.object(gguf_weights, "_stays_packed", lambda _: is_packed):
        clock, processor = time.perf_counter(), time.process_time()
        work()
        return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    base = gguf_base.read(chosen.folder)
    assert base is not None
    file = base.file
    kinds: dict[str, tuple[Callable[[], object], bool]] = {
        "read": (lambda: read(file), True),
        "packed, weights alone": (lambda: load_module(chosen.folder), True),
        "packed": (lambda: load(chosen.folder), True),
        "float32, weights alone": (lambda: load_module(chosen.folder), False),
        "float32": (lambda: load(chosen.folder), False),
    }
    forget(file)
    print(f"cold, packed, the first load of this process: {timed(*kinds['packed'])[0]:.3f} s")
    for is_cold in (True, False):
        found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for _ in range(chosen.rounds):
            for kind, measured in kinds.items():
                if is_cold:
                    forget(file)
                found[kind].append(timed(*measured))
        for kind, taken in found.items():
            clock, processor = (statistics.median(of_one) for of_one in zip(*taken, strict=True))
            ratio = statistics.median(
                one[0] / other[0] for one, other in zip(taken, found["read"], strict=True)
            )
            state = "cold" if is_cold else "warm"
            print(
                f"{state} {kind:23} {clock:.3f} s, {ratio:.2f} of read; processor {processor:.2f} s"
            )


if __name__ == "__main__":
    main()
