"""Which scripts a text is written in: a difference in Hindi says nothing about Japanese data."""

from __future__ import annotations

import functools
import unicodedata

JAPANESE = "japanese"
ASCII = "ascii"
SYMBOLS = "symbols"
EVERYWHERE = frozenset((ASCII, JAPANESE))
"""Scripts that a Japanese user writes sooner or later, code and whitespace included."""
_JAPANESE = "HIRAGANA KATAKANA KATAKANA-HIRAGANA CJK IDEOGRAPHIC HALFWIDTH FULLWIDTH".split()


def of(text: str) -> frozenset[str]:
    """`ascii`, `japanese`, `symbols` (emoji, odd spaces, control characters) and other scripts by the
    first word of their characters' names: `DEVANAGARI`."""
    return frozenset(map(_script, set(text)))


@functools.lru_cache(maxsize=1 << 16)
def _script(character: str) -> str:
    if character.isascii():
        return ASCII
    name = unicodedata.name(character, "").split(" ")[0]
    if name in _JAPANESE:
        return JAPANESE
    return name if unicodedata.category(character)[0] in "LM" and name else SYMBOLS
