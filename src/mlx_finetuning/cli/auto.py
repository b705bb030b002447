"""`auto`: from a file to a model that one can talk to, in one go."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.data import GOAL, MAPPING
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.cli.tune import MODEL
from mlx_finetuning.config import QUANTIZATIONS, ExportConfig, PrepareConfig, TrainConfig, as_dict
from mlx_finetuning.jobs.results import Journey, journey_stage
from mlx_finetuning.language import _
from mlx_finetuning.presets import PRESETS
from mlx_finetuning.studio.tuning import KIND
from mlx_finetuning.utils.goals import GOALS_JA

TUNING = f"{KIND}-"
"""How names of tunings begin; those of runs begin with a date."""


@command()
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@GOAL
@MAPPING
@click.option("--name", metavar="NAME", help=_("データセットの名前。省略時はファイルの名前から"))
@click.option(
    "--replace", is_flag=True, help=_("同じ名前のデータセットを置き換える（前のものはゴミ箱へ）")
)
@MODEL
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="usual",
    help=_("学習のしかた。trialはお試し、usualは標準（初期値）、thoroughはじっくり"),
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help=_("学習の設定を1つ変える")
)
@click.option(
    "--quant",
    "quants",
    type=click.Choice(QUANTIZATIONS),
    multiple=True,
    help=_("量子化の種類（何度でも）"),
)
@click.option(
    "--tune",
    "minutes",
    metavar="MINUTES",
    type=click.FloatRange(min=0, min_open=True),
    help=_("先に、この時間（分）で設定を探す（tune と同じ）"),
)
@click.option(
    "--resume",
    metavar="ID",
    help=_(
        "止まったおまかせを、止まった段階から続ける（実験のID。設定を探している間は tune-… の名前）"
    ),
)
def auto(
    session: Session,
    file: Path | None,
    goal: str | None,
    mapping: tuple[str, ...],
    name: str | None,
    replace: bool,
    model: str,
    preset: str,
    assignments: tuple[str, ...],
    quants: tuple[str, ...],
    minutes: float | None,
    resume: str | None,
) -> CommandResult:
    """ファイルから、対話できるモデルまでを一度に作る（学習 → 確かめる → 軽くする → 同じか比べる）

    Ctrl-Cで、途中までを残して止まります。続きは --resume ID で、止まった段階から始まります。
    """
    if (file is None) == (resume is None):
        raise click.UsageError(_("FILE か --resume ID の、どちらか1つを書いてください。"))
    studio = session.studio
    with session.progress() as progress:
        if file is not None:
            dataset = name or studio.data.suggested_name(file)
            summary = studio.data.prepare(
                file,
                dataset,
                PrepareConfig(goal=goal or PrepareConfig.goal),
                config.parse_assignments(list(mapping)) or None,
                replace=replace,
                progress=progress,
            )
            base = TrainConfig(model=model, dataset=dataset)
            chosen = as_dict(studio.training.preset(base, preset))
            changed = config.parse_assignments(list(assignments))
            settings = config.load(TrainConfig, {**chosen, **changed})
            quants = quants or (ExportConfig.quant,)
            if minutes is None:
                name = studio.auto.start(settings, quants)
            else:
                name = studio.auto.start_tuned(settings, minutes, quants)
            click.echo(
                _(
                    "目的: {goal}（{reason}）。"
                    "教える行 {taught}、教えない行 {held_back}、更新 {iterations:,}回。"
                ).format(
                    goal=_(GOALS_JA[summary.goal]),
                    reason=summary.goal_reason,
                    taught=summary.counts["train"],
                    held_back=summary.counts["valid"] + summary.counts["test"],
                    iterations=settings.iterations,
                ),
                err=True,
            )
        else:
            name = str(resume)
            (studio.tuning if name.startswith(TUNING) else studio.auto).resume(name)
        click.echo(
            _("おまかせを始めました: {name}（止めたあとの続きは auto --resume {name}）").format(
                name=name
            ),
            err=True,
        )
        run_id = name
        if name.startswith(TUNING):
            tuned = studio.tuning.follow(name).follow(progress)
            click.echo(
                _("{reason}\n実験: {run_id}").format(reason=tuned.reason, run_id=tuned.run_id),
                err=True,
            )
            run_id = tuned.run_id
        journey = studio.auto.follow(run_id).follow(progress)
    line = studio.evaluation.first_line(run_id)
    certificate = studio.evaluation.certificate(run_id)
    found = {
        "outcome": line and dataclasses.asdict(line),
        "certificate": certificate and dataclasses.asdict(certificate),
    }
    return CommandResult({**dataclasses.asdict(journey), **found}, _shown(session, journey))


def _shown(session: Session, journey: Journey) -> str:
    """The first line, what to do next, and where everything is."""
    run_id, evaluation = journey.run_id, session.studio.evaluation
    line, certificate = evaluation.first_line(run_id), evaluation.certificate(run_id)
    lines = []
    if line is not None:
        lines += [line.line, *text.advice(line)]
    if ended := session.studio.runs.ending(session.studio.runs.show(run_id)).text:
        lines.append(f"  {ended}")
    if certificate is not None:
        lines.append(certificate.verdict)
    lines += [
        "",
        text.pairs(
            [
                *((f"GGUF {quant}", path) for quant, path in journey.gguf.items()),
                (_("報告書"), session.studio.workspace.run(run_id).report_html),
                *(
                    (journey_stage(kind), text.duration(took))
                    for kind, took in journey.seconds.items()
                ),
                (_("話す"), f"mlx-finetuning chat {run_id} --engine gguf"),
            ]
        ),
    ]
    return "\n".join(lines)
