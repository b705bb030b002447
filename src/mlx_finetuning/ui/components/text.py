"""Texts from users and files as what they are: Markdown in them stays text."""

from __future__ import annotations

import re

_SIGNS = re.compile(r"([\\`*_{}\[\]<>#$~|&!])")


def plain(text: str) -> str:
    """`text` for a Markdown place, on lines as they are."""
    return _SIGNS.sub(r"\\\1", text).replace("\n", "  \n")
