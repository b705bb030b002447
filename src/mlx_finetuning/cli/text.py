"""How the terminal shows things: tables, durations, errors. Wide characters count two columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlx_finetuning.errors import StudioError
from mlx_finetuning.messages_ja import describe
from mlx_finetuning.utils.units_ja import duration as duration
from mlx_finetuning.utils.units_ja import percent as percent
from mlx_finetuning.utils.units_ja import size as size

THINKING, ANSWERING = "（考えた過程）", "（答え）"


def width(text: str) -> int:
    """Columns that `text` takes in a terminal."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def pad(text: str, columns: int) -> str:
    """`text` filled up with spaces to a width."""
    return text + " " * max(columns - width(text), 0)


def shorten(text: str, columns: int) -> str:
    """`text` cut to `columns`, on one line."""
    text = " ".join(text.split())
    if width(text) <= columns:
        return text
    while width(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows below a heading, in aligned columns."""
    lines = [list(heading), *(list(row) for row in rows)]
    columns = [max(width(line[index]) for line in lines) for index in range(len(heading))]
    shown = (
        "  ".join(pad(cell, size) for cell, size in zip(line, columns, strict=True))
        for line in lines
    )
    return "\n".join(line.rstrip() for line in shown)


def pairs(rows: Iterable[tuple[str, object]]) -> str:
    """`名前  値` lines with aligned values; rows without a value are left out."""
    filled = [(name, str(value)) for name, value in rows if value not in (None, "")]
    columns = max((width(name) for name, _ in filled), default=0)
    return "\n".join(f"{pad(name, columns)}  {value}" for name, value in filled)


def with_reasoning(answer: str, reasoning: str) -> str:
    """An answer for people, behind the reasoning that led to it, if any."""
    return f"{THINKING}\n{reasoning}\n{ANSWERING}\n{answer}" if reasoning else answer


def error(problem: StudioError) -> str:
    """Code, what happened, why, and what to do next."""
    message = describe(problem)
    return "\n".join(
        [
            f"エラー [{problem.code}]: {message.what}",
            *(f"  {line}" for line in message.why.splitlines()),
            f"  → {message.next_step}",
        ]
    )


def record(values: Mapping[str, Any], indent: str = "") -> str:
    """A nested record as indented `key: value` lines; long lists are cut."""
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", record(value, indent + "  ")]
        elif isinstance(value, list):
            lines.append(f"{indent}{key}: {len(value)} 件")
        elif isinstance(value, float):
            lines.append(f"{indent}{key}: {value:.4g}")
        else:
            lines.append(f"{indent}{key}: {value}")
    return "\n".join(lines)
