"""`certify`: whether everything that was made of a run is still the trained model."""

from __future__ import annotations

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.runs import RUN_ID
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.config import CertifyConfig, as_dict
from mlx_finetuning.experiment_tracker.evaluation.results import LIGHTS
from mlx_finetuning.jobs.results import Certificate
from mlx_finetuning.language import _

HEADING = (
    _("動かし方"),
    _("質問", "count"),
    _("質問のトークン"),
    _("次の語の一致"),
    _("予測の差"),
    _("答えの一致"),
    _("自分で終了"),
)


@command()
@RUN_ID
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help=_("設定を1つ変える"))
def certify(session: Session, run_id: str, assignments: tuple[str, ...]) -> CommandResult:
    """書き出したモデルが、学習したモデルと同じかを証明する"""
    settings = config.load(CertifyConfig, config.parse_assignments(list(assignments)))
    with session.progress() as progress:
        certificate = session.studio.evaluation.certify(run_id, settings).follow(progress)
    data = {"run_id": run_id, **as_dict(certificate)}
    return CommandResult(data, table(certificate), 0 if certificate.passed else 1)


def table(certificate: Certificate) -> str:
    """What the terminal shows of a certificate: its verdict, and a line for each engine."""
    figures = []
    for row in certificate.rows:
        share = row.reasoning_equal  # only of models that think
        reasoning = (
            "" if share is None else _("（考えた過程 {share}）").format(share=text.percent(share))
        )
        figures.append(
            (
                row.label,
                str(row.prompts),
                text.percent(row.prompt_ids_equal),
                "―" if row.top1 is None else text.percent(row.top1),
                "―" if row.kl is None else f"{row.kl:.2g}",
                text.percent(row.answers_equal) + reasoning,
                text.percent(row.ended),
            )
        )
    lines = [f"{LIGHTS[certificate.level]} {certificate.verdict}", "", text.table(HEADING, figures)]
    if certificate.problems:
        lines += ["", _("違い:"), *(f"  - {problem}" for problem in certificate.problems)]
    lines += [_("注意: {note}").format(note=note) for note in certificate.notes]
    return "\n".join(lines)
