"""GGUF tokenizer metadata from the files of a Hugging Face folder.

Byte-level BPE here, SentencePiece's BPE in `spm`, Unigram in `ugm`. The pre-tokenizer is recognised by
its exact definition; one that llama.cpp is not known to reproduce is an error, never a guess. Adds
the chat template and states `add_bos_token` explicitly, because llama.cpp's default differs per
pre-tokenizer.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gguf import TokenType

from mlx_finetuning.errors import TokenizerUnsupported
from mlx_finetuning.quantizer.families.family import Family
from mlx_finetuning.quantizer.vocabulary import control_names, spaces, spm, unigram
from mlx_finetuning.quantizer.vocabulary.spm import Piece
from mlx_finetuning.tokenization import files
from mlx_finetuning.tokenization.files import TokenizerFiles
from mlx_finetuning.utils import chat_template

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
DEEPSEEK3_SPLITS = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
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
    PreTokenizer((*(f"split {one}" for one in DEEPSEEK3_SPLITS), "bytes"), False): "deepseek-v3",
    PreTokenizer(("digits", "words and bytes"), False): "smollm",
    PreTokenizer(("words and bytes",), False): "gpt-2",
}


_SPECIAL_TYPES = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)


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
    merges_spaces: bool | None = None
    """`remove_extra_whitespaces`."""
    charsmap: bytes | None = None
    """`precompiled_charsmap`."""
    compared_after: str = ""
    """A special token that must precede a text for llama.cpp to cut it alike; mostly none."""
    spaces_differ: bool = False
    """llama.cpp cuts a space at the start or after a special token unlike the original."""
    only_before_texts: bool = False
    """The original puts a space before a text, but not after special tokens; llama.cpp does."""
    composes: bool = False
    """The original composes texts (NFC) before it cuts them; llama.cpp does not."""

    def says(self, text: str, ids: Sequence[int]) -> bool:
        """Whether llama.cpp can give these ids, the original's, for that text: whether every
        character of it is in the vocabulary that the file has."""
        if self.model == "plamo2":
            # Spaces are written as such, and llama.cpp passes over a byte order mark.
            return spaces.MARK not in text and "\ufeff" not in text
        if self.model != "t5":
            return True
        return all(self.types[number] != TokenType.BYTE for number in ids)

    def named_controls(self, text: str) -> list[str]:
        """The texts of ordinary tokens in `text` that llama.cpp takes for control tokens."""
        return [name for name in self._controls_by_name if name in text]

    @functools.cached_property
    def _controls_by_name(self) -> tuple[str, ...]:
        return tuple(
            text
            for text, kind in zip(self.tokens, self.types, strict=True)
            if (text in control_names.CONTROLS and kind not in _SPECIAL_TYPES)
            # A Unigram model finds the name of a byte as that byte's piece.
            or (kind == TokenType.BYTE and self.model in ("t5", "plamo2"))
            # llama.cpp puts a space after it, where the original puts one before a text's start.
            or (self.only_before_texts and kind in _SPECIAL_TYPES)
        )

    def comparable(self, text: str) -> str:
        """The text in a form in which llama.cpp can be held to the original's tokens."""
        if self.composes:
            text = unicodedata.normalize("NFC", text)
        if self.spaces_differ:
            text = self._spaces_after_special.sub(r"\1", text)
        if self.model == "t5" and self.add_space_prefix:
            # llama.cpp puts no space before a stretch of spaces alone.
            text = self._spaces_alone.sub(r"\1", text)
        return self.compared_after + text

    def as_asked(self, text: str) -> str:
        """A rendered conversation, as llama.cpp will get it."""
        return unicodedata.normalize("NFC", text) if self.composes else text

    @functools.cached_property
    def _spaces_after_special(self) -> re.Pattern[str]:
        return re.compile(f"({self._special}) +")

    @functools.cached_property
    def _spaces_alone(self) -> re.Pattern[str]:
        return re.compile(f"({self._special}) +(?={self._special.replace('^', '$', 1)})")

    @functools.cached_property
    def _special(self) -> str:
        """A pattern for the start of a text and every special token."""
        pairs = zip(self.tokens, self.types, strict=True)
        texts = [re.escape(text) for text, kind in pairs if kind in _SPECIAL_TYPES]
        return "|".join(["^", *texts])


@dataclass(frozen=True)
class ChatFormat:
    """How a run converses, where that is not as its base's folder says."""

    template: str
    end: int
    """The token that ends an answer."""


def read(
    folder: Path, vocabulary: int, family: Family, chat: ChatFormat | None = None
) -> TokenizerMetadata:
    """The tokenizer of `folder`; `vocabulary` is the number of embedding rows.

    chat: what counts instead of the folder's chat template. Raises TokenizerUnreadable, TokenizerUnsupported.
    """
    found = files.read(folder)
    try:
        metadata = _read(found, vocabulary, family)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise TokenizerUnsupported(reason=f"{found.source} の形が違います。") from error
    if chat is not None:
        metadata = _conversing(metadata, chat)
    if len(set(metadata.tokens)) != len(metadata.tokens):
        # llama.cpp ends the process at two tokens of one text.
        raise TokenizerUnsupported(reason="同じ文字列のトークンが2つあります。")
    return metadata


def _conversing(metadata: TokenizerMetadata, chat: ChatFormat) -> TokenizerMetadata:
    ids = metadata.special_ids
    if chat.end != ids.get("eos"):
        # llama.cpp knows the usual ones by their names only.
        ids = {**ids, "eot": chat.end}
    return replace(metadata, special_ids=ids, chat_template=_protected(chat.template))


def _read(found: TokenizerFiles, vocabulary: int, family: Family) -> TokenizerMetadata:
    definition = found.definition
    ids = {name: number for name, number in found.ids().items() if number < vocabulary}
    shared = Shared(ids, *_added_around(definition, ids), _protected(found.chat_template))
    if unigram.is_one(definition):
        return _unigram(definition, vocabulary, shared)
    if spm.is_one(definition) and family.tokenizer_model:
        return _with_merges(family.tokenizer_model, definition, vocabulary, shared)
    if spm.is_one(definition):
        pieces = spm.pieces(found.folder, definition, vocabulary)
        return _scored("llama", pieces, spm.prefix(definition), shared)
    name = _pre_tokenizer_name(definition)
    pre = family.pre_tokenizers.get(name, name)
    tokens, types = _tokens(definition, vocabulary)
    merges = [_merge(pair) for pair in definition["model"]["merges"]]
    return TokenizerMetadata(
        "gpt2",
        pre,
        tokens,
        types,
        shared.ids,
        shared.add_bos,
        shared.add_eos,
        shared.template,
        merges=merges,
        composes=_composes(definition),
    )


@dataclass(frozen=True)
class Shared:
    """What every kind of tokenizer has."""

    ids: dict[str, int]
    add_bos: bool
    add_eos: bool
    template: str | None

    @property
    def begins_conversations(self) -> bool:
        """A conversation starts with a special token."""
        return self.template is not None and "bos" in self.ids


def _unigram(definition: dict[str, Any], vocabulary: int, shared: Shared) -> TokenizerMetadata:
    scheme = spaces.of(definition)
    only_first = scheme.prefix == "first" and shared.begins_conversations
    if scheme.merged and scheme.prefix == "never":
        raise TokenizerUnsupported(reason="続いた空白をまとめるトークナイザーです。")
    has_prefix = scheme.prefix != "never" and not only_first
    model = "plamo2" if unigram.fits_plamo2(definition, scheme, has_prefix) else "t5"
    ids = {**shared.ids, "unk": definition["model"].get("unk_id") or 0}
    return _scored(
        model,
        unigram.pieces(definition, vocabulary, model),
        scheme.prefix,
        replace(shared, ids=ids),
        merges_spaces=scheme.merged if model == "t5" else None,
        charsmap=scheme.charsmap,
    )


def _scored(
    model: str, pieces: list[Piece], scheme: str, shared: Shared, **more: Any
) -> TokenizerMetadata:
    # llama.cpp puts the space before every text or before none. A conversation starts with a
    # special token, so a space before the first text only is a space before none.
    only_first = scheme == "first" and shared.begins_conversations
    return TokenizerMetadata(
        model,
        "default",
        [text for text, _, _ in pieces],
        [kind for _, _, kind in pieces],
        shared.ids,
        shared.add_bos,
        shared.add_eos,
        shared.template,
        scores=[score for _, score, _ in pieces],
        add_space_prefix=scheme != "never" and not only_first,
        compared_after=pieces[shared.ids["bos"]][0] if only_first else "",
        spaces_differ=scheme in ("unless there", "first") and not only_first,
        only_before_texts=scheme == "first" and not only_first,
        **more,
    )


def _with_merges(
    model: str, definition: dict[str, Any], vocabulary: int, shared: Shared
) -> TokenizerMetadata:
    """For families whose tokenizer llama.cpp merges by rank; it then knows the pre-tokenizer."""
    if spm.prefix(definition) != "never":
        raise TokenizerUnsupported(reason="文の前に空白を足すトークナイザーです。")
    pieces = spm.merged_pieces(definition, vocabulary)
    scored = _scored(model, pieces, "never", shared)
    merges = [_merge(pair) for pair in definition["model"]["merges"]]
    return replace(scored, pre="", merges=merges)


# --- pre-tokenizer -----------------------------------------------------------------------


def _pre_tokenizer_name(definition: dict[str, Any]) -> str:
    model = definition["model"]
    if model.get("type") != "BPE":
        raise TokenizerUnsupported(reason=f"種類 {model.get('type')} は扱えません。")
    if spaces.flat(definition.get("normalizer"), "normalizers") not in ([], [_COMPOSING]):
        raise TokenizerUnsupported(
            reason="文字を書き換えてから切る（normalizer）トークナイザーです。"
        )
    cutting = spaces.flat(definition.get("pre_tokenizer"), "pretokenizers")
    steps = tuple(_step(step) for step in cutting)
    if steps == (f"split {GPT2_SPLIT}", "bytes"):
        steps = ("words and bytes",)
    found = PreTokenizer(steps, bool(model.get("ignore_merges", False)))
    if found not in KNOWN:
        described = " → ".join(steps) or "なし"
        raise TokenizerUnsupported(reason=f"分割の規則が既知のものと一致しません: {described}")
    return KNOWN[found]


_COMPOSING = {"type": "NFC"}


def _composes(definition: dict[str, Any]) -> bool:
    return _COMPOSING in spaces.flat(definition.get("normalizer"), "normalizers")


def _step(step: dict[str, Any]) -> str:
    """A step in words; anything not understood in full stays as its own JSON, and matches nothing."""
    match step:
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": behavior}:
            written = _canonical(pattern)
            if written == r"\p{N}" and behavior == "Isolated":
                return "digits"
            # Where every character is part of a match, what is between matches is nothing.
            keeps = behavior == "Removed" and step.get("invert") and written in COVERING
            if keeps or (behavior == "Isolated" and not step.get("invert")):
                return f"split {written}"
        case {"type": "Digits", "individual_digits": True}:
            return "digits"
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return "words and bytes" if step.get("use_regex", True) else "bytes"
    return json.dumps(step, ensure_ascii=False)


COVERING = frozenset(
    (LLAMA3_SPLIT, QWEN2_SPLIT, QWEN35_SPLIT, GPT4O_SPLIT, TEKKEN_SPLIT, GPT2_SPLIT)
)
"""Patterns whose matches cover every text."""
_SAME = (
    ("\r", r"\r"),
    ("\n", r"\n"),
    (r"'(?i:[sdmt]|ll|ve|re)", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"),
    # What follows can match nothing of what these took, so giving it back changes nothing.
    (r"]?+\p{L}", r"]?\p{L}"),
    (r"]++[\r\n", r"]+[\r\n"),
    (r"\s*[\r\n]|", r"\s*[\r\n]+|"),
)
"""Ways to write the same pattern: as found, as it is written here."""


def _canonical(pattern: str) -> str:
    for found, written in _SAME:
        pattern = pattern.replace(found, written)
    return pattern


# --- vocabulary --------------------------------------------------------------------------


def _tokens(definition: dict[str, Any], vocabulary: int) -> tuple[list[str], list[TokenType]]:
    """Every id's text and type; ids without a token become unused padding."""
    texts = {number: text for text, number in definition["model"]["vocab"].items()}
    added = {entry["id"]: entry for entry in files.added(definition)}
    texts |= {number: entry["content"] for number, entry in added.items()}
    if max(texts) >= vocabulary:
        reason = f"トークン番号 {max(texts)} がモデルの語彙数 {vocabulary} を超えています。"
        raise TokenizerUnsupported(reason=reason)
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


def _added_around(definition: dict[str, Any], ids: dict[str, int]) -> tuple[bool, bool]:
    """Whether the tokenizer itself puts bos before and eos after a text, found by trying."""
    from tokenizers import Tokenizer

    # What is put around a text does not depend on the vocabulary, which takes seconds to read.
    letter = max(files.token_ids(definition).values()) + 1
    model = {"type": "WordLevel", "vocab": {"a": letter}, "unk_token": "a"}
    cutting = dict.fromkeys(("normalizer", "pre_tokenizer", "decoder", "truncation", "padding"))
    outline = {**definition, **cutting, "added_tokens": [], "model": model}
    try:
        tokenizer = Tokenizer.from_str(json.dumps(outline))
        bare = tokenizer.encode("a", add_special_tokens=False).ids
        full = tokenizer.encode("a", add_special_tokens=True).ids
    except Exception as error:  # the library raises nothing more exact
        raise TokenizerUnsupported(reason=f"トークナイザーを使えません: {error}") from error
    before = full[0] == ids.get("bos") and full[0] != bare[0]
    after = full[-1] == ids.get("eos") and full[-1] != bare[-1]
    expected = full[:1] * before + bare + full[-1:] * after
    if full != expected:
        raise TokenizerUnsupported(reason="文の前後に付くトークンがbos・eosと違います。")
    return before, after


def _protected(template: str | None) -> str | None:
    return None if template is None else chat_template.protected(template)
