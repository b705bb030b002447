"""`evaluate`: base against tuned on held-out rows."""

from __future__ import annotations

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.runs import RUN_ID
from mlx_finetuning.cli.session import Answer, Session, command
from mlx_finetuning.config import EvaluateConfig


@command()
@RUN_ID
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="設定を1つ変える")
def evaluate(session: Session, run_id: str, assignments: tuple[str, ...]) -> Answer:
    """学習の前後で、正答率と損失を比べる"""
    settings = config.load(EvaluateConfig, config.parse_assignments(list(assignments)))
    with session.progress() as progress:
        report = session.studio.evaluate(run_id, settings, progress)
    return Answer({"run_id": run_id, "report": report}, text.record(report))
