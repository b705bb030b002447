"""Whether tuning finds better settings than the usual ones: ten invented data sets, each trained both ways.

    python benchmarks/tuning.py FOLDER [--model tiny-ja] [--sets faq-200 labels-40] [--seeds 1 2] [--times 3]
        [--clock processor]

For each data set the usual run is trained and timed, then `tune` gets `--times` its time. Both are
measured on the test split, which no trial has seen. A line of JSON a data set, then a table. The clock is
the processor's time of this process, in which everything runs one after the other with one worker, so
that a busy machine changes nothing; `--clock wall` is for an idle one. A data set on which the usual run's
measure is not within `TELLS` can tell no settings apart, and is made harder or easier before it is tuned.
"""

from __future__ import annotations

# ruff: noqa: E402
from mlx_finetuning.utils import blas

blas.preload()
from mlx_finetuning import mlx_trainer

mlx_trainer.for_training()

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grid
import invented_sets

from mlx_finetuning import bases
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.experiment_tracker.evaluation.statistics import ratio
from mlx_finetuning.jobs import jobs, runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.progress import silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import train, trials, tune
from mlx_finetuning.tokenization.rows import read_rows
from mlx_finetuning.tuning import Score
from mlx_finetuning.workspace import JobPaths, Workspace

TELLS = (0.2, 0.85)
"""Where the usual run's measure has to be for a data set to tell settings apart."""
TESTED = 120
"""Rows of the test split that are asked at most."""


@dataclass(frozen=True)
class Compared:
    """A line of the table."""

    name: str
    seed: int
    usual: float
    """The goal's measure on the test split, 0 to 1."""
    tuned: float
    low: float
    """95% interval of the difference, paired by question."""
    high: float
    usual_forgotten: float
    tuned_forgotten: float
    usual_s: float
    asked_s: float
    took_s: float
    choice: str


def compare(folder: Path, model: str, name: str, seed: int, times: float, clock: str) -> Compared:
    """Both ways on one data set, in a workspace of its own."""
    if clock == "processor":
        time.monotonic = time.process_time  # type: ignore[assignment]
    studio = Studio(Workspace(folder / f"{name}-{seed}"))
    invented_sets.prepare(studio, name, seed)
    own = TrainConfig(model=model, dataset=name, seed=seed, processes=1)
    usual = studio.training.preset(own, "usual")
    began_s = time.monotonic()
    run_id = _trained(studio.workspace, usual)
    usual_s = time.monotonic() - began_s
    before = _tested(studio.workspace, usual, run_id)
    if not TELLS[0] <= before.goal <= TELLS[1]:
        raise ValueError(f"{name}, {seed}: the usual run answers {before.goal:.1%}")
    asked_s, goal = times * usual_s, invented_sets.goal_of(name)
    paths = JobPaths(studio.workspace.jobs / "tune")
    paths.folder.mkdir(parents=True)
    details = {"settings": as_dict(usual), "seconds": asked_s, "goal": goal}
    tuned = tune.run(TaskContext(studio.workspace, paths, "", details, silent, _unheard))
    after = _tested(studio.workspace, usual, tuned.run_id)
    chosen = "usual" if tuned.is_usual else _changed(usual, tuned.settings)
    gap = ratio([b - a for a, b in zip(before.rows, after.rows, strict=True)])
    assert gap is not None
    return Compared(
        *(name, seed, before.goal, after.goal, gap.low, gap.high),
        *(before.forgotten, after.forgotten),
        *(round(usual_s, 1), round(asked_s, 1), tuned.seconds, chosen),
    )


def _unheard(name: str, **data: object) -> None:
    """Events of a tuning stand in its trials' records too."""


def _changed(usual: TrainConfig, chosen: dict[str, object]) -> str:
    before = {**as_dict(usual), "updates": usual.iterations}
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in chosen.items()
        if value != before[key]
    )


def _trained(workspace: Workspace, settings: TrainConfig) -> str:
    """A run in this process."""
    draft = runs.prepared(workspace, settings, bases.resolve(settings.model, workspace))
    jobs.create(draft.paths, draft.job, draft.add_files).release()
    run_id = draft.job.run_id
    own = TaskContext(workspace, draft.paths, run_id, as_dict(settings), silent, _unheard)
    train.run(own)
    return run_id


def _tested(workspace: Workspace, settings: TrainConfig, run_id: str) -> Score:
    """Of a run on the test split, and on the general questions that the base knows."""
    name = settings.dataset
    model = bases.resolve(settings.model, workspace)
    nowhere = JobPaths(workspace.jobs / "test")
    context = TaskContext(workspace, nowhere, "", {}, silent, _unheard)
    asked = read_rows(workspace.dataset(name).test)[:TESTED]
    bench = trials.Bench(context, load(model), (), (), invented_sets.goal_of(name), asked)
    known = bench.general(silent)
    loaded = load(model, workspace.adapter(run_id).folder)
    return dataclasses.replace(bench, loaded=loaded, known=known).score(silent)


def lines(found: list[Compared]) -> Iterator[str]:
    """The table."""
    yield "| data set, seed | usual | tuned | difference, 95% | forgotten: usual, tuned | s asked, taken | choice |"
    yield "|---|---|---|---|---|---|---|"
    for one in found:
        lost = [f"{share:.0%}" for share in (one.usual_forgotten, one.tuned_forgotten)]
        yield (
            f"| {one.name}, {one.seed} | {one.usual:.1%} | {one.tuned:.1%} | {one.low:+.1%} to {one.high:+.1%} | "
            f"{', '.join(lost)} | {one.asked_s:.0f}, {one.took_s:.0f} | {one.choice} |"
        )


def main() -> None:
    parser = grid.parser(__doc__)
    parser.add_argument("--sets", nargs="+", metavar="KIND-SIZE", default=invented_sets.SETS)
    parser.add_argument("--times", type=float, default=3.0)
    parser.add_argument("--clock", choices=("processor", "wall"), default="processor")
    options = parser.parse_args()
    calls = (
        (options.folder, options.model, name, seed, options.times, options.clock)
        for seed in options.seeds
        for name in options.sets
    )
    grid.measure(compare, calls, options.jobs, lines)


if __name__ == "__main__":
    main()
