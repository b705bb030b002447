"""`comparison_key` of many texts at once, by one table of characters.

Nearly all Japanese text folds sign by sign (？ to ?, Ａ to a, ｱ to ア). Texts with anything else, such
as ㈱, which becomes three, or a mark that joins the sign before it, are folded one by one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from mlx_finetuning.data_processor.checks.characters import CodePointTable, changes_with_neighbours
from mlx_finetuning.utils.japanese_utils import TRAILING, comparison_key, with_same_signs

_CHUNK = 20_000
"""Texts folded at once: a few megabytes of code points."""
_ALONE = 0xFFFFFFFF
"""Stands for a character that does not become exactly one other, whatever is beside it."""
_SPACE = ord(" ")


def comparison_keys(texts: Sequence[str]) -> list[str]:
    """The comparison key of each text."""
    keys: list[str] = []
    for at in range(0, len(texts), _CHUNK):
        chunk = texts[at : at + _CHUNK]
        # Spaces around every text tell where one begins or ends with another.
        joined = " " + " ".join(chunk) + " "
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        folded = _FOLDED[codes]
        ends = np.cumsum(np.fromiter((len(text) + 1 for text in chunk), np.int64, len(chunk)))
        starts = np.append(0, ends[:-1]) + 1
        is_space = folded == _SPACE
        doubled = np.flatnonzero(is_space[1:] & is_space[:-1])  # the first of two in a row
        alone = np.flatnonzero(folded == _ALONE)
        folded[alone] = _SPACE
        plain = folded.tobytes().decode("utf-32-le", "surrogatepass")
        bounds = zip(starts.tolist(), ends.tolist(), strict=True)
        keys += [plain[start:end].rstrip(TRAILING) for start, end in bounds]
        # A place belongs to the text that begins there or before; so does the space behind a text.
        places = np.concatenate((alone, doubled, doubled + 1))
        for odd in np.unique(np.searchsorted(starts, places, "right") - 1).tolist():
            if odd >= 0:
                keys[at + odd] = comparison_key(chunk[odd])
    return keys


def _folded(character: str) -> int:
    """The code point that it becomes, or `_ALONE`."""
    if character == "\0" or character > "\uffff":
        return _ALONE
    becomes = with_same_signs(unicodedata.normalize("NFKC", character)).casefold()
    if becomes.isspace():
        return _SPACE
    joins = changes_with_neighbours(character) or any(map(changes_with_neighbours, becomes))
    return _ALONE if joins or len(becomes) != 1 else ord(becomes)


_FOLDED = CodePointTable(_folded)
