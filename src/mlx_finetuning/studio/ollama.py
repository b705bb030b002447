"""Models in Ollama, and bringing tuned ones there."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_finetuning import config, ollama_integration
from mlx_finetuning.config import DeployConfig, GenerateConfig, as_dict
from mlx_finetuning.errors import OllamaHostInvalid
from mlx_finetuning.files import JsonObject
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.results import Deployment
from mlx_finetuning.ollama_integration import Model, Status
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.workspace import Workspace

if TYPE_CHECKING:
    from mlx_finetuning.runtime import AnswerStream
    from mlx_finetuning.tokenization.answer import AnswerChunks


@dataclass(frozen=True)
class Ollama:
    """`studio.ollama`. `host` is OLLAMA_HOST's unless given."""

    workspace: Workspace

    def status(self, host: str | None = None) -> Status:
        """Who answers there; never takes longer than a few seconds. Raises OllamaHostInvalid."""
        return ollama_integration.status(host)

    def can_connect(self) -> bool:
        """Whether a server that can be used answers now."""
        with contextlib.suppress(OllamaHostInvalid):
            return self.status().problem is None
        return False

    def list(self, host: str | None = None) -> builtins.list[Model]:
        """The models in Ollama, the newest first. Raises OllamaError."""
        with ollama_integration.connect(host) as client:
            return client.models()

    def show(self, name: str, host: str | None = None) -> JsonObject:
        """What Ollama knows of a model. Raises OllamaError."""
        with ollama_integration.connect(host) as client:
            return client.show(name)

    def copy(
        self, source: str, destination: str, host: str | None = None, *, replace: bool = False
    ) -> None:
        """Give a model a second name. Raises OllamaError, OllamaNameTaken unless `replace`."""
        with ollama_integration.connect(host) as client:
            ollama_integration.copy(client, source, destination, replace=replace)

    def delete(self, name: str, host: str | None = None) -> None:
        """Raises OllamaError."""
        with ollama_integration.connect(host) as client:
            client.delete(name)

    def deploy(
        self,
        run_id: str,
        name: str = "",
        settings: DeployConfig | None = None,
        host: str | None = None,
        *,
        replace: bool = False,
    ) -> JobHandle[Deployment]:
        """Bring the tuned model into Ollama, and keep it there only if it does what was trained.

        name: made from model and run if empty; a GGUF file is made where there is none.
        Raises OllamaError, RunError, InvalidSettings, DiskFull; following it, ModelError,
        ExportError and Interrupted too.
        """
        checked = config.load(DeployConfig, as_dict(settings or DeployConfig()))
        with ollama_integration.connect(host) as client:  # before the job waits for its turn
            ollama_integration.check_name(client, name, replace=replace)
            address = client.address.url
        details = {**as_dict(checked), "name": name, "host": address, "replace": replace}
        return JobHandle(
            runs.start_later_job(self.workspace, run_id, "deploy", details), Deployment
        )

    def deployments(self, run_id: str) -> builtins.list[Deployment]:
        """What the run's registrations in Ollama came to, the newest first."""
        return runs.deployments(self.workspace, run_id)

    def stream(
        self,
        name: str,
        messages: Sequence[Mapping[str, str]],
        settings: GenerateConfig | None = None,
        host: str | None = None,
        *,
        adapter: Path | None = None,
    ) -> AnswerStream:
        """An answer of a model in Ollama as it is generated; `close` stops it. Raises OllamaError.

        adapter: what the model was made of, if that is known.
        """
        from mlx_finetuning.runtime import AnswerStream, apart
        from mlx_finetuning.tokenization.chat import kept_form
        from mlx_finetuning.tokenization.reasoning import TAG, Format

        checked = config.load(GenerateConfig, as_dict(settings or GenerateConfig()))
        client = ollama_integration.connect(host)
        turns = turns_to_send(messages, checked)

        def separated() -> AnswerChunks:
            with client:
                form = Format(TAG)
                if adapter is not None:
                    form = kept_form(adapter, lambda: client.render(name, turns))
                answered = client.chat(name, turns, checked.max_tokens, checked.temperature)
                yield from apart(answered, form)

        return AnswerStream(separated())


def turns_to_send(
    messages: Sequence[Mapping[str, str]], settings: GenerateConfig
) -> list[dict[str, str]]:
    """The system text first, and of earlier answers only what was said, not the reasoning."""
    system = [{"role": "system", "content": settings.system}] if settings.system else []
    turns = ({"role": turn["role"], "content": turn["content"]} for turn in messages)
    return [*system, *turns]
