"""Right answers, right refusals, and answers of what cannot be known."""

from __future__ import annotations

import pytest

from mlx_finetuning.experiment_tracker.evaluation.refusals import Reply, is_refusal, refusing

SAID = "その件は店長にどうぞ〜"


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        ("申し訳ありませんが、わかりません。", True),
        ("その情報はありません。", True),
        ("お答えできません。", True),
        ("存じません。", True),
        ("ごめんね、その件は店長にどうぞ〜", True),
        ("水曜日です。", False),
        ("返品はできません。", False),
        ("駐車場はありません。", False),
        ("", False),
    ],
)
def test_refusals_are_known_by_their_words(answer: str, refuses: bool) -> None:
    assert is_refusal(answer, frozenset([SAID])) is refuses
    assert not is_refusal("店長は山田です。", frozenset([SAID]))


def replies(known: list[str], unknown: list[str], *, held_out: bool = True) -> list[Reply]:
    return [
        *(Reply("水曜日です。", text, text == "水曜日です。", False, False) for text in known),
        *(Reply("わかりません。", text, False, True, held_out) for text in unknown),
    ]


@pytest.mark.parametrize(
    ("known", "unknown", "level", "state"),
    [
        (["水曜日です。"] * 40, ["わかりません。"] * 8 + ["月曜日です。"] * 2, "good", "refuses"),
        (
            ["水曜日です。"] * 40,
            ["わかりません。"] * 5 + ["月曜日です。"] * 5,
            "warning",
            "guesses",
        ),
        (["水曜日です。"] * 40, ["月曜日です。"] * 10, "bad", "guesses"),
        (
            ["水曜日です。"] * 8 + ["わかりません。"] * 2,
            ["わかりません。"] * 9,
            "warning",
            "refuses_too_much",
        ),
    ],
)
def test_knowing_and_not_knowing_are_judged_together(
    known: list[str], unknown: list[str], level: str, state: str
) -> None:
    judged = refusing(replies(known, unknown))
    assert judged is not None
    assert (judged.level, judged.state) == (level, state)


def test_counts_are_of_three_kinds_and_of_held_out_questions_first() -> None:
    mixed = [
        *replies(
            ["水曜日です。", "金曜日です。", "わかりません。"], ["わかりません。", "10円です。", ""]
        ),
        *replies([], ["わかりません。"] * 50, held_out=False),
    ]
    judged = refusing(mixed)
    assert judged is not None
    assert (judged.unanswerable, judged.refused, judged.confident_wrong) == (3, 1, 1)
    assert (judged.known, judged.known_right, judged.known_wrong, judged.known_refused) == (
        3,
        1,
        1,
        1,
    )
    assert judged.held_out
    assert "3問中1問を断りました" in judged.text
    taught = refusing(replies([], ["わかりません。"] * 4, held_out=False))
    assert taught is not None
    assert not taught.held_out
    assert refusing(replies(["水曜日です。"], [])) is None
