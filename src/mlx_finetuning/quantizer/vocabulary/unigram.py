"""Unigram tokenizers with byte fallback (Sarashina, llm-jp, Japanese T5) in llama.cpp's two forms.

`plamo2` cuts by the same search and writes characters outside the vocabulary as bytes, but puts no
space before a text and rewrites none. `t5` does both, but has no byte fallback: such characters
become `<unk>`, but for those of ASCII, whose byte pieces are written as the characters themselves.
Read from llama.cpp's `llama-vocab.cpp`. Both are proven by comparing tokens.
"""

from __future__ import annotations

import re

from gguf import TokenType

from mlx_finetuning.errors import TokenizerUnsupported
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.vocabulary.spaces import MARK, Definition, Spaces
from mlx_finetuning.quantizer.vocabulary.spm import Piece, looks_special, padding

UNKNOWN_PENALTY = 10.0
"""By how much an unknown character is worse than the worst piece, in both originals."""
PLAMO2_UNKNOWN = 1000.0
"""What llama.cpp's `plamo2` takes for it instead, and 1e-4 is its unit: scores are scaled."""
NEVER_FOUND = -3000.0
"""A score with which `plamo2` passes over a piece."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def is_unigram(definition: Definition) -> bool:
    """Whether a `tokenizer.json` describes such a tokenizer."""
    return bool(definition["model"].get("type") == "Unigram")


def fits_plamo2(definition: Definition, scheme: Spaces, has_prefix: bool) -> bool:
    """Whether llama.cpp's `plamo2` cuts as this tokenizer does."""
    numbers = {text: number for number, (text, __) in enumerate(definition["model"]["vocab"])}
    has_bytes = all(numbers.get(f"<0x{byte:02X}>", 0) > 0 for byte in range(256))
    return (
        bool(definition["model"].get("byte_fallback"))
        and has_bytes
        and not has_prefix
        and not scheme.merged
        and scheme.charsmap is None
        and not any(" " in text for text in numbers)
    )


def pieces(definition: Definition, vocabulary: int, model: str) -> list[Piece]:
    """Text, score and type of every id, for the form `model`: `plamo2` or `t5`.

    Raises TokenizerUnsupported.
    """
    stored = [(str(text), float(score)) for text, score in definition["model"]["vocab"]]
    if not stored:
        raise TokenizerUnsupported(reason=_("語彙がありません。"))
    texts = {text for text, __ in stored}
    worst = min(score for __, score in stored)
    unknown = definition["model"].get("unk_id")
    if not isinstance(unknown, int) or not 0 <= unknown < len(stored):
        raise TokenizerUnsupported(reason=_("語彙にない文字を表すトークンがありません。"))
    table: list[Piece] = []
    for number, (text, score) in enumerate(stored):
        byte = _BYTE.fullmatch(text)
        if number == unknown:
            table.append(Piece(text, 0.0, TokenType.UNKNOWN))
        elif not byte or not definition["model"].get("byte_fallback"):
            table.append(Piece(text, score, TokenType.NORMAL))
        else:
            character = chr(int(byte[1], 16))
            # A space is written as its mark.
            is_written = "\0" < character < "\x80" and character != " " and character not in texts
            if model == "t5" and is_written:
                table.append(Piece(character, worst - UNKNOWN_PENALTY, TokenType.NORMAL))
            else:
                table.append(Piece(text, 0.0, TokenType.BYTE))
    added = definition.get("added_tokens") or []
    last = max((len(table) - 1, *(entry["id"] for entry in added)))
    if last >= vocabulary:
        reason = _("トークン番号 {number} がモデルの語彙数 {vocabulary} を超えています。").format(
            number=last, vocabulary=vocabulary
        )
        raise TokenizerUnsupported(reason=reason)
    table += [padding(number) for number in range(len(table), vocabulary)]
    for entry in added:
        if table[entry["id"]].type != TokenType.UNKNOWN:
            is_control = entry.get("special") or looks_special(entry["content"])
            kind = TokenType.CONTROL if is_control else TokenType.USER_DEFINED
            table[entry["id"]] = Piece(entry["content"], 0.0, kind)
    if model == "t5":
        return table
    scale = PLAMO2_UNKNOWN / (UNKNOWN_PENALTY - worst)
    # `plamo2` has spaces for marks, scores of its own scale, and finds nothing but text and bytes.
    return [
        Piece(piece.text.replace(MARK, " "), piece.score * scale, piece.type)
        if piece.type == TokenType.NORMAL
        else piece._replace(score=0.0 if piece.type == TokenType.BYTE else NEVER_FOUND)
        for piece in table
    ]
