"""Schemas that cannot be kept are refused by what is in them. What is kept, llama.cpp shows in
`test_servers`."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_finetuning.errors import RequestRefused
from mlx_finetuning.runtime.json_grammar import grammar

CHAIN = {str(number): {"$ref": f"#/$defs/{number + 1}"} for number in range(1500)}
REFUSED: dict[str, Any] = {
    "pattern": {"type": "string", "pattern": "a+"},
    "minimum": {"properties": {"a": {"items": {"minimum": 3}}}},
    "type は": {"type": "nonsense"},
    "anyOf」": {"anyOf": [{"type": "null"}], "properties": {"a": {}}},
    "$ref」": {"$ref": "#/$defs/a", "minItems": 2, "$defs": {"a": {}}},
    "#/x/y": {"$ref": "#/x/y"},
    "http": {"$ref": "http://127.0.0.1/x.json"},
    "空": {"enum": []},
    "allOf": {"allOf": [{"type": "null"}, {"type": "string"}]},
    "required の「b」": {"properties": {"a": {}}, "required": ["b"]},
    "required の「[1, None]」": {"properties": {"a": {}}, "required": [[1, None]]},
    "properties は": {"properties": 5},
    "minItems": {"type": "array", "minItems": -1},
    "maxLength": {"maxLength": 10**9},
    "minLength": {"minLength": 5, "maxLength": 4},
    "多すぎ": {"properties": {str(number): {} for number in range(3000)}},
    "深すぎ": {"$ref": "#/$defs/0", "$defs": {**CHAIN, "1500": {}}},
    "true": {"properties": {"a": False}},
}


@pytest.mark.parametrize(("named", "schema"), REFUSED.items(), ids=REFUSED)
def test_what_is_not_understood_is_refused_by_name(named: str, schema: Any) -> None:
    with pytest.raises(RequestRefused) as raised:
        grammar(schema)
    (problem,) = raised.value.data["problems"]
    assert problem.startswith("response_format") and named in problem


def test_annotations_change_nothing() -> None:
    noted = {"type": "integer", "title": "年齢", "description": "x", "default": 3}
    assert grammar(noted) == grammar({"type": "integer"})
    assert grammar({}) == grammar({"description": "何でも"})
