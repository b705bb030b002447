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
@click.option(
    "--importance",
    is_flag=True,
    help="学習データで重みの重要度を測り、量子化に使う（imatrix。小さな型の質が上がる）",
)
@click.option(
    "--advise",
    is_flag=True,
    help="量子化の種類ごとの大きさと質の低下を測り、勧める（何も残さない）",
)
def export(
    session: Session,
    run_id: str,
    quants: tuple[str, ...],
    out: Path | None,
    advise: bool,
    **named: str | bool | None,
) -> Answer:
    """学習したモデルをファイルに書き出し、MLXのモデルと比べて確かめる"""
    given = {key: value for key, value in named.items() if value is not None}
    settings = config.load(ExportConfig, given)
    with session.progress() as progress:
        result = session.studio.exports.start(run_id, settings, quants, out, advise=advise).follow(
            progress
        )
    shown = _advice(result) if advise else _shown(result)
    return Answer({"run_id": run_id, **result}, shown)


def _shown(result: dict[str, Any]) -> str:
    return "\n".join(
        f"{written['path']}（{text.size(written['size_bytes'])}）\n  {written['verdict']}"
        for written in result["files"].values()
    )


def _advice(result: dict[str, Any]) -> str:
    lines = [
        f"{one['quant']:8}{text.size(one['size_bytes']):>10}"
        f"  一致率 {one['top1_agreement']:.1%}  パープレキシティの変化 {one['perplexity_change']:+.2%}"
        for one in result["candidates"]
    ]
    advised = f"お勧め: {result['recommended']}（{result['tokens']}トークンで比較）"
    return "\n".join([*lines, advised])
