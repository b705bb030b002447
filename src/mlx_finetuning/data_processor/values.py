"""Cells as texts: what lists, objects and written-out objects of other programs say.

An answer that is a list gives several texts; one that is an object gives the text in it. What nobody can
tell apart stays as JSON text, and is said.
"""

from __future__ import annotations

import ast
import json
import math
from typing import Any, NamedTuple

from mlx_finetuning.data_processor.readers.roles import ROLE_KEYS, TEXT_KEYS
from mlx_finetuning.data_processor.readers.tables import cell_text

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


NOTHING = Cell(("",))


def read(value: Any) -> Cell:
    """The texts of a cell: strings as they are, without a look inside unless they begin like a list or
    an object."""
    if isinstance(value, str):
        if value[:1] not in ("[", "{"):
            return Cell((value,))
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
        value = json.loads(text, parse_constant=lambda _: None)
        return (value if isinstance(value, list | dict) else None), False
    except (ValueError, RecursionError):
        pass
    if len(text) > _MAX_LITERAL:
        return None, False
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None, False
    return (value, True) if isinstance(value, list | dict) else (None, False)


def parts_text(content: Any) -> str | None:
    """The text of a message's content: a string, or parts of which all are text. None for others."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = content.get("parts", [content])
    if not isinstance(content, list):
        return None
    texts = [
        part.get("text", part.get("content"))
        if isinstance(part, dict) and part.get("type", "text") in _TEXT_PARTS
        else part
        for part in content
    ]
    written = [text for text in texts if isinstance(text, str)]
    return "".join(written) if len(written) == len(texts) else None


_TEXT_PARTS = ("text", "input_text", "output_text")


def _is_wrapped(value: Any) -> bool:
    """Whether it is a message, or an answer with its place in a text, and no data of its own."""
    item = value[0] if isinstance(value, list) and value else value
    return isinstance(item, dict) and (
        bool({*item} & {*ROLE_KEYS} and {*item} & {*TEXT_KEYS})
        or ("text" in item and "answer_start" in item)
    )


def _texts(value: Any) -> list[str] | None:
    """The texts in a list or object, without blank ones; None where it is not clear."""
    if isinstance(value, dict):
        if not value:
            return []
        inner = next((value[key] for key in TEXT_KEYS if key in value), None)
        # A message, SQuAD's answers; an object with keys of its own is meant as it is.
        known = {*TEXT_KEYS, *_BESIDE_TEXT}
        if not {*value} <= known:
            return None
        if isinstance(inner, list):
            return _texts(inner) or []
        return [inner] if isinstance(inner, str) else [] if inner is None else None
    if not isinstance(value, list):
        return None
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


_BESIDE_TEXT = frozenset(
    (
        "role",
        "from",
        "type",
        "answer_start",
        "start",
        "answer_end",
        "answer_type",
        "id",
        "name",
        "weight",
    )
)
"""Keys beside a text that say nothing to be learned."""
