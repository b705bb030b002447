"""How models write their reasoning before an answer, and how the two are told apart.

Tags (`<think>` and its like), and the channels of gpt-oss. Knows text only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

    def split(self, text: str) -> tuple[str, str]:
        """Reasoning and answer of what a model wrote. Reasoning that never ended has no answer."""
        before, opening, rest = text.partition(self.opening)
        if not opening and self.closing not in text:
            return "", text
        # A prompt that opened the reasoning leaves only its end in the text.
        said = rest if opening and not before.strip() else text
        thought, closing, answer = said.partition(self.closing)
        head = next((sign for sign in self.heads if answer.lstrip().startswith(sign)), "")
        answer = answer.lstrip().removeprefix(head).lstrip()
        return (thought.strip(), answer) if closing else (said.strip(), "")


@dataclass(frozen=True)
class Channels(Reasoning):
    """gpt-oss: the answer has a channel of its own, whose header follows the reasoning's end."""

    answering: str = "<|channel|>final<|message|>"
    turn: str = "<|start|>assistant"

    def joined(self, thought: str, answer: str, *, opened: bool = False) -> str:
        start = "" if opened else self.opening
        return f"{start}{thought.strip()}{self.closing}{self.turn}{self.answering}{answer}"

    def split(self, text: str) -> tuple[str, str]:
        thought, answering, answer = text.rpartition(self.answering)
        if not answering:
            thought, answer = (text, "") if self.opening in text else ("", text)
        thought = thought.removesuffix(self.turn).partition(self.opening)[2]
        return thought.removesuffix(self.closing).strip(), answer


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


def style(template: str) -> Reasoning | None:
    """How a chat template writes reasoning; None if it knows of none."""
    return next(
        (
            one
            for one in STYLES
            if one.closing in template and one.opening.split("<|message|>")[0] in template
        ),
        None,
    )


def closing(prompt: str) -> str:
    """What ends the reasoning that a prompt has opened at its end; empty if it has not."""
    for one in STYLES:
        if prompt.rstrip("\n").endswith(one.opening):
            line = "\n" if prompt.endswith("\n") else ""
            return f"{line}{one.closing}{line}{line}"
    return ""


def from_message(message: dict[str, Any]) -> tuple[str, str]:
    """Reasoning and answer of an assistant's message: from a field of its own, or in `<think>`.

    A tag that is never closed is part of the answer: of data, nothing may get lost in silence.
    """
    content = message.get("content")
    answer = content if isinstance(content, str) else ""
    for name in FIELDS:
        if isinstance(message.get(name), str) and message[name].strip():
            return message[name], answer
    is_marked = answer.lstrip().startswith(TAG.opening) and TAG.closing in answer
    return TAG.split(answer) if is_marked else ("", answer)


def occurs_in(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether any assistant of these rows shows its reasoning."""
    return any(
        from_message(message)[0]
        for row in rows
        for message in row.get("messages", ())
        if message.get("role") == "assistant"
    )
