"""A SentencePiece `tokenizer.model` as the definition of an equal tokenizer of `tokenizers`.

BPE and Unigram models; word and character models are not covered. How far the conversion is equal is
for `gate` to find out, by asking SentencePiece itself.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from mlx_finetuning.errors import TokenizerUnreadable

UNIGRAM, BPE = 1, 2
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Types of pieces in the protocol buffer."""
MARK = "▁"
"""SentencePiece's sign for a space."""


def read(path: Path) -> Any:
    """The file's protocol buffer (`ModelProto`). Raises TokenizerUnreadable."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        reason = f"{path.name} を読めません。"
        raise TokenizerUnreadable(folder=str(path.parent), reason=reason) from error
    if proto.trainer_spec.model_type not in (UNIGRAM, BPE) or not proto.pieces:
        reason = f"{path.name} は、扱える種類（BPE、Unigram）ではありません。"
        raise TokenizerUnreadable(folder=str(path.parent), reason=reason)
    return proto


def definition(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The definition, as in a `tokenizer.json`. config: the folder's `tokenizer_config.json`, for
    added tokens, bos and eos, and where spaces are put. Raises TokenizerUnreadable."""
    proto = read(path)
    pieces = [piece.piece for piece in proto.pieces]
    entries = _added(proto, config)
    normalizer, pre_tokenizer = _spaces(proto, config)
    byte_fallback = bool(proto.trainer_spec.byte_fallback)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": entries,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _around(pieces, proto, config),
        "decoder": _decoder(proto, byte_fallback),
        "model": _unigram(proto) if proto.trainer_spec.model_type == UNIGRAM else _bpe(proto),
    }


def _unigram(proto: Any) -> dict[str, Any]:
    return {
        "type": "Unigram",
        "unk_id": proto.trainer_spec.unk_id,
        "vocab": [[piece.piece, piece.score] for piece in proto.pieces],
        "byte_fallback": bool(proto.trainer_spec.byte_fallback),
    }


def _bpe(proto: Any) -> dict[str, Any]:
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
        "byte_fallback": bool(proto.trainer_spec.byte_fallback),
        "ignore_merges": False,
        "vocab": {piece.piece: number for number, piece in enumerate(proto.pieces)},
        "merges": [[text[:at], text[at:]] for _, at, text in merges],
    }


def _added(proto: Any, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Control and user-defined pieces, and what the folder's settings add to the vocabulary."""
    found: dict[int, dict[str, Any]] = {}
    for number, piece in enumerate(proto.pieces):
        if piece.type in (UNKNOWN, CONTROL):
            found[number] = _entry(number, piece.piece, special=True)
        elif piece.type == USER_DEFINED:
            found[number] = _entry(number, piece.piece.replace(MARK, " "), special=False)
    stored = config.get("added_tokens_decoder")
    for number, entry in (stored if isinstance(stored, dict) else {}).items():
        # Numbers beyond any vocabulary are not converted: Python refuses very long ones.
        is_id = str(number).isdecimal() and len(str(number)) < 10
        if is_id and isinstance(entry, dict) and entry.get("content"):
            given = {key: bool(value) for key, value in entry.items() if key in _FLAGS}
            found[int(number)] = {
                **_entry(int(number), str(entry["content"]), special=False),
                **given,
            }
    return [found[number] for number in sorted(found)]


_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def _entry(number: int, text: str, *, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(_FLAGS, False)
    return {"id": number, "content": text, **flags, "special": special}


def _spaces(proto: Any, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Normalizer and pre-tokenizer: the file's own rewriting, then spaces as marks."""
    spec = proto.normalizer_spec
    steps: list[dict[str, Any]] = []
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


def _around(pieces: list[str], proto: Any, config: dict[str, Any]) -> dict[str, Any]:
    """bos before and eos after a text, where the settings or the family's custom ask for them."""
    spec = proto.trainer_spec
    single: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    special = {}
    wanted = {
        "bos": (spec.bos_id, config.get("add_bos_token", True)),
        "eos": (spec.eos_id, config.get("add_eos_token", False)),
    }
    for name, (number, is_added) in wanted.items():
        if is_added and 0 <= number < len(pieces):
            text = pieces[number]
            token = {"SpecialToken": {"id": text, "type_id": 0}}
            single = [token, *single] if name == "bos" else [*single, token]
            special[text] = {"id": text, "ids": [number], "tokens": [text]}
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": pair,
        "special_tokens": special,
    }


def _decoder(proto: Any, byte_fallback: bool) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": MARK}, "content": " "},
        *([{"type": "ByteFallback"}] if byte_fallback else []),
        {"type": "Fuse"},
    ]
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}
