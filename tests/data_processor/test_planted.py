"""Problems planted in a 5,000-row file: found at the right row, and clean rows left alone."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from random import Random

import pytest

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import inspect
from support.japanese_rows import ADJECTIVES, CATEGORIES, NOUNS, PLANTS, clean_rows, with_signs

ROWS = 5000
EACH = 40
"""Rows with each problem."""


class Planted:
    """A file with known problems, and what was found in it."""

    def __init__(self, folder: Path) -> None:
        rng = Random(11)
        rows = with_signs(clean_rows(ROWS))
        self.wanted: dict[str, set[int]] = {}
        free = list(range(200, ROWS))
        rng.shuffle(free)

        def taken(code: str) -> list[int]:
            chosen = [free.pop() for _ in range(EACH)]
            self.wanted[code] = {at + 2 for at in chosen}
            return chosen

        for code, plant in PLANTS.items():
            for at in taken(code):
                rows[at] = plant(rows[at], rng)
        # These repeat rows from the beginning of the file, which stay clean themselves.
        for first, at in enumerate(taken("DUPLICATE")):
            question, answer, category = rows[first]
            rows[at] = [question.replace("？", "?"), f" {answer}", category]
        for first, at in enumerate(taken("NEAR_DUPLICATE"), EACH):
            question, answer, category = rows[first]
            rows[at] = [f"すみません、{question}", answer, category]
        for first, at in enumerate(taken("CONFLICT"), 2 * EACH):
            rows[at] = [
                rows[first][0],
                "いいえ、そのような記録はありません。" + rows[at][1],
                "営業",
            ]
            self.wanted["CONFLICT"].add(first + 2)
        evaluation = [_evaluation_question(rng) for _ in range(60)]
        for question, at in zip(evaluation, taken("EVALUATION_SET"), strict=False):
            rows[at][0] = rng.choice(("", "次の問いに答えてください。")) + question
        for at in taken("CATEGORY_IMBALANCE"):
            rows[at][2] = "珍しい"
        self.source = folder / "planted.csv"
        self.evaluation = folder / "evaluation.csv"
        _write(self.source, [["質問", "回答", "カテゴリ"], *rows])
        _write(self.evaluation, [["input", "output"], *([text, "模範解答"] for text in evaluation)])
        self.lines = _lines(rows)
        self.found = self._findings()

    def _findings(self) -> dict[str, set[int]]:
        settings = PrepareConfig(evaluation_sets=(str(self.evaluation),))
        found: defaultdict[str, set[int]] = defaultdict(set)
        for item in inspect(self.source, config=settings).findings:
            found[item.code].update(self.lines[row] for row in item.rows)
        return found


def _evaluation_question(rng: Random) -> str:
    nouns = rng.sample(NOUNS, 3)
    form = rng.choice(
        ("{}と{}の違いを、{}を例に小学生へ説明して", "{}、{}、{}の順に並べた理由を200字で述べよ")
    )
    return form.format(*(f"{rng.choice(ADJECTIVES)}{noun}" for noun in nouns))


def _write(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)


def _lines(rows: list[list[str]]) -> dict[int, int]:
    """Line of the file → number of the row, for rows that span several lines."""
    lines, line = {}, 2
    for number, row in enumerate(rows, 2):
        lines[line] = number
        line += 1 + sum(cell.count("\n") for cell in row)
    return lines


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(tmp_path_factory.mktemp("planted"))


KINDS = [
    *PLANTS,
    *("DUPLICATE", "NEAR_DUPLICATE", "CONFLICT", "EVALUATION_SET", "CATEGORY_IMBALANCE"),
]


@pytest.mark.parametrize("code", KINDS)
def test_planted_problem_is_found_at_its_row(planted: Planted, code: str) -> None:
    wanted = planted.wanted[code]
    missed = wanted - planted.found[code]
    assert len(wanted) >= EACH
    assert len(missed) <= 0.01 * len(wanted), sorted(missed)


def test_clean_rows_raise_no_alarm(planted: Planted) -> None:
    with_problems = set().union(*planted.wanted.values())
    alarms = {
        code: rows - with_problems for code, rows in planted.found.items() if rows - with_problems
    }
    clean = ROWS - len(with_problems)
    assert len(set().union(*alarms.values())) <= 0.01 * clean, alarms


def test_rows_with_one_problem_are_not_called_another(planted: Planted) -> None:
    wrong = sum(
        row not in planted.wanted.get(code, ())
        for code, rows in planted.found.items()
        for row in rows
    )
    assert wrong <= 0.01 * ROWS


def test_categories_are_balanced_where_nothing_is_planted(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    _write(source, [["質問", "回答", "カテゴリ"], *clean_rows(300)])
    assert len(CATEGORIES) == 3
    assert inspect(source).findings == ()


def test_chats_out_of_order_are_found_among_five_thousand(tmp_path: Path) -> None:
    rng = Random(13)
    wrong_orders = (
        *(("assistant", "user"), ("user", "user", "assistant"), ("user", "assistant", "user")),
        *(
            ("user", "system", "assistant"),
            ("system", "assistant"),
            ("user", "assistant", "assistant"),
        ),
    )
    right_orders = (
        *(("user", "assistant"), ("system", "user", "assistant")),
        *(("user", "assistant") * 2, ("user", "assistant", "tool", "assistant")),
    )
    wrong = set(rng.sample(range(1, ROWS + 1), EACH))
    source = tmp_path / "chats.jsonl"
    with source.open("w", encoding="utf-8") as stream:
        for number, row in enumerate(clean_rows(ROWS), 1):
            roles = rng.choice(wrong_orders if number in wrong else right_orders)
            turns = [
                {"role": role, "content": f"{row[at % 2]}{at}"} for at, role in enumerate(roles)
            ]
            stream.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
    found = {item.code: set(item.rows) for item in inspect(source).findings}
    assert found["ROLE_ORDER"] == wrong
    others = set().union(*(rows for code, rows in found.items() if code != "ROLE_ORDER"))
    assert len(others) <= 0.01 * ROWS, found.keys()
