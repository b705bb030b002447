"""A share of other wordings, learned beside the rows of a dataset."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_finetuning.tasks.reworded_rows import with_wordings
from mlx_finetuning.tokenization.rows import Row


def row(question: str, answer: str, number: int) -> Row:
    turns: list[Any] = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    return {"messages": turns, "row": number}


ROWS = [
    row(f"第{at}会議室の料金はいくらですか？", f"{at}00円です。", at + 2) for at in range(1, 13)
]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_the_share_is_that_of_all_rows(share: float) -> None:
    made = with_wordings(ROWS, share, 42)
    assert made[: len(ROWS)] == ROWS
    assert len(made) - len(ROWS) == round(share * len(made))


def test_other_wordings_are_new_and_keep_their_answer() -> None:
    answers = {one["messages"][0]["content"]: one["messages"][1] for one in ROWS}
    added = with_wordings(ROWS, 0.5, 42)[len(ROWS) :]
    assert {one["messages"][1]["content"] for one in added} == {
        turn["content"] for turn in answers.values()
    }
    assert not answers.keys() & {one["messages"][0]["content"] for one in added}
    assert with_wordings(ROWS, 0.5, 42)[len(ROWS) :] == added


def test_english_questions_are_framed_and_texts_stay() -> None:
    made = with_wordings([row("When do you open?", "At nine.", 2)], 0.5, 42)
    assert "When do you open" in made[1]["messages"][0]["content"] and len(made) == 2
    assert with_wordings([{"text": "本文"}], 0.5, 42) == [{"text": "本文"}]
