"""What a workbook's readers give: sheets whose cells are the texts that a person sees.

One module a format (`xlsx`, `xls`, `ods`, `html_tables`) opens a file as `SheetSource`s; `workbook`
chooses one and makes a table of it. Nothing is calculated and nothing is run: macros, links and
formulas are not looked at, only the results that were saved.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from zipfile import BadZipFile

from mlx_finetuning.data_processor.readers.header import SourceRow
from mlx_finetuning.data_processor.readers.limits import MAX_CELL, MAX_COLUMNS
from mlx_finetuning.errors import CellTooLong, SourceMalformed, WorkbookUnreadable
from mlx_finetuning.language import _

DAMAGE = (
    *(ArithmeticError, AssertionError, AttributeError, BadZipFile, EOFError, LookupError),
    *(NotImplementedError, OSError, RuntimeError, SyntaxError, TypeError, ValueError),
    *(struct.error, zlib.error, UnicodeError),
)
"""What libraries raise on a damaged workbook; XML errors are SyntaxErrors, forbidden XML and
xlrd's errors are named beside them."""
MAX_ROWS = 1_048_576
"""Of one sheet, as in Excel."""
MAX_WIDTH = 16_384
"""Columns of one sheet, as in Excel."""
MAX_EMPTY = 300_000
"""Cells without content that are read before a sheet counts as made to exhaust."""

Range = tuple[int, int, int, int]
"""First and last row (as numbered in the sheet), first and last column (from 0), all inclusive."""


@dataclass
class SheetContent:
    """The filled cells of a sheet, and what a person would know of them by looking."""

    rows: list[SourceRow] = field(default_factory=list)
    """Without blank ones, each up to its last filled cell."""
    merged: list[Range] = field(default_factory=list)
    hidden_rows: list[int] = field(default_factory=list)
    hidden_columns: set[int] = field(default_factory=set)
    """Positions from 0."""
    uncached: list[int] = field(default_factory=list)
    """Rows with a formula whose result was not saved."""
    struck: list[int] = field(default_factory=list)
    """Rows with text that is struck out."""

    def add(self, path: Path, number: int, cells: list[str]) -> None:
        """Take a row if it holds anything. Raises SourceMalformed, CellTooLong."""
        while cells and not cells[-1]:
            cells.pop()
        if len(cells) > MAX_COLUMNS or number > MAX_ROWS:
            reason = _(
                "表が大きすぎます（{number:,}行目に{columns:,}列。列は{most:,}まで）。"
            ).format(number=number, columns=len(cells), most=MAX_COLUMNS)
            raise SourceMalformed(path=str(path), line=number, reason=reason)
        if any(len(cell) > MAX_CELL for cell in cells):
            raise CellTooLong(path=str(path), line=number, limit=MAX_CELL)
        if cells:
            self.rows.append((number, cells))

    def first(self, limit: int | None) -> SheetContent:
        """The content, or a part with the first so many rows."""
        return self if limit is None else replace(self, rows=self.rows[:limit])


@dataclass(frozen=True)
class SheetSource:
    """A sheet that has not been read yet."""

    name: str
    is_hidden: bool
    size: int
    """Bytes or cells: only compared within a workbook."""
    read: Callable[[int | None], SheetContent]
    """The content, of the first so many filled rows where a number is given."""


def unreadable(path: Path, error: BaseException) -> WorkbookUnreadable:
    """The error for what a library could not read, with its words."""
    cause = error.__cause__ or error  # openpyxl wraps what happened
    if type(cause).__name__ in ("EntitiesForbidden", "DTDForbidden", "ExternalReferenceForbidden"):
        reason = _("中のXMLに、表計算ソフトが使わない定義（ENTITYなど）があります。")
    else:
        detail = f"{type(cause).__name__}: {str(cause).partition(chr(10))[0][:160]}"
        reason = _("壊れているか、途中で切れています（{detail}）。").format(detail=detail)
    return WorkbookUnreadable(path=str(path), reason=reason)
