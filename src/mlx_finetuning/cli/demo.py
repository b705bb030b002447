"""`demo`: the whole chain on the bundled data."""

from __future__ import annotations

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import Answer, Session, command


@command()
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="学習の設定を1つ変える"
)
def demo(session: Session, assignments: tuple[str, ...]) -> Answer:
    """付属のデータで、学習から書き出しまでをひと通り試す（約2分）"""
    from mlx_finetuning.demo import run_demo

    settings = config.parse_assignments(list(assignments))
    with session.progress() as progress:
        result = run_demo(session.studio, settings, progress)
    return Answer(result, text.record(result))
