"""Tokens as people can read them: their text, or their bytes where a token ends inside a character."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from mlx_lm import tokenizer_utils

from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.tokenization import files

_BYTE = re.compile("<0x([0-9A-F]{2})>")


def token_texts(loaded: LoadedModel, tokens: Sequence[int]) -> list[str]:
    """For each token its text, or `⟨E3 81⟩`, bytes in hexadecimal."""
    names = loaded.tokenizer.convert_ids_to_tokens(list(tokens))
    return [
        _as_bytes(name) if "\ufffd" in text else text or str(name)
        for name, text in zip(names, (loaded.tokenizer.decode([t]) for t in tokens), strict=True)
    ]


def token_bytes(loaded: LoadedModel, tokens: Sequence[int]) -> list[bytes]:
    """For each token the bytes that it adds to a text; none for ids that stand for nothing."""
    decoder = loaded.chat.files.definition.get("decoder")
    # As in `load.wrapped`.
    signs = _gpt2_bytes() if tokenizer_utils._is_bpe_decoder(decoder) else None
    added = {token["content"] for token in files.added(loaded.chat.files.definition)}

    def of(name: str | None) -> bytes:
        fallback = _BYTE.fullmatch(name or "")
        if fallback:
            return bytes.fromhex(fallback.group(1))
        if name is None or name in added or signs is None:
            return (name or "").replace("\u2581", " ").encode()
        return bytes(signs.get(sign, 0x3F) for sign in name)

    return [of(name) for name in loaded.tokenizer.convert_ids_to_tokens(list(tokens))]


def _as_bytes(name: str) -> str:
    """`⟨E3 81⟩` of a token of byte-level BPE (GPT-2's signs) or of byte fallback (`<0xE3>`)."""
    fallback = _BYTE.fullmatch(name)
    if fallback:
        return f"⟨{fallback.group(1)}⟩"
    return f"⟨{bytes(_gpt2_bytes().get(sign, 0x3F) for sign in name).hex(' ').upper()}⟩"


@functools.cache
def _gpt2_bytes() -> dict[str, int]:
    """GPT-2's signs for bytes: printable ones stand for themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + number): byte for number, byte in enumerate(others)
    }
