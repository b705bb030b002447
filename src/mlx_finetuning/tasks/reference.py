"""A run's tuned model as the reference for files written from it, on the run's own rows.

Rows come from the test split first, then valid, then train; of preference rows the better answer
counts. Built-in texts fill up where rows are too few, and the general questions stand in where they
hold no conversation. What the model says is computed once, layer by layer, before a file is written.
Judges nothing; `quantizer.verify.verification` does.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning import bases, models
from mlx_finetuning.errors import ExportNotProven, RunHasNoDataset
from mlx_finetuning.experiment_tracker.evaluation import general_questions
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.batches import examples
from mlx_finetuning.mlx_trainer.batches.examples import Messages
from mlx_finetuning.mlx_trainer.inference import layerwise
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, free_memory, load
from mlx_finetuning.progress import Progress
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.quantizer.verify import parity, proof, reach, verification
from mlx_finetuning.quantizer.verify.parity import Reference, Tokenize
from mlx_finetuning.quantizer.verify.results import LogitParity, Verification
from mlx_finetuning.quantizer.vocabulary import tokenizer as written_tokenizer
from mlx_finetuning.quantizer.vocabulary.tokenizer import ChatFormat, TokenizerMetadata
from mlx_finetuning.quantizer.write import export
from mlx_finetuning.runtime import serve
from mlx_finetuning.tasks import template_reading
from mlx_finetuning.tasks.usability import chat_format, encode_with
from mlx_finetuning.tokenization import battery
from mlx_finetuning.tokenization.rows import Row, read_rows
from mlx_finetuning.utils import gguf_base

LONGEST = 512
"""Tokens of one compared sequence."""
IMPORTANCE_TOKENS = 4096
"""Tokens on which the importance of columns is measured."""
SPLITS = ("test", "valid", "train")
TEXTS = 200
"""Rows whose cutting into tokens is compared."""


@dataclass(frozen=True)
class TrainedModel:
    """What a run trained, ready to be compared with."""

    model: Path
    """The base model's folder."""
    adapter: Path
    name: str
    """For files: `tiny-ja`."""
    loaded: LoadedModel
    """Without weights."""
    conversations: tuple[Messages, ...]
    references: tuple[Reference, ...]
    """What the trained model says; all logits at once: 0.5 GB at a vocabulary of 256,000."""
    importance: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """By weight, how much its columns are used; only where it is asked for."""

    def explains(self, prompt: str, expected: list[int], actual: list[int]) -> bool:
        """Whether llama.cpp's other ids of a rendered conversation are what was announced before
        training: characters outside the vocabulary, names of control tokens, a tie."""
        cause = parity.difference(prompt, expected, actual, self._written_tokenizer)
        return cause != parity.Cut.DIFFERENTLY

    @functools.cached_property
    def _written_tokenizer(self) -> TokenizerMetadata:
        config = export.read_config(self.model)
        return written_tokenizer.read(
            self.model, config["vocab_size"], registry.of(config), self.chat
        )

    @functools.cached_property
    def encode(self) -> Tokenize:
        """The tokens that it was trained with, kept: each file is compared on the same texts."""
        return encode_with(self.loaded)

    @property
    def chat(self) -> ChatFormat | None:
        """How the run converses; None for a model without a chat template."""
        return chat_format(self.loaded)


@dataclass(frozen=True)
class ProvenPart:
    """As much of a trained model as the proof of a GGUF file holds."""

    extent: proof.Extent
    references: tuple[Reference, ...]
    """What it says."""


def of_run(context: TaskContext, tokens: int, *, for_gguf: bool = True) -> TrainedModel:
    """The run's model and at least `tokens` tokens to compare.

    What takes minutes is in vain where llama.cpp cannot read the chat template or cuts texts into
    other tokens, so `for_gguf` looks at that first. Raises RunError, ModelError; with `for_gguf`
    ArchitectureUnsupported, before anything is read, and ExportNotProven.
    """
    run = runs.require_trained(context.workspace, context.run_id)
    model = bases.of_run(run, context.workspace)
    if for_gguf:
        registry.of(export.read_config(model))
    adapter = context.workspace.adapter(context.run_id).folder
    loaded = load(model, adapter, lazy=True).without_weights()
    rows = list(_dataset_rows(context, run.dataset))
    conversations = _conversations(rows)
    if for_gguf:
        template = loaded.chat.template
        tiny = models.resolve(models.BUILT_IN, context.workspace)
        if template and not template_reading.is_readable(template.text, tiny):
            raise ExportNotProven(path=model.name, problems=[_(template_reading.UNREADABLE)])
        reach.require(
            model,
            encode_with(loaded),
            _texts(conversations),
            _prompts(loaded, conversations) if template else [],
            chat_format(loaded),
        )
    built_in = (list(loaded.tokenizer.encode(text)) for text in itertools.cycle(battery.TEXTS))
    token_lists = itertools.chain(_row_tokens(loaded, rows), built_in)
    sequences = _at_least(token_lists, tokens, min(LONGEST, loaded.context_length))
    logits = layerwise.logits(model, adapter, sequences, context.progress)
    trained = TrainedModel(
        model=model,
        adapter=adapter,
        name=model.name,
        references=tuple(map(Reference, sequences, logits)),
        loaded=loaded,
        conversations=conversations,
    )
    free_memory()
    return trained


def conversations(context: TaskContext, dataset: str) -> tuple[Messages, ...]:
    """Conversations of a dataset, held-out ones first, else the general ones."""
    return _conversations(_dataset_rows(context, dataset))


def general_conversations() -> tuple[Messages, ...]:
    """What any model can be asked, whatever it was trained on."""
    return tuple(question.row["messages"] for question in general_questions.questions())


def examine(trained: TrainedModel, gguf: Path, progress: Progress) -> Verification:
    """Compare a file with what the run trained. Raises GgufUnreadable, QuantizerUnusable."""
    has_template = trained.loaded.chat.template is not None
    return verification.examine(
        gguf,
        trained.model,
        trained.adapter,
        trained.references,
        trained.encode,
        context=LONGEST,
        texts=_texts(trained.conversations),
        prompts=_prompts(trained.loaded, trained.conversations) if has_template else [],
        end_tokens=trained.loaded.chat.end_ids[:1],
        chat=trained.chat,
        progress=progress,
    )


def part_of(trained: TrainedModel) -> ProvenPart:
    """What fits into a proof, and what it says. Raises what reading the model raises."""
    sequences = [reference.tokens for reference in trained.references]
    extent = proof.extent(trained.model, sequences)
    logits = [reference.logits for reference in trained.references]
    if extent.layers < extent.of_layers:
        logits = layerwise.logits(trained.model, trained.adapter, sequences, layers=extent.layers)
    references = tuple(
        Reference(extent.local(tokens), of_sequence[:, extent.tokens])
        for tokens, of_sequence in zip(sequences, logits, strict=True)
    )
    free_memory()
    return ProvenPart(extent, references)


def importance(context: TaskContext, trained: TrainedModel) -> dict[str, NDArray[np.float32]]:
    """How much each column of the weights is used on training rows. Raises ModelUnloadable,
    RunHasNoDataset."""
    dataset = runs.require_trained(context.workspace, context.run_id).dataset
    if not dataset:
        raise RunHasNoDataset(run_id=context.run_id)
    rows = read_rows(context.workspace.dataset(dataset).train)
    longest = min(LONGEST, trained.loaded.context_length)
    sequences = _at_least(_row_tokens(trained.loaded, rows), IMPORTANCE_TOKENS, longest)
    by_weight = layerwise.importance(trained.model, trained.adapter, sequences, context.progress)
    free_memory()
    return by_weight


def compare_proof(
    trained: TrainedModel, part: ProvenPart, gguf: Path, adapter: Path | None = None
) -> LogitParity:
    """How far the proof is from the trained model. adapter: a GGUF adapter applied to it."""
    config = export.read_config(trained.model)
    context = registry.of(config).context_for(config, LONGEST)
    return parity.compare_logits(gguf, part.references, context, adapter=adapter)


def compare_on_base(trained: TrainedModel, adapter: Path, progress: Progress) -> LogitParity | None:
    """How far a GGUF adapter on its GGUF base is from the trained model; None where the base is no
    GGUF file. Raises GgufUnreadable."""
    base = gguf_base.read(trained.model)
    if base is None:
        return None
    family = registry.of(config := export.read_config(trained.model))
    context = family.context_for(config, LONGEST)
    return parity.compare_logits(base.file, trained.references, context, progress, adapter=adapter)


def template_problems(trained: TrainedModel, gguf: Path) -> list[str]:
    """In Japanese, where llama.cpp feeds a conversation to the model unlike it was trained.

    Compared as tokens: that is where a second bos or a lost one shows.
    """
    if trained.loaded.chat.template is None:
        return []
    with serve(gguf) as client:
        for messages in _questions(trained.loaded, trained.conversations):
            prompt = client.apply_template(messages)
            expected = trained.loaded.render(messages, ask=True)
            actual = client.tokenize(prompt, add_special=True)
            if actual == expected or trained.explains(prompt, expected, actual):
                continue
            if actual == expected[:1] + expected:
                return [_("会話の先頭の記号（BOS）が2つ付きます。")]
            if actual == expected[1:]:
                return [_("会話の先頭の記号（BOS）が付きません。")]
            return [
                _("会話の組み立て方（チャットテンプレート）が違います: {prompt!r}").format(
                    prompt=prompt
                )
            ]
    return []


def _dataset_rows(context: TaskContext, dataset: str) -> Iterator[Row]:
    for split in SPLITS if dataset else ():
        path = context.workspace.dataset(dataset).split(split)
        if path.exists():
            yield from read_rows(path)


def _conversations(rows: Iterable[Row]) -> tuple[Messages, ...]:
    of_rows = (turns for row in rows for turns in examples.conversations(row)[:1])
    return tuple(itertools.islice(of_rows, TEXTS)) or general_conversations()


def _texts(conversations: Sequence[Messages]) -> list[str]:
    return [turn["content"] for messages in conversations for turn in messages]


def _at_least(token_lists: Iterable[list[int]], tokens: int, longest: int) -> list[list[int]]:
    """Sequences of at least `tokens` tokens together, where there are so many, none over `longest`."""
    sequences: list[list[int]] = []
    total = 0
    for token_list in token_lists:
        if total >= tokens:
            break
        sequences.append(token_list[:longest])
        total += len(sequences[-1])
    return sequences


def _row_tokens(loaded: LoadedModel, rows: Iterable[Row]) -> Iterator[list[int]]:
    """Plain text whole, of a conversation what training sees of its last answer."""
    for row in rows:
        if "text" in row:
            yield list(loaded.tokenizer.encode(row["text"]))
        elif examples.conversations(row):
            yield examples.sequences(loaded, row)[-1].tokens


def _prompts(loaded: LoadedModel, conversations: Sequence[Messages]) -> list[str]:
    return [
        loaded.render_text(messages, ask=True) for messages in _questions(loaded, conversations)
    ]


def _questions(loaded: LoadedModel, conversations: Sequence[Messages]) -> list[Messages]:
    """Openings of conversations: single turns, several turns, one with a system text where the
    template takes one."""
    single = [messages[:-1] for messages in conversations[:20] if len(messages) > 1]
    joined = [
        turn for messages in conversations[:3] for turn in messages if turn["role"] != "system"
    ]
    question = {"role": "user", "content": "質問です。\n\n  2行目。"}
    system = {"role": "system", "content": "日本語で答えてください。"}
    template = loaded.chat.template
    systems = [[system, question]] if template and template.takes_system else []
    return [*single, [*joined, question], [question], *systems]
