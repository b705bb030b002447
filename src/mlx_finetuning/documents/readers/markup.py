"""HTML pages and Markdown: structure as their authors marked it.

Nothing is fetched and nothing is run; scripts, styles and navigation are not text. Of ruby the base is
kept and the reading left out, so that a sentence can be found as it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlx_finetuning.documents.document import Block, Document, table, with_text
from mlx_finetuning.documents.readers.limits import unreadable
from mlx_finetuning.errors import DocumentUnreadable
from mlx_finetuning.language import _

_UNSEEN = frozenset("script style noscript template nav rt rp head svg iframe object form".split())
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    "p div section article header footer main aside blockquote pre figure figcaption address dl dt dd "
    "ul ol body html hr".split()
)
_DEEPEST = 200
"""Elements within each other; browsers, too, give up at some depth."""


def read_html(text: str, path: Path) -> Document:
    """A page's blocks. Raises DocumentUnreadable."""
    from lxml import etree, html

    try:
        # A string with an XML declaration must come as bytes.
        parser = html.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True)
        root = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (etree.LxmlError, ValueError) as error:
        raise unreadable(path, error) from error
    try:
        blocks = tuple(with_text(_Page().blocks(root)))
    except RecursionError as error:
        raise DocumentUnreadable(path=str(path), reason=_("入れ子が深すぎます。")) from error
    return Document(path.name, "html", blocks)


def read_markdown(text: str, path: Path) -> Document:
    """Markdown's blocks, by what it looks like as a page: HTML in it counts as well."""
    from markdown_it import MarkdownIt

    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    page = read_html(f"<body>{rendered}</body>", path) if rendered.strip() else None
    return Document(path.name, "markdown", page.blocks if page else ())


class _Page:
    """Walks a page's tree; text of inline elements is gathered until a block begins or ends."""

    def __init__(self) -> None:
        self._words: list[str] = []

    def blocks(self, root: Any) -> Iterator[Block]:
        """All blocks of the tree, in order."""
        yield from self._inside(root, 0, 0)
        yield from self._flushed("paragraph")

    def _inside(self, element: Any, lists: int, depth: int) -> Iterator[Block]:
        tag = element.tag if isinstance(element.tag, str) else ""
        if depth > _DEEPEST:
            raise RecursionError
        if tag in _UNSEEN or not tag or element.get("hidden") is not None:
            pass
        elif tag == "table":
            yield from self._flushed("paragraph")
            yield _table(element)
        elif tag == "br":
            self._words.append("\n")
        else:
            is_block = tag in _BLOCKS or tag in _HEADINGS or tag == "li"
            if is_block:
                yield from self._flushed("paragraph", 0)
            lists += tag in ("ul", "ol")
            self._words.append(element.text or "")
            for child in element:
                yield from self._inside(child, lists, depth + 1)
                self._words.append(child.tail or "")
            if tag in _HEADINGS:
                yield from self._flushed("heading", _HEADINGS[tag])
            elif tag == "li":
                yield from self._flushed("item", max(lists - 1, 0))
            elif is_block:
                yield from self._flushed("paragraph")

    def _flushed(self, kind: Any, level: int = 0) -> Iterator[Block]:
        lines = "".join(self._words).split("\n\n") if kind == "pre" else ["".join(self._words)]
        self._words.clear()
        for line in lines:
            text = " ".join(line.split())
            if text:
                yield Block(kind, text, level=level)


def _table(element: Any) -> Block:
    """Its rows; a cell over several columns or rows stands in each."""
    rows: list[list[str]] = []
    reaching: dict[int, tuple[int, str]] = {}  # column → rows that a cell above still covers
    for line in element.iter("tr"):
        cells: list[str] = []

        def fill(cells: list[str]) -> None:
            while len(cells) in reaching:
                left, text = reaching.pop(len(cells))
                if left > 1:
                    reaching[len(cells)] = (left - 1, text)
                cells.append(text)

        for cell in line.iterchildren("td", "th"):
            fill(cells)
            text = "".join(_seen(cell))
            for __ in range(_span(cell, "colspan")):
                if (rowspan := _span(cell, "rowspan")) > 1:
                    reaching[len(cells)] = (rowspan - 1, text)
                cells.append(text)
        fill(cells)
        rows.append(cells)
    return table(rows)


def _seen(element: Any) -> Iterator[str]:
    """The text in an element that a reader sees."""
    yield element.text or ""
    for child in element:
        if child.tag not in _UNSEEN:
            yield from _seen(child)
        yield "\n" if child.tag == "br" else ""
        yield child.tail or ""


def _span(cell: Any, name: str) -> int:
    value = cell.get(name, "1")
    return min(int(value), 100) if value.isdigit() and int(value) else 1
