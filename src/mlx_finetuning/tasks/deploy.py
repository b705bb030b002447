"""Deploy: brings a run's model into Ollama and hands it over only if it does what was trained.

What Ollama makes of conversations of the run's own dataset, else of general questions, is compared
with the trained model: the prompt it feeds, as text and as a number of tokens, the answers at
temperature 0, and whether they end by themselves. A model that differs is removed again. Where the
base is Ollama's own model and the server takes adapters, the adapter alone can be brought.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_finetuning import bases, config, files, models
from mlx_finetuning.config import DeployConfig, GenerateConfig
from mlx_finetuning.errors import (
    BaseFileChanged,
    ChatTemplateMissing,
    ConversationRefused,
    InvalidSettings,
    OllamaDiffers,
)
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import Deployment
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.batches.examples import Messages
from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.models import ollama_store
from mlx_finetuning.models.ollama_store import Parameter
from mlx_finetuning.ollama_integration import Client, connect, deploy, modelfile, names, words
from mlx_finetuning.ollama_integration.deploy import ModelDefinition
from mlx_finetuning.progress import Step
from mlx_finetuning.quantizer.verify import written
from mlx_finetuning.tasks import export, reference
from mlx_finetuning.tokenization.answer import Answer
from mlx_finetuning.utils import chat_template, gguf_base, gguf_reader

NEARLY_EXACT = ("F32", "F16", "BF16", "Q8_0")
"""Types whose answers must mostly be the trained model's; below, quantization changes some."""
LEAST_EQUAL = 0.5
ADAPTER_QUANT = "adapter"
"""What a record says in place of a type where only an adapter was brought."""


@dataclass(frozen=True)
class Compared:
    """One conversation, in Ollama and by the trained model."""

    expected: Answer
    answer: Answer
    problem: str = ""
    """In Japanese, where Ollama feeds the model something else or does not stop it."""

    @property
    def is_equal(self) -> bool:
        """With reasoning, where there is any."""
        a, b = self.expected, self.answer
        return (a.reasoning.strip(), a.text.strip()) == (b.reasoning.strip(), b.text.strip())


def run(context: TaskContext) -> Deployment:
    """config: DeployConfig with `name` (empty: made from model and run), `host` (None:
    OLLAMA_HOST) and `replace`.

    Raises OllamaError, RunError, ModelError, ExportError, DiskFull, Interrupted.
    """
    values = dict(context.config)
    name, host, replaces = values.pop("name"), values.pop("host"), values.pop("replace")
    settings = config.load(DeployConfig, values)
    run = runs.require_trained(context.workspace, context.run_id)
    settings = replace(settings, quant=bases.quant(settings.quant, run.model))
    name = names.checked(name or names.default(run.model, context.run_id))
    with connect(host) as client:
        deploy.check_name(client, name, replace=replaces)
        context.progress(Step(_("モデルの読み込み"), 0, 0))
        folder = bases.of_run(run, context.workspace)
        adapter = context.workspace.adapter(context.run_id).folder
        base = ""
        if settings.form == "adapter":
            base = base_in_ollama(client, run.model, folder)
            deploy.require_adapters(client, name, base)
        # Lazily: the export, which comes before the first answer, needs the memory.
        loaded = load(folder, adapter, lazy=True)
        if loaded.chat.template is None:
            raise ChatTemplateMissing()
        gguf = _deployable_gguf(context, settings)
        conversations = reference.conversations(context, run.dataset)
        definition = definition_of(name, gguf, loaded, conversations, settings)
        definition = replace(
            definition,
            base=base,
            license_text=licence_of(run.model, folder),
            parameters=with_those_of_base(
                definition.parameters, ollama_store.parameters(run.model)
            ),
        )
        return _deploy(context, client, definition, loaded, conversations, settings)


def _deploy(
    context: TaskContext,
    client: Client,
    definition: ModelDefinition,
    loaded: LoadedModel,
    conversations: Sequence[Messages],
    settings: DeployConfig,
) -> Deployment:
    """Under a draft's name first, which is removed again if it differs. Raises OllamaDiffers."""
    digest = deploy.create_draft(client, definition, context.progress)
    try:
        compared = []
        chosen = [turns for turns in conversations if len(turns) > 1][: settings.prompts]
        for done, turns in enumerate(chosen):
            context.progress(Step(_("Ollamaの答えの確認"), done, len(chosen)))
            compared.append(_compare(client, definition, loaded, turns, settings.max_tokens))
        equal = sum(one.is_equal for one in compared)
        problems = list(dict.fromkeys(one.problem for one in compared if one.problem))
        is_nearly_exact = bool(definition.base) or settings.quant in NEARLY_EXACT
        if is_nearly_exact and equal < LEAST_EQUAL * len(compared):
            problems.append(
                _("{total}問のうち、答えが一致したのは{equal}問だけです。").format(
                    total=len(compared), equal=equal
                )
            )
        if problems:
            raise OllamaDiffers(name=definition.name, problems=problems)
    except BaseException:
        deploy.discard(client, definition.draft_name)
        raise
    deploy.publish(client, definition)
    modelfile_path = definition.gguf.with_suffix(".Modelfile")
    files.write_text(modelfile_path, modelfile_of(definition, modelfile_path.name))
    return Deployment(
        name=definition.name,
        host=client.address.url,
        path=str(definition.gguf),
        quant=ADAPTER_QUANT if definition.base else settings.quant,
        digest=digest,
        modelfile=str(modelfile_path),
        system=definition.system,
        parameters=dict(definition.parameters),
        details=client.show(definition.name).get("details", {}),
        compared=len(compared),
        equal_answers=equal,
        ended_answers=sum(one.answer.ended for one in compared),
        verdict=_(
            "学習したモデルと同じプロンプトで動きます（{total}問で確認、答えが一致したのは{equal}問）。"
        ).format(total=len(compared), equal=equal),
    )


# --- what is deployed --------------------------------------------------------------------


def base_in_ollama(client: Client, model: str, folder: Path) -> str:
    """The name in Ollama of a run's base, which has the content there that was trained on.

    Raises InvalidSettings for a base from elsewhere, OllamaModelNotFound, BaseFileChanged.
    """
    base = gguf_base.read(folder)
    if base is None or not model.startswith(ollama_store.PREFIX):
        problem = _("form: アダプターだけを登録できるのは、ベースが ollama:名前 の実験です。")
        raise InvalidSettings(problems=[problem])
    name = model.removeprefix(ollama_store.PREFIX)
    # Its Modelfile names the blob, whose name is its SHA-256.
    if base.sha256 not in str(client.show(name).get("modelfile")):
        reason = _("Ollamaにある同じ名前のモデルは、学習したものと中身が違います。")
        raise BaseFileChanged(path=model, reason=reason)
    return name


def _deployable_gguf(context: TaskContext, settings: DeployConfig) -> Path:
    """The run's file of that form and type, made if there is none that Ollama would leave as it is, or
    if the run went on since."""
    is_adapter = settings.form == "adapter"
    ending = written.ADAPTER if is_adapter else f"-{settings.quant}"
    trained_ns = context.workspace.adapter(context.run_id).weights.stat().st_mtime_ns
    for path in sorted(context.workspace.gguf_folder(context.run_id).glob(f"[!.]*{ending}.gguf")):
        if path.stat().st_mtime_ns < trained_ns:
            continue
        if is_adapter:
            return path
        template = gguf_reader.read(path).metadata.get("tokenizer.chat_template")
        if template and chat_template.is_protected(template):
            return path
    made = {"format": "gguf-lora"} if is_adapter else {"quant": settings.quant}
    return Path(export.run(replace(context, config=made)).path)


def definition_of(
    name: str,
    gguf: Path,
    loaded: LoadedModel,
    conversations: Sequence[Messages],
    settings: DeployConfig,
) -> ModelDefinition:
    """A file as a model in Ollama that converses as it was trained. Raises InvalidSettings."""
    systems = {
        turns[0]["content"] if turns[0]["role"] == "system" else "" for turns in conversations
    }
    # A system text that all of the dataset's conversations begin with is the model's own.
    system = settings.system or (systems.pop() if len(systems) == 1 else "")
    require_system_role(loaded, system)
    parameters = {
        "num_ctx": min(settings.context, loaded.context_length),
        "stop": loaded.end_texts(),
        "temperature": settings.temperature,
        # Older versions punish repetition, which the training never saw.
        "repeat_penalty": 1.0,
    }
    return ModelDefinition(name, gguf, system, parameters)


def with_those_of_base(
    parameters: Mapping[str, Parameter], of_base: Mapping[str, Parameter]
) -> dict[str, Parameter]:
    """Parameters of a model whose base is Ollama's own: what the training needs, else what the base is
    run with there; an answer ends where either ends it."""
    stops = (both.get("stop", []) for both in (parameters, of_base))
    ends = [text for stop in stops for text in (stop if isinstance(stop, list) else [str(stop)])]
    return {**of_base, **parameters, "stop": list(dict.fromkeys(ends))}


def modelfile_of(definition: ModelDefinition, file: str) -> str:
    """The content of a Modelfile of this name, which lies beside the GGUF file."""
    return modelfile.text(
        definition.name,
        definition.gguf.name,
        file,
        definition.system,
        definition.parameters,
        definition.license_text,
        definition.base,
    )


def require_system_role(loaded: LoadedModel, system: str) -> None:
    """Raises InvalidSettings where the model's template refuses a system text or leaves it out."""
    if not system:
        return
    turns = [{"role": "system", "content": system}, {"role": "user", "content": "?"}]
    with contextlib.suppress(ConversationRefused):
        if system.strip() in loaded.render_text(turns, ask=True):
            return
    raise InvalidSettings(
        problems=[_("system: このモデルの会話の形は、システム文を使えません。空にしてください。")]
    )


def licence_of(model: str, folder: Path) -> str:
    """The base model's licence: its own file, else the name of it that the catalogue knows."""
    paths = sorted(folder.glob("LICENSE*"))
    if paths:
        return paths[0].read_text(encoding="utf-8", errors="replace")
    entry = models.find(model)
    return entry.licence if entry else ""


# --- what is proven ----------------------------------------------------------------------


def _compare(
    client: Client,
    definition: ModelDefinition,
    loaded: LoadedModel,
    turns: Messages,
    max_tokens: int,
) -> Compared:
    """turns: a conversation with its last answer, which is asked for again."""
    # Without its system text: the model in Ollama brings its own.
    messages = [turn for turn in turns[:-1] if turn["role"] != "system"]
    system = [{"role": "system", "content": definition.system}] if definition.system else []
    trained_messages = [*system, *messages]
    expected = generate.answer(loaded, trained_messages, GenerateConfig(max_tokens=max_tokens))
    chunks = list(client.chat(definition.draft_name, messages, max_tokens, temperature=0.0))
    last = chunks[-1]
    reasoning, text = words(chunks, loaded.chat.split)
    answer = Answer(text, last.tokens, last.ended, last.prompt_tokens, reasoning)
    # llama.cpp takes the bos away from the text and adds it again when it cuts the text.
    bos = loaded.tokenizer.bos_token or ""
    prompt = client.render(definition.draft_name, messages).removeprefix(bos)
    trained_prompt = loaded.render_text(trained_messages, ask=True).removeprefix(bos)
    problem = ""
    if prompt != trained_prompt:
        problem = _("プロンプトの組み立て方が、学習のときと違います。")
    elif last.prompt_tokens != len(loaded.render(trained_messages, ask=True)):
        problem = _("プロンプトのトークン数が、学習のときと違います（BOSの重複など）。")
    elif expected.ended and not answer.ended:
        problem = _("学習したモデルが自分で終える答えが、終わりません。")
    return Compared(expected, answer, problem)
