"""Answers of tuned models, the servers they come from, and saved conversations."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_finetuning import config
from mlx_finetuning.config import GenerateConfig, as_dict
from mlx_finetuning.errors import GgufNotMade, InvalidSettings, RunNotDeployed
from mlx_finetuning.jobs import jobs, model_servers, runs
from mlx_finetuning.jobs.model_servers import ModelServer, Serving
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress, silent
from mlx_finetuning.utils import gguf_base
from mlx_finetuning.utils.plain_text import require_text
from mlx_finetuning.workspace import Workspace

if TYPE_CHECKING:
    from mlx_finetuning.runtime import AnswerStream
    from mlx_finetuning.runtime.chats import Conversation
    from mlx_finetuning.tokenization.answer import Answer

ANSWER_ENGINES = ("mlx", "gguf", "ollama")
SERVED_ENGINES = ("mlx", "gguf")
"""Those that run in a process of ours."""
BASE = "base"
"""The name by which a model server knows the untrained model."""


@dataclass(frozen=True)
class Chat:
    """`studio.chat`. Its imports of `runtime` stand in the methods, as commands import the names
    above for every call."""

    workspace: Workspace

    def stream(
        self,
        run_id: str,
        messages: Sequence[Mapping[str, str]],
        settings: GenerateConfig | None = None,
        *,
        engine: str = "mlx",
        base: bool = False,
        progress: Progress = silent,
    ) -> AnswerStream:
        """An answer's text as it is generated, by the tuned model or its base.

        The model is loaded by the first question, in a process of its own, and kept for ten
        minutes after the last; `progress` hears while it loads. Training does not hold it up: both
        then share the machine (`jobs.is_device_busy`). `close` cancels; `answer` has the counts.
        engine: `mlx`, `gguf` (the newest file, in llama.cpp) or `ollama` (what was deployed last).
        Raises InvalidSettings, RunError, ModelError, ExportError, OllamaError, NotEnoughMemory.
        """
        from mlx_finetuning.runtime import AnswerStream, Client
        from mlx_finetuning.studio.ollama import turns_to_send

        checked = config.load(GenerateConfig, as_dict(settings or GenerateConfig()))
        _require_engine(engine, ANSWER_ENGINES, base)
        require_text([list(messages), checked.system], _("質問かシステム文"))
        if checked.strength != 1 and engine != "mlx":
            problem = _(
                "strength: {engine} では変えられません。export --strength で書き出したモデルを使うか、mlx で話してください。"
            ).format(engine=engine)
            raise InvalidSettings(problems=[problem])
        if engine == "ollama":
            return self._stream_ollama(run_id, messages, checked)
        turns = turns_to_send(messages, checked)
        serving = replace(self._serving(run_id, engine), strength=checked.strength)
        server = model_servers.join_or_start(self.workspace, run_id, serving, progress)
        client = Client(server.address, server.key)
        model = BASE if base else run_id
        return AnswerStream(client.stream(turns, checked.max_tokens, checked.temperature, model))

    def _stream_ollama(
        self, run_id: str, messages: Sequence[Mapping[str, str]], settings: GenerateConfig
    ) -> AnswerStream:
        """By the model that was deployed last. Raises RunNotDeployed."""
        from mlx_finetuning.studio.ollama import Ollama

        runs.require_trained(self.workspace, run_id)
        deployed = runs.deployments(self.workspace, run_id)
        if not deployed:
            raise RunNotDeployed(run_id=run_id)
        name, host = deployed[0].name, deployed[0].host
        adapter = self.workspace.adapter(run_id).folder
        return Ollama(self.workspace).stream(name, messages, settings, host, adapter=adapter)

    def answer(
        self,
        run_id: str,
        messages: Sequence[Mapping[str, str]],
        settings: GenerateConfig | None = None,
        *,
        base: bool = False,
        engine: str = "mlx",
        progress: Progress = silent,
    ) -> Answer:
        """One whole answer, like `stream`."""
        stream = self.stream(
            run_id, messages, settings, engine=engine, base=base, progress=progress
        )
        for __ in stream:
            pass
        return stream.answer

    def servers(self, run_id: str) -> builtins.list[ModelServer]:
        """The run's models that are loaded and answer now."""
        return model_servers.living(self.workspace, run_id)

    def stop_servers(self, run_id: str) -> None:
        """Let the run's loaded models go, but for those that `serve` offers."""
        model_servers.stop(self.workspace, run_id)

    @contextlib.contextmanager
    def serve(
        self,
        run_id: str,
        *,
        engine: str | None = None,
        beside: Sequence[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        key: str | None = None,
        progress: Progress = silent,
    ) -> Iterator[ModelServer]:
        """Offer the tuned model to other programs while the block, and this process, lasts.

        engine: llama.cpp where a GGUF file was made and no run is asked for beside it, else MLX;
        beside: other runs of the same base, to be chosen by each request; port: 0 takes a free one;
        key: None for a fresh one, empty for none.
        Raises InvalidSettings, RunError, ModelError, ExportError, NotEnoughMemory, PortTaken.
        """
        run = runs.require_trained(self.workspace, run_id)
        chosen = engine or ("gguf" if not beside and self._newest_gguf(run_id) else "mlx")
        _require_engine(chosen, SERVED_ENGINES, base=False)
        others = tuple(other for other in dict.fromkeys(beside) if other != run_id)
        if others and chosen != "mlx":
            problem = _("beside: ほかの実験を一緒に提供できるのは、エンジンが mlx のときだけです。")
            raise InvalidSettings(problems=[problem])
        for other in others:
            if (
                runs.require_trained(self.workspace, other).model_fingerprint
                != run.model_fingerprint
            ):
                problem = _(
                    "beside: {other} は、{run_id} とベースモデルが違います。同じベースモデルの実験を選んでください。"
                ).format(other=other, run_id=run_id)
                raise InvalidSettings(problems=[problem])
        serving = self._serving(run_id, chosen)
        serving = replace(serving, beside=others, host=host, port=port, key=key)
        with model_servers.offered(self.workspace, run_id, serving, progress) as server:
            yield server

    def follow_server(self, server: ModelServer, progress: Progress = silent) -> None:
        """Follow an offered model until it ends; Ctrl-C ends it. Raises what it ended with."""
        jobs.follow(server.paths, progress)

    def _serving(self, run_id: str, engine: str) -> Serving:
        """What a model server is to load. Raises GgufNotMade, RunError."""
        runs.require_trained(self.workspace, run_id)
        if engine == "mlx":
            weights = self.workspace.adapter(run_id).weights
            return Serving(engine, made=weights.stat().st_mtime_ns)
        path = self._newest_gguf(run_id)
        if path is None:
            raise GgufNotMade(run_id=run_id)
        return Serving(engine, str(path), path.stat().st_mtime_ns)

    def _newest_gguf(self, run_id: str) -> Path | None:
        paths = self.workspace.gguf_folder(run_id).glob("[!.]*.gguf")
        # An adapter alone answers where its base is a GGUF file.
        folder = runs.show(self.workspace, run_id).model_folder
        is_from_gguf = bool(folder) and (Path(folder) / gguf_base.NAME).is_file()
        models = (path for path in paths if is_from_gguf or not path.stem.endswith("-adapter"))
        return max(models, key=lambda path: path.stat().st_mtime_ns, default=None)

    def list(self, run_id: str) -> builtins.list[Conversation]:
        """The run's saved conversations, the newest first. Raises RunNotFound."""
        from mlx_finetuning.runtime import chats

        runs.show(self.workspace, run_id)
        return chats.read_all(self.workspace.run(run_id).chats)

    def save(self, run_id: str, chat: Conversation) -> None:
        """Write or replace a conversation. Raises RunNotFound, DiskFull."""
        from mlx_finetuning.runtime import chats

        runs.show(self.workspace, run_id)
        chats.save(self.workspace.run(run_id).chats, chat)

    def delete(self, run_id: str, chat_id: str) -> None:
        """Forget a conversation; one that is not there is no error."""
        from mlx_finetuning.runtime import chats

        chats.delete(self.workspace.run(run_id).chats, chat_id)


def _require_engine(engine: str, choices: Sequence[str], base: bool) -> None:
    """Raises InvalidSettings."""
    if engine not in choices:
        raise InvalidSettings(
            problems=[
                _("engine: 「{engine}」は選べません（{choices}）。").format(
                    engine=engine, choices=", ".join(choices)
                )
            ]
        )
    if base and engine != "mlx":
        raise InvalidSettings(
            problems=[
                _(
                    "engine: {engine} は学習後のモデルだけです。元のモデルには mlx を使ってください。"
                ).format(engine=engine)
            ]
        )
