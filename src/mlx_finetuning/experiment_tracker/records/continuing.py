"""Going on from a finished run: its settings with what may be changed, and what may not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from mlx_finetuning import config
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.errors import ContinuationDiffers
from mlx_finetuning.jobs import jobs, runs
from mlx_finetuning.language import _
from mlx_finetuning.workspace import Workspace

FIXED = (
    *("model", "engine", "method", "rank", "alpha", "rslora"),
    *("targets", "num_layers"),
)
"""What the adapter's arrays and their meaning depend on."""


def settings_of(workspace: Workspace, run_id: str) -> TrainConfig:
    """The settings that a run was started with. Raises RecordDamaged, InvalidSettings."""
    return config.load_of_run(jobs.read_job(workspace.run(run_id)).config)


def settings(
    workspace: Workspace, run_id: str, changes: Mapping[str, object], model_folder: Path
) -> TrainConfig:
    """What to train with so that the run `run_id` goes on, with `changes`.

    Raises RunNotReady, RunIsSimulated, ContinuationDiffers, InvalidSettings.
    """
    run = runs.require_trained(workspace, run_id)
    before = settings_of(workspace, run_id)
    # A split into processes was chosen for that run's updates.
    kept = dataclasses.replace(before, continues=run_id, processes=0, micro_batch_size=0)
    chosen = config.load(TrainConfig, {**as_dict(kept), **changes})
    changed = [
        _("{name}（{before} → {after}）").format(name=name, before=values[0], after=values[1])
        for name in FIXED
        if (values := (as_dict(before)[name], as_dict(chosen)[name]))[0] != values[1]
    ]
    if runs.model_fingerprint(model_folder) != run.model_fingerprint:
        changed.append(_("モデルのファイル"))
    if before.engine != "mlx":
        changed.append(
            _("学習エンジン（{engine} の学習は続けられません）").format(engine=before.engine)
        )
    if changed:
        raise ContinuationDiffers(run_id=run_id, changed=changed)
    return chosen
