"""Deploy: brings a run's model into Ollama and hands it over only if it does what was trained.

What Ollama makes of conversations of the run's own dataset, else of general questions, is compared
with the trained model: the prompt it feeds, as text and as a number of tokens, the answers at
temperature 0, and whether they end by themselves. A model that differs is removed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_finetuning import config, files, models
from mlx_finetuning.config import DeployConfig, GenerateConfig
from mlx_finetuning.errors import (
    ChatTemplateMissing,
    ConversationRefused,
    InvalidSettings,
    OllamaDiffers,
)
from mlx_finetuning.jobs import runs
from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.inference.generate import Answer
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.ollama_integration import Client, connect, deploy, modelfile, names, words
from mlx_finetuning.ollama_integration.deploy import Recipe
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.quantizer.formats import gguf_reader
from mlx_finetuning.tasks import export, reference
from mlx_finetuning.tasks.context import TaskContext
from mlx_finetuning.tasks.reference import Messages
from mlx_finetuning.utils import chat_template

NEARLY_EXACT = ("F32", "F16", "BF16", "Q8_0")
"""Types whose answers must mostly be the trained model's; below, quantization changes some."""
LEAST_EQUAL = 0.5


@dataclass(frozen=True)
class Compared:
    """One conversation, in Ollama and by the trained model."""

    question: str
    expected: Answer
    answer: Answer
    problem: str = ""
    """In Japanese, where Ollama feeds the model something else or does not stop it."""

    @property
    def is_equal(self) -> bool:
        """With reasoning, where there is any."""
        said = [(one.reasoning.strip(), one.text.strip()) for one in (self.expected, self.answer)]
        return said[0] == said[1]


def run(context: TaskContext) -> dict[str, Any]:
    """config: DeployConfig with `name` (empty: made from model and run), `host` (None:
    OLLAMA_HOST) and `replace`.

    Raises OllamaError, RunError, ModelError, ExportError, DiskFull, Interrupted.
    """
    given = dict(context.config)
    name, host, replaces = given.pop("name"), given.pop("host"), given.pop("replace")
    settings = config.load(DeployConfig, given)
    trained = runs.require_trained(context.workspace, context.run_id)
    name = names.checked(name or names.default(trained.model, context.run_id))
    with connect(host) as client:
        deploy.check_name(client, name, replace=replaces)
        context.progress(Step("モデルの読み込み", 0, 0))
        folder = models.resolve(trained.model, context.workspace)
        adapter = context.workspace.adapter(context.run_id).folder
        loaded = load(folder, adapter, lazy=True)  # the export before its first answer needs room
        if not loaded.tokenizer.has_chat_template:
            raise ChatTemplateMissing()
        gguf = _gguf(context, settings.quant)
        conversations = reference.conversations(context, trained.dataset)
        licence = licence_of(trained.model, folder)
        recipe = _recipe(name, gguf, loaded, conversations, settings, licence)
        return _deployed(context, client, recipe, loaded, conversations, settings)


def _deployed(
    context: TaskContext,
    client: Client,
    recipe: Recipe,
    loaded: LoadedModel,
    conversations: Sequence[Messages],
    settings: DeployConfig,
) -> dict[str, Any]:
    digest = deploy.create_draft(client, recipe, context.progress)
    try:
        compared = _compare(client, recipe, loaded, conversations, settings, context.progress)
        _require_same(recipe.name, compared, settings.quant)
    except BaseException:
        deploy.discard(client, recipe.draft_name)
        raise
    deploy.publish(client, recipe)
    written = _write_modelfile(recipe)
    shown = client.show(recipe.name)
    equal = sum(one.is_equal for one in compared)
    return {
        "name": recipe.name,
        "host": client.address.url,
        "path": str(recipe.gguf),
        "quant": settings.quant,
        "digest": digest,
        "modelfile": str(written),
        "system": recipe.system,
        "parameters": dict(recipe.parameters),
        "details": shown.get("details", {}),
        "compared": len(compared),
        "equal_answers": equal,
        "ended_answers": sum(one.answer.ended for one in compared),
        "verdict": f"学習したモデルと同じプロンプトで動きます（{len(compared)}問で確認、"
        f"答えが一致したのは{equal}問）。",
    }


# --- what is deployed --------------------------------------------------------------------


def _gguf(context: TaskContext, quant: str) -> Path:
    """The run's file of that type, made if there is none that Ollama would leave as it is, or if
    the run went on since."""
    made = sorted(context.workspace.gguf_folder(context.run_id).glob(f"[!.]*-{quant}.gguf"))
    trained_ns = context.workspace.adapter(context.run_id).weights.stat().st_mtime_ns
    for path in (path for path in made if path.stat().st_mtime_ns >= trained_ns):
        template = gguf_reader.read(path).metadata.get("tokenizer.chat_template")
        if template and chat_template.is_protected(template):
            return path
    result = export.run(replace(context, config={"quant": quant}))
    return Path(result["path"])


def _recipe(
    name: str,
    gguf: Path,
    loaded: LoadedModel,
    conversations: Sequence[Messages],
    settings: DeployConfig,
    licence: str,
) -> Recipe:
    system = settings.system or _trained_system(conversations)
    require_system_role(loaded, system)
    parameters = {
        "num_ctx": min(settings.context, loaded.context_length),
        "stop": loaded.end_texts(),
        "temperature": settings.temperature,
        "repeat_penalty": 1.0,  # older versions punish repetition, which the training never saw
    }
    return Recipe(name, gguf, system, parameters, licence)


def _trained_system(conversations: Sequence[Messages]) -> str:
    """The system text that all of the dataset's conversations begin with, or none."""
    first = {turns[0]["content"] if turns[0]["role"] == "system" else "" for turns in conversations}
    return first.pop() if len(first) == 1 else ""


def require_system_role(loaded: LoadedModel, system: str) -> None:
    """Raises InvalidSettings where the model's template refuses a system text or leaves it out."""
    if not system or system.strip() in _rendered_with(loaded, system):
        return
    raise InvalidSettings(
        problems=["system: このモデルの会話の形は、システム文を使えません。空にしてください。"]
    )


def _rendered_with(loaded: LoadedModel, system: str) -> str:
    turns = [{"role": "system", "content": system}, {"role": "user", "content": "?"}]
    try:
        return loaded.render_text(turns, ask=True)
    except ConversationRefused:
        return ""


def licence_of(model: str, folder: Path) -> str:
    """The base model's licence: its own file, else the name of it that the catalogue knows."""
    found = sorted(folder.glob("LICENSE*"))
    if found:
        return found[0].read_text(encoding="utf-8", errors="replace")
    entry = models.find(model)
    return entry.licence if entry else ""


def _write_modelfile(recipe: Recipe) -> Path:
    path = recipe.gguf.with_suffix(".Modelfile")
    text = modelfile.text(
        recipe.name,
        recipe.gguf.name,
        path.name,
        recipe.system,
        recipe.parameters,
        recipe.license_text,
    )
    files.write_text(path, text)
    return path


# --- what is proven ----------------------------------------------------------------------


def _compare(
    client: Client,
    recipe: Recipe,
    loaded: LoadedModel,
    conversations: Sequence[Messages],
    settings: DeployConfig,
    progress: Progress,
) -> list[Compared]:
    questions = [_question(turns) for turns in conversations if len(turns) > 1]
    chosen = questions[: settings.prompts]
    compared = []
    for done, messages in enumerate(chosen):
        progress(Step("Ollamaの答えの確認", done, len(chosen)))
        compared.append(_compare_one(client, recipe, loaded, messages, settings))
    return compared


def _question(turns: Messages) -> Messages:
    """A conversation up to its last answer, without a system text: the model brings its own."""
    return [turn for turn in turns[:-1] if turn["role"] != "system"]


def _compare_one(
    client: Client,
    recipe: Recipe,
    loaded: LoadedModel,
    messages: Messages,
    settings: DeployConfig,
) -> Compared:
    system = [{"role": "system", "content": recipe.system}] if recipe.system else []
    wanted = [*system, *messages]
    expected = generate.answer(loaded, wanted, GenerateConfig(max_tokens=settings.max_tokens))
    pieces = list(client.chat(recipe.draft_name, messages, settings.max_tokens, temperature=0.0))
    last = pieces[-1]
    reasoning, text = words(pieces, loaded.chat.split)
    answer = Answer(text, last.tokens, last.ended, reasoning)
    problem = ""
    if _without_bos(client.render(recipe.draft_name, messages), loaded) != _without_bos(
        loaded.render_text(wanted, ask=True), loaded
    ):
        problem = "プロンプトの組み立て方が、学習のときと違います。"
    elif last.prompt_tokens != len(loaded.render(wanted, ask=True)):
        problem = "プロンプトのトークン数が、学習のときと違います（BOSの重複など）。"
    elif expected.ended and not answer.ended:
        problem = "学習したモデルが自分で終える答えが、終わりません。"
    return Compared(messages[-1]["content"], expected, answer, problem)


def _without_bos(prompt: str, loaded: LoadedModel) -> str:
    # llama.cpp takes the token away from the text and adds it again when it cuts the text.
    return prompt.removeprefix(loaded.tokenizer.bos_token or "")


def _require_same(name: str, compared: Sequence[Compared], quant: str) -> None:
    """Raises OllamaDiffers."""
    problems = list(dict.fromkeys(one.problem for one in compared if one.problem))
    equal = sum(one.is_equal for one in compared)
    if quant in NEARLY_EXACT and equal < LEAST_EQUAL * len(compared):
        problems.append(f"{len(compared)}問のうち、答えが一致したのは{equal}問だけです。")
    if problems:
        raise OllamaDiffers(name=name, problems=problems)
