"""What tells runs apart: the settings and origins in which they differ, and how far each came."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_finetuning import config
from mlx_finetuning.errors import ConfigFileUnreadable
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.metrics import Metrics
from mlx_finetuning.workspace import Workspace

_DIGITS = 12
"""Of a hash: enough to tell two apart."""


@dataclass(frozen=True)
class Figures:
    """What a run's curves came to; None where there is no value."""

    run_id: str
    state: str
    """Japanese."""
    updates: int
    last_loss: float | None
    first_valid_loss: float | None
    best_valid_loss: float | None
    best_update: int | None
    elapsed_s: float


@dataclass(frozen=True)
class Comparison:
    runs: tuple[Figures, ...]
    """In the order asked for."""
    differences: dict[str, tuple[Any, ...]]
    """Setting, or origin → each run's value, where not all are the same; None: not known."""


def compare(workspace: Workspace, run_ids: Sequence[str]) -> Comparison:
    """Raises RunNotFound."""
    found = [runs.show(workspace, run_id) for run_id in dict.fromkeys(run_ids)]
    described = [_description(workspace, run) for run in found]
    return Comparison(tuple(_figures(workspace, run) for run in found), differing(described))


def differing(described: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Keys with more than one value, in the order in which they first appear."""
    names = dict.fromkeys(name for one in described for name in one)
    rows = {name: tuple(one.get(name) for one in described) for name in names}
    return {name: values for name, values in rows.items() if not _all_same(values)}


def _all_same(values: Iterable[Any]) -> bool:
    first, *others = values
    return all(value == first for value in others)


def _description(workspace: Workspace, run: runs.Run) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    with contextlib.suppress(ConfigFileUnreadable):
        settings = config.read_yaml(workspace.run(run.run_id).config)
    origins = {
        "dataset_sha256": run.dataset_sha256[:_DIGITS],
        "model_fingerprint": run.model_fingerprint[:_DIGITS],
        **{f"versions.{name}": version for name, version in run.versions.items()},
    }
    return {**settings, **{name: value for name, value in origins.items() if value}}


def _figures(workspace: Workspace, run: runs.Run) -> Figures:
    metrics = Metrics(workspace.run(run.run_id).metrics)
    metrics.refresh()
    updates, best = metrics.trained["update"], metrics.best_valid
    first = metrics.validated[1][0] if metrics.validated[1] else None
    return Figures(
        run.run_id,
        run.state_ja,
        int(updates[-1]) if updates else 0,
        metrics.latest("loss"),
        first,
        None if best is None else best[1],
        None if best is None else best[0],
        run.status.elapsed_s,
    )
