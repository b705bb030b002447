"""Whether a question that was made means what it should: reasons against it, none of them a model's.

A wording must keep the numbers and names of its question, bring none of other rows, give nothing of
the answer away, and stay nearer to its own question than to any with another answer.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from mlx_finetuning.data_processor.wordings.kinds import SLIPS, Wording
from mlx_finetuning.data_processor.wordings.made import Known
from mlx_finetuning.language import _
from mlx_finetuning.utils import facts
from mlx_finetuning.utils.japanese_utils import (
    chrf,
    comparison_key,
    foreign_language,
    is_mojibake,
)

NEAR = 0.5
"""Similarity from which another row's question may be the one that is asked."""
LONGEST_TIMES, LONGEST_MORE = 3, 60
"""Most characters of a wording: so many times those of its question, and so many more."""
_JAPANESE = re.compile("[ぁ-ゖァ-ヺ一-龯]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
_NAME = re.compile(r"「([^」]+)」|『([^』]+)』|([ァ-ヴー]{3,})|([a-z][a-z0-9.+#-]+)")
_WORD = re.compile(r"[一-龯々〆ヶ]+|[ァ-ヴー]+|\d+(?:[.:]\d+)*|[a-z]+")
_INSTRUCTION = re.compile(
    r"言い換え|言いかえ|書き換え|以下の|質問文|回答[:：]|答え[:：]|質問[:：]|[{}<>|`]|^\s*[-*・]|^\s*\d+[.)．）]"
)
_DANGLING = re.compile(r"上記|前述|先ほどの|この(?:文書|資料|表|件)|その(?:人|会社|商品|件)")


def names(text: str) -> frozenset[str]:
    """What is quoted, written in katakana, or in Latin letters."""
    return frozenset(
        next(filter(None, found.groups())) for found in _NAME.finditer(comparison_key(text))
    )


def quoted(text: str) -> frozenset[str]:
    """What stands in corner brackets."""
    return frozenset(re.findall(r"[「『]([^」』]+)[」』]", comparison_key(text)))


class Checker:
    """All questions of the data, to hold new ones against."""

    def __init__(self, known: Sequence[Known]) -> None:
        self._known = known
        self._answers: defaultdict[str, set[str]] = defaultdict(set)
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        """Name → answers of the rows that have it."""
        self._with_sign: defaultdict[str, list[int]] = defaultdict(list)
        self._signs = [_signs(one.question) for one in known]
        having: defaultdict[str, set[str]] = defaultdict(set)
        for at, one in enumerate(known):
            self._answers[comparison_key(one.question)].add(comparison_key(one.answer))
            for name in names(one.question) | names(one.answer):
                self._names[name].add(comparison_key(one.answer))
            for sign in self._signs[at]:
                self._with_sign[sign].append(at)
                having[sign].add(comparison_key(one.answer))
        said = Counter(word for answer in {one.answer for one in known} for word in _words(answer))
        self._common = {word for word, count in said.items() if count > 1}
        """Words of several answers, or of questions: none is an answer by itself."""
        self._common.update(*(_words(one.question) for one in known))
        self._facts = len({comparison_key(one.answer) for one in known})
        self._facts_with = {sign: len(answers) for sign, answers in having.items()}

    def problems_of_wording(self, wording: Wording, of: Known) -> list[str]:
        """What speaks against it, in Japanese."""
        if problems := self._problems_of_form(wording.text, of.question):
            return problems
        key = comparison_key(wording.text)
        if key == comparison_key(of.question):
            return [_("元の質問と同じです")]
        if self._answers.get(key, set()) - {comparison_key(of.answer)}:
            return [_("同じ質問が、別の答えでデータにあります")]
        if key in self._answers:
            return [_("同じ質問がデータにあります")]
        before, after = facts.numbers(of.question), facts.numbers(wording.text)
        # In kana a unit is not seen.
        kept = all(one.stands_in(after) for one in before) and all(
            one.stands_in(before) for one in after
        )
        listed = [_("、").join(sorted(map(str, some))) or _("なし") for some in (before, after)]
        return [
            *(
                []
                if kept
                else [_("数が変わっています（{change}）").format(change=" → ".join(listed))]
            ),
            *self._names_lost(wording, of),
            *self._given_away(wording.text, of),
            *(() if wording.kind in SLIPS else self._nearer_to_another(wording.text, of)),
        ]

    def problems_of_near_miss(self, question: str, of: Known) -> list[str]:
        """What speaks against refusing it, in Japanese: above all that the data answers it."""
        if problems := self._problems_of_form(question, of.question):
            return problems
        key = comparison_key(question)
        if key in self._answers:
            return [_("データに答えのある質問です")]
        nearest, similarity = self._nearest(question)
        # The words by which it differs must be nowhere in what is asked or answered.
        new = _words(question) - _words(of.question)
        if not new:
            return [_("元の質問と違う言葉がありません")]
        answered = [
            one
            for one in self._known
            if _words(question) <= _words(one.question) | _words(one.answer)
        ]
        if answered:
            return [_("{row}行目が答えているかもしれません").format(row=answered[0].row)]
        if similarity > 0.9:
            return [_("{row}行目とほとんど同じ質問です").format(row=self._known[nearest].row)]
        return []

    def _problems_of_form(self, text: str, original: str) -> list[str]:
        """What is wrong whatever it means."""
        if len(comparison_key(text)) < 2:
            return [_("文がありません")]
        if is_mojibake(text) or not text.isprintable():
            return [_("文字が壊れています")]
        if _JAPANESE.search(original) and (foreign_language(text) or not _JAPANESE.search(text)):
            return [_("日本語ではありません")]
        if len(text) > LONGEST_TIMES * len(original) + LONGEST_MORE:
            return [_("長すぎます")]
        if (found := _INSTRUCTION.search(text)) and found[0] not in original:
            return [_("質問ではない部分（{text}）が残っています").format(text=found[0].strip())]
        if (found := _DANGLING.search(text)) and found[0] not in original:
            return [_("「{text}」が何を指すか分かりません").format(text=found[0])]
        return []

    def _names_lost(self, wording: Wording, of: Known) -> list[str]:
        if wording.kind in SLIPS:
            return []
        key = comparison_key(wording.text)
        # What kind of thing has a quoted name may go unsaid.
        needed = quoted(of.question) or names(of.question)
        lost = sorted(name for name in needed if name not in key)
        if lost:
            return [_("名前（{names}）がなくなっています").format(names=_("、").join(lost))]
        own = comparison_key(of.question + of.answer)
        brought = sorted(
            name for name in names(wording.text) if name not in own and self._names.get(name)
        )
        return (
            [_("ほかの行の名前（{names}）が入っています").format(names=_("、").join(brought))]
            if brought
            else []
        )

    def _given_away(self, text: str, of: Known) -> list[str]:
        """The answer, or a word of it that the question does not have and other answers don't."""
        if chrf(text, of.answer) > 0.8:
            return [_("質問ではなく、答えになっています")]
        said = _words(text) & (_words(of.answer) - _words(of.question))
        asked = comparison_key(of.question)
        told = sorted(word for word in said if len(word) > 1 or word.isdigit())
        told = [word for word in told if word not in asked and word not in self._common]
        return (
            [_("答え（{words}）が質問に入っています").format(words=_("、").join(told))]
            if told
            else []
        )

    def _nearer_to_another(self, text: str, of: Known) -> list[str]:
        """By the signs that few answers are asked for with; ways to ask count for nothing."""
        nearest, similarity = self._nearest(text)
        other, answer = self._known[nearest], comparison_key(of.answer)
        if similarity < NEAR or comparison_key(other.answer) == answer:
            return []
        own = max(
            self._similarity(_signs(text), at)
            for at, one in enumerate(self._known)
            if comparison_key(one.answer) == answer
        )
        return (
            [_("{row}行目の質問に近くなっています").format(row=other.row)]
            if similarity > own
            else []
        )

    def _nearest(self, text: str) -> tuple[int, float]:
        """The known question most like `text`, and how much alike they are."""
        signs = _signs(text)
        sharing = {at for sign in signs for at in self._with_sign.get(sign, ())}
        return max(
            ((at, self._similarity(signs, at)) for at in sharing),
            key=lambda pair: (pair[1], -pair[0]),
            default=(0, 0.0),
        )

    def _similarity(self, signs: frozenset[str], at: int) -> float:
        """Share of the signs of both that both have, the rare ones counting more."""
        other = self._signs[at]
        # About 0 for a sign of every answer's questions.
        shared, all_ = (
            sum(math.log((self._facts + 1) / (self._facts_with.get(sign, 0) + 1)) for sign in some)
            for some in (signs & other, signs | other)
        )
        return shared / all_ if all_ else 0.0


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(_THOUSANDS.sub("", comparison_key(text))))


def _signs(text: str) -> frozenset[str]:
    """What tells what is asked for: kanji, and pairs of letters of other words. Ways to ask are none."""
    signs: set[str] = set()
    for word in _words(text):
        if "一" <= word[0] <= "龯":
            signs.update(set(word) - _ASKING)
        else:
            signs.update(word[at : at + 2] for at in range(max(len(word) - 1, 1)))
    return frozenset(signs)


_ASKING = frozenset("教知聞願何伺恐入確認件")
