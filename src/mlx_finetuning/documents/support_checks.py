"""Whether a pair's chunk bears it out: its quote, numbers, names and words stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlx_finetuning.documents.chunks import Chunk
from mlx_finetuning.documents.pairs import Pair, Problem
from mlx_finetuning.language import _
from mlx_finetuning.utils import facts
from mlx_finetuning.utils.denials import contradiction
from mlx_finetuning.utils.japanese_utils import normalised

LEAST_QUOTE = 4
"""Characters."""
SUPPORTED = 0.5
"""Share of an answer's terms that its quote, or the question, must hold."""
RELATED = 0.4
"""Share of a question's terms that its chunk must hold."""
_GENERAL = re.compile(
    "金額|料金|値段|名前|方法|手順|内容|定義|理由|確認|電話番号|番号|期限|割合|種類|意味|目的|条件|場所|連絡先|可能|以上|以下|以内|正式"
)
"""What questions ask for, and answers add, in words of their own."""
_NOUN = re.compile(
    "(?<![一-鿿々])[一-鿿々]{2,}(?![一-鿿々する]|さ[れせ]|し[たてま]|[でが]き|い[たて])"
)
"""Kanji that no verb is made of."""
_KANA_NOUN = re.compile(
    "(?<![ぁ-ゖ一-鿿々])(?!いく|どれ|どち|どこ|それ|すみ|だれ|いつ|なに|ほか|すべて|みな)[ぁ-ゖ]{2,7}?[^ぁ一-鿿のるたいとばもでにて\\W]"
    "(?=[0-9一][箱個袋本枚台]|[はのがを](?![ぁ-ゖ]))"
)
"""What stands as a noun though it is written in hiragana."""
_REFUSES = re.compile(
    r"分かりません|わかりません|書かれていません|記載(?:は|が)?(?:あり|されてい)ません|ありません|不明|お答えできません|確認できません|"
    r"定め(?:られて|て)?い?ません|見当たりません"
)


def of_support(pair: Pair, chunk: Chunk) -> Iterator[Problem]:
    """Whether the chunk bears out the pair."""
    whole = chunk.whole
    if pair.kind == "absent":
        if not _REFUSES.search(pair.answer):
            yield Problem("absent_answer")
        return
    if _coverage(pair.question, whole) < RELATED:
        yield Problem("question_unrelated")
    quote, place = facts.folded(pair.quote), facts.folded(whole)
    if len(quote) < LEAST_QUOTE:
        yield Problem("quote_short")
    elif quote not in place:
        yield Problem("quote_missing")
    yield from _missing_facts(pair, whole)
    if _coverage(pair.answer, f"{pair.quote}\n{pair.question}\n{chunk.headings}") < SUPPORTED:
        yield Problem("answer_unsupported")
    if clause := contradiction(pair.answer, pair.question, pair.quote):
        yield Problem("answer_denied", clause)


def _missing_facts(pair: Pair, whole: str) -> Iterator[Problem]:
    """Numbers and names of question and answer that the chunk lacks; of the answer to a simple question,
    also those that the quote lacks."""
    known, told = facts.numbers(whole), f"{pair.question}\n{pair.answer}"
    # 「1箱の単価」 asks for one of whatever is counted.
    asked = {number for number in facts.numbers(pair.question) if number.value != 1}
    numbers = facts.numbers(pair.answer) | asked
    missing = [number for number in numbers if not number.stands_in(known)]
    if missing:
        yield Problem("number_missing", _("、").join(sorted(map(str, missing))))
    place = facts.folded(whole)
    unknown = {name for name in facts.names(told) if facts.folded(name) not in place}
    unknown |= {
        noun
        for found in _KANA_NOUN.findall(told)
        for noun in re.split("[とや]", found)
        if facts.folded(noun) not in place
    }
    asked_of = f"{place}{facts.folded(pair.question)}"
    unknown |= {
        noun
        for noun in _NOUN.findall(_GENERAL.sub(" ", facts.numeric(pair.answer)))
        if not any(part in asked_of for part in _neighbours(noun))
    }
    # A number that the text writes in another way looks like a name.
    unknown = {name for name in unknown if not facts.numbers(name) or facts.numbers(name) - known}
    if unknown:
        yield Problem("name_missing", _("、").join(sorted(unknown)))
    if missing or unknown or pair.kind == "procedure":
        return
    near = f"{pair.quote}\n{pair.question}"
    known, place = facts.numbers(near), facts.folded(near)
    elsewhere = {
        *(str(number) for number in facts.numbers(pair.answer) if not number.stands_in(known)),
        *(name for name in facts.names(pair.answer) if facts.folded(name) not in place),
    }
    if elsewhere and facts.folded(pair.quote):
        yield Problem("fact_elsewhere", _("、").join(sorted(elsewhere)))


def _coverage(text: str, source: str) -> float:
    """Share of the pairs of neighbouring signs in the terms of `text` that stand in those of `source`; 1
    for a text without terms."""
    held = facts.terms(_GENERAL.sub(" ", normalised(text)))
    words = [term for term in held if len(term) > 1] or held  # kanji of verbs say little
    ours = [pair for term in words for pair in _neighbours(term)]
    theirs = facts.folded(facts.numeric(source))
    return sum(pair in theirs for pair in ours) / len(ours) if ours else 1.0


def _neighbours(term: str) -> list[str]:
    return [term[at : at + 2] for at in range(len(term) - 1)] or [term]
