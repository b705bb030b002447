"""How near the usual settings are to the best of a grid: invented data sets, trained with other settings.

    python benchmarks/defaults.py FOLDER [--sets faq-48] [--settings "" rank=4 rank=64,learning_rate=2e-3]
        [--seeds 1 2] [--jobs 2]

Each setting changes the usual run's: `updates` by a factor, and alpha, if not named, with the rank. A line
of JSON a run, then a table of means over seeds on the test split.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grid
import invented_sets

from mlx_finetuning import config
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Measured:
    """One run."""

    name: str
    seed: int
    settings: str
    goal: float
    """The goal's measure on the test split, 0 to 1."""
    forgotten: float | None


def measure(
    folder: Path, model: str, name: str, settings: str, seed: int, processes: int
) -> Measured:
    """Train and evaluate in a workspace of its own."""
    label = "".join(sign if sign.isalnum() else "-" for sign in f"{name}-{seed}-{settings}")
    studio = Studio(Workspace(folder / label))
    invented_sets.prepare(studio, name, seed)
    own = TrainConfig(model=model, dataset=name, seed=seed, processes=processes)
    usual = dataclasses.replace(studio.training.preset(own, "usual"), sample_every=0)
    changed = config.parse_assignments([one for one in settings.split(",") if one])
    updates = round(float(changed.pop("updates", 1)) * usual.iterations)
    rank = int(changed.get("rank", usual.rank))
    values = {
        **config.as_dict(usual),
        "iterations": updates,
        "alpha": usual.alpha * rank / usual.rank,
    }
    run_id = studio.training.start(config.load(TrainConfig, {**values, **changed}))
    studio.runs.follow(run_id, lambda _: None)
    report = studio.evaluation.start(run_id, invented_sets.EVALUATED).follow()
    rows = invented_sets.measure(report, invented_sets.goal_of(name))
    return Measured(name, seed, settings, sum(rows) / len(rows), invented_sets.forgotten(report))


def lines(found: list[Measured]) -> Iterator[str]:
    """The table: a line a data set, a column a setting."""
    columns = list(dict.fromkeys(one.settings for one in found))
    yield f"| data set | {' | '.join(one or 'usual' for one in columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    by_cell = defaultdict(list)
    for one in found:
        by_cell[one.name, one.settings].append(one)
    for name in dict.fromkeys(one.name for one in found):
        cells = [by_cell[name, column] for column in columns]
        yield f"| {name} | {' | '.join(map(_cell, cells))} |"


def _cell(runs: list[Measured]) -> str:
    lost = [one.forgotten for one in runs if one.forgotten is not None]
    goal = sum(one.goal for one in runs) / len(runs) if runs else float("nan")
    return f"{goal:.1%}, {sum(lost) / len(lost):.0%}" if lost else f"{goal:.1%}"


def main() -> None:
    parser = grid.parser(__doc__)
    parser.add_argument("--sets", nargs="+", metavar="KIND-SIZE", default=invented_sets.SETS)
    parser.add_argument("--settings", nargs="+", default=[""])
    parser.add_argument("--processes", type=int, default=0)
    options = parser.parse_args()
    calls = (
        (options.folder, options.model, name, settings, seed, options.processes)
        for seed in options.seeds
        for name in options.sets
        for settings in options.settings
    )
    grid.measure(measure, calls, options.jobs, lines)


if __name__ == "__main__":
    main()
