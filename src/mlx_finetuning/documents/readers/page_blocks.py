"""Lines and tables of a document's pages → headings, paragraphs, items and tables, without what repeats at
the edges of many pages."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlx_finetuning.documents.document import Block, table
from mlx_finetuning.documents.readers.page_layout import Line, PageLayout
from mlx_finetuning.documents.readers.wording import (
    LONGEST_HEADING,
    heading_level,
    is_item,
    is_page_number,
    joined,
)

_EDGE = 0.12
"""Share of the page's height, at its top and bottom, where running heads stand."""
_LARGE = 1.12
"""A heading's letters, in those of the text."""


def without_running_heads(layouts: Sequence[PageLayout]) -> list[PageLayout]:
    """The pages without what their edges repeat, and without their numbers."""
    times = Counter(
        key for layout in layouts for key in {_edge_key(line) for line in _edges(layout)}
    )
    often = max(2, len(layouts) // 3)
    kept = []
    for layout in layouts:
        repeated = {
            id(line)
            for line in _edges(layout)
            if is_page_number(line.text) or times[_edge_key(line)] >= often
        }
        lines = tuple(line for line in layout.lines if id(line) not in repeated)
        kept.append(replace(layout, lines=lines))
    return kept


def _edges(layout: PageLayout) -> list[Line]:
    reach = layout.height * _EDGE
    return [
        line
        for line in layout.lines
        if line.page_top > layout.height - reach or line.page_bottom < reach
    ]


def _edge_key(line: Line) -> tuple[str, int]:
    """A line's words without its numbers, which change from page to page, and its height."""
    text = "".join("#" if sign.isdigit() else sign for sign in line.text if not sign.isspace())
    return text, round(line.page_bottom / 4)


@dataclass(frozen=True)
class _Body:
    """How ordinary text is set in a document."""

    size: float

    def heading_level(self, line: Line) -> int:
        """By wording, else by size; 0 for text, and for lines that their length has broken."""
        is_large = line.size > self.size * _LARGE
        if line.is_full and not is_large:
            return 0
        if level := heading_level(line.text):
            return level
        is_short = len(line.text) <= LONGEST_HEADING and line.text[-1:] not in "。、,."
        return (1 if line.size > self.size * 1.5 else 2) * (is_short and is_large)


def blocks_of(layouts: Sequence[PageLayout]) -> Iterator[Block]:
    """Headings, paragraphs and tables of all pages in order; a paragraph may go on over a page's end."""
    sizes = [line.size for layout in layouts for line in layout.lines for _ in line.text]
    body = _Body(statistics.median(sizes) if sizes else 0.0)
    open_block: Block | None = None
    last: Line | None = None
    for layout in layouts:
        tables = sorted(layout.tables, key=lambda one: one.at)
        for at, line in enumerate((*layout.lines, None)):
            while tables and (line is None or tables[0].at <= line.at):
                if open_block:
                    yield open_block
                open_block = last = None
                yield table(tables.pop(0).rows, layout.number)
            if line is None:
                break
            level = body.heading_level(line)
            if open_block and not level and last and _goes_on(last, line, is_first=at == 0):
                text = joined(open_block.text, line.text)
                open_block = replace(open_block, text=text)
            else:
                if open_block:
                    yield open_block
                kind: Any = "item" if is_item(line.text) else "paragraph"
                kind = "heading" if level else kind
                open_block = Block(kind, line.text, layout.number, level)
            # A heading of two lines is one only if both are of its size.
            last = None if level and heading_level(line.text) else line
            if level:
                yield open_block
                open_block = None
    if open_block:
        yield open_block


def _goes_on(before: Line, line: Line, *, is_first: bool) -> bool:
    """Whether `line` goes on with the paragraph of the line before it, which was broken for its length."""
    if is_item(line.text) or heading_level(before.text):
        return False
    is_indented = line.start > line.column_start + 0.5 * line.size
    same_size = abs(before.size - line.size) < 0.1 * before.size
    near = (
        is_first
        or line.column_start != before.column_start
        or (line.at - before.at < 2.2 * before.size)
    )
    return before.is_full and same_size and near and not is_indented
