"""The process in which `python -m mlx_lm …` runs as it is, with three things around it.

OpenBLAS is loaded before MLX; the process ends when its standard input closes, for the worker
holds the other end, so a killed worker leaves no training behind; and its last line says what memory
it took, by the gauge of our own engine. Changes nothing in mlx-lm.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
from typing import Any

from mlx_finetuning.utils import blas, memory_monitor, transformers_import

PEAK = "Peak memory of the process: "
"""Begins the last line, before a number of bytes."""


def main() -> None:
    """Run mlx-lm's command line on this process's arguments."""

    def end_with_parent() -> None:
        while os.read(sys.__stdin__.fileno() if sys.__stdin__ else 0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    blas.preload()
    transformers_import.hasten()
    runpy.run_module("mlx_lm", run_name="__main__", alter_sys=True)
    mx: Any = sys.modules["mlx.core"]  # mlx-lm has it; ours is not to import it
    on_gpu = mx.default_device() != mx.cpu
    peak = mx.get_peak_memory() if on_gpu else memory_monitor.peak_memory()
    print(f"{PEAK}{peak}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
