"""Which kinds of characters each of many texts holds, read from one table for all of them at once.

A filter before the exact checks: a flag says that a text is worth a closer look, a missing flag
that it is not. Judges nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.utils.japanese_utils import is_suspect
from mlx_finetuning.utils.validators import is_control

Flags = NDArray[np.uint32]

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
LINE_END = 1 << 16
SEMICOLON = 1 << 17
LONG = 1 << 18
"""The text, or one of an example's, has room for an embedded file."""
ENDS_IN_SPACE = 1 << 19
ENDS_SHORTENED = 1 << 20
"""Its last character is one with which pages end what they shorten (続きを読む)."""
REFUSING = 1 << 21
"""Its first character is one with which assistants begin to refuse."""
TRACE = 1 << 22
"""May be what people and copying leave in a text: brackets, signs that keep a place, letters that look alike."""
_SHORT_CHARACTERS = 30
_LONG_CHARACTERS = 400

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
_SHORTENED_ENDS = frozenset("むる示略eEdD….>»→）)]")
_REFUSING_STARTS = frozenset("大誠申すご恐残私人言AＡaIiSs")
_MARKS = frozenset("<&[_=＝\\%#＃")
_TRACES = frozenset("{$[［【〔（(<＜○●〇◯△□▲■~〓")
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
    chunks = [np.zeros(0, np.uint32)]
    for at in range(0, len(texts), _CHUNK):
        chunk = texts[at : at + _CHUNK]
        # A space, which has no flag within a text, keeps every segment from being empty.
        joined = " ".join(chunk) + " "
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        lengths = np.fromiter(map(len, chunk), np.int64, len(chunk))
        ends = np.cumsum(lengths + 1) - 1
        by_character = _FLAGS[codes]
        # Personal data begins with three digits in a row; few texts have them.
        digits = by_character & _DIGIT
        shift = _DIGIT.bit_length() - DIGITS.bit_length()
        by_character[2:] |= (digits[2:] & digits[1:-1] & digits[:-2]) >> shift
        starts = ends - lengths
        flags: Flags = np.bitwise_or.reduceat(by_character, starts)
        flags &= ~np.uint32(_AT_END | REFUSING)
        flags |= by_character[ends - 1] & np.uint32(_AT_END) * (lengths > 0)
        flags |= by_character[starts] & np.uint32(REFUSING)
        flags[lengths <= _SHORT_CHARACTERS] |= SHORT
        flags[lengths >= _LONG_CHARACTERS] |= LONG
        flags[flags & VISIBLE == 0] |= BLANK
        flags[flags & KANA == 0] |= NO_KANA
        chunks.append(flags)
    return np.concatenate(chunks)


_AT_END = ENDS_IN_SPACE | ENDS_SHORTENED


def flags_of_examples(examples: Sequence[Example], progress: StageProgress = SILENT) -> Flags:
    """[examples] the kinds of characters in the turns of each; BLANK if any turn is."""
    chunks = [np.zeros(0, np.uint32)]
    for at in range(0, len(examples), _CHUNK):
        progress.update(at, len(examples))
        texts: list[str] = []
        starts = []
        for example in examples[at : at + _CHUNK]:
            starts.append(len(texts))
            for turn in example.turns:
                texts += turn.texts
        chunks.append(np.bitwise_or.reduceat(flags_of(texts), starts))
    return np.concatenate(chunks)


class CodePointTable:
    """A number for each character, worked out when a text first has it: for all of them that takes a
    third of a second, and the texts of a small file have a few hundred.
    """

    def __init__(self, number_of: Callable[[str], int]) -> None:
        self._number_of = number_of
        self._numbers = np.full(0x110000, _UNKNOWN, np.uint32)

    def __getitem__(self, codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """[characters] the number of each."""
        numbers = self._numbers[codes]
        is_unknown = numbers == _UNKNOWN
        if is_unknown.any():
            new = np.unique(codes[is_unknown])
            self._numbers[new] = [self._number_of(chr(code)) for code in new.tolist()]
            numbers = self._numbers[codes]
        return numbers


_UNKNOWN = 0xFFFFFFFE


def changes_with_neighbours(character: str) -> bool:
    """Whether it may join the character before it under NFC."""
    return (
        unicodedata.combining(character) != 0
        or unicodedata.category(character) in ("Mn", "Mc")
        or "\u1160" <= character <= "\u11ff"  # so do the later parts of Hangul syllables
    )


_HOLDS: dict[int, Callable[[str], bool]] = {
    VISIBLE: lambda character: not character.isspace(),
    CONTROL: is_control,
    ZERO_WIDTH: lambda character: (
        "\ufe00" <= character <= "\ufe0f" or ZERO_WIDTH_PATTERN.match(character) is not None
    ),
    HALF_KANA: lambda character: "\uff61" <= character <= "\uff9f",
    FULL_ALNUM: lambda character: "０" <= character <= "ｚ" and character.isalnum(),
    _DIGIT: lambda character: "0" <= character <= "9" or "０" <= character <= "９",
    AT_SIGN: frozenset("@＠").__contains__,
    KANA: lambda character: "ぁ" <= character <= "ヺ" or "\uff66" <= character <= "\uff9d",
    SUSPECT: is_suspect,
    MARK: _MARKS.__contains__,
    COMBINING: lambda character: (
        changes_with_neighbours(character) or not unicodedata.is_normalized("NFC", character)
    ),
    RETURN: "\r".__eq__,
    TRACE: lambda character: (
        character in _TRACES
        or "\u2e80" <= character <= "\u2fd5"
        or "\ue000" <= character <= "\uf8ff"
    ),
    LINE_END: "\n".__eq__,
    SEMICOLON: ";".__eq__,
    REFUSING: lambda character: character in _REFUSING_STARTS or character.isspace(),
    ENDS_IN_SPACE: str.isspace,
    ENDS_SHORTENED: lambda character: character in _SHORTENED_ENDS or character.isspace(),
}
"""What gives a character each of its flags."""


def _flags_of_character(character: str) -> int:
    code = ord(character)
    if code < 0x10000:
        return sum(flag for flag, holds in _HOLDS.items() if holds(character))
    # Beyond: emoji, rare kanji, historic scripts. Looked at one by one where it matters.
    if 0xE0000 <= code < 0xE0080:
        return ZERO_WIDTH
    flags = VISIBLE | COMBINING
    if 0xE0100 <= code < 0xE01F0:
        flags |= ZERO_WIDTH
    return flags | CONTROL if code & 0xFFFE == 0xFFFE else flags


_FLAGS = CodePointTable(_flags_of_character)
