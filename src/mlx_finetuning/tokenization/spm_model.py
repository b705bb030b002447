"""A SentencePiece `tokenizer.model` as the definition of an equal tokenizer of `tokenizers`.

BPE and Unigram models; word and character models are not covered. How far the conversion is equal is
for `gate` to find out, by asking SentencePiece itself.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_finetuning.errors import TokenizerUnreadable
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import _

Definition = JsonObject
"""The content of a `tokenizer.json`, or an object in it."""
UNIGRAM, BPE = 1, 2
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Types of pieces in the protocol buffer."""
MARK = "▁"
"""SentencePiece's sign for a space."""
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
"""Of an added token."""


def read(path: Path) -> Any:
    """The file's protocol buffer (`ModelProto`). Raises TokenizerUnreadable."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        reason = _("{name} を読めません。").format(name=path.name)
        raise TokenizerUnreadable(folder=str(path.parent), reason=reason) from error
    if proto.trainer_spec.model_type not in (UNIGRAM, BPE) or not proto.pieces:
        reason = _("{name} は、扱える種類（BPE、Unigram）ではありません。").format(name=path.name)
        raise TokenizerUnreadable(folder=str(path.parent), reason=reason)
    return proto


def definition(path: Path, config: JsonObject) -> Definition:
    """The definition, as in a `tokenizer.json`. config: the folder's `tokenizer_config.json`, for
    added tokens, bos and eos, and where spaces are put. Raises TokenizerUnreadable."""
    proto = read(path)
    byte_fallback = bool(proto.trainer_spec.byte_fallback)
    if proto.trainer_spec.model_type == BPE:
        model = _bpe(proto, byte_fallback)
    else:
        model = {
            "type": "Unigram",
            "unk_id": proto.trainer_spec.unk_id,
            "vocab": [[piece.piece, piece.score] for piece in proto.pieces],
            "byte_fallback": byte_fallback,
        }
    normalizer, pre_tokenizer = _spaces(proto, config)
    decoders: list[Definition] = [
        {"type": "Replace", "pattern": {"String": MARK}, "content": " "},
        *([{"type": "ByteFallback"}] if byte_fallback else []),
        {"type": "Fuse"},
    ]
    if proto.normalizer_spec.add_dummy_prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(proto, config),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _bos_and_eos(proto, config),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model,
    }


def _bpe(proto: Any, byte_fallback: bool) -> Definition:
    """SentencePiece merges the pair whose result has the highest score; ranks say the same."""
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == NORMAL}
    merges = [
        (-score, at, text)
        for text, score in scores.items()
        for at in range(1, len(text))
        if text[:at] in scores and text[at:] in scores
    ]
    merges.sort(key=lambda merge: merge[0])
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": proto.trainer_spec.unk_piece or "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": byte_fallback,
        "ignore_merges": False,
        "vocab": {piece.piece: number for number, piece in enumerate(proto.pieces)},
        "merges": [[text[:at], text[at:]] for __, at, text in merges],
    }


def _added_tokens(proto: Any, config: JsonObject) -> list[Definition]:
    """Control and user-defined pieces, and what the folder's settings add to the vocabulary."""

    def entry(number: int, text: str, flags: Mapping[str, bool]) -> Definition:
        return {"id": number, "content": text, **dict.fromkeys(_FLAGS, False), **flags}

    entries: dict[int, Definition] = {}
    for number, piece in enumerate(proto.pieces):
        if piece.type in (UNKNOWN, CONTROL):
            entries[number] = entry(number, piece.piece, {"special": True})
        elif piece.type == USER_DEFINED:
            entries[number] = entry(number, piece.piece.replace(MARK, " "), {})
    stored = config.get("added_tokens_decoder")
    for key, token in (stored if isinstance(stored, dict) else {}).items():
        # Numbers beyond any vocabulary are not converted: Python refuses very long ones.
        is_id = str(key).isdecimal() and len(str(key)) < 10
        if is_id and isinstance(token, dict) and token.get("content"):
            flags = {name: bool(value) for name, value in token.items() if name in _FLAGS}
            entries[int(key)] = entry(int(key), str(token["content"]), flags)
    return [entries[number] for number in sorted(entries)]


def _spaces(proto: Any, config: JsonObject) -> tuple[Definition, Definition | None]:
    """Normalizer and pre-tokenizer: the file's own rewriting, then spaces as marks."""
    spec = proto.normalizer_spec
    steps: list[Definition] = []
    if spec.precompiled_charsmap:
        packed = base64.b64encode(spec.precompiled_charsmap).decode("ascii")
        steps.append({"type": "Precompiled", "precompiled_charsmap": packed})
    if spec.remove_extra_whitespaces:
        # Spaces only: line ends stay, unlike with the step called Strip.
        steps.append({"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    # Older folders put the space before every stretch of text, newer ones before the whole only.
    is_legacy = config.get("legacy") is not False
    if spec.add_dummy_prefix and is_legacy:
        steps.append({"type": "Prepend", "prepend": MARK})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": MARK})
    metaspace = {
        "type": "Metaspace",
        "replacement": MARK,
        "prepend_scheme": "first",
        "split": False,
    }
    splits = metaspace if spec.add_dummy_prefix and not is_legacy else None
    return {"type": "Sequence", "normalizers": steps}, splits


def _bos_and_eos(proto: Any, config: JsonObject) -> Definition:
    """bos before and eos after a text, where the settings or the family's custom ask for them."""
    spec, pieces = proto.trainer_spec, proto.pieces
    single: list[Definition] = [{"Sequence": {"id": "A", "type_id": 0}}]
    special = {}
    wanted = {
        "bos": (spec.bos_id, config.get("add_bos_token", True)),
        "eos": (spec.eos_id, config.get("add_eos_token", False)),
    }
    for name, (number, is_added) in wanted.items():
        if is_added and 0 <= number < len(pieces):
            text = pieces[number].piece
            token = {"SpecialToken": {"id": text, "type_id": 0}}
            single = [token, *single] if name == "bos" else [*single, token]
            special[text] = {"id": text, "ids": [number], "tokens": [text]}
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": special,
    }
