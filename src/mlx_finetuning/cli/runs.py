"""`runs list|show|watch|stop`: the experiments."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import Answer, Session, command, group
from mlx_finetuning.trainer.runs import LaterJob, Run
from mlx_finetuning.trainer.status import STATES_JA

if TYPE_CHECKING:
    from mlx_finetuning.experiment_tracker.rerun import Reproduction

runs = group("runs", "実験（学習の記録）の一覧・詳細・監視・停止")

RUN_ID = click.argument("run_id", metavar="ID")


@command(runs, "list")
def list_(session: Session) -> Answer:
    """実験の一覧を、新しい順に表示する"""
    found = session.studio.runs()
    rows = ([run.run_id, run.state_ja, run.model, run.dataset, run.engine] for run in found)
    shown = text.table(["実験ID", "状態", "モデル", "データセット", "エンジン"], rows)
    nothing = "実験はまだありません。mlx-finetuning demo で試せます。"
    return Answer({"runs": [as_json(run) for run in found]}, shown if found else nothing)


@command(runs)
@RUN_ID
def show(session: Session, run_id: str) -> Answer:
    """1つの実験の状態・設定・損失を表示する"""
    run = session.studio.run(run_id)
    losses = latest_losses(session.studio.metrics(run_id))
    later = session.studio.later_jobs(run_id)
    data = {
        **as_json(run),
        "losses": losses,
        "jobs": [dataclasses.asdict(job) for job in later],
    }
    return Answer(data, described(run, losses, later))


@command(runs)
@RUN_ID
def watch(session: Session, run_id: str) -> Answer:
    """実験が終わるまで進みを表示する（Ctrl-Cで表示だけをやめる）"""
    with session.progress() as progress:
        result = session.studio.watch(run_id, progress)
    run = session.studio.run(run_id)
    return Answer({**as_json(run), "result": result}, f"{run_id}: {run.state_ja}")


@command(runs)
@RUN_ID
def stop(session: Session, run_id: str) -> Answer:
    """実験を止める。それまでの途中保存は残る"""
    run = session.studio.stop(run_id)
    return Answer(as_json(run), f"{run_id}: {run.state_ja}")


@command(runs)
@RUN_ID
@click.option("--detach", is_flag=True, help="始めたら、終わりを待たずに戻る")
def rerun(session: Session, run_id: str, detach: bool) -> Answer:
    """同じ設定・データ・モデルで学習し直し、損失が同じになるかを確かめる

    CPUでは、最後の桁まで同じになります。データかモデルが変わっているときは、始めずに知らせます。
    """
    new_id = session.studio.rerun(run_id)
    data = {"run_id": new_id, "rerun_of": run_id}
    if detach:
        return Answer(data, f"学習し直しを始めました: {new_id}")
    click.echo(f"学習し直しを始めました: {new_id}", err=True)
    with session.progress() as progress:
        session.studio.watch(new_id, progress, stops=True)
    found = session.studio.compare_losses(run_id, new_id)
    exit_code = 0 if found.is_exact else 1
    return Answer({**data, **dataclasses.asdict(found)}, _reproduced(new_id, found), exit_code)


def _reproduced(new_id: str, found: Reproduction) -> str:
    if found.is_exact:
        return f"{new_id}: 損失{found.compared}個が、最後の桁まで同じになりました。"
    return (
        f"{new_id}: 損失{found.compared}個のうち、同じなのは{found.equal}個です"
        f"（差は最大 {found.largest_difference:.2g}）。"
        "MLXの版、計算に使う装置、プロセスの数が違うと、同じになりません。"
    )


def as_json(run: Run) -> dict[str, Any]:
    """A run for programs: its record, its state flat, and whether it is a simulation."""
    record = dataclasses.asdict(run)
    return {**record, "state": run.status.state, "simulated": run.simulated}


def latest_losses(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """The last update, its loss, and the first and last validation loss."""
    trained = [line for line in metrics if "loss" in line]
    valid = [line["valid_loss"] for line in metrics if "valid_loss" in line]
    return {
        "update": trained[-1].get("update") if trained else 0,
        "loss": trained[-1]["loss"] if trained else None,
        "first_valid_loss": valid[0] if valid else None,
        "last_valid_loss": valid[-1] if valid else None,
    }


def described(run: Run, losses: dict[str, Any], later: list[LaterJob]) -> str:
    status = run.status
    shown = text.pairs(
        [
            ("実験ID", run.run_id),
            ("状態", run.state_ja),
            ("読めない記録", "、".join(run.problems)),
            ("モデル", run.model),
            ("データセット", run.dataset),
            ("エンジン", run.engine),
            ("段階", status.stage if status.is_living else ""),
            ("進み", f"{status.done}/{status.total}" if status.total else ""),
            ("経過", text.duration(status.elapsed_s) if status.started_at else ""),
            ("残り", None if status.remaining_s is None else text.duration(status.remaining_s)),
            ("学習の損失", losses["loss"]),
            ("検証の損失（学習前）", losses["first_valid_loss"]),
            ("検証の損失（最新）", losses["last_valid_loss"]),
            ("版", "、".join(f"{name} {version}" for name, version in run.versions.items())),
        ]
    )
    jobs = "\n".join(f"  {job.name}  {STATES_JA[job.status.state]}" for job in later)
    problem = _problem(run)
    return "\n".join(
        part for part in (shown, "その後の作業:\n" + jobs if jobs else "", problem) if part
    )


def _problem(run: Run) -> str:
    from mlx_finetuning.errors import StudioError

    return text.error(StudioError.from_json(run.status.error)) if run.status.error else ""
