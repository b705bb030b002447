"""Multiple choice (選択肢A to D with 正解, JCommonsenseQA, MMLU, ARC) as questions that list their choices, with
the right one as the answer: "B" alone teaches nothing."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from itertools import count
from typing import Any, NamedTuple

from mlx_finetuning.data_processor.findings import finding
from mlx_finetuning.data_processor.readers.column_content import SAMPLE, content_of
from mlx_finetuning.data_processor.readers.column_names import NameMatch, key, name_match
from mlx_finetuning.data_processor.readers.tables import Record, Table, cell_text
from mlx_finetuning.data_processor.values import parsed
from mlx_finetuning.language import _

_SERIES = re.compile(r"(?:選択肢|choice|option|肢|候補|op)(?P<label>\d{1,2}|[a-h]|[ア-ク])")
_LETTERS = ("abcdefgh", "アイウエオカキク", "12345678")
_LISTS = frozenset(("choices", "options", "選択肢", "endings", "候補"))
_ANSWERS = (
    *(
        "正解",
        "正答",
        "answer",
        "解答",
        "答え",
        "答",
        "answerkey",
        "correctanswer",
        "correct",
        "correctoption",
    ),
    *(
        "label",
        "正解番号",
        "正答番号",
        "解答番号",
        "answeridx",
        "answerindex",
        "gold",
        "cop",
        "target",
    ),
)
_FEWEST = 2
_SHOWN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class _Places(NamedTuple):
    """Where a table's multiple choice stands."""

    question: int
    answer: int
    choices: list[int]
    labels: list[str]
    """Of the columns; empty where one column holds a list."""


def unfold(table: Table) -> Table:
    """`table` itself, or with the choices in the question and the right one's words as the answer."""
    places = _places(table)
    if places is None:
        return table
    rows = [(row, values, *_choices(values, places)) for row, values in table.records]
    if not any(row[2] for row in rows):
        return table
    first, is_guess = _counted_from(rows, places)
    records: list[Record] = []
    unread: list[int] = []
    for row, values, texts, labels in rows:
        at = _right(values[places.answer], texts, labels, first)
        cells = list(values)
        if at is None:
            unread.append(row)
            cells[places.answer] = None  # a letter without its words is no answer
        elif at < len(texts):
            listed = [f"{_SHOWN[n]}. {text}" for n, text in enumerate(texts)]
            asked = cell_text(values[places.question]).rstrip()
            cells[places.question] = "\n".join((asked, "", *listed))
            cells[places.answer] = listed[at]
        records.append((row, cells))
    names = list(table.columns)
    answer = names[places.answer]
    shown = _("、").join(names[at] for at in places.choices)
    notes = [finding("CHOICES", columns=shown, answer=answer)]
    notes += [finding("CHOICES_COUNTED", first=first)] if is_guess else []
    notes += [finding("CHOICES_UNREAD", unread, answer=answer)] if unread else []
    names[places.answer] = answer if name_match(answer, "answer") is NameMatch.EXACT else "answer"
    kept = [at for at in range(len(names)) if at not in places.choices]
    return replace(
        table,
        columns=tuple(names[at] for at in kept),
        records=[(row, [cells[at] for at in kept]) for row, cells in records],
        findings=(*table.findings, *notes),
    )


def _places(table: Table) -> _Places | None:
    keys = [key(name) for name in table.columns]
    named = [
        at
        for at, name in enumerate(table.columns)
        if name_match(name, "question") >= NameMatch.HEAD
    ]
    # Below 問 there may be its number only, beside 問題.
    cells = {at: [values[at] for __, values in table.records[:SAMPLE]] for at in named}
    asking = [at for at in named if not content_of(cells[at]).is_nothing]
    question = next(iter([*asking, *named]), None)
    answer = next((keys.index(name) for name in _ANSWERS if name in keys), None)
    if question is None or answer is None:
        return None
    numbered = {
        at: match["label"] for at, name in enumerate(keys) if (match := _SERIES.fullmatch(name))
    }
    for letters in _LETTERS:
        run = [letter for letter in letters if letter in keys]
        if not numbered and len(run) > _FEWEST and letters.startswith("".join(run)):
            numbered = {keys.index(letter): letter for letter in run}
    numbered.pop(answer, None)
    if _FEWEST <= len(numbered) <= len(_SHOWN):
        return _Places(question, answer, [*numbered], [*numbered.values()])
    whole = next((at for at, name in enumerate(keys) if name in _LISTS), None)
    return None if whole is None else _Places(question, answer, [whole], [])


def _choices(values: list[Any], places: _Places) -> tuple[list[str], list[str]]:
    """The words of each choice and how it is called; nothing where there are no two."""
    if places.labels:
        pairs = [
            (text, label)
            for at, label in zip(places.choices, places.labels, strict=True)
            if (text := cell_text(values[at]).strip())
        ]
        return [text for text, __ in pairs], [label for __, label in pairs]
    value = values[places.choices[0]]
    value = parsed(value)[0] if isinstance(value, str) else value
    labels: list[str] = []
    if isinstance(value, dict):  # ARC: {"text": […], "label": […]}, or {"A": …, "B": …}
        if isinstance(value.get("text"), list):
            named = value.get("label")
            labels = [_folded(label) for label in named] if isinstance(named, list) else []
            value = value["text"]
        else:
            labels, value = [_folded(label) for label in value], [*value.values()]
    if not isinstance(value, list) or len(value) < _FEWEST or len(value) > len(_SHOWN):
        return [], []
    if not all(isinstance(each, str) for each in value):
        return [], []
    return value, labels if len(labels) == len(value) else []


def _counted_from(rows: list[Any], places: _Places) -> tuple[int, bool]:
    """The number of the first choice where they have none of their own, and whether that is a guess."""
    if any(labels for __, __, __, labels in rows):
        return 0, False
    numbers = [str(values[places.answer]).strip() for __, values, __, __ in rows]
    if not any(map(str.isdecimal, numbers)):
        return 0, False
    last = any(n == str(len(texts)) for n, (__, __, texts, __) in zip(numbers, rows, strict=True))
    return int(last and "0" not in numbers), not last and "0" not in numbers


def _right(value: Any, texts: list[str], labels: list[str], first: int) -> int | None:
    """Which choice a cell names: by its words, its label or its number."""
    said = cell_text(value).strip()
    if said in texts:
        return texts.index(said)
    folded = _folded(said)
    names = labels or [str(number) for number, __ in zip(count(first), texts, strict=False)]
    for called in (names, *_LETTERS[: 2 if not labels else 3]):
        if folded and folded in called and (at := list(called).index(folded)) < len(texts):
            return at
    return None


def _folded(label: Any) -> str:
    folded = unicodedata.normalize("NFKC", str(label)).casefold().strip(" .()")
    return re.sub(r"^(?:選択肢|option|choice)\s*|(?:番|\.0)$", "", folded)
