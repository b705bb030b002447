"""What is checked of each pair without a model: whether its chunk bears it out, and whether it can be
asked by itself.

A check sees wording, not meaning: a denied answer (「できます」 for 「できません」) passes. Nothing is dropped
here; whoever calls decides what becomes of a pair with problems.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mlx_finetuning.documents import facts
from mlx_finetuning.documents.chunks import Chunk, sentences
from mlx_finetuning.documents.pairs import BY_MODEL, Pair, Problem
from mlx_finetuning.utils.japanese_utils import (
    comparison_key,
    foreign_language,
    is_mojibake,
    normalised,
    rouge_l,
)

LEAST_QUOTE, LEAST_QUESTION = 4, 6
MOST_QUESTION, MOST_ANSWER = 200, 800
"""Characters."""
SUPPORTED = 0.5
"""Share of an answer's terms that its quote, or the question, must hold."""
RELATED = 0.4
"""Share of a question's terms that its chunk must hold."""
ALIKE = 0.8
"""ROUGE-L from which two questions about the same things are one."""
REPEATED = 0.92
"""ROUGE-L from which an answer only repeats its question."""

_DANGLING = re.compile(
    r"上記|前述|下記|前記|後述|左記|右記|(?:以下|次|上|下|右|左)の(?:表|図|文|文章|とおり|通り|資料|一覧|説明|選択肢|内容|グラフ)|"
    r"こ(?:の|れ|こ|ちら|うした|のような|ういった)(?!え|と|ろ|ども|とし|まで)|"
    r"(?:^|[、。])(?:そ(?:の|れ(?!ぞれ)|こ|ちら)|あの|あれ|彼|彼女)|"
    r"(?<![ぁ-ん一-鿿ァ-ヶ])本(?:表|図|文|資料|書|規程|規則|条|章|節|項|ページ|文書|マニュアル)(?![一-鿿])|"
    r"(?:資料|文書|文章|本文|テキスト|表|図|パッセージ|抜粋|段落|チャンク)(?:に(?:よると|よれば|は|書|記|あ|示|基)|で(?:は|述|示|説明)|の中|中で|内で|から)|"
    r"(?:与え|提供さ|示さ|引用さ)れ(?:た|ている)|(?:同|当該)(?:表|図|条|項|資料|文書)|根拠の文|文中|"
    r"(?:passage|according to the (?:text|document|above)|the above)",
    re.IGNORECASE,
)
_ANSWER_DANGLING = re.compile(
    r"上記|下記|前述|前記|(?:以下|次)の(?:とおり|通り|表|図)(?!.*[:：\n])|(?:この|その)(?:表|図|資料|文書|文章)|資料(?:に(?:よると|よれば)|を(?:参照|ご覧))"
)
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
_LOOP = re.compile(r"(.)\1{9,}|(.{2,12}?)\2{4,}", re.DOTALL)
_ASKS = re.compile(r"(?:ですか|ますか|でしょうか|[?？])\s*$")
_REFUSES = re.compile(
    r"分かりません|わかりません|書かれていません|記載(?:は|が)?(?:あり|されてい)ません|ありません|不明|お答えできません|確認できません|"
    r"定め(?:られて|て)?い?ません|見当たりません"
)
_JAPANESE = re.compile("[ぁ-ヿ一-鿿]")


@dataclass
class Checker:
    """Checks pairs one after the other; each is compared with those that came before it."""

    _asked: list[tuple[str, str, frozenset[str]]] = field(default_factory=list)
    """Of each sound pair so far: comparison key, question, what it is about."""

    def check(self, pair: Pair, chunk: Chunk) -> Pair:
        """The pair with its problems."""
        problems = (*_of_form(pair, chunk), *_of_support(pair, chunk), *self._of_others(pair))
        checked = replace(pair, problems=problems)
        self.take(checked)
        return checked

    def take(self, pair: Pair) -> None:
        """Remember a pair that was checked before, if these checks found nothing."""
        if all(problem.code in BY_MODEL for problem in pair.problems):
            key = comparison_key(pair.question)
            self._asked.append((key, pair.question, _subject(pair.question)))

    def _of_others(self, pair: Pair) -> Iterator[Problem]:
        """Whether the same was asked before: in the same words, or in nearly the same about the same
        things. Character 5-grams, by which datasets are searched, see little in so short texts."""
        key, subject = comparison_key(pair.question), _subject(pair.question)
        for other_key, other, other_subject in self._asked:
            alike = other_subject == subject and rouge_l(other, pair.question) >= ALIKE
            if key == other_key or alike:
                yield Problem("duplicate", other)
                return


def _subject(question: str) -> frozenset[str]:
    numbers = (str(number) for number in facts.numbers(question))
    return frozenset((*facts.terms(question), *numbers))


def _of_form(pair: Pair, chunk: Chunk) -> Iterator[Problem]:
    """Whether question and answer can stand by themselves."""
    question, answer = normalised(pair.question), normalised(pair.answer)
    if not LEAST_QUESTION <= len(question) <= MOST_QUESTION:
        yield Problem("length", f"質問が{len(question)}文字")
    if not 1 <= len(answer) <= MOST_ANSWER:
        yield Problem("length", f"回答が{len(answer)}文字")
    if found := _DANGLING.search(question) or _ANSWER_DANGLING.search(answer):
        yield Problem("dangling", found[0].strip("、。"))
    elif not facts.has_subject(question):
        yield Problem("no_subject")
    repeats = comparison_key(question) == comparison_key(answer)
    if answer and (repeats or rouge_l(question, answer) >= REPEATED or _ASKS.search(answer)):
        yield Problem("answer_is_question")
    text = chunk.whole
    for told in (question, answer):
        language = foreign_language(told)
        is_foreign = language != foreign_language(text) if language else False
        if is_foreign or (
            told == question and _JAPANESE.search(text) and not _JAPANESE.search(told)
        ):
            yield Problem("language", language or "日本語ではない文字")
            break
    if any(is_mojibake(told) or _LOOP.search(told) for told in (question, answer)):
        yield Problem("broken_text")


def _of_support(pair: Pair, chunk: Chunk) -> Iterator[Problem]:
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


def _missing_facts(pair: Pair, whole: str) -> Iterator[Problem]:
    """Numbers and names of question and answer that the chunk lacks; of the answer to a simple question,
    also those that the quote lacks."""
    known, told = facts.numbers(whole), f"{pair.question}\n{pair.answer}"
    # 「1箱の単価」 asks for one of whatever is counted.
    asked = {number for number in facts.numbers(pair.question) if number.value != 1}
    numbers = facts.numbers(pair.answer) | asked
    missing = [number for number in numbers if not number.stands_in(known)]
    if missing:
        yield Problem("number_missing", "、".join(sorted(map(str, missing))))
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
    unknown = {name for name in unknown if not _is_counted(name, whole)}
    if unknown:
        yield Problem("name_missing", "、".join(sorted(unknown)))
    if missing or unknown or pair.kind == "procedure":
        return
    near = f"{pair.quote}\n{pair.question}"
    known, place = facts.numbers(near), facts.folded(near)
    elsewhere = {
        *(str(number) for number in facts.numbers(pair.answer) if not number.stands_in(known)),
        *(name for name in facts.names(pair.answer) if facts.folded(name) not in place),
    }
    if elsewhere and facts.folded(pair.quote):
        yield Problem("fact_elsewhere", "、".join(sorted(elsewhere)))


def _is_counted(name: str, whole: str) -> bool:
    """Whether what looks like a name is a number that the text writes in another way."""
    return any(sign.isdigit() for sign in name) and facts.numbers(name) <= facts.numbers(whole)


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


def page_of(quote: str, chunk: Chunk) -> int:
    """The page on which a quote stands; the chunk's first if it is on none."""
    wanted = facts.folded(sentences(quote)[0]) if quote.strip() else ""
    for block in chunk.blocks:
        if wanted and wanted in facts.folded(block.text):
            return block.page
    return chunk.pages[0]
