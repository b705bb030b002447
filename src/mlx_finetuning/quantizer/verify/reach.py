"""How far a model can go, before anything is trained: MLX, the embedded runtime, Ollama.

Writes a GGUF file that holds metadata and vocabulary only, lets llama.cpp load its tokenizer, and
compares tokens on the built-in battery, the user's rows and rendered conversations. Seconds, for a
vocabulary of 256,000. The export asks the same before it quantizes. Computes nothing of the model.
"""

from __future__ import annotations

import contextlib
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_finetuning.errors import ExportError, ExportNotProven, ModelError
from mlx_finetuning.language import N_, _, sentences
from mlx_finetuning.messages import describe
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaVocabulary
from mlx_finetuning.quantizer.verify import parity, proof
from mlx_finetuning.quantizer.verify.parity import Cut, Tokenize
from mlx_finetuning.quantizer.verify.results import TokenParity
from mlx_finetuning.quantizer.vocabulary.tokenizer import ChatFormat, TokenizerMetadata
from mlx_finetuning.quantizer.write import export, gguf_writer
from mlx_finetuning.tokenization import battery, files, loading

NAMED_ROWS = 10
"""Row numbers that a message lists."""
INSTEAD = N_(
    "「MLX（学習したまま）」か「内蔵ランタイム」での対話と、serve-model では、学習したとおりに使えます。"
)


@dataclass(frozen=True)
class NotableRows:
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
    """In words, why an end cannot be reached and what to use instead."""
    warnings: tuple[str, ...]
    """In words, what will be different for some rows or texts."""
    rows: NotableRows = NotableRows()
    tokens: TokenParity | None = None
    elapsed_s: float = 0.0

    @property
    def ends(self) -> tuple[str, ...]:
        """As people call them."""
        return (
            "MLX",
            *([_("内蔵ランタイム")] if self.runtime else []),
            *(["Ollama"] if self.ollama else []),
        )


def reach(
    folder: Path,
    rows: Sequence[Sequence[str]] = (),
    prompts: Sequence[str] = (),
    *,
    encode: Tokenize | None = None,
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
            result = _compared(path, original, rows, prompts, encode or own_tokenizer(folder))
    except (ExportError, ModelError) as error:
        described = describe(error)
        reason = f"{described.what} {described.why} {_(_MLX_ONLY)}"
        result = Reach(runtime=False, ollama=False, reasons=(reason,), warnings=())
    return replace(result, elapsed_s=time.monotonic() - started)


def require(
    folder: Path,
    encode: Tokenize,
    texts: Sequence[str],
    prompts: Sequence[str] = (),
    chat: ChatFormat | None = None,
) -> None:
    """Before a file is written: that it will cut texts as the model was trained.

    chat: how the run converses. Raises ExportNotProven, and what reading the folder raises.
    """
    with vocabulary_file(folder, chat) as (path, original), LlamaVocabulary(path) as vocabulary:
        tokens = parity.compare_tokens(
            vocabulary, encode, texts, original, battery.TEXTS, prompts=prompts
        )
    if tokens.differing:
        raise ExportNotProven(path=folder.name, problems=[parity.problem(tokens)])


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


def own_tokenizer(folder: Path) -> Tokenize:
    """The folder's tokenizer by its own engine. What it gives raises TokenizerUnreadable."""
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
    encode: Tokenize,
) -> Reach:
    texts = [text for row in rows for text in row]
    with LlamaVocabulary(path) as vocabulary:
        # Texts come again and again: system texts, short answers.
        cuts = {text: parity.cut(vocabulary, encode, text, original) for text in set(texts)}
        builtin = parity.compare_tokens(
            vocabulary, encode, (), original, battery.TEXTS, user_texts=texts
        )
        prompt_cuts = [
            (parity.cut(vocabulary, encode, text, original, is_prompt=True), text)
            for text in prompts
        ]
    notable = _notable_rows(rows, cuts, original)
    # One example, the first, for each way in which prompts are cut unlike the original's.
    examples = dict(reversed([pair for pair in prompt_cuts if pair[0] in _TEMPLATE_PROBLEMS]))
    reasons = [
        _("{problem}（例: {text!r}）。").format(problem=_(_TEMPLATE_PROBLEMS[cut]), text=text[:80])
        for cut, text in examples.items()
    ]
    if notable.differing:
        reasons.append(
            _("{rows}のトークンへの分け方が、学習と違います。").format(
                rows=_listed(notable.differing)
            )
        )
    if builtin.differing:
        reasons.append(parity.problem(builtin))
    is_proven = not notable.differing and not builtin.differing
    if reasons:
        reasons.append(
            _(INSTEAD) if is_proven else sentences(_("GGUFには書き出せません。"), _(_MLX_ONLY))
        )
    return Reach(
        runtime=is_proven,
        ollama=not reasons,
        reasons=tuple(reasons),
        warnings=tuple(_warnings(notable, original, texts, builtin)),
        rows=notable,
        tokens=builtin,
    )


_MLX_ONLY = N_("「MLX（学習したまま）」での対話と serve-model では、学習したとおりに使えます。")
_TEMPLATE_PROBLEMS = {
    Cut.UNSAYABLE: N_("Ollamaでは使えません。会話の書式に、語彙にない文字があり、<unk> になります"),
    Cut.NAMED: N_(
        "Ollamaでは使えません。会話の書式にある記号を、llama.cppが別の記号として扱います"
    ),
    Cut.DIFFERENTLY: N_("Ollamaでは使えません。会話の書式のトークンへの分け方が、学習と違います"),
}


def _notable_rows(
    rows: Sequence[Sequence[str]], cuts: dict[str, Cut], original: TokenizerMetadata
) -> NotableRows:
    def numbers(applies: Callable[[str], bool]) -> tuple[int, ...]:
        """Of the rows with a text to which something applies."""
        return tuple(number for number, row in enumerate(rows) if any(map(applies, row)))

    def is_not_composed(text: str) -> bool:
        return original.makes_nfc and not unicodedata.is_normalized("NFC", text)

    return NotableRows(
        unsayable=numbers(lambda text: cuts[text] == Cut.UNSAYABLE),
        named=numbers(lambda text: bool(original.named_controls(text))),
        not_composed=numbers(is_not_composed),
        reordered=numbers(lambda text: cuts[text] == Cut.REORDERED),
        differing=numbers(lambda text: cuts[text] == Cut.DIFFERENTLY),
    )


def _warnings(
    rows: NotableRows, original: TokenizerMetadata, texts: Sequence[str], builtin: TokenParity
) -> Iterator[str]:
    if rows.unsayable:
        yield (
            _(
                "{rows}に、モデルの語彙にない文字（絵文字や珍しい漢字など）があります。"
                "Ollamaではその文字が <unk> になります。"
                "{instead}"
            ).format(rows=_listed(rows.unsayable), instead=_(INSTEAD))
        )
    elif original.model == "t5":
        yield (
            _(
                "今のデータにはありませんが、語彙にない文字（絵文字や珍しい漢字など）で質問すると、"
                "Ollamaではその文字が <unk> になります。"
            )
        )
    if rows.named:
        names = sorted({name for text in texts for name in original.named_controls(text)})
        yield (
            _(
                "{rows}に、llama.cppが制御記号として扱う文字列（{names}）があります。"
                "Ollamaでは、そこで答えが終わることがあります。"
            ).format(rows=_listed(rows.named), names=_("、").join(names[:5]))
        )
    if rows.not_composed:
        yield (
            _(
                "{rows}は、濁点などを分けた文字（NFCでない文字）を含みます。"
                "このモデルは合成した文字で学習しますが、Ollamaは合成しません。"
                "データを用意し直すときに「分かれた濁点などを1文字に（NFC）」を選ぶと、そろいます。"
            ).format(rows=_listed(rows.not_composed))
        )
    if rows.reordered:
        yield (
            _(
                "{rows}では、同じ文字の並びを切る順だけがOllamaで変わることがあります（部品は同じです）。"
            ).format(rows=_listed(rows.reordered))
        )
    yield from parity.warnings(replace(builtin, unsayable=0, named=0, reordered=0))


def _listed(numbers: Sequence[int]) -> str:
    shown = _("、").join(str(number + 1) for number in numbers[:NAMED_ROWS])
    if len(numbers) > NAMED_ROWS:
        return _("データの{count}行（{shown}行目 など）").format(count=len(numbers), shown=shown)
    return _("データの{count}行（{shown}行目）").format(count=len(numbers), shown=shown)
