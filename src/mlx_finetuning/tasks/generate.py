"""One answer of a run's model: by MLX with the adapter (or without), or by llama.cpp."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlx_finetuning import config, models
from mlx_finetuning.config import GenerateConfig
from mlx_finetuning.errors import GgufNotMade, InvalidSettings
from mlx_finetuning.progress import Step
from mlx_finetuning.tasks.context import TaskContext
from mlx_finetuning.trainer import runs

Messages = list[dict[str, str]]


def run(context: TaskContext) -> dict[str, Any]:
    """config: GenerateConfig with `messages`, `base`, `engine` (mlx or gguf) and, for gguf, an
    optional `path`. Returns `text`, `tokens`, `ended` and `engine`. Raises RunError, ModelError,
    ExportError.
    """
    given = dict(context.config)
    messages, base = given.pop("messages"), given.pop("base", False)
    engine, path = given.pop("engine", "mlx"), given.pop("path", None)
    settings = config.load(GenerateConfig, given)
    trained = runs.require_trained(context.workspace, context.run_id)
    context.progress(Step("モデルの読み込み", 0, 0))
    if engine == "gguf":
        if base:
            raise InvalidSettings(
                problems=[
                    "engine: gguf は学習後のモデルだけです。--base には mlx を使ってください。"
                ]
            )
        return _by_llama_cpp(_gguf(context, path), messages, settings)
    model = models.resolve(trained.model, context.workspace)
    adapter = None if base else context.workspace.adapter(context.run_id).folder
    return _by_mlx(model, adapter, messages, settings)


def _by_mlx(
    model: Path, adapter: Path | None, messages: Messages, settings: GenerateConfig
) -> dict[str, Any]:
    from mlx_finetuning.mlx_trainer import generate
    from mlx_finetuning.mlx_trainer.load import load

    return {**asdict(generate.answer(load(model, adapter), messages, settings)), "engine": "mlx"}


def _by_llama_cpp(gguf: Path, messages: Messages, settings: GenerateConfig) -> dict[str, Any]:
    from mlx_finetuning.runtime import serve

    turns = [{"role": "system", "content": settings.system}] if settings.system else []
    with serve(gguf) as client:
        answer = client.chat([*turns, *messages], settings.max_tokens, settings.temperature)
    return {**asdict(answer), "engine": "gguf", "gguf_path": str(gguf)}


def _gguf(context: TaskContext, path: str | None) -> Path:
    """The file asked for, else the run's newest one."""
    if path:
        return Path(path)
    folder = context.workspace.gguf_folder(context.run_id)
    made = sorted(folder.glob("[!.]*.gguf"), key=lambda file: file.stat().st_mtime)
    if not made:
        raise GgufNotMade(run_id=context.run_id)
    return made[-1]
