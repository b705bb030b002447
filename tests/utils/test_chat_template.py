"""Chat templates that Ollama cannot take for others, and that render the same."""

from __future__ import annotations

from collections import Counter

import pytest
from jinja2 import Environment
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mlx_finetuning.utils.chat_template import ENOUGH, is_protected, protected
from support.chat_formats import FORMATS, Format, conversations

FORMS = pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))


def distance(one: str, other: str) -> int:
    """Levenshtein's edit distance over code points, or less of it where that is enough: no edit brings
    or takes more than one letter.
    """
    letters, others = Counter(one), Counter(other)
    at_least = max((letters - others).total(), (others - letters).total())
    if at_least >= ENOUGH:
        return at_least
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        left = row[0]
        row[0] = at
        for column, wanted in enumerate(other, 1):
            left, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, left + (letter != wanted)),
            )
    return row[-1]


def environment() -> Environment:
    """As transformers sets Jinja up."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    made.globals["raise_exception"] = lambda message: message
    return made


@FORMS
def test_no_known_template_is_nearer_than_ollama_looks(form: Format) -> None:
    # Ollama's list is its own; any template without Japanese is far enough, these as any other.
    template = protected(form.template)
    for known in FORMATS.values():
        if known.template.isascii() and len(known.template) < 450:
            assert distance(template, known.template) >= ENOUGH


@FORMS
def test_protected_template_renders_the_same(form: Format) -> None:
    words = {"bos_token": form.bos, "eos_token": form.eos}
    plain = environment().from_string(form.template)
    safe = environment().from_string(protected(form.template))
    for asks in (True, False):
        for messages in conversations(200, form.takes_system):
            given = {**words, "messages": messages, "add_generation_prompt": asks}
            assert safe.render(given) == plain.render(given)


@pytest.mark.parametrize(
    "template",
    [
        *("", "a", "a\n", "a\n\n", "a\r\n", "a  ", "a\n  ", "  ", "\n", "\t\n", "a\n \n"),
        *(
            "{% if true %}a{% endif %}\n",
            "{% if true %}a{% endif %}\n\n",
            "{% if true %}{% endif %}  ",
        ),
        *(
            "{%- if true -%}  a  {%- endif -%}\n  ",
            "a\n  {# x #}",
            "a\n  {{ 1 }}\n",
            "x {{ 1 -}}\n ",
        ),
    ],
)
def test_whitespace_at_the_end_stays_what_it_was(template: str) -> None:
    rendered = environment().from_string(template).render()
    assert environment().from_string(protected(template)).render() == rendered


def test_protecting_twice_changes_nothing() -> None:
    once = protected("{{ messages }}")
    assert is_protected(once)
    assert protected(once) == once


def test_template_with_much_japanese_needs_no_protection() -> None:
    template = "{{ 'あなたは誠実な日本人のアシスタントです。' * 1 }}" + "{# 説明 #}" * 50
    assert protected(template) == template
