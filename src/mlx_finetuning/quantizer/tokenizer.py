"""GGUF tokenizer metadata from the files of a Hugging Face folder.

Byte-level BPE here, SentencePiece-like ones in `spm`. The pre-tokenizer is recognised by its exact
definition; one that llama.cpp is not known to reproduce is an error, never a guess. Adds the chat
template and states `add_bos_token` explicitly, because llama.cpp's default differs per
pre-tokenizer.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from mlx_finetuning.errors import TokenizerUnsupported
from mlx_finetuning.quantizer import spm
from mlx_finetuning.quantizer.family import Family
from mlx_finetuning.utils import chat_template

SPECIAL = ("bos", "eos", "unk", "pad")

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+{suffix}"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*{suffix}"
)
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_SPLIT = rf"{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
QWEN2_SPLIT = rf"{_WORDS}|\p{{N}}|{_REST}"
QWEN35_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SLASHED_REST = _REST.replace(r"[\r\n]*|", r"[\r\n/]*|", 1)
GPT4O_SPLIT = (
    _CASED.replace("{suffix}", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?")
    + rf"|\p{{N}}{{1,3}}|{_SLASHED_REST}"
)
TEKKEN_SPLIT = _CASED.replace("{suffix}", "") + rf"|\p{{N}}|{_SLASHED_REST}"


@dataclass(frozen=True)
class PreTokenizer:
    """What decides on llama.cpp's `tokenizer.ggml.pre`."""

    steps: tuple[str, ...]
    whole_words_first: bool
    """`ignore_merges`: a word that is in the vocabulary is not split."""


KNOWN: dict[PreTokenizer, str] = {
    PreTokenizer((f"split {LLAMA3_SPLIT}", "bytes"), True): "llama-bpe",
    PreTokenizer((f"split {LLAMA3_SPLIT}", "bytes"), False): "smaug-bpe",
    PreTokenizer((f"split {QWEN2_SPLIT}", "bytes"), False): "qwen2",
    PreTokenizer((f"split {QWEN35_SPLIT}", "bytes"), False): "qwen35",
    PreTokenizer((f"split {GPT4O_SPLIT}", "bytes"), False): "gpt-4o",
    PreTokenizer((f"split {TEKKEN_SPLIT}", "bytes"), True): "tekken",
    PreTokenizer(("digits", "words and bytes"), False): "smollm",
    PreTokenizer(("words and bytes",), False): "gpt-2",
}


@dataclass(frozen=True)
class TokenizerMetadata:
    """The `tokenizer.*` part of a GGUF file."""

    model: str
    pre: str
    """Empty where `model` says it."""
    tokens: list[str]
    types: list[TokenType]
    special_ids: dict[str, int]
    """bos, eos, unk, pad → id; those that the model has."""
    add_bos: bool
    add_eos: bool
    chat_template: str | None
    merges: list[str] | None = None
    scores: list[float] | None = None
    add_space_prefix: bool | None = None
    compared_after: str = ""
    """A special token that must precede a text for llama.cpp to cut it alike; mostly none."""
    spaces_differ: bool = False
    """llama.cpp cuts a space at the start or after a special token unlike the original."""

    def comparable(self, text: str) -> str:
        """The text in a form in which llama.cpp can be held to the original's tokens."""
        if self.spaces_differ:
            text = self._spaces_after_special.sub(r"\1", text)
        return self.compared_after + text

    @functools.cached_property
    def _spaces_after_special(self) -> re.Pattern[str]:
        special = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
        pairs = zip(self.tokens, self.types, strict=True)
        texts = [re.escape(text) for text, kind in pairs if kind in special]
        return re.compile(f"({'|'.join(['^', *texts])}) +")


def read(folder: Path, vocabulary: int, family: Family) -> TokenizerMetadata:
    """The tokenizer of `folder`; `vocabulary` is the number of embedding rows.

    Raises TokenizerUnsupported.
    """
    definition = _definition(folder)
    is_spm = spm.is_one(definition)
    name = "default" if is_spm else _pre_tokenizer_name(definition)
    config = _json(folder / "tokenizer_config.json", optional=True)
    ids = _special_ids(definition, config, _json(folder / "config.json", optional=True))
    shared = (ids, *_added_around(definition, ids), _protected(_chat_template(folder, config)))
    if is_spm and family.tokenizer_model:
        return _with_merges(family.tokenizer_model, definition, vocabulary, *shared)
    if is_spm:
        return _like_sentencepiece(folder, definition, vocabulary, *shared)
    pre = (family.pre_tokenizers or {}).get(name, name)
    tokens, types = _tokens(definition, vocabulary)
    merges = [_merge(pair) for pair in definition["model"]["merges"]]
    return TokenizerMetadata("gpt2", pre, tokens, types, *shared, merges=merges)


def _like_sentencepiece(
    folder: Path,
    definition: dict[str, Any],
    vocabulary: int,
    ids: dict[str, int],
    add_bos: bool,
    add_eos: bool,
    template: str | None,
) -> TokenizerMetadata:
    pieces = spm.pieces(folder, definition, vocabulary)
    scheme = spm.prefix(definition)
    # llama.cpp puts the space before every text or before none. A conversation starts with a
    # special token, so a space before the first text only is a space before none.
    only_first = scheme == "first" and template is not None and "bos" in ids
    return TokenizerMetadata(
        "llama",
        "default",
        [text for text, _, _ in pieces],
        [kind for _, _, kind in pieces],
        ids,
        add_bos,
        add_eos,
        template,
        scores=[score for _, score, _ in pieces],
        add_space_prefix=scheme != "never" and not only_first,
        compared_after=pieces[ids["bos"]][0] if only_first else "",
        spaces_differ=scheme == "unless there",
    )


def _with_merges(
    model: str,
    definition: dict[str, Any],
    vocabulary: int,
    ids: dict[str, int],
    add_bos: bool,
    add_eos: bool,
    template: str | None,
) -> TokenizerMetadata:
    """For families whose tokenizer llama.cpp merges by rank; it then knows the pre-tokenizer."""
    if spm.prefix(definition) != "never":
        raise TokenizerUnsupported(reason="文の前に空白を足すトークナイザーです。")
    pieces = spm.merged_pieces(definition, vocabulary)
    return TokenizerMetadata(
        model,
        "",
        [text for text, _, _ in pieces],
        [kind for _, _, kind in pieces],
        ids,
        add_bos,
        add_eos,
        template,
        merges=[_merge(pair) for pair in definition["model"]["merges"]],
        scores=[score for _, score, _ in pieces],
        add_space_prefix=False,
    )


def _definition(folder: Path) -> dict[str, Any]:
    """`tokenizer.json`, or what transformers makes of a folder with SentencePiece's file."""
    stored = _json(folder / "tokenizer.json", optional=True)
    if stored and not spm.is_one(stored):
        return stored
    from transformers import AutoTokenizer

    try:
        # transformers rewrites some rules of older files: what it uses is what was trained with.
        found = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        definition: dict[str, Any] = json.loads(found.backend_tokenizer.to_str())
    except Exception as error:  # every class fails in its own way
        raise TokenizerUnsupported(reason=f"トークナイザーを読めません: {error}") from error
    return definition


def _json(path: Path, optional: bool = False) -> dict[str, Any]:
    if optional and not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerUnsupported(reason=f"{path.name} を読めません。") from error
    if not isinstance(value, dict):
        raise TokenizerUnsupported(reason=f"{path.name} の形が違います。")
    return value


# --- pre-tokenizer -----------------------------------------------------------------------


def _pre_tokenizer_name(definition: dict[str, Any]) -> str:
    model = definition.get("model") or {}
    if model.get("type") != "BPE":
        raise TokenizerUnsupported(reason=f"種類 {model.get('type')} は扱えません。")
    if definition.get("normalizer") not in (None, {"type": "NFC"}):
        raise TokenizerUnsupported(reason="正規化（normalizer）のあるトークナイザーです。")
    steps = tuple(_step(step) for step in _sequence(definition.get("pre_tokenizer")))
    found = PreTokenizer(steps, bool(model.get("ignore_merges", False)))
    if found not in KNOWN:
        described = " → ".join(steps) or "なし"
        raise TokenizerUnsupported(reason=f"分割の規則が既知のものと一致しません: {described}")
    return KNOWN[found]


def _sequence(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, dict):
        return []
    return value["pretokenizers"] if value.get("type") == "Sequence" else [value]


def _step(step: dict[str, Any]) -> str:
    """A step in words; anything not understood in full stays as its own JSON, and matches nothing."""
    match step:
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"} if (
            not step.get("invert")
        ):
            return f"split {pattern}"
        case {"type": "Digits", "individual_digits": True}:
            return "digits"
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return "words and bytes" if step.get("use_regex", True) else "bytes"
    return json.dumps(step, ensure_ascii=False)


# --- vocabulary --------------------------------------------------------------------------


def _tokens(definition: dict[str, Any], vocabulary: int) -> tuple[list[str], list[TokenType]]:
    """Every id's text and type; ids without a token become unused padding."""
    texts = {number: text for text, number in definition["model"]["vocab"].items()}
    added = {entry["id"]: entry for entry in definition.get("added_tokens", [])}
    texts |= {number: entry["content"] for number, entry in added.items()}
    if max(texts) >= vocabulary:
        reason = f"トークン番号 {max(texts)} がモデルの語彙数 {vocabulary} を超えています。"
        raise TokenizerUnsupported(reason=reason)
    if len(set(texts.values())) != len(texts):
        raise TokenizerUnsupported(reason="同じ文字列のトークンが2つあります。")
    tokens = [texts.get(number, f"[PAD{number}]") for number in range(vocabulary)]
    types = [_type(added.get(number), number in texts) for number in range(vocabulary)]
    return tokens, types


def _type(added: dict[str, Any] | None, exists: bool) -> TokenType:
    if not exists:
        return TokenType.UNUSED
    if added is None:
        return TokenType.NORMAL
    # llama.cpp's converter treats <|…|> as control tokens even where the folder forgot to.
    content = added["content"]
    looks_special = content.startswith("<|") and content.endswith("|>")
    return TokenType.CONTROL if added.get("special") or looks_special else TokenType.USER_DEFINED


def _merge(pair: str | list[str]) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)


# --- special tokens and template ---------------------------------------------------------


def _special_ids(
    definition: dict[str, Any], config: dict[str, Any], model_config: dict[str, Any]
) -> dict[str, int]:
    """From the tokenizer's own settings, else from the model's."""
    added = {entry["content"]: entry["id"] for entry in definition.get("added_tokens", [])}
    ids = {}
    for kind in SPECIAL:
        entry = config.get(f"{kind}_token")
        text = entry.get("content") if isinstance(entry, dict) else entry
        number = added.get(str(text), model_config.get(f"{kind}_token_id"))
        if isinstance(number, list):
            number = number[0] if number else None
        if isinstance(number, int):
            ids[kind] = number
    return ids


def _added_around(definition: dict[str, Any], ids: dict[str, int]) -> tuple[bool, bool]:
    """Whether the tokenizer itself puts bos before and eos after a text, found by trying."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(definition))
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a", add_special_tokens=True).ids
    before = full[0] == ids.get("bos") and full[0] != bare[0]
    after = full[-1] == ids.get("eos") and full[-1] != bare[-1]
    expected = full[:1] * before + bare + full[-1:] * after
    if full != expected:
        raise TokenizerUnsupported(reason="文の前後に付くトークンがbos・eosと違います。")
    return before, after


def _protected(template: str | None) -> str | None:
    return None if template is None else chat_template.protected(template)


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    """The template that transformers would use: the file before the setting."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        return named.get("default")
    return template
