"""Making a run again: its settings, once data and base are the same, and whether its losses came back."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning import config
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import RecordDamaged, RerunSourceChanged
from mlx_finetuning.jobs import jobs, runs
from mlx_finetuning.jobs.logs import MetricsLine
from mlx_finetuning.jobs.results import TrainResult
from mlx_finetuning.language import _
from mlx_finetuning.workspace import Workspace


def settings(workspace: Workspace, run_id: str, model_folder: Path | None) -> TrainConfig:
    """What to train with so that the run comes out again; `model_folder` is None for a simulation.

    The number of processes is the one the run had: another adds the same sums in another order.
    Raises RunNotFound, RerunSourceChanged, InvalidSettings, RecordDamaged.
    """
    run = runs.show(workspace, run_id)
    paths = workspace.run(run_id)
    used = config.load_of_run(jobs.read_job(paths).config)
    changed = []
    if runs.dataset_hash(workspace.dataset(run.dataset)) != run.dataset_sha256:
        changed.append(_("データセット「{dataset}」").format(dataset=run.dataset))
    if model_folder is not None and runs.model_fingerprint(model_folder) != run.model_fingerprint:
        changed.append(_("モデル「{model}」").format(model=run.model))
    if changed:
        raise RerunSourceChanged(run_id=run_id, changed=changed)
    with contextlib.suppress(RecordDamaged):
        result = jobs.result(paths, TrainResult)
        used = dataclasses.replace(used, processes=result.processes or used.processes)
    return used


@dataclass(frozen=True)
class Reproduction:
    """The losses of a run beside those of the run it repeats."""

    compared: int
    """Losses of training and validation that either run has."""
    equal: int
    """Of them, those that are the same to the last bit."""
    largest_difference: float

    @property
    def is_exact(self) -> bool:
        """Whether there were losses, and all came out again."""
        return 0 < self.compared == self.equal


def compare(first: Iterable[MetricsLine], second: Iterable[MetricsLine]) -> Reproduction:
    """first, second: metrics of both runs."""
    before, after = _losses(first), _losses(second)
    shared = before.keys() & after.keys()
    differences = [abs(before[key] - after[key]) for key in shared]
    equal = sum(difference == 0 for difference in differences)
    return Reproduction(len(before.keys() | after.keys()), equal, max(differences, default=0.0))


def _losses(metrics: Iterable[MetricsLine]) -> dict[tuple[str, int], float]:
    return {
        (kind, line.update): loss
        for line in metrics
        for kind, loss in (("loss", line.loss), ("valid_loss", line.valid_loss))
        if loss is not None
    }
