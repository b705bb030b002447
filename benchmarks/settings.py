"""What settings do to one data set: right answers to unseen wordings, and what of the general is kept.

    python benchmarks/settings.py FOLDER --model MODEL --sheet facts.csv --seeds 42 1 2 \
        --settings replay=0 replay=-1 learning_rate=2e-3,rank=8 [--jobs 8]

Each setting with each seed is a run in a workspace of its own, evaluated on its test split. A line of
JSON a run, then a table of means.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grid

from mlx_finetuning import config
from mlx_finetuning.config import EvaluateConfig, PrepareConfig, TrainConfig
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

DATASET = "facts"


@dataclass(frozen=True)
class Measured:
    """One run."""

    settings: str
    seed: int
    taught: float
    unseen: int
    of: int
    kept: int
    could: int
    seconds: float


def measure(folder: Path, model: str, sheet: Path, settings: str, seed: int) -> Measured:
    """Train and evaluate in a workspace of its own."""
    name = "".join(sign if sign.isalnum() else "-" for sign in f"{settings}-{seed}")
    studio = Studio(Workspace(folder / name))
    own = PrepareConfig(goal="faq", hold_out="paraphrase", test_share=0.2)
    studio.data.prepare(sheet, DATASET, own, replace=True)
    changed = config.parse_assignments([one for one in settings.split(",") if one])
    values = {"model": model, "dataset": DATASET, "sample_every": 0, "seed": seed, **changed}
    began_s = time.monotonic()
    run_id = studio.training.start(config.load(TrainConfig, values))
    studio.runs.follow(run_id, lambda _: None)
    took_s = time.monotonic() - began_s
    report = studio.evaluation.start(run_id, EvaluateConfig(max_tokens=40)).follow()
    outcome, forgetting = report.outcome, report.forgetting
    assert outcome is not None and outcome.taught is not None and outcome.held_out is not None
    held = outcome.held_out
    return Measured(
        *(settings, seed, round(outcome.taught.share, 3), held.right, held.asked),
        *(forgetting.still_can, forgetting.could, round(took_s, 1)),
    )


def lines(found: list[Measured]) -> Iterator[str]:
    """The table, by setting."""
    by_setting = defaultdict(list)
    for one in found:
        by_setting[one.settings].append(one)
    yield "| settings | seeds | unseen wordings right | kept of what the base knew | s |"
    yield "|---|---|---|---|---|"
    for settings, runs in by_setting.items():
        unseen = ", ".join(str(one.unseen) for one in runs)
        kept = ", ".join(str(one.kept) for one in runs)
        seconds = sum(one.seconds for one in runs) / len(runs)
        yield (
            f"| {settings} | {len(runs)} | {unseen} of {runs[0].of} | {kept} of {runs[0].could} | "
            f"{seconds:.0f} |"
        )


def main() -> None:
    parser = grid.parser(__doc__)
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--settings", nargs="+", default=[""])
    options = parser.parse_args()
    calls = (
        (options.folder, options.model, options.sheet, settings, seed)
        for settings in options.settings
        for seed in options.seeds
    )
    grid.measure(measure, calls, options.jobs, lines)


if __name__ == "__main__":
    main()
