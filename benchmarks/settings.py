"""What settings do to one data set: right answers to unseen wordings, and what of the general is kept.

    python benchmarks/settings.py FOLDER --model MODEL --sheet facts.csv --seeds 42 1 2 \
        --settings usual replay=0 learning_rate=2e-3,rank=8 [--jobs 8] [--language en]

Each setting changes what おまかせ takes for this sheet and model (`usual` changes nothing), and with each seed is a
run in a workspace of its own, evaluated on its test split; base and tuned model are then asked all general questions of a language, so that what was gained counts beside what was
forgotten. A line of JSON a run, then a table.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import grid

from mlx_finetuning import bases, config
from mlx_finetuning.config import EvaluateConfig, PrepareConfig, TrainConfig
from mlx_finetuning.experiment_tracker.evaluation import general_questions
from mlx_finetuning.studio import Studio
from mlx_finetuning.utils import blas
from mlx_finetuning.workspace import Workspace

DATASET = "facts"
MAX_TOKENS, AT_ONCE = 40, 32


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
    right: int
    """Of all general questions of the language."""
    base_right: int
    general: int
    seconds: float


def measure(
    folder: Path, model: str, sheet: Path, language: str, settings: str, seed: int
) -> Measured:
    """Train and evaluate in a workspace of its own."""
    name = "".join(sign if sign.isalnum() else "-" for sign in f"{settings}-{seed}")
    studio = Studio(Workspace(folder / name))
    own = PrepareConfig(goal="faq", hold_out="paraphrase", test_share=0.2)
    studio.data.prepare(sheet, DATASET, own, replace=True)
    changed = config.parse_assignments([one for one in settings.split(",") if one != "usual"])
    values = {"model": model, "dataset": DATASET, "seed": seed, **changed}
    usual = studio.training.preset(config.load(TrainConfig, values), "usual")
    began_s = time.monotonic()
    values = {**config.as_dict(usual), **changed, "sample_every": 0}
    run_id = studio.training.start(config.load(TrainConfig, values))
    studio.runs.follow(run_id, lambda _: None)
    took_s = time.monotonic() - began_s
    report = studio.evaluation.start(run_id, EvaluateConfig(max_tokens=MAX_TOKENS)).follow()
    outcome, forgetting = report.outcome, report.forgetting
    assert outcome is not None and outcome.taught is not None and outcome.held_out is not None
    held = outcome.held_out
    right = _right(studio.workspace, model, run_id, language)
    return Measured(
        *(settings, seed, round(outcome.taught.share, 3), held.right, held.asked),
        *(forgetting.still_can, forgetting.could, *right, round(took_s, 1)),
    )


def _right(workspace: Workspace, model: str, run_id: str, language: str) -> tuple[int, int, int]:
    """General questions answered rightly after training and before, and how many there are."""
    blas.preload()
    from mlx_finetuning.mlx_trainer.inference import batch_generate
    from mlx_finetuning.mlx_trainer.model.load import load

    base, counts = bases.resolve(model, workspace), []
    questions = general_questions.questions(language)
    for adapter in (workspace.adapter(run_id).folder, None):
        loaded = load(base, adapter)
        prompts = [loaded.render(question.row["messages"][:1], ask=True) for question in questions]
        answers = batch_generate.answers(loaded, prompts, MAX_TOKENS, AT_ONCE)
        pairs = zip(questions, answers, strict=True)
        counts.append(sum(question.is_right(answer.text) for question, answer in pairs))
    tuned, before = counts
    return tuned, before, len(questions)


def lines(found: list[Measured]) -> Iterator[str]:
    """The table, by setting."""
    by_setting = defaultdict(list)
    for one in found:
        by_setting[one.settings].append(one)
    yield "| settings | unseen wordings right | kept of what the base knew | general questions right | drop, points | s |"
    yield "|---|---|---|---|---|---|"
    for settings, runs in by_setting.items():
        unseen = ", ".join(str(one.unseen) for one in runs)
        kept = ", ".join(str(one.kept) for one in runs)
        right = ", ".join(str(one.right) for one in runs)
        drops = [(one.base_right - one.right) / one.general for one in runs]
        drop = ", ".join(f"{100 * share:.1f}" for share in drops)
        yield (
            f"| {settings} | {unseen} of {runs[0].of} | {kept} of {runs[0].could} | {right} of "
            f"{runs[0].general}, base {runs[0].base_right} | {drop} (mean {100 * fmean(drops):.1f}) | "
            f"{fmean(one.seconds for one in runs):.0f} |"
        )


def main() -> None:
    parser = grid.parser(__doc__)
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--settings", nargs="+", default=["usual"])
    parser.add_argument("--language", default="en", choices=("ja", "en"))
    options = parser.parse_args()
    calls = (
        (options.folder, options.model, options.sheet, options.language, settings, seed)
        for settings in options.settings
        for seed in options.seeds
    )
    grid.measure(measure, calls, options.jobs, lines)


if __name__ == "__main__":
    main()
