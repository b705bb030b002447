"""Files handed in through the browser: kept as they came, by content.

The original on the user's machine is never touched; the copy is what a dataset's manifest names.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from mlx_finetuning import files

MAX_NAME = 200
"""Bytes: file systems allow 255, temporary names need some."""
_LONGEST_ENDING = 20


def keep(name: str, content: bytes, folder: Path) -> Path:
    """The copy of an uploaded file; the same content under the same name is kept once.

    `name` comes from a browser: only its last part is used, without signs that paths give a
    meaning. Raises DiskFull.
    """
    path = folder / hashlib.sha256(content).hexdigest()[:16] / safe_name(name)
    if not path.exists():
        with files.replacing(path) as stream:
            stream.write(content)
    return path


def safe_name(name: str) -> str:
    """`name` as a plain file name with its ending."""
    last = re.split(r"[/\\]", name)[-1]
    cleaned = Path(re.sub(r"[^\w.()（）・～ -]", "_", last).strip(". "))
    ending = cleaned.suffix[:_LONGEST_ENDING]
    limit = MAX_NAME - len(ending.encode())
    shortened = cleaned.stem.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")
    return f"{shortened or 'data'}{ending}"
