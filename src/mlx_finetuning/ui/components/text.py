"""Texts from users and files as what they are: Markdown in them stays text."""

from __future__ import annotations

import re

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#$~|&!])")


def plain(text: str) -> str:
    """`text` escaped for Markdown, with its line ends."""
    return _MARKDOWN.sub(r"\\\1", text).replace("\n", "  \n")
