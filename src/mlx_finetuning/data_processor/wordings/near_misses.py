"""Questions that look like the data's own and have no answer in it, by rules: another attribute of
the same thing, another thing with the same attribute, another year. With what to say instead."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from mlx_finetuning.data_processor.wordings.checks import Checker
from mlx_finetuning.data_processor.wordings.made import Known, MadeRow
from mlx_finetuning.data_processor.wordings.rules import SYNONYMS, parts_of
from mlx_finetuning.utils.japanese_utils import comparison_key

POLITE = "申し訳ありませんが、そのことは手元の情報にないため、わかりません。"
PLAIN = "それは手元の情報にないので、わからない。"
HELD_OUT = 0.25
"""Share of the subjects whose questions are not taught, to test with."""
_POLITE_END = re.compile(r"(です|ます|ません|ください|ました|でした|ございます)[。．！!♪]*$")

OF_COMPANIES = (
    *"資本金 株価 年商 利益 創業者 会長 副社長 平均年齢 初任給 賞与 離職率 有給の取得率 男女の比率".split(),
    *"社歌 社訓 マスコット ロゴの色 社章 制服 社員食堂 昼休み 残業時間 夏休みの日程 年末の休み 忘年会の日".split(),
    *"株主 取引先 仕入れ先 主な競合 取引銀行 顧問弁護士 監査法人 特許の数 工場の面積 建物の階数 海外の拠点".split(),
    *"ファックス番号 郵便番号 広報の担当者 採用の人数 面接の回数 研修の内容 福利厚生 保養所 社宅 託児所".split(),
    *"バス停 自転車置き場 入口の暗証番号 喫煙所 会議室の数 無線LANの名前 車いすの貸し出し 混む時間帯".split(),
)  # fmt: skip
OF_THINGS = (
    *"重さ 色 材質 サイズ 厚さ 生産国 発売日 製造番号 消費電力 耐用年数 在庫の数 予備の部品 説明書の言語".split(),
    *"割引の条件 ポイントの還元率 分割払いの回数 領収書の宛名 包装の種類 配達の時間帯 交換の手数料".split(),
)  # fmt: skip
"""What companies and their products have, and few FAQs tell."""
_YEARS = ("1990年", "2005年", "2040年", "十年前")
_TIMELESS = re.compile("年|設立|創業|発売")
_OWNER = re.compile(r"[^にをでへがはと、]*[一-龯々ァ-ヴー」』a-zA-Z0-9]")
_ENTITY_SIGNS = "アイカキクサシスタツナハフマミヤユラリ"

_ASKING = (
    "{owner}の{what}を教えてください。",
    "{owner}の{what}は何ですか？",
    "{owner}の{what}は？",
    "{owner}の{what}を知りたいです。",
    "{owner}の{what}について教えていただけますか？",
    "{owner}の{what}って何？",
    "{owner} {what}",
    "{owner}についてですが、{what}を教えてください。",
)


@dataclass(frozen=True)
class Subject:
    """What near misses are about, that the data does not tell."""

    kind: str
    """A key of `NEAR_MISSES_JA`."""
    of: Known
    """The row that it is like."""
    name: str
    """What was put in: rows with the same one are of one split."""
    questions: tuple[str, ...]


def refusal_text(answers: Sequence[str]) -> str:
    """What to say, in the tone in which most answers are."""
    polite = sum(bool(_POLITE_END.search(answer.strip())) for answer in answers)
    return POLITE if 2 * polite >= len(answers) else PLAIN


def near_misses(
    known: Sequence[Known], count: int, refusal: str, seed: int = 0, held_out: float = HELD_OUT
) -> list[MadeRow]:
    """Up to `count` of them, none of which the data answers, spread over the things it tells of;
    `held_out` of the subjects are for the test alone."""
    checker = Checker(known)
    answered = [one for one in known if not one.is_refusal]
    by_kind = {
        "attribute": list(other_attributes(answered)),
        "entity": list(other_entities(answered)),
        "year": list(other_years(answered)),
    }
    for subjects in by_kind.values():
        subjects.sort(key=lambda subject: _drawn(seed, subject.name, subject.of.question))
    rows: list[MadeRow] = []
    asked: set[str] = set()
    while len(rows) < count and any(by_kind.values()):
        for kind, subjects in by_kind.items():
            # Attributes twice: of what users ask in vain, most is about the same thing.
            for subject in [subjects.pop() for _ in range(1 + (kind == "attribute")) if subjects]:
                question = Random(_drawn(seed, "ask", subject.name)).choice(subject.questions)
                if comparison_key(question) in asked:
                    continue
                asked.add(comparison_key(question))
                if checker.problems_of_near_miss(question, subject.of):
                    continue
                split = split_of(subject.name, seed, held_out)
                rows.append(
                    MadeRow(
                        subject.of.row,
                        kind,
                        question,
                        refusal,
                        source=subject.of.source,
                        split=split,
                    )
                )
    return rows[:count]


def split_of(subject: str, seed: int, held_out: float = HELD_OUT) -> str:
    """Where questions about a subject go: a model is to be tested on ones it was not taught."""
    return "test" if _drawn(seed, "split", subject)[0] < 256 * held_out else "train"


def _drawn(seed: int, *keys: str) -> bytes:
    return hashlib.sha256("\0".join((str(seed), *keys)).encode()).digest()


def _owners(known: Sequence[Known]) -> dict[str, list[tuple[str, Known]]]:
    """Things of which several facts are told, each with its attributes and a row of each."""
    owners: defaultdict[str, dict[str, Known]] = defaultdict(dict)
    for one in known:
        owner, _, attribute = parts_of(one.question).topic.partition("の")
        if attribute and len(owner) > 1 and _OWNER.fullmatch(owner):
            owners[owner].setdefault(attribute, one)
    return {owner: list(told.items()) for owner, told in owners.items()}


def other_attributes(known: Sequence[Known]) -> Iterator[Subject]:
    """Of the same thing, what the data does not tell."""
    owners = _owners(known)
    told = {attribute for attributes in owners.values() for attribute, _ in attributes}
    same_as = {word: group for group in SYNONYMS for word in group}
    for owner, attributes in owners.items():
        own = {
            word for attribute, _ in attributes for word in (attribute, *same_as.get(attribute, ()))
        }
        of = attributes[0][1]
        is_main = len({comparison_key(one.answer) for _, one in attributes}) > 1
        usual = OF_THINGS if "「" in owner else OF_COMPANIES if is_main else ()
        # What the data tells of other things, and what it tells of none.
        for what in (*(sorted(told - own) if is_main else ()), *usual):
            questions = tuple(form.format(owner=owner, what=what) for form in _ASKING)
            yield Subject("attribute", of, what, questions)


def other_entities(known: Sequence[Known]) -> Iterator[Subject]:
    """What the data tells, of a thing of another name."""
    for one in known:
        quoted = re.findall(r"(?<=「)[^」]{2,}(?=」)", one.question)
        # Else names of companies, which begin in katakana.
        for name in quoted or re.findall(r"[ァ-ヴー]{3,}(?=[一-龯])", one.question):
            other = _like(name, one.row)
            yield Subject("entity", one, other, (one.question.replace(name, other),))


def _like(name: str, row: int) -> str:
    """Another name of the same look: 「ハヤセ」 → 「タヤセ」."""
    rng = Random(_drawn(row, name))
    letters = list(name)
    for at in rng.sample(range(len(letters)), min(2, len(letters))):
        if "ァ" <= letters[at] <= "ヴ":
            letters[at] = rng.choice([sign for sign in _ENTITY_SIGNS if sign != letters[at]])
    other = "".join(letters)
    return other if other != name else f"新{name}"


def other_years(known: Sequence[Known]) -> Iterator[Subject]:
    """What the data tells, of another time."""
    for owner, attributes in _owners(known).items():
        for attribute, one in attributes:
            for year in () if _TIMELESS.search(attribute) else _YEARS:
                questions = tuple(
                    form.format(owner=owner, what=f"{year}の{attribute}") for form in _ASKING[:5]
                )
                yield Subject("year", one, f"{year}の{attribute}", questions)
