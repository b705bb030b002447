"""What tells runs apart: the settings and origins in which they differ, and how far each came."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_finetuning import config
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import ConfigFileUnreadable, StudioError
from mlx_finetuning.jobs import jobs, runs
from mlx_finetuning.jobs.metrics import Metrics
from mlx_finetuning.language import _
from mlx_finetuning.utils.settings_ja import label_of, shown_value
from mlx_finetuning.workspace import Workspace

_DIGITS = 12
"""Of a hash: enough to tell two apart."""


@dataclass(frozen=True)
class Figures:
    """What a run's curves came to; None where there is no value."""

    run_id: str
    state: str
    """In words."""
    updates: int
    last_loss: float | None
    first_valid_loss: float | None
    best_valid_loss: float | None
    best_update: int | None
    elapsed_s: float


@dataclass(frozen=True)
class Comparison:
    """Runs side by side."""

    runs: tuple[Figures, ...]
    """In the order asked for."""
    differences: dict[str, tuple[Any, ...]]
    """Setting, or origin → each run's value, where not all are the same; None: not known."""


def compare(workspace: Workspace, run_ids: Sequence[str]) -> Comparison:
    """Raises RunNotFound."""
    compared = [runs.show(workspace, run_id) for run_id in dict.fromkeys(run_ids)]
    records, figures = [], []
    for run in compared:
        settings: dict[str, Any] = {}
        with contextlib.suppress(ConfigFileUnreadable):
            settings = config.read_yaml(workspace.run(run.run_id).config)
        origins = {
            "dataset_sha256": run.dataset_sha256[:_DIGITS],
            "model_fingerprint": run.model_fingerprint[:_DIGITS],
            **{f"versions.{name}": version for name, version in run.versions.items()},
        }
        records.append({**settings, **{name: value for name, value in origins.items() if value}})
        metrics = Metrics(workspace.run(run.run_id).metrics)
        metrics.refresh()
        updates, valid_losses = metrics.trained["update"], metrics.validated[1]
        best_update, best_valid_loss = metrics.best_valid or (None, None)
        figures.append(
            Figures(
                run_id=run.run_id,
                state=run.state_label,
                updates=int(updates[-1]) if updates else 0,
                last_loss=metrics.latest("loss"),
                first_valid_loss=valid_losses[0] if valid_losses else None,
                best_valid_loss=best_valid_loss,
                best_update=best_update,
                elapsed_s=run.status.elapsed_s,
            )
        )
    return Comparison(tuple(figures), differing(records))


def distinctions(workspace: Workspace, run_ids: Sequence[str]) -> dict[str, str]:
    """`学習率 0.0001、LoRAのランク 8`: for each run the settings whose value most of the others do not
    have; model and dataset are not among them. Runs without readable settings get nothing."""
    settings: dict[str, Mapping[str, object]] = {}
    for run_id in run_ids:
        with contextlib.suppress(FileNotFoundError, StudioError):
            settings[run_id] = jobs.read_job(workspace.run(run_id)).config
    told_of = {item.name for item in dataclasses.fields(TrainConfig)} - {"model", "dataset"}
    told: dict[str, list[str]] = {run_id: [] for run_id in run_ids}
    for name, row in differing(list(settings.values())).items():
        usual, __ = Counter(map(str, row)).most_common(1)[0]
        for run_id, value in zip(settings, row, strict=True):
            if name in told_of and str(value) != usual:
                # In a list there is no room for what labels explain in parentheses.
                label = re.sub(r"\s*[（(].*", "", label_of(TrainConfig, name))
                told[run_id].append(f"{label} {shown_value(name, value)}")
    return {run_id: _("、").join(texts) for run_id, texts in told.items()}


def differing(records: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Keys with more than one value, in the order in which they first appear."""
    names = dict.fromkeys(name for record in records for name in record)
    values = {name: tuple(record.get(name) for record in records) for name in names}
    return {name: row for name, row in values.items() if any(value != row[0] for value in row)}
