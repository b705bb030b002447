"""What a file of weights is known by without reading gigabytes: name, size, chunks from all over.

Tells other weights from these; no check against tampering.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlx_finetuning.utils import gguf_base

SAMPLE, SAMPLES = 1 << 14, 64
"""Bytes and number of the chunks; a file of up to a megabyte is taken whole."""


def chunks(path: Path) -> Iterator[bytes]:
    """To be fed to a digest; other weights of the same shapes differ in nearly every chunk."""
    size = path.stat().st_size
    yield f"{path.name}:{size}".encode()
    with path.open("rb") as stream:
        for start in range(0, size, max(SAMPLE, size // SAMPLES)):
            stream.seek(start)
            yield stream.read(SAMPLE)


def of_weights(folder: Path) -> Iterator[bytes]:
    """The chunks of a base model's weights; of a GGUF base what its file is known by. Raises
    RecordDamaged."""
    from_gguf = gguf_base.read(folder)
    if from_gguf is not None:
        yield from_gguf.sha256.encode()
    for path in sorted(folder.glob("*.safetensors")):
        yield from chunks(path)
