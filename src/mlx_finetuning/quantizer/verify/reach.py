"""How far a model can go, before anything is trained: MLX, the embedded runtime, Ollama.

Writes a GGUF file that holds metadata and vocabulary only, lets llama.cpp load its tokenizer, and
compares tokens on the built-in battery, the user's rows and rendered conversations. Seconds, for a
vocabulary of 256,000. The export asks the same before it quantizes. Computes nothing of the model.
"""

from __future__ import annotations

import contextlib
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_finetuning.errors import ExportError, ExportNotProven, ModelError, StudioError
from mlx_finetuning.messages_ja import describe
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaVocabulary
from mlx_finetuning.quantizer.verify import parity, proof
from mlx_finetuning.quantizer.verify.parity import Cut, Encode, TokenParity
from mlx_finetuning.quantizer.vocabulary.tokenizer import ChatFormat, TokenizerMetadata
from mlx_finetuning.quantizer.write import export, gguf_writer
from mlx_finetuning.tokenization import battery, files, loading

NAMED_ROWS = 10
"""Row numbers that a message lists."""
INSTEAD = "「MLX（学習したまま）」か「内蔵ランタイム」での対話と、serve-model では、学習したとおりに使えます。"


@dataclass(frozen=True)
class Rows:
    """Rows of the user's data with something to say about them; numbers from 0, as given."""

    unsayable: tuple[int, ...] = ()
    """Characters outside the vocabulary: Ollama makes `<unk>` of them."""
    named: tuple[int, ...] = ()
    """The name of a token that llama.cpp takes for a control token."""
    not_composed: tuple[int, ...] = ()
    """Not in the composed form (NFC) that the original's tokenizer makes, and llama.cpp does not."""
    reordered: tuple[int, ...] = ()
    """The same pieces in another order, as likely as the original's."""
    differing: tuple[int, ...] = ()
    """Cut differently for no known reason."""


@dataclass(frozen=True)
class Reach:
    """Which of the three ends a model can reach. MLX is always one of them."""

    runtime: bool
    """The embedded llama.cpp, fed with token ids: whether a GGUF file can be made and proven."""
    ollama: bool
    """Whether texts are cut there as they were trained, the chat template included."""
    reasons: tuple[str, ...]
    """In Japanese, why an end cannot be reached and what to use instead."""
    warnings: tuple[str, ...]
    """In Japanese, what will be different for some rows or texts."""
    rows: Rows = Rows()
    tokens: TokenParity | None = None
    elapsed_s: float = 0.0

    @property
    def ends(self) -> tuple[str, ...]:
        """In Japanese."""
        return (
            "MLX",
            *(["内蔵ランタイム"] if self.runtime else []),
            *(["Ollama"] if self.ollama else []),
        )


def reach(
    folder: Path,
    rows: Sequence[Sequence[str]] = (),
    prompts: Sequence[str] = (),
    *,
    encode: Encode | None = None,
    chat: ChatFormat | None = None,
) -> Reach:
    """Examine the model in `folder` for the user's data.

    rows: the texts of each row, without any template; prompts: conversations in plain words, rendered
    as they are asked; encode: the tokenizer that trains, else the file's own; chat: how the run
    converses, else as the folder says. Raises QuantizerUnusable.
    """
    started = time.monotonic()
    try:
        with vocabulary_file(folder, chat) as (path, original):
            found = _compared(path, original, rows, prompts, encode or _own(folder))
    except (ExportError, ModelError) as error:
        found = Reach(False, False, (_reason(error),), ())
    return replace(found, elapsed_s=time.monotonic() - started)


def require(
    folder: Path,
    encode: Encode,
    texts: Sequence[str],
    prompts: Sequence[str] = (),
    chat: ChatFormat | None = None,
) -> None:
    """Before a file is written: that it will cut texts as the model was trained.

    chat: how the run converses. Raises ExportNotProven, and what reading the folder raises.
    """
    with vocabulary_file(folder, chat) as (path, original), LlamaVocabulary(path) as vocabulary:
        found = parity.compare_tokens(
            vocabulary, encode, texts, original, battery.TEXTS, prompts=prompts
        )
    if found.differing:
        raise ExportNotProven(path=folder.name, problems=[parity.problem(found)])


@contextlib.contextmanager
def vocabulary_file(
    folder: Path, chat: ChatFormat | None = None
) -> Iterator[tuple[Path, TokenizerMetadata]]:
    """A GGUF file of `folder` without weights, in memory, for as long as the block lasts.

    Raises ArchitectureUnsupported, ModelSettingUnsupported, TokenizerUnsupported, TokenizerUnreadable.
    """
    metadata = export.file_metadata(folder, export.read_config(folder), folder.name, chat)
    with proof.in_memory() as path:
        gguf_writer.create(path, metadata, proof.QUANT, []).close()
        yield path, metadata.tokenizer


def _own(folder: Path) -> Encode:
    """The file's own tokenizer. What it gives raises TokenizerUnreadable."""
    engine = loading.engine(files.read(folder))

    def encode(text: str, added: bool) -> list[int]:
        with loading.asking_library(folder):
            return list(engine.encode(text, add_special_tokens=added).ids)

    return encode


def _compared(
    path: Path,
    original: TokenizerMetadata,
    rows: Sequence[Sequence[str]],
    prompts: Sequence[str],
    encode: Encode,
) -> Reach:
    texts = [text for row in rows for text in row]
    with LlamaVocabulary(path) as vocabulary:
        # Texts come again and again: system texts, short answers.
        cuts = {text: parity.cut(vocabulary, encode, text, original) for text in set(texts)}
        builtin = parity.compare_tokens(
            vocabulary, encode, (), original, battery.TEXTS, known=texts
        )
        asked = [
            (text, parity.cut(vocabulary, encode, text, original, is_prompt=True))
            for text in prompts
        ]
    found = _rows(rows, cuts, original)
    reasons = _template_reasons(asked)
    if found.differing:
        reasons.append(f"{_listed(found.differing)}のトークンへの分け方が、学習と違います。")
    if builtin.differing:
        reasons.append(parity.problem(builtin))
    is_proven = not found.differing and not builtin.differing
    if reasons:
        reasons.append(INSTEAD if is_proven else f"GGUFには書き出せません。{_MLX_ONLY}")
    return Reach(
        runtime=is_proven,
        ollama=not reasons,
        reasons=tuple(reasons),
        warnings=tuple(_warnings(found, original, texts, builtin)),
        rows=found,
        tokens=builtin,
    )


_MLX_ONLY = "「MLX（学習したまま）」での対話と serve-model では、学習したとおりに使えます。"


def _reason(error: StudioError) -> str:
    said = describe(error)
    return f"{said.what} {said.why} {_MLX_ONLY}"


def _rows(rows: Sequence[Sequence[str]], cuts: dict[str, Cut], original: TokenizerMetadata) -> Rows:
    def having(wanted: Cut) -> tuple[int, ...]:
        return tuple(
            number for number, row in enumerate(rows) if any(cuts[text] == wanted for text in row)
        )

    named = (
        number
        for number, row in enumerate(rows)
        if any(original.named_controls(text) for text in row)
    )
    not_composed = (
        number
        for number, row in enumerate(rows)
        if original.makes_nfc and not all(unicodedata.is_normalized("NFC", text) for text in row)
    )
    return Rows(
        unsayable=having(Cut.UNSAYABLE),
        named=tuple(named),
        not_composed=tuple(not_composed),
        reordered=having(Cut.REORDERED),
        differing=having(Cut.DIFFERENTLY),
    )


def _template_reasons(asked: Sequence[tuple[str, Cut]]) -> list[str]:
    worst = {found: text for text, found in reversed(asked) if found in _TEMPLATE_WORDS}
    return [f"{_TEMPLATE_WORDS[found]}（例: {text[:80]!r}）。" for found, text in worst.items()]


_TEMPLATE_WORDS = {
    Cut.UNSAYABLE: "Ollamaでは使えません。会話の書式に、語彙にない文字があり、<unk> になります",
    Cut.NAMED: "Ollamaでは使えません。会話の書式にある記号を、llama.cppが別の記号として扱います",
    Cut.DIFFERENTLY: "Ollamaでは使えません。会話の書式のトークンへの分け方が、学習と違います",
}


def _warnings(
    rows: Rows, original: TokenizerMetadata, texts: Sequence[str], builtin: TokenParity
) -> Iterator[str]:
    if rows.unsayable:
        yield (
            f"{_listed(rows.unsayable)}に、モデルの語彙にない文字（絵文字や珍しい漢字など）があります。"
            f"Ollamaではその文字が <unk> になります。{INSTEAD}"
        )
    elif original.model == "t5":
        yield (
            "今のデータにはありませんが、語彙にない文字（絵文字や珍しい漢字など）で質問すると、"
            "Ollamaではその文字が <unk> になります。"
        )
    if rows.named:
        names = sorted({name for text in texts for name in original.named_controls(text)})
        yield (
            f"{_listed(rows.named)}に、llama.cppが制御記号として扱う文字列"
            f"（{'、'.join(names[:5])}）があります。Ollamaでは、そこで答えが終わることがあります。"
        )
    if rows.not_composed:
        yield (
            f"{_listed(rows.not_composed)}は、濁点などを分けた文字（NFCでない文字）を含みます。"
            "このモデルは合成した文字で学習しますが、Ollamaは合成しません。"
            "データを用意し直すときに「結合文字を1文字に（NFC）」を選ぶと、そろいます。"
        )
    if rows.reordered:
        yield (
            f"{_listed(rows.reordered)}では、同じ文字の並びを切る順だけがOllamaで変わることがあります"
            "（部品は同じです）。"
        )
    yield from parity.warnings(replace(builtin, unsayable=0, named=0, reordered=0))


def _listed(numbers: Sequence[int]) -> str:
    shown = "、".join(str(number + 1) for number in numbers[:NAMED_ROWS])
    more = " など" if len(numbers) > NAMED_ROWS else ""
    return f"データの{len(numbers)}行（{shown}行目{more}）"
