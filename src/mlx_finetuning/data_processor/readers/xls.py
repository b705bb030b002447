"""Sheets of .xls (BIFF, Excel 97 to 2003), by xlrd, cell by cell as they are shown."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import xlrd
from xlrd.compdoc import CompDocError

from mlx_finetuning.data_processor.readers.number_formats import BUILT_IN, GENERAL, shown
from mlx_finetuning.data_processor.readers.sheets import (
    DAMAGE,
    SheetContent,
    SheetSource,
    unreadable,
)
from mlx_finetuning.data_processor.stage_progress import StageProgress
from mlx_finetuning.errors import WorkbookEncrypted, WorkbookUnreadable
from mlx_finetuning.language import _

_REPORT_EVERY = 2000
_MAX_BYTES = 200 << 20


def open_xls(path: Path, raw: bytes, progress: StageProgress) -> list[SheetSource]:
    """The sheets of a workbook. Raises WorkbookUnreadable, WorkbookEncrypted."""
    if "EncryptedPackage".encode("utf-16-le") in raw:
        raise WorkbookEncrypted(path=str(path))
    if len(raw) > _MAX_BYTES:
        reason = _(".xls は {most} MBまで読めます。").format(most=_MAX_BYTES >> 20)
        raise WorkbookUnreadable(path=str(path), reason=reason)
    try:
        book = xlrd.open_workbook(
            file_contents=raw,
            formatting_info=True,
            ragged_rows=True,
            logfile=io.StringIO(),
        )
        return [
            SheetSource(
                sheet.name,
                sheet.visibility != 0,
                sheet.nrows * sheet.ncols,
                functools.partial(_read_sheet, book, sheet, path, progress),
            )
            for sheet in book.sheets()
        ]
    except (xlrd.XLRDError, CompDocError, *DAMAGE) as error:
        if "encrypted" in str(error):
            raise WorkbookEncrypted(path=str(path)) from error
        raise unreadable(path, error) from error


def _read_sheet(
    book: Any, sheet: Any, path: Path, progress: StageProgress, limit: int | None
) -> SheetContent:
    content = SheetContent()
    try:
        for row in range(sheet.nrows):
            cells = []
            kinds, styles = sheet.row_types(row), sheet._cell_xf_indexes[row]
            for kind, value, style in zip(kinds, sheet.row_values(row), styles, strict=True):
                text = str(value)
                if kind in (xlrd.XL_CELL_NUMBER, xlrd.XL_CELL_DATE):
                    key = book.xf_list[style].format_key
                    named = book.format_map[key].format_str if key in book.format_map else GENERAL
                    code = BUILT_IN.get(key, named) if key < 164 else named
                    text = shown(value, code, is_1904=bool(book.datemode))
                elif kind == xlrd.XL_CELL_BOOLEAN:
                    text = "TRUE" if value else "FALSE"
                elif kind == xlrd.XL_CELL_ERROR:
                    text = xlrd.error_text_from_code.get(value, "#VALUE!")
                cells.append(text)
            content.add(path, row + 1, cells)
            if row in sheet.rowinfo_map and sheet.rowinfo_map[row].hidden:
                content.hidden_rows.append(row + 1)
            if row % _REPORT_EVERY == 0:
                progress.update(row, sheet.nrows)
            if limit is not None and len(content.rows) >= limit:
                break
        content.hidden_columns = {at for at, info in sheet.colinfo_map.items() if info.hidden}
        content.merged = [
            (top + 1, bottom, left, right - 1) for top, bottom, left, right in sheet.merged_cells
        ]
    except (xlrd.XLRDError, *DAMAGE) as error:
        raise unreadable(path, error) from error
    return content
