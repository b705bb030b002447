"""ZIP archives (workbooks, documents), opened only if they cannot exhaust the machine that reads them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from mlx_finetuning.errors import StudioError
from mlx_finetuning.language import _

MAX_UNPACKED = 400 << 20
"""Bytes of all parts that are read."""
_SMALL = 32 << 20
_BOMB_RATIO = 100
"""Parts are packed 5 to 40 times; what is packed tighter, and large, was made to burst."""
MAX_PARTS = 10_000


def open_zip(
    path: Path,
    parts: tuple[str, ...],
    refused: Callable[[str], StudioError],
    largest: int = MAX_UNPACKED,
) -> zipfile.ZipFile:
    """The archive, if what lies under `parts` (beginnings of names) is of a size to be read.

    Sizes are those of the directory, which `zipfile` never reads beyond. Raises what `refused` makes of
    a reason, zipfile.BadZipFile.
    """
    archive = zipfile.ZipFile(path)
    read = [info for info in archive.infolist() if info.filename.startswith(parts)]
    unpacked = sum(info.file_size for info in read)
    packed = sum(info.compress_size for info in read)
    is_bomb = unpacked > _SMALL and unpacked > _BOMB_RATIO * max(1, packed)
    if unpacked > largest or is_bomb:
        raise refused(
            _("展開すると{size:,} MBになります（元の{times:,}倍）。{most} MBまで読めます。").format(
                size=unpacked >> 20,
                times=unpacked // max(1, packed),
                most=largest >> 20,
            )
        )
    if len(archive.infolist()) > MAX_PARTS:
        raise refused(_("ZIPの中のファイルが多すぎます。"))
    if any(info.flag_bits & 1 for info in read):
        raise refused(_("ZIPが暗号化されています。"))
    return archive
