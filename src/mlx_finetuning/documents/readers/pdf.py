"""PDF, by PDFium: where each character stands on a page, and where lines are ruled; `page_layout` makes
lines and tables of them.

Scripts, forms, attachments and links are not looked at. A page without text that holds an image is
named as scanned. What repeats at the edges of many pages (running heads, page numbers) is left out.
"""

from __future__ import annotations

import ctypes
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_finetuning.documents.document import Block, Document, table
from mlx_finetuning.documents.readers.limits import require_size, unreadable
from mlx_finetuning.documents.readers.page_layout import (
    THICKEST,
    Glyph,
    Line,
    PageLayout,
    Ruling,
    lay_out,
)
from mlx_finetuning.documents.readers.pdf_streams import require_unpackable
from mlx_finetuning.documents.readers.wording import (
    LONGEST_HEADING,
    heading_level,
    is_item,
    is_page_number,
    joined,
    numbered_as_items,
)
from mlx_finetuning.errors import DocumentEncrypted, DocumentUnreadable
from mlx_finetuning.progress import Progress, Step

STAGE = "文書を読む"
MAX_GLYPHS = 100_000
"""Characters of one page."""
_MAX_SEGMENTS = 1_500
"""Lines drawn on one page that are looked at for tables."""
_EDGE = 0.12
"""Share of the page's height, at its top and bottom, where running heads stand."""
_LARGE = 1.12
"""A heading's letters, in those of the text."""


def read_pdf(path: Path, progress: Progress) -> Document:
    """The blocks of all pages. Raises DocumentUnreadable, DocumentEncrypted."""
    import pypdfium2

    require_unpackable(path)
    try:
        pdf = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise DocumentEncrypted(path=str(path)) from error
        raise unreadable(path, error) from error
    layouts: list[PageLayout] = []
    scanned, characters = [], 0
    with pdf:
        for number in range(len(pdf)):
            progress(Step(STAGE, number, len(pdf), path.name))
            try:
                layout, has_image = _page(pdf, number, path)
            except pypdfium2.PdfiumError as error:
                raise unreadable(path, error) from error
            layouts.append(layout)
            characters += sum(len(line.text) for line in layout.lines)
            require_size(characters, path)
            if has_image and not layout.lines and not layout.tables:
                scanned.append(number + 1)
    blocks = tuple(numbered_as_items(list(_blocks(_without_running_heads(layouts)))))
    return Document(path.name, "pdf", blocks, len(layouts), tuple(scanned))


def _page(pdf: Any, number: int, path: Path) -> tuple[PageLayout, bool]:
    """What stands on a page, and whether it holds an image."""
    page = pdf[number]
    try:
        glyphs = _glyphs(page, number + 1, path)
        has_image, rulings = _drawn(page)
        return lay_out(glyphs, rulings, number + 1, page.get_height()), has_image
    finally:
        page.close()


def _glyphs(page: Any, number: int, path: Path) -> list[Glyph]:
    """The characters of a page, in PDFium's order. Raises DocumentUnreadable."""
    from pypdfium2 import raw

    text = page.get_textpage()
    try:
        count = text.count_chars()
        if count > MAX_GLYPHS:
            reason = f"{number}ページの文字が多すぎます（{count:,}文字。{MAX_GLYPHS:,}文字まで）。"
            raise DocumentUnreadable(path=str(path), reason=reason)
        box, glyphs = raw.FS_RECTF(), []
        for at in range(count):
            code = raw.FPDFText_GetUnicode(text, at)
            if raw.FPDFText_IsGenerated(text, at) == 1 or code in (0, 0xFFFE, 0xFFFF):
                continue
            if not raw.FPDFText_GetLooseCharBox(text, at, ctypes.byref(box)):
                continue
            size = min(raw.FPDFText_GetFontSize(text, at), box.top - box.bottom) or 1.0
            sign = "-" if raw.FPDFText_IsHyphen(text, at) == 1 else chr(code)
            glyphs.append(Glyph(sign, box.left, box.bottom, box.right, box.top, size))
        return glyphs
    finally:
        text.close()


def _drawn(page: Any) -> tuple[bool, list[Ruling]]:
    """Whether the page holds an image, and the straight lines drawn on it, along its edges."""
    from pypdfium2 import raw

    has_image = False
    rulings: list[Ruling] = []
    for item in page.get_objects(max_depth=4):
        has_image = has_image or item.type == raw.FPDF_PAGEOBJ_IMAGE
        if item.type == raw.FPDF_PAGEOBJ_PATH and len(rulings) < _MAX_SEGMENTS:
            rulings += _rulings(item)
    return has_image, rulings


def _rulings(path: Any) -> Iterator[Ruling]:
    """The edges of a drawn path; of a bar thin enough to be a line, the line."""
    from pypdfium2 import raw

    left, bottom, right, top = path.get_bounds()
    if min(right - left, top - bottom) <= THICKEST:
        yield Ruling(left, bottom, right, top)
        return
    matrix, x, y = path.get_matrix(), ctypes.c_float(), ctypes.c_float()
    before = start = (0.0, 0.0)
    for at in range(min(raw.FPDFPath_CountSegments(path), _MAX_SEGMENTS)):
        segment = raw.FPDFPath_GetPathSegment(path, at)
        raw.FPDFPathSegment_GetPoint(segment, ctypes.byref(x), ctypes.byref(y))
        point = matrix.on_point(x.value, y.value)
        kind = raw.FPDFPathSegment_GetType(segment)
        if kind == raw.FPDF_SEGMENT_MOVETO:
            start = point
        ends = [(before, point)] if kind == raw.FPDF_SEGMENT_LINETO else []
        if raw.FPDFPathSegment_GetClose(segment):
            ends.append((point, start))
        for (x0, y0), (x1, y1) in ends:
            if min(abs(x0 - x1), abs(y0 - y1)) <= THICKEST:
                yield Ruling(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        before = point


def _without_running_heads(layouts: Sequence[PageLayout]) -> list[PageLayout]:
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


def _blocks(layouts: Sequence[PageLayout]) -> Iterator[Block]:
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
