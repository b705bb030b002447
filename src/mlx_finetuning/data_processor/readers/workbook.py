"""Workbooks as tables: which sheet is read, what of it a person would see, and what is said of it.

What a file is, is seen in its bytes: many systems export HTML or TSV under the name .xls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.cells import known_words
from mlx_finetuning.data_processor.readers.limits import ANY, TableOptions, require_size
from mlx_finetuning.data_processor.readers.locate import locate
from mlx_finetuning.data_processor.readers.sheets import (
    DAMAGE,
    MAX_WIDTH,
    SheetContent,
    SheetSource,
    unreadable,
)
from mlx_finetuning.data_processor.readers.tables import Table
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.errors import SheetNotFound, SourceBinary, SourceEmpty, WorkbookUnreadable
from mlx_finetuning.language import _

ENDINGS = (".xlsx", ".xlsm", ".xls", ".ods", ".html", ".htm")
LOOKED_AT = 60
"""Rows of each sheet that are read to choose one."""
MOST_SHEETS = 200
_MAX_FILLED = 2_000_000
"""Cells that merged ranges may fill."""
_HTML = re.compile(r"<(?:!doctype html|html|head|body|table|meta)\b", re.IGNORECASE)
_OLE, _ZIP = b"\xd0\xcf\x11\xe0", b"PK"


def is_packed(raw: bytes) -> bool:
    """Whether a file named as a workbook is one in bytes, and not text."""
    return raw.startswith((_OLE, _ZIP))


def is_html(text: str) -> bool:
    """Whether a text named as a workbook is a page."""
    return _HTML.search(text[:4096]) is not None


def is_office_xml(text: str) -> bool:
    """Whether a text named as a workbook is one in Office 2003's XML."""
    return "urn:schemas-microsoft-com:office:spreadsheet" in text[:4096]


def open_packed(path: Path, raw: bytes, progress: StageProgress) -> tuple[str, list[SheetSource]]:
    """The format and the sheets of a workbook in bytes. Raises WorkbookUnreadable,
    WorkbookEncrypted, SourceBinary (a ZIP of something else)."""
    # The libraries are loaded for files that need them.
    if raw.startswith(_OLE):
        from mlx_finetuning.data_processor.readers.xls import open_xls

        return "xls", open_xls(path, raw, progress)
    try:
        with ZipFile(path) as archive:
            names = set(archive.namelist())
    except DAMAGE as error:
        raise unreadable(path, error) from error
    if "content.xml" in names:
        from mlx_finetuning.data_processor.readers.ods import open_ods

        return "ods", open_ods(path, progress)
    if "xl/workbook.bin" in names:
        reason = _("バイナリ形式のブック（.xlsb）には対応していません。")
        raise WorkbookUnreadable(path=str(path), reason=reason)
    if "[Content_Types].xml" in names and any(name.startswith("xl/") for name in names):
        from mlx_finetuning.data_processor.readers.xlsx import open_xlsx

        return "xlsx", open_xlsx(path, progress)
    raise SourceBinary(path=str(path), kind=_("ZIP形式のファイル（表計算のブックではないもの）"))


def table_of(
    name: str,
    sources: Sequence[SheetSource],
    path: Path,
    progress: StageProgress,
    options: TableOptions,
) -> Table:
    """The table of the sheet that was asked for, or of the one that most looks like data.

    Raises SheetNotFound, SourceEmpty, HeaderRowNotFound, and what reading a sheet raises.
    """
    notes: list[Finding] = []
    if options.sheet:
        chosen = next((source for source in sources if source.name == options.sheet), None)
        if chosen is None:
            names = [source.name for source in sources]
            raise SheetNotFound(path=str(path), sheet=options.sheet, sheets=names)
        content = chosen.read(None)
        name_read = options.sheet
    else:
        name_read, content = _chosen(sources, path, notes)
    notes += _settled(content, path, options)
    if not content.rows:
        raise SourceEmpty(path=str(path))
    width = max(len(cells) for __, cells in content.rows)
    require_size(width, len(content.rows), path)
    rows = [(number, cells + [""] * (width - len(cells))) for number, cells in content.rows]
    found = locate(rows, path, options, progress)
    every = tuple(source.name for source in sources)
    return Table(name, found.columns, found.records, (*notes, *found.findings), name_read, every)


def _chosen(
    sources: Sequence[SheetSource], path: Path, notes: list[Finding]
) -> tuple[str, SheetContent]:
    """The sheet to read, first by known column names, then by size; visible ones before hidden
    ones. Says which, and which others hold tables of the same kind. Raises SourceEmpty."""
    heads: dict[int, SheetContent] = {}
    ranked = []
    for order, source in enumerate(sources[:MOST_SHEETS]):
        head = source.read(LOOKED_AT)
        if not head.rows:
            continue
        heads[order] = head
        # Merged cells are filled in a copy: the rest of the sheet is not there yet.
        sample = SheetContent([(number, list(cells)) for number, cells in head.rows], head.merged)
        fill_merged(sample, path)
        table = locate(sample.rows, path, ANY, SILENT)
        known = min(2, known_words(table.columns)) if table.records else -1
        ranked.append((not source.is_hidden, known, len(table.columns) > 1, source.size, -order))
    if not ranked:
        raise SourceEmpty(path=str(path))
    best = max(ranked)
    at = -best[-1]
    if len(ranked) > 1:
        names = [sources[-rank[-1]].name for rank in ranked if rank != best]
        shown = _("、").join(_("「{text}」").format(text=name) for name in names[:10])
        notes.append(finding("SHEET", sheet=sources[at].name, others=shown))
    alike = [sources[-rank[-1]].name for rank in ranked if rank != best and rank[1] >= best[1] > 0]
    if alike:
        notes.append(
            finding(
                "SHEETS_ALIKE",
                sheets=_("、").join(_("「{text}」").format(text=name) for name in alike[:10]),
            )
        )
    is_whole = len(heads[at].rows) < LOOKED_AT
    return sources[at].name, heads[at] if is_whole else sources[at].read(None)


def _settled(content: SheetContent, path: Path, options: TableOptions) -> list[Finding]:
    """Fill merged cells and leave out what is hidden, if that is asked for; say what was done."""
    notes = []
    filled = fill_merged(content, path)
    if filled:
        notes.append(finding("MERGED_CELLS", filled))
    width = max((len(cells) for __, cells in content.rows), default=0)
    hidden = [at for at in sorted(content.hidden_columns) if at < width]
    rows = {number for number, __ in content.rows}
    hidden_rows = [number for number in content.hidden_rows if number in rows]
    done = _("読み飛ばしました") if options.skips_hidden else _("ほかと同じように読みました")
    if hidden_rows:
        notes.append(finding("HIDDEN_ROWS", hidden_rows, done=done))
    if hidden:
        from openpyxl.utils import get_column_letter

        letters = _("、").join(get_column_letter(at + 1) for at in hidden[:20])
        notes.append(finding("HIDDEN_COLUMNS", columns=letters, done=done))
    if options.skips_hidden:
        skipped, columns = set(hidden_rows), set(hidden)
        content.rows = [
            (number, ["" if at in columns else cell for at, cell in enumerate(cells)])
            for number, cells in content.rows
            if number not in skipped
        ]
    struck = sorted({*content.struck} & {number for number, __ in content.rows})
    if struck:
        notes.append(finding("STRUCK_OUT", struck))
    if content.uncached:
        notes.append(finding("FORMULA_WITHOUT_RESULT", content.uncached))
    return notes


def fill_merged(content: SheetContent, path: Path) -> list[int]:
    """Give all cells of a merged range its text; the rows that were filled."""
    places = {number: at for at, (number, __) in enumerate(content.rows)}
    touched: set[int] = set()
    filled = 0
    for top, bottom, left, right in content.merged:
        if top not in places or left >= len(content.rows[places[top]][1]):
            continue
        text = content.rows[places[top]][1][left]
        # A range may reach far beyond what the sheet holds.
        alone = top == bottom and sum(map(bool, content.rows[places[top]][1])) == 1
        if alone:  # a title of the table, or of a part of it, is no value of every column
            continue
        inside = [n for n in range(top, min(bottom, top + len(places) * 2) + 1) if n in places]
        filled += len(inside) * (right - left + 1)
        if filled > _MAX_FILLED or right >= MAX_WIDTH:
            reason = _("結合されたセルの範囲が大きすぎます。")
            raise WorkbookUnreadable(path=str(path), reason=reason)
        for number in inside if text else ():
            cells = content.rows[places[number]][1]
            cells += [""] * (right + 1 - len(cells))
            for at in range(left, right + 1):
                if not cells[at]:
                    cells[at] = text
                    touched.add(number)
    return sorted(touched)
