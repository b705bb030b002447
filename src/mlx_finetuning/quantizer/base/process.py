"""Makes a GGUF base's folder in a process of its own: `python -m mlx_finetuning.quantizer.base.process`.

llama.cpp ends its process over some damaged vocabularies, and a file from anywhere must not end the
web interface. The error travels as JSON on standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from mlx_finetuning.errors import BaseFileUnusable, StudioError
from mlx_finetuning.language import _


def write(path: Path, folder: Path) -> None:
    """`folder.write`, which says what is raised; also BaseFileUnusable where the process fails."""
    command = [
        *(sys.executable, "-P", "-m"),
        "mlx_finetuning.quantizer.base.process",
        str(path),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode == 0:
        return
    try:
        error = StudioError.from_json(json.loads(done.stdout))
    except (ValueError, TypeError, AttributeError):
        reason = _("中身を確かめるプロセスが異常終了しました。ファイルが壊れています。")
        raise BaseFileUnusable(path=str(path), reason=reason) from None
    raise error


def main(path: str, folder: str) -> int:
    """Make the folder; 1 where the error is on standard output."""
    from mlx_finetuning.quantizer.base import folder as folders

    try:
        folders.write(Path(path), Path(folder))
    except StudioError as error:
        sys.stdout.write(json.dumps(error.to_json()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
