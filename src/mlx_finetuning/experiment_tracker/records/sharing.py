"""A shared model's files on their way out: into a folder, or into one ZIP file.

Knows nothing of what they are; `tasks.share` gathers them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.language import N_, _
from mlx_finetuning.progress import Progress, Step

STAGE = N_("共有するファイルの書き出し")
_BLOCK = 1 << 22
_MB = 1_000_000


@dataclass(frozen=True)
class SharedFile:
    """One file: its path in what is shared, and its content, or where that lies."""

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        content = self.content
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    def blocks(self) -> Iterator[bytes]:
        """The content, never more of it in memory than a few megabytes."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        with self.content.open("rb") as stream:
            while block := stream.read(_BLOCK):
                yield block


def write(shared: Sequence[SharedFile], out: Path, progress: Progress) -> None:
    """Into `out`, whole or not at all: a ZIP file if its name ends so, else a folder.

    What was there before is replaced. Raises DiskFull, Interrupted.
    """
    written, total = 0, sum(file.size for file in shared)

    def copy(file: SharedFile, write_block: Callable[[bytes], object]) -> None:
        nonlocal written
        for block in file.blocks():
            write_block(block)
            written += len(block)
            progress(Step(_(STAGE), written // _MB, total // _MB, file.name))

    if out.suffix.lower() == ".zip":
        # Stored: weights are as good as random, and gigabytes of them would take minutes.
        with (
            files.replacing_path(out) as draft,
            zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive,
        ):
            for file in shared:
                with archive.open(f"{out.stem}/{file.name}", "w", force_zip64=True) as stream:
                    copy(file, stream.write)
        return
    with files.replacing_folder(out) as folder:
        for file in shared:
            path = folder / file.name
            files.make_folder(path.parent)
            with path.open("wb") as target:
                copy(file, target.write)
                target.flush()
                files.sync(target.fileno())
