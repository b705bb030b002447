"""Which kinds of other wordings there are, and one of them. Shared by rules, models and checks."""

from __future__ import annotations

from dataclasses import dataclass

KINDS_JA = {
    "polite": "丁寧",
    "casual": "くだけた",
    "keyword": "キーワード",
    "asked": "聞き方",
    "recast": "文の形",
    "synonym": "類語",
    "name": "呼び名",
    "order": "語順",
    "long": "長い",
    "kana": "かな",
    "typo": "誤字",
}
"""By kind, in the order in which they are taken."""

SLIPS = ("kana", "typo")
"""Kinds in which letters are not as they should be: what must be kept is looked for by its sound."""


@dataclass(frozen=True)
class Wording:
    """A question in other words."""

    kind: str
    """A key of `KINDS_JA`."""
    text: str
