"""Did it learn, did it forget, did it memorise: plain judgements of figures, with their reasons.

Every threshold is here. Words are meant for people; programs read `state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_finetuning.experiment_tracker.evaluation.results import Interval, Verdict
from mlx_finetuning.language import N_, _

ENOUGH_ROWS = 8
"""Rows below which a split proves little and a larger one is judged instead."""
LINK_LOST = 0.15
"""A right answer is easier to predict than answers to other questions. Learning pairs that belong
together makes all of them easier alike, and later the right ones more; learning pairs that don't makes
the others easier. Where that gap closes by more than this share of what the right answers gained,
nothing was linked (seen after 3 to 40 updates: 0.07 and less, against 0.27 and more)."""
LINK_SEEN = 0.3
"""Nats per token: a gap that counts where rows are so few that not even the base's is sure."""
FORGOTTEN = 0.7
"""Share of what the base could answer; below it the verdict is red. Nothing is called kept before the
share is surely above it."""
WORN = 0.9
LOSS_FORGOTTEN, LOSS_WORN = 0.5, 0.15
"""Nats per token by which the general loss surely rose."""
BROKEN_ERRORS = ("LOSS_NOT_FINITE", "LOSS_EXPLODED")


@dataclass(frozen=True)
class Link:
    """How much better a question's own answer is predicted than answers to other questions."""

    base: Interval
    """Nats per token."""
    tuned: Interval
    fall: float
    """Nats per token by which the questions' own answers have become easier."""

    @property
    def is_learned(self) -> bool:
        """Whether the gap is there and has not closed by what the own answers gained."""
        is_there = self.tuned.is_above_zero or (
            not self.base.is_above_zero and self.tuned.value >= LINK_SEEN
        )
        return is_there and self.base.value - self.tuned.value <= LINK_LOST * self.fall


@dataclass(frozen=True)
class Learning:
    """What the verdict on learning rests on."""

    name: str
    """The rows that are judged, as `results.rows_of` calls them."""
    before: float
    after: float
    change: Interval
    """Of the measure on the judged split, tuned minus base."""
    trained_change: Interval | None
    """The same on trained rows."""
    link: Link | None = None
    adapter_is_zero: bool = False
    error: str = ""
    """Code of the error the training ended with, or nothing."""
    measure: str = N_("損失", "measure")
    """What the run trains; a loss is nats per token. Shown with `_`."""
    falls: bool = True
    """Whether less is better."""
    others: tuple[str, ...] = ()
    """Further evidence, in words."""

    def is_better(self, change: Interval) -> bool:
        """Surely, for this measure."""
        return change.is_below_zero if self.falls else change.is_above_zero

    def is_worse(self, change: Interval) -> bool:
        """Surely, for this measure."""
        return change.is_above_zero if self.falls else change.is_below_zero


_LOWER_RATE = N_("学習率を10分の1にして、もう一度学習してください。")


def learned(learning: Learning | None) -> Verdict:
    """Whether the run learned what it was meant to; None: there were no rows to judge by."""
    if learning is None:
        return Verdict("unknown", "warning", _("判定できません。調べる行に、答えがありません。"))
    state, text, advice = _learned(learning)
    measure = _("{name}の{measure}").format(
        name=learning.name, measure=_(learning.measure, "measure")
    )
    evidence = [
        _("{measure}の変化: {change}").format(measure=measure, change=_change(learning.change))
    ]
    # Where nothing was held out, they are what was judged.
    if learning.trained_change not in (None, learning.change):
        evidence.append(
            _("教えた行の{measure}の変化: {change}").format(
                measure=_(learning.measure, "measure"), change=_change(learning.trained_change)
            )
        )
    if learning.link is not None:
        evidence.append(
            _(
                "正しい答えと、別の質問の答えとの、予測しやすさの差: {before:.3f} → {after:.3f}（質問と答えの対応を学ばないと、縮みます）"
            ).format(before=learning.link.base.value, after=learning.link.tuned.value)
        )
    evidence += learning.others
    if learning.adapter_is_zero:
        evidence.append(_("アダプターの変化量は0です。"))
    if learning.error:
        evidence.append(_("学習はエラーで止まりました（{error}）。").format(error=learning.error))
    return Verdict(
        state,
        "good" if state == "learned" else "bad",
        _("{text}（{measure} {before:.3f} → {after:.3f}）。").format(
            text=text, measure=measure, before=learning.before, after=learning.after
        ),
        tuple(evidence),
        advice,
    )


def _learned(learning: Learning) -> tuple[str, str, str]:
    """State, what is said of it, and advice; the first that holds."""
    trained = learning.trained_change
    if learning.error in BROKEN_ERRORS or (trained is not None and learning.is_worse(trained)):
        return "diverged", _("発散しました"), _(_LOWER_RATE)
    if learning.adapter_is_zero:
        return (
            "unchanged",
            _("学習していません。重みが変わっていません"),
            _("学習率や更新の回数が0になっていないか、確認してください。"),
        )
    if learning.is_worse(learning.change):
        return (
            "worse",
            _("学習していません。教えていない行では、前より悪くなりました"),
            _("更新の回数を減らすか、学習率を下げるか、データを増やしてください。"),
        )
    if not learning.is_better(learning.change):
        if trained is not None and learning.is_better(trained):
            return (
                "memorised",
                _("学習していません。教えた行だけを覚え、ほかの行には効いていません"),
                _("データを増やすか、同じ内容の別の聞き方を加えてください。"),
            )
        return (
            "unchanged",
            _("学習していません。{measure}の変化は、偶然の範囲です").format(
                measure=_(learning.measure, "measure")
            ),
            _("更新の回数を増やすか、学習率を上げてください。"),
        )
    if learning.link is not None and not learning.link.is_learned:
        return (
            "unlinked",
            _("学習していません。言い回しは覚えましたが、質問と答えの対応は身についていません"),
            _("データの質問と答えの組が、ずれたり入れ替わったりしていないか確認してください。"),
        )
    return "learned", _("学習できています"), ""


def _change(change: Interval) -> str:
    return _("{value:+.3f}（95%信頼区間 {low:+.3f} 〜 {high:+.3f}）").format(
        value=change.value, low=change.low, high=change.high
    )


def forgot(rise: Interval | None, kept: Interval | None, could: int) -> Verdict:
    """Whether general knowledge suffered.

    rise: nats per token on what the base can answer, tuned minus base; could: questions that the base
    answered rightly; kept: share of them that the tuned model does.
    """
    if rise is None or kept is None:
        text = _("判定できません。元のモデルが正しく答えた一般の質問がありません。")
        return Verdict("unknown", "warning", text)
    evidence = (
        _("一般の質問の損失の変化: {change}").format(change=_change(rise)),
        _(
            "元のモデルが正しく答えた{could}問のうち、学習後も正しいのは{still_can}問（{share:.0%}、95%信頼区間 {low:.0%} 〜 {high:.0%}）"
        ).format(
            could=could,
            still_can=round(kept.value * could),
            share=kept.value,
            low=kept.low,
            high=kept.high,
        ),
        _(
            "判定の基準: {least:.0%}未満に減るか、損失が確実に{rise}以上増えると「忘れています」"
        ).format(least=FORGOTTEN, rise=LOSS_FORGOTTEN),
    )
    if could < ENOUGH_ROWS:
        text = _(
            "判定できません。元のモデルが正しく答えた一般の質問が、{could}問しかありません。"
        ).format(could=could)
        return Verdict("unknown", "warning", text, evidence)
    advice = _("学習率を下げるか、更新を減らすか、一般的な質問と答えをデータに混ぜてください。")
    if kept.value < FORGOTTEN or rise.low > LOSS_FORGOTTEN:
        return Verdict("forgot", "bad", _("忘れています。"), evidence, advice)
    if kept.value < WORN or rise.low > LOSS_WORN:
        return Verdict("worn", "warning", _("少し忘れています。"), evidence, advice)
    if kept.low <= FORGOTTEN:
        text = _(
            "判定できません。忘れた様子はありませんが、元のモデルが正しく答えた一般の質問が{could}問しかなく、確かではありません。"
        ).format(could=could)
        return Verdict("unknown", "warning", text, evidence)
    return Verdict("kept", "good", _("忘れていません。"), evidence)


def memorised(unrelated: int, asked: int, personal: Sequence[str]) -> Verdict:
    """Whether trained answers come out where they should not.

    unrelated: general questions answered with a trained answer; personal: kinds of personal data,
    in Japanese, that the tuned model says and the base does not.
    """
    evidence = [
        _("一般の質問{asked}問のうち、学習した答えをそのまま返したのは{unrelated}問").format(
            asked=asked, unrelated=unrelated
        )
    ]
    if personal:
        evidence.append(
            _("学習データの個人情報らしい文字列を答えます: {personal}").format(
                personal=_("、").join(map(_, personal))
            )
        )
    if unrelated:
        head = _("学習した答えを、無関係な質問にも返します。")
        return Verdict("parrots", "bad", head, tuple(evidence), _(_LOWER_RATE))
    if personal:
        advice = _(
            "意図したものでなければ、データを作るときに「個人情報らしい部分を伏せる」（mask_personal）を"
            "選び、学習し直してください。"
        )
        return Verdict(
            "personal", "warning", _("個人情報らしい文字列を答えます。"), tuple(evidence), advice
        )
    if not asked:
        text = _("判定できません。一般の質問をしていません。")
        return Verdict("unknown", "warning", text, tuple(evidence))
    return Verdict("clean", "good", _("問題は見つかりません。"), tuple(evidence))


def ends(share: float | None) -> Verdict:
    """Whether the tuned model ends its answers by itself; `share` of those it was asked for."""
    if share is None:
        return Verdict("unknown", "warning", _("判定できません。質問がありません。"))
    evidence = (_("自分で答え終えた割合: {share:.1%}").format(share=share),)
    if share >= 0.99:
        return Verdict("ends", "good", _("自分で答え終えます。"), evidence)
    advice = _(
        "答えが長いデータなら、1つの答えの最大トークン数を増やして、もう一度確かめてください。"
        "そうでなければ、学習を増やしてください。"
    )
    level = "warning" if share >= WORN else "bad"
    return Verdict("runs_on", level, _("答えが終わらないことがあります。"), evidence, advice)


def thinks(
    trained: bool, base: float | None, tuned: float | None, unfinished: int, answers: int
) -> Verdict:
    """Whether the tuned model thinks before it answers, as it was trained to, or not to.

    base, tuned: shares of answers with reasoning; unfinished: answers of the tuned model that never
    came to an end of it.
    """
    if base is None or tuned is None:
        return Verdict("unknown", "warning", _("判定できません。質問がありません。"))
    evidence = [
        _(
            "考えた過程のある答え: {base:.0%} → {tuned:.0%}（元のモデル → 学習後、{answers}問）"
        ).format(base=base, tuned=tuned, answers=answers)
    ]
    if unfinished:
        evidence.append(
            _("考えたまま、答えに至らなかったもの: {answers}問中{unfinished}問").format(
                answers=answers, unfinished=unfinished
            )
        )
        advice = _(
            "1つの答えの最大トークン数を増やして、もう一度確かめてください。"
            "それでも終わらなければ、学習を増やしてください。"
        )
        head = _("考えたまま、答えに至らないことがあります。")
        return Verdict("unfinished", "warning", head, tuple(evidence), advice)
    if trained and tuned < WORN:
        advice = _("学習データの全ての回答に考えた過程があるか、確認してください。")
        return Verdict(
            "sometimes", "warning", _("考えずに答えることがあります。"), tuple(evidence), advice
        )
    if not trained and tuned > 1 - WORN:
        advice = _(
            "学習データに考えた過程はありません。更新の回数を増やすと、考えずに答えるようになります。"
        )
        return Verdict(
            "unasked", "warning", _("考えてから答えることがあります。"), tuple(evidence), advice
        )
    if trained:
        return Verdict("thinks", "good", _("考えてから答えます。"), tuple(evidence))
    return Verdict("answers", "good", _("考えずに、すぐ答えます。"), tuple(evidence))
