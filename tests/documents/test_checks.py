"""Checks of pairs: planted mistakes are found, sound pairs pass, and every finding says why."""

from __future__ import annotations

from collections import Counter

import pytest

from mlx_finetuning.documents.checks import Checker
from mlx_finetuning.documents.pairs import PROBLEMS_JA
from mlx_finetuning.utils import facts
from support.pair_cases import Case, bad, good

COUNT = 300
CAUGHT, REFUSED = 0.98, 0.05


def problems(case: Case) -> list[str]:
    checker = Checker()
    if case.planted == "duplicate" and case.before:
        checker.take(case.before)
    return [problem.text_ja for problem in checker.check(case.pair, case.chunk).problems]


def test_planted_mistakes_are_caught() -> None:
    planted = list(bad(COUNT))
    missed = [case for case in planted if not problems(case)]
    kinds = Counter(case.planted for case in missed)
    told = "\n".join(f"{case.planted}: {case.pair}" for case in missed)
    assert len(planted) == COUNT
    assert 1 - len(missed) / COUNT >= CAUGHT, f"{kinds}\n{told}"


def test_sound_pairs_pass() -> None:
    sound = good(COUNT)
    refused = [(case, found) for case in sound if (found := problems(case))]
    told = "\n".join(f"{found}: {case.pair}" for case, found in refused)
    assert len(sound) == COUNT
    assert len(refused) / COUNT <= REFUSED, f"{len(refused)}\n{told}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("令和8年十月五日", "2026/10/05"),
        ("R8.10.5", "２０２６年１０月５日"),
        ("平成元年", "1989年"),
        ("1万2千円", "12,000円"),
        ("三千五百円", "３，５００円"),
        ("午後2時半", "14:30"),
        ("3割", "30％"),
        ("二〇二六年度", "2026年"),
        ("三ヶ月", "3か月"),
        ("3億5,000万円", "350000000円"),
        ("第二十条", "第20条"),
    ],
)
def test_notations_of_one_number_are_equal(one: str, other: str) -> None:
    assert facts.numbers(one) == facts.numbers(other) != frozenset()


@pytest.mark.parametrize("text", ["十分に確認する", "一時的に止める", "千葉へ行く", "第三者"])
def test_words_with_number_signs_are_no_numbers(text: str) -> None:
    assert not {number.value for number in facts.numbers(text)} - {3.0}


def test_words_that_begin_like_numbers_stay_words() -> None:
    said = facts.terms("千葉支店は一部休業、八百屋は二十分に")
    assert {"千葉支店", "一部休業", "八百屋", "20"} <= set(said)


def test_every_finding_has_words() -> None:
    found = {
        problem.code
        for case in bad(COUNT)
        for problem in Checker().check(case.pair, case.chunk).problems
    }
    assert found <= set(PROBLEMS_JA) and len(found) > 6
