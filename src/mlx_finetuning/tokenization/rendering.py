"""Chat templates as programs: rendered as transformers renders them, without transformers.

A template comes with a model, from anybody: it runs in Jinja's sandbox, sees plain JSON, and gets the
functions that templates are written for. transformers' own renderer cannot be had without importing all
of it, which takes longer than the training of a small run; a test compares both.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which messages carry reasoning; templates read the first, gpt-oss's the second."""


@functools.lru_cache(maxsize=16)
def compiled(template: str) -> jinja2.Template:
    """Ready to be rendered. Raises jinja2's TemplateSyntaxError."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": _Dict(),
        "namespace": _PublicNamespace,
    }
    return environment.from_string(template)


def render(
    template: str, messages: Sequence[Mapping[str, object]], variables: Mapping[str, Any]
) -> str:
    """A conversation as text. Raises what the template does: jinja2's errors and Python's own."""
    told = {"tools": None, "documents": None, **variables}
    return compiled(template).render(messages=[_with_reasoning(turn) for turn in messages], **told)


def _with_reasoning(message: Mapping[str, object]) -> Mapping[str, object]:
    said = [message[name] for name in REASONING if message.get(name) is not None]
    return {"thinking": said[0], **message, REASONING[0]: said[0]} if said else message


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Without the escapes for HTML of Jinja's own filter."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


class _Generation(Extension):
    """`{% generation %}`: marks what the assistant says, for transformers; here only its content."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own attribute)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """What stands between the marks, in a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict` without the attributes of a class, by which a template could leave its sandbox."""

    def __call__(self, *pairs: Any, **named: Any) -> dict[Any, Any]:
        return dict(*pairs, **named)

    def fromkeys(self, *values: Any) -> dict[Any, Any]:
        """As Python's own."""
        return dict.fromkeys(*values)


class _PublicNamespace(Namespace):
    """Keeps no attribute of an object's inside: their names begin with an underscore."""

    def __init__(*values: Any, **named: Any) -> None:
        self, *pairs = values  # so that a template may name an attribute `self`
        attributes = dict(*pairs, **named)
        for name in attributes:
            _require_public(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _require_public(name)
        super().__setitem__(name, value)


def _require_public(name: str) -> None:
    if name.startswith("_"):
        raise SecurityError(f"a chat template may not keep {name!r} in a namespace")
