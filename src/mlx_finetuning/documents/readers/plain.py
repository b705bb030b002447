"""Plain text: paragraphs between blank lines, headings and items by how their lines begin.

Ruby as Aozora Bunko writes it (`｜青空《あおぞら》`) is left out, as are running page numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlx_finetuning.documents.document import Block, Document
from mlx_finetuning.documents.readers.wording import (
    heading_level,
    is_item,
    is_page_number,
    joined,
    numbered_as_items,
)

_RUBY = re.compile(r"(?<=[一-鿿々〆ヶ])《[ぁ-ゖァ-ヺー・ ]{1,40}》")
_BASE_MARK = re.compile(r"｜(?=[^《》\n]{1,40}《)")
_FULL_LINE = 20
"""Characters from which a line may be one that was broken for its length."""


def read_text(text: str, path: Path) -> Document:
    """A text's blocks."""
    blocks = blocks_of_lines(without_ruby(text).splitlines())
    return Document(path.name, "text", tuple(numbered_as_items(list(blocks))))


def without_ruby(text: str) -> str:
    """`text` without the readings above its kanji."""
    return _BASE_MARK.sub("", _RUBY.sub("", text)) if "《" in text else text


def blocks_of_lines(lines: Iterable[str], page: int = 0) -> Iterator[Block]:
    """Blocks of lines of text. A line that was broken for its length goes on in the next one; what is
    short, or ends as a sentence does, ends its paragraph."""
    paragraph, width = "", 0
    for raw in [*lines, ""]:
        line = raw.strip()
        level = heading_level(line)
        starts = not line or level or is_item(line) or raw.startswith("\u3000")
        is_broken = width >= _FULL_LINE and paragraph[-1:] not in "。！？!?：:」"
        if paragraph and (starts or not is_broken):
            yield Block("item" if is_item(paragraph) else "paragraph", paragraph, page)
            paragraph = ""
        if level:
            yield Block("heading", line, page, level)
        elif line and not is_page_number(line):
            paragraph, width = joined(paragraph, line), len(line)
