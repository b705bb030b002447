"""`doctor`: checks the machine and says what to do."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Iterator
from types import FrameType

import click
from rich.cells import cell_len, set_cell_size

from mlx_finetuning import config
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.language import _

_MARKS = {"ok": "○", "warn": "△", "missing": "×"}


@command()
@click.option(
    "--full",
    is_flag=True,
    help=_("実際に学習・書き出し・対話をして、速さも測る（数分）。結果は、そのまま送れる文で出る"),
)
@click.option(
    "--model",
    metavar="MODEL",
    help=_("--full で使うモデルの名前かフォルダ。省略時は内蔵の tiny-ja"),
)
def doctor(session: Session, full: bool, model: str | None) -> CommandResult:
    """マシン・メモリー・BLAS・必要な部品を調べ、直し方を示す"""
    if full:
        from mlx_finetuning import selftest

        with session.progress() as progress, _ended_as_by_ctrl_c():
            test = selftest.run(session.studio, model or config.TrainConfig.model, progress)
        text = selftest.as_text(test, session.studio.workspace)
        findings = [dataclasses.asdict(finding) for finding in test.findings]
        told = {"passed": test.passed, "model": test.model, "findings": findings, "text": text}
        return CommandResult(told, text, 0 if test.passed else 1)
    if model:
        raise click.UsageError(_("--model は --full と一緒に使います。"))
    report = session.studio.machine.doctor()
    columns = max(cell_len(item.name) for item in report.items)
    lines: list[str] = []
    for item in report.items:
        lines.append(f"{_MARKS[item.state]} {set_cell_size(item.name, columns)}  {item.value}")
        lines += [f"    → {line}" for line in item.advice.splitlines()]
    verdict = _("学習できます。") if report.can_train else _("足りない部品があり、学習できません。")
    record = {**dataclasses.asdict(report), "can_train": report.can_train}
    return CommandResult(record, "\n".join([*lines, "", verdict]))


@contextlib.contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM and a closed terminal end what was started too: its folder is thrown away."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # What is ignored, as by nohup, stays so.
    heeded = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in heeded:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, signal.SIG_DFL)
