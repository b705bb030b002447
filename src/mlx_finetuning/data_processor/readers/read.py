"""A source file as a table, with how it was read: bytes, encoding, format, message trees."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers import parquet, trees
from mlx_finetuning.data_processor.readers.encoding import CERTAIN, decode
from mlx_finetuning.data_processor.readers.source import checked, read_source
from mlx_finetuning.data_processor.readers.tables import Table, parse
from mlx_finetuning.data_processor.watching import Tick, still
from mlx_finetuning.errors import SourceEmpty, SourceHeaderOnly


@dataclass(frozen=True)
class Reading:
    """A source file, read."""

    path: Path
    size_bytes: int
    sha256: str
    encoding: str
    confidence: float
    reason: str
    """Japanese: how the encoding was found."""
    table: Table
    findings: tuple[Finding, ...]


def read(path: Path, encoding: str = "auto", tick: Tick = still) -> Reading:
    """Raises the Source… and Encoding… errors of `errors`, CellTooLong."""
    checked(path)
    is_parquet = path.suffix.lower() in parquet.ENDINGS
    made = _binary(path) if is_parquet else _text(path, encoding, tick)
    table = trees.unfold(made.table)
    if not table.rows and not table.columns:
        raise SourceEmpty(path=str(path))
    if not table.rows:
        raise SourceHeaderOnly(path=str(path), columns=list(table.columns))
    notes = [*made.findings, *table.findings]
    if path.is_symlink():
        notes.insert(0, finding("SYMLINK", target=str(path.resolve())))
    return Reading(
        path,
        made.size_bytes,
        made.sha256,
        made.encoding,
        made.confidence,
        made.reason,
        table,
        tuple(notes),
    )


def _binary(path: Path) -> Reading:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()
    table = parquet.read(path)
    return Reading(path, size, digest, "parquet", 1.0, "Parquetの形式です", table, ())


def _text(path: Path, encoding: str, tick: Tick) -> Reading:
    tick(0, 0)
    raw = read_source(path, encoding)
    tick(0, 0)
    size, digest = len(raw), hashlib.sha256(raw).hexdigest()
    tick(0, 0)
    decoded = decode(raw, path, encoding)
    del raw  # a large file is not held twice
    tick(0, 0)
    unsure = decoded.confidence < CERTAIN
    notes = (finding("LOW_CONFIDENCE", encoding=decoded.encoding),) if unsure else ()
    table = parse(decoded.text, path, tick)
    return Reading(
        path, size, digest, decoded.encoding, decoded.confidence, decoded.reason, table, notes
    )
