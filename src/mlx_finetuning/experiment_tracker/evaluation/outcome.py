"""The first line about a run: what it came to by its goal's own measure, a light, one thing to do.

`judge` goes down its rules, and the first that holds decides light, words and action together, so
that they never contradict. Every threshold is here; the figures are others' business.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlx_finetuning.experiment_tracker.evaluation.results import Outcome, Tally
from mlx_finetuning.jobs.ending import WHOLE, Ending
from mlx_finetuning.language import N_, _, sentences
from mlx_finetuning.utils import goals

KNOWN, HALF_KNOWN = 0.9, 0.5
"""Shares of right answers to taught questions: from here green, below here red."""
REWORDED, LABELLED = 0.7, 0.85
"""Shares of right answers from which other wordings, and untaught texts, are green."""
MOST_EMPTY = 0.2
ENDS, HALF_ENDS = 0.9, 0.5
"""Shares of answers that end by themselves."""
FEW = 8
"""Questions below which a share is only a hint."""

ACTIONS_JA = {
    "go_on": N_("1つのファイルに軽くして、話してみてください。"),
    "lower_rate": N_("学習率を10分の1にして、もう一度学習してください。"),
    "more_updates": N_("「このつづきから学習する」で、あと{updates:,}回更新してください。"),
    "run_on": N_(
        "「検証の損失がこの回数続けて下がらなければ止める」を0にして、もう一度学習してください。"
    ),
    "stop_at_best": N_("更新の回数を{best:,}回にして、もう一度学習してください。"),
    "check_settings": N_(
        "学習率と更新の回数が0になっていないか確かめて、もう一度学習してください。"
    ),
    "check_adapter": N_("学習した重みが読めていません。もう一度学習してください。"),
    "check_pairs": N_(
        "質問と答えの組が、ずれたり入れ替わったりしていないか、元の表を確かめてください。"
    ),
    "check_text": N_(
        "「学習で実際に使われる文面」で、答えの部分が学習の対象になっているか確かめてください。"
    ),
    "judge_answers": N_(
        "「対話」の「まとめて試す」で、要確認の答えに○か×を付けて、もう一度確かめてください。"
    ),
    "longer_answers": N_("1つの答えの最大トークン数を増やして、もう一度確かめてください。"),
    "more_wordings": N_("同じ答えの別の聞き方をデータに足して、もう一度学習してください。"),
    "more_rows": N_("データの行を増やして、もう一度学習してください。"),
    "evaluate": N_("教えていない行を残してデータセットを作り直すと、確かめられます。"),
}
"""By action; the numbers are the run's own."""


@dataclass(frozen=True)
class Evidence:
    """What the first line rests on."""

    goal: str
    learning: str
    """State of the verdict by the loss: `learned`, `unlinked`, `memorised`, `unchanged`, …"""
    measure: str = ""
    """In words, how the goal's measure moved, for goals without right and wrong."""
    moved: bool = True
    """Whether it surely moved the right way."""
    taught: Tally | None = None
    held_out: Tally | None = None
    held_out_ja: str = N_("教えていない質問")
    """What the held-out questions are; shown with `_`."""
    commonest: float = 0.0
    """Share of the label that most held-out texts have: right without any thought."""
    others: int = 0
    """Questions about what was never taught, which are not counted for a FAQ."""
    ended: float | None = None
    """Share of the tuned model's answers that end by themselves."""
    adapter_is_zero: bool = False
    answers_changed: bool = True
    """Whether any answer or loss differs from the base's."""
    forgot: bool = False
    parrots: bool = False
    ending: Ending = WHOLE
    updates: int = 0
    best_update: int = 0

    @property
    def main(self) -> Tally | None:
        """What the goal is first of all judged by."""
        first, second = self.held_out, self.taught
        return (second or first) if self.goal == "faq" else (first or second)


def judge(evidence: Evidence) -> Outcome:
    """The first rule that holds, for this goal."""
    level, head, action = broken(evidence) or (
        counted(evidence) if evidence.goal in goals.COUNTED and evidence.main else moved(evidence)
    )
    if level == "good" and (side := side_effect(evidence)):
        level, added, action = side
        head = sentences(head, added)
    numbers = {
        "updates": max(evidence.updates, 1),
        "best": max(evidence.best_update, 1),
    }
    return Outcome(
        state=action,
        level=level,
        text=sentences(headline(evidence), head),
        evidence=tuple(figures(evidence)),
        advice=_(ACTIONS_JA[action]).format(**numbers),
        action=action,
        goal=evidence.goal,
        ending=evidence.ending.text,
        taught=evidence.taught,
        held_out=evidence.held_out,
        held_out_ja=evidence.held_out_ja,
    )


Judged = tuple[str, str, str]
"""Level, words behind the figures, and action."""


def broken(evidence: Evidence) -> Judged | None:
    """What makes every further figure meaningless."""
    if evidence.learning == "diverged" or evidence.ending.state == "diverged":
        return "bad", _("学習は発散しました。"), "lower_rate"
    if evidence.adapter_is_zero:
        return "bad", _("学習していません。重みが変わっていません。"), "check_settings"
    if not evidence.answers_changed:
        return (
            "bad",
            _("学習した重みが使われていません。答えも損失も、学習の前と全く同じです。"),
            "check_adapter",
        )
    main = evidence.main
    if main is not None and main.asked and main.empty > MOST_EMPTY * main.asked:
        return (
            "bad",
            _("{asked}問中{empty}問に、何も答えませんでした。").format(
                asked=main.asked, empty=main.empty
            ),
            "check_text",
        )
    if evidence.ended is not None and evidence.ended < HALF_ENDS:
        return "bad", _("ほとんどの答えが終わりません。"), "longer_answers"
    return None


def counted(evidence: Evidence) -> Judged:
    """By right answers."""
    taught, held_out = evidence.taught, evidence.held_out
    needed = REWORDED if evidence.goal == "faq" else LABELLED
    least = ((taught, KNOWN), (held_out, needed))
    short = [(one, share) for one, share in least if one is not None and one.share < share]
    if short and all(one.most_share >= share for one, share in short):
        return (
            "warning",
            _("言い方の違う答えがあり、合っているか機械では決められません。"),
            "judge_answers",
        )
    if taught is not None and taught.share < KNOWN:
        action = "run_on" if evidence.ending.state == "stopped_early" else "more_updates"
        if evidence.learning == "unlinked" and taught.share < HALF_KNOWN:
            action = "check_pairs"
        return _level(taught.share, HALF_KNOWN), _("まだ覚えきれていません。"), action
    if held_out is None:
        if evidence.goal == "faq":
            return "good", _("教えた通りに答えます。別の聞き方では確かめていません。"), "go_on"
        return "warning", _("教えていないものでは確かめていません。"), "evaluate"
    if held_out.share < needed:
        # A red light needs more than a hint.
        least_share = 0.0 if held_out.asked < FEW else needed / 2
        if evidence.goal == "faq":
            head = _("教えた聞き方でしか答えられません。言い回しごと覚えています。")
            if held_out.share >= needed / 2:
                head = _("別の聞き方では、まだまちがえることがあります。")
            return _level(held_out.share, least_share), head, "more_wordings"
        head = _("教えていないものには、まだよく答えられません。")
        return _level(held_out.share, evidence.commonest + 1e-9), head, "more_rows"
    return "good", _("教えた通りに答えます。"), "go_on"


def _level(share: float, least: float) -> str:
    return "bad" if share < least else "warning"


def moved(evidence: Evidence) -> Judged:
    """By whether the goal's measure, or the loss, surely moved on rows that were not taught."""
    if evidence.learning == "unknown":
        return "warning", _("判定できません。調べる行がありません。"), "evaluate"
    if evidence.learning == "memorised":
        return "bad", _("教えた行だけを覚え、ほかの行には効いていません。"), "more_rows"
    if evidence.learning == "worse":
        action = "stop_at_best" if evidence.best_update else "lower_rate"
        return "bad", _("教えていない行では、学習の前より悪くなりました。"), action
    if evidence.learning == "unlinked" and evidence.goal != "style":
        return (
            "bad",
            _("言い回しは覚えましたが、質問と答えの対応は身についていません。"),
            "check_pairs",
        )
    if evidence.learning == "unchanged":
        return "bad", _("学習の前と変わっていません（偶然の範囲です）。"), "more_updates"
    if not evidence.moved:
        return (
            "warning",
            _("予測はしやすくなりましたが、答えにはまだ表れていません。"),
            "more_updates",
        )
    return "good", _("学習できています。"), "go_on"


def side_effect(evidence: Evidence) -> Judged | None:
    """What spoils a run that does what it was trained for."""
    if evidence.ended is not None and evidence.ended < ENDS:
        return "warning", _("ただし、終わらない答えがあります。"), "longer_answers"
    if evidence.parrots:
        return "warning", _("ただし、教えた答えを無関係な質問にも返します。"), "lower_rate"
    if evidence.forgot:
        return "warning", _("ただし、前から知っていたことを忘れています。"), "lower_rate"
    return None


# --- words -------------------------------------------------------------------------------


def headline(evidence: Evidence) -> str:
    """「教えた29問中11問に正解、別の聞き方は8問中2問に正解。」, or how the measure moved."""
    if evidence.goal not in goals.COUNTED or evidence.main is None:
        return evidence.measure
    parts = []
    if evidence.taught is not None:
        parts.append(_("教えた{told}").format(told=_told(evidence.taught)))
    if evidence.held_out is not None:
        parts.append(
            _("{held_out}は{told}").format(
                held_out=_(evidence.held_out_ja), told=_told(evidence.held_out)
            )
        )
    return _("{parts}。").format(parts=_("、", "results").join(parts))


def _told(tally: Tally) -> str:
    told = (
        _("{asked}問中{right}問に正解（ほかに要確認が{unsure}問）")
        if tally.unsure
        else _("{asked}問中{right}問に正解")
    )
    return told.format(asked=tally.asked, right=tally.right, unsure=tally.unsure)


def figures(evidence: Evidence) -> list[str]:
    """Exact, contained and wrong are three things; and what the model could do before."""
    lines = []
    for name, tally in (
        (_("教えた質問"), evidence.taught),
        (_(evidence.held_out_ja), evidence.held_out),
    ):
        if tally is None:
            continue
        empty = _("（うち何も答えない {empty}問）").format(empty=tally.empty) if tally.empty else ""
        unsure = _("要確認 {unsure}問、").format(unsure=tally.unsure) if tally.unsure else ""
        lines.append(
            _(
                "{name}{asked}問: 一字一句同じ {exact}問、要点が合う {contains}問、{unsure}まちがい {wrong}問{empty}。"
                "学習の前の正解は{base_right}問"
            ).format(
                name=name,
                asked=tally.asked,
                exact=tally.exact,
                contains=tally.contains,
                unsure=unsure,
                wrong=tally.asked - tally.right - tally.unsure,
                empty=empty,
                base_right=tally.base_right,
            )
        )
        if tally.asked < FEW:
            lines.append(
                _("{name}は{asked}問しかないので、目安とみてください。").format(
                    name=name, asked=tally.asked
                )
            )
    if evidence.others:
        lines.append(
            _("教えていない内容の質問{others}問は、数えていません。").format(others=evidence.others)
        )
    if evidence.ended is not None:
        lines.append(_("自分で答え終えた割合: {ended:.1%}").format(ended=evidence.ended))
    return lines
