"""Which kinds of other wordings there are, and one of them. Shared by rules, models and checks."""

from __future__ import annotations

from dataclasses import dataclass

from mlx_finetuning.language import N_

KINDS_JA = {
    "polite": N_("丁寧"),
    "casual": N_("くだけた"),
    "keyword": N_("キーワード"),
    "asked": N_("聞き方"),
    "recast": N_("文の形"),
    "synonym": N_("類語"),
    "name": N_("呼び名"),
    "order": N_("語順"),
    "long": N_("長い"),
    "kana": N_("かな"),
    "typo": N_("誤字"),
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
