"""SentencePiece-like tokenizers (byte fallback, spaces as ▁): Llama 2, Mistral, Gemma, Phi-3.

llama.cpp merges the pair with the highest score first, so the file needs a score for every token.
They come from `tokenizer.model`, or, where a folder has none, from the order of the merges.
Unigram models are in `unigram`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gguf import TokenType

from mlx_finetuning.errors import TokenizerUnsupported
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.vocabulary import spaces
from mlx_finetuning.quantizer.vocabulary.spaces import Definition
from mlx_finetuning.tokenization import spm_model

MODEL = "tokenizer.model"
PADDING_SCORE = -10000.0
ADDED_SCORE = -1000.0


class Piece(NamedTuple):
    """One entry of a SentencePiece-like vocabulary."""

    text: str
    score: float
    type: TokenType


def padding(number: int) -> Piece:
    """For an id without a token."""
    return Piece(f"[PAD{number}]", PADDING_SCORE, TokenType.UNUSED)


def has_byte_fallback(definition: Definition) -> bool:
    """Whether a `tokenizer.json` describes such a tokenizer: BPE that writes unknown characters as bytes."""
    model = definition.get("model") or {}
    return model.get("type") == "BPE" and bool(model.get("byte_fallback"))


def prefix(definition: Definition) -> str:
    """Where a space is put before a text: `Spaces.prefix`. Raises TokenizerUnsupported."""
    scheme = spaces.of(definition)
    if scheme.merged or scheme.charsmap is not None:
        raise TokenizerUnsupported(reason=_("文字や空白を書き換えてから切るトークナイザーです。"))
    return scheme.prefix


def pieces(folder: Path, definition: Definition, vocabulary: int) -> list[Piece]:
    """Text, score and type of every id; ids without a token become unused padding."""
    table = _scored(folder, definition)[:vocabulary]
    texts = {piece.text for piece in table}
    missing = sum(not {f"<0x{byte:02X}>", chr(byte)} & texts for byte in range(256))
    if missing:
        # llama.cpp ends the process when it looks for one of these in vain.
        raise TokenizerUnsupported(
            reason=_("バイトを表すトークンが{missing}個足りません。").format(missing=missing)
        )
    table += [padding(number) for number in range(len(table), vocabulary)]
    for entry in definition.get("added_tokens", []):
        number, text = entry["id"], entry["content"]
        # Tokens beyond the embedding (Gemma's <mask>) can never have been used.
        if number >= vocabulary or table[number].type == TokenType.UNKNOWN:
            continue
        if entry.get("special") or looks_special(text):
            table[number] = Piece(text, ADDED_SCORE, TokenType.CONTROL)
        else:
            text = text.replace("▁", " ")
            table[number] = Piece(text, ADDED_SCORE, TokenType.USER_DEFINED)
    return table


def _scored(folder: Path, definition: Definition) -> list[Piece]:
    """By `tokenizer.model` where it is of this tokenizer, else by the order of the merges."""
    file = folder / MODEL
    if not file.exists():
        return _from_merges(definition)
    stored = []
    for piece in spm_model.read(file).pieces:
        kind = TokenType(piece.type)
        # A piece that users defined is found by its score like any other.
        kind = TokenType.NORMAL if kind == TokenType.USER_DEFINED else kind
        stored.append(Piece(piece.piece, piece.score, kind))
    added = {entry["id"] for entry in definition.get("added_tokens") or []}
    is_same = all(
        number in added or (number < len(stored) and stored[number].text == text)
        for text, number in definition["model"]["vocab"].items()
    )
    return stored if is_same else _from_merges(definition)


def _from_merges(definition: Definition) -> list[Piece]:
    """The earlier a pair is merged, the higher its score."""
    model = definition["model"]
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(model["merges"]):
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        ranks.setdefault(left + right, rank)
    texts = {number: text for text, number in model["vocab"].items()}
    table = []
    for number in range(max(texts) + 1):
        text = texts.get(number)
        if text is None:
            table.append(padding(number))
        elif text in (model.get("unk_token"), "<unk>"):
            table.append(Piece(text, 0.0, TokenType.UNKNOWN))
        elif is_byte(text):
            table.append(Piece(text, 0.0, TokenType.BYTE))
        else:
            table.append(Piece(text, -float(ranks.get(text, len(ranks))), TokenType.NORMAL))
    return table


VISIBLE = (
    *("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>"),
    *("<|tool_response>", "<tool_response|>", '<|"|>'),
)
"""Special tokens of Gemma 4 that llama.cpp writes out, for its reader of calls needs them."""


def merged_pieces(definition: Definition, vocabulary: int) -> list[Piece]:
    """The same for a tokenizer whose pairs are merged by rank; its scores mean nothing."""
    texts = {number: text for text, number in definition["model"]["vocab"].items()}
    added = {entry["id"]: entry for entry in definition.get("added_tokens", [])}
    texts |= {number: entry["content"] for number, entry in added.items()}
    return [
        Piece(texts[number], ADDED_SCORE, _merged_type(texts[number], added.get(number)))
        if number in texts
        else padding(number)
        for number in range(vocabulary)
    ]


def _merged_type(text: str, added: JsonObject | None) -> TokenType:
    if is_byte(text):
        return TokenType.BYTE
    if added is None:
        return TokenType.NORMAL
    if text in VISIBLE:
        return TokenType.USER_DEFINED
    if added.get("special") or looks_special(text):
        return TokenType.CONTROL
    # Runs of spaces and of newlines are found by merging.
    return TokenType.NORMAL if not text.strip("▁\n") else TokenType.USER_DEFINED


def looks_special(text: str) -> bool:
    """As llama.cpp's converter sees it, even where the folder forgot to say so."""
    if text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]"):
        return True
    frames = (("<|", "|>"), ("<unused", ">"))
    return any(text.startswith(start) and text.endswith(end) for start, end in frames)


def is_byte(text: str) -> bool:
    """Whether a piece stands for one byte: `<0x0A>`."""
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")
