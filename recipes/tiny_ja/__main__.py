"""`python -m recipes.tiny_ja OUTPUT_FOLDER`: makes the built-in base model again.

Takes about a day on a CPU, minutes on a GPU. The same command goes on where it was stopped. In a
workspace's `models/base/tiny-ja`, the new model takes the place of the one that ships.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlx_finetuning.errors import StudioError
from mlx_finetuning.progress import Step
from mlx_finetuning.utils import blas

blas.preload()  # before anything imports MLX

from recipes.tiny_ja import build  # noqa: E402
from recipes.tiny_ja.recipe import Recipe  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 for a finished model, 1 for an error, 130 when interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.tiny_ja", description="Make the built-in base model tiny-ja again."
    )
    parser.add_argument("folder", type=Path, metavar="OUTPUT_FOLDER")
    options = parser.parse_args(arguments)
    try:
        shares = build.build(options.folder.absolute(), Recipe(), _show)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from the last saved state.", file=sys.stderr)
        return 130
    except (StudioError, FileExistsError) as error:
        print(error, file=sys.stderr)
        return 1
    for kind, share in shares.items():
        print(f"{kind}: {share:.1%} exact answers")
    return 0


def _show(step: Step) -> None:
    position = f" {step.done}/{step.total}" if step.total else ""
    print(f"{step.stage}{position} {step.detail}".rstrip(), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
