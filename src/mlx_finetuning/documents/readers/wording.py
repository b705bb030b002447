"""What Japanese documents show of their structure in their wording: headings, items, page numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from mlx_finetuning.documents.document import Block

_NUMBER = "[0-9０-９一二三四五六七八九十百〇]{1,4}"
_ALONE = "(?![のはをがにでとやも、及並又第])"
"""What begins a sentence about a chapter follows no heading."""
_HEADINGS = (
    (re.compile(rf"第\s*{_NUMBER}\s*[編部章]{_ALONE}"), 1),
    (re.compile(rf"第\s*{_NUMBER}\s*節{_ALONE}"), 2),
    (re.compile(rf"第\s*{_NUMBER}\s*条(?:の[0-9０-９一二三四五六七八九]{{1,2}})?{_ALONE}"), 3),
    (re.compile(r"[■◆●▼◇□]\s*\S"), 2),
    (re.compile(r"[0-9０-９]{1,2}[.．][0-9０-９]{1,2}[.．][0-9０-９]{1,2}[.．]?\s+\S"), 3),
    (re.compile(r"[0-9０-９]{1,2}[.．][0-9０-９]{1,2}[.．]?\s+\S"), 2),
    (re.compile(r"[0-9０-９]{1,2}[.．]\s*\S"), 1),
)
LONGEST_HEADING = 60
"""Characters."""
_ITEM = re.compile(
    r"(?:[・•‣●○◦◯▪■□➢✓※*＊-]\s*|[(（][0-9０-９一二三四五六七八九十ア-ンa-z]{1,3}[)）]\s*|"
    r"[0-9０-９]{1,3}[.．)）、]\s*|[①-⑳]\s*)(?=\S)"
)
_NUMBERED = re.compile(r"[0-9０-９]{1,3}[.．]\s*\S")
_SENTENCE_END = re.compile(r"[。．.!?！？、,]$")
_PAGE_NUMBER = re.compile(
    r"(?:[-–—－ー~〜|]\s*)?(?:p(?:age|\.)?\s*|第\s*|[Pp]\.\s*)?[0-9０-９]{1,5}\s*(?:ページ|頁)?"
    r"(?:\s*(?:/|／|of)\s*[0-9０-９]{1,5}\s*(?:ページ|頁)?)?(?:\s*[-–—－ー~〜|])?",
    re.IGNORECASE,
)


def heading_level(line: str) -> int:
    """From 1, of a line that is worded as a heading; 0 for other lines.

    A line that ends as a sentence does is none, nor is a long one.
    """
    if len(line) > LONGEST_HEADING or _SENTENCE_END.search(line):
        return 0
    return next((level for pattern, level in _HEADINGS if pattern.match(line)), 0)


def is_item(line: str) -> bool:
    """Whether a line begins as an item of a list."""
    return _ITEM.match(line) is not None


def is_page_number(line: str) -> bool:
    """Whether a line holds nothing but a page's number."""
    return _PAGE_NUMBER.fullmatch(line.strip()) is not None


def joined(first: str, second: str) -> str:
    """Two lines of one paragraph as one: Japanese without a space, a hyphenated word as a whole."""
    if not first or not second:
        return first + second
    if first[-1] in "\u00ad\x02" or (
        first[-1] in "-‐"
        and len(first) > 1
        and first[-2].isascii()
        and first[-2].isalpha()
        and second[0].isascii()
        and second[0].islower()
    ):
        return first[:-1] + second
    is_western = first[-1].isascii() and second[0].isascii() and not first[-1].isspace()
    return f"{first} {second}" if is_western else first + second


def numbered_as_items(blocks: Sequence[Block]) -> list[Block]:
    """Numbered headings that have nothing below them, one after the other, are a list."""
    numbered = [block.kind == "heading" and bool(_NUMBERED.match(block.text)) for block in blocks]
    numbered = [False, *numbered, False]
    return [
        replace(block, kind="item", level=0) if here and (before or after) else block
        for block, before, here, after in zip(
            blocks, numbered, numbered[1:], numbered[2:], strict=False
        )
    ]
