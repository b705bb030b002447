"""`export`: writes the tuned model to one file and verifies it."""

from __future__ import annotations

from pathlib import Path

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.runs import RUN_ID
from mlx_finetuning.cli.session import Answer, Session, command
from mlx_finetuning.config import FORMATS, QUANTIZATIONS, ExportConfig


@command()
@RUN_ID
@click.option("--format", type=click.Choice(FORMATS), help="書き出す形式")
@click.option("--quant", type=click.Choice(QUANTIZATIONS), help="量子化の種類")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="書き出し先のファイル。省略時は models/gguf/ID/ の中",
)
def export(session: Session, run_id: str, out: Path | None, **named: str | None) -> Answer:
    """学習したモデルをファイルに書き出し、MLXのモデルと比べて確かめる"""
    given = {key: value for key, value in named.items() if value is not None}
    with session.progress() as progress:
        result = session.studio.export(run_id, config.load(ExportConfig, given), out, progress)
    return Answer({"run_id": run_id, **result}, text.record(result))
