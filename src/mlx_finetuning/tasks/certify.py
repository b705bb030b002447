"""Certify: the same questions to the trained model and to everything that was made of it.

MLX with the adapter answers first; then MLX with the adapter merged, every GGUF file of the run in
the embedded llama.cpp, and the models that were brought into an Ollama that answers now. Prompts
are compared as tokens, answers as texts, and logits where they can be had. Held-out questions come
first; a dataset without any is replaced by the general questions. Writes the run's
`certificate.json` and renews its page; `certificate` judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_finetuning import config, files, models, ollama_integration
from mlx_finetuning.config import CertifyConfig, GenerateConfig
from mlx_finetuning.data_processor import read_rows
from mlx_finetuning.errors import OllamaError
from mlx_finetuning.experiment_tracker.evaluation import report
from mlx_finetuning.jobs import runs
from mlx_finetuning.messages_ja import describe
from mlx_finetuning.mlx_trainer.batches import examples
from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.model import adapter_toggle
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, free_memory, load
from mlx_finetuning.progress import Step
from mlx_finetuning.quantizer.verify import diagnosis, parity, verify
from mlx_finetuning.quantizer.verify.parity import Reference
from mlx_finetuning.runtime import Client, serve
from mlx_finetuning.tasks import certificate, reference
from mlx_finetuning.tasks.certificate import Row, Said
from mlx_finetuning.tasks.context import TaskContext
from mlx_finetuning.tasks.reference import SPLITS, Messages

HELD_OUT = ("test", "valid")
LOGIT_BYTES = 1 << 29
"""Of logits kept for comparing two MLX models."""
MERGED_KL = 0.05
"""Nats: what rounding merged weights to 16 bits may cost; far below any fault."""


Speaker = Callable[[Messages], Said]
"""Puts a question to an engine."""


@dataclass(frozen=True)
class Questions:
    conversations: tuple[Messages, ...]
    """Up to the last answer."""
    held_out: int
    """How many of them were not trained on."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """The questions, and what the trained model says to them."""

    loaded: LoadedModel
    """Without weights."""
    conversations: tuple[Messages, ...]
    """Up to the last answer."""
    expected: tuple[Said, ...]
    max_tokens: int


def run(context: TaskContext) -> dict[str, Any]:
    """config: CertifyConfig. Returns the certificate; a model that differs is a result.

    Raises RunError, ModelError, ExportError, DiskFull, Interrupted.
    """
    settings = config.load(CertifyConfig, context.config)
    trained = runs.require_trained(context.workspace, context.run_id)
    questions = _questions(context, trained.dataset, settings.prompts)
    folder = models.resolve(trained.model, context.workspace)
    asked, merged = _by_mlx(context, folder, questions.conversations, settings)
    written = list(_by_llama_cpp(context, asked))
    deployed, notes = _by_ollama(context, asked)
    rows = [certificate.reference_row(asked.expected), merged, *written, *deployed]
    record = certificate.record(rows, questions.held_out, (*questions.notes, *notes))
    paths = context.workspace.run(context.run_id)
    files.write_json(paths.certificate, record)
    report.write_page(paths)
    return record


def _questions(context: TaskContext, dataset: str, most: int) -> Questions:
    found: list[Messages] = []
    held_out = 0
    for split in SPLITS:
        path = context.workspace.dataset(dataset).split(split)
        rows = read_rows(path) if path.exists() else []
        chats = [turns for row in rows for turns in _chats(row)]
        found += [turns[:-1] for turns in chats][: most - len(found)]
        held_out = len(found) if split in HELD_OUT else held_out
    if found:
        return Questions(tuple(found), held_out)
    general = tuple(turns[:-1] for turns in reference.general_conversations()[:most])
    note = "データに質問と回答の行がないため、一般の質問で比べました。"
    return Questions(general, len(general), (note,))


def _chats(row: dict[str, Any]) -> list[Messages]:
    """The row's conversation, if it can be put to every engine."""
    chats = [] if "tools" in row else examples.conversations(row)[:1]
    return [turns for turns in chats if len(turns) > 1 and turns[-1]["role"] == "assistant"]


# --- MLX ---------------------------------------------------------------------------------


def _by_mlx(
    context: TaskContext,
    folder: Path,
    conversations: tuple[Messages, ...],
    settings: CertifyConfig,
) -> tuple[Asked, Row]:
    """What the trained model says, and the row of the merged one."""
    context.progress(Step("モデルの読み込み", 0, 0))
    adapter = context.workspace.adapter(context.run_id).folder
    tuned = load(folder, adapter)
    speak = _mlx_speaker(tuned, settings.max_tokens)
    said = _ask(context, "学習したモデルの答え", conversations, speak)
    references = _references(tuned, said)
    written = next(context.workspace.gguf_folder(context.run_id).glob("[!.]*-mlx/"), None)
    if written is None:
        adapter_toggle.fuse(tuned)
    else:
        del tuned, speak
        free_memory()
        tuned = load(written, asked_like=adapter)
    merged = _merged(context, tuned, written, conversations, said, references, settings)
    loaded = tuned.without_weights()
    del tuned
    free_memory()
    return Asked(loaded, conversations, said, settings.max_tokens), merged


def _merged(
    context: TaskContext,
    loaded: LoadedModel,
    written: Path | None,
    conversations: Sequence[Messages],
    expected: tuple[Said, ...],
    references: Sequence[Reference],
    settings: CertifyConfig,
) -> Row:
    label = "MLX（アダプターを合わせたモデル）"
    found = parity.compare((one, generate.logits(loaded, one.tokens)) for one in references)
    is_off = not found.mean_kl < MERGED_KL
    return certificate.row(
        "mlx-fused",
        label,
        "" if written is None else str(written),
        _ask(context, label, conversations, _mlx_speaker(loaded, settings.max_tokens)),
        expected,
        parity=found,
        is_exact=written is None,  # a written one is rounded to the base's type
        problems=[f"予測の差（KL）が {found.mean_kl:.3g} です。"] if is_off else [],
    )


def _references(loaded: LoadedModel, said: Sequence[Said]) -> list[Reference]:
    """The trained model's logits over questions and its own answers, as far as they may take."""
    found: list[Reference] = []
    taken = 0
    for one in said:
        if taken >= LOGIT_BYTES:
            break
        words = one.reasoning + one.text
        answer = loaded.tokenizer.encode(words, add_special_tokens=False)
        tokens = [*one.prompt_ids, *answer][: loaded.context_length]
        found.append(Reference(tokens, generate.logits(loaded, tokens)))
        taken += found[-1].logits.nbytes
    return found


def _mlx_speaker(loaded: LoadedModel, max_tokens: int) -> Speaker:
    def speak(messages: Messages) -> Said:
        answer = generate.answer(loaded, messages, GenerateConfig(max_tokens=max_tokens))
        prompt = tuple(loaded.render(messages, ask=True))
        question = messages[-1]["content"]
        return Said(question, prompt, answer.text, answer.ended, answer.reasoning)

    return speak


# --- GGUF in the embedded llama.cpp ------------------------------------------------------


def _by_llama_cpp(context: TaskContext, asked: Asked) -> Iterator[Row]:
    made = context.workspace.gguf_folder(context.run_id).glob("[!.]*.gguf")
    whole = sorted(path for path in made if not path.stem.endswith("-adapter"))
    if not whole:
        return
    trained = reference.of_run(context, verify.MIN_TOKENS)
    for path in whole:
        yield _gguf_row(context, trained, path, asked)


def _gguf_row(context: TaskContext, trained: reference.Trained, path: Path, asked: Asked) -> Row:
    examined = reference.examine(trained, path, context.progress)
    named = diagnosis.problems(path, trained.model, trained.adapter)
    # A named fault of the weights says more than each tensor's figure.
    listed = [one for one in examined.problems if not (named and one.startswith("重み "))]
    quant = examined.structure.quant
    label = f"GGUF {quant}（llama.cpp）"
    with serve(path) as client:
        speak = _llama_speaker(client, trained, asked.max_tokens)
        said = _ask(context, label, asked.conversations, speak)
    return certificate.row(
        quant,
        label,
        str(path),
        said,
        asked.expected,
        parity=examined.logits,
        is_exact=quant in verify.EXACT,
        problems=[*named, *listed],
        words=examined.verdict,
    )


def _llama_speaker(client: Client, trained: reference.Trained, max_tokens: int) -> Speaker:
    def speak(messages: Messages) -> Said:
        text = client.apply_template(messages)
        prompt, expected = (
            client.tokenize(text, add_special=True),
            trained.loaded.render(messages, ask=True),
        )
        signs = trained.loaded.chat.form.signs
        if (signs and prompt == expected) or (
            prompt != expected and trained.explains(text, expected, prompt)
        ):
            # As `chat --engine gguf` asks: with the ids that were trained.
            answer, prompt = client.answer_ids(expected, max_tokens, signs=signs), expected
        else:
            answer = client.chat(messages, max_tokens)
        reasoning, text = trained.loaded.chat.split(answer.text)
        return Said(messages[-1]["content"], tuple(prompt), text, answer.ended, reasoning)

    return speak


# --- Ollama ------------------------------------------------------------------------------


def _by_ollama(context: TaskContext, asked: Asked) -> tuple[list[Row], list[str]]:
    """The models that were deployed from this run and are still there; and which could not be asked.

    One with a system text of its own has another prompt by intention.
    """
    rows: list[Row] = []
    notes = []
    for deployed in runs.deployments(context.workspace, context.run_id):
        name = deployed["name"]
        if any(deployed["system"] != _system(messages) for messages in asked.conversations):
            notes.append(f"Ollamaの「{name}」は、システム文が違うため比べていません。")
            continue
        try:
            with ollama_integration.connect(deployed["host"]) as client:
                if ollama_integration.find(client, name):
                    rows.append(_ollama_row(context, client, deployed, asked))
        except OllamaError as error:
            notes.append(f"Ollamaの「{name}」は比べられませんでした。{describe(error).what}")
    return rows, notes


def _system(messages: Messages) -> str:
    return messages[0]["content"] if messages[0]["role"] == "system" else ""


def _ollama_row(
    context: TaskContext, client: ollama_integration.Client, deployed: dict[str, Any], asked: Asked
) -> Row:
    label = f"Ollama {deployed['name']}"
    said = _ask(
        context, label, asked.conversations, _ollama_speaker(client, deployed["name"], asked)
    )
    return certificate.row(
        "ollama",
        label,
        deployed["name"],
        said,
        asked.expected,
        parity=None,
        is_exact=deployed.get("quant") in verify.EXACT,
    )


def _ollama_speaker(client: ollama_integration.Client, name: str, asked: Asked) -> Speaker:
    """Ollama tells the prompt as text and the number of its tokens; both must agree."""
    tokenizer = asked.loaded.tokenizer
    bos = tokenizer.bos_token or ""

    def speak(messages: Messages) -> Said:
        *pieces, last = client.chat(name, messages, asked.max_tokens, temperature=0.0)
        # llama.cpp takes the bos away from the text and adds it again when it cuts the text.
        text = client.render(name, messages).removeprefix(bos)
        if bos and asked.loaded.render_text(messages, ask=True).startswith(bos):
            text = bos + text
        ids = tuple(tokenizer.encode(text, add_special_tokens=False))
        told = ids if last.prompt_tokens == len(ids) else ()
        reasoning, answer = ollama_integration.words((*pieces, last), asked.loaded.chat.split)
        return Said(messages[-1]["content"], told, answer, last.ended, reasoning)

    return speak


def _ask(
    context: TaskContext, stage: str, conversations: Sequence[Messages], speak: Speaker
) -> tuple[Said, ...]:
    said = []
    for done, messages in enumerate(conversations, 1):
        said.append(speak(messages))
        context.progress(Step(stage, done, len(conversations)))
    return tuple(said)
