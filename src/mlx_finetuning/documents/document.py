"""What every reader gives: a document as blocks in reading order, and what of it could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

BlockKind = Literal["heading", "paragraph", "item", "table"]
CELL_SEPARATOR = " | "


@dataclass(frozen=True)
class Block:
    """One heading, paragraph, item of a list, or table."""

    kind: BlockKind
    text: str
    """Of a table, its rows as lines."""
    page: int = 0
    """From 1; 0 where the format has no pages."""
    level: int = 0
    """Of a heading, from 1; of an item, how deep it stands, from 0."""
    rows: tuple[tuple[str, ...], ...] = ()
    """Of a table; merged cells are repeated, so that each row can be read by itself."""


@dataclass(frozen=True)
class Document:
    """A document as it was read."""

    name: str
    """The file's name."""
    format: str
    """`pdf`, `docx`, `pptx`, `workbook`, `html`, `markdown` or `text`."""
    blocks: tuple[Block, ...]
    pages: int = 0
    """0 where the format has none."""
    scanned_pages: tuple[int, ...] = ()
    """Pages that hold an image and no text."""

    @property
    def text(self) -> str:
        """All blocks, a line each."""
        return "\n".join(block.text for block in self.blocks)


def table(rows: Iterable[Iterable[str]], page: int = 0) -> Block:
    """A table of its rows of cells; blank rows are left out."""
    cells = (tuple(" ".join(cell.split()) for cell in row) for row in rows)
    filled = tuple(row for row in cells if any(row))
    return Block("table", "\n".join(map(CELL_SEPARATOR.join, filled)), page, rows=filled)


def with_text(blocks: Iterable[Block]) -> Iterator[Block]:
    """The blocks that say anything."""
    return (block for block in blocks if block.text.strip())
