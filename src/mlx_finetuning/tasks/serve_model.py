"""Keeps a run's model loaded and answers over HTTP, until nobody asks any more.

MLX answers as the tuned model, as its base, and as other runs of that base, all with one set of the
base's weights; llama.cpp as the file's model. Needs no turn on the device: a conversation does not wait for a training run. What it needs
is memory, and that is looked at before anything is loaded.
"""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gguf import TokenType

from mlx_finetuning import bases, files
from mlx_finetuning.errors import (
    GgufUnreadable,
    Interrupted,
    MergeImpossible,
    ModelError,
    NotEnoughMemory,
    PortTaken,
    RequestRefused,
    RunError,
    RuntimeNotAnswering,
)
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.model_servers import Serving
from mlx_finetuning.jobs.results import ServerEnded
from mlx_finetuning.language import N_, _
from mlx_finetuning.progress import Step
from mlx_finetuning.quantizer.verify.written import ADAPTER
from mlx_finetuning.runtime import Client, Question, apart, calling, serve
from mlx_finetuning.runtime.endpoint import Endpoint, Engine, EngineEnded
from mlx_finetuning.runtime.json_grammar import grammar
from mlx_finetuning.tokenization import chat as tokenization
from mlx_finetuning.tokenization import plain
from mlx_finetuning.tokenization.answer import AnswerChunks
from mlx_finetuning.tokenization.chat import Asked, ChatTokenizer
from mlx_finetuning.tokenization.reasoning import Format, closing, form_of
from mlx_finetuning.tokenization.tool_calls import ToolFormat
from mlx_finetuning.utils import gguf_base, gguf_reader, memory_monitor
from mlx_finetuning.utils.memory_monitor import Memory

if TYPE_CHECKING:
    from mlx_finetuning.mlx_trainer.inference.continuous import ContinuousBatch
    from mlx_finetuning.mlx_trainer.model.load import LoadedModel

LOADING = N_("モデルの読み込み")
READY = N_("待ち受け中")
BASE = "base"
Asking = Callable[[Question], Asked]
OTHER_BYTES = 300_000_000
"""Bytes beside the weights: libraries, and what a short conversation needs."""


@dataclass(frozen=True)
class Served:
    """A loaded model that answers."""

    engine: Engine
    names: dict[str, str]
    """Under which it is asked for, each with its description in Japanese."""
    at_once: int = 1
    """How many answers it generates together."""


def run(context: TaskContext) -> ServerEnded:
    """config: `engine` (mlx or gguf); `gguf`, the file; `host`, `port` and `key`, else loopback, a
    free port and a fresh key; `idle_s`, 0 for ever; `owner`, a lock that must stay held. Returns
    why it ended.

    Raises RunError, ModelError, ExportError, NotEnoughMemory, PortTaken, Interrupted.
    """
    serving = files.decode(context.config, Serving, context.paths.job)
    context.progress(Step(_(LOADING), 0, 0))

    def require_wanted() -> None:
        """Raises Interrupted when a stop was asked for, the process that offers this has ended, or
        the run was deleted."""
        owner_ended = serving.owner and not files.is_locked(Path(serving.owner))
        if owner_ended or not context.paths.lock.exists():
            raise Interrupted()
        context.progress(Step(_(READY), 0, 0))

    with (
        ENGINES[serving.engine](context) as served,
        _listen(served, serving) as endpoint,
    ):
        record = {"address": endpoint.address, "key": endpoint.key}
        files.write_json(context.paths.port, record)
        try:
            endpoint.serve(served.engine, require_wanted, serving.idle_s, served.at_once)
        finally:
            context.paths.port.unlink(missing_ok=True)
    return ServerEnded()


def _listen(served: Served, serving: Serving) -> Endpoint:
    host, port, key = serving.host, serving.port, serving.key
    try:
        key = secrets.token_urlsafe(24) if key is None else key
        return Endpoint(served.names, key, host, port)
    except OSError as error:
        raise PortTaken(address=host, port=port, reason=error.strerror or str(error)) from error


# --- MLX ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _by_mlx(context: TaskContext) -> Iterator[Served]:
    from mlx_finetuning.mlx_trainer.model import adapter_layers, card_memory
    from mlx_finetuning.mlx_trainer.model.load import load, load_beside

    serving = files.decode(context.config, Serving, context.paths.job)
    run_ids = (context.run_id, *serving.beside)
    folder = bases.of_run(
        runs.require_trained(context.workspace, context.run_id), context.workspace
    )
    adapters = {run_id: context.workspace.adapter(run_id) for run_id in run_ids}
    changed = sum(adapter.weights.stat().st_size for adapter in adapters.values())
    require_memory(computed_bytes(folder) + changed, card_memory.read())
    base = load(folder, asked_like=adapters[context.run_id].folder)
    models = {
        run_id: load_beside(base, folder, adapter.folder) for run_id, adapter in adapters.items()
    }
    tuned = models[context.run_id]
    if serving.strength != 1 and not adapter_layers.strengthen(tuned, serving.strength):
        reason = _("DoRAか、層の重みを全て学習した実験（full）なので、強さを変えられません。")
        raise MergeImpossible(run_ids=[context.run_id], reason=reason)
    engine = _MlxEngine({**models, BASE: base})
    names = {**dict.fromkeys(models, _("学習したモデル")), BASE: _("元のモデル")}
    yield Served(engine, names, engine.at_once)


class _MlxEngine:
    """Tuned models and their base, which share its weights."""

    def __init__(self, models: dict[str, LoadedModel]) -> None:
        """models: by the name that each is asked for under."""
        from mlx_finetuning.mlx_trainer.inference import batch_generate, continuous

        self._models = models
        self._batches: dict[str, ContinuousBatch] = {}
        self._is_batchable = batch_generate.is_batchable(next(iter(models.values())).model)
        self.at_once = continuous.AT_ONCE if self._is_batchable else 1

    def __call__(self, question: Question) -> AnswerChunks:
        if question.schema is not None:
            raise _refused("response_format", _("MLXのエンジンでは使えません。gguf では使えます。"))
        loaded = self._models[question.model]
        asked, form = _asked(loaded.chat, question), _tool_format(loaded.chat, question)
        with contextlib.closing(self._chunks(loaded, question, asked.tokens)) as chunks:
            yield from _read(chunks, question, asked, form)

    def _chunks(self, loaded: LoadedModel, question: Question, prompt: list[int]) -> AnswerChunks:
        from mlx_finetuning.mlx_trainer.inference import continuous, generate

        how = (prompt, question.settings, question.sampling, question.likelihoods)
        if not self._is_batchable:
            return generate.stream(loaded, *how)
        if question.model not in self._batches:
            self._batches[question.model] = continuous.ContinuousBatch(loaded)
        return self._batches[question.model].stream(*how)


def _asked(chat: ChatTokenizer, question: Question) -> Asked:
    """What a model is asked with, by the run's own tokenizer. Raises RequestRefused, and what
    `ChatTokenizer.asked` raises."""
    if question.prompt is not None:
        tokens = list(chat.tokenizer.encode(question.prompt))  # as texts are trained
        if not tokens:
            raise _refused("prompt", _("文字が1つもトークンになりません。"))
        return Asked(tokens, Format(None))
    if question.tools and not chat.shows_tools:
        raise _refused("tools", _("このモデルの書式は、ツールを知りません。"))
    return chat.asked(question.messages, question.tools)


def _read(
    written: AnswerChunks, question: Question, asked: Asked, form: ToolFormat | None
) -> AnswerChunks:
    """An answer with its reasoning and its calls in their own places."""
    said = apart(written, asked.form)
    return calling(said, form, once=question.one_call) if form else said


def _tool_format(chat: ChatTokenizer, question: Question) -> ToolFormat | None:
    """How calls are read, where tools are there to be called. Raises RequestRefused."""
    from mlx_finetuning.mlx_trainer.inference.tool_calls import tool_format

    if not question.tools:
        return None
    form = tool_format(chat, question.tools)
    if form is None:
        raise _refused("tools", _("このモデルの呼び出しの書き方は、読み取れません。"))
    return form


def _refused(name: str, reason: str) -> RequestRefused:
    return RequestRefused(problems=[f"{name}: {reason}"])


def computed_bytes(folder: Path) -> int:
    """About as many bytes as a model's weights take once loaded."""
    import mlx.core as mx

    base = gguf_base.read(folder)
    if base is not None:
        from mlx_finetuning.mlx_trainer.model import gguf_weights

        return gguf_weights.loaded_bytes(base)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    is_half = (config.get("dtype") or config.get("torch_dtype")) in ("float16", "bfloat16")
    # On the CPU half precision is widened; packed weights stay as they are.
    widens = is_half and "quantization" not in config and mx.default_device() == mx.cpu
    return stored * 2 if widens else stored


# --- llama.cpp ---------------------------------------------------------------------------


@contextlib.contextmanager
def _by_llama_cpp(context: TaskContext) -> Iterator[Served]:
    gguf = Path(context.config["gguf"])
    file, adapter = _model_and_adapter(context, gguf)
    require_memory(file.stat().st_size)
    with serve(file, adapter=adapter) as client:
        chat = _trained_chat(context)
        thinks = tokenization.kept_thinks(context.workspace.adapter(context.run_id).folder)
        asking = functools.partial(_asked, chat) if chat else asked_by_file(file, client, thinks)
        yield Served(llama_cpp_engine(client, chat, asking), {context.run_id: gguf.name})


def _model_and_adapter(context: TaskContext, gguf: Path) -> tuple[Path, Path | None]:
    """What llama.cpp loads for a file of the run: an adapter goes with the base it was trained on."""
    if not gguf.stem.endswith(ADAPTER):
        return gguf, None
    trained = runs.require_trained(context.workspace, context.run_id)
    base = gguf_base.read(bases.of_run(trained, context.workspace))
    if base is None:
        raise GgufUnreadable(path=str(gguf), reason=_("アダプターだけのファイルです。"))
    return base.file, gguf


def asked_by_file(gguf: Path, client: Client, thinks: bool = False) -> Asking:
    """As `_asked`, by the template and the tokens of the file, as llama.cpp reads them; thinks: how
    the model was trained."""
    metadata = gguf_reader.read(gguf).metadata
    tokens = zip(
        metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True
    )
    controls = [str(text) for text, kind in tokens if kind == TokenType.CONTROL]
    form = Format(None)
    if template := metadata.get("tokenizer.chat_template"):
        prompt = client.apply_template([{"role": "user", "content": "?"}])
        form = form_of(str(template), prompt, thinks=thinks)

    def asked(question: Question) -> Asked:
        if question.prompt is not None:
            return Asked(client.tokenize(question.prompt, add_special=True), Format(None))
        if question.tools:
            raise _refused("tools", _("元のモデルのフォルダーがないので使えません。"))
        turns = [plain.marked(dict(message), controls) for message in question.messages]
        begun = tokenization.begun_answer(turns)
        text = client.apply_template(turns)
        if begun:
            text += closing(text) + begun
        ids = [
            token
            for number, (part, typed) in enumerate(plain.unmarked(text, controls))
            for token in client.tokenize(part, add_special=number == 0, parse_special=not typed)
        ]
        return Asked(ids, replace(form, opened=form.opened and not begun))

    return asked


def _trained_chat(context: TaskContext) -> ChatTokenizer | None:
    """The tokenizer that the run was trained with, where its base is still there."""
    try:
        trained = runs.require_trained(context.workspace, context.run_id)
        folder = bases.of_run(trained, context.workspace)
        chat = tokenization.load(folder, context.workspace.adapter(context.run_id).folder)
    except (ModelError, RunError):
        return None
    return chat if chat.template else None


def llama_cpp_engine(client: Client, chat: ChatTokenizer | None, asking: Asking) -> Engine:
    """What asks a llama.cpp server of ours; chat: to read calls of tools with."""

    def answer(question: Question) -> AnswerChunks:
        # llama.cpp cuts some texts otherwise: emoji of a Unigram model, for one.
        asked = asking(question)
        form = _tool_format(chat, question) if chat else None
        if question.schema is not None and asked.form.opened:
            raise _refused("response_format", _("答えの前に考えるモデルでは使えません。"))
        chunks = client.stream_ids(
            asked.tokens,
            question.settings.max_tokens,
            question.settings.temperature,
            (*asked.form.signs, *(form.signs if form else ())),
            question.sampling,
            "" if question.schema is None else grammar(question.schema),
            question.likelihoods,
        )
        yield from _read(chunks, question, asked, form)

    def answer_while_it_lives(question: Question) -> AnswerChunks:
        is_answering = False
        try:
            for chunk in answer(question):
                is_answering = True
                yield chunk
        except RuntimeNotAnswering as error:
            if not client.is_healthy():
                # Without its child this server is of no use; the next question gets a new one.
                raise EngineEnded from error
            if question.schema is not None and not is_answering:
                raise _refused("response_format", str(error.data["reason"])) from error
            raise

    return answer_while_it_lives


ENGINES: dict[str, Callable[[TaskContext], contextlib.AbstractContextManager[Served]]] = {
    "mlx": _by_mlx,
    "gguf": _by_llama_cpp,
}


def require_memory(needed: int, card: Memory | None = None) -> None:
    """Raises NotEnoughMemory for a model of so many bytes. card: of the GPU that it is loaded into."""
    available = (card or memory_monitor.read_memory()).usable
    if needed + OTHER_BYTES > available:
        raise NotEnoughMemory(
            needed_gb=round((needed + OTHER_BYTES) / 1e9, 1), available_gb=round(available / 1e9, 1)
        )
