"""Reports for who reads English: all of it is, but for what is the user's own."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from html import unescape
from typing import Any

import pytest

from messages import JAPANESE
from mlx_finetuning import language
from mlx_finetuning.config import GOALS, EvaluateConfig
from mlx_finetuning.experiment_tracker.evaluation import (
    general_questions,
    outcome,
    report,
    report_html,
    summary_html,
)
from mlx_finetuning.experiment_tracker.evaluation.comparison import Measured
from mlx_finetuning.experiment_tracker.evaluation.measured import Findings, Origin
from mlx_finetuning.experiment_tracker.evaluation.results import LayerChange, Report, Tally
from mlx_finetuning.experiment_tracker.evaluation.summary_html import Background
from mlx_finetuning.jobs.logs import MetricsLine
from mlx_finetuning.jobs.results import Certificate, EngineRow
from mlx_finetuning.language import _


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_current", language.ENGLISH)


@dataclass(frozen=True)
class Grade:
    nats: float
    answer: str | None
    targets: int = 10
    ended: bool = True
    reasoning: str = ""


def rows(form: str, count: int, **marks: Any) -> list[dict[str, Any]]:
    """Questions about prices, in one wording."""
    return [
        {
            "messages": [
                {"role": "user", "content": form.format(n)},
                {"role": "assistant", "content": f"Item {n} is {n}00 yen."},
            ],
            "row": n + 2,
            "group": f"g{n}",
            **marks,
        }
        for n in range(1, count + 1)
    ]


def measured(asked: list[dict[str, Any]], right: int) -> Measured:
    """The base knows nothing; the tuned model so many."""
    base = [Grade(20.0 + at / 100, "No idea.") for at in range(len(asked))]
    tuned = [
        Grade(5.0 + at / 100, one["messages"][-1]["content"] if at < right else "")
        for at, one in enumerate(asked)
    ]
    return Measured(asked, base, tuned, 1000)


def made(goal: str, right: int) -> Report:
    """Of a run with questions of all kinds, some of them forgotten."""
    asked = general_questions.questions()
    before = [Grade(5.0, one.answer) for one in asked]
    after = [Grade(9.0, one.answer if at % 2 else "no") for at, one in enumerate(asked)]
    splits = {
        "train": measured(rows("How much is item {}?", 20), right),
        "valid": measured(rows("Item {}, please: how much?", 4), right),
        "test": measured(
            [
                *rows("What does item {} cost?", 9),
                *rows("Who sells item {}?", 2, group="x", refusal=True),
            ],
            right,
        ),
    }
    return report.build(
        Origin(
            *("run", "tiny-ja", "facts", "0" * 64, True, "2026-11-23", {"rank": 8}),
            *({"mlx": "1"}, "2026-11-23"),
            metrics=[MetricsLine(1, loss=2.0), MetricsLine(2, loss=0.1, valid_loss=0.2)],
        ),
        Findings(
            splits=splits,
            general=Measured([one.row for one in asked], before, after, len(asked)),
            trained_groups=frozenset(f"g{n}" for n in range(1, 21)),
            reworded=measured(rows("Well, how much is item {}?", 5), right),
            layers=[LayerChange(0, 1.5, 0.01)],
            goal=goal,
            thinks=False,
        ),
        EvaluateConfig(),
    )


def words(page: str) -> str:
    """What is read on a page, without the style sheet."""
    return unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("right", [0, 6, 20])
def test_report_and_summary_are_english_throughout(goal: str, right: int) -> None:
    built = made(goal, right)
    certificate = Certificate(
        passed=True,
        verdict="OK",
        prompts=8,
        held_out_prompts=8,
        rows=(EngineRow("mlx", 8, 1.0, None, None, 1.0, 1.0, "OK", label="MLX"),),
    )
    page = report_html.page(built, certificate)
    assert '<html lang="en">' in page
    questions = {one.question for one in general_questions.questions()}
    lost = {value for one in built.forgetting.lost for value in one.values() if value}
    shown = words(page)
    for text in sorted(questions | lost, key=len, reverse=True):  # a Japanese set for every model
        shown = shown.replace(text, "")
    assert not JAPANESE.findall(shown.replace("？", ""))
    summary = words(summary_html.page(built, Background(["facts.csv"], "MIT")))
    assert not JAPANESE.search(summary.replace("？", ""))
    assert (
        "  " not in built.first_line.text and built.first_line.text == built.first_line.text.strip()
    )


def test_every_outcome_is_said_in_whole_english_sentences() -> None:
    tallies = (None, Tally(20, 5, 2, 9, 1, 2), Tally(6, 6, 0, 0, 0))
    states = ("learned", "unlinked", "memorised", "worse", "unchanged", "diverged", "unknown")
    for goal, state, taught, held_out, ended, is_spoiled in itertools.product(
        GOALS, states, tallies, tallies, (None, 0.2, 0.8, 1.0), (True, False)
    ):
        said = outcome.judge(
            outcome.Evidence(
                goal, state, taught=taught, held_out=held_out, ended=ended, forgot=is_spoiled
            )
        )
        for text in (said.text, said.advice, *said.evidence):
            assert text and not JAPANESE.search(text), text
        assert re.fullmatch(r"[A-Z].*[^ ][.]", said.text), said.text
        assert not re.search(r"[.](?! |\d|$)|  ", said.text), said.text


def test_kinds_of_general_questions_have_their_english() -> None:
    kinds = {one.kind for of in ("ja", "en") for one in general_questions.questions(of)}
    assert kinds == set(general_questions.KINDS_JA)
    assert not any(JAPANESE.search(_(kind, "asked")) for kind in kinds)
