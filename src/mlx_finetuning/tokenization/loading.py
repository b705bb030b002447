"""A tokenizer that cuts texts as the folder's own file says, with the face that mlx-lm asks for.

Only what the file says goes in: settings that make transformers rewrite the file's rules (the class,
`add_bos_token`, `legacy`) stay out, and so do special tokens that the vocabulary lacks.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlx_finetuning.errors import TokenizerUnreadable
from mlx_finetuning.tokenization.files import TOKENIZER, TokenizerFiles, added, token_ids
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


class FolderTokenizer:
    """A folder's tokenizer with the names that transformers gives to its parts, for mlx-lm.

    `PreTrainedTokenizerFast` does the same with the same engine, and cannot be had without importing
    transformers and huggingface-hub, half of a job's start.
    """

    clean_up_tokenization_spaces = False
    """Text is what the tokens say; llama.cpp tidies nothing up either."""
    apply_chat_template = None
    """mlx-lm looks for it; conversations are rendered by `ChatTokenizer`."""

    def __init__(self, own: Any, files: TokenizerFiles, chat_template: str | None) -> None:
        """own: `engine` of `files`."""
        from tokenizers import AddedToken

        named = files.named
        known = {token.content: at for at, token in own.get_added_tokens_decoder().items()}
        missing = [text for text in named.values() if text not in known]
        own.add_tokens([AddedToken(text, special=True) for text in missing])
        self.backend_tokenizer = own
        self.chat_template = chat_template
        # Asking the library takes as long as reading half of the file. It numbers the added tokens anew.
        is_stated = known == {entry["content"]: entry["id"] for entry in added(files.definition)}
        self.vocab: dict[str, int] = (
            token_ids(files.definition) if is_stated and not missing else own.get_vocab()
        )
        self.bos_token, self.eos_token = named.get("bos"), named.get("eos")

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size())

    def get_vocab(self) -> dict[str, int]:
        """Tokens, the added ones too, → ids."""
        return self.vocab

    @property
    def eos_token_id(self) -> int | None:
        """What ends a text, if the folder says."""
        return None if self.eos_token is None else self.vocab[self.eos_token]

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Ids; with what the file puts around a text, or without."""
        return list(self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, ids: int | Sequence[int]) -> str:
        """Text, special tokens too."""
        listed = [ids] if isinstance(ids, int) else list(ids)
        return str(self.backend_tokenizer.decode(listed, skip_special_tokens=False))

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]:
        """As the vocabulary writes them; None for an id beyond it."""
        return [self._texts.get(int(number)) for number in ids]

    @functools.cached_property
    def _texts(self) -> dict[int, str]:
        # mlx-lm asks for all of them, which is many calls of the library.
        return {number: text for text, number in self.vocab.items()}


def load(
    files: TokenizerFiles, chat_template: str | None = None, own: Any | None = None
) -> FolderTokenizer:
    """The folder's tokenizer; `chat_template` replaces the folder's; own: its `engine`, if it is there.

    Raises TokenizerUnreadable.
    """
    with asking_library(files.folder):
        template = files.chat_template if chat_template is None else chat_template
        return FolderTokenizer(engine(files) if own is None else own, files, template)


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
