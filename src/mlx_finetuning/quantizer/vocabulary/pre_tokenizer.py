"""Recognises the pre-tokenizer of byte-level BPE by its exact definition, and names it for llama.cpp.

One that llama.cpp is not known to reproduce is an error, never a guess. The patterns are those of
llama.cpp's `llama-vocab.cpp` and of the models' own `tokenizer.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from mlx_finetuning.errors import TokenizerUnsupported
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.vocabulary import spaces
from mlx_finetuning.quantizer.vocabulary.spaces import Definition

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


LLAMA_CPP_NAMES: dict[PreTokenizer, str] = {
    PreTokenizer((f"split {LLAMA3_SPLIT}", "bytes"), True): "llama-bpe",
    PreTokenizer((f"split {LLAMA3_SPLIT}", "bytes"), False): "smaug-bpe",
    PreTokenizer((f"split {QWEN2_SPLIT}", "bytes"), False): "qwen2",
    PreTokenizer((f"split {QWEN35_SPLIT}", "bytes"), False): "qwen35",
    PreTokenizer((f"split {GPT4O_SPLIT}", "bytes"), False): "gpt-4o",
    PreTokenizer((f"split {TEKKEN_SPLIT}", "bytes"), True): "tekken",
    PreTokenizer(
        (*(f"split {pattern}" for pattern in DEEPSEEK3_SPLITS), "bytes"), False
    ): "deepseek-v3",
    PreTokenizer(("digits", "words and bytes"), False): "smollm",
    PreTokenizer(("words and bytes",), False): "gpt-2",
}
"""Definition → llama.cpp's name."""

COVERING = frozenset(
    (LLAMA3_SPLIT, QWEN2_SPLIT, QWEN35_SPLIT, GPT4O_SPLIT, TEKKEN_SPLIT, GPT2_SPLIT)
)
"""Patterns whose matches cover every text."""
_SPELLINGS = (
    ("\r", r"\r"),
    ("\n", r"\n"),
    (r"'(?i:[sdmt]|ll|ve|re)", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"),
    # What follows can match nothing of what these took, so giving it back changes nothing.
    (r"]?+\p{L}", r"]?\p{L}"),
    (r"]++[\r\n", r"]+[\r\n"),
    (r"\s*[\r\n]|", r"\s*[\r\n]+|"),
)
"""Ways to write the same pattern: in the folder, here."""

_NFC = {"type": "NFC"}


def name_of(definition: Definition) -> str:
    """llama.cpp's name for the pre-tokenizer of a `tokenizer.json`. Raises TokenizerUnsupported."""
    model = definition["model"]
    if model.get("type") != "BPE":
        raise TokenizerUnsupported(
            reason=_("種類 {type} は扱えません。").format(type=model.get("type"))
        )
    if spaces.flat(definition.get("normalizer"), "normalizers") not in ([], [_NFC]):
        raise TokenizerUnsupported(
            reason=_("文字を書き換えてから切る（normalizer）トークナイザーです。")
        )
    parts = spaces.flat(definition.get("pre_tokenizer"), "pretokenizers")
    steps = tuple(_described(part) for part in parts)
    if steps == (f"split {GPT2_SPLIT}", "bytes"):
        steps = ("words and bytes",)
    pre_tokenizer = PreTokenizer(steps, bool(model.get("ignore_merges", False)))
    if pre_tokenizer not in LLAMA_CPP_NAMES:
        described = " → ".join(steps) or _("なし")
        raise TokenizerUnsupported(
            reason=_("分割の規則が既知のものと一致しません: {described}").format(
                described=described
            )
        )
    return LLAMA_CPP_NAMES[pre_tokenizer]


def makes_nfc(definition: Definition) -> bool:
    """Whether texts are brought into the composed form (NFC) before they are cut."""
    return _NFC in spaces.flat(definition.get("normalizer"), "normalizers")


def _described(step: JsonObject) -> str:
    """A step in words; anything not understood in full stays as its own JSON, and matches nothing."""
    match step:
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": behavior}:
            for spelling, ours in _SPELLINGS:
                pattern = pattern.replace(spelling, ours)
            if pattern == r"\p{N}" and behavior == "Isolated":
                return "digits"
            # Where every character is part of a match, what is between matches is nothing.
            keeps_all = behavior == "Removed" and step.get("invert") and pattern in COVERING
            if keeps_all or (behavior == "Isolated" and not step.get("invert")):
                return f"split {pattern}"
        case {"type": "Digits", "individual_digits": True}:
            return "digits"
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return "words and bytes" if step.get("use_regex", True) else "bytes"
    return json.dumps(step, ensure_ascii=False)
