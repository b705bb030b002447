"""Whether tuning finds better settings than the usual ones: ten invented data sets, each trained both ways.

    python benchmarks/tuning.py FOLDER [--model tiny-ja] [--sets faq-48 labels-40] [--seeds 1 2] [--times 3] [--jobs 2]

For each data set the usual run is trained and timed, then `tune` gets `--times` its time. Both are
evaluated on the test split, which no trial has seen. A line of JSON a data set, then a table. A number of
`--processes` is for several data sets on one machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grid
import invented_sets

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.experiment_tracker.evaluation.statistics import ratio
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace


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
    usual_forgotten: float | None
    tuned_forgotten: float | None
    usual_s: float
    asked_s: float
    took_s: float
    choice: str


def compare(
    folder: Path, model: str, name: str, seed: int, times: float, processes: int
) -> Compared:
    """Both ways on one data set, in a workspace of its own."""
    studio = Studio(Workspace(folder / f"{name}-{seed}"))
    invented_sets.prepare(studio, name, seed)
    own = TrainConfig(model=model, dataset=name, seed=seed, processes=processes)
    usual = studio.training.preset(own, "usual")
    began_s = time.monotonic()
    run_id = studio.training.start(usual)
    studio.runs.follow(run_id, lambda _: None)
    usual_s = time.monotonic() - began_s
    tuned = studio.tuning.follow(studio.tuning.start(usual, times * usual_s / 60)).follow()
    before, after = (
        studio.evaluation.start(one, invented_sets.EVALUATED).follow()
        for one in (run_id, tuned.run_id)
    )
    goal = invented_sets.goal_of(name)
    first, second = invented_sets.measure(before, goal), invented_sets.measure(after, goal)
    gap = ratio([b - a for a, b in zip(first, second, strict=True)])
    assert gap is not None
    return Compared(
        name,
        seed,
        sum(first) / len(first),
        sum(second) / len(second),
        gap.low,
        gap.high,
        invented_sets.forgotten(before),
        invented_sets.forgotten(after),
        round(usual_s, 1),
        round(times * usual_s, 1),
        tuned.seconds,
        tuned.reason.split("。")[0],
    )


def lines(found: list[Compared]) -> Iterator[str]:
    """The table."""
    yield "| data set, seed | usual | tuned | difference, 95% | forgotten: usual, tuned | s asked, taken | choice |"
    yield "|---|---|---|---|---|---|---|"
    for one in found:
        lost = [
            ("–" if x is None else f"{x:.0%}") for x in (one.usual_forgotten, one.tuned_forgotten)
        ]
        yield (
            f"| {one.name}, {one.seed} | {one.usual:.1%} | {one.tuned:.1%} | {one.low:+.1%} to {one.high:+.1%} | "
            f"{', '.join(lost)} | {one.asked_s:.0f}, {one.took_s:.0f} | {one.choice} |"
        )


def main() -> None:
    parser = grid.parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=invented_sets.SETS, default=invented_sets.SETS)
    parser.add_argument("--times", type=float, default=3.0)
    parser.add_argument("--processes", type=int, default=0)
    options = parser.parse_args()
    calls = (
        (options.folder, options.model, name, seed, options.times, options.processes)
        for seed in options.seeds
        for name in options.sets
    )
    grid.measure(compare, calls, options.jobs, lines)


if __name__ == "__main__":
    main()
