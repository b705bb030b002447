"""The A4 page about a run: what it says, and what it leaves out."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from mlx_finetuning.experiment_tracker.evaluation import outcome, summary_html
from mlx_finetuning.experiment_tracker.evaluation.outcome import Evidence
from mlx_finetuning.experiment_tracker.evaluation.results import Report
from mlx_finetuning.experiment_tracker.evaluation.summary_html import Background
from mlx_finetuning.utils import goals
from support.reports import REPORT, summed_up


def report(goal: str = "faq", text: str = "", **changes: Any) -> Report:
    """Of a run that gives 20 of 30 taught answers, 5 of them in other words."""
    made = summed_up(text)
    assert made.outcome is not None
    return replace(made, outcome=replace(made.outcome, goal=goal), **changes)


def shown(page: str) -> str:
    """The words of a page."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def test_numbers_are_those_of_the_first_line() -> None:
    made = report()
    words = shown(summary_html.page(made, Background()))
    assert "教えた30問中20問に正解、別の聞き方は8問中2問に正解。" in words
    assert re.search(r"教えた質問 30問中2問 30問中20問 別の聞き方 8問中0問 8問中2問", words)
    assert "一字一句同じ 15問、要点が合う 5問、まちがい 10問" in words
    assert f"次にすること: {made.first_line.advice}" in words


def test_three_good_and_three_bad_answers_stand_beside_those_before() -> None:
    page = summary_html.page(report(), Background())
    rows = re.findall(r'<tr class="(good|bad)[^"]*">(.*?)</tr>', page, flags=re.DOTALL)
    assert [kind for kind, _ in rows] == ["good"] * 3 + ["bad"] * 3
    assert "質問0" in rows[0][1] and rows[0][1].index("前の答え0") < rows[0][1].index(">答え0")
    assert all("×" in row for kind, row in rows if kind == "bad")


def test_answers_to_the_same_thing_are_shown_once() -> None:
    made = report()
    same = tuple(replace(one, expected="同じ") for one in made.splits["train"].answers)
    split = replace(made.splits["train"], answers=same)
    page = summary_html.page(replace(made, splits={"train": split}), Background())
    assert page.count('<tr class="good') == page.count('<tr class="bad') == 1


@pytest.mark.parametrize("goal", goals.GOALS_JA)
def test_every_goal_says_what_the_model_is_no_good_for(goal: str) -> None:
    words = shown(summary_html.page(report(goal), Background()))
    assert summary_html.LIMITS_JA[goal] in words
    assert all(text in words for text in summary_html.ALWAYS_JA)
    assert ("正解した数" in words) == (goal in goals.COUNTED)
    assert goals.GOALS_JA[goal] in words


def test_what_was_found_narrows_what_the_model_may_be_used_for() -> None:
    leaks = replace(REPORT.memorising, personal=("電話番号",))
    forgets = replace(REPORT.forgetting, level="bad", state="forgot")
    words = shown(summary_html.page(report(memorising=leaks, forgetting=forgets), Background()))
    assert "個人情報（電話番号）" in words and "忘れています" in words
    useless = replace(REPORT, outcome=outcome.judge(Evidence("faq", "diverged")))
    assert "どの仕事にも" in shown(summary_html.page(useless, Background()))


def test_paths_stay_out_and_licences_come_in() -> None:
    made = report(model="/home/suzuki/models/secret.gguf")
    words = shown(summary_html.page(made, Background(("よくある質問.xlsx",), "Apache 2.0")))
    assert "/home/suzuki" not in words and "secret.gguf" in words
    assert "よくある質問.xlsx" in words and "Apache 2.0" in words
    assert "記録がありません" in shown(summary_html.page(made, Background()))


def test_texts_are_escaped_and_shortened() -> None:
    page = summary_html.page(report(text="<script>alert(1)</script>" + "長" * 500), Background())
    assert "<script>" not in page
    assert "長" * 60 not in page


def test_a_report_of_an_older_version_has_a_page_too() -> None:
    words = shown(summary_html.page(REPORT, Background()))
    assert "学習できています。" in words and "営業時間は？" in words
