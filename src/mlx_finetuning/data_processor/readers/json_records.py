"""Records in which other programs keep a conversation or an annotation (Gemini, Claude's and ChatGPT's
exports, requests to chat APIs, preferences of OpenAI and LLaMA-Factory, Label Studio, MultiWOZ), with the
keys that columns are chosen by."""

from __future__ import annotations

import contextlib
import json
from typing import Any, TypeGuard

from mlx_finetuning.data_processor.readers.column_names import NAMES
from mlx_finetuning.data_processor.readers.json_shapes import (
    Object,
    is_segment,
    opened,
    tells_names,
    turns_in_log,
)
from mlx_finetuning.data_processor.readers.roles import ROLE_KEYS, role_of

_LISTS = {"contents": "messages", "chat_messages": "messages", "chatMessages": "messages"}
_SYSTEM = {"systemInstruction": "system", "system_instruction": "system"}
_ANSWERS = (
    *("completion", "response", "output", "answer", "reply"),
    *("assistant_response", "model_output", "generation"),
)
_ANNOTATED = ("choices", "text", "rating", "number")
"""What a control of Label Studio may hold that says something of the whole task."""
_ASKERS = ("requester_id", "customer_id", "contact_id")
_AUTHORS = ("author_id", "user_id", "sender_id")
_OPENINGS = ("description_text", "description")
_COMMENTS = ("plain_body", "body_text", "body", "text")
_BOTH = {"user", "assistant"}
_SAID = ("text", "multimodal_text")


def record(item: Any) -> Any:
    """`item` itself, or with its conversation under the keys `messages`, `prompt`, `chosen`, `rejected`."""
    if isinstance(item, str) and item[:1] == "{":  # written twice
        with contextlib.suppress(ValueError, RecursionError):
            item = json.loads(item)
    if not isinstance(item, dict):
        return item
    if any(_is_typed(value) for value in item.values()):
        item = {name: _untyped(value) for name, value in item.items()}
    if {"preferred_output", "non_preferred_output"} <= item.keys():
        names = {
            "input": "prompt",
            "preferred_output": "chosen",
            "non_preferred_output": "rejected",
        }
        asked = item.get("input")
        prompt = asked.get("messages") if isinstance(asked, dict) else asked
        return _renamed({**item, "input": prompt}, names)
    if isinstance(item.get("mapping"), dict):
        return {**{k: v for k, v in item.items() if k != "mapping"}, "messages": _shown_path(item)}
    if any(are_messages(item.get(name)) for name in _LISTS):
        return _renamed(item, {**_LISTS, **_SYSTEM})
    if {"input", "ideal"} <= item.keys() and are_messages(item["input"]):
        return _renamed(item, {"input": "question", "ideal": "answer"})
    asked, given = item.get("turns"), item.get("reference")
    if _are_texts(asked) and _are_texts(given):  # MT-Bench
        turns = zip(asked, given, strict=False)
        return {**item, "turns": [each for pair in turns for each in pair]}
    if item.get("@type") == "Question":  # schema.org
        return _renamed(item, {"name": "question", "acceptedAnswer": "answer"})
    if isinstance(item.get("data"), dict) and isinstance(item.get("annotations"), list):
        return _annotated(item)
    segments = item.get("segments")
    if isinstance(segments, list) and segments and all(map(is_segment, segments)):  # Axolotl
        messages = [
            {"role": "assistant" if each["label"] else "user", "content": each["text"].strip()}
            for each in segments
        ]
        return {**item, "segments": None, "messages": messages}
    in_turn = turns_in_log(item)
    if in_turn:
        return {
            **{name: value for name, value in item.items() if name != "log"},
            "messages": in_turn,
        }
    said = item.get("data")
    if _are_texts(said) and len(said) > 1:
        return _renamed(item, {"data": "messages"})
    thread = _thread(item)
    if thread:
        return {name: value for name, value in item.items() if not isinstance(value, list)} | thread
    named = next((name for name in NAMES["messages"] if are_messages(item.get(name))), None)
    if named is None:
        return _unwrapped(item)
    is_asked = role_of(_speaker(item[named][-1])) == "user"
    answer = next(filter(None, (_message(item.get(name)) for name in _ANSWERS)), None)
    if is_asked and answer is not None:
        return {**item, named: [*item[named], answer]}
    if is_asked and {"chosen", "rejected"} <= item.keys() and "prompt" not in item:
        return _renamed(item, {named: "prompt"})
    return item


_TYPES = frozenset(
    "S N BOOL NULL M L SS NS stringValue integerValue doubleValue booleanValue nullValue timestampValue mapValue "
    "arrayValue".split()
)
"""Under which DynamoDB and Firestore write a value."""


def _is_typed(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and not _TYPES.isdisjoint(value)


def _untyped(value: Any) -> Any:
    """A value of DynamoDB or Firestore without its type; others as they are."""
    if not _is_typed(value):
        return value
    (kind, inner), *_ = value.items()
    if kind in ("NULL", "nullValue"):
        return None
    if isinstance(inner, dict):
        inner = inner.get("fields", inner.get("values", inner))
    if isinstance(inner, dict):
        return {name: _untyped(each) for name, each in inner.items()}
    return [_untyped(each) for each in inner] if isinstance(inner, list) else inner


def _annotated(item: Object) -> Object:
    """A task of Label Studio: its data, and what the first annotation that was not cancelled says of it, under
    the names of the controls."""
    done = [
        each
        for each in item["annotations"]
        if isinstance(each, dict) and not each.get("was_cancelled")
    ]
    said: Object = {}
    for result in done[0].get("result") or () if done else ():
        value = result.get("value") or {}
        told = next((value[name] for name in _ANNOTATED if value.get(name) is not None), None)
        several = told if isinstance(told, list) else [told]
        said[str(result.get("from_name"))] = "、".join(map(str, several))
    return {**item["data"], **said}


def _thread(item: Object) -> Object:
    """The messages of a ticket of a help desk (Zendesk, Freshdesk), whose writers are numbers: those of
    whoever opened it ask, all others answer, and notes for the staff are left out. Nothing for others."""
    asker = next((item[name] for name in _ASKERS if item.get(name) is not None), None)
    lists = [each for each in item.values() if isinstance(each, list) and each]
    said = next((each for each in lists if all(map(_comment, each))), None)
    if asker is None or said is None:
        return {}
    public = [each for each in said if each.get("public", True) and not each.get("private")]
    opening = next((str(item[name]) for name in _OPENINGS if item.get(name)), "")
    messages = [{"role": "user", "content": opening}] if opening else []
    for each in public:
        author = next(each[name] for name in _AUTHORS if name in each)
        role = "user" if each.get("incoming", author == asker) else "assistant"
        text = _comment(each)
        if messages and messages[-1]["role"] == role:
            if messages[-1]["content"].strip() != text.strip():
                messages[-1]["content"] += f"\n\n{text}"
        else:
            messages.append({"role": role, "content": text})
    return {"messages": messages} if {each["role"] for each in messages} == _BOTH else {}


def _comment(each: Any) -> str:
    """What somebody wrote below a ticket; nothing for what is no comment."""
    if not isinstance(each, dict) or not any(name in each for name in _AUTHORS):
        return ""
    texts = (each.get(name) for name in _COMMENTS)
    return next((text for text in texts if isinstance(text, str) and text), "")


def _message(answer: Any) -> Object | None:
    """An answer as the assistant's message; None where it is none."""
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, str) and answer:
        return {"role": "assistant", "content": answer}
    is_said = isinstance(answer, dict) and role_of(_speaker(answer)) == "assistant"
    return answer if is_said else None


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def are_messages(value: Any) -> bool:
    """Whether it is a list of objects of which all say who speaks, known ones."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, dict) and role_of(_speaker(each)) for each in value)
    )


def _speaker(message: Object) -> Any:
    return next((message[name] for name in ROLE_KEYS if message.get(name) is not None), None)


def _renamed(item: Object, names: dict[str, str]) -> Object:
    return {names.get(name, name): value for name, value in item.items()}


def _unwrapped(item: Object) -> Object:
    """A conversation one object deeper (`data`, `body`), with the answer where it stands apart, as in logs
    of requests to a chat API."""
    inner = [
        value
        for value in item.values()
        if isinstance(value, dict) and are_messages(value.get("messages"))
    ]
    asked, given = item.get("inputs"), item.get("outputs")
    if isinstance(asked, dict) and isinstance(given, dict) and tells_names([*asked, *given]) > 1:
        beside = {name: value for name, value in item.items() if name not in ("inputs", "outputs")}
        return {**beside, **asked, **given}  # LangSmith
    if len(inner) != 1:
        return opened(item)
    wrapped = inner[0]
    rest = {name: value for name, value in item.items() if value is not wrapped}
    response = rest.pop("response", None) or rest.pop("output", None)
    if isinstance(response, dict) and isinstance(response.get("body"), dict):
        response = response["body"]
    choices = response.get("choices") if isinstance(response, dict) else None
    answers = [each.get("message") for each in choices or () if isinstance(each, dict)][:1]
    answers = answers or ([response] if are_messages([response]) else [])
    return {**rest, **wrapped, "messages": [*wrapped["messages"], *answers]}


def _shown_path(item: Object) -> list[Object]:
    """The messages of ChatGPT's export that the user saw last: from `current_node`, or the last node that
    has no replies, to the root."""
    nodes = {name: node for name, node in item["mapping"].items() if isinstance(node, dict)}
    ends = [name for name, node in nodes.items() if not node.get("children")]
    at: Any = item.get("current_node") or (ends[-1] if ends else None)
    messages: list[Object] = []
    seen: set[str] = set()
    while at in nodes and at not in seen:
        seen.add(at)
        message = nodes[at].get("message") or {}
        content, author = message.get("content") or {}, message.get("author") or {}
        is_said = content.get("content_type") in _SAID and content.get("parts") not in (None, [""])
        if is_said and message.get("recipient", "all") == "all" and author.get("role") != "tool":
            messages.append({"role": author.get("role"), "content": content})
        at = nodes[at].get("parent")
    return messages[::-1]
