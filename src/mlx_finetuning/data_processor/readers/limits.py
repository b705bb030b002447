"""How large a table may be, and how it is asked to be read: what every reader of tables shares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.errors import SourceMalformed
from mlx_finetuning.language import _

MAX_CELL = 1_000_000
"""Characters of one cell or string."""
MAX_COLUMNS = 1_000
MAX_CELLS = 50_000_000
"""Rows times columns: rows are filled up to the width, so a small file could fill the memory."""


@dataclass(frozen=True)
class TableOptions:
    """How a table is asked to be read; what is not set is found out and said."""

    sheet: str = ""
    """Of a workbook; empty: the one that holds the most."""
    header_rows: tuple[int, int] | None = None
    """First and last row of the header, as numbered in the source; (0, 0): there is none."""
    delimiter: str = ""
    """One character; empty: judged over the records."""
    skips_hidden: bool = False
    """Whether rows and columns that a workbook hides are left out."""


ANY = TableOptions()
"""Everything is found out."""


def require_size(columns: int, rows: int, path: Path) -> None:
    """Raises SourceMalformed for a table that nobody has written by hand."""
    if columns > MAX_COLUMNS or columns * rows > MAX_CELLS:
        reason = _("列が多すぎます（{columns:,}列 × {rows:,}行。列は{most:,}まで）。").format(
            columns=columns, rows=rows, most=MAX_COLUMNS
        )
        raise SourceMalformed(path=str(path), line=1, reason=reason)
