"""Sheets of HTML that is saved as .xls, as many web systems export it. Runs no script."""

from __future__ import annotations

import functools
import re
from html.parser import HTMLParser
from pathlib import Path

from mlx_finetuning.data_processor.readers.limits import MAX_COLUMNS
from mlx_finetuning.data_processor.readers.sheets import SheetContent, SheetSource
from mlx_finetuning.data_processor.stage_progress import StageProgress

_CHUNK = 1 << 16
_BREAKS = frozenset(("p", "div", "li"))


def open_html(text: str, path: Path, progress: StageProgress) -> list[SheetSource]:
    """The tables of a page as sheets. Raises SourceMalformed, CellTooLong."""
    parser = _Tables(path)
    for start in range(0, len(text), _CHUNK):
        parser.feed(text[start : start + _CHUNK])
        progress.update(start, len(text))
    parser.close()
    return [
        SheetSource(f"表{number}", False, len(content.rows), functools.partial(_all, content))
        for number, content in enumerate(parser.tables, 1)
        if content.rows
    ]


def _all(content: SheetContent, limit: int | None) -> SheetContent:
    return content if limit is None else SheetContent(content.rows[:limit])


class _Tables(HTMLParser):
    """Collects rows; cells that span others fill them."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[SheetContent] = []
        self._path = path
        self._open: list[SheetContent] = []
        self._number = 0
        self._cells: list[str] = []
        self._spans: dict[int, tuple[int, str]] = {}
        """By column: rows that are still covered from above, and with what."""
        self._text: list[str] | None = None
        self._size = (1, 1)
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._silent += 1
        elif tag == "table":
            self._end_row()
            self._open.append(SheetContent())
            self.tables.append(self._open[-1])
            self._number, self._spans = 0, {}
        elif tag == "tr":
            self._end_row()
            self._number += 1
        elif tag in ("td", "th"):
            self._end_cell()
            self._text = []
            spans = dict(attrs)
            self._size = _span(spans.get("rowspan")), _span(spans.get("colspan"))
        elif (tag == "br" and self._text is not None) or (tag in _BREAKS and self._text):
            self._text.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._silent = max(0, self._silent - 1)
        elif tag in ("td", "th"):
            self._end_cell()
        elif tag in ("tr", "table"):
            self._end_row()
            if tag == "table" and self._open:
                self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._text is not None and not self._silent:
            # Line ends in the source are spaces; what breaks a line is <br>.
            self._text.append(re.sub(r"[ \t\r\n]+", " ", data))

    def close(self) -> None:
        super().close()
        self._end_row()

    def _end_cell(self) -> None:
        if self._text is None:
            return
        lines = "".join(self._text).replace("\xa0", " ").split("\n")
        text = "\n".join(line.strip() for line in lines).strip("\n")
        rows, columns = self._size
        self._fill_covered()
        for _ in range(columns):
            if rows > 1:
                self._spans[len(self._cells)] = (rows - 1, text)
            self._cells.append(text)
        self._text = None

    def _end_row(self) -> None:
        self._end_cell()
        if self._cells and self._open:
            self._fill_covered()
            self._open[-1].add(self._path, self._number, self._cells)
        self._cells = []

    def _fill_covered(self) -> None:
        """Cells that reach down from rows above come before the next one."""
        while len(self._cells) in self._spans and len(self._cells) <= MAX_COLUMNS:
            at = len(self._cells)
            left, text = self._spans.pop(at)
            self._cells.append(text)
            if left > 1:
                self._spans[at] = (left - 1, text)


def _span(value: str | None) -> int:
    return min(int(value), MAX_COLUMNS + 1) if value and value.isdecimal() and int(value) else 1
