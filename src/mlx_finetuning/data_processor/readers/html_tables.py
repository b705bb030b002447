"""Sheets of a page: its tables, as many web systems export them under the name .xls, or its list of terms
with what is said of them. Runs no script.

Tags are found by one expression that never steps back: `html.parser` takes quadratic time on tags
that are never closed.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

from mlx_finetuning.data_processor.readers.limits import MAX_COLUMNS
from mlx_finetuning.data_processor.readers.sheets import SheetContent, SheetSource
from mlx_finetuning.data_processor.stage_progress import StageProgress

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)\b([^<>]*+)>")
_SPAN = re.compile(r"""\b(row|col)span\s*=\s*["']?(\d{1,9})""", re.IGNORECASE)
_HIDDEN = (("<!--", "-->"), ("<script", "</script"), ("<style", "</style"))
_BREAKS = ("br", "p", "div", "li")
_STRIKES = ("del", "s", "strike")
_REPORT_EVERY = 5000


def open_html(text: str, path: Path, progress: StageProgress) -> list[SheetSource]:
    """The tables of a page as sheets. Raises SourceMalformed, CellTooLong."""
    tables: list[_Rows] = []
    opened: list[_Rows] = []
    text, at = _without(text, _HIDDEN), 0
    for number, match in enumerate(_TAG.finditer(text)):
        if opened:
            opened[-1].take(text[at : match.start()])
        at = match.end()
        name, is_end = match[2].lower(), bool(match[1])
        if name in ("table", "dl"):
            if is_end and opened:
                opened.pop().end_row()
            elif not is_end:
                opened.append(_Rows(path, is_list=name == "dl"))
                tables.append(opened[-1])
        elif opened:
            opened[-1].tag(name, match[3], is_end=is_end)
        if number % _REPORT_EVERY == 0:
            progress.update(at, len(text))
    for rows in opened:
        rows.take(text[at:])
        rows.end_row()
    filled = (rows.content for rows in tables if rows.content.rows)
    return [
        SheetSource(f"表{number}", False, len(content.rows), content.first)
        for number, content in enumerate(filled, 1)
    ]


_ASIDE = (*_HIDDEN, ("<head>", "</head"), ("<nav", "</nav"), ("<footer", "</footer"))
_HEADING = re.compile("h[1-6]|summary")
_LINES = frozenset("br p div li ul ol tr section article details blockquote pre main".split())


def as_markdown(text: str) -> str:
    """A page without tables as lines, its headings as Markdown's."""
    text, at = _without(text, _ASIDE), 0
    parts: list[str] = []
    for match in _TAG.finditer(text):
        parts.append(re.sub(r"[ \t\r\n]+", " ", html.unescape(text[at : match.start()])))
        name, at = match[2].lower(), match.end()
        if _HEADING.fullmatch(name):
            parts.append("\n\n" if match[1] else "\n\n## ")
        elif name in _LINES:
            parts.append("\n")
    return "\n".join(line.strip() for line in "".join(parts).split("\n"))


def _without(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    """The page without what stands between these signs; what is never closed goes to the end."""
    for start, end in pairs:
        parts, begin, lowered = [], 0, text.lower()
        while (found := lowered.find(start, begin)) >= 0:
            parts.append(text[begin:found])
            stop = lowered.find(end, found)
            begin = len(text) if stop < 0 else stop + len(end)
        text = "".join((*parts, text[begin:]))
    return text


_OFFICE = re.compile(r"<(/?)(?:\w{1,20}:)?(Table|Row|Cell|Data)\b([^<>]*+)>")
_PLACE = re.compile(r"""\b(Index|MergeAcross|MergeDown)\s*=\s*["'](\d{1,9})""")


def of_office_xml(text: str) -> str:
    """A workbook in Office 2003's XML as a page with its tables. Cells that are left out become blank ones."""
    column = 0

    def tag(match: re.Match[str]) -> str:
        nonlocal column
        end, name = match[1], match[2]
        if name == "Data":
            return ""
        if name != "Cell":
            column = 0
            return f"<{end}{'table' if name == 'Table' else 'tr'}>"
        if end:
            return "</td>"
        places = {key: min(int(value), MAX_COLUMNS) for key, value in _PLACE.findall(match[3])}
        skipped = max(0, places.get("Index", 0) - 1 - column)
        across, down = (1 + places.get(f"Merge{way}", 0) for way in ("Across", "Down"))
        column += skipped + across
        close = "</td>" if match[3].endswith("/") else ""
        return "<td></td>" * skipped + f'<td colspan="{across}" rowspan="{down}">{close}'

    return _OFFICE.sub(tag, text.replace("&#10;", "<br>"))


class _Rows:
    """Collects the rows of one table; cells that span others fill them."""

    def __init__(self, path: Path, *, is_list: bool = False) -> None:
        self.content = SheetContent()
        self._is_list = is_list
        self._path = path
        self._number = 0
        self._cells: list[str] = []
        self._spans: dict[int, tuple[int, str]] = {}
        """By column: rows that are still covered from above, and with what."""
        self._text: list[str] | None = None
        self._size = (1, 1)

    def take(self, text: str) -> None:
        """Text between two tags; line ends in the source are spaces."""
        if self._text is not None and text:
            self._text.append(re.sub(r"[ \t\r\n]+", " ", html.unescape(text)))

    def tag(self, name: str, attributes: str, *, is_end: bool) -> None:
        """A tag inside the table."""
        if name == "tr" or (self._is_list and name == "dt" and not is_end):
            self.end_row()
            self._number += not is_end
        if name in (("dt", "dd") if self._is_list else ("td", "th")):
            self._end_cell()
            if not is_end:
                self._text = []
                spans = {key.lower(): int(value) for key, value in _SPAN.findall(attributes)}
                self._size = spans.get("row", 1), min(spans.get("col", 1), MAX_COLUMNS + 1)
        elif name in _STRIKES and not is_end and self._text is not None:
            self.content.struck.append(self._number)
        elif name in _BREAKS and self._text is not None and (name == "br" or self._text):
            self._text.append("\n")

    def end_row(self) -> None:
        """Take the cells so far as a row."""
        self._end_cell()
        if self._cells:
            self._fill_covered()
            self.content.add(self._path, self._number, self._cells)
        self._cells = []

    def _end_cell(self) -> None:
        if self._text is None:
            return
        lines = "".join(self._text).replace("\xa0", " ").split("\n")
        text = "\n".join(line.strip() for line in lines).strip("\n")
        self._fill_covered()
        rows, columns = self._size
        for _ in range(max(1, columns)):
            if rows > 1:
                self._spans[len(self._cells)] = (rows - 1, text)
            self._cells.append(text)
        self._text = None

    def _fill_covered(self) -> None:
        """Cells that reach down from rows above come before the next one."""
        while (at := len(self._cells)) in self._spans and at <= MAX_COLUMNS:
            left, text = self._spans.pop(at)
            self._cells.append(text)
            if left > 1:
                self._spans[at] = (left - 1, text)
