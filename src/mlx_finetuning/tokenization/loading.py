"""A tokenizer that cuts texts as the folder's own file says, with transformers' face.

Only what the file says goes in: settings that make transformers rewrite the file's rules (the class,
`add_bos_token`, `legacy`) stay out, and so do special tokens that the vocabulary lacks.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlx_finetuning.errors import TokenizerUnreadable
from mlx_finetuning.tokenization.files import TOKENIZER, TokenizerFiles
from mlx_finetuning.tokenization.spm_model import Definition


@contextlib.contextmanager
def asking_library(folder: Path) -> Iterator[None]:
    """Around every call of `tokenizers` and transformers, of which some fail only when a text is cut.

    Raises TokenizerUnreadable.
    """
    try:
        yield
    except BaseException as error:
        # The libraries raise nothing more exact, and their panics are no `Exception`.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise TokenizerUnreadable(folder=str(folder), reason=str(error)) from error


def engine(files: TokenizerFiles) -> Any:
    """The folder's `tokenizers.Tokenizer`, without limits. Raises TokenizerUnreadable."""
    from tokenizers import Tokenizer

    with asking_library(files.folder):
        if files.source == TOKENIZER:
            own = Tokenizer.from_file(str(files.folder / TOKENIZER))
        else:
            own = Tokenizer.from_str(json.dumps(files.definition))
        # Limits that were left on when the file was saved would cut texts in silence.
        own.no_truncation()
        own.no_padding()
        return own


def ids(own: Any, folder: Path, text: str) -> list[int]:
    """What a `tokenizers.Tokenizer` makes of a text, without bos and eos. Raises TokenizerUnreadable."""
    with asking_library(folder):
        return list(own.encode(text, add_special_tokens=False).ids)


def load(files: TokenizerFiles, chat_template: str | None = None) -> Any:
    """The folder's tokenizer as a `PreTrainedTokenizerFast`; `chat_template` replaces the folder's.

    Raises TokenizerUnreadable.
    """
    from transformers import PreTrainedTokenizerFast

    special = {f"{name}_token": text for name, text in files.named.items()}
    own = engine(files)
    with asking_library(files.folder):
        loaded = PreTrainedTokenizerFast(
            tokenizer_object=own,
            chat_template=chat_template if chat_template is not None else files.chat_template,
            # Text is what the tokens say; llama.cpp tidies nothing up either.
            clean_up_tokenization_spaces=False,
            **special,
        )
    loaded.name_or_path = str(files.folder)
    return loaded


def continuing(definition: Definition) -> Definition:
    """The definition of a tokenizer for text that goes on: nothing is put before it."""
    return {
        **definition,
        "normalizer": _without_prefix(definition.get("normalizer")),
        "pre_tokenizer": _without_prefix(definition.get("pre_tokenizer")),
    }


def _without_prefix(step: Any) -> Any:
    match step:
        case {"type": "Prepend"}:
            return None
        case {"type": "Sequence", "normalizers": list(steps)}:
            return {"type": "Sequence", "normalizers": _without_prefixes(steps)}
        case {"type": "Sequence", "pretokenizers": list(steps)}:
            return {"type": "Sequence", "pretokenizers": _without_prefixes(steps)}
        case {"type": "Metaspace"}:
            return {**step, "prepend_scheme": "never"}
        case {"type": "ByteLevel"}:
            return {**step, "add_prefix_space": False}
    return step


def _without_prefixes(steps: list[Any]) -> list[Any]:
    return [step for step in map(_without_prefix, steps) if step]
