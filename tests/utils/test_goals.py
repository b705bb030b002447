"""What a data set looks as if it were for."""

from __future__ import annotations

import pytest

from mlx_finetuning.config import GOALS
from mlx_finetuning.utils.goals import AIMS_JA, GOALS_JA, QuestionAnswer, guess

LETTER = "このたびは製品を購入しましたが、届いた箱が潰れており、説明書も入っていませんでした。" * 4
SHEETS = {
    "faq": [
        QuestionAnswer(f"{n}番の商品の値段は？", f"{n}番の商品は{n}00円です。") for n in range(40)
    ],
    "labels": [
        QuestionAnswer(f"{LETTER}{n}", ("苦情", "質問", "お礼", "その他")[n % 4]) for n in range(40)
    ],
    "rewrite": [
        QuestionAnswer(f"次の文を敬語に直してください。\n{n}時に行く。", f"{n}時に参ります。")
        for n in range(20)
    ],
    "style": [QuestionAnswer(f"{n}番はどう？", f"{n}番はとてもよいのじゃ！") for n in range(20)],
}


@pytest.mark.parametrize("goal", SHEETS)
def test_each_kind_of_sheet_is_taken_for_its_goal(goal: str) -> None:
    assert guess("chat", SHEETS[goal]).goal == goal


def test_parts_of_the_question_are_labels_and_long_texts_in_short_are_rewriting() -> None:
    names = [QuestionAnswer(f"差出人: 田中{n}様　件名: 納期の件", f"田中{n}") for n in range(20)]
    assert guess("chat", names).goal == "labels"
    short = [
        QuestionAnswer(f"{LETTER}{n}", "購入した製品の箱が潰れており、説明書もない。")
        for n in range(20)
    ]
    varied = [QuestionAnswer(one.question, one.answer + str(n)) for n, one in enumerate(short)]
    assert guess("chat", varied).goal == "rewrite"


def test_talks_and_very_many_rows_teach_a_manner() -> None:
    talks = [QuestionAnswer("それで？", f"続きは{n}です。", turns=4) for n in range(20)]
    assert guess("chat", talks).goal == "style"
    many = [QuestionAnswer(f"{n}について教えて", f"{n}は、こういうものです。") for n in range(1000)]
    assert guess("chat", many).goal == "style"


def test_few_wordings_of_few_facts_stay_a_faq() -> None:
    rows = [
        QuestionAnswer(f"{n % 5}番は？{'！' * n}", f"{n % 5}番は、午後3時に閉まります。")
        for n in range(20)
    ]
    assert guess("chat", rows).goal == "faq"


@pytest.mark.parametrize(("kind", "goal"), [("text", "text"), ("preference", "preference")])
def test_other_rows_say_it_themselves(kind: str, goal: str) -> None:
    assert guess(kind, []).goal == goal


def test_every_goal_has_words() -> None:
    assert GOALS_JA.keys() == AIMS_JA.keys() == set(GOALS)
