"""`tune`: finds the settings by a few short runs, and trains with the best of them."""

from __future__ import annotations

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.jobs.results import Tuned
from mlx_finetuning.language import _

HEADING = (
    *(_("設定", "of a run"), _("長さ"), _("出来"), _("忘れた割合")),
    *(_("時間"), _("実験ID")),
)


MODEL = click.option(
    "--model",
    metavar="MODEL",
    default=TrainConfig.model,
    help=_("ベースモデルの名前かフォルダ。省略時は内蔵の tiny-ja"),
)


@command()
@click.option("--dataset", metavar="NAME", help=_("データセットの名前"))
@MODEL
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=15.0,
    help=_("全部で使う時間（分）。5、15、60 など。初期値は15"),
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help=_("学習の設定を1つ変える")
)
@click.option("--resume", metavar="NAME", help=_("止まった続きを、途中の候補から始める"))
@click.option("--detach", is_flag=True, help=_("始めるだけで、終わりを待たない"))
def tune(
    session: Session,
    dataset: str | None,
    model: str,
    minutes: float,
    assignments: tuple[str, ...],
    resume: str | None,
    detach: bool,
) -> CommandResult:
    """短い学習を比べて、よい設定を探し、その設定で最後まで学習する

    学習率、ランク、更新の回数、言い換えの割合、忘れにくくする例の数を、教えていない質問の出来と、忘れた割合で比べます。
    比べた学習は、どれもふつうの実験として残ります。Ctrl-Cで止めても、終わった候補は失われません。
    """
    if (dataset is None) == (resume is None):
        raise click.UsageError(
            _("--dataset NAME か --resume NAME の、どちらか1つを書いてください。")
        )
    studio = session.studio
    if dataset is not None:
        usual = studio.training.preset(TrainConfig(model=model, dataset=dataset), "usual")
        changed = config.parse_assignments(list(assignments))
        settings = config.load(TrainConfig, {**as_dict(usual), **changed})
        name = studio.tuning.start(settings, minutes)
    else:
        name = str(resume)
        studio.tuning.resume(name)
    click.echo(
        _("設定を探し始めました: {name}（止めたあとの続きは tune --resume {name}）").format(
            name=name
        ),
        err=True,
    )
    if detach:
        return CommandResult(
            {"name": name},
            _("続きを見るには: mlx-finetuning tune --resume {name}").format(name=name),
        )
    with session.progress() as progress:
        tuned = studio.tuning.follow(name).follow(progress)
    return CommandResult({"name": name, **as_dict(tuned)}, shown(tuned))


def shown(tuned: Tuned) -> str:
    """Why this choice, and all that was tried."""
    rows = [
        (
            trial.text,
            _("最後まで") if trial.share == 1 else f"{trial.share:.0%}",
            text.percent(trial.goal),
            text.percent(trial.forgotten),
            text.duration(trial.seconds),
            trial.run_id,
        )
        for trial in tuned.trials
    ]
    took = _("かかった時間: {took}（頼まれた時間 {asked}）").format(
        took=text.duration(tuned.seconds), asked=text.duration(tuned.asked_s)
    )
    return "\n".join(
        [
            tuned.reason,
            "",
            text.table(HEADING, rows),
            "",
            took,
            _("次は: mlx-finetuning evaluate {run_id}").format(run_id=tuned.run_id),
        ]
    )
