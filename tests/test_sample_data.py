"""The sample files: as many rows and phrasings as promised, and fit to be learned from."""

from __future__ import annotations

import csv
from collections import defaultdict

import pytest

from mlx_finetuning.data_processor import SAMPLE_DATA, inspect
from mlx_finetuning.data_processor.checks.grams import gram_sets
from mlx_finetuning.data_processor.checks.near import near_groups
from mlx_finetuning.utils.japanese_utils import comparison_key

EXTENDED = SAMPLE_DATA.with_name("sample_data_extended.csv")


def _facts(name: str) -> dict[str, list[tuple[str, str, str]]]:
    with SAMPLE_DATA.with_name(name).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    facts = defaultdict(list)
    for row in rows:
        facts[row["グループ"]].append((row["質問"], row["回答"], row["カテゴリ"]))
    return dict(facts)


@pytest.mark.parametrize(
    ("name", "rows", "facts", "phrasings"),
    [(SAMPLE_DATA.name, 64, 16, 4), (EXTENDED.name, 200, 71, 3)],
)
def test_sample_has_its_facts_and_phrasings(
    name: str, rows: int, facts: int, phrasings: int
) -> None:
    found = _facts(name)
    assert len(found) == facts
    assert sum(map(len, found.values())) >= rows
    assert min(map(len, found.values())) >= phrasings
    answers = [{answer for _, answer, _ in rows_of} for rows_of in found.values()]
    assert all(len(same) == 1 for same in answers), "a fact has one answer, to the letter"
    assert len(set().union(*answers)) == facts


@pytest.mark.parametrize("name", [SAMPLE_DATA.name, EXTENDED.name])
def test_phrasings_differ_in_more_than_a_few_characters(name: str) -> None:
    questions = [comparison_key(row[0]) for rows in _facts(name).values() for row in rows]
    assert near_groups(gram_sets(questions)).labels.tolist() == list(range(len(questions)))


def test_sample_answers_are_short_sentences() -> None:
    for rows in _facts(SAMPLE_DATA.name).values():
        assert 8 <= len(rows[0][1]) <= 30
        assert rows[0][1].endswith("。")


@pytest.mark.parametrize("source", [SAMPLE_DATA, EXTENDED])
def test_sample_is_clean(source: object) -> None:
    found = inspect(source)  # type: ignore[arg-type]
    # The invented company's own telephone and mail are the only thing to look at.
    assert {item.code for item in found.findings} == {"PERSONAL_DATA"}
    assert not any(step.rows for step in found.cleaning)
    assert found.unmapped == ()
