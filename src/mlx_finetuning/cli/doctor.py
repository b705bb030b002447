"""`doctor`: checks the machine and says what to do."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import Answer, Session, command

if TYPE_CHECKING:
    from mlx_finetuning.doctor import Report

_MARKS = {"ok": "○", "warn": "△", "missing": "×"}


@command()
def doctor(session: Session) -> Answer:
    """マシン・メモリー・BLAS・必要な部品を調べ、直し方を示す"""
    report = session.studio.machine.doctor()
    record = {**dataclasses.asdict(report), "can_train": report.can_train}
    return Answer(record, _shown(report))


def _shown(report: Report) -> str:
    columns = max(text.width(item.name) for item in report.items)
    lines: list[str] = []
    for item in report.items:
        lines.append(f"{_MARKS[item.state]} {text.pad(item.name, columns)}  {item.value}")
        lines += [f"    → {line}" for line in item.advice.splitlines()]
    verdict = "学習できます。" if report.can_train else "足りない部品があり、学習できません。"
    return "\n".join([*lines, "", verdict])
