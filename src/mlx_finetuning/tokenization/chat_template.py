"""The one template by which a run's conversations become text: in training, MLX, GGUF and Ollama.

It is the model's own template with what would else differ between places and days settled inside it:
dates are pinned, the thinking switch is set, a system text is folded where the family has none, and the
prompt goes on to where the answer begins. Being a template itself, it needs no help from whoever
renders it. Found by rendering sentences that no template contains.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_finetuning.errors import ChatTemplateUnusable, ConversationRefused
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import _
from mlx_finetuning.tokenization import reasoning
from mlx_finetuning.tokenization.reasoning import Reasoning
from mlx_finetuning.utils.chat_template import appended

PINNED_DATE = (2026, 1, 1)
"""For templates that write today's date and have none of their own to fall back on."""
SWITCHES = ("enable_thinking", "thinking")
"""Variables by which templates let callers switch reasoning on and off."""
FOLDED = (
    "{% if messages and messages[0]['role'] == 'system' %}"
    "{% if messages|length > 1 and messages[1]['role'] == 'user' %}"
    "{% set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' + "
    "messages[1]['content']}] + messages[2:] %}{% endif %}{% endif %}\n"
)
"""Puts a system text before the first question, as Gemma 3's own template does."""
NO_TOOLS = "{% set tools = tools or [] %}\n"
"""For templates that are made for tools alone."""

Message = JsonObject
Tools = Sequence[JsonObject]
_QUESTION, _ANSWER, _SYSTEM = "Zqu3stion", "Zansw3r", "Zsyst3m"
_USER = {"role": "user", "content": _QUESTION}
_ASSISTANT = {"role": "assistant", "content": _ANSWER}
_STRFTIME = re.compile(r"""strftime_now\(\s*(?:"([^"]*)"|'([^']*)')\s*\)""")
_DATE_DEFAULT = re.compile(r"""set\s+date_string\s*=\s*(?:"([^"]*)"|'([^']*)')""")


@dataclass(frozen=True)
class ChatTemplate:
    """A settled template, and what is known of it."""

    text: str
    thinks: bool
    """Whether answers are trained and asked for with their reasoning."""
    reasoning: Reasoning | None
    """How the model writes reasoning; None if its template knows of none."""
    takes_system: bool
    end: str
    """What the template writes right behind an answer."""


def render(
    template: str,
    messages: Sequence[Message],
    named: Mapping[str, str],
    *,
    ask: bool,
    tools: Tools | None = None,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """A conversation as text; with `ask`, ready for the assistant to answer.

    named: bos, eos, unk, pad → text; variables: what else the template is told. Raises ConversationRefused with the template's own reason.
    """
    from jinja2.exceptions import TemplateError

    from mlx_finetuning.tokenization import rendering

    special = {f"{name}_token": text for name, text in named.items()}
    present = [{key: item for key, item in turn.items() if item is not None} for turn in messages]
    try:
        told = {"tools": list(tools) if tools else None, "add_generation_prompt": ask, **special}
        return rendering.render(template, present, {**told, **(variables or {})})
    except (
        *(TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError),
        # Compilers give up on code that is nested too deep with these.
        *(RuntimeError, AssertionError, SyntaxError, MemoryError),
    ) as error:
        raise ConversationRefused(reason=f"{type(error).__name__}: {error}") from error


def settled(original: str, named: Mapping[str, str], *, thinks: bool = False) -> ChatTemplate:
    """The template to use for `original`, the folder's own. Idempotent.

    Raises ChatTemplateUnusable where a question or an answer does not come through,
    ConversationRefused where nothing can be rendered, with or without tools.
    """
    text = _pinned(original)
    try:
        render(text, [_USER], named, ask=True)
    except ConversationRefused:
        text = NO_TOOLS + text
        render(text, [_USER], named, ask=True)
    text = _switched(text, named, thinks)
    # A system text is folded where it would not come through otherwise.
    takes_system = False
    for candidate in (text, FOLDED + text):
        with contextlib.suppress(ConversationRefused):
            asked = [{"role": "system", "content": _SYSTEM}, _USER]
            prompt = render(candidate, asked, named, ask=True)
            if _SYSTEM in prompt and _QUESTION in prompt:
                text, takes_system = candidate, True
                break
    style = reasoning.style(original)
    lead, end = _around_answer(text, named)
    prompt = render(text, [_USER], named, ask=True)
    if not thinks:
        # A space stays with the answer, whose first token it is a part of.
        addition = lead if lead.strip(" ") else ""
        addition += reasoning.closing(prompt + addition)
        if addition:
            statement = (
                f"{{% if add_generation_prompt %}}{{{{ {_literal(addition)} }}}}{{% endif %}}"
            )
            text = appended(text, statement)
    return ChatTemplate(text, thinks, style, takes_system, end)


def _literal(text: str) -> str:
    """A string constant as Jinja and llama.cpp read it."""
    return json.dumps(text, ensure_ascii=False)


# --- dates -------------------------------------------------------------------------------


def _pinned(template: str) -> str:
    """Without the date of the day: llama.cpp and Ollama pass one, and midnight changes it."""
    import datetime

    day = datetime.date(*PINNED_DATE)
    own = _DATE_DEFAULT.search(template)
    default = own[1] or own[2] if own else None

    def date(match: re.Match[str]) -> str:
        form = match[1] if match[1] is not None else match[2]
        try:
            return _literal(default or day.strftime(form))
        except ValueError:  # lone surrogates; the template's own call fails in words
            return match[0]

    text = _STRFTIME.sub(date, template)
    if default is None or not re.search(
        r"date_string\s+is\s+(not\s+)?defined|not\s+date_string", text
    ):
        return text
    statement = f"{{% set date_string = {_literal(default)} %}}\n"
    return text if statement in text else statement + text


# --- thinking ----------------------------------------------------------------------------


def _switched(template: str, named: Mapping[str, str], thinks: bool) -> str:
    """With its switch set, where it has one that changes what is asked."""
    for name in SWITCHES:
        if name not in template:
            continue
        statement = f"{{% set {name} = {str(thinks).lower()} %}}\n"
        if template.startswith(statement):
            return template
        settings = [{name: value} for value in (False, True)]
        prompts = {
            render(template, [_USER], named, ask=True, variables=setting) for setting in settings
        }
        turns = [_USER, _ASSISTANT]
        wholes = {
            render(template, turns, named, ask=False, variables=setting) for setting in settings
        }
        if len(prompts) > 1 or len(wholes) > 1:
            return statement + template
    return template


# --- answers -----------------------------------------------------------------------------


def _around_answer(template: str, named: Mapping[str, str]) -> tuple[str, str]:
    """What stands between the prompt and the answer, and what is written right behind it."""
    try:
        prompt = render(template, [_USER], named, ask=True)
        whole = render(template, [_USER, _ASSISTANT], named, ask=False)
    except ConversationRefused as error:
        raise ChatTemplateUnusable(reason=error.data["reason"]) from error
    if _QUESTION not in prompt:
        raise ChatTemplateUnusable(reason=_("質問が、組み立てた文章の中に現れません。"))
    if _ANSWER not in whole:
        raise ChatTemplateUnusable(reason=_("回答が、組み立てた文章の中に現れません。"))
    at = whole.index(_ANSWER)
    lead = whole[len(prompt) : at] if whole[:at].startswith(prompt) else ""
    return lead, whole[at + len(_ANSWER) :]
