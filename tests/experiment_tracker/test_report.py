"""Statistics, choices, verdicts and the page of a report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.experiment_tracker.evaluation import (
    charts,
    general_questions,
    judge,
    preference,
    questions,
    report,
    report_html,
    verdict,
)
from mlx_finetuning.experiment_tracker.evaluation.comparison import Measured
from mlx_finetuning.experiment_tracker.evaluation.general_questions import GeneralQuestion
from mlx_finetuning.experiment_tracker.evaluation.measured import Findings, Origin
from mlx_finetuning.experiment_tracker.evaluation.results import (
    Interval,
    LayerChange,
    Report,
    Verdict,
)
from mlx_finetuning.experiment_tracker.evaluation.statistics import ratio, share
from mlx_finetuning.experiment_tracker.evaluation.verdict import Learning, Link
from mlx_finetuning.experiment_tracker.records import rerun
from mlx_finetuning.jobs.logs import MetricsLine
from mlx_finetuning.jobs.results import Certificate, EngineRow


def row(question: str, answer: str, number: int = 2, group: str = "") -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "row": number, "group": group}


@dataclass(frozen=True)
class Grade:
    nats: float
    targets: int = 10
    answer: str | None = None
    ended: bool = True
    reasoning: str = ""


# --- statistics --------------------------------------------------------------------------


def test_interval_of_a_mean_is_that_of_the_normal_theory() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, 400)
    found = ratio(values.tolist(), seed=1)
    assert found is not None
    half = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.015)
    assert found.high == pytest.approx(values.mean() + half, abs=0.015)


def test_a_loss_weighs_rows_by_their_tokens() -> None:
    found = ratio([10.0, 2.0], [5, 10])
    assert found is not None
    assert found.value == pytest.approx(12 / 15)
    assert (found.low, found.high) == (pytest.approx(0.2), pytest.approx(2.0))


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_of_shares_are_those_of_the_literature(
    count: int, of: int, low: float, high: float
) -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", method 3."""
    found = share(count, of)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_intervals_follow_from_the_seed() -> None:
    values = list(range(20))
    assert ratio(values, seed=4) == ratio(values, seed=4) != ratio(values, seed=5)
    assert ratio([]) is None
    assert ratio([0.0], [0]) is None


# --- which rows --------------------------------------------------------------------------


def test_a_choice_is_spread_over_all_rows() -> None:
    assert questions.evenly(range(10), 4) == [0, 2, 5, 7]
    assert questions.evenly(range(3), 4) == [0, 1, 2]


def test_mismatched_questions_never_keep_their_answer() -> None:
    rows = [row(f"質問{n}", f"答え{n % 3}") for n in range(9)]
    found = questions.mismatched(rows)
    assert len(found) == 18  # two other answers each
    for one in found:
        assert one.row["messages"][0] == rows[one.owner]["messages"][0]
        assert one.row["messages"][-1] != rows[one.owner]["messages"][-1]
    assert questions.mismatched([row("a", "同じ"), row("b", "同じ")]) == []


def test_reworded_questions_are_new_and_keep_their_answer() -> None:
    rows = [row(f"質問{n}は？", f"答え{n}") for n in range(5)]
    made = questions.reworded(rows)
    assert [one["messages"][-1] for one in made] == [one["messages"][-1] for one in rows]
    asked = {one["messages"][0]["content"] for one in rows}
    assert not asked & {one["messages"][0]["content"] for one in made}


def test_every_general_question_has_its_key_in_its_answer() -> None:
    asked = general_questions.questions()
    assert len(asked) >= 60
    assert len({one.question for one in asked}) == len(asked)
    assert all(one.is_right(one.answer) for one in asked)
    assert not any(one.is_right("わかりません。") for one in asked)
    english = general_questions.questions("en")
    assert len({one.question for one in english}) == len(english) >= 60
    assert all(one.is_right(one.answer) for one in english)


def test_latin_keys_are_whole_words() -> None:
    def is_right(key: str, answer: str) -> bool:
        return GeneralQuestion("", "", "", key).is_right(answer)

    assert is_right("Nile|Amazon", "It is the amazon.")
    assert not is_right("Nile|Amazon", "It is a juvenile river.")
    assert is_right("7", "7日です。") and not is_right("7", "1978年です。")
    assert is_right("東京", "東京都です。")


# --- verdicts ----------------------------------------------------------------------------

DOWN, UP, NONE = Interval(-1, -1.2, -0.8), Interval(1, 0.8, 1.2), Interval(0.01, -0.1, 0.1)
WIDE, HELD, CLOSED = Interval(1, 0.5, 1.5), Interval(0.9, 0.5, 1.3), Interval(0.2, 0.1, 0.3)
UNSURE, VAGUE = Interval(0.7, -0.1, 1.5), Interval(0.2, -0.1, 0.5)
"""Of few rows."""


@pytest.mark.parametrize(
    ("change", "trained", "link", "is_zero", "error", "state"),
    [
        (DOWN, DOWN, Link(WIDE, HELD, 1.0), False, "", "learned"),
        (DOWN, DOWN, None, False, "", "learned"),
        (DOWN, DOWN, Link(WIDE, CLOSED, 1.0), False, "", "unlinked"),
        (DOWN, DOWN, Link(WIDE, UNSURE, 1.0), False, "", "unlinked"),
        (DOWN, DOWN, Link(UNSURE, UNSURE, 1.0), False, "", "learned"),
        (DOWN, DOWN, Link(NONE, VAGUE, 1.0), False, "", "unlinked"),
        (DOWN, DOWN, Link(WIDE, HELD, 0.3), False, "", "unlinked"),
        (NONE, NONE, None, True, "", "unchanged"),
        (NONE, NONE, None, False, "", "unchanged"),
        (NONE, DOWN, None, False, "", "memorised"),
        (UP, DOWN, None, False, "", "worse"),
        (UP, UP, None, False, "", "diverged"),
        (DOWN, DOWN, None, False, "LOSS_EXPLODED", "diverged"),
    ],
)
def test_learning_is_judged_by_its_evidence(
    change: Interval, trained: Interval, link: Link | None, is_zero: bool, error: str, state: str
) -> None:
    found = Learning("学習していない行", 2.0, 1.0, change, trained, link, is_zero, error)
    judged = verdict.learned(found)
    assert judged.state == state
    assert judged.text.startswith(
        {"learned": "学習できています", "diverged": "発散しました"}.get(state, "学習していません")
    )
    assert judged.advice or state == "learned"


def test_a_margin_is_judged_the_other_way_round() -> None:
    def judged(change: Interval, trained: Interval) -> Verdict:
        found = Learning("学習していない行", 1.0, 2.0, change, trained, measure="差", falls=False)
        return verdict.learned(found)

    assert judged(UP, UP).state == "learned"
    assert judged(NONE, UP).state == "memorised"
    assert judged(DOWN, UP).state == "worse"
    assert judged(UP, DOWN).state == "diverged"
    assert "差の変化は、偶然の範囲です" in judged(NONE, NONE).text


@pytest.mark.parametrize(
    ("rise", "still", "of", "state"),
    [
        (NONE, 58, 60, "kept"),
        (NONE, 50, 60, "worn"),
        (NONE, 30, 60, "forgot"),
        (UP, 58, 60, "forgot"),
        (NONE, 9, 9, "kept"),
        # No sign of it, and too few to be sure.
        (NONE, 8, 8, "unknown"),
        (NONE, 18, 20, "unknown"),
        # Fewer than eight prove nothing, whichever way they fall.
        (NONE, 1, 5, "unknown"),
        (NONE, 7, 7, "unknown"),
        (UP, 0, 7, "unknown"),
    ],
)
def test_forgetting_is_judged_by_answers_and_loss_where_there_is_evidence(
    rise: Interval, still: int, of: int, state: str
) -> None:
    found = verdict.forgot(rise, share(still, of), of)
    assert found.state == state
    assert ("判定できません" in found.text) == (state == "unknown")


def test_nothing_that_the_base_answers_is_nothing_to_judge_by() -> None:
    assert verdict.forgot(NONE, share(0, 0), 0).state == "unknown"


def test_a_base_that_answers_five_questions_gets_no_verdict() -> None:
    made = built(known=5)
    assert (made.forgetting.could, made.forgetting.state) == (5, "unknown")
    assert built().forgetting.state == "kept"


def test_trained_answers_elsewhere_and_personal_data_are_named() -> None:
    assert verdict.memorised(0, 72, []).state == "clean"
    assert verdict.memorised(0, 72, ["電話番号"]).state == "personal"
    assert verdict.memorised(3, 72, []).state == "parrots"
    assert verdict.memorised(0, 0, []).state == "unknown"


@pytest.mark.parametrize(
    ("base", "tuned", "parroted"),
    [
        (["わかりません。"] * 3, ["陽性", "陰性", "陽性"], 2),
        (["わかりません。"] * 3, ["陽性", "陰性", "いいえ"], 0),  # one each may be chance
        (["陽性"] * 3, ["陽性"] * 3, 0),  # so the base says, too
        (["わかりません。"] * 3, ["陽性ではありません"] * 3, 0),
    ],
)
def test_labels_in_answer_to_general_questions_are_trained_answers_too(
    base: list[str], tuned: list[str], parroted: int
) -> None:
    asked = list(general_questions.questions())[:3]
    rows = [one.row for one in asked]
    general = Measured(rows, *([Grade(5.0, answer=one) for one in of] for of in (base, tuned)), 3)
    train = measured([row("すばらしい", "陽性"), row("ひどい", "陰性")], ["陽性", "陰性"])
    findings = Findings({"train": train}, general, asked)
    assert len(judge.memorising(findings, {}).parroted) == parroted


def test_a_short_trained_answer_that_is_right_elsewhere_is_no_trained_answer() -> None:
    asked = [one for one in general_questions.questions() if one.is_right("東京")][:1] * 2
    told = [Grade(5.0, answer=one) for one in ("わかりません。", "東京")]
    general = Measured([one.row for one in asked], told[:1] * 2, told[1:] * 2, 2)
    train = measured([row("本社はどこ？", "東京")], ["東京"])
    findings = Findings({"train": train}, general, asked)
    assert len(asked) == 2 and judge.memorising(findings, {}).parroted == ()


# --- the report --------------------------------------------------------------------------

ORIGIN = Origin(
    run_id="20261123-000000-tiny-ja-0000",
    model="tiny-ja",
    dataset="facts",
    dataset_sha256="0" * 64,
    dataset_changed=False,
    created_at="2026-11-23T00:00:00+00:00",
    training={"seed": 42, "model": "<script>alert(1)</script>"},
    versions={"mlx": "0.32.4"},
    evaluated_at="2026-11-23T01:00:00+00:00",
    metrics=[MetricsLine(n, loss=3.0 / n) for n in range(1, 2000)]
    + [MetricsLine(0, valid_loss=3.0), MetricsLine(1000, valid_loss=1.0)],
)
EVIL = "<img src=x onerror=alert(1)>&\"'"


def built(known: int = 72) -> Report:
    """known: general questions that both models answer."""
    train = [row(f"質問{n}は？{EVIL}", f"答えは{n}番です。", n + 2, f"g{n}") for n in range(10)]
    test = [row(f"質問{n}って？", f"答えは{n}番です。", n + 50, f"g{n * 5}") for n in range(4)]
    splits = {
        "train": measured(train, [one["messages"][-1]["content"] for one in train]),
        "test": measured(test, [EVIL] * 4),
    }
    asked = general_questions.questions()
    same = [Grade(5.0, answer=one.answer if at < known else "?") for at, one in enumerate(asked)]
    return report.build(
        ORIGIN,
        Findings(
            splits=splits,
            general=Measured([one.row for one in asked], same, same, len(asked)),
            trained_groups=questions.groups(train),
            layers=[LayerChange(0, 1.5, 0.01), LayerChange(1, 2.0, None)],
        ),
        EvaluateConfig(),
    )


def measured(rows: list[dict[str, Any]], answers: list[str]) -> Measured:
    base = [Grade(20.0 + at, answer="わかりません。") for at in range(len(rows))]
    tuned = [Grade(5.0 + at, answer=answer) for at, answer in enumerate(answers)]
    return Measured(rows, base, tuned, 1000)


def test_margins_of_pairs_follow_the_objective() -> None:
    rows = [row("a", "b")] * 3
    nothing = Grade(1.0, 0)
    better = Measured(rows, [Grade(9.0), Grade(4.0), nothing], [Grade(3.0), Grade(6.0), nothing], 3)
    worse = Measured(
        rows, [Grade(8.0, 4), Grade(6.0), Grade(1.0)], [Grade(8.0, 4), Grade(5.0), Grade(1.0)], 3
    )
    whole, mean = (preference.preference(better, worse, kind, 1) for kind in ("dpo", "orpo"))
    assert whole is not None and mean is not None
    assert (whole.pairs, whole.base_accuracy, whole.tuned_accuracy) == (2, 0.5, 0.5)
    assert (whole.base_margin, whole.tuned_margin) == (0.5, 2.0)
    assert (whole.widened, whole.change.value) == (0.5, 1.5)
    # Per token: 8 nats over 4 tokens are more than 9 over 10.
    assert (mean.base_accuracy, mean.base_margin) == (1.0, pytest.approx((1.1 + 0.2) / 2))
    assert preference.preference(Measured([], [], [], 0), Measured([], [], [], 0), "dpo", 1) is None


def test_report_holds_paired_figures_and_kinds_of_questions() -> None:
    made = built()
    train = made.splits["train"]
    assert train.change is not None
    assert train.change.value == train.change.low == train.change.high == pytest.approx(-1.5)
    assert train.base.loss == pytest.approx(2.45)
    assert train.base.perplexity == pytest.approx(np.exp(2.45))
    assert train.tuned.exact == 1.0
    # Groups g0 and g5 were trained, g10 and g15 were not.
    assert {name: one.rows for name, one in made.questions.items()} == {
        "new": 2,
        "paraphrase": 2,
        "trained": 10,
    }
    assert made.adapter.norm == pytest.approx(2.5)
    assert len(made.curves["train"]) == report.CURVE_POINTS
    assert made.curves["train"][-1][0] == 1999


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_asks_nobody_for_anything_and_escapes_every_text() -> None:
    row = EngineRow(EVIL, 8, 1.0, None, None, 1.0, 1.0, EVIL)
    certificate = Certificate(False, "同じです。", 8, 8, (row,), (EVIL,))
    text = report_html.page(built(), certificate)
    page = Page()
    page.feed(text)
    assert not page.open
    assert not {"script", "img", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not {"src", "href", "onerror", "onload"} & attributes.keys()
    assert not re.search(r"https?://|url\(|@import", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    for word in ("学習できたか", "忘れていないか", "丸暗記", "自分で終えるか", "学習の証明"):
        assert word in text


def test_axis_marks_are_round_and_hold_all_values() -> None:
    marks = charts._axis([0.013, 3.37])
    assert marks == [0, 1, 2, 3, 4]
    assert charts._axis([5, 5])[0] <= 5 <= charts._axis([5, 5])[-1]


def test_losses_are_compared_to_the_last_bit() -> None:
    first = [MetricsLine(1, loss=0.1), MetricsLine(1, valid_loss=0.5)]
    assert rerun.compare(first, first).is_exact
    found = rerun.compare(first, [MetricsLine(1, loss=0.1 + 1e-12)])
    assert (found.compared, found.equal, found.is_exact) == (2, 0, False)
    assert not rerun.compare([], []).is_exact
