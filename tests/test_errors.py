"""Every error has a code, Japanese words, and the data that its words need where it is raised."""

from __future__ import annotations

import ast
import pickle
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlx_finetuning
from mlx_finetuning import errors
from mlx_finetuning.errors import DatasetNotFound, StudioError, UnexpectedError
from mlx_finetuning.messages import ErrorText, catalogue, describe

SOURCE = Path(mlx_finetuning.__file__).parent
LEAVES = {kind.__name__: kind for kind in StudioError.registry.values()}
JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龥]")


def placeholders(message: ErrorText) -> set[str]:
    parts = (message.what, message.why, message.next_step)
    fields = [name for part in parts for _, name, _, _ in string.Formatter().parse(part)]
    return {name for name in fields if name}


def raised() -> Iterator[tuple[str, type[StudioError], ast.Call]]:
    """Every `SomeError(…)` call of the package, with where it is."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                if name in LEAVES:
                    yield f"{path.relative_to(SOURCE)}:{node.lineno}", LEAVES[name], node


def test_every_code_has_words_and_every_entry_a_code() -> None:
    assert set(catalogue()) == set(StudioError.registry)


def test_no_two_errors_share_a_code() -> None:
    kinds = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = [kind.code for kind in kinds if issubclass(kind, StudioError) and kind.code]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("code", sorted(catalogue()))
def test_words_are_japanese_and_say_what_to_do(code: str) -> None:
    message = catalogue()[code]
    assert JAPANESE.search(message.what) and JAPANESE.search(message.next_step)
    assert message.why


def test_raised_errors_bring_the_data_their_words_need() -> None:
    calls = list(raised())
    missing = {
        place: sorted(wanted)
        for place, kind, call in calls
        if all(keyword.arg for keyword in call.keywords)
        and (wanted := placeholders(catalogue()[kind.code]) - {item.arg for item in call.keywords})
    }
    assert missing == {}
    assert len(calls) > 20


def test_raised_errors_take_no_positional_data() -> None:
    assert [place for place, _, call in raised() if call.args] == []


def test_error_survives_json_and_pickle() -> None:
    error = DatasetNotFound(name="d", available=["a", "b"])
    for copy in (StudioError.from_json(error.to_json()), pickle.loads(pickle.dumps(error))):
        assert type(copy) is DatasetNotFound
        assert copy.data == error.data


def test_unknown_code_becomes_the_unexpected_error() -> None:
    assert isinstance(StudioError.from_json({"code": "FROM_THE_FUTURE"}), UnexpectedError)


def test_lists_are_shown_as_words_and_missing_data_as_unknown() -> None:
    assert "a、b" in describe(DatasetNotFound(name="d", available=["a", "b"])).why
    assert "なし" in describe(DatasetNotFound(name="d", available=[])).why
    assert "不明" in describe(DatasetNotFound()).what


def test_braces_in_data_stay_text() -> None:
    assert "{0.__class__}" in describe(DatasetNotFound(name="{0.__class__}", available=[])).what
