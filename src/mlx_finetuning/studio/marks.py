"""Answers that people marked and put right, and what the next training makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlx_finetuning import config
from mlx_finetuning.errors import NothingCorrected
from mlx_finetuning.experiment_tracker.records import marks
from mlx_finetuning.experiment_tracker.records.marks import Mark
from mlx_finetuning.jobs import runs
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress, silent
from mlx_finetuning.studio.data import Data
from mlx_finetuning.studio.training import Training
from mlx_finetuning.utils.plain_text import require_text
from mlx_finetuning.workspace import RunPaths, Workspace

if TYPE_CHECKING:
    from mlx_finetuning.data_processor import DatasetSummary


@dataclass(frozen=True)
class Marks:
    """`studio.marks`. A prompt is what was said up to the question and with it, in turn."""

    workspace: Workspace

    def read(self, run_id: str) -> marks.Marks:
        """What was said of the run's answers. Raises RunNotFound, RecordDamaged, NewerSchema."""
        return marks.read(self._paths(run_id))

    def mark(self, run_id: str, prompt: Sequence[str], answer: str, good: bool | None) -> None:
        """Say that an answer is right, or not, or with None neither. Raises RunNotFound,
        TextUndecodable, DiskFull."""
        require_text([*prompt, answer], _("質問か答え"))
        marks.add(self._paths(run_id), Mark(tuple(prompt), answer, good))

    def correct(self, run_id: str, prompt: Sequence[str], answer: str, right: str) -> None:
        """Say what the answer should have been. Raises RunNotFound, TextUndecodable, DiskFull."""
        require_text([*prompt, answer, right], _("質問か答え"))
        marks.add(self._paths(run_id), Mark(tuple(prompt), answer, False, right.strip()))

    def undo(self, run_id: str) -> None:
        """Take the last mark or correction back. Raises RunNotFound, DiskFull."""
        marks.undo(self._paths(run_id))

    def as_kto(self, run_id: str) -> bytes:
        """JSON lines of `prompt`, `completion` and `label`, to learn from right and wrong answers."""
        rows = self.read(run_id).as_kto()
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()

    def dataset(self, run_id: str, progress: Progress = silent) -> DatasetSummary:
        """The next version of the run's dataset, with its corrections.

        Raises NothingCorrected, DataError, DiskFull.
        """
        from mlx_finetuning.data_processor.corrections import Correction

        corrected = self.read(run_id).corrections
        if not corrected:
            raise NothingCorrected(run_id=run_id)
        steps = [Correction(prompt, answer, run_id) for prompt, answer in corrected.items()]
        return Data(self.workspace).correct(
            runs.show(self.workspace, run_id).dataset, steps, progress
        )

    def retrain(self, run_id: str, progress: Progress = silent) -> str:
        """Start a run with the same settings on the next version of the dataset; returns its id.

        Raises what `dataset` and `Training.start` raise.
        """
        settings = config.load_of_run(config.read_yaml(self.workspace.run(run_id).config))
        made = self.dataset(run_id, progress)
        return Training(self.workspace).start(replace(settings, dataset=made.name))

    def _paths(self, run_id: str) -> RunPaths:
        runs.show(self.workspace, run_id)
        return self.workspace.run(run_id)
