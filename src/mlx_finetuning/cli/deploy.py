"""`deploy`: brings the tuned model into Ollama and proves that it is the trained one."""

from __future__ import annotations

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.ollama import HOST
from mlx_finetuning.cli.runs import RUN_ID
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.config import DEPLOY_FORMS, QUANTIZATIONS, DeployConfig, as_dict
from mlx_finetuning.language import _


@command()
@RUN_ID
@click.option(
    "--name", default="", metavar="NAME", help=_("Ollamaでの名前。省略時はモデルと実験から作る")
)
@click.option("--quant", type=click.Choice(QUANTIZATIONS), help=_("量子化の種類"))
@click.option(
    "--form",
    type=click.Choice(DEPLOY_FORMS),
    help=_("モデルの全体か、元のモデル（ollama:名前）の上に置くアダプターだけか"),
)
@click.option("--system", metavar="SENTENCE", help=_("システム文。省略時は学習データのもの"))
@HOST
@click.option("--replace", is_flag=True, help=_("同じ名前のモデルを置き換える"))
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help=_("設定を1つ変える"))
def deploy(
    session: Session,
    run_id: str,
    name: str,
    host: str | None,
    replace: bool,
    assignments: tuple[str, ...],
    **named: str | None,
) -> CommandResult:
    """学習したモデルをOllamaに登録し、学習したとおりに動くことを確かめる"""
    options = {key: value for key, value in named.items() if value is not None}
    settings = config.load(DeployConfig, {**config.parse_assignments(list(assignments)), **options})
    with session.progress() as progress:
        result = session.studio.ollama.deploy(run_id, name, settings, host, replace=replace).follow(
            progress
        )
    lines = text.pairs(
        [
            (_("名前"), result.name),
            (_("場所"), result.host),
            (_("ファイル"), result.path),
            ("Modelfile", result.modelfile),
            (_("停止文字列"), " ".join(result.stops)),
            (_("システム文"), text.shorten(result.system, 60)),
        ]
    )
    shown = f"{result.verdict}\n{lines}\n→ ollama run {result.name}"
    return CommandResult({"run_id": run_id, **as_dict(result)}, shown)
