"""What KTO fed by marks, and SimPO, do to answers: log-probabilities of right and wrong ones, before and after.

    python benchmarks/marks.py FOLDER [--model tiny-ja] [--seeds 1 2 3] [--processes 1]

Facts are asked for in four wordings. Of each fact the right answer to the first wording is marked ○ and
another fact's answer to the second ×, as in a chat, and exported as KTO rows; for SimPO both are a pair of
the first wording. Trained are the usual settings of preference data on the untrained model, measured
the answers as they were marked and in the two wordings that nobody marked.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import invented_sets

from mlx_finetuning.config import EvaluateConfig, PrepareConfig, TrainConfig
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

FACTS, WORDINGS = 24, 4
OBJECTIVES = ("kto", "simpo")


@dataclass(frozen=True)
class Fact:
    """A fact, its answer, and another fact's."""

    wordings: tuple[str, ...]
    right: str
    wrong: str


@dataclass(frozen=True)
class Moved:
    """One run: nats by which answers have become likelier, mean over facts."""

    objective: str
    seed: int
    marked_right: float
    marked_wrong: float
    other_right: float
    """In wordings that nobody marked."""
    other_wrong: float
    before: float
    """Share of those wordings whose right answer was likelier than the wrong one."""
    after: float


def facts(seed: int, english: bool) -> list[Fact]:
    rows = invented_sets.mixed(random.Random(seed), 2 * FACTS * WORDINGS)
    rows = rows[-FACTS * WORDINGS :] if english else rows[: FACTS * WORDINGS]
    asked = [rows[at : at + WORDINGS] for at in range(0, len(rows), WORDINGS)]
    others = asked[1:] + asked[:1]
    return [
        Fact(tuple(row["question"] for row in own), own[0]["answer"], other[0]["answer"])
        for own, other in zip(asked, others, strict=True)
    ]


def marked(studio: Studio, model: str, seed: int, told: Sequence[Fact]) -> bytes:
    """What a chat's marks are exported as; the run that was talked to is a short one."""
    path = studio.workspace.root / "facts.jsonl"
    rows = [{"question": one.wordings[0], "answer": one.right} for one in told]
    write(path, rows)
    studio.data.prepare(path, "facts", PrepareConfig(goal="faq", valid_share=0, test_share=0))
    run_id = studio.training.start(
        TrainConfig(model=model, dataset="facts", iterations=1, sample_every=0, seed=seed)
    )
    studio.runs.follow(run_id, lambda _: None)
    for one in told:
        studio.marks.mark(run_id, [one.wordings[0]], one.right, True)
        studio.marks.mark(run_id, [one.wordings[1]], one.wrong, False)
    return studio.marks.as_kto(run_id)


def write(path: Path, rows: Sequence[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def train(
    folder: Path, model: str, objective: str, seed: int, told: Sequence[Fact], processes: int
) -> tuple[Path, Path]:
    """The base's folder and the adapter's."""
    from mlx_finetuning import bases

    studio = Studio(Workspace(folder / f"{objective}-{seed}"))
    path = studio.workspace.root / "rows.jsonl"
    if objective == "kto":
        exported = marked(studio, model, seed, told)
        path.write_bytes(exported)
    else:
        pairs = [
            {"prompt": one.wordings[0], "chosen": one.right, "rejected": one.wrong} for one in told
        ]
        write(path, pairs)
    own = PrepareConfig(goal="preference", valid_share=0, test_share=0)
    studio.data.prepare(path, "judged", own)
    settings = TrainConfig(
        model=model, dataset="judged", objective=objective, seed=seed, processes=processes
    )
    usual = dataclasses.replace(studio.training.preset(settings, "usual"), sample_every=0)
    run_id = studio.training.start(usual)
    studio.runs.follow(run_id, lambda _: None)
    return bases.resolve(model, studio.workspace), studio.workspace.adapter(run_id).folder


def answer_nats(model: Path, adapter: Path | None, told: Sequence[Fact]) -> list[list[float]]:
    """Log-probability of each fact's right and wrong answer in each wording: right, wrong, right, …"""
    from mlx_finetuning.mlx_trainer.inference import grade
    from mlx_finetuning.mlx_trainer.model.load import load

    loaded = load(model, adapter)
    loaded.model.eval()
    rows = [
        {
            "messages": [
                {"role": "user", "content": wording},
                {"role": "assistant", "content": answer},
            ]
        }
        for one in told
        for wording in one.wordings
        for answer in (one.right, one.wrong)
    ]
    layout = grade.batch_layout(loaded)
    grades = grade.grade(
        *(loaded, rows, EvaluateConfig(), lambda _: None, ""), layout=layout, ask=False
    )
    nats = [-one.nats for one in grades]
    width = 2 * WORDINGS
    return [nats[at : at + width] for at in range(0, len(nats), width)]


def mean(values: Iterator[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def moved(objective: str, seed: int, before: list[list[float]], after: list[list[float]]) -> Moved:
    def change(*columns: int) -> float:
        pairs = zip(before, after, strict=True)
        return mean(new[at] - old[at] for old, new in pairs for at in columns)

    def leads(nats: list[list[float]]) -> float:
        return mean(float(one[at] > one[at + 1]) for one in nats for at in (4, 6))

    wrong = 3 if objective == "kto" else 1  # the second wording's, or the first one's
    return Moved(
        *(objective, seed, change(0), change(wrong), change(4, 6), change(5, 7)),
        *(leads(before), leads(after)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="tiny-ja")
    parser.add_argument("--english", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--processes", type=int, default=0)
    options = parser.parse_args()
    print(
        "| objective, seed | right, marked | wrong, marked | right, other wordings | wrong | right leads |"
    )
    print("|---|---|---|---|---|---|")
    for seed in options.seeds:
        told = facts(seed, options.english)
        for objective in OBJECTIVES:
            model, adapter = train(
                *(options.folder, options.model, objective, seed, told, options.processes)
            )
            before, after = answer_nats(model, None, told), answer_nats(model, adapter, told)
            one = moved(objective, seed, before, after)
            print(json.dumps(asdict(one)))
            print(
                f"| {objective}, {seed} | {one.marked_right:+.1f} | {one.marked_wrong:+.1f} | "
                f"{one.other_right:+.1f} | {one.other_wrong:+.1f} | {one.before:.0%} → {one.after:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
