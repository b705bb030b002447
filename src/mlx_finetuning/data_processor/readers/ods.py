"""Sheets of .ods (OpenDocument), whose cells carry the very text that is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from defusedxml.ElementTree import iterparse

from mlx_finetuning.data_processor.readers.limits import MAX_COLUMNS
from mlx_finetuning.data_processor.readers.sheets import (
    DAMAGE,
    MAX_ROWS,
    MAX_WIDTH,
    SheetContent,
    SheetSource,
    unreadable,
)
from mlx_finetuning.data_processor.readers.zipped import open_zip
from mlx_finetuning.data_processor.stage_progress import StageProgress
from mlx_finetuning.errors import SourceMalformed, WorkbookEncrypted
from mlx_finetuning.language import _

_NAMES = "urn:oasis:names:tc:opendocument:xmlns:"
_TABLE, _TEXT, _OFFICE = (
    f"{{{_NAMES}table:1.0}}",
    f"{{{_NAMES}text:1.0}}",
    f"{{{_NAMES}office:1.0}}",
)
_MAX_REPEATED = 2_000_000
"""Cells that repetitions may add."""
_REPORT_EVERY = 2000


def open_ods(path: Path, progress: StageProgress) -> list[SheetSource]:
    """The sheets of a workbook, read at once: they lie in one part. Raises WorkbookUnreadable,
    WorkbookEncrypted, SourceMalformed, CellTooLong."""
    sources: list[SheetSource] = []
    content, row, repeated = SheetContent(), 0, 0
    hidden_styles, struck = set[str](), set[str]()
    column, is_hidden = 0, False
    try:
        archive = open_zip(path, ("content.xml", "META-INF/"))
        if b"encryption-data" in archive.read("META-INF/manifest.xml")[:1_000_000]:
            raise WorkbookEncrypted(path=str(path))
        depth = 0
        with archive.open("content.xml") as stream:
            for event, element in iterparse(stream, events=("start", "end")):
                tag = element.tag
                if event == "start":
                    if tag == f"{_TABLE}table":
                        depth += 1
                        if depth == 1:
                            content, row, column = SheetContent(), 0, 0
                            is_hidden = element.get(f"{_TABLE}style-name") in hidden_styles
                elif tag.endswith("style:1.0}style"):
                    if any(child.get(f"{_TABLE}display") == "false" for child in element):
                        hidden_styles.add(
                            next(v for k, v in element.attrib.items() if k.endswith("}name"))
                        )
                    if any(
                        key.endswith("}text-line-through-style") and value != "none"
                        for child in element
                        for key, value in child.attrib.items()
                    ):
                        struck.update(v for k, v in element.attrib.items() if k.endswith("}name"))
                elif tag == f"{_TABLE}table-column" and depth == 1:
                    times = min(
                        int(element.get(f"{_TABLE}number-columns-repeated", "1")), MAX_WIDTH
                    )
                    if element.get(f"{_TABLE}visibility", "visible") != "visible":
                        content.hidden_columns.update(range(column, column + times))
                    column += times
                elif tag == f"{_TABLE}table-row" and depth == 1:
                    times = int(element.get(f"{_TABLE}number-rows-repeated", "1"))
                    cells = _cells(element, row + 1, content)
                    if any(cells):
                        repeated += (times - 1) * len(cells)
                        if repeated > _MAX_REPEATED or row + times > MAX_ROWS:
                            reason = _("同じ行の繰り返しが多すぎます。")
                            raise SourceMalformed(path=str(path), line=row + 1, reason=reason)
                        is_shown = element.get(f"{_TABLE}visibility", "visible") == "visible"
                        is_struck = any(
                            struck & {each.get(f"{kind}style-name") for kind in (_TABLE, _TEXT)}
                            for each in element.iter()
                            if len(each) or each.text
                        )
                        for number in range(row + 1, row + times + 1):
                            content.add(path, number, list(cells))
                            content.hidden_rows += [] if is_shown else [number]
                            content.struck += [number] if is_struck else []
                    row += times
                    if row % _REPORT_EVERY == 0:
                        progress.update(row, 0)
                    element.clear()
                elif tag == f"{_TABLE}table":
                    depth -= 1
                    if depth == 0:
                        name = element.get(f"{_TABLE}name", "")
                        size = sum(len(cells) for __, cells in content.rows)
                        read = content.first
                        sources.append(SheetSource(name, is_hidden, size, read))
                        element.clear()
    except DAMAGE as error:
        raise unreadable(path, error) from error
    return sources


def _cells(row: Any, number: int, content: SheetContent) -> list[str]:
    """The texts of a row; merged ranges and formulas without a result are noted in `content`."""
    cells: list[str] = []
    blanks = 0
    for cell in row:
        if cell.tag not in (f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell"):
            continue
        times = min(int(cell.get(f"{_TABLE}number-columns-repeated", "1")), MAX_WIDTH)
        # Without the comments that hang on a cell.
        text = "\n".join(_paragraph(part) for part in cell if part.tag == f"{_TEXT}p")
        if not text:
            has_value = cell.get(f"{_OFFICE}value-type") is not None
            if cell.get(f"{_TABLE}formula") is not None and not has_value:
                content.uncached.append(number)
            blanks += times
            continue
        cells += [""] * min(blanks, MAX_COLUMNS + 1)
        blanks = 0
        columns = int(cell.get(f"{_TABLE}number-columns-spanned", "1"))
        rows = int(cell.get(f"{_TABLE}number-rows-spanned", "1"))
        if columns > 1 or rows > 1:
            at = len(cells)
            content.merged.append((number, number + rows - 1, at, at + columns - 1))
        cells += [text] * min(times, MAX_COLUMNS + 1)
        if len(cells) > 2 * MAX_COLUMNS:
            break  # too wide, as `add` says
    return cells


def _paragraph(element: Any) -> str:
    parts = [element.text or ""]
    for child in element:
        if child.tag == f"{_TEXT}s":
            parts.append(" " * min(int(child.get(f"{_TEXT}c", "1")), 10_000))
        elif child.tag == f"{_TEXT}tab":
            parts.append("\t")
        elif child.tag == f"{_TEXT}line-break":
            parts.append("\n")
        elif child.tag not in (f"{_OFFICE}annotation", f"{_TEXT}ruby-text"):
            parts.append(_paragraph(child))
        parts.append(child.tail or "")
    return "".join(parts)
