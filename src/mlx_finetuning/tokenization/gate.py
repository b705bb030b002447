"""Whether a loaded tokenizer cuts texts as the folder's own file does, before anything is trained.

The file's own engine is `tokenizers` on `tokenizer.json`, or SentencePiece on `tokenizer.model`. Compared on
a fixed battery and on the user's own texts. What llama.cpp makes of the model is not judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.errors import TokenizerUnreadable, TokensDiffer
from mlx_finetuning.language import _
from mlx_finetuning.tokenization import battery, loading, spm_model
from mlx_finetuning.tokenization import files as tokenizer_files
from mlx_finetuning.tokenization.files import SENTENCEPIECE, TOKENIZER, TokenizerFiles
from mlx_finetuning.tokenization.reasoning import FIELDS
from mlx_finetuning.tokenization.rows import Row

Encode = Callable[[str], list[int]]
"""A text → its ids, without bos and eos."""


@dataclass(frozen=True)
class Difference:
    """A text that two tokenizers cut differently."""

    text: str
    expected: list[int]
    """By the file's own engine."""
    actual: list[int]


def row_texts(rows: Sequence[Row], most: int = 500) -> list[str]:
    """Texts of dataset rows, evenly taken."""
    step = max(1, len(rows) // most)
    return [text for row in rows[::step] for text in texts_of(row)]


def texts_of(row: Row) -> list[str]:
    """What a user wrote in a row, without any template."""
    turns, fields = row.get("messages", ()), ("content", FIELDS[0])
    texts = [turn.get(field) for turn in turns for field in fields]
    texts += [row.get(name) for name in ("text", "system", "prompt", "chosen", "rejected")]
    return [text for text in texts if isinstance(text, str) and text]


def require_own_tokens(folder: Path, encode: Encode, texts: Sequence[str] = ()) -> None:
    """Compare `encode` with the folder's own file on the battery and on `texts`.

    Raises TokensDiffer with the texts that differ, TokenizerUnreadable.
    """
    files = tokenizer_files.read(folder)
    different = differences(files, encode, (*battery.TEXTS, *texts))
    if different:
        first = different[0]
        raise TokensDiffer(
            folder=str(folder),
            file=files.source,
            texts=len(battery.TEXTS) + len(texts),
            differing=len(different),
            example=first.text[:80],
            expected=first.expected[:12],
            found=first.actual[:12],
        )
    _require_same_kind(files)


def differences(files: TokenizerFiles, encode: Encode, texts: Sequence[str]) -> list[Difference]:
    """The texts that `encode` cuts unlike the file's own engine."""
    own, comparable = own_encode(files)
    is_unigram = files.definition["model"].get("type") == "Unigram"
    # Of a Unigram model the same pieces in another order (`aaaa` + `aa`) have the same score: a tie,
    # which SentencePiece breaks by the rounding of its sums.
    pairs = ((text, own(text), encode(text)) for text in texts if comparable(text))
    return [
        Difference(text, expected, actual)
        for text, expected, actual in pairs
        if expected != actual and not (is_unigram and sorted(expected) == sorted(actual))
    ]


def own_encode(files: TokenizerFiles) -> tuple[Encode, Callable[[str], bool]]:
    """The file's own engine, and whether it can be asked for a text."""
    if files.source == TOKENIZER:
        own = loading.engine(files)
        return (lambda text: loading.ids(own, files.folder, text), lambda text: True)
    import sentencepiece

    with loading.asking_library(files.folder):
        processor = sentencepiece.SentencePieceProcessor(str(files.folder / SENTENCEPIECE))
    # SentencePiece knows no special tokens inside a text, and where newer folders put a space before
    # the first text, they put none before a space: customs of others, not of the file.
    special = [entry["content"] for entry in tokenizer_files.added(files.definition)]
    puts_no_second = files.definition["pre_tokenizer"] is not None

    def is_comparable(text: str) -> bool:
        if puts_no_second and text.startswith((" ", spm_model.MARK)):
            return False
        return not any(content in text for content in special if content)

    return lambda text: list(processor.encode(text)), is_comparable


def _require_same_kind(files: TokenizerFiles) -> None:
    """A Unigram `tokenizer.model` beside a BPE `tokenizer.json`: its merges were invented, by a program
    that took one for the other. Raises TokenizerUnreadable."""
    path = files.folder / SENTENCEPIECE
    if files.source != TOKENIZER or not path.is_file():
        return
    kinds = {spm_model.UNIGRAM: "Unigram", spm_model.BPE: "BPE"}
    try:
        stored = kinds[spm_model.read(path).trainer_spec.model_type]
    except TokenizerUnreadable:
        return  # something else of that name, such as tiktoken's ranks; tokenizer.json decides
    used = files.definition["model"].get("type")
    if used != stored:
        raise TokenizerUnreadable(
            folder=str(files.folder),
            reason=_(
                "{sentencepiece} は {stored}、{tokenizer} は {used} で、別のトークナイザーです（変換に失敗したフォルダの可能性があります）。"
            ).format(sentencepiece=SENTENCEPIECE, stored=stored, tokenizer=TOKENIZER, used=used),
        )
