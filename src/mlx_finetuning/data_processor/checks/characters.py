"""Which kinds of characters each of many texts holds, read from one table for all of them at once.

A filter before the exact checks: a flag says that a text is worth a closer look, a missing flag
that it is not. Judges nothing.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.utils.japanese_utils import is_suspect
from mlx_finetuning.utils.validators import is_control

Flags = NDArray[np.uint16]

VISIBLE = 1
CONTROL = 2
ZERO_WIDTH = 4
HALF_KANA = 8
FULL_ALNUM = 16
DIGITS = 32
"""Three digits in a row, as every phone number and postal code has."""
AT_SIGN = 64
KANA = 128
NO_KANA = 256
"""The text, or one of an example's, has no kana."""
MARK = 512
"""Begins what other programs leave in a text: markup, escapes, control tokens."""
SUSPECT = 1024
"""Occurs in text read in a wrong encoding."""
COMBINING = 2048
"""May change under NFC."""
RETURN = 4096
BLANK = 8192
"""The text, or one of an example's, has nothing visible."""
_DIGIT = 16384
SHORT = 32768
"""The text, or one of an example's, has at most 30 characters: it may stand for no answer at all."""
_SHORT_CHARACTERS = 30

# Space, non-joiner, word joiner, BOM. The joiner U+200D and variation selectors are parts of emoji
# and of some kanji, and stay.
ZERO_WIDTH_PATTERN = re.compile(
    "[\u200b\u200c\u2060\ufeff\u00ad\u180e\u2061-\u2064\ufff9-\ufffb\u3164\uffa0\U000e0000-\U000e007f]"
)
# The flags of England, Scotland and Wales are written with tags; runs of variation selectors are not.
_FLAG = "\U0001f3f4[\U000e0020-\U000e007e]{2,8}\U000e007f"
HIDDEN_PATTERN = re.compile("[\U000e0000-\U000e007f]|[\ufe00-\ufe0f\U000e0100-\U000e01ef]{3,}")
"""Letters that nobody sees, but a model reads: tags, and data in variation selectors."""
_FLAG_OR_INVISIBLE = re.compile(
    f"({_FLAG})|{ZERO_WIDTH_PATTERN.pattern}|[\ufe00-\ufe0f\U000e0100-\U000e01ef]{{3,}}"
)
_CHUNK = 20_000
"""Texts looked up at once: a few megabytes of code points."""


def without_invisible(text: str) -> str:
    """Without characters that have no width; joiners and flags of emoji stay."""
    return _FLAG_OR_INVISIBLE.sub(lambda found: found[1] or "", text)


def has_invisible(text: str) -> bool:
    """Whether it has any that `without_invisible` takes."""
    return any(not found[1] for found in _FLAG_OR_INVISIBLE.finditer(text))


def hides_text(example: Example) -> bool:
    """Whether it has letters that nobody sees."""
    texts = (text for turn in example.turns for text in turn.texts)
    return any(HIDDEN_PATTERN.search(re.sub(_FLAG, "", text)) for text in texts)


def flags_of(texts: Sequence[str]) -> Flags:
    """[texts] the kinds of characters in each."""
    chunks = [np.zeros(0, np.uint16)]
    for at in range(0, len(texts), _CHUNK):
        chunk = texts[at : at + _CHUNK]
        # A line end, which has no flag, keeps every segment from being empty.
        joined = "\n".join(chunk) + "\n"
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        starts = list(accumulate((len(text) + 1 for text in chunk[:-1]), initial=0))
        by_character = _flags_by_code_point()[codes]
        # Personal data begins with three digits in a row; few texts have them.
        digits = by_character & _DIGIT
        by_character[2:] |= (digits[2:] & digits[1:-1] & digits[:-2]) // (_DIGIT // DIGITS)
        flags: Flags = np.bitwise_or.reduceat(by_character, starts)
        lengths = np.diff(starts, append=len(codes)) - 1
        flags[lengths <= _SHORT_CHARACTERS] |= SHORT
        flags[flags & VISIBLE == 0] |= BLANK
        flags[flags & KANA == 0] |= NO_KANA
        chunks.append(flags)
    return np.concatenate(chunks)


def flags_of_examples(examples: Sequence[Example], progress: StageProgress = SILENT) -> Flags:
    """[examples] the kinds of characters in the turns of each; BLANK if any turn is."""
    chunks = [np.zeros(0, np.uint16)]
    for at in range(0, len(examples), _CHUNK):
        progress.update(at, len(examples))
        chunk = examples[at : at + _CHUNK]
        texts = [[text for turn in example.turns for text in turn.texts] for example in chunk]
        flags = flags_of([text for of_example in texts for text in of_example])
        starts = accumulate((len(of_example) for of_example in texts[:-1]), initial=0)
        chunks.append(np.bitwise_or.reduceat(flags, list(starts)))
    return np.concatenate(chunks)


@functools.cache
def _flags_by_code_point() -> Flags:
    """[code points] the flags of each character. Built once, in a few hundredths of a second."""
    table = np.zeros(0x110000, np.uint16)
    table[:0x10000] = [_flags_of_character(chr(code)) for code in range(0x10000)]
    # Beyond: emoji, rare kanji, historic scripts. Looked at one by one where it matters.
    table[0x10000:] = VISIBLE | COMBINING
    table[0xE0000:0xE0080] = ZERO_WIDTH
    table[0xE0100:0xE01F0] |= ZERO_WIDTH
    for plane in range(1, 17):
        table[plane * 0x10000 + 0xFFFE : plane * 0x10000 + 0x10000] |= CONTROL
    return table


def _flags_of_character(character: str) -> int:
    changes_under_nfc = (
        unicodedata.combining(character) != 0  # joins the character before it
        or unicodedata.category(character) in ("Mn", "Mc")
        or "\u1160" <= character <= "\u11ff"  # so do the later parts of Hangul syllables
        or not unicodedata.is_normalized("NFC", character)
    )
    return sum(
        flag
        for flag, holds in (
            (VISIBLE, not character.isspace()),
            (CONTROL, is_control(character)),
            (
                ZERO_WIDTH,
                ZERO_WIDTH_PATTERN.match(character) is not None
                or "\ufe00" <= character <= "\ufe0f",
            ),
            (HALF_KANA, "\uff61" <= character <= "\uff9f"),
            (FULL_ALNUM, character.isalnum() and "０" <= character <= "ｚ"),
            (_DIGIT, "0" <= character <= "9" or "０" <= character <= "９"),
            (AT_SIGN, character in "@＠"),
            (KANA, "ぁ" <= character <= "ヺ" or "\uff66" <= character <= "\uff9d"),
            (SUSPECT, is_suspect(character)),
            (MARK, character in "<&[_=\\%#＃"),
            (COMBINING, changes_under_nfc),
            (RETURN, character == "\r"),
        )
        if holds
    )
