"""`train`: starts a run and, unless detached, follows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.runs import as_json
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.config import ENGINES, GOALS, TrainConfig, as_dict
from mlx_finetuning.jobs import kinds
from mlx_finetuning.jobs.ending import ending
from mlx_finetuning.jobs.results import Estimate, TrainResult
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.utils import goals

_SETTINGS = ", ".join(item.name for item in dataclasses.fields(TrainConfig))

OBJECTIVES = {
    "dpo": _("好みの比較（DPO）"),
    "orpo": _("好みの比較（ORPO）"),
    "simpo": _("好みの比較（SimPO）"),
    "kto": _("○×の付いた答え（KTO）"),
}


@command()
@click.option(
    "--model",
    metavar="MODEL",
    help=_("ベースモデルの名前・フォルダ・GGUFファイル・ollama:名前・Hugging FaceのID"),
)
@click.option("--dataset", metavar="NAME", help=_("データセットの名前"))
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="YAML",
    help=_("設定ファイル"),
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help=_("設定を1つ変える（何度でも）。設定: {settings}").format(settings=_SETTINGS),
)
@click.option(
    "--goal",
    type=click.Choice(GOALS),
    help=_("この目的に合った更新の回数と学習率で学習する（設定で変えられる）。{goals}").format(
        goals=goals.listed()
    ),
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help=_("学習エンジン。simulation は標準モード（シミュレーション）で、学習しない"),
)
@click.option(
    "--hosts",
    metavar="A,B",
    help=_("学習を分ける機械。この機械を最初に（docs/multi-machine.ja.md）"),
)
@click.option(
    "--ranks", metavar="N", help=_("1台の中で学習を分けるプロセスの数（--hosts の練習用）")
)
@click.option("--resume", metavar="ID", help=_("止まった学習を、最後の途中保存から続ける"))
@click.option(
    "--continue",
    "parent",
    metavar="ID",
    help=_(
        "終わった学習の続きを、新しい学習として始める。--set と --dataset で、データや更新の回数を変えられる"
    ),
)
@click.option("--detach", is_flag=True, help=_("始めるだけで、終わりを待たない"))
@click.option(
    "--dry-run",
    is_flag=True,
    help=_("学習せずに、必要なメモリー・時間・適した batch_size を見積もる"),
)
def train(
    session: Session,
    config_file: Path | None,
    assignments: tuple[str, ...],
    resume: str | None,
    parent: str | None,
    detach: bool,
    dry_run: bool,
    goal: str | None,
    **named: str | None,
) -> CommandResult:
    """モデルを学習する。Ctrl-Cで、途中保存を残して止まる

    ほかの学習が動いているときは、順番を待ってから始まります。止まった学習は --resume で、
    止まらなかったときと同じ結果になるように続けられます。
    """
    if resume:
        if config_file or assignments or parent or goal or any(named.values()):
            raise click.UsageError(_("--resume は、設定を変えるオプションと一緒に使えません。"))
        if dry_run:
            raise click.UsageError(_("--resume と --dry-run は、一緒に使えません。"))
        session.studio.training.resume(resume)
        run_id, started = resume, _("学習の続きを始めました: {run_id}")
    elif parent:
        if config_file or dry_run:
            raise click.UsageError(_("--continue は、--config や --dry-run と一緒に使えません。"))
        changes = {**config.parse_assignments(list(assignments)), **_given(named)}
        run_id = session.studio.training.continue_run(parent, changes)
        started = _("続きの学習を始めました: {run_id}")
    else:
        chosen = settings(config_file, assignments, named)
        if goal:
            usual = session.studio.training.preset(chosen, "usual", goal)
            chosen = settings(config_file, assignments, named, as_dict(usual))
        if dry_run:
            with session.progress() as progress:
                estimate = session.studio.training.estimate(chosen).follow(progress)
            return CommandResult(
                as_dict(estimate), shown_estimate(estimate), 0 if estimate.fits else 1
            )
        run_id = session.studio.training.start(chosen)
        started = _("学習を始めました: {run_id}")
        if chosen.engine == "simulation":
            started = _("シミュレーションを始めました: {run_id}")
    click.echo(started.format(run_id=run_id), err=True)
    if waits_for := session.studio.jobs.before(run_id):
        names = _("、").join(f"{kinds.of(job.kind).name} {job.run_id}".strip() for job in waits_for)
        click.echo(
            _("順番待ちです。先の作業（{names}）が終わると始まります。").format(names=names),
            err=True,
        )
    if detach:
        run = session.studio.runs.show(run_id)
        return CommandResult(
            as_json(run), _("進みの表示: mlx-finetuning runs watch {run_id}").format(run_id=run_id)
        )
    with session.progress() as progress:
        result = session.studio.runs.follow(run_id, _telling(session, run_id, progress), stops=True)
    run = session.studio.runs.show(run_id)
    return CommandResult({**as_json(run), "result": as_dict(result)}, finished(run_id, result))


TOLD = {"warning": _("注意: {text}"), "ends": "{text}"}
"""Events that are said, and how."""


def _telling(session: Session, run_id: str, progress: Progress) -> Progress:
    """Progress that also says what the run warns of, once each, before and while it trains."""
    warned: set[str] = set()

    def tell(step: Step) -> None:
        for event in session.studio.runs.events(run_id):
            if event.event in TOLD and event.text not in warned:
                warned.add(event.text)
                click.echo(TOLD[event.event].format(text=event.text), err=True)
        progress(step)

    return tell


def shown_estimate(estimate: Estimate) -> str:
    """Memory, time and batch sizes of a run, or why it cannot be trained."""
    if not estimate.fits:
        return _("この設定では学習できません。\n{reason}").format(reason=estimate.reason_ja)
    memory = _("約 {peak:.2f} GB（使えるのは {available:.2f} GB）").format(
        peak=estimate.peak_memory_gb, available=estimate.available_gb
    )
    seconds = _("約 {seconds:.2f} 秒 × {updates} 回").format(
        seconds=estimate.seconds_per_update, updates=estimate.updates
    )
    rows = [
        (_("メモリー"), memory),
        (_("1回の更新"), seconds),
        (_("全体の時間"), _("約 {time}").format(time=text.duration(estimate.total_s))),
        (
            "batch_size",
            _("{examples}（一度に計算するのは {at_once} 例）").format(
                examples=estimate.batch_size, at_once=estimate.micro_batch_size
            ),
        ),
        (
            _("一度に収まる数"),
            _("{examples} 例（学習用の行は {rows} 行）").format(
                examples=estimate.largest_batch_size, rows=estimate.rows
            ),
        ),
        (_("おすすめの数"), estimate.recommended_batch_size),
        (_("プロセス"), estimate.processes),
        (_("理由"), estimate.reason_ja),
    ]
    return text.pairs(rows)


def settings(
    config_file: Path | None,
    assignments: tuple[str, ...],
    named: dict[str, str | None],
    usual: Mapping[str, object] = MappingProxyType({}),
) -> TrainConfig:
    """`usual`, file, then `--set`, then options of their own: the later wins. Raises InvalidSettings."""
    values = {**usual, **({} if config_file is None else config.read_yaml(config_file))}
    values |= config.parse_assignments(list(assignments))
    values |= _given(named)
    return config.load(TrainConfig, values)


def _given(named: dict[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in named.items() if value is not None}


def finished(run_id: str, result: TrainResult) -> str:
    """What a run came to, and the next step."""
    if result.simulated:
        return _(
            "シミュレーションが終わりました: {run_id}\n学習は行われていません。損失は作りもので、アダプターもありません。"
        ).format(run_id=run_id)
    objective = OBJECTIVES.get(result.objective)  # of answers and text none is named
    told = ending(result).text
    return "\n".join(
        [
            *([told] if told else []),
            _("学習が終わりました: {run_id}").format(run_id=run_id),
            *([_("学習の目的: {objective}").format(objective=objective)] if objective else []),
            _("検証の損失: {before} → {after}").format(
                before=_loss(result.first_valid_loss), after=_loss(result.last_valid_loss)
            ),
            _("アダプター: {path}").format(path=result.adapter_path),
            *cut_answers(result),
            *replayed(result),
            *checks(result),
            _("次は: mlx-finetuning evaluate {run_id}").format(run_id=run_id),
        ]
    )


def cut_answers(result: TrainResult) -> list[str]:
    """How many answers were learned without their end; nothing where all were whole."""
    if not result.cut_answers:
        return []
    return [
        _(
            "注意: {rows:,}行は、上限（max_length）より長く、回答の終わりを学んでいません。"
            "max_length を増やして学習し直すと、全体を学べます。"
        ).format(rows=result.cut_answers)
    ]


def replayed(result: TrainResult) -> list[str]:
    """How much of the base's own answers was learned again; nothing where it was not asked for."""
    if not result.replayed:
        return []
    return [
        _(
            "忘れにくくするため、ベースモデル自身の答え{answers:,}件を一緒に学習しました（replay）。"
        ).format(answers=result.replayed)
    ]


def checks(result: TrainResult) -> list[str]:
    """What the run proved about itself, a line each."""
    marks = {True: _("確認: {text}"), False: _("警告: {text}")}
    return [marks[check.passed].format(text=check.text_ja) for check in result.checks]


def _loss(value: float | None) -> str:
    return _("なし") if value is None else f"{value:.3f}"
