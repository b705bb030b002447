"""`export`: writes the tuned model to files and verifies them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.runs import RUN_ID
from mlx_finetuning.cli.session import Answer, Session, command
from mlx_finetuning.config import FORMATS, QUANTIZATIONS, ExportConfig


@command()
@RUN_ID
@click.option("--format", type=click.Choice(FORMATS), help="書き出す形式")
@click.option(
    "--quant",
    "quants",
    type=click.Choice(QUANTIZATIONS),
    multiple=True,
    help="量子化の種類（何度でも）",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="書き出し先のファイルかフォルダ。省略時は models/gguf/ID/",
)
def export(
    session: Session, run_id: str, quants: tuple[str, ...], out: Path | None, **named: str | None
) -> Answer:
    """学習したモデルをファイルに書き出し、MLXのモデルと比べて確かめる"""
    given = {key: value for key, value in named.items() if value is not None}
    settings = config.load(ExportConfig, given)
    with session.progress() as progress:
        result = session.studio.export(run_id, settings, quants, out, progress)
    return Answer({"run_id": run_id, **result}, _shown(result))


def _shown(result: dict[str, Any]) -> str:
    return "\n".join(
        f"{written['path']}（{text.size(written['size_bytes'])}）\n  {written['verdict']}"
        for written in result["files"].values()
    )
