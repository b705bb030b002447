"""Parquet files, as the Hugging Face hub serves them, as tables. A row is its ordinal, from 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlx_finetuning.data_processor.readers.tables import MAX_CELL, Table
from mlx_finetuning.errors import CellTooLong, SourceMalformed, SourceTooLarge

ENDINGS = (".parquet",)
MAX_BYTES = 2 << 30
"""Of the columns unpacked: a small file can hold a great deal."""


def read(path: Path) -> Table:
    """Raises SourceMalformed, SourceTooLarge, CellTooLong."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _refuse_large(path, file.metadata)
            columns = tuple(str(name) for name in file.schema_arrow.names)
            rows: list[tuple[int, list[Any]]] = []
            for batch in file.iter_batches():
                values = zip(*(column.to_pylist() for column in batch.columns), strict=True)
                rows += [
                    (number, [_plain(value) for value in record])
                    for number, record in enumerate(values, len(rows) + 1)
                ]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = f"Parquetとして読めません: {str(error).partition(chr(10))[0][:200]}"
        raise SourceMalformed(path=str(path), line=1, reason=reason) from error
    _refuse_long(path, rows)
    return Table("parquet", columns, rows)


def _refuse_large(path: Path, metadata: Any) -> None:
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    size = sum(group.total_byte_size for group in groups)
    if size > MAX_BYTES:
        raise SourceTooLarge(path=str(path), size_mb=size >> 20, limit_mb=MAX_BYTES >> 20)


def _refuse_long(path: Path, rows: list[tuple[int, list[Any]]]) -> None:
    for row, values in rows:
        if any(isinstance(value, str) and len(value) > MAX_CELL for value in values):
            raise CellTooLong(path=str(path), line=row, limit=MAX_CELL)


def _plain(value: Any) -> Any:
    """Texts, numbers, lists and objects as JSON has them; dates and the like as text."""
    if value is None or isinstance(value, str | int | float | list | dict):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
