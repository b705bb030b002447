"""Brings one GGUF file into Ollama under a name: a whole model, or an adapter over a model that is there.
What is in the file is not looked at.

The model is made under a name of its own, `…-checking`, and only takes the wanted name when the
caller calls `publish`. One that has the name stays usable until then, and is kept as `…-former` while
its name changes hands. Every step can be repeated; what a stopped server already has is not sent again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_finetuning.errors import (
    OllamaAdaptersRefused,
    OllamaModelNotFound,
    OllamaNameTaken,
    OllamaOutOfSpace,
    OllamaRefused,
)
from mlx_finetuning.language import _
from mlx_finetuning.ollama_integration import names
from mlx_finetuning.ollama_integration.client import Client, digest_of
from mlx_finetuning.progress import Progress, silent

GB = 1e9
COPIES = 2
"""Ollama writes every imported file once more before it drops what was sent."""
SERVICE_MODELS = Path("/usr/share/ollama/.ollama/models")
"""Where the Linux service keeps models."""
NO_BLOB = f"sha256:{'0' * 64}"
"""Of a file that no server has."""


@dataclass(frozen=True)
class ModelDefinition:
    """What a model in Ollama is made of."""

    name: str
    gguf: Path
    system: str
    parameters: Mapping[str, Any]
    """`stop`, `num_ctx` and others, as Ollama names them."""
    license_text: str = ""
    base: str = ""
    """In Ollama: the model that `gguf` is an adapter to; empty for a file of a whole model."""

    @property
    def draft_name(self) -> str:
        """Of the model until it is proven."""
        return _beside(self.name, "checking")

    @property
    def former_name(self) -> str:
        """Of the model that had the name, while the name changes hands."""
        return _beside(self.name, "former")


def _beside(name: str, mark: str) -> str:
    model, __, tag = name.partition(":")
    return f"{model}:{tag[: names.LONGEST - len(mark) - 1]}-{mark}" if tag else f"{model}:{mark}"


def check_name(client: Client, name: str, *, replace: bool) -> None:
    """An empty name will be made up. Raises OllamaNameInvalid, OllamaNameTaken unless `replace`."""
    if name and find(client, names.checked(name)) and not replace:
        raise OllamaNameTaken(name=name)


def copy(client: Client, source: str, destination: str, *, replace: bool) -> None:
    """Give a model a second name. Raises OllamaNameInvalid, OllamaNameTaken, OllamaModelNotFound."""
    check_name(client, destination, replace=replace)
    client.copy(source, destination)


def find(client: Client, name: str) -> str | None:
    """The model's name as Ollama lists it."""
    listed = (model.name for model in client.models())
    return next((each for each in listed if names.same(each, name)), None)


def create_draft(client: Client, definition: ModelDefinition, progress: Progress = silent) -> str:
    """Send the file and make the model under its draft name; returns the file's digest.

    Raises OllamaError.
    """
    digest = digest_of(definition.gguf, progress)
    _require_space(client, definition.gguf, digest)
    client.upload(definition.gguf, digest, progress)
    request = {
        "model": definition.draft_name,
        **_made_of(definition.base, digest),
        "system": definition.system,
        "parameters": dict(definition.parameters),
        "license": definition.license_text,
    }
    client.create({key: value for key, value in request.items() if value}, progress)
    return digest


def _made_of(base: str, digest: str) -> dict[str, object]:
    if base:
        return {"from": base, "adapters": {"adapter.gguf": digest}}
    return {"files": {"model.gguf": digest}}


def require_adapters(client: Client, name: str, base: str) -> None:
    """Ask the server for a model of `base` and an adapter that it does not have: one that takes
    adapters misses the file, and nothing is made.

    Versions say nothing of it: those of 2026 refuse, and an unknown field could be passed over.
    Raises OllamaAdaptersRefused.
    """
    draft = _beside(name, "checking")
    try:
        client.create({"model": draft, **_made_of(base, NO_BLOB)})
    except (OllamaRefused, OllamaModelNotFound):
        return
    discard(client, draft)
    raise OllamaAdaptersRefused(reason=_("アダプターを使わずに登録しました（取り消しました）。"))


def publish(client: Client, definition: ModelDefinition) -> None:
    """Give the draft the wanted name, in place of any other that has it."""
    if taken := find(client, definition.name):
        # Ollama writes over the old record: a server that ends meanwhile would leave neither.
        client.copy(taken, definition.former_name)
    client.copy(definition.draft_name, definition.name)
    discard(client, definition.former_name)
    discard(client, definition.draft_name)


def discard(client: Client, name: str) -> None:
    """Remove a model, if it is there."""
    with contextlib.suppress(OllamaModelNotFound):
        client.delete(name)


def _require_space(client: Client, path: Path, digest: str) -> None:
    """Raises OllamaOutOfSpace. What a server elsewhere has is not known until it complains."""
    if not client.address.is_local:
        return
    # Where the server keeps its models, as far as can be told from here.
    named = os.environ.get("OLLAMA_MODELS")
    folders = [Path(named)] if named else [Path.home() / ".ollama" / "models", SERVICE_MODELS]
    folder = None
    with contextlib.suppress(OSError):
        folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        return
    copies = COPIES - client.has_blob(digest)
    needed, free = path.stat().st_size * copies / GB, shutil.disk_usage(folder).free / GB
    if free < needed:
        figures = _("必要なのは約 {needed:.1f} GB、空きは {free:.1f} GB です（{folder}）。").format(
            needed=needed, free=free, folder=folder
        )
        raise OllamaOutOfSpace(reason=figures)
