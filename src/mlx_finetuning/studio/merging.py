"""Runs made of other runs' adapters: averages, and an adapter at another strength."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_finetuning import bases, config, files
from mlx_finetuning.config import HIGHEST_STRENGTH, MergeConfig, TrainConfig, as_dict
from mlx_finetuning.errors import InvalidSettings, MergeImpossible, StudioError
from mlx_finetuning.experiment_tracker.records import continuing
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.runs import Merge, Run
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress
from mlx_finetuning.studio.data import Data
from mlx_finetuning.studio.runs import Runs
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Merging:
    """`studio.merging`. What is made is an ordinary run: it can be evaluated, certified, exported, talked
    to and continued."""

    workspace: Workspace

    def start(
        self, run_ids: Sequence[str], settings: MergeConfig | None = None, dataset: str = ""
    ) -> str:
        """Start merging the adapters of these runs, and return the new run's id. `dataset` is what it will
        be evaluated on, the first run's unless it is named.

        Raises InvalidSettings, RunNotFound, RunNotReady, RunIsSimulated, MergeImpossible, DatasetNotFound,
        ModelError, DiskFull.
        """
        checked = config.load(MergeConfig, as_dict(settings or MergeConfig()))
        _require_sound(run_ids, checked)
        merged = [runs.require_trained(self.workspace, run_id) for run_id in run_ids]
        trained = [continuing.settings_of(self.workspace, run_id) for run_id in run_ids]
        _require_alike(merged, trained)
        rank = checked.rank or sum(one.rank for one in trained)
        settled = dataclasses.replace(
            trained[0],
            dataset=dataset or trained[0].dataset,
            # As the merged adapter is: factors of scale 1.
            rank=rank,
            alpha=float(rank),
            rslora=False,
            targets=tuple(sorted({name for one in trained for name in one.targets})),
            num_layers=-1
            if any(one.num_layers < 0 for one in trained)
            else max(one.num_layers for one in trained),
            continues="",
        )
        Data(self.workspace).require(settled.dataset)
        folder = bases.of_run(merged[0], self.workspace)
        merge = Merge(tuple(run_ids), as_dict(checked))
        return runs.start(self.workspace, settled, folder, merge)

    def again(self, run_id: str) -> str:
        """Merge once more what `run_id` was merged of. Raises what `start` raises."""
        record = files.read_record(self.workspace.run(run_id).merge, Merge)
        dataset = runs.show(self.workspace, run_id).dataset
        return self.start(record.run_ids, config.load(MergeConfig, record.settings), dataset)

    def at_strength(self, run_id: str, strength: float, progress: Progress) -> str:
        """The run whose adapter is that of `run_id` at another strength; made, and waited for, unless there
        is one. Raises what `start` raises; following it, AdapterUnusable, Interrupted."""
        if strength == 1:
            return run_id
        wanted = MergeConfig(strength=strength)
        for run in runs.list_runs(self.workspace):
            if run.merged != (run_id,) or not runs.is_trained(self.workspace, run):
                continue
            with contextlib.suppress(StudioError, FileNotFoundError):
                record = files.read_record(self.workspace.run(run.run_id).merge, Merge)
                if config.load(MergeConfig, record.settings) == wanted:
                    return run.run_id
        made = self.start([run_id], wanted)
        Runs(self.workspace).follow(made, progress)
        return made


def _require_sound(run_ids: Sequence[str], settings: MergeConfig) -> None:
    """Raises InvalidSettings."""
    problems = []
    if not run_ids or (len(run_ids) == 1 and settings.strength == 1):
        problems.append(
            _("合わせる実験を2つ以上選ぶか、1つの実験の強さ（strength）を変えてください。")
        )
    if len({*run_ids}) < len(run_ids):
        problems.append(_("同じ実験が2度選ばれています。"))
    if settings.weights and len(settings.weights) != len(run_ids):
        problems.append(
            _("weights: 実験は{runs}個ですが、重みは{weights}個です。").format(
                runs=len(run_ids), weights=len(settings.weights)
            )
        )
    if any(not 0 < weight <= HIGHEST_STRENGTH for weight in settings.weights):
        problems.append(
            _("weights: 0より大きく {most:g} 以下にしてください。").format(most=HIGHEST_STRENGTH)
        )
    if problems:
        raise InvalidSettings(problems=problems)


def _require_alike(merged: Sequence[Run], trained: Sequence[TrainConfig]) -> None:
    """Raises MergeImpossible where the adapters are not of one base, or no LoRA."""
    others = [run for run in merged if run.model_fingerprint != merged[0].model_fingerprint]
    reason = ""
    if others:
        reason = _("ベースモデルが違います（{first} と {other}）。").format(
            first=merged[0].model, other=others[0].model
        )
    methods = {one.method for one in trained} - {"lora"}
    if methods:
        reason = _(
            "method が {methods} の学習です。"
            "DoRAは重みの長さも変え、fullは重みそのものを置き換えるので、変化を足し合わせたり、強さを変えたりできません。"
        ).format(methods=_("、").join(sorted(methods)))
    if reason:
        raise MergeImpossible(run_ids=[run.run_id for run in merged], reason=reason)
