"""How models write their reasoning before an answer, and how the two are told apart.

Tags (`<think>` and its like), and the channels of gpt-oss. Knows text only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_finetuning.tokenization.tool_calls import possible_start

FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a message under which data sets and APIs keep reasoning; the first is the standard one."""


@dataclass(frozen=True)
class Reasoning:
    """`opening` reasoning `closing` answer."""

    opening: str
    closing: str
    heads: tuple[str, ...] = ()
    """Signs that may stand between reasoning and answer."""

    def joined(self, thought: str, answer: str, *, opened: bool = False) -> str:
        """The text of an answer with its reasoning; `opened`: the prompt has the opening already."""
        start = "" if opened else f"{self.opening}\n"
        return f"{start}{thought.strip()}\n{self.closing}\n\n{answer}"

    @property
    def marks(self) -> tuple[str, ...]:
        """What ends one part and begins another."""
        return (self.opening, self.closing, *self.heads)

    def split(self, text: str, *, opened: bool | None = None) -> tuple[str, str]:
        """Reasoning and answer of what a model wrote. Reasoning that never ended has no answer.

        opened: whether the prompt has the opening already; None: judged by what the text closes.
        """
        before, opening, rest = text.partition(self.opening)
        is_begun = bool(opening) and not before.strip()
        if opened is None:
            opened = self.closing in text
        if not is_begun and not opened:
            return "", text
        thought, _, answer = (rest if is_begun else text).partition(self.closing)
        answer = answer.lstrip()
        head = next((head for head in self.heads if answer.startswith(head)), "")
        return thought.strip(), answer.removeprefix(head).lstrip()


@dataclass(frozen=True)
class Channels(Reasoning):
    """gpt-oss: the answer has a channel of its own, whose header follows the reasoning's end."""

    answering: str = "<|channel|>final<|message|>"
    turn: str = "<|start|>assistant"

    def joined(self, thought: str, answer: str, *, opened: bool = False) -> str:
        """As `Reasoning.joined`, with the answer's header."""
        start = "" if opened else self.opening
        return f"{start}{thought.strip()}{self.closing}{self.turn}{self.answering}{answer}"

    @property
    def marks(self) -> tuple[str, ...]:
        """The answer's header stands for what follows the reasoning's end."""
        return (self.opening, self.closing, self.answering)

    def split(self, text: str, *, opened: bool | None = None) -> tuple[str, str]:
        """As `Reasoning.split`, by the answer's header."""
        before, answering, answer = text.partition(self.answering)
        is_begun = text.lstrip().startswith(self.opening)
        if opened is None:
            opened = bool(answering)
        if not is_begun and not opened and (before.strip() or not answering):
            return "", text
        thought = before.partition(self.opening)[2] if is_begun else before
        return thought.partition(self.closing)[0].strip(), answer


STYLES: Sequence[Reasoning] = (
    Channels("<|channel|>analysis<|message|>", "<|end|>"),
    Reasoning("<|channel>thought", "<channel|>"),
    Reasoning("<seed:think>", "</seed:think>"),
    Reasoning("<|START_THINKING|>", "<|END_THINKING|>", ("<|START_TEXT|>", "<|START_RESPONSE|>")),
    Reasoning("[THINK]", "[/THINK]"),
    Reasoning("<|think|>", "<|/think|>"),
    Reasoning("<think>", "</think>"),
)
TAG = STYLES[-1]
"""What data sets write, whatever the model."""


@dataclass(frozen=True)
class Format:
    """How the texts of one model are read."""

    style: Reasoning | None
    """None: it writes no reasoning, so that all is answer."""
    opened: bool = False
    """Whether the prompt has begun the reasoning already."""

    @property
    def signs(self) -> tuple[str, ...]:
        """The tokens that marks consist of; where they are control tokens, engines may hide them."""
        marks = "".join(self.style.marks) if self.style else ""
        return tuple(re.findall(r"<[^<>]+>|\[[^\[\]]+\]", marks))

    def split(self, text: str) -> tuple[str, str]:
        """Reasoning and answer of a whole text."""
        return self.style.split(text, opened=self.opened) if self.style else ("", text)

    def splitter(self) -> Splitter:
        """A new reader of one answer as it comes in."""
        return Splitter(self)


class Splitter:
    """Tells reasoning and answer apart while the text comes in; together as `Format.split` does."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._text = self._thought = self._answer = ""

    def feed(self, chunk: str, *, last: bool = False) -> tuple[str, str]:
        """What of both has become certain; with `last`, the rest."""
        self._text += chunk
        certain = self._text
        if self._form.style is not None and not last:
            # An end that may be the beginning of a mark is held back, and so is space alone.
            held = possible_start(self._text, self._form.style.marks)
            certain = self._text[: len(self._text) - held]
            certain = certain if certain.strip() else ""
        thought, answer = self._form.split(certain)
        new = thought[len(self._thought) :], answer[len(self._answer) :]
        self._thought, self._answer = thought, answer
        return new


def style(template: str) -> Reasoning | None:
    """How a chat template writes reasoning; None if it knows of none."""
    for candidate in STYLES:
        opening = candidate.opening.split("<|message|>")[0]
        if candidate.closing in template and opening in template:
            return candidate
    return None


def form_of(template: str, prompt: str, *, thinks: bool) -> Format:
    """How answers to `prompt`, which `template` made, are read; thinks: trained with reasoning."""
    written = style(template) or (TAG if thinks else None)
    return Format(written, opened=bool(closing(prompt)))


def closing(prompt: str) -> str:
    """What ends the reasoning that a prompt has opened at its end; empty if it has not."""
    for candidate in STYLES:
        if prompt.rstrip("\n").endswith(candidate.opening):
            line = "\n" if prompt.endswith("\n") else ""
            return f"{line}{candidate.closing}{line}{line}"
    return ""


def from_message(message: Mapping[str, object]) -> tuple[str, str]:
    """Reasoning and answer of an assistant's message: from a field of its own, or in `<think>`.

    A tag that is never closed is part of the answer: of data, nothing may get lost in silence.
    """
    content = message.get("content")
    answer = content if isinstance(content, str) else ""
    is_marked = answer.lstrip().startswith(TAG.opening) and TAG.closing in answer
    inside, answer = TAG.split(answer) if is_marked else ("", answer)
    fields = (message.get(name) for name in FIELDS)
    stated = (text for text in fields if isinstance(text, str) and text.strip())
    return next(stated, inside), answer


def answer_of(message: Mapping[str, object]) -> str:
    """What an assistant's message says when its reasoning is left out."""
    return from_message(message)[1]


def occurs_in(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any answer of these rows, of preference rows too, shows its reasoning."""
    return any(
        from_message(message)[0]
        for row in rows
        for message in (
            *row.get("messages", ()),
            *({"content": row[name]} for name in ("chosen", "rejected") if name in row),
        )
        if message.get("role", "assistant") == "assistant"
    )
