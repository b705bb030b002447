"""Parquet files, as the Hugging Face hub serves them, as tables. A row is its ordinal, from 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlx_finetuning.data_processor.readers.limits import MAX_CELL
from mlx_finetuning.data_processor.readers.tables import Record, Table
from mlx_finetuning.errors import CellTooLong, SourceMalformed, SourceTooLarge
from mlx_finetuning.language import _

ENDINGS = (".parquet",)
MAX_BYTES = 2 << 30
"""Of the columns unpacked: a small file can hold a great deal."""


def read_parquet(path: Path) -> Table:
    """Raises SourceMalformed, SourceTooLarge, CellTooLong."""
    import pyarrow
    import pyarrow.parquet

    records: list[Record] = []
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
            size = sum(group.total_byte_size for group in groups)
            if size > MAX_BYTES:
                limit_mb = MAX_BYTES >> 20
                raise SourceTooLarge(path=str(path), size_mb=size >> 20, limit_mb=limit_mb)
            columns = tuple(str(name) for name in file.schema_arrow.names)
            for batch in file.iter_batches():
                lines = zip(*(column.to_pylist() for column in batch.columns), strict=True)
                records += [
                    (row, [_json_value(value) for value in values])
                    for row, values in enumerate(lines, len(records) + 1)
                ]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = _("Parquetとして読めません: {detail}").format(
            detail=str(error).partition(chr(10))[0][:200]
        )
        raise SourceMalformed(path=str(path), line=1, reason=reason) from error
    for row, values in records:
        if any(isinstance(value, str) and len(value) > MAX_CELL for value in values):
            raise CellTooLong(path=str(path), line=row, limit=MAX_CELL)
    return Table("parquet", columns, records)


def _json_value(value: Any) -> Any:
    """Texts, numbers, lists and objects as JSON has them; dates and the like as text."""
    if value is None or isinstance(value, str | int | float | list | dict):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
