"""SentencePiece-like tokenizers (byte fallback, spaces as ▁): Llama 2, Mistral, Gemma, Phi-3.

llama.cpp merges the pair with the highest score first, so the file needs a score for every token.
They come from `tokenizer.model`, or, where a folder has none, from the order of the merges.
Unigram models are in `ugm`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gguf import TokenType

from mlx_finetuning.errors import TokenizerUnsupported
from mlx_finetuning.quantizer.vocabulary import spaces
from mlx_finetuning.tokenization import spm_model

MODEL = "tokenizer.model"
PADDING_SCORE = -10000.0
ADDED_SCORE = -1000.0

Piece = tuple[str, float, TokenType]


def is_one(definition: dict[str, Any]) -> bool:
    """Whether a `tokenizer.json` describes such a tokenizer."""
    model = definition.get("model") or {}
    return model.get("type") == "BPE" and bool(model.get("byte_fallback"))


def prefix(definition: dict[str, Any]) -> str:
    """Where a space is put before a text: `Spaces.prefix`. Raises TokenizerUnsupported."""
    found = spaces.of(definition)
    if found.merged or found.charsmap is not None:
        raise TokenizerUnsupported(reason="文字や空白を書き換えてから切るトークナイザーです。")
    return found.prefix


def pieces(folder: Path, definition: dict[str, Any], vocabulary: int) -> list[Piece]:
    """Text, score and type of every id; ids without a token become unused padding."""
    found = _scored(folder, definition)[:vocabulary]
    texts = {text for text, _, _ in found}
    missing = sum(not {f"<0x{byte:02X}>", chr(byte)} & texts for byte in range(256))
    if missing:
        # llama.cpp ends the process when it looks for one of these in vain.
        raise TokenizerUnsupported(reason=f"バイトを表すトークンが{missing}個足りません。")
    padding = range(len(found), vocabulary)
    found += [(f"[PAD{number}]", PADDING_SCORE, TokenType.UNUSED) for number in padding]
    for entry in definition.get("added_tokens", []):
        # Tokens beyond the embedding (Gemma's <mask>) can never have been used.
        if entry["id"] < vocabulary:
            found[entry["id"]] = _added(entry, found[entry["id"]])
    return found


def _scored(folder: Path, definition: dict[str, Any]) -> list[Piece]:
    """By `tokenizer.model` where it is of this tokenizer, else by the order of the merges."""
    file = folder / MODEL
    if not file.exists():
        return _from_merges(definition)
    stored = list(_stored(file))
    numbers = definition["model"]["vocab"]
    added = {entry["id"] for entry in definition.get("added_tokens") or []}
    same = all(
        number in added or (number < len(stored) and stored[number][0] == text)
        for text, number in numbers.items()
    )
    return stored if same else _from_merges(definition)


VISIBLE = (
    "<|channel>",
    "<channel|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    '<|"|>',
)
"""Special tokens of Gemma 4 that llama.cpp writes out, for its reader of calls needs them."""


def merged_pieces(definition: dict[str, Any], vocabulary: int) -> list[Piece]:
    """The same for a tokenizer whose pairs are merged by rank; its scores mean nothing."""
    texts = {number: text for text, number in definition["model"]["vocab"].items()}
    added = {entry["id"]: entry for entry in definition.get("added_tokens", [])}
    texts |= {number: entry["content"] for number, entry in added.items()}
    return [
        (text, ADDED_SCORE, _merged_kind(text, added.get(number)))
        if (text := texts.get(number)) is not None
        else (f"[PAD{number}]", PADDING_SCORE, TokenType.UNUSED)
        for number in range(vocabulary)
    ]


def _merged_kind(text: str, added: dict[str, Any] | None) -> TokenType:
    if _is_byte(text):
        return TokenType.BYTE
    if added is None:
        return TokenType.NORMAL
    if text in VISIBLE:
        return TokenType.USER_DEFINED
    if added.get("special") or looks_special(text):
        return TokenType.CONTROL
    # Runs of spaces and of newlines are found by merging.
    return TokenType.NORMAL if not text.strip("▁\n") else TokenType.USER_DEFINED


def _added(entry: dict[str, Any], stored: Piece) -> Piece:
    text = entry["content"]
    if stored[2] == TokenType.UNKNOWN:
        return stored
    if entry.get("special") or looks_special(text):
        return text, ADDED_SCORE, TokenType.CONTROL
    return text.replace("▁", " "), ADDED_SCORE, TokenType.USER_DEFINED


def looks_special(text: str) -> bool:
    """As llama.cpp's converter sees it, even where the folder forgot to say so."""
    framed = (("<|", "|>"), ("<unused", ">"))
    known = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
    return text in known or any(text.startswith(a) and text.endswith(b) for a, b in framed)


# --- scores ------------------------------------------------------------------------------


def _from_merges(definition: dict[str, Any]) -> list[Piece]:
    model = definition["model"]
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(model["merges"]):
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        ranks.setdefault(left + right, rank)
    texts = {number: text for text, number in model["vocab"].items()}
    unknown = model.get("unk_token")
    return [_piece(texts.get(number), ranks, unknown, number) for number in range(max(texts) + 1)]


def _piece(text: str | None, ranks: dict[str, int], unknown: str | None, number: int) -> Piece:
    if text is None:
        return f"[PAD{number}]", PADDING_SCORE, TokenType.UNUSED
    if text == unknown or text == "<unk>":
        return text, 0.0, TokenType.UNKNOWN
    if _is_byte(text):
        return text, 0.0, TokenType.BYTE
    return text, -float(ranks.get(text, len(ranks))), TokenType.NORMAL


def _is_byte(text: str) -> bool:
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")


def _stored(path: Path) -> Iterator[Piece]:
    """The pieces of a SentencePiece model file. Raises TokenizerUnreadable."""
    for piece in spm_model.read(path).pieces:
        kind = TokenType(piece.type)
        # A piece that users defined is found by its score like any other.
        kind = TokenType.NORMAL if kind == TokenType.USER_DEFINED else kind
        yield piece.piece, piece.score, kind
