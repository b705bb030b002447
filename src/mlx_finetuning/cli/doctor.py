"""`doctor`: checks the machine and says what to do."""

from __future__ import annotations

import dataclasses

from rich.cells import cell_len, set_cell_size

from mlx_finetuning.cli.session import CommandResult, Session, command

_MARKS = {"ok": "○", "warn": "△", "missing": "×"}


@command()
def doctor(session: Session) -> CommandResult:
    """マシン・メモリー・BLAS・必要な部品を調べ、直し方を示す"""
    report = session.studio.machine.doctor()
    columns = max(cell_len(item.name) for item in report.items)
    lines: list[str] = []
    for item in report.items:
        lines.append(f"{_MARKS[item.state]} {set_cell_size(item.name, columns)}  {item.value}")
        lines += [f"    → {line}" for line in item.advice.splitlines()]
    verdict = "学習できます。" if report.can_train else "足りない部品があり、学習できません。"
    record = {**dataclasses.asdict(report), "can_train": report.can_train}
    return CommandResult(record, "\n".join([*lines, "", verdict]))
