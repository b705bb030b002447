"""The process in which `python -m mlx_lm …` runs as it is, with two things around it.

OpenBLAS is loaded before MLX, and the process ends when its standard input closes: the worker
holds the other end, so a killed worker leaves no training behind. Changes nothing in mlx-lm.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading

from mlx_finetuning.utils import blas, transformers_import


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


if __name__ == "__main__":
    main()
