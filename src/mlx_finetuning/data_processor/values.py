"""Cells as texts: what lists, objects and written-out objects of other programs say.

An answer that is a list gives several texts; one that is an object gives the text in it. What nobody can
tell apart stays as JSON text, and is said.
"""

from __future__ import annotations

import ast
import io
import json
import math
import re
import tokenize
from typing import Any, NamedTuple

from mlx_finetuning.data_processor.readers.column_content import STRUCTURED
from mlx_finetuning.data_processor.readers.roles import ROLE_KEYS, TEXT_KEYS, role_of
from mlx_finetuning.data_processor.readers.tables import cell_text, without_halves

_MAX_LITERAL = 200_000
"""Characters of a Python literal that is read: its parser takes far more memory than text."""


class Cell(NamedTuple):
    """What a cell says."""

    texts: tuple[str, ...]
    """Several for a list of answers; one empty text for nothing at all."""
    is_json: bool = False
    """Whether a text is JSON that was not understood."""
    is_python: bool = False
    """Whether it was written as Python shows it, not as JSON."""


_UNREADABLE = (ValueError, SyntaxError, TypeError, tokenize.TokenError)
NOTHING = Cell(("",))


def is_plain(value: Any) -> bool:
    """Whether a cell is a text without anything written out in it, as nearly all are."""
    return isinstance(value, str) and not value.startswith(STRUCTURED)


def read(value: Any) -> Cell:
    """The texts of a cell: strings as they are, without a look inside unless they begin like a list or
    an object."""
    if is_plain(value):
        return Cell((value,))
    if isinstance(value, str):
        written, is_python = parsed(value)
        if _is_wrapped(written):
            return Cell(tuple(_texts(written) or ("",)), is_python=is_python)
        # A written-out list may be the very answer that is to be learned.
        return Cell((value,), is_json=written is not None and not is_python, is_python=is_python)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOTHING
    if isinstance(value, list | dict):
        texts = _texts(value)
        if texts is not None:
            return Cell(tuple(texts) or ("",))
        return Cell((cell_text(value),), is_json=True)
    return Cell((cell_text(value),))


def parsed(text: str) -> tuple[Any, bool]:
    """A list or object from JSON or from Python's way of writing one, and whether it was Python's.
    None if it is neither."""
    try:
        value = json.loads(without_halves(text), parse_constant=lambda _: None)
        return (value if isinstance(value, list | dict) else None), False
    except (ValueError, RecursionError):
        pass
    if len(text) > _MAX_LITERAL:
        return None, False
    try:
        value = _literal(text.strip())
    except (*_UNREADABLE, MemoryError, RecursionError):
        return None, False
    return (value, True) if isinstance(value, list | dict) else (None, False)


def _literal(text: str) -> Any:
    """A Python literal, with what NumPy shows in between: `array([…], dtype=object)`, `nan`, and lists
    without commas. Raises what `ast` and `tokenize` raise."""
    if _NUMPY.search(text):
        written: list[tuple[int, str]] = []
        before = ""
        for token in tokenize.generate_tokens(io.StringIO(f"({text})").readline):
            is_value = token.type == tokenize.STRING
            if (before, token.string) in _NEXT_TO or (is_value and before == "string"):
                written.append((tokenize.OP, ","))
            written.append((token.type, token.string))
            if token.type not in (tokenize.NL, tokenize.COMMENT):
                before = "string" if is_value else token.string
        text = tokenize.untokenize(written).strip()
    tree = _WithoutNumpy().visit(ast.parse(text, mode="eval"))
    return ast.literal_eval(tree)


_NUMPY = re.compile(r"""\barray\(|\bnan\b|["'}\]]\s+["'{\[]""")
_NEXT_TO = {(closing, opening) for closing in "}])" for opening in "{["} | {(")", "array")}


class _WithoutNumpy(ast.NodeTransformer):
    """Arrays as their lists, nan as None."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        is_array = isinstance(node.func, ast.Name) and node.func.id == "array"
        return node.args[0] if is_array and node.args else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.copy_location(ast.Constant(None), node) if node.id == "nan" else node


def parts_text(content: Any) -> str | None:
    """The text of a message's content: a string, or parts of which all are text. None for others."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = content.get("parts", [content])
    if not isinstance(content, list):
        return None
    # Reasoning of Anthropic's and OpenAI's parts is no part of what is said.
    content = [
        part for part in content if not (isinstance(part, dict) and part.get("type") in THOUGHTS)
    ]
    texts = [
        part.get("text", part.get("content"))
        if isinstance(part, dict) and str(part.get("type", "text")) in _TEXT_PARTS
        else part
        for part in content
    ]
    written = [text for text in texts if isinstance(text, str)]
    return "".join(written) if len(written) == len(texts) else None


_TEXT_PARTS = frozenset(
    # Of chat APIs, and of Telegram, which takes a text apart where its look changes.
    "text input_text output_text plain bold italic underline strikethrough spoiler blockquote code pre link"
    " text_link mention mention_name hashtag email phone bot_command custom_emoji".split()
)
THOUGHTS = ("thinking", "reasoning", "redacted_thinking")
"""Types of parts that are the assistant's reasoning."""


def thought_in(content: Any) -> str:
    """The reasoning among a message's parts."""
    parts = content if isinstance(content, list) else ()
    thoughts = (
        part.get("thinking", part.get("text"))
        for part in parts
        if isinstance(part, dict) and part.get("type") in THOUGHTS
    )
    return "\n".join(thought for thought in thoughts if isinstance(thought, str))


def _is_wrapped(value: Any) -> bool:
    """Whether it is a message, or an answer with its place in a text, and no data of its own."""
    item = value[0] if isinstance(value, list) and value else value
    return isinstance(item, dict) and (
        bool({*item} & {*ROLE_KEYS} and {*item} & {*TEXT_KEYS})
        or ("text" in item and "answer_start" in item)
        or ("text" in item and bool({*item} & _MEASURES) and {*item} <= {"text"} | _BESIDE_TEXT)
    )


def _texts(value: Any) -> list[str] | None:
    """The texts in a list or object, without blank ones; None where it is not clear."""
    if isinstance(value, dict):
        if not value:
            return []
        if isinstance(value.get("rendered"), str):  # WordPress
            return [value["rendered"]]
        parts = value.get(str(value.get("type")))  # a property of Notion
        if isinstance(parts, list) and all(
            isinstance(p, dict) and "plain_text" in p for p in parts
        ):
            return ["".join(str(part["plain_text"]) for part in parts)]
        if {*value} <= _LANGUAGES:  # the same in several languages
            said = value.get("ja", next(iter(value.values())))
            return [said] if isinstance(said, str) else _texts(said)
        inner = next((value[key] for key in TEXT_KEYS if key in value), None)
        if {"value", "aliases"} <= value.keys() and isinstance(value["value"], str):  # TriviaQA
            return [value["value"]]
        # A message, SQuAD's answers; an object with keys of its own is meant as it is.
        filled = {key for key, item in value.items() if item is not None}
        if not filled <= {*TEXT_KEYS, *_BESIDE_TEXT} and not _is_message(value):
            return None
        if isinstance(inner, list):
            return _texts(inner) or []
        return [inner] if isinstance(inner, str) else [] if inner is None else None
    if not isinstance(value, list):
        return None
    if any(isinstance(item, dict) and str(item.get("type")) in _TEXT_PARTS for item in value):
        joined = parts_text(value)  # the parts of one text, not texts to choose from
        return None if joined is None else [joined] if joined.strip() else []
    ranked = _ranked(value)
    if ranked is not None:
        return ranked
    texts = []
    for item in value:
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, int | float) and not isinstance(item, bool):
            return None
        elif item is not None:
            inner_texts = _texts(item)
            if inner_texts is None:
                return None
            texts += inner_texts
    return [text for text in texts if text.strip()]


def _is_message(value: dict[str, Any]) -> bool:
    """Whether it is what somebody known says, with whatever keys beside it."""
    speaker = next((value[key] for key in ROLE_KEYS if value.get(key) is not None), None)
    return role_of(speaker) is not None and any(
        isinstance(value.get(key), str) for key in TEXT_KEYS
    )


def _ranked(items: list[Any]) -> list[str] | None:
    """The texts of scored answers (StackExchange, UltraFeedback), the best first; None for others."""
    ranked = []
    for item in items:
        if not isinstance(item, dict):
            return None
        text = next((item[name] for name in _ANSWER_KEYS if isinstance(item.get(name), str)), None)
        marks = [item.get(name) for name in _ACCEPTED]
        rank = item.get("rank")
        scores = [item.get(name) for name in _SCORES]
        scores += [-rank] if isinstance(rank, int | float) else []
        score = next((each for each in scores if isinstance(each, int | float)), None)
        if text is None or (score is None and not any(name in item for name in _ACCEPTED)):
            return None
        ranked.append((True in marks, score or 0, text))
    ranked.sort(key=lambda each: each[:2], reverse=True)
    return [text for _, _, text in ranked if text.strip()]


_LANGUAGES = frozenset(("ja", "en", "zh", "ko", "ja-JP", "en-US", "ja_JP", "en_US"))
_ANSWER_KEYS = ("text", "response", "answer", "output", "body", "content", "completion")
_ACCEPTED = ("selected", "accepted", "is_accepted", "is_best", "best")
_SCORES = ("score", "pm_score", "overall_score", "votes", "upvotes", "likes", "rating")
_MEASURES = frozenset(("score", "confidence", "probability", "logprob"))
_BESIDE_TEXT = _MEASURES | frozenset(
    (
        "lang",
        "language",
        "role",
        "from",
        "type",
        "answer_start",
        "start",
        "answer_end",
        "answer_type",
        "format",
        "a_id",
        "@type",
        "id",
        "name",
        "weight",
    )
)
"""Keys beside a text that say nothing to be learned."""
