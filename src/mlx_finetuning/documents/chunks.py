"""A document cut along its headings into chunks that a model can be asked about.

Short sections share a chunk, long ones are divided between blocks, then between sentences or a
table's rows, whose header is repeated. No two chunks overlap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mlx_finetuning.documents.document import CELL_SEPARATOR, Block, Document

LONGEST = 1200
"""Characters of a chunk."""
ENOUGH = 400
"""Characters from which a chunk ends at the next heading."""
_SENTENCE = re.compile(r"[^。！？!?\n]*(?:[。！？!?]+[」』）)]*|\n|$)")


@dataclass(frozen=True)
class Chunk:
    """A part of a document."""

    document: str
    number: int
    """From 1, within its document."""
    headings: tuple[str, ...]
    """Those that its first block stands under, the highest first."""
    blocks: tuple[Block, ...]

    @property
    def text(self) -> str:
        """Its blocks, a line each."""
        return "\n".join(block.text for block in self.blocks)

    @property
    def whole(self) -> str:
        """The text below the names of the document and of the headings above it: all that a pair may
        rest on."""
        return "\n".join((*self.headings, self.text))

    @property
    def pages(self) -> tuple[int, int]:
        """First and last page; zeros where the format has none."""
        return self.blocks[0].page, self.blocks[-1].page


def chunks_of(document: Document) -> list[Chunk]:
    """The document's chunks in order; headings with nothing below them make none."""
    packed: list[tuple[tuple[str, ...], list[Block]]] = []
    path: list[Block] = []  # the headings that what follows stands under
    length, has_text = 0, False
    for block in (part for whole in document.blocks for part in _divided(whole)):
        is_heading = block.kind == "heading"
        ends = is_heading and (length >= ENOUGH or block.level == 1)
        is_first = not packed or (has_text and (ends or length + len(block.text) > LONGEST))
        if is_heading:
            path = [heading for heading in path if heading.level < block.level]
        if is_first:
            packed.append((tuple(heading.text for heading in path), []))
            length, has_text = 0, False
        if is_heading:
            path.append(block)
        packed[-1][1].append(block)
        length += len(block.text)
        has_text = has_text or not is_heading
    told = [
        (headings, blocks)
        for headings, blocks in packed
        if any(block.kind != "heading" for block in blocks)
    ]
    return [
        Chunk(document.name, number, headings, tuple(blocks))
        for number, (headings, blocks) in enumerate(told, 1)
    ]


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text."""
    return [found for part in _SENTENCE.findall(text) if (found := part.strip())]


def _divided(block: Block) -> Iterator[Block]:
    """A block as blocks of a size that fits."""
    if len(block.text) <= LONGEST:
        yield block
        return
    if block.kind == "table":
        header, *rows = block.rows
        repeated = CELL_SEPARATOR.join(header)
        part, length = [header], len(repeated)
        for row in rows:
            added = sum(map(len, row)) + len(CELL_SEPARATOR) * len(row)
            if length + added > LONGEST and len(part) > 1:
                yield _rows(block, part)
                part, length = [header], len(repeated)
            part.append(row)
            length += added
        yield _rows(block, part)
        return
    held = ""
    for sentence in sentences(block.text):
        for at in range(0, len(sentence), LONGEST):
            piece = sentence[at : at + LONGEST]
            if held and len(held) + len(piece) > LONGEST:
                yield replace(block, text=held)
                held = ""
            held += piece
    if held:
        yield replace(block, text=held)


def _rows(block: Block, rows: list[tuple[str, ...]]) -> Block:
    text = "\n".join(map(CELL_SEPARATOR.join, rows))
    return replace(block, text=text, rows=tuple(rows))
