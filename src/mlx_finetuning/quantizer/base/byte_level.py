"""A `tokenizer.json` of byte-level BPE out of a GGUF file's vocabulary.

By the table of pre-tokenizers that the export uses. What llama.cpp does not do to a text (NFC) is not
done here either: the model is trained on what it will see.
"""

from __future__ import annotations

from collections.abc import Mapping

from gguf import TokenType

from mlx_finetuning.language import _
from mlx_finetuning.quantizer.base.refusal import Unusable
from mlx_finetuning.quantizer.families.phi3 import Phi3
from mlx_finetuning.quantizer.vocabulary.pre_tokenizer import LLAMA_CPP_NAMES, PreTokenizer
from mlx_finetuning.utils.gguf_reader import Metadata

Definition = dict[str, object]

BY_NAME = {name: pre_tokenizer for pre_tokenizer, name in LLAMA_CPP_NAMES.items()}
BY_NAME |= {theirs: BY_NAME[ours] for ours, theirs in Phi3.pre_tokenizers.items()}
BY_NAME |= dict.fromkeys(("llama3", "llama-v3"), BY_NAME["llama-bpe"])
"""llama.cpp's name of a pre-tokenizer → its definition."""
FOUND_WHOLE = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
"""Types of tokens that are cut out of a text before anything else."""
BYTES: Definition = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
STEPS: dict[str, Definition] = {
    "digits": {"type": "Digits", "individual_digits": True},
    "bytes": dict(BYTES, use_regex=False),
    "words and bytes": dict(BYTES, use_regex=True),
}
"""What `pre_tokenizer.name_of` describes so; any other step splits by a pattern."""


def definition(metadata: Metadata, ids: Mapping[str, int], adds: Mapping[str, bool]) -> Definition:
    """The content of the `tokenizer.json`.

    ids: bos, eos, … → id; adds: whether bos and eos are put around a text. Raises Unusable, KeyError.
    """
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    name = str(metadata.get("tokenizer.ggml.pre"))
    if name not in BY_NAME:
        known = _("、").join(sorted(BY_NAME))
        raise Unusable(
            _("文の分け方（pre-tokenizer）が {name} です（扱えるのは {known}）。").format(
                name=name, known=known
            )
        )
    table = list(enumerate(zip(tokens, types, strict=True)))
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": text, **flags, "special": kind == TokenType.CONTROL}
            for number, (text, kind) in table
            if kind in FOUND_WHOLE
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": splitting(BY_NAME[name])},
        "post_processor": around_text(tokens, ids, adds),
        "decoder": dict(BYTES, use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": BY_NAME[name].whole_words_first,
            # Ids without a token are left out: no text becomes one of them.
            "vocab": {text: number for number, (text, kind) in table if kind != TokenType.UNUSED},
            # Each as one text, which is read in half the time; no token has a space.
            "merges": metadata["tokenizer.ggml.merges"],
        },
    }


def splitting(pre_tokenizer: PreTokenizer) -> list[Definition]:
    """The steps of a pre-tokenizer: the inverse of `pre_tokenizer.name_of`."""
    return [
        STEPS.get(step)
        or {
            "type": "Split",
            "pattern": {"Regex": step.removeprefix("split ")},
            "behavior": "Isolated",
            "invert": False,
        }
        for step in pre_tokenizer.steps
    ]


def around_text(
    tokens: list[str], ids: Mapping[str, int], adds: Mapping[str, bool]
) -> Definition | None:
    """What puts bos before and eos after a text; None where neither is."""
    names = {name: tokens[ids[name]] for name, is_added in adds.items() if is_added}
    if not names:
        return None
    before, after = (
        [{"SpecialToken": {"id": names[name], "type_id": 0}}] if name in names else []
        for name in ("bos", "eos")
    )
    first, second = ({"Sequence": {"id": one, "type_id": at}} for at, one in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [*before, first, *after],
        "pair": [*before, first, second, *after],
        "special_tokens": {
            content: {"id": content, "ids": [ids[name]], "tokens": [content]}
            for name, content in names.items()
        },
    }
