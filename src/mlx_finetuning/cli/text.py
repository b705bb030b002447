"""How the terminal shows things: tables, durations, errors. Wide characters count two columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from mlx_finetuning.errors import StudioError
from mlx_finetuning.language import N_, _, n_
from mlx_finetuning.messages import describe
from mlx_finetuning.utils.units import duration as duration
from mlx_finetuning.utils.units import percent as percent
from mlx_finetuning.utils.units import size as size

if TYPE_CHECKING:
    from mlx_finetuning.experiment_tracker.evaluation.results import Verdict

THINKING, ANSWERING = N_("（考えた過程）"), N_("（答え）")


def shorten(text: str, columns: int) -> str:
    """`text` cut to `columns`, on one line."""
    text = " ".join(text.split())
    if cell_len(text) <= columns:
        return text
    return set_cell_size(text, columns - 1).rstrip() + "…"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows below a heading, in aligned columns."""
    lines = [list(heading), *(list(row) for row in rows)]
    columns = [max(cell_len(line[index]) for line in lines) for index in range(len(heading))]
    shown = (
        "  ".join(set_cell_size(cell, size) for cell, size in zip(line, columns, strict=True))
        for line in lines
    )
    return "\n".join(line.rstrip() for line in shown)


def pairs(rows: Iterable[tuple[str, object]]) -> str:
    """`名前  値` lines with aligned values; rows without a value are left out."""
    filled = [(name, str(value)) for name, value in rows if value not in (None, "")]
    columns = max((cell_len(name) for name, __ in filled), default=0)
    return "\n".join(f"{set_cell_size(name, columns)}  {value}" for name, value in filled)


def with_reasoning(answer: str, reasoning: str) -> str:
    """An answer for people, behind the reasoning that led to it, if any."""
    return f"{_(THINKING)}\n{reasoning}\n{_(ANSWERING)}\n{answer}" if reasoning else answer


def error(problem: StudioError) -> str:
    """Code, what happened, why, and what to do next."""
    message = describe(problem)
    return "\n".join(
        [
            _("エラー [{code}]: {what}").format(code=problem.code, what=message.what),
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
            count = n_("{count} 件", len(value)).format(count=len(value))
            lines.append(f"{indent}{key}: {count}")
        elif isinstance(value, float):
            lines.append(f"{indent}{key}: {value:.4g}")
        else:
            lines.append(f"{indent}{key}: {value}")
    return "\n".join(lines)


OPTIONS = {
    "lower_rate": "train --set learning_rate=…",
    "more_updates": "train --continue ID --set iterations=…",
    "stop_at_best": "train --set iterations=…",
    "run_on": "train --set patience=0",
    "longer_answers": "evaluate --set max_tokens=…",
}
"""By the state of a first line, how a command says what its advice asks for."""


def advice(line: Verdict) -> list[str]:
    """What to do next, with the option that does it; nothing where there is nothing to do."""
    if not line.advice:
        return []
    if line.state not in OPTIONS:
        return [f"  → {line.advice}"]
    return [_("  → {advice}（{option}）").format(advice=line.advice, option=OPTIONS[line.state])]
