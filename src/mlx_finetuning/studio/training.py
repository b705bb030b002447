"""Starting runs, and estimating what they would take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlx_finetuning import bases, config, presets
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.errors import GgufUnreadable, InvalidSettings, ModelError
from mlx_finetuning.experiment_tracker.records import continuing, rerun, trackers
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.results import Estimate, LayoutTrials
from mlx_finetuning.language import _
from mlx_finetuning.presets import Preset
from mlx_finetuning.studio import handle
from mlx_finetuning.studio.data import Data
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.studio.importing import Importing
from mlx_finetuning.studio.merging import Merging
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Training:
    """`studio.training`. A run is named by its id; `studio.runs.follow` waits for its end."""

    workspace: Workspace

    def start(self, settings: TrainConfig) -> str:
        """Start a run in the background and return its id; it queues if the device is busy.

        Everything is checked before anything is written. Raises InvalidSettings,
        DatasetNotFound, TrackerNotInstalled, ModelError, DiskFull.
        """
        checked = bases.settled(config.load(TrainConfig, as_dict(settings)))
        Data(self.workspace).require(checked.dataset)
        trackers.require_installed(checked.trackers)
        is_simulation = checked.engine == "simulation"
        folder = None if is_simulation else bases.resolve(checked.model, self.workspace)
        return runs.start(self.workspace, checked, folder)

    def estimate(self, settings: TrainConfig) -> JobHandle[Estimate]:
        """What a run would take: memory, time, and the batch sizes that fit and that are advised.

        Does the first few updates in a worker, so it waits for the device. Raises InvalidSettings,
        DatasetNotFound, ModelError, DiskFull; following it, RunError and Interrupted.
        """
        checked = bases.settled(config.load(TrainConfig, as_dict(settings)))
        Data(self.workspace).require(checked.dataset)
        if checked.engine != "mlx":
            problem = _("engine: 見積もりができるのは mlx だけです（今の設定: {engine}）。").format(
                engine=checked.engine
            )
            raise InvalidSettings(problems=[problem])
        bases.resolve(checked.model, self.workspace)
        return JobHandle(handle.start(self.workspace, "dry_run", as_dict(checked)), Estimate)

    def try_layouts(self, settings: TrainConfig) -> JobHandle[LayoutTrials]:
        """How fast, and how rightly, each batch layout is computed here, on a run's first update.

        Raises DatasetNotFound, ModelError, DiskFull; following it, RunError and Interrupted.
        """
        Data(self.workspace).require(settings.dataset)
        bases.resolve(settings.model, self.workspace)
        return JobHandle(handle.start(self.workspace, "layouts", as_dict(settings)), LayoutTrials)

    def rerun(self, run_id: str) -> str:
        """Start a run with another one's settings, data and base, and return its id.

        On the CPU the same losses come out, to the last bit. Raises RunNotFound,
        RerunSourceChanged, ModelError, DiskFull.
        """
        run = runs.show(self.workspace, run_id)
        if run.merged:
            return Merging(self.workspace).again(run_id)
        if run.imported:
            return Importing(self.workspace).again(run_id)
        Data(self.workspace).require(run.dataset)
        folder = None if run.simulated else bases.of_run(run, self.workspace)
        return self.start(rerun.settings(self.workspace, run_id, folder))

    def settings_of(self, run_id: str) -> TrainConfig:
        """What a run was started with. Raises RunNotFound, RecordDamaged, InvalidSettings."""
        runs.show(self.workspace, run_id)
        return continuing.settings_of(self.workspace, run_id)

    def continue_run(self, run_id: str, changes: Mapping[str, object]) -> str:
        """Start a new run that goes on from a finished one's adapter and optimizer state, with its
        settings but for `changes`, and return its id.

        Raises RunNotFound, RunNotReady, RunIsSimulated, ContinuationDiffers, InvalidSettings,
        DatasetNotFound, ModelError, DiskFull.
        """
        run = runs.require_trained(self.workspace, run_id)
        folder = bases.of_run(run, self.workspace)
        return self.start(continuing.settings(self.workspace, run_id, changes, folder))

    def resume(self, run_id: str) -> None:
        """Let a stopped run go on exactly where its last checkpoint was made.

        Raises RunNotFound, RunNotResumable, DatasetNotFound, DatasetInTrash, DiskFull.
        """
        run = runs.show(self.workspace, run_id)
        if run.can_go_on:
            Data(self.workspace).require(run.dataset)
        runs.resume(self.workspace, run_id)

    def presets(self, base: TrainConfig, goal: str = "") -> list[Preset]:
        """Three ways to train `base`'s model on its dataset, by what that is for, or by `goal`.

        Raises DatasetNotFound.
        """
        data = Data(self.workspace)
        data.require(base.dataset)
        with self.workspace.dataset(base.dataset).train.open("rb") as stream:
            rows = sum(1 for __ in stream)
        try:
            width = bases.width(base.model, self.workspace)
        except (ModelError, GgufUnreadable):
            width = 0  # unknown
        return presets.presets(base, rows, width, goal or data.goal(base.dataset))

    def preset(self, base: TrainConfig, key: str, goal: str = "") -> TrainConfig:
        """The settings of one of them: `trial`, `usual` or `thorough`. Raises DatasetNotFound."""
        return next(one.settings for one in self.presets(base, goal) if one.key == key)
