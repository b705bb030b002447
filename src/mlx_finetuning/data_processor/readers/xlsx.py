"""Sheets of .xlsx and .xlsm, by openpyxl's parser, cell by cell as they are shown.

Reads the results of formulas as they were saved. Macros, external links, charts and pivot caches
are not opened.
"""

from __future__ import annotations

import functools
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from defusedxml.ElementTree import iterparse
from openpyxl.cell.text import Text
from openpyxl.reader.excel import ExcelReader
from openpyxl.utils.datetime import CALENDAR_MAC_1904
from openpyxl.worksheet._reader import (
    COL_TAG,
    DATA_TAG,
    FORMULA_TAG,
    MERGE_TAG,
    ROW_TAG,
    VALUE_TAG,
    MergeCells,
    WorkSheetParser,
)
from openpyxl.xml.constants import SHARED_STRINGS, SHEET_MAIN_NS

from mlx_finetuning.data_processor.readers.number_formats import BUILT_IN, GENERAL, shown
from mlx_finetuning.data_processor.readers.sheets import (
    DAMAGE,
    MAX_EMPTY,
    MAX_WIDTH,
    SheetContent,
    SheetSource,
    unreadable,
)
from mlx_finetuning.data_processor.readers.zipped import (
    Transitional,
    open_zip,
    require_countable,
)
from mlx_finetuning.data_processor.stage_progress import StageProgress
from mlx_finetuning.errors import WorkbookUnreadable
from mlx_finetuning.language import _

_STRING_TAG, _TEXT_TAG = (f"{{{SHEET_MAIN_NS}}}{name}" for name in ("si", "t"))
_PARTS = (
    *("[Content_Types]", "_rels/", "docProps/", "xl/workbook", "xl/worksheets/", "xl/_rels/"),
    *("xl/sharedStrings", "xl/styles", "xl/theme/", "xl/chartsheets/"),
)
_REPORT_EVERY = 2000
_EMPTY = {"value": None, "column": 0}
_TRUE = ("1", "true")


class Struck(str):
    """A shared text of which a part at least is struck out."""


class _Parser(WorkSheetParser):  # type: ignore[misc]
    """Keeps numbers as they are stored, and notes formulas without a saved result."""

    def __init__(self, stream: Any, shared_strings: list[str]) -> None:
        super().__init__(stream, shared_strings, data_only=True)
        self.uncached: set[int] = set()

    def parse_cell(self, element: Any) -> Any:
        if not len(element):
            return _EMPTY
        cell = super().parse_cell(element)
        if element.get("t") == "inlineStr" and is_struck(element):
            cell["value"] = Struck(cell["value"])
        if cell["value"] is None and element.find(FORMULA_TAG) is not None:
            has_result = element.find(VALUE_TAG) is not None and element.get("t") in ("str", "e")
            self.uncached.update(() if has_result else (cell["row"],))
        return cell

    def parse(self) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """The rows. Filters, conditional formats, links and the like change nothing that is said,
        and openpyxl refuses some that Excel takes: they are passed over."""
        is_data = True
        for __, element in iterparse(self.source):
            if element.tag == ROW_TAG:
                yield self.parse_row(element)
                element.clear()
            elif element.tag == COL_TAG:
                self.parse_column_dimensions(element)
            elif element.tag == MERGE_TAG:
                self.merged_cells = MergeCells.from_tree(element)
            elif element.tag == DATA_TAG:
                is_data = False
                element.clear()
            elif not is_data and element.tag.rpartition("}")[2] != "mergeCell":
                element.clear()


class _Reader(ExcelReader):  # type: ignore[misc]
    """Takes shared strings as they stand: openpyxl makes an object of each, in most of a sheet's time."""

    def read_strings(self) -> None:
        """The texts of `xl/sharedStrings.xml`; those of several parts, or with furigana, by openpyxl."""
        part = self.package.find(SHARED_STRINGS)
        if part is None:
            return
        with self.archive.open(part.PartName[1:]) as stream:
            for __, element in iterparse(stream):
                if element.tag != _STRING_TAG:
                    continue
                is_plain = len(element) == 1 and element[0].tag == _TEXT_TAG
                text = element[0].text if is_plain else Text.from_tree(element).content
                text = (text or "").replace("x005F_", "")
                is_whole = is_plain or not is_struck(element)
                self.shared_strings.append(text if is_whole else Struck(text))
                element.clear()


def open_xlsx(path: Path, progress: StageProgress) -> list[SheetSource]:
    """The sheets of a workbook, charts aside. Raises WorkbookUnreadable."""
    try:
        archive = open_zip(path, _PARTS)
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        for name in sizes:
            if name.startswith(("xl/sharedStrings", "xl/worksheets/sheet")):
                require_countable(archive, name, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that are not read
            # Opened here: openpyxl goes by the name's ending, which may be wrong.
            stream = path.open("rb")
            reader = _Reader(stream, read_only=True, data_only=True, keep_links=False)
            if b"purl.oclc.org/ooxml" in archive.read("xl/workbook.xml")[:4096]:
                reader.archive = Transitional(stream)
            # Not `load_workbook`: it parses every sheet once to learn its size.
            reader.read_manifest()
            reader.read_strings()
            reader.read_workbook()
            sheets = list(reader.parser.find_sheets())
        codes, struck = format_codes(archive), struck_styles(archive)
        return [
            SheetSource(
                str(sheet.name),
                sheet.state != "visible",
                sizes[link.target],
                functools.partial(_read_sheet, reader, codes, struck, link.target, path, progress),
            )
            for sheet, link in sheets
            if link.target in sizes and "chartsheet" not in link.Type
        ]
    except DAMAGE as error:
        raise unreadable(path, error) from error


def format_codes(archive: zipfile.ZipFile) -> list[str]:
    """The number format of each cell style. Of all styles only these are read: openpyxl refuses
    workbooks for colours and borders that Excel takes."""
    own: dict[int, str] = {}
    ids: list[int] = []
    part = next((name for name in archive.namelist() if name.startswith("xl/styles")), None)
    if part is None:
        return []
    is_cells = False
    with archive.open(part) as stream:
        for event, element in iterparse(stream, events=("start", "end")):
            tag = element.tag.rpartition("}")[2]
            if tag == "cellXfs":
                is_cells = event == "start"
            elif event == "end" and tag == "numFmt":  # the first counts: later ones are conditional
                own.setdefault(int(element.get("numFmtId", "0")), element.get("formatCode", ""))
            elif event == "end" and tag == "xf" and is_cells:
                ids.append(int(element.get("numFmtId", "0")))
    return [own.get(number) or BUILT_IN.get(number, GENERAL) for number in ids]


def struck_styles(archive: zipfile.ZipFile) -> set[int]:
    """The cell styles whose font strikes text out."""
    fonts: list[bool] = []
    used: list[int] = []
    part = next((name for name in archive.namelist() if name.startswith("xl/styles")), None)
    if part is None:
        return set()
    section = ""
    with archive.open(part) as stream:
        for event, element in iterparse(stream, events=("start", "end")):
            tag = element.tag.rpartition("}")[2]
            if tag in ("fonts", "cellXfs"):
                section = tag if event == "start" else ""
            elif event == "end" and tag == "font" and section == "fonts":
                fonts.append(is_struck(element))
            elif event == "end" and tag == "xf" and section == "cellXfs":
                used.append(int(element.get("fontId", "0")))
    return {style for style, font in enumerate(used) if font < len(fonts) and fonts[font]}


def is_struck(element: Any) -> bool:
    """Whether a font, or one of a text's parts, strikes out."""
    return any(
        each.tag.rpartition("}")[2] == "strike" and each.get("val", "1") not in ("0", "false")
        for each in element.iter()
    )


def _read_sheet(
    reader: Any,
    codes: list[str],
    struck: set[int],
    part: str,
    path: Path,
    progress: StageProgress,
    limit: int | None,
) -> SheetContent:
    """`codes`: the number format of each cell style. `struck`: the styles that strike text out."""
    content = SheetContent()
    show = functools.partial(shown, is_1904=reader.wb.epoch == CALENDAR_MAC_1904)
    empty = filled = 0
    try:
        with reader.archive.open(part) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parser = _Parser(stream, reader.shared_strings)
            for number, parsed in parser.parse():
                cells: list[str] = []
                for cell in parsed:
                    value, at = cell["value"], cell["column"] - 1
                    if value is None or not 0 <= at < MAX_WIDTH:
                        empty += 1
                        continue
                    filled += 1
                    if isinstance(value, Struck) or (cell["style_id"] in struck and value):
                        content.struck.append(number)
                    if isinstance(value, bool):
                        value = "TRUE" if value else "FALSE"
                    elif isinstance(value, int | float):
                        style = cell["style_id"]
                        value = show(value, codes[style] if style < len(codes) else GENERAL)
                    cells += [""] * (at + 1 - len(cells))
                    cells[at] = str(value)
                content.add(path, number, cells)
                if parser.row_dimensions.pop(str(number), {}).get("hidden") in _TRUE:
                    content.hidden_rows.append(number)
                if empty > MAX_EMPTY and empty > 10 * filled:
                    reason = _(
                        "書式だけの空のセルが多すぎます。空の行と列を削除して保存し直してください。"
                    )
                    raise WorkbookUnreadable(path=str(path), reason=reason)
                if number % _REPORT_EVERY == 0:
                    progress.update(number, 0)
                if limit is not None and len(content.rows) >= limit:
                    break
        for column in parser.column_dimensions.values():
            if column.get("hidden") in _TRUE:
                first, last = int(column["min"]) - 1, min(int(column["max"]), MAX_WIDTH)
                content.hidden_columns.update(range(first, last))
        for merged in parser.merged_cells.mergeCell if parser.merged_cells else ():
            rows = (merged.min_row, merged.max_row)
            content.merged.append((*rows, merged.min_col - 1, merged.max_col - 1))
    except DAMAGE as error:
        raise unreadable(path, error) from error
    content.uncached = sorted(parser.uncached)
    return content
