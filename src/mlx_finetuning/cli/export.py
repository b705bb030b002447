"""`export`: writes the tuned model to files and verifies them."""

from __future__ import annotations

from pathlib import Path

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.runs import RUN_ID, STRENGTH
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.config import FORMATS, QUANTIZATIONS, ExportConfig
from mlx_finetuning.language import _


@command()
@RUN_ID
@STRENGTH
@click.option("--format", type=click.Choice(FORMATS), help=_("書き出す形式"))
@click.option(
    "--quant",
    "quants",
    type=click.Choice(QUANTIZATIONS),
    multiple=True,
    help=_("量子化の種類（何度でも）"),
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help=_("書き出し先のファイルかフォルダ。省略時は models/gguf/ID/"),
)
@click.option(
    "--importance",
    is_flag=True,
    help=_("学習データで重みの重要度を測り、量子化に使う（imatrix。小さな型の質が上がる）"),
)
@click.option(
    "--advise",
    is_flag=True,
    help=_("量子化の種類ごとの大きさと質の低下を測り、勧める（何も残さない）"),
)
def export(
    session: Session,
    run_id: str,
    strength: float,
    quants: tuple[str, ...],
    out: Path | None,
    advise: bool,
    **named: str | bool | None,
) -> CommandResult:
    """学習したモデルをファイルに書き出し、MLXのモデルと比べて確かめる"""
    options = {key: value for key, value in named.items() if value is not None}
    settings = config.load(ExportConfig, options)
    with session.progress() as progress:
        run_id = session.studio.merging.at_strength(run_id, strength, progress)
        result = session.studio.exports.start(run_id, settings, quants, out, advise=advise).follow(
            progress
        )
    if advise:
        lines = [
            _("{quant:8}{size:>10}  一致率 {agreement:.1%}  予測の差 {difference:.3f}").format(
                quant=row.quant,
                size=text.size(row.size_bytes),
                agreement=row.top1_agreement,
                difference=row.mean_kl,
            )
            for row in result.candidates
        ]
        lines.append(
            _("お勧め: {recommended}（{tokens}トークンで比較）").format(
                recommended=result.recommended, tokens=result.tokens
            )
        )
    else:
        lines = [
            _("{path}（{size}）").format(path=file.path, size=text.size(file.size_bytes))
            + f"\n  {file.verdict}"
            for file in result.files.values()
        ]
    return CommandResult({"run_id": run_id, **config.as_dict(result)}, "\n".join(lines))
