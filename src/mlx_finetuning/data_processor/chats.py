"""Conversations as other programs write them, to turns. Raises NotAChat with what is wrong, in Japanese."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mlx_finetuning.data_processor import values
from mlx_finetuning.data_processor.readers.roles import ROLE_KEYS, TEXT_KEYS, role_of
from mlx_finetuning.language import _
from mlx_finetuning.tokenization.reasoning import FIELDS, TAG
from mlx_finetuning.tokenization.turns import UNTRAINED

_MARKS = (
    *("weight", "train", "training", "trainable", "trained", "loss", "loss_weight", "loss_mask"),
    *("supervise", "supervised"),
)
"""Keys of other programs that keep a turn out of the loss, where they are 0 or false."""
_MASKS = ("mask", "masked")
"""Keys that keep it out where they are true."""
_OFF = ("0", "0.0", "false")
_ON = ("1", "1.0", "true")
_CALLS = "tool_calls"


class NotAChat(Exception):
    """The value is no conversation; the message says why."""


class Turn(NamedTuple):
    """What one side says."""

    role: str
    """A chat role; for other kinds `text`, `prompt`, `chosen` or `rejected`."""
    content: str
    extra: tuple[tuple[str, Any], ...] = ()
    """Further keys of a message (`tool_calls`, `name`, `weight`), written back as they came."""
    reasoning: str = ""
    """What the assistant thinks before it says `content`."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is written for people to read."""
        return (self.content, self.reasoning) if self.reasoning else (self.content,)

    @property
    def has_calls(self) -> bool:
        """Whether it calls a tool, which may stand without a word."""
        return bool(self.extra) and any(key == _CALLS and value for key, value in self.extra)

    @property
    def is_trained(self) -> bool:
        """Whether the loss sees it, if it is the assistant's."""
        return UNTRAINED not in self.extra

    def to_message(self) -> dict[str, object]:
        """As chat templates take it."""
        message: dict[str, object] = {"role": self.role, "content": self.content}
        if self.reasoning:
            message[FIELDS[0]] = self.reasoning
        message.update(self.extra)
        return message

    def changed(self, change: Callable[[str], str]) -> Turn:
        """With `change` applied to all its texts."""
        thought = change(self.reasoning) if self.reasoning else ""
        return self._replace(content=change(self.content), reasoning=thought)


def answer_turn(content: str, thought: str = "", extra: tuple[tuple[str, Any], ...] = ()) -> Turn:
    """An assistant's turn. Reasoning within its text, at the start and closed, is put apart."""
    if content.lstrip().startswith(TAG.opening) and TAG.closing in content:
        inside, content = TAG.split(content)
        thought = thought if thought.strip() else inside
    return Turn("assistant", content, extra, thought.strip())


def chat_turns(value: Any) -> tuple[Turn, ...]:
    """The turns of a `messages` or `conversations` value, or of its text. Raises NotAChat."""
    if isinstance(value, str):
        value, __ = values.parsed(value)
    if isinstance(value, dict):  # {"messages": […]} in a cell
        lists = [item for item in value.values() if isinstance(item, list)]
        value = lists[0] if len(lists) == 1 else [value]
    if not isinstance(value, list) or not value:
        raise NotAChat(_("roleとcontentの一覧ではありません"))
    if all(isinstance(item, str) for item in value):
        value = [
            {"role": role, "content": text}
            for role, text in zip(itertools.cycle(("user", "assistant")), value, strict=False)
        ]
    if all(map(_is_said_by, value)):
        value = [{"role": who, "content": text} for who, text in value]
    turns = [turn for message in value for turn in _turns_of(message)]
    if {turn.role for turn in turns} == {"user", "system"} and turns[0].role == "user":
        # Of dialogue systems, which answer under that name.
        turns = [answer_turn(t.content) if t.role == "system" else t for t in turns]
    # Turns that are planned but not written, as labelling tools leave them.
    end = len(turns)
    while end and turns[end - 1] in _UNWRITTEN:
        end -= 1
    return tuple(turns[:end] if end and turns[end - 1].role == "assistant" else turns)


def _is_said_by(message: Any) -> bool:
    """Whether it is a speaker and what they say, as LangChain writes both."""
    is_two = isinstance(message, list | tuple) and len(message) == 2
    return is_two and isinstance(message[0], str) and role_of(message[0]) is not None


def history_turns(value: Any) -> tuple[Turn, ...]:
    """Earlier turns: messages, or pairs of question and answer. Raises NotAChat."""
    if isinstance(value, str):
        if not value.strip():
            return ()
        value, __ = values.parsed(value)
        if value is None:
            raise NotAChat(_("履歴（history）が一覧ではありません"))
    if value is None or value == [] or value != value:
        return ()
    return chat_turns(value)


_UNWRITTEN = (Turn("user", "", (("content", None),)), Turn("assistant", "", (("content", None),)))
"""What a message with null for its content becomes."""


def _turns_of(message: Any) -> list[Turn]:
    """The turn of a message, the two of a pair, or none for a system turn with null."""
    if isinstance(message, list | tuple) and len(message) == 2:
        question, answer = (values.read(item).texts[0] for item in message)
        return [Turn("user", question), answer_turn(answer)]
    if not isinstance(message, dict):
        raise NotAChat(_("roleとcontentの一覧ではありません"))
    if not {*message} & {*ROLE_KEYS}:  # Role, Content
        message = {
            key.casefold() if key.casefold() in (*ROLE_KEYS, *TEXT_KEYS) else key: item
            for key, item in message.items()
        }
    if role_of(message.get("type")) and not {*message} & {*ROLE_KEYS}:  # LangChain
        inner = message.get("data")
        message = {**message, **(inner if isinstance(inner, dict) else {}), "role": message["type"]}
        message = {key: item for key, item in message.items() if key not in ("type", "data")}
    role_key = next((key for key in ROLE_KEYS if message.get(key) is not None), None)
    if role_key is None:
        # {"user": "…", "assistant": "…"}: the key says who speaks.
        spoken = [(role_of(key), item) for key, item in message.items() if role_of(key)]
        if not spoken or not all(isinstance(item, str) for __, item in spoken):
            raise NotAChat(_("発言に、話し手（role）がありません"))
        return [
            answer_turn(str(item)) if role == "assistant" else Turn(str(role), str(item))
            for role, item in spoken
        ]
    role = role_of(message[role_key])
    if role is None and str(message[role_key]) in _CALL_ROLES:
        return [_call_turn(message)]
    if role is None:
        raise NotAChat(
            _("「{speaker}」という話し手（{key}）は分かりません").format(
                speaker=str(message[role_key])[:30], key=role_key
            )
        )
    text_key = next((key for key in TEXT_KEYS if message.get(key) is not None), None)
    content = message.get(text_key) if text_key else None
    used = {role_key, text_key or "content", "content", "function_call", *_MARKS, *_MASKS}
    thought = ""
    if role == "assistant":
        thoughts = {key: message[key] for key in FIELDS if isinstance(message.get(key), str)}
        thought = next(
            (text for text in thoughts.values() if text.strip()), values.thought_in(content)
        )
        used |= {*thoughts}
    extra = _extra(message, used, is_answer=role == "assistant")
    has_calls = any(key == _CALLS for key, __ in extra)
    if content is None:
        if role == "system":
            return []
        if not has_calls and not thought:
            return [Turn(role, "", (("content", None),))]
        content = ""  # a call of a tool has no text
    text = values.parts_text(content)
    if text is None:
        raise NotAChat(
            _("発言（content）が文章ではありません（画像や入れ子の値は学習に使えません）")
        )
    if role == "system" and not text.strip():
        return []
    return [answer_turn(text, thought, extra) if role == "assistant" else Turn(role, text, extra)]


_CALL_ROLES = ("function_call", "tool_call", "tool_calls")
"""Of ShareGPT: the assistant, whose words are a call."""


def _call_turn(message: Mapping[str, Any]) -> Turn:
    """The call that a message's text is. Raises NotAChat."""
    written = next((message[key] for key in TEXT_KEYS if message.get(key) is not None), None)
    value = values.parsed(written)[0] if isinstance(written, str) else written
    calls = value if isinstance(value, list) else [value]
    if not all(isinstance(call, dict) and "name" in call for call in calls):
        raise NotAChat(_("ツールの呼び出し（function_call）が、nameのあるJSONではありません"))
    functions = [{"type": "function", "function": call} for call in calls]
    return Turn("assistant", "", ((_CALLS, functions),))


def _extra(
    message: Mapping[str, Any], used: set[str], *, is_answer: bool
) -> tuple[tuple[str, Any], ...]:
    """What else a message has, its calls and its mark in one form each."""
    # Parquet fills keys that a message lacks with null.
    extra = [(key, item) for key, item in message.items() if key not in used and item is not None]
    calls = message.get(_CALLS)
    if isinstance(calls, str):  # a table's cell
        extra = [(key, item) for key, item in extra if key != _CALLS]
        extra.append((_CALLS, values.parsed(calls)[0]))
    extra = [(key, item) for key, item in extra if key != _CALLS or item]
    call = message.get("function_call")
    if isinstance(call, dict) and call and not message.get(_CALLS):
        extra.append((_CALLS, [{"type": "function", "function": call}]))
    if is_answer and any(
        str(message.get(key)).strip().lower() in signs
        for keys, signs in ((_MARKS, _OFF), (_MASKS, _ON))
        for key in keys
    ):
        extra.append(UNTRAINED)
    return tuple(extra)
