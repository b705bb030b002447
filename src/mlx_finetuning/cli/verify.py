"""`verify`: compares a written model with the trained one."""

from __future__ import annotations

from pathlib import Path

import click

from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.config import as_dict
from mlx_finetuning.language import _


@command()
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--run", "run_id", required=True, metavar="ID", help=_("比べる相手の実験ID"))
def verify(session: Session, path: Path, run_id: str) -> CommandResult:
    """書き出したモデルが、学習したモデルと同じ動きをするか確かめる"""
    with session.progress() as progress:
        report = session.studio.exports.verify(path, run_id).follow(progress)
    shown = [report.verdict, *(f"  {problem}" for problem in report.problems)]
    exit_code = 0 if report.proven else 1
    return CommandResult({"run_id": run_id, **as_dict(report)}, "\n".join(shown), exit_code)
