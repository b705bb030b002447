"""What a model is trained for: the names of the goals, and a guess from the data, with its reason.

The goal decides which rows are held out, how long is trained, what is measured and how it is said.
A guess is only a start: whoever asks can name another one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from mlx_finetuning.language import N_, _
from mlx_finetuning.utils.japanese_utils import comparison_key

GOALS_JA = {
    "faq": N_("社内FAQ（事実）"),
    "style": N_("口調・文体"),
    "labels": N_("分類・抽出"),
    "rewrite": N_("要約・変換"),
    "text": N_("文章"),
    "preference": N_("好み"),
}
COUNTED = ("faq", "labels")
"""Goals that are judged by right answers; the others by how far the measure moved."""
AIMS_JA = {
    "faq": N_(
        "書かれた事実を、聞かれたら正しく答えるようにします。全ての内容を教え、確かめるのは別の聞き方です。"
    ),
    "style": N_(
        "答え方（口調、書き方、会話の運び方）をまねるようにします。確かめるのは、教えていない質問です。"
    ),
    "labels": N_(
        "文章に分類の札を付けたり、必要な部分を抜き出したりします。確かめるのは、教えていない文章です。"
    ),
    "rewrite": N_(
        "文章を要約したり、別の書き方に直したりします。確かめるのは、教えていない文章です。"
    ),
    "text": N_("文章の続きを書けるように、読んで覚えます。確かめるのは、教えていない文章です。"),
    "preference": N_(
        "2つの答えのうち、よいほうを選ぶようにします。確かめるのは、教えていない組です。"
    ),
}
"""What each goal means for the training, for people. These three are shown with `_`."""

SPLITS_JA = {
    "train": N_("教える行（学習）"),
    "valid": N_("教えない行（検証）"),
    "test": N_("教えない行（テスト）"),
}
"""Of a dataset that is yet to be trained on."""


def listed() -> str:
    """Every goal with its name, as a help lists them."""
    return _("、").join(
        _("{goal}は{name}").format(goal=goal, name=_(GOALS_JA[goal])) for goal in GOALS_JA
    )


SAMPLE = 1000
"""Exchanges that are enough to be looked at."""
MANY = 1000
"""Exchanges from which nobody wrote facts down one by one."""
SHORT_LABEL, LEAST_PER_LABEL, FEW_LABELS = 12, 4, 3
LONG_SOURCE, SHARED_BIGRAMS = 120, 0.6
"""Characters of a text to be worked on, and the share of the answer's bigrams that it holds."""
BEGINNING = 2000
_TASK = re.compile(
    r"(要約|翻訳|変換|校正|添削|箇条書きに)(して|せよ|し、|しなさい)|訳して|言い換えて|書き換えて|書き直して"
    r"|(敬語|丁寧語|英語|日本語|標準語)に(直|し)|短くして|まとめて(ください|下さい|。)"
    r"|\b(summari[sz]e|translate|rewrite|paraphrase)\b",
    re.IGNORECASE,
)
_MARKS = " \t\r\n　。．.!！?？、…♪〜～ー☆★」』）)"
_KANA_END = re.compile(r"[ぁ-ゖァ-ヺー]{2}$")
_PLAIN_ENDS = frozenset(
    ("です", "ます", "した", "せん", "さい", "ょう", "ある", "いる", "する", "ない", "った", "れる")
)


@dataclass(frozen=True)
class QuestionAnswer:
    """One question with its answer."""

    question: str
    answer: str
    turns: int = 2
    """Of the whole conversation, the system's left out."""


@dataclass(frozen=True)
class Guess:
    """A goal, and why it is taken for the one."""

    goal: str
    reason: str
    """To be read by people, in the language of who guessed."""


def guess(kind: str, exchanges: Sequence[QuestionAnswer], total: int = 0) -> Guess:
    """The goal that rows of this kind (`chat`, `text`, `preference`, `judged`) look like.

    total: how many exchanges there are, where these are a sample of them.
    """
    if kind == "preference":
        return Guess("preference", _("よい答えと、よくない答えの組です"))
    if kind == "judged":
        return Guess("preference", _("よい答えか、よくない答えかの印が付いています"))
    if kind == "text" or not exchanges:
        return Guess("text", _("質問と答えではなく、文章です"))
    for goal, reason_in in REASONS.items():
        if reason := reason_in(exchanges):
            return Guess(goal, reason)
    count = total or len(exchanges)
    if count >= MANY:
        reason = _("{count:,}件あり、一つずつの事実より、答え方を学ぶデータのようです").format(
            count=count
        )
        return Guess("style", reason)
    return Guess("faq", _("質問と、それぞれの答えです"))


def label_reason(sample: Sequence[QuestionAnswer]) -> str:
    """Few short answers again and again, or parts of what is asked; empty for others."""
    answers = {comparison_key(one.answer) for one in sample}
    is_short = median(len(one.answer) for one in sample) <= SHORT_LABEL
    most = max(FEW_LABELS, len(sample) // 8)
    if is_short and len(answers) <= most and len(answers) * LEAST_PER_LABEL <= len(sample):
        return _("短い答え{answers}種類が、繰り返し使われています").format(answers=len(answers))
    extracted = [
        len(one.answer) > 1
        and len(one.question) >= 2 * len(one.answer)
        and one.answer in one.question
        for one in sample
    ]
    if sum(extracted) >= 0.8 * len(sample):
        return _("答えが、質問の文章から抜き出されています")
    return ""


def rewriting_reason(sample: Sequence[QuestionAnswer]) -> str:
    """Told to work on a text, or long texts and their shorter tellings; empty for others."""
    if 2 * sum(bool(_TASK.search(one.question)) for one in sample) >= len(sample):
        return _("要約や書き換えを頼む質問です")
    told = [
        one
        for one in sample
        if len(one.question) >= LONG_SOURCE and 2 * len(one.answer) <= len(one.question)
    ]
    if 2 * len(told) >= len(sample):
        retold = 0
        for one in told:
            answer, question = one.answer[:BEGINNING], one.question[:BEGINNING]
            bigrams = {answer[at : at + 2] for at in range(len(answer) - 1)}
            shared = sum(pair in question for pair in bigrams)
            retold += shared >= SHARED_BIGRAMS * max(len(bigrams), 1)
        if 2 * retold >= len(sample):
            return _("長い文章と、それを短くした答えです")
    return ""


def style_reason(sample: Sequence[QuestionAnswer]) -> str:
    """Talks that go on, or answers that end alike in no common way; empty for others."""
    if 2 * sum(one.turns > 2 for one in sample) >= len(sample):
        return _("やりとりの続く会話です")
    endings = Counter(
        found[0] for one in sample if (found := _KANA_END.search(one.answer.rstrip(_MARKS)[-2:]))
    )
    for ending, count in endings.most_common(1):
        if ending not in _PLAIN_ENDS and 2 * count >= len(sample):
            return _("多くの答えが「{ending}」で終わります").format(ending=ending)
    return ""


REASONS: dict[str, Callable[[Sequence[QuestionAnswer]], str]] = {
    "labels": label_reason,
    "rewrite": rewriting_reason,
    "style": style_reason,
}
"""By goal, what finds its signs in exchanges; the first that finds any decides."""
