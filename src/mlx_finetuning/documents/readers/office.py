"""DOCX and PPTX, by python-docx and python-pptx: paragraphs, lists and tables as they are marked.

Pictures, comments, deleted text, macros and links to other files are not looked at, and nothing is
fetched. Of ruby the base is kept. An archive that is made to burst is refused before it is unpacked.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from mlx_finetuning.documents.document import Block, Document, table, with_text
from mlx_finetuning.documents.readers.limits import STAGE, require_size, unreadable
from mlx_finetuning.documents.readers.wording import heading_level, is_item, joined
from mlx_finetuning.errors import DocumentEncrypted, DocumentUnreadable, StudioError
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.utils import archives

_OLE = b"\xd0\xcf\x11\xe0"
_LARGEST_XML = 48 << 20
"""Bytes: as a tree in memory it takes about ten times as much."""
_LARGEST = 400 << 20
_DAMAGE = (BadZipFile, LookupError, ValueError, AttributeError, TypeError, OSError, RuntimeError)
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_HEADING_STYLE = re.compile(r"(?:heading|見出し)\s*([1-9])", re.IGNORECASE)
_TITLE_STYLE = re.compile(r"title|表題", re.IGNORECASE)
_REPORT_EVERY = 500


def read_docx(path: Path, progress: Progress) -> Document:
    """The body's blocks. Raises DocumentUnreadable, DocumentEncrypted."""
    _require_readable(path)
    import docx
    from docx.table import Table
    from lxml import etree

    progress(Step(_(STAGE), 0, 0, path.name))
    blocks: list[Block] = []
    characters = 0
    try:
        body = docx.Document(str(path))
        for at, item in enumerate(body.iter_inner_content()):
            if at % _REPORT_EVERY == 0:
                progress(Step(_(STAGE), at, 0, path.name))
            if isinstance(item, Table):
                # A merged cell comes once for each place it covers.
                rows = (
                    [
                        functools.reduce(joined, map(_docx_text, cell._tc.iter(f"{_W}p")), "")
                        for cell in row.cells
                    ]
                    for row in item.rows
                )
                blocks.append(table(rows))
            else:
                blocks.append(_docx_paragraph(item))
            characters += len(blocks[-1].text)
            require_size(characters, path)
    except (StudioError, MemoryError):
        raise
    except (*_DAMAGE, etree.LxmlError) as error:
        raise unreadable(path, error) from error
    return Document(path.name, "docx", tuple(with_text(blocks)))


def _docx_paragraph(paragraph: Any) -> Block:
    text = _docx_text(paragraph._p)
    style = paragraph.style.name or "" if paragraph.style is not None else ""
    outline = paragraph._p.find(f"{_W}pPr/{_W}outlineLvl")
    marked = _HEADING_STYLE.search(style)
    if marked or (outline is not None and outline.get(f"{_W}val", "9").isdigit()):
        level = int(marked[1]) if marked else int(outline.get(f"{_W}val", "9")) + 1
        if level <= 9:
            return Block("heading", text, level=level)
    if _TITLE_STYLE.search(style):
        return Block("heading", text, level=1)
    numbering = paragraph._p.find(f"{_W}pPr/{_W}numPr")
    if numbering is not None or style.startswith("List") or is_item(text):
        depth = numbering.find(f"{_W}ilvl") if numbering is not None else None
        return Block("item", text, level=0 if depth is None else int(depth.get(f"{_W}val", "0")))
    level = heading_level(text)
    return Block("heading", text, level=level) if level else Block("paragraph", text)


def _docx_text(element: Any) -> str:
    """The words of an element as they are seen: without readings of ruby and deleted words."""
    words = []
    for part in element.iter(f"{_W}t", f"{_W}tab", f"{_W}br", f"{_W}cr"):
        hidden = (f"{_W}rt", f"{_W}del", f"{_W}moveFrom", f"{_W}pPr")
        if not any(above.tag in hidden for above in part.iterancestors()):
            words.append((part.text or "") if part.tag == f"{_W}t" else " ")
    return " ".join("".join(words).replace("\u3000", " ").split())


def read_pptx(path: Path, progress: Progress) -> Document:
    """The slides' titles, texts, tables and notes; a slide counts as a page. Raises DocumentUnreadable,
    DocumentEncrypted."""
    _require_readable(path)
    from lxml import etree
    from pptx import Presentation

    blocks: list[Block] = []
    characters = 0
    try:
        slides = list(Presentation(str(path)).slides)
        for number, slide in enumerate(slides, 1):
            progress(Step(_(STAGE), number - 1, len(slides), path.name))
            for block in with_text(_slide(slide, number)):
                blocks.append(block)
                characters += len(block.text)
            require_size(characters, path)
    except (StudioError, MemoryError):
        raise
    except (*_DAMAGE, etree.LxmlError) as error:
        raise unreadable(path, error) from error
    return Document(path.name, "pptx", tuple(blocks), len(slides))


def _slide(slide: Any, number: int) -> Iterator[Block]:
    title = slide.shapes.title
    if title is not None:
        yield Block("heading", " ".join(title.text_frame.text.split()), number, 1)
    for shape in _shapes(slide.shapes):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if shape.has_table if hasattr(shape, "has_table") else False:
            yield table(((cell.text for cell in row.cells) for row in shape.table.rows), number)
        elif shape.has_text_frame:
            for paragraph in shape.text_frame.paragraphs:
                text = " ".join("".join(run.text for run in paragraph.runs).split())
                kind: Any = "item" if paragraph.level or shape.is_placeholder else "paragraph"
                yield Block(kind, text, number, paragraph.level)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        for line in slide.notes_slide.notes_text_frame.text.splitlines():
            yield Block("paragraph", " ".join(line.split()), number)


def _shapes(shapes: Any) -> Iterator[Any]:
    """The shapes from the top to the bottom and from the left; those of a group in its place."""
    for shape in sorted(shapes, key=lambda one: (one.top or 0, one.left or 0)):
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        else:
            yield shape


def _require_readable(path: Path) -> None:
    """Raises DocumentEncrypted, DocumentUnreadable."""

    def refused(reason: str) -> StudioError:
        return DocumentUnreadable(path=str(path), reason=reason)

    with path.open("rb") as stream:
        if stream.read(4) == _OLE:
            raise DocumentEncrypted(path=str(path))
    try:
        with archives.open_zip(path, ("",), refused, _LARGEST) as archive:
            written = sum(
                info.file_size
                for info in archive.infolist()
                if info.filename.lower().endswith((".xml", ".rels"))
            )
    except (*_DAMAGE, EOFError) as error:
        raise unreadable(path, error) from error
    if written > _LARGEST_XML:
        raise refused(
            _("文章の部分が大きすぎます（{size} MB。{most} MBまで）。").format(
                size=written >> 20, most=_LARGEST_XML >> 20
            )
        )
