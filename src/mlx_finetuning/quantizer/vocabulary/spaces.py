"""What a SentencePiece-like tokenizer does with the spaces of a text before it cuts it.

Recognised by its exact definition (normalizer and pre-tokenizer of `tokenizer.json`), in the several
ways in which the same is written; anything else is an error. Cuts nothing.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from mlx_finetuning.errors import TokenizerUnsupported
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import N_, _

Definition = JsonObject
"""The content of a `tokenizer.json`."""

MARK = "▁"
_MARKS = (
    {"type": "Replace", "pattern": {"String": " "}, "content": MARK},
    {"type": "Replace", "pattern": {"Regex": " "}, "content": MARK},
)
_PREFIXES = (
    {"type": "Prepend", "prepend": MARK},
    {"type": "Replace", "pattern": {"Regex": r"(?<!\n)^"}, "content": MARK},
)
_MERGED_SPACES = (
    {"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
)
_NEVER_SPLITS = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}
"""Stands after the marks, when there are no spaces left (Gemma)."""


@dataclass(frozen=True)
class Spaces:
    """What happens to a text before it is cut."""

    prefix: str
    """Where a space is put before a text. `always`: after every special token too; `unless there`:
    likewise, but not before a space; `first`: only before the whole text; `never`."""
    merged: bool
    """Runs of spaces become one; none at the ends."""
    charsmap: bytes | None
    """SentencePiece's table of replacements."""


_UNKNOWN_SCHEME = N_("空白の扱い（normalizer、pre_tokenizer）が既知のものと違います。")


def of(definition: Definition) -> Spaces:
    """Raises TokenizerUnsupported for rules that llama.cpp has none for."""
    steps = flat(definition.get("normalizer"), "normalizers")
    charsmap = None
    if steps and steps[0].get("type") == "Precompiled":
        try:
            charsmap = base64.b64decode(steps.pop(0).get("precompiled_charsmap") or "") or None
        except (binascii.Error, ValueError, TypeError) as error:
            raise TokenizerUnsupported(reason=_("文字の置き換えの表を読めません。")) from error
    merged = tuple(steps[:2]) == _MERGED_SPACES
    steps = steps[2:] if merged else steps
    prefix = "never"
    if steps and steps[0] in _PREFIXES:
        prefix = "always"
        steps = steps[1:]
    has_marks = len(steps) == 1 and steps[0] in _MARKS
    cutting = flat(definition.get("pre_tokenizer"), "pretokenizers")
    if has_marks and cutting == [_NEVER_SPLITS]:
        cutting = []
    if cutting and prefix == "never" and (has_marks or not steps):
        return Spaces(_metaspace_prefix(cutting, definition), merged, charsmap)
    if not has_marks or cutting:
        raise TokenizerUnsupported(reason=_(_UNKNOWN_SCHEME))
    return Spaces(prefix, merged, charsmap)


def flat(step: Any, parts: str) -> list[JsonObject]:
    """The steps of a normalizer or pre-tokenizer, however deep its sequences are."""
    if not isinstance(step, dict):
        return []
    if step.get("type") != "Sequence":
        return [step]
    return [inner for part in step.get(parts, []) for inner in flat(part, parts)]


def _metaspace_prefix(cutting: list[JsonObject], definition: Definition) -> str:
    """`Spaces.prefix` where the pre-tokenizer writes the marks."""
    match cutting:
        case [{"type": "Metaspace", "replacement": "▁", **settings}]:
            # Where words are cut apart first, a piece over two words cannot be found.
            vocab = definition["model"]["vocab"]
            texts = vocab if isinstance(vocab, dict) else (text for text, __ in vocab)
            if settings.get("split", True) and any(MARK in text[1:] for text in texts):
                raise TokenizerUnsupported(reason=_("空白で分けてから切るトークナイザーです。"))
            scheme = settings.get("prepend_scheme")
            if scheme is None:
                scheme = "always" if settings.get("add_prefix_space", True) else "never"
            if scheme in ("always", "first", "never"):
                return "unless there" if scheme == "always" else str(scheme)
    raise TokenizerUnsupported(reason=_(_UNKNOWN_SCHEME))
