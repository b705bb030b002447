"""JSON of other programs as a list of records: pandas' orientations, lists inside objects, SQuAD's
paragraphs, rows of cells, one conversation alone. Knows shapes; what the columns mean is judged later."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from mlx_finetuning.data_processor.readers.cells import sentence_like
from mlx_finetuning.data_processor.readers.column_names import (
    LANGUAGES,
    NAMES,
    NameMatch,
    key,
    name_match,
)
from mlx_finetuning.data_processor.readers.roles import ROLE_KEYS, TEXT_KEYS, role_of

Object = dict[str, Any]
"""An object of JSON."""
_DEEPEST = 3
_FEWEST_IN_MAP = 8
"""Names from which on an object is no single record whose fields are texts."""
_NAMED = frozenset(key(name) for names in NAMES.values() for name in names)


def records(value: Object) -> list[Any]:
    """The records that an object holds; itself, where it holds none."""
    if any(_are_messages(item) and key(name) in NAMES["messages"] for name, item in value.items()):
        return [value]
    names, rows = value.get("columns"), value.get("data", value.get("rows"))
    if (
        isinstance(names, list)
        and isinstance(rows, list)
        and (names and rows)
        and all(isinstance(row, list) and len(row) == len(names) for row in rows)
    ):  # pandas' `split`
        return [dict(zip(map(str, names), row, strict=True)) for row in rows]
    if len(value) > 1 and all(map(_holds_turns, value.values())):  # by their ids
        return list(value.values())
    only = next(iter(value.values())) if len(value) == 1 else None
    if isinstance(only, dict) and len(only) > 1 and all(map(_is_record, only.values())):
        return list(map(opened, only.values()))
    inner = _lists(value, 0)
    if len(inner) > 1:  # beside the questions, tags and the like
        inner = [each for each in inner if isinstance(each[0], dict) and _is_record(each[0])]
    if len(inner) == 1:
        return table(inner[0])
    named = {name: item for name, item in value.items() if any(item is each for each in inner)}
    if are_splits(value):
        return [
            {"split": name, **opened(each)}
            for name, item in value.items()
            for each in (item if isinstance(item, list) else records(item))
        ]
    if len(named) == len(value) and not {*map(key, named)} & SPLITS:  # category → its questions
        return [{"category": name, **opened(each)} for name, item in named.items() for each in item]
    if len(value) > 1 and _is_map(value):
        return [{"質問": question, "回答": answer} for question, answer in value.items()]
    by_category = [(name, item) for name, item in value.items() if _is_map(item)]
    if len(by_category) == len(value) > 1 and not _holds_columns(value):
        return [
            {"category": name, "質問": question, "回答": answer}
            for name, item in by_category
            for question, answer in item.items()
        ]
    columns = list(value.values())
    if len(columns) > 1 or (columns and isinstance(columns[0], dict) and len(columns[0]) > 1):
        if all(isinstance(column, dict) for column in columns):
            return _of_objects(value)
        are_lists = all(isinstance(column, list) for column in columns)
        if are_lists and len({*map(len, columns)}) == 1 and columns[0] and tells_names(value):
            return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    return [value]


def table(items: list[Any]) -> list[Any]:
    """A list's records: objects as they are, paragraphs of SQuAD as questions, rows of cells under their
    header."""
    if items and all(isinstance(item, list) for item in items):
        if all(_are_messages(item) for item in items):
            return [{"messages": item} for item in items]
        return _under_header(items)
    if len(items) > 1 and all(isinstance(item, dict) and len(item) == 1 for item in items):
        merged = {q: a for item in items for q, a in item.items()}
        if len(merged) == len(items) and _is_map(merged):
            return [{"質問": question, "回答": answer} for question, answer in merged.items()]
    if any(isinstance(item, dict) and _is_article(item) for item in items):
        return [record for item in items for record in _questions(item)]
    if items and all(isinstance(item, dict) and not tells_names(item) for item in items):
        parts = [_lists(item, _DEEPEST) for item in items]
        if all(
            len(lists) == 1
            and _is_record(lists[0][0])
            and not _are_messages(lists[0])
            and not is_segment(lists[0][0])
            for lists in parts
        ):
            return [  # categories with their questions
                {name: text for name, text in item.items() if isinstance(text, str)} | opened(each)
                for item, (inner,) in zip(items, parts, strict=True)
                for each in inner
            ]
    return items


def is_segment(each: Any) -> bool:
    """Whether it is a piece of text that says whether it is learned, as Axolotl writes them."""
    return (
        isinstance(each, dict)
        and isinstance(each.get("label"), bool)
        and isinstance(each.get("text"), str)
    )


def opened(item: Object) -> Object:
    """An object, with the one inside it that holds its columns (`fields`, `row`, `_source`) laid open."""
    inner = [each for each in item.values() if isinstance(each, dict) and _holds_columns(each)]
    beside = [name for name, each in item.items() if not isinstance(each, dict)]
    if len(inner) == 1 and tells_names(beside) < 2:
        return {name: each for name, each in item.items() if each is not inner[0]} | inner[0]
    return item


def _is_map(value: Any) -> bool:
    """Whether an object's names are questions and its values their answers, or lists of them."""
    if not isinstance(value, dict) or not all(map(_are_texts, value.values())):
        return False
    if sum(map(sentence_like, value)) * 2 >= max(1, len(value)):
        return True
    if not all(isinstance(text, str) for text in value.values()):
        return False
    # What numbers things (0, q12, 2024-04-01), as the names of an index do, asks nothing.
    are_ids = all(re.fullmatch(r"[A-Za-z]{0,4}[\d_:./-]+", str(name)) for name in value)
    # Terms and requests (打刻を修正したい) ask, too, where sentences stand beside so many of them.
    is_long = len(value) >= _FEWEST_IN_MAP and not tells_names(value) and not are_ids
    return is_long and sum(map(sentence_like, value.values())) * 4 >= len(value) * 3


def _are_texts(value: Any) -> bool:
    is_list = isinstance(value, list) and bool(value)
    return isinstance(value, str) or (is_list and all(isinstance(each, str) for each in value))


def _holds_columns(item: Object) -> bool:
    return tells_names(item) > 1 or sum(key(str(name)) in LANGUAGES for name in item) > 1


def _is_record(item: Any) -> bool:
    """Whether it is a question with its answer, or a message with its writer."""
    return isinstance(item, dict) and (
        _holds_columns(opened(item)) or (len(item) > 2 and bool({*item} & {*TEXT_KEYS[:4]}))
    )


SPLITS = frozenset("train training valid validation val dev eval test".split())
"""Names of parts of a data set."""


def are_splits(value: Any) -> bool:
    """Whether an object holds nothing but the parts of a data set, each with its records."""
    return (
        isinstance(value, dict)
        and len(value) > 1
        and {*map(key, value)} <= SPLITS
        and all(
            (isinstance(part, list) and all(isinstance(each, dict) for each in part))
            or (isinstance(part, dict) and _holds_columns(part))
            for part in value.values()
        )
    )


def _are_messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(message, dict) for message in value)
        and bool({*value[0]} & {*TEXT_KEYS})
        # People's names are those of a log, not of a conversation with a model.
        and ("role" in value[0] or any(role_of(value[0].get(name)) for name in ROLE_KEYS))
    )


def turns_in_log(item: Any) -> list[str]:
    """What is said in turn in an object's `log` of messages without speakers (MultiWOZ 2.0 and 2.1), of
    which the user's is the first; nothing where there is none."""
    said = item.get("log") if isinstance(item, dict) else None
    if not isinstance(said, list) or len(said) < 2:
        return []
    if not all(isinstance(each, dict) and not {*each} & {*ROLE_KEYS} for each in said):
        return []
    texts = [each.get("text") for each in said]
    return [text for text in texts if isinstance(text, str)] if None not in texts else []


def _holds_turns(item: Any) -> bool:
    return isinstance(item, dict) and (
        bool(turns_in_log(item))
        or any(
            _are_messages(each) and key(name) in NAMES["messages"] for name, each in item.items()
        )
    )


def _lists(value: Object, depth: int) -> list[list[Any]]:
    """The lists of records inside, the outermost ones."""
    found = [
        item
        for item in value.values()
        if isinstance(item, list)
        and item
        and (
            all(isinstance(each, dict) for each in item)
            or (len(item) > 1 and all(isinstance(each, list) for each in item))
        )
    ]
    if found or depth == _DEEPEST:
        return found
    return [
        inner
        for item in value.values()
        if isinstance(item, dict)
        for inner in _lists(item, depth + 1)
    ]


def _of_objects(value: dict[str, Object]) -> list[Any]:
    """pandas' `columns` (name → index → cell) or `index` (index → name → cell)."""
    if all(_holds_columns(item) for item in value.values()):
        return list(value.values())
    inner = list(dict.fromkeys(name for item in value.values() for name in item))
    inside = tells_names(inner)
    if inside >= max(1, tells_names(value)) or (
        not tells_names(value) and all(str(name).isdigit() for name in value)
    ):
        return list(value.values())
    if not tells_names(value) and not all(str(name).isdigit() for name in inner):
        return [value]
    return [{name: cells.get(at) for name, cells in value.items()} for at in inner]


def tells_names(names: Iterable[str]) -> int:
    """How many of the names are those of columns."""
    return sum(
        key(str(name)) in _NAMED
        or any(name_match(str(name), role) >= NameMatch.HEAD for role in ("question", "answer"))
        for name in list(names)[:50]
    )


def _under_header(rows: list[list[Any]]) -> list[Any]:
    """Rows of cells (pandas' `values`, Google Sheets) with the names of the first, if it has names."""
    first = rows[0]
    has_header = all(isinstance(cell, str) for cell in first) and tells_names(first) > 0
    width = max(map(len, rows))
    names = [*first] if has_header else []
    names += [f"列{at + 1}" for at in range(len(names), width)]
    return [dict(zip_longest(names, row)) for row in (rows[1:] if has_header else rows)]


def _is_article(item: Object) -> bool:
    paragraphs = item.get("paragraphs")
    return isinstance(paragraphs, list) and any(
        isinstance(paragraph, dict) and "qas" in paragraph for paragraph in paragraphs
    )


def _questions(item: Any) -> list[Object]:
    """SQuAD's and JSQuAD's questions, each with its paragraph."""
    if not isinstance(item, dict) or not _is_article(item):
        return [item]
    return [
        {"question": question.get("question"), "answers": question.get("answers")}
        | {"context": paragraph.get("context"), "title": item.get("title")}
        for paragraph in item["paragraphs"]
        for question in paragraph.get("qas", ())
        if isinstance(question, dict)
    ]
