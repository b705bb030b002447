"""Unigram tokenizers with byte fallback (Sarashina, llm-jp, Japanese T5) in llama.cpp's two forms.

`plamo2` cuts by the same search and writes characters outside the vocabulary as bytes, but puts no
space before a text and rewrites none. `t5` does both, but has no byte fallback: such characters
become `<unk>`, but for those of ASCII, whose byte pieces are written as the characters themselves.
Read from llama.cpp's `llama-vocab.cpp`. Both are proven by comparing tokens.
"""

from __future__ import annotations

import re
from typing import Any

from gguf import TokenType

from mlx_finetuning.errors import TokenizerUnsupported
from mlx_finetuning.quantizer.vocabulary.spaces import MARK, Spaces
from mlx_finetuning.quantizer.vocabulary.spm import PADDING_SCORE, Piece, looks_special

UNKNOWN_PENALTY = 10.0
"""By how much an unknown character is worse than the worst piece, in both originals."""
PLAMO2_UNKNOWN = 1000.0
"""What llama.cpp's `plamo2` takes for it instead, and 1e-4 is its unit: scores are scaled."""
NEVER_FOUND = -3000.0
"""A score with which `plamo2` passes over a piece."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def is_one(definition: dict[str, Any]) -> bool:
    return bool(definition["model"].get("type") == "Unigram")


def fits_plamo2(definition: dict[str, Any], scheme: Spaces, has_prefix: bool) -> bool:
    """Whether llama.cpp's `plamo2` cuts as this tokenizer does."""
    numbers = {text: number for number, (text, _) in enumerate(definition["model"]["vocab"])}
    has_bytes = all(numbers.get(f"<0x{byte:02X}>", 0) > 0 for byte in range(256))
    return (
        bool(definition["model"].get("byte_fallback"))
        and has_bytes
        and not has_prefix
        and not scheme.merged
        and scheme.charsmap is None
        and not any(" " in text for text in numbers)
    )


def pieces(definition: dict[str, Any], vocabulary: int, model: str) -> list[Piece]:
    """Text, score and type of every id, for the form `model`: `plamo2` or `t5`.

    Raises TokenizerUnsupported.
    """
    stored = [(str(text), float(score)) for text, score in definition["model"]["vocab"]]
    if not stored:
        raise TokenizerUnsupported(reason="語彙がありません。")
    known = {text for text, _ in stored}
    worst = min(score for _, score in stored)
    unknown = definition["model"].get("unk_id")
    if not isinstance(unknown, int) or not 0 <= unknown < len(stored):
        raise TokenizerUnsupported(reason="語彙にない文字を表すトークンがありません。")
    found: list[Piece] = []
    for number, (text, score) in enumerate(stored):
        byte = _BYTE.fullmatch(text)
        if number == unknown:
            found.append((text, 0.0, TokenType.UNKNOWN))
        elif byte and definition["model"].get("byte_fallback"):
            found.append(_byte(text, int(byte[1], 16), known, worst, model))
        else:
            found.append((text, score, TokenType.NORMAL))
    added = definition.get("added_tokens") or []
    last = max((len(found) - 1, *(entry["id"] for entry in added)))
    if last >= vocabulary:
        reason = f"トークン番号 {last} がモデルの語彙数 {vocabulary} を超えています。"
        raise TokenizerUnsupported(reason=reason)
    for entry in added:
        while len(found) <= entry["id"]:
            found.append((f"[PAD{len(found)}]", PADDING_SCORE, TokenType.UNUSED))
        if found[entry["id"]][2] != TokenType.UNKNOWN:
            is_control = entry.get("special") or looks_special(entry["content"])
            kind = TokenType.CONTROL if is_control else TokenType.USER_DEFINED
            found[entry["id"]] = (entry["content"], 0.0, kind)
    padding = range(len(found), vocabulary)
    found += [(f"[PAD{number}]", PADDING_SCORE, TokenType.UNUSED) for number in padding]
    if model == "plamo2":
        scale = PLAMO2_UNKNOWN / (UNKNOWN_PENALTY - worst)
        found = [_for_plamo2(piece, scale) for piece in found]
    return found


def _byte(text: str, byte: int, known: set[str], worst: float, model: str) -> Piece:
    written = chr(byte)
    # A space is written as its mark.
    if model == "t5" and 0 < byte < 128 and written != " " and written not in known:
        return written, worst - UNKNOWN_PENALTY, TokenType.NORMAL
    return text, 0.0, TokenType.BYTE


def _for_plamo2(piece: Piece, scale: float) -> Piece:
    text, score, kind = piece
    if kind != TokenType.NORMAL:
        return text, 0.0 if kind == TokenType.BYTE else NEVER_FOUND, kind
    return text.replace(MARK, " "), score * scale, kind
