"""A run's results on one A4 page, for who decides about using the model and trains none.

Gets a report, and what the report does not know: where its rows came from and the model's licence.
Texts are shortened so that the page stays one; computes nothing new. The page is
`assets/summary.html.j2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from mlx_finetuning.experiment_tracker.evaluation.report_html import environment
from mlx_finetuning.experiment_tracker.evaluation.results import (
    LIGHTS,
    MARKS,
    Answered,
    Report,
    Tally,
)
from mlx_finetuning.files import ASSETS
from mlx_finetuning.language import N_, _, language, n_
from mlx_finetuning.utils import goals
from mlx_finetuning.utils.units import local_time

TEMPLATE = "summary.html.j2"
STYLE = ASSETS / "summary.css"
EACH = 3
"""Examples of good, and of bad answers."""
UNRECORDED = N_("記録がありません")
LIGHTS_JA = {"good": N_("使えます"), "warning": N_("注意が必要"), "bad": N_("まだ使えません")}
LEGEND_JA = {
    True: N_(
        "○ 一字一句同じ、△ 要点が合う、？ 要確認（言い方が違う）、× まちがい（文字で見比べた結果です）。太字が、学習後の答えです。"
    ),
    False: N_("○ お手本に近い答え、× お手本から遠い答え。太字が、学習後の答えです。"),
}
"""By whether answers are counted as right and wrong."""
LIMITS_JA = {
    "faq": N_("教えていない内容の質問。もっともらしい、まちがった答えを返すことがあります。"),
    "labels": N_("教えた分類にない種類の文章。近い分類のどれかを、そのまま返します。"),
    "style": N_("事実を調べる使い方。まねるのは話し方で、内容の正しさではありません。"),
    "rewrite": N_("元の文章と見比べない使い方。抜けや書き足しが起こることがあります。"),
    "text": N_("事実を調べる使い方。文章の続きを書くだけで、内容は確かめていません。"),
    "preference": N_("教えた組と違う種類の質問。よい答えを選べるかは確かめていません。"),
}
"""What a model for each goal is no good for."""
ALWAYS_JA = (
    N_("人が確かめないまま、お客様への回答や、契約・医療・法律・安全にかかわる判断に使うこと。"),
    N_("教えたあとに変わった内容。もう一度教えるまで、前の答えを返します。"),
)


@dataclass(frozen=True)
class Background:
    """What a report does not hold."""

    sources: Sequence[str] = ()
    """Names of the files that the dataset was made of; empty where it is gone or another by now."""
    licence: str = ""
    """Of the base model; empty where it is not known."""


def page(report: Report, background: Background) -> str:
    """The whole document."""
    outcome, first = report.outcome, report.first_line
    goal = "" if outcome is None else outcome.goal
    counted = outcome is None or goal in goals.COUNTED
    answers = [item for split in report.splits.values() for item in split.answers]
    good, bad = _examples(answers, counted=counted)
    taught = report.splits.get("train")
    tallies: list[tuple[str, Tally]] = []
    if outcome is not None and counted:
        named = ((_("教えた質問"), outcome.taught), (_(outcome.held_out_ja), outcome.held_out))
        tallies = [(name, tally) for name, tally in named if tally is not None and tally.asked]
    model = report.model
    return (
        environment(language())
        .get_template(TEMPLATE)
        .render(
            report=report,
            style=STYLE.read_text(encoding="utf-8"),
            first=first,
            light=LIGHTS[first.level],
            light_ja=_(LIGHTS_JA[first.level]),
            ending="" if outcome is None else outcome.ending,
            goal_ja=_(goals.GOALS_JA.get(goal, UNRECORDED)),
            sources=_("、").join(background.sources)
            or _("データセット {dataset}").format(dataset=report.dataset),
            taught_rows=_(UNRECORDED)
            if taught is None
            else n_("{rows:,}行", taught.of_rows).format(rows=taught.of_rows),
            subjects=[item.question for item in _different(taught.answers if taught else ())],
            tallies=tallies,
            forgetting=_(report.forgetting.text),
            counted=counted,
            good=good,
            bad=bad,
            legend=_(LEGEND_JA[counted]),
            limits=_limits(report, goal),
            # A path is nobody's business.
            model=PurePath(model).name if PurePath(model).is_absolute() else model,
            licence=_(background.licence),
            evaluated_at=local_time(report.origin.evaluated_at),
            trained_at=local_time(report.origin.created_at) or _(UNRECORDED),
        )
    )


def _examples(
    answers: Sequence[Answered], *, counted: bool
) -> tuple[list[Answered], list[Answered]]:
    """Good and bad ones, the best and the worst first, each about something else; where nothing is
    counted, those nearest to and furthest from what is wanted."""
    ranked = sorted(answers, key=lambda one: one.tuned_chrf, reverse=True)
    if counted:
        ranked = sorted(answers, key=lambda one: MARKS.index(one.mark))
        good = [one for one in ranked if one.mark in "○△"]
    else:
        good = ranked[: (len(ranked) + 1) // 2]
    bad = ranked[: len(good) - 1 : -1] if good else ranked[::-1]
    return _different(good), _different(bad)


def _different(answers: Sequence[Answered]) -> list[Answered]:
    by_expected: dict[str, Answered] = {}
    for one in answers:
        by_expected.setdefault(one.expected, one)
    return list(by_expected.values())[:EACH]


def _limits(report: Report, goal: str) -> list[str]:
    """What the model must not be used for: by its goal, by what was found, and in any case."""
    limits = []
    if report.first_line.level == "bad":
        limits.append(_("どの仕事にも。上の「次にすること」をして、確かめ直すまでは使えません。"))
    if goal in LIMITS_JA:
        limits.append(_(LIMITS_JA[goal]))
    if report.forgetting.level != "good":
        limits.append(_("教えたこと以外の一般の質問。学習の前に答えられたことを、忘れています。"))
    if report.memorising.personal:
        kinds = _("、").join(map(_, report.memorising.personal))
        limits.append(
            _("社外への公開。答えに個人情報（{kinds}）が出ることがあります。").format(kinds=kinds)
        )
    return [*limits, *map(_, ALWAYS_JA)]
