"""The data in the question: which rows are near, how many fit, and whether training was needed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mlx_finetuning.experiment_tracker.evaluation import in_prompt
from mlx_finetuning.experiment_tracker.evaluation.comparison import Measured
from mlx_finetuning.experiment_tracker.evaluation.in_prompt import NearestRows
from mlx_finetuning.experiment_tracker.evaluation.measured import Findings, Prompted
from mlx_finetuning.experiment_tracker.evaluation.necessity import necessity
from mlx_finetuning.mlx_trainer.inference.grade import Grade
from mlx_finetuning.tokenization.rows import Row


def row(question: str, answer: str) -> Row:
    turns: list[Any] = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    return {"messages": turns}


SHOPS = [
    row("青葉館の開館時間は何時ですか", "午前9時です。"),
    row("青葉館の休館日はいつですか", "火曜日です。"),
    row("会議室の料金を教えてください", "600円です。"),
    row("駐車場はありますか", "20台分あります。"),
]


def test_the_nearest_row_shares_the_rarest_letters() -> None:
    index = NearestRows(SHOPS)
    assert index.of("休館日を知りたい", 1) == [SHOPS[1]]
    assert index.of("車を止める駐車場の場所", 1) == [SHOPS[3]]
    assert index.of("会議室はいくら？", 2)[0] == SHOPS[2]
    assert index.of("青葉館の開館時間", 4)[:2] == SHOPS[:2]


def test_nearness_is_bm25s() -> None:
    """By its formula, written out over the terms of three texts of one letter run each."""
    rows = [row("かき", "く"), row("かきかき", "く"), row("さし", "す")]
    texts = [in_prompt.told(one) for one in rows]
    terms = [
        [text[at : at + n] for n in (2, 3) for at in range(len(text) - n + 1)] for text in texts
    ]
    mean = sum(map(len, terms)) / 3

    def score(asked: str, at: int) -> float:
        total = 0.0
        for term in {asked[i : i + n] for n in (2, 3) for i in range(len(asked) - n + 1)}:
            held = sum(term in one for one in terms)
            frequency = terms[at].count(term)
            idf = math.log(1 + (3 - held + 0.5) / (held + 0.5))
            norm = 1.2 * (1 - 0.75 + 0.75 * len(terms[at]) / mean)
            total += idf * frequency * 2.2 / (frequency + norm)
        return total

    index = NearestRows(rows)
    expected = sorted(range(3), key=lambda at: -score("かき", at))
    assert index.of("かき", 3) == [rows[at] for at in expected]
    found = [index._score(set(in_prompt._terms("かき")), at) for at in range(3)]
    assert found == pytest.approx([score("かき", at) for at in range(3)])


@pytest.mark.parametrize("room", range(6))
def test_as_many_rows_as_fit_are_told(room: int) -> None:
    assert in_prompt.fitting(SHOPS, lambda some: len(some) <= room) == SHOPS[:room]


def test_a_question_holds_the_rows_and_keeps_its_answer() -> None:
    asked = in_prompt.with_rows(SHOPS[0], SHOPS[1:3])
    text = asked["messages"][0]["content"]
    assert all(in_prompt.told(one) in text for one in SHOPS[1:3])
    assert text.endswith("青葉館の開館時間は何時ですか")
    assert asked["messages"][1] == SHOPS[0]["messages"][1]


@pytest.mark.parametrize(
    ("tuned", "whole", "nearest", "state"),
    [(20, 4, 10, "needed"), (10, 4, 10, "enough"), (4, 20, 10, "not_needed"), (0, 0, 0, "enough")],
)
def test_training_is_weighed_against_the_data_in_the_question(
    tuned: int, whole: int, nearest: int, state: str
) -> None:
    rows = [row(f"{at}番の値段は？", f"{at}番は{at}00円です。") for at in range(1, 21)]

    def graded(right: int) -> list[Grade]:
        return [
            Grade(1.0, 1, one["messages"][-1]["content"] if at < right else "不明", True)
            for at, one in enumerate(rows)
        ]

    asked = Prompted("test", tuple(range(20)), graded(whole), 12, 40, graded(nearest))
    measured = Measured(rows, graded(0), graded(tuned), 20)
    found = necessity(Findings({"test": measured}, measured, prompted=asked), 42)
    assert found is not None
    assert (found.state, found.questions) == (state, 20)
    assert (found.tuned, found.whole, found.nearest) == (tuned / 20, whole / 20, nearest / 20)
    assert any("40行のうち入った12行" in line for line in found.evidence)


def test_nothing_is_said_where_it_was_not_asked_for() -> None:
    rows = [row("a", "b")]
    measured = Measured(rows, [Grade(1.0, 1, "b")], [Grade(1.0, 1, "b")], 1)
    assert necessity(Findings({"test": measured}, measured), 42) is None
