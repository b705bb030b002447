"""GGUF tokenizer metadata from the files of a Hugging Face folder.

Byte-level BPE here, SentencePiece's BPE in `spm`, Unigram in `unigram`. Adds the chat template and
states `add_bos_token` explicitly, because llama.cpp's default differs per pre-tokenizer.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gguf import TokenType

from mlx_finetuning.errors import TokenizerUnsupported
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.families.family import Family
from mlx_finetuning.quantizer.vocabulary import (
    control_names,
    pre_tokenizer,
    spaces,
    spm,
    unigram,
)
from mlx_finetuning.quantizer.vocabulary.spaces import Definition
from mlx_finetuning.quantizer.vocabulary.spm import Piece
from mlx_finetuning.tokenization import files
from mlx_finetuning.tokenization.files import TokenizerFiles
from mlx_finetuning.utils import chat_template

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
    makes_nfc: bool = False
    """The original composes texts (NFC) before it cuts them; llama.cpp does not."""

    def can_express(self, text: str, ids: Sequence[int]) -> bool:
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
        if self.makes_nfc:
            text = unicodedata.normalize("NFC", text)
        if self.spaces_differ:
            text = self._spaces_after_special.sub(r"\1", text)
        if self.model == "t5" and self.add_space_prefix:
            # llama.cpp puts no space before a stretch of spaces alone.
            text = self._spaces_alone.sub(r"\1", text)
        return self.compared_after + text

    def as_prompt(self, text: str) -> str:
        """A rendered conversation, as llama.cpp will get it."""
        return unicodedata.normalize("NFC", text) if self.makes_nfc else text

    # Patterns of thousands of tokens take long to compile, and re's own cache would drop them.

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


@dataclass(frozen=True)
class SpecialTokens:
    """What every kind of tokenizer has: special tokens and the template that uses them."""

    ids: dict[str, int]
    add_bos: bool
    add_eos: bool
    template: str | None

    @property
    def begins_conversations(self) -> bool:
        """A conversation starts with a special token."""
        return self.template is not None and "bos" in self.ids


def read(
    folder: Path, vocabulary: int, family: Family, chat: ChatFormat | None = None
) -> TokenizerMetadata:
    """The tokenizer of `folder`; `vocabulary` is the number of embedding rows.

    chat: what counts instead of the folder's chat template. Raises TokenizerUnreadable,
    TokenizerUnsupported.
    """
    stored = files.read(folder)
    try:
        metadata = _metadata(stored, vocabulary, family)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise TokenizerUnsupported(
            reason=_("{source} の形が違います。").format(source=stored.source)
        ) from error
    if chat is not None:
        ids = metadata.special_ids
        if chat.end != ids.get("eos"):
            # llama.cpp knows the usual ones by their names only.
            ids = {**ids, "eot": chat.end}
        template = chat_template.protected(chat.template)
        metadata = replace(metadata, special_ids=ids, chat_template=template)
    if len(set(metadata.tokens)) != len(metadata.tokens):
        # llama.cpp ends the process at two tokens of one text.
        raise TokenizerUnsupported(reason=_("同じ文字列のトークンが2つあります。"))
    return metadata


def _metadata(stored: TokenizerFiles, vocabulary: int, family: Family) -> TokenizerMetadata:
    definition = stored.definition
    ids = {name: number for name, number in stored.ids().items() if number < vocabulary}
    template = stored.chat_template
    template = None if template is None else chat_template.protected(template)
    special = SpecialTokens(ids, *_added_around(definition, ids), template)
    if unigram.is_unigram(definition):
        return _unigram(definition, vocabulary, special)
    if spm.has_byte_fallback(definition):
        prefix = spm.prefix(definition)
        if not family.tokenizer_model:
            pieces = spm.pieces(stored.folder, definition, vocabulary)
            return _with_scores("llama", pieces, prefix, special)
        # llama.cpp merges such a family's pairs by rank, and knows its pre-tokenizer.
        if prefix != "never":
            raise TokenizerUnsupported(reason=_("文の前に空白を足すトークナイザーです。"))
        pieces = spm.merged_pieces(definition, vocabulary)
        scored = _with_scores(family.tokenizer_model, pieces, prefix, special)
        return replace(scored, pre="", merges=_merges(definition))
    name = pre_tokenizer.name_of(definition)
    tokens, types = _byte_level_tokens(definition, vocabulary)
    return TokenizerMetadata(
        model="gpt2",
        pre=family.pre_tokenizers.get(name, name),
        tokens=tokens,
        types=types,
        special_ids=special.ids,
        add_bos=special.add_bos,
        add_eos=special.add_eos,
        chat_template=special.template,
        merges=_merges(definition),
        makes_nfc=pre_tokenizer.makes_nfc(definition),
    )


def _unigram(definition: Definition, vocabulary: int, special: SpecialTokens) -> TokenizerMetadata:
    scheme = spaces.of(definition)
    if scheme.merged and scheme.prefix == "never":
        raise TokenizerUnsupported(reason=_("続いた空白をまとめるトークナイザーです。"))
    only_first = scheme.prefix == "first" and special.begins_conversations
    has_prefix = scheme.prefix != "never" and not only_first
    model = "plamo2" if unigram.fits_plamo2(definition, scheme, has_prefix) else "t5"
    ids = {**special.ids, "unk": definition["model"].get("unk_id") or 0}
    pieces = unigram.pieces(definition, vocabulary, model)
    return replace(
        _with_scores(model, pieces, scheme.prefix, replace(special, ids=ids)),
        merges_spaces=scheme.merged if model == "t5" else None,
        charsmap=scheme.charsmap,
    )


def _with_scores(
    model: str, pieces: list[Piece], prefix: str, special: SpecialTokens
) -> TokenizerMetadata:
    """prefix: where the original puts a space before a text, as in `spaces.Spaces`."""
    # llama.cpp puts the space before every text or before none. A conversation starts with a
    # special token, so a space before the first text only is a space before none.
    only_first = prefix == "first" and special.begins_conversations
    return TokenizerMetadata(
        model=model,
        pre="default",
        tokens=[piece.text for piece in pieces],
        types=[piece.type for piece in pieces],
        special_ids=special.ids,
        add_bos=special.add_bos,
        add_eos=special.add_eos,
        chat_template=special.template,
        scores=[piece.score for piece in pieces],
        add_space_prefix=prefix != "never" and not only_first,
        compared_after=pieces[special.ids["bos"]].text if only_first else "",
        spaces_differ=prefix in ("unless there", "first") and not only_first,
        only_before_texts=prefix == "first" and not only_first,
    )


def _byte_level_tokens(
    definition: Definition, vocabulary: int
) -> tuple[list[str], list[TokenType]]:
    """Every id's text and type; ids without a token become unused padding."""
    texts = {number: text for text, number in definition["model"]["vocab"].items()}
    added = {entry["id"]: entry for entry in files.added(definition)}
    texts |= {number: entry["content"] for number, entry in added.items()}
    if max(texts) >= vocabulary:
        reason = _("トークン番号 {number} がモデルの語彙数 {vocabulary} を超えています。").format(
            number=max(texts), vocabulary=vocabulary
        )
        raise TokenizerUnsupported(reason=reason)
    types = dict.fromkeys(texts, TokenType.NORMAL)
    for number, entry in added.items():
        # llama.cpp's converter treats <|…|> as control tokens even where the folder forgot to.
        content = entry["content"]
        looks_special = content.startswith("<|") and content.endswith("|>")
        is_control = entry.get("special") or looks_special
        types[number] = TokenType.CONTROL if is_control else TokenType.USER_DEFINED
    ids = range(vocabulary)
    return (
        [texts.get(number, f"[PAD{number}]") for number in ids],
        [types.get(number, TokenType.UNUSED) for number in ids],
    )


def _merges(definition: Definition) -> list[str]:
    """Older files hold a pair as one string, newer ones as a list."""
    pairs = definition["model"]["merges"]
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]


def _added_around(definition: Definition, ids: dict[str, int]) -> tuple[bool, bool]:
    """Whether the tokenizer itself puts bos before and eos after a text, found by trying."""
    from tokenizers import Tokenizer

    # What is put around a text does not depend on the vocabulary, which takes seconds to read.
    letter = max(files.token_ids(definition).values()) + 1
    model = {"type": "WordLevel", "vocab": {"a": letter}, "unk_token": "a"}
    without = dict.fromkeys(("normalizer", "pre_tokenizer", "decoder", "truncation", "padding"))
    small = {**definition, **without, "added_tokens": [], "model": model}
    try:
        tokenizer = Tokenizer.from_str(json.dumps(small))
        bare = tokenizer.encode("a", add_special_tokens=False).ids
        full = tokenizer.encode("a", add_special_tokens=True).ids
    except Exception as error:  # the library raises nothing more exact
        raise TokenizerUnsupported(
            reason=_("トークナイザーを使えません: {error}").format(error=error)
        ) from error
    before = full[0] == ids.get("bos") and full[0] != bare[0]
    after = full[-1] == ids.get("eos") and full[-1] != bare[-1]
    expected = full[:1] * before + bare + full[-1:] * after
    if full != expected:
        raise TokenizerUnsupported(reason=_("文の前後に付くトークンがbos・eosと違います。"))
    return before, after
