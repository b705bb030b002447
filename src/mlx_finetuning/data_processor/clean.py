"""Safe cleaning of training text: what no writer means and no reader sees. Each step says what it
changed. Width, signs and wording are never touched (NFKC would turn ① into 1)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mlx_finetuning.data_processor.examples import Example

MAX_SAMPLES = 3

# Zero-width space, non-joiner, word joiner, BOM. The joiner U+200D and variation selectors are
# parts of emoji and of some kanji, and stay.
_ZERO_WIDTH = re.compile("[\u200b\u200c\u2060\ufeff]")
_EDGES = re.compile(r"\A(?:[ \t　]*\n)+|\s+\Z")


@dataclass(frozen=True)
class CleaningStep:
    name: str
    description: str
    """Japanese."""
    rows: int
    """Rows that the step changed."""
    samples: tuple[tuple[int, str, str], ...] = ()
    """The first few changes: row, before, after."""


def line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def zero_width(text: str) -> str:
    return _ZERO_WIDTH.sub("", text)


def nfc(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def trim(text: str) -> str:
    """Without trailing whitespace and leading blank lines; indentation stays."""
    return _EDGES.sub("", text)


STEPS: dict[str, tuple[Callable[[str], str], str]] = {
    "line_ends": (line_ends, "改行をLFに統一"),
    "zero_width": (zero_width, "BOMと幅のない文字を削除"),
    "nfc": (nfc, "結合文字を1文字に（NFC）"),
    "trim": (trim, "末尾の空白と先頭の空行を削除"),
}


def clean(
    examples: Sequence[Example], steps: Sequence[str] = tuple(STEPS)
) -> tuple[list[Example], tuple[CleaningStep, ...]]:
    """`examples` after the named steps in turn, and what each did."""
    cleaned, report = list(examples), []
    for name in steps:
        change, description = STEPS[name]
        changed = 0
        samples: list[tuple[int, str, str]] = []
        for index, example in enumerate(cleaned):
            contents = [change(turn.content) for turn in example.turns]
            pairs = zip(example.turns, contents, strict=True)
            different = [(turn.content, new) for turn, new in pairs if turn.content != new]
            if different:
                changed += 1
                if len(samples) < MAX_SAMPLES:
                    samples.append((example.row, *different[0]))
                cleaned[index] = _with_contents(example, contents)
        report.append(CleaningStep(name, description, changed, tuple(samples)))
    return cleaned, tuple(report)


def _with_contents(example: Example, contents: Sequence[str]) -> Example:
    pairs = zip(example.turns, contents, strict=True)
    return replace(example, turns=tuple(turn._replace(content=new) for turn, new in pairs))
