"""Base models: the catalogue, and those that are here."""

from __future__ import annotations

import builtins
from dataclasses import dataclass

from mlx_finetuning import models
from mlx_finetuning.jobs.results import Downloaded
from mlx_finetuning.models import CatalogueEntry, FoundFile, InstalledModel, MachineFit
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.studio import handle
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Models:
    """`studio.models`."""

    workspace: Workspace

    def list(self) -> builtins.list[InstalledModel]:
        """Base models that can be used now."""
        return models.installed(self.workspace)

    def found(self) -> builtins.list[FoundFile]:
        """GGUF files that other programs keep on this machine, and whether they can be trained."""
        return models.found()

    def file(self, name: str) -> FoundFile | None:
        """The GGUF file that a model's name means; None for a name of another kind.

        Raises ModelNotFound, BaseFileUnusable.
        """
        return models.found_file(name)

    def catalogue(self) -> tuple[CatalogueEntry, ...]:
        """Recommended base models, installed or not."""
        return models.catalogue()

    def show(self, name: str) -> tuple[CatalogueEntry | None, InstalledModel | None]:
        """What the catalogue says of a model, and what is here. Raises ModelNotFound."""
        return models.search(name, self.workspace)

    def reach(self, entry: CatalogueEntry) -> tuple[str, ...]:
        """Where a model can be used after training: `mlx`, `gguf` (the runtime within), `ollama`,
        or `ollama_vocabulary` where Ollama reads only what is in its vocabulary as trained."""
        if not registry.is_known(entry.architecture):
            return ("mlx",)
        is_unigram = entry.tokenizer == "unigram"
        return ("mlx", "gguf", "ollama_vocabulary" if is_unigram else "ollama")

    def fit(self, entry: CatalogueEntry) -> MachineFit:
        """Whether a model of the catalogue can be trained here, judged by its figures."""
        return models.fit(entry)

    def needed_gb(self, entry: CatalogueEntry) -> float:
        """Memory that training a model of the catalogue takes on a machine like this one."""
        return models.needed_gb(entry)

    def download(self, name: str) -> JobHandle[Downloaded]:
        """Fetch a model from the hub, or go on with a cut download; the result names its folder.

        Following it raises ModelError, Interrupted. Raises DiskFull.
        """
        paths = handle.start(self.workspace, "download_model", {"name": name})
        return JobHandle(paths, Downloaded)

    def delete(self, name: str) -> None:
        """Remove a downloaded model for good. Raises ModelNotFound, ModelBuiltIn."""
        models.delete(name, self.workspace)

    def has_token(self) -> bool:
        """Whether the hub is asked with a token."""
        return models.has_token()

    def use_token(self, token: str) -> None:
        """Ask the hub with this token until this process ends; "" for none. It is written nowhere."""
        models.use_token(token)
