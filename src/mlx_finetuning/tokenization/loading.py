"""A tokenizer that cuts texts as the folder's own file says, with transformers' face.

Only what the file says goes in: settings that make transformers rewrite the file's rules (the class,
`add_bos_token`, `legacy`) stay out, and so do special tokens that the vocabulary lacks.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from mlx_finetuning.errors import TokenizerUnreadable
from mlx_finetuning.tokenization.files import TOKENIZER, TokenizerFiles


def engine(files: TokenizerFiles) -> Any:
    """The folder's `tokenizers.Tokenizer`, without limits. Raises TokenizerUnreadable."""
    from tokenizers import Tokenizer

    try:
        if files.source == TOKENIZER:
            own = Tokenizer.from_file(str(files.folder / TOKENIZER))
        else:
            own = Tokenizer.from_str(json.dumps(files.definition))
    except Exception as error:  # the library raises nothing more exact
        raise TokenizerUnreadable(folder=str(files.folder), reason=str(error)) from error
    # Limits that were left on when the file was saved would cut texts in silence.
    own.no_truncation()
    own.no_padding()
    return own


def load(files: TokenizerFiles, chat_template: str | None = None) -> Any:
    """The folder's tokenizer as a `PreTrainedTokenizerFast`; `chat_template` replaces the folder's.

    Raises TokenizerUnreadable.
    """
    from transformers import PreTrainedTokenizerFast

    special = {f"{name}_token": text for name, text in files.named.items()}
    loaded = PreTrainedTokenizerFast(
        tokenizer_object=engine(files),
        chat_template=chat_template if chat_template is not None else files.chat_template,
        # Text is what the tokens say; llama.cpp tidies nothing up either.
        clean_up_tokenization_spaces=False,
        **special,
    )
    loaded.name_or_path = str(files.folder)
    return loaded


def continuing(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition of a tokenizer for text that goes on: nothing is put before it."""
    found = copy.copy(definition)
    found["normalizer"] = _without_prefix(definition.get("normalizer"))
    found["pre_tokenizer"] = _without_prefix(definition.get("pre_tokenizer"))
    return found


def _without_prefix(step: Any) -> Any:
    match step:
        case {"type": "Prepend"}:
            return None
        case {"type": "Sequence", "normalizers": list(steps)}:
            kept = [part for part in map(_without_prefix, steps) if part]
            return {"type": "Sequence", "normalizers": kept}
        case {"type": "Sequence", "pretokenizers": list(steps)}:
            kept = [part for part in map(_without_prefix, steps) if part]
            return {"type": "Sequence", "pretokenizers": kept}
        case {"type": "Metaspace"}:
            return {**step, "prepend_scheme": "never"}
        case {"type": "ByteLevel"}:
            return {**step, "add_prefix_space": False}
    return step
