"""A JSON schema as a grammar in llama.cpp's notation (GBNF), so that an answer cannot but fit it.

llama.cpp's own way from a schema lets an answer go unconstrained, and says nothing, where it does not
understand the schema. Here, what is not understood is refused by its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from mlx_finetuning.errors import RequestRefused
from mlx_finetuning.language import _

MOST_REPEATS = 1000
"""llama.cpp takes no grammar that repeats a thing much more often."""
MOST_RULES = 2000
BASIC = r"""
ws ::= " "? | "\n" " "{0,16}
char ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" ([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}))
string ::= "\"" char* "\""
integer ::= "-"? ("0" | [1-9] [0-9]{0,15})
number ::= integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?
boolean ::= "true" | "false"
null ::= "null"
value ::= object | array | string | number | boolean | null
member ::= string ":" ws value
object ::= "{" ws (member ws ("," ws member ws)*)? "}"
array ::= "[" ws (value ws ("," ws value ws)*)? "]"
"""
"""At most one empty line at a time: weak models would write nothing else."""
TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
KEYWORDS = {
    *("type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions"),
    *("properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
    *("minLength", "maxLength"),
}
NOTES = {
    *("title", "description", "default", "examples", "example", "deprecated", "readOnly"),
    *("writeOnly", "$schema", "$id", "$comment", "discriminator"),
}
"""Keywords that say nothing about what fits."""

ALONE = {
    **dict.fromkeys(("$ref", "anyOf", "oneOf", "allOf"), ()),
    **dict.fromkeys(("enum", "const"), ("type",)),
}
"""Keywords that say all by themselves, and what may stand beside them."""
IMPLIED = {
    **dict.fromkeys(("properties", "required", "additionalProperties"), "object"),
    **dict.fromkeys(("items", "minItems", "maxItems"), "array"),
    **dict.fromkeys(("minLength", "maxLength"), "string"),
}
"""The type of a schema that names none."""

Schema = Mapping[str, Any]


def grammar(schema: Schema) -> str:
    """The grammar whose texts are JSON that fits `schema`: not all such texts, since objects with
    named properties have no others, in their order. Raises RequestRefused."""
    try:
        return _Grammar(schema).text()
    except RecursionError as error:
        raise _refused(_("入れ子が深すぎます。")) from error


class _Grammar:
    def __init__(self, schema: Schema) -> None:
        self._whole = schema
        self._rules: dict[str, str] = {}
        self._references: dict[str, str] = {}

    def text(self) -> str:
        root = self._rule(self._whole)
        rules = [f"{name} ::= {content}" for name, content in self._rules.items()]
        return f"root ::= {root}\n" + "\n".join(rules) + BASIC

    def _named(self, content: str | Callable[[], str]) -> str:
        """The name of a rule of its own. A function as its content is called when the name is known,
        since it may lead back to it."""
        if len(self._rules) == MOST_RULES:
            raise _refused(_("中身が多すぎます。"))
        name = f"r{len(self._rules)}"
        self._rules[name] = ""
        self._rules[name] = content if isinstance(content, str) else content()
        return name

    def _rule(self, schema: Any) -> str:
        """The name of a rule, or a literal."""
        if schema is True or schema == {}:
            return "value"
        if not isinstance(schema, dict):
            raise _refused(_("スキーマは、オブジェクトか true にしてください。"))
        for keyword in schema:
            if keyword not in KEYWORDS and keyword not in NOTES:
                raise _refused(
                    _("「{keyword}」には対応していません。").format(keyword=keyword[:80])
                )
        stated = [keyword for keyword in ALONE if keyword in schema]
        if not stated:
            return self._typed(schema)
        (keyword, *more) = stated
        beside = set(schema) & KEYWORDS - {keyword, "$defs", "definitions", *ALONE[keyword]}
        if more or beside:
            raise _refused(
                _("「{keyword}」は、ほかの条件と一緒には使えません。").format(keyword=keyword)
            )
        return self._alone(keyword, schema[keyword])

    def _alone(self, keyword: str, value: Any) -> str:
        if keyword == "$ref":
            return self._reference(str(value))
        if keyword in ("enum", "const"):
            return self._alternatives(value if keyword == "enum" else [value], _literal)
        if keyword == "allOf" and (not isinstance(value, list) or len(value) != 1):
            raise _refused(_("allOf は、1つだけのときに使えます。"))
        return self._alternatives(value, self._rule)

    def _typed(self, schema: Schema) -> str:
        implied = next((kind for keyword, kind in IMPLIED.items() if keyword in schema), None)
        kind = schema.get("type", implied)
        if kind is None:
            return "value"
        if isinstance(kind, list):
            return self._alternatives(kind, lambda one: self._typed({**schema, "type": one}))
        if kind not in TYPES:
            raise _refused(
                _("type は {types} のどれかです。").format(types=_("・", "values").join(TYPES))
            )
        if kind == "object":
            return self._object(schema)
        if kind == "array" and {"items", "minItems", "maxItems"} & set(schema):
            return self._array(schema)
        if kind == "string" and {"minLength", "maxLength"} & set(schema):
            least, most = _bounds(schema, "minLength", "maxLength")
            return self._named(rf'"\"" char{{{least},{most}}} "\""')
        return str(kind)

    def _object(self, schema: Schema) -> str:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise _refused(_("properties はオブジェクト、required は一覧にしてください。"))
        if missing := [name for name in required if name not in list(properties)]:
            raise _refused(
                _("required の「{missing}」が properties にありません。").format(
                    missing=str(missing[0])[:80]
                )
            )
        if properties:
            members = self._members(properties, required)
            return self._named(f'"{{" ws {members} "}}"')
        others = schema.get("additionalProperties", True)
        if others is False:
            return self._named('"{" ws "}"')
        value = self._rule(others)
        member = f'string ":" ws {value} ws'
        return self._named(f'"{{" ws ({member} ("," ws {member})*)? "}}"')

    def _members(self, properties: Schema, required: list[Any]) -> str:
        """An object's members in their order, of which the optional ones may be left out."""
        first = later = '""'
        for name, schema in reversed(list(properties.items())):
            member = f'{_literal(name)} ":" ws {self._rule(schema)} ws {later}'
            # What follows where nothing has been written yet, and where something has.
            skipped = ("", "") if name in required else (f" | {first}", f" | {later}")
            first, later = (
                self._named(f"{member}{skipped[0]}"),
                self._named(f'"," ws {member}{skipped[1]}'),
            )
        return first

    def _array(self, schema: Schema) -> str:
        least, most = _bounds(schema, "minItems", "maxItems")
        item = self._rule(schema.get("items", True))
        more = f'("," ws {item} ws){{{max(0, least - 1)},{int(most) - 1 if most else ""}}}'
        filled = f"{item} ws {more}" if most != "0" else '""'
        return self._named(f'"[" ws {filled if least else f"({filled})?"} "]"')

    def _reference(self, pointer: str) -> str:
        if pointer in self._references:
            return self._references[pointer]
        found: Any = self._whole
        start, *steps = pointer.split("/")
        for step in steps:
            found = found.get(step) if isinstance(found, dict) else None
        if start != "#" or found is None:
            raise _refused(_("$ref の「{pointer}」がありません。").format(pointer=pointer[:80]))

        def content() -> str:
            self._references[pointer] = f"r{len(self._rules) - 1}"
            return self._rule(found)

        return self._named(content)

    def _alternatives(self, values: Any, rule: Callable[[Any], str]) -> str:
        if not isinstance(values, list) or not values:
            raise _refused(_("enum・anyOf・oneOf・type の一覧が空です。"))
        return self._named(lambda: " | ".join(rule(value) for value in values))


def _literal(value: Any) -> str:
    """A JSON value as GBNF quotes it."""
    text = json.dumps(value, ensure_ascii=False)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bounds(schema: Schema, least: str, most: str) -> tuple[int, str]:
    """How often something is repeated, at least and, where that is said, at most."""
    values = [schema.get(least, 0), schema.get(most, MOST_REPEATS)]
    for name, value in zip((least, most), values, strict=True):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_REPEATS:
            raise _refused(
                _("{name} は 0〜{most} の整数にしてください。").format(name=name, most=MOST_REPEATS)
            )
    if values[0] > values[1]:
        raise _refused(
            _("{least} が {most} より大きくなっています。").format(least=least, most=most)
        )
    return values[0], str(values[1]) if most in schema else ""


def _refused(reason: str) -> RequestRefused:
    return RequestRefused(problems=[_("response_format: schema の{reason}").format(reason=reason)])
