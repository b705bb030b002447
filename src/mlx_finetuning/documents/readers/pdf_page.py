"""One page of a PDF, by PDFium: its characters, whether it holds an image, and its ruled lines."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlx_finetuning.documents.readers.glyphs import THICKEST, Glyph, Ruling
from mlx_finetuning.documents.readers.page_layout import PageLayout, lay_out
from mlx_finetuning.errors import DocumentUnreadable
from mlx_finetuning.language import _

MAX_GLYPHS = 100_000
"""Characters of one page."""
_MAX_SEGMENTS = 1_500
"""Lines drawn on one page that are looked at for tables."""


def page_of(pdf: Any, number: int, path: Path) -> tuple[PageLayout, bool]:
    """What stands on a page, and whether it holds an image."""
    page = pdf[number]
    try:
        glyphs = _glyphs_of(page, number + 1, path)
        has_image, rulings = _drawings_of(page)
        return lay_out(glyphs, rulings, number + 1, page.get_height()), has_image
    finally:
        page.close()


def _glyphs_of(page: Any, number: int, path: Path) -> list[Glyph]:
    """The characters of a page, in PDFium's order. Raises DocumentUnreadable."""
    from pypdfium2 import raw

    text = page.get_textpage()
    try:
        count = text.count_chars()
        if count > MAX_GLYPHS:
            reason = _(
                "{number}ページの文字が多すぎます（{count:,}文字。{most:,}文字まで）。"
            ).format(number=number, count=count, most=MAX_GLYPHS)
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


def _drawings_of(page: Any) -> tuple[bool, list[Ruling]]:
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
