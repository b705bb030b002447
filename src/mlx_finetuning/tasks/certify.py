"""Certify: the same questions to the trained model and to everything that was made of it.

MLX with the adapter answers first; then MLX with the adapter fused, every GGUF file of the run in
the embedded llama.cpp, and the models that were brought into an Ollama that answers now. Prompts
are compared as tokens, answers as texts, and logits where they can be had. Held-out questions come
first; a dataset without any is replaced by the general questions. Writes the run's
`certificate.json` and renews its page; `certificate` judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlx_finetuning import bases, config, files, ollama_integration
from mlx_finetuning.config import CertifyConfig, EvaluateConfig, GenerateConfig
from mlx_finetuning.errors import OllamaError
from mlx_finetuning.experiment_tracker.evaluation import report
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import Certificate, EngineRow
from mlx_finetuning.language import N_, _
from mlx_finetuning.messages import describe
from mlx_finetuning.mlx_trainer.batches import examples
from mlx_finetuning.mlx_trainer.batches.examples import Messages
from mlx_finetuning.mlx_trainer.inference import batch_generate, generate
from mlx_finetuning.mlx_trainer.kernels import cpu
from mlx_finetuning.mlx_trainer.model import adapter_layers
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, free_memory, load
from mlx_finetuning.progress import Step
from mlx_finetuning.quantizer.verify import diagnosis, parity, verification
from mlx_finetuning.quantizer.verify.parity import Reference
from mlx_finetuning.quantizer.verify.written import ADAPTER
from mlx_finetuning.runtime import Client, serve
from mlx_finetuning.tasks import certificate, reference
from mlx_finetuning.tasks.certificate import EngineAnswer
from mlx_finetuning.tasks.reference import SPLITS
from mlx_finetuning.tokenization.rows import read_rows
from mlx_finetuning.utils import gguf_base

HELD_OUT = ("test", "valid")
LOGIT_BYTES = 1 << 29
"""Of logits held in memory for comparing two MLX models."""
FUSED_LABEL = N_("MLX（アダプターを合わせたモデル）")


Ask = Callable[[Messages], EngineAnswer]
"""Answers a conversation that ends with a question."""


@dataclass(frozen=True)
class Questions:
    """What is asked of every engine."""

    conversations: tuple[Messages, ...]
    """Up to the last answer."""
    held_out: int
    """How many of them were not trained on."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainedAnswers:
    """What the trained model answers to the questions; every other engine is compared with it."""

    loaded: LoadedModel
    """Without weights."""
    conversations: tuple[Messages, ...]
    answers: tuple[EngineAnswer, ...]
    max_tokens: int


def run(context: TaskContext) -> Certificate:
    """config: CertifyConfig. Returns the certificate; a model that differs is a result.

    Raises RunError, ModelError, ExportError, DiskFull, Interrupted.
    """
    settings = config.load(CertifyConfig, context.config)
    run = runs.require_trained(context.workspace, context.run_id)
    questions = choose_questions(context, run.dataset, settings.prompts)
    folder = bases.of_run(run, context.workspace)
    trained, fused = _ask_mlx(context, folder, questions.conversations, settings.max_tokens)
    ggufs = _ask_ggufs(context, trained)
    deployed, notes = _ask_ollama(context, trained)
    rows = [certificate.reference_row(trained.answers), fused, *ggufs, *deployed]
    record = certificate.record(rows, questions.held_out, (*questions.notes, *notes))
    paths = context.workspace.run(context.run_id)
    files.write_json(paths.certificate, asdict(record))
    report.write_page(paths)
    return record


def choose_questions(context: TaskContext, dataset: str, most: int) -> Questions:
    """Up to `most` conversations of a dataset, held-out ones first; else general questions."""
    conversations: list[Messages] = []
    held_out = 0
    for split in SPLITS if dataset else ():
        path = context.workspace.dataset(dataset).split(split)
        for row in read_rows(path) if path.exists() else []:
            # Of a preference row the better answer; a row with tools cannot be put to every engine.
            for turns in [] if "tools" in row else examples.conversations(row)[:1]:
                is_question = len(turns) > 1 and turns[-1]["role"] == "assistant"
                if is_question and len(conversations) < most:
                    conversations.append(turns[:-1])
        if split in HELD_OUT:
            held_out = len(conversations)
    if conversations:
        return Questions(tuple(conversations), held_out)
    general = tuple(turns[:-1] for turns in reference.general_conversations()[:most])
    note = _("データに質問と回答の行がないため、一般の質問で比べました。")
    return Questions(general, len(general), (note,))


def _ask(
    context: TaskContext, stage: str, conversations: Sequence[Messages], ask: Ask
) -> tuple[EngineAnswer, ...]:
    answers = []
    for done, messages in enumerate(conversations, 1):
        answers.append(ask(messages))
        context.progress(Step(stage, done, len(conversations)))
    return tuple(answers)


# --- MLX ---------------------------------------------------------------------------------


def _ask_mlx(
    context: TaskContext, folder: Path, conversations: tuple[Messages, ...], max_tokens: int
) -> tuple[TrainedAnswers, EngineRow]:
    """What the trained model answers, and the row of the fused one."""
    context.progress(Step(_("モデルの読み込み"), 0, 0))
    cpu.keep_freed_memory()
    adapter = context.workspace.adapter(context.run_id).folder
    model = load(folder, adapter)
    expected = _mlx_answers(context, _("学習したモデルの答え"), model, conversations, max_tokens)
    references = _references(model, expected)
    exported = next(context.workspace.gguf_folder(context.run_id).glob("[!.]*-mlx/"), None)
    if exported is None:
        adapter_layers.fuse(model)
    else:
        del model
        free_memory()
        model = load(exported, asked_like=adapter)
    logit_parity = parity.compare((one, generate.logits(model, one.tokens)) for one in references)
    problems = []
    if not logit_parity.mean_kl < verification.FUSED_KL:
        problems.append(_("予測の差が {kl:.3g} です。").format(kl=logit_parity.mean_kl))
    fused = certificate.row(
        "mlx-fused",
        _(FUSED_LABEL),
        "" if exported is None else str(exported),
        _mlx_answers(context, _(FUSED_LABEL), model, conversations, max_tokens),
        expected,
        parity=logit_parity,
        is_exact=exported is None,  # an exported one is rounded to the base's type
        problems=problems,
    )
    trained = TrainedAnswers(model.without_weights(), conversations, expected, max_tokens)
    del model
    free_memory()
    return trained, fused


def _references(loaded: LoadedModel, answers: Sequence[EngineAnswer]) -> list[Reference]:
    """The trained model's logits over questions and its own answers, as far as they may take."""
    references: list[Reference] = []
    for answer in answers:
        if sum(one.logits.nbytes for one in references) >= LOGIT_BYTES:
            break
        answer_ids = loaded.tokenizer.encode(
            answer.reasoning + answer.text, add_special_tokens=False
        )
        tokens = [*answer.prompt_ids, *answer_ids][: loaded.context_length]
        references.append(Reference(tokens, generate.logits(loaded, tokens)))
    return references


def _mlx_answers(
    context: TaskContext,
    stage: str,
    loaded: LoadedModel,
    conversations: Sequence[Messages],
    max_tokens: int,
) -> tuple[EngineAnswer, ...]:
    """All at once, which takes a fraction of the time. Raises PromptTooLong."""
    prompts = [loaded.render(messages, ask=True) for messages in conversations]
    for prompt in prompts:
        generate.answer_room(loaded, prompt, GenerateConfig(max_tokens=max_tokens))
    answers = batch_generate.answers(
        loaded,
        prompts,
        max_tokens,
        EvaluateConfig.batch_size,
        lambda done: context.progress(Step(stage, done, len(prompts))),
    )
    return tuple(
        EngineAnswer(
            messages[-1]["content"], tuple(prompt), answer.text, answer.ended, answer.reasoning
        )
        for messages, prompt, answer in zip(conversations, prompts, answers, strict=True)
    )


# --- GGUF in the embedded llama.cpp ------------------------------------------------------


def _ask_ggufs(context: TaskContext, trained: TrainedAnswers) -> list[EngineRow]:
    paths = context.workspace.gguf_folder(context.run_id).glob("[!.]*.gguf")
    made = sorted(paths)
    if not made:
        return []
    reference_model = reference.of_run(context, verification.MIN_TOKENS)
    rows = []
    for path in made:
        if path.stem.endswith(ADAPTER):
            rows += _ask_with_adapter(context, trained, reference_model, path)
            continue
        examined = reference.examine(reference_model, path, context.progress)
        faults = diagnosis.problems(path, reference_model.model, reference_model.adapter)
        # A named fault of the weights says more than each tensor's figure.
        said = examined.weight_errors if faults else ()
        problems = [problem for problem in examined.problems if problem not in said]
        quant = examined.structure.quant
        label = _("GGUF {quant}（llama.cpp）").format(quant=quant)
        with serve(path) as client:
            ask = _llama_cpp_engine(client, reference_model, trained.max_tokens)
            answers = _ask(context, label, trained.conversations, ask)
        rows.append(
            certificate.row(
                quant,
                label,
                str(path),
                answers,
                trained.answers,
                parity=examined.logits,
                is_exact=quant in verification.EXACT,
                problems=[*faults, *problems],
                verdict=examined.verdict,
            )
        )
    return rows


def _ask_with_adapter(
    context: TaskContext,
    trained: TrainedAnswers,
    reference_model: reference.TrainedModel,
    path: Path,
) -> list[EngineRow]:
    """The base's own GGUF file with the adapter put on; no row where the base is another folder."""
    base = gguf_base.read(reference_model.model)
    compared = reference.compare_on_base(reference_model, path, context.progress)
    if base is None or compared is None:
        return []
    label = _("元のGGUF＋アダプター（llama.cpp）")
    chat = reference_model.loaded.chat
    with serve(base.file, adapter=path) as client:

        def ask(messages: Messages) -> EngineAnswer:
            # The base's own template need not be the run's: as `chat` does, the trained ids are asked.
            prompt_ids = reference_model.loaded.render(messages, ask=True)
            answer = client.answer_ids(prompt_ids, trained.max_tokens, signs=chat.form.signs)
            reasoning, text = chat.split(answer.text)
            question = messages[-1]["content"]
            return EngineAnswer(question, tuple(prompt_ids), text, answer.ended, reasoning)

        answers = _ask(context, label, trained.conversations, ask)
    return [
        certificate.row(
            "gguf-lora",
            label,
            str(path),
            answers,
            trained.answers,
            parity=compared,
            is_exact=False,
            problems=verification.adapter_problems(compared),
        )
    ]


def _llama_cpp_engine(client: Client, trained: reference.TrainedModel, max_tokens: int) -> Ask:
    chat = trained.loaded.chat
    signs = chat.form.signs

    def ask(messages: Messages) -> EngineAnswer:
        prompt = client.apply_template(messages)
        prompt_ids = client.tokenize(prompt, add_special=True)
        expected_ids = trained.loaded.render(messages, ask=True)
        if prompt_ids == expected_ids:
            asks_with_ids = bool(signs)
        else:
            asks_with_ids = trained.explains(prompt, expected_ids, prompt_ids)
        if asks_with_ids:
            # As `chat --engine gguf` asks: with the ids that were trained.
            prompt_ids = expected_ids
            answer = client.answer_ids(expected_ids, max_tokens, signs=signs)
        else:
            answer = client.chat(messages, max_tokens)
        reasoning, text = chat.split(answer.text)
        question = messages[-1]["content"]
        return EngineAnswer(question, tuple(prompt_ids), text, answer.ended, reasoning)

    return ask


# --- Ollama ------------------------------------------------------------------------------


def _ask_ollama(context: TaskContext, trained: TrainedAnswers) -> tuple[list[EngineRow], list[str]]:
    """The models that were deployed from this run and are still there; and which could not be asked.

    One with a system text of its own has another prompt by intention.
    """
    rows: list[EngineRow] = []
    notes = []
    systems = {
        turns[0]["content"] if turns[0]["role"] == "system" else ""
        for turns in trained.conversations
    }
    for deployed in runs.deployments(context.workspace, context.run_id):
        name = deployed.name
        if systems - {deployed.system}:
            notes.append(
                _("Ollamaの「{name}」は、システム文が違うため比べていません。").format(name=name)
            )
            continue
        try:
            with ollama_integration.connect(deployed.host) as client:
                if not ollama_integration.find(client, name):
                    continue
                label = f"Ollama {name}"
                ask = _ollama_engine(client, name, trained)
                answers = _ask(context, label, trained.conversations, ask)
        except OllamaError as error:
            notes.append(
                _("Ollamaの「{name}」は比べられませんでした。{what}").format(
                    name=name, what=describe(error).what
                )
            )
            continue
        is_exact = deployed.quant in verification.EXACT
        rows.append(
            certificate.row(
                "ollama", label, name, answers, trained.answers, parity=None, is_exact=is_exact
            )
        )
    return rows, notes


def _ollama_engine(client: ollama_integration.Client, name: str, trained: TrainedAnswers) -> Ask:
    """Ollama tells the prompt as text and the number of its tokens; both must agree."""
    loaded = trained.loaded
    bos = loaded.tokenizer.bos_token or ""

    def ask(messages: Messages) -> EngineAnswer:
        pieces = list(client.chat(name, messages, trained.max_tokens, temperature=0.0))
        last = pieces[-1]
        # llama.cpp takes the bos away from the text and adds it again when it cuts the text.
        prompt = client.render(name, messages).removeprefix(bos)
        if bos and loaded.render_text(messages, ask=True).startswith(bos):
            prompt = bos + prompt
        prompt_ids = tuple(loaded.tokenizer.encode(prompt, add_special_tokens=False))
        if last.prompt_tokens != len(prompt_ids):
            prompt_ids = ()
        reasoning, text = ollama_integration.words(pieces, loaded.chat.split)
        return EngineAnswer(messages[-1]["content"], prompt_ids, text, last.ended, reasoning)

    return ask
