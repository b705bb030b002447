"""Adapters made elsewhere, as runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_finetuning import bases, files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import AdapterNotImportable, ModelUnloadable
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.runs import Import
from mlx_finetuning.language import _
from mlx_finetuning.studio.data import Data
from mlx_finetuning.utils import model_settings
from mlx_finetuning.workspace import Workspace

if TYPE_CHECKING:
    from mlx_finetuning.quantizer.formats.foreign_adapters import ForeignAdapter


@dataclass(frozen=True)
class Importing:
    """`studio.importing`. What is imported is an ordinary run: it can be evaluated, certified, exported,
    talked to and continued."""

    workspace: Workspace

    def start(self, folder: Path, model: str, dataset: str = "") -> str:
        """Start importing the LoRA or DoRA adapter in `folder`, written by peft or mlx-lm, and return the
        new run's id. `model` is the base that it was trained on; `dataset` what the run is evaluated on,
        without which it can do all but that.

        Raises AdapterNotImportable, DatasetNotFound, DatasetInTrash, ModelError, DiskFull.
        """
        from mlx_finetuning.quantizer.formats import foreign_adapters

        source = folder.expanduser().absolute()
        settings = bases.settled(TrainConfig(model=model, dataset=dataset))
        base = bases.resolve(settings.model, self.workspace)
        if dataset:
            Data(self.workspace).require(dataset)
        foreign = foreign_adapters.read(source)
        settled = _settings(settings, foreign, _layers_of(base), source)
        return runs.start(self.workspace, settled, base, Import(str(source), foreign.form))

    def again(self, run_id: str) -> str:
        """Import once more what `run_id` was imported from. Raises what `start` raises."""
        record = files.read_record(self.workspace.run(run_id).imported, Import)
        run = runs.show(self.workspace, run_id)
        return self.start(Path(record.folder), run.model, run.dataset)


def _layers_of(base: Path) -> int:
    """How many blocks a model has. Raises ModelUnloadable."""
    try:
        settings = model_settings.read(base)
        return int(settings.get("text_config", settings)["num_hidden_layers"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnloadable(folder=str(base), reason=str(error)) from error


def _settings(
    settings: TrainConfig, foreign: ForeignAdapter, layers: int, source: Path
) -> TrainConfig:
    """The run's, of the adapter's form; `layers` are the base's. Raises AdapterNotImportable."""
    changed = {change.layer for change in foreign.changes}
    [(scale, __)] = Counter(change.scale for change in foreign.changes).most_common(1)
    reason = ""
    if max(changed) >= layers:
        reason = _(
            "アダプターは{changed}番目（0から）の層を変えますが、ベースモデルの層は{layers}個です。"
        ).format(changed=max(changed), layers=layers)
    if not scale:
        reason = _("倍率（alpha、scale）が0で、何も変えないアダプターです。")
    if reason:
        raise AdapterNotImportable(path=str(source), reason=reason)
    rank = max(change.rank for change in foreign.changes)
    return replace(
        settings,
        method=foreign.method,
        rank=rank,
        alpha=scale * rank,
        targets=tuple(sorted({change.key for change in foreign.changes})),
        num_layers=layers - min(changed) if min(changed) else -1,
        # Nothing is trained.
        iterations=0,
        replay=0,
    )
