"""`runs list|show|watch|stop|rerun|merge|import|compare|note|delete|trash|report|export|share`: the experiments."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text, trashing
from mlx_finetuning.cli.session import CommandResult, Session, command, group
from mlx_finetuning.config import MERGE_METHODS, STRENGTH_JA, TRACKERS, MergeConfig
from mlx_finetuning.errors import StudioError
from mlx_finetuning.jobs.metrics import Metrics
from mlx_finetuning.jobs.runs import LaterJob, Run
from mlx_finetuning.language import _

if TYPE_CHECKING:
    from mlx_finetuning.experiment_tracker.records.differences import Comparison

runs = group("runs", _("実験（学習の記録）の一覧・詳細・監視・停止・比較・メモ・削除・書き出し"))
RECORD_FORMATS = ("csv", *TRACKERS)

RUN_ID = click.argument("run_id", metavar="ID")
OUT = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    required=True,
    help=_("書き出し先のフォルダ"),
)
STRENGTH = click.option(
    "--strength",
    type=float,
    default=1.0,
    metavar="NUMBER",
    help=_(
        "学習の強さ。0なら元のモデル、1なら学習したまま、1より大きいと強める。"
        "その強さの実験を作って（あれば使って）行う"
    ),
)


@command(runs, "list")
def list_(session: Session) -> CommandResult:
    """実験の一覧を、新しい順に表示する"""
    listed = session.studio.runs.list()
    first = {run.run_id: session.studio.evaluation.first_line(run.run_id) for run in listed}
    told = {run_id: "" if line is None else line.line for run_id, line in first.items()}
    notes = {run.run_id: session.studio.runs.note(run.run_id) for run in listed}
    listed.sort(key=lambda run: not notes[run.run_id].pinned)
    unlike = session.studio.runs.distinctions([run.run_id for run in listed])
    rows = (
        [
            run.run_id,
            notes[run.run_id].name,
            run.state_label,
            run.model,
            run.dataset,
            told[run.run_id],
            text.shorten(unlike[run.run_id], 40),
        ]
        for run in listed
    )
    heading = [
        _("実験ID"),
        _("名前"),
        _("状態"),
        _("モデル", "one"),
        _("データセット", "one"),
        _("結果"),
        _("ほかと違う設定"),
    ]
    shown = text.table(heading, rows)
    nothing = _("実験はまだありません。mlx-finetuning demo で試せます。")
    data = [
        {
            **as_json(run),
            "outcome": (line := first[run.run_id]) and dataclasses.asdict(line),
            "note": dataclasses.asdict(notes[run.run_id]),
        }
        for run in listed
    ]
    return CommandResult({"runs": data}, shown if listed else nothing)


@command(runs)
@RUN_ID
def show(session: Session, run_id: str) -> CommandResult:
    """1つの実験の状態・設定・損失を表示する"""
    run = session.studio.runs.show(run_id)
    metrics = session.studio.runs.metrics_reader(run_id)
    metrics.refresh()
    losses = latest_losses(metrics)
    later = session.studio.jobs.list(run_id)
    data = {
        **as_json(run),
        "losses": dataclasses.asdict(losses),
        "jobs": [dataclasses.asdict(job) for job in later],
    }
    return CommandResult(data, described(run, losses, later))


@command(runs)
@RUN_ID
def watch(session: Session, run_id: str) -> CommandResult:
    """実験が終わるまで進みを表示する（Ctrl-Cで表示だけをやめる）"""
    with session.progress() as progress:
        result = session.studio.runs.follow(run_id, progress)
    run = session.studio.runs.show(run_id)
    return CommandResult(
        {**as_json(run), "result": dataclasses.asdict(result)}, f"{run_id}: {run.state_label}"
    )


@command(runs)
@RUN_ID
@click.option(
    "--force",
    is_flag=True,
    help=_("応答しないときに、待たずに終わらせる（評価や書き出しも終わる）"),
)
def stop(session: Session, run_id: str, force: bool) -> CommandResult:
    """実験を止める。それまでの途中保存は残る"""
    run = session.studio.runs.stop(run_id, force=force)
    return CommandResult(as_json(run), f"{run_id}: {run.state_label}")


@command(runs)
@RUN_ID
@click.option("--detach", is_flag=True, help=_("始めたら、終わりを待たずに戻る"))
def rerun(session: Session, run_id: str, detach: bool) -> CommandResult:
    """同じ設定・データ・モデルで学習し直し、損失が同じになるかを確かめる

    CPUでは、最後の桁まで同じになります。データかモデルが変わっているときは、始めずに知らせます。
    """
    new_id = session.studio.training.rerun(run_id)
    data = {"run_id": new_id, "rerun_of": run_id}
    if detach:
        return CommandResult(data, _("学習し直しを始めました: {new_id}").format(new_id=new_id))
    click.echo(_("学習し直しを始めました: {new_id}").format(new_id=new_id), err=True)
    with session.progress() as progress:
        session.studio.runs.follow(new_id, progress, stops=True)
    reproduction = session.studio.runs.compare_losses(run_id, new_id)
    shown = _("{new_id}: 損失{compared}個が、最後の桁まで同じになりました。").format(
        new_id=new_id, compared=reproduction.compared
    )
    if not reproduction.is_exact:
        shown = _(
            "{new_id}: 損失{compared}個のうち、同じなのは{equal}個です（差は最大 {difference:.2g}）。"
            "MLXの版、計算に使う装置、プロセスの数が違うと、同じになりません。"
        ).format(
            new_id=new_id,
            compared=reproduction.compared,
            equal=reproduction.equal,
            difference=reproduction.largest_difference,
        )
    return CommandResult(
        {**data, **dataclasses.asdict(reproduction)}, shown, 0 if reproduction.is_exact else 1
    )


@command(runs)
@click.argument("run_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--method", type=click.Choice(MERGE_METHODS), help=_("合わせ方"))
@click.option("--weights", metavar="A,B", help=_("それぞれの重み（実験の順）。省略時は平均"))
@click.option("--density", metavar="SHARE", help=_("tiesとdareで残す割合"))
@click.option("--rank", metavar="N", help=_("合わせたアダプターのランク。省略時は元のランクの合計"))
@click.option("--strength", metavar="NUMBER", help=_(STRENGTH_JA))
@click.option("--seed", metavar="N", help=_("dareの乱数の種"))
@click.option("--dataset", default="", metavar="NAME", help=_("調べるときに使うデータセット"))
def merge(
    session: Session, run_ids: tuple[str, ...], dataset: str, **named: str | None
) -> CommandResult:
    """同じモデルから学習したアダプターを合わせて、1つの実験にする（1つだけなら、強さを変える）

    できた実験は、ほかの実験と同じように、evaluate、chat、export、certify できます。
    """
    given = {key: value for key, value in named.items() if value is not None}
    made = session.studio.merging.start(run_ids, config.load(MergeConfig, given), dataset)
    return _made(session, made, _("次は: mlx-finetuning evaluate {made}").format(made=made))


@command(runs, "import")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--model", required=True, metavar="MODEL", help=_("アダプターの学習に使ったモデル"))
@click.option("--dataset", default="", metavar="NAME", help=_("調べるときに使うデータセット"))
def import_(session: Session, folder: Path, model: str, dataset: str) -> CommandResult:
    """ほかの道具（peft、mlx-lm）で学習したアダプターを、1つの実験として取り込む

    できた実験は、ほかの実験と同じように、evaluate、chat、export、certify できます（evaluate には --dataset が要ります）。
    """
    made = session.studio.importing.start(folder, model, dataset)
    onward = f"evaluate {made}" if dataset else f"chat {made}"
    return _made(session, made, _("次は: mlx-finetuning {onward}").format(onward=onward))


def _made(session: Session, run_id: str, onward: str) -> CommandResult:
    """A run that is made without training, once it is there."""
    with session.progress() as progress:
        result = session.studio.runs.follow(run_id, progress, stops=True)
    told = [check.text_ja for check in result.checks]
    run = session.studio.runs.show(run_id)
    return CommandResult(
        {**as_json(run), "result": dataclasses.asdict(result)},
        "\n".join([*told, _("できました: {run_id}").format(run_id=run_id), onward]),
    )


@command(runs)
@click.argument("run_ids", metavar="ID...", nargs=-1, required=True)
def compare(session: Session, run_ids: tuple[str, ...]) -> CommandResult:
    """実験を比べる。違う設定だけと、損失の最良値を表示する"""
    comparison = session.studio.runs.compare(run_ids)
    return CommandResult(dataclasses.asdict(comparison), _compared(comparison))


def _compared(comparison: Comparison) -> str:
    heading = (
        _("実験ID"),
        _("状態"),
        _("更新", "count"),
        _("学習の損失"),
        _("検証の損失（学習前 → 最良）"),
        _("経過"),
    )
    rows = []
    for run in comparison.runs:
        losses = f"{_loss(run.first_valid_loss)} → {_loss(run.best_valid_loss)}"
        if run.best_update is not None:
            losses = _("{losses}（更新 {update}）").format(losses=losses, update=run.best_update)
        elapsed = text.duration(run.elapsed_s)
        rows.append(
            [run.run_id, run.state, str(run.updates), _loss(run.last_loss), losses, elapsed]
        )
    figures = text.table(heading, rows)
    if not comparison.differences:
        nothing = _("設定の違いはありません。") if len(comparison.runs) > 1 else ""
        return "\n\n".join(part for part in (figures, nothing) if part)
    names = [f"[{number}]" for number in range(1, len(comparison.runs) + 1)]
    settings = text.table(
        [_("設定"), *names],
        (
            [name, *("—" if value is None else text.shorten(str(value), 40) for value in values)]
            for name, values in comparison.differences.items()
        ),
    )
    below = _("違う設定（上から順に {names}）:").format(names=" ".join(names))
    return f"{figures}\n\n{below}\n{settings}"


def _loss(value: float | None) -> str:
    return "—" if value is None else f"{value:.4f}"


@command(runs)
@RUN_ID
@click.argument("words", metavar=_("[メモ]"), required=False)
@click.option("--tag", "tags", multiple=True, metavar="TAG", help=_("タグを付ける（何度でも）"))
@click.option("--name", "called", metavar="NAME", help=_("一覧での名前を付ける"))
@click.option("--pin/--unpin", "pinned", default=None, help=_("一覧の先頭に固定する、しない"))
@click.option("--clear", is_flag=True, help=_("名前とメモとタグを消す"))
def note(
    session: Session,
    run_id: str,
    words: str | None,
    tags: tuple[str, ...],
    called: str | None,
    pinned: bool | None,
    clear: bool,
) -> CommandResult:
    """実験に名前とメモとタグを付ける。何も付けなければ、今のものを表示する"""
    session.studio.runs.show(run_id)
    saved = session.studio.runs.note(run_id)
    if clear:
        saved = session.studio.runs.save_note(run_id, "", name="")
    elif words is not None or tags or called is not None:
        text_now = saved.text if words is None else words
        saved = session.studio.runs.save_note(run_id, text_now, (*saved.tags, *tags), called)
    if pinned is not None:
        saved = session.studio.runs.pin(run_id, pinned)
    shown = text.pairs(
        [
            (_("名前"), saved.name),
            (_("固定", "run"), _("一覧の先頭") if saved.pinned else ""),
            (_("メモ"), saved.text),
            (_("タグ"), " ".join(saved.tags)),
        ]
    )
    return CommandResult(
        {"run_id": run_id, **dataclasses.asdict(saved)}, shown or _("メモはありません。")
    )


@command(runs)
@click.argument("run_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--restore", is_flag=True, help=_("ゴミ箱から元に戻す"))
def delete(session: Session, run_ids: tuple[str, ...], restore: bool) -> CommandResult:
    """実験（いくつでも）と、そこから作ったものをゴミ箱に移す（--restore で元に戻せる）"""
    results = []
    for run_id in run_ids:
        if restore:
            session.studio.runs.restore(run_id)
            results.append(trashing.restored(run_id))
        else:
            session.studio.runs.delete(run_id)
            results.append(trashing.moved(run_id, "runs"))
    if len(results) == 1:
        return results[0]
    shown = "\n".join(result.text for result in results)
    return CommandResult({"results": [dict(result.data) for result in results]}, shown)


@command(runs)
@click.option("--empty", is_flag=True, help=_("ゴミ箱を空にする（元に戻せない）"))
def trash(session: Session, empty: bool) -> CommandResult:
    """ゴミ箱の中の実験を表示する"""
    if empty:
        return trashing.emptied(session.studio.machine.clean("trash"))
    deleted = session.studio.runs.deleted()
    rows = ([run.run_id, run.model, run.dataset, run.deleted_at[:16]] for run in deleted)
    shown = text.table(
        [_("実験ID"), _("モデル", "one"), _("データセット", "one"), _("削除", "when")], rows
    )
    return CommandResult(
        {"deleted": [dataclasses.asdict(run) for run in deleted]},
        shown if deleted else _("ゴミ箱は空です。"),
    )


@command(runs)
@RUN_ID
@click.option(
    "--format", "form", type=click.Choice(RECORD_FORMATS), default="csv", help=_("書き出す形式")
)
@OUT
def export(session: Session, run_id: str, form: str, out: Path) -> CommandResult:
    """実験の設定と損失を、ほかの道具で読める形で書き出す

    csvは表計算ソフトで、ほかはその道具（TensorBoard、MLflow、Trackio、Weights & Biases）で開けます。そのパッケージが入っているときに使えます。
    """
    written = [str(path) for path in session.studio.records.write(run_id, form, out)]
    return CommandResult({"run_id": run_id, "files": written}, "\n".join(written))


@command(runs)
@RUN_ID
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help=_("書き出し先のフォルダ、または .zip で終わるファイル"),
)
@click.option(
    "--push", "repository", metavar="USER/NAME", help=_("Hugging Faceに送る（HF_TOKEN が要る）")
)
@click.option("--public", is_flag=True, help=_("--push のとき、だれでも見られるようにする"))
def share(
    session: Session, run_id: str, out: Path | None, repository: str | None, public: bool
) -> CommandResult:
    """モデルを人に渡せる形にまとめる（アダプター、GGUF、説明書き）

    --out でフォルダかZIPに、--push でHugging Faceに送ります。学習データは入りません。
    """
    if (out is None) == (repository is None):
        raise click.UsageError(_("--out か --push のどちらか1つを指定してください。"))
    if out is not None:
        handle = session.studio.records.share(run_id, out)
    else:
        assert repository is not None
        handle = session.studio.records.publish(run_id, repository, public=public)
    with session.progress() as progress:
        shared = handle.follow(progress)
    size = text.size(shared.size_bytes)
    shown = [
        _("{place}（{files}ファイル、{size}）").format(
            place=shared.place, files=len(shared.files), size=size
        ),
        *shared.notes,
    ]
    return CommandResult({"run_id": run_id, **dataclasses.asdict(shared)}, "\n".join(shown))


@command(runs)
@RUN_ID
@OUT
def report(session: Session, run_id: str, out: Path) -> CommandResult:
    """成果をA4 1枚にまとめたページと、全ての報告書（HTML）を書き出す

    ブラウザーで開き、そのまま印刷やPDFにできます。先に evaluate で成果を確かめます。
    """
    written = [str(path) for path in session.studio.evaluation.write_pages(run_id, out)]
    return CommandResult({"run_id": run_id, "files": written}, "\n".join(written))


def as_json(run: Run) -> dict[str, object]:
    """A run for programs: its record, its state flat, and whether it is a simulation."""
    record = dataclasses.asdict(run)
    return {**record, "state": run.status.state, "simulated": run.simulated}


@dataclass(frozen=True)
class Losses:
    """Where a run stands."""

    update: int
    """The last."""
    loss: float | None
    first_valid_loss: float | None
    last_valid_loss: float | None


def latest_losses(metrics: Metrics) -> Losses:
    """The last update, its loss, and the first and last validation loss."""
    updates, (__, valid) = metrics.trained["update"], metrics.validated
    first, last = (valid[0], valid[-1]) if valid else (math.nan, math.nan)
    return Losses(
        update=int(updates[-1]) if updates else 0,
        loss=metrics.latest("loss"),
        first_valid_loss=None if math.isnan(first) else first,
        last_valid_loss=None if math.isnan(last) else last,
    )


def described(run: Run, losses: Losses, later: list[LaterJob]) -> str:
    """A run for people: its record, its state, its losses and the jobs that came later."""
    status = run.status
    shown = text.pairs(
        [
            (_("実験ID"), run.run_id),
            (_("状態"), run.state_label),
            (_("読めない記録"), _("、").join(run.problems)),
            (_("モデル", "one"), run.model),
            (_("データセット", "one"), run.dataset),
            (_("エンジン"), run.engine),
            (_("段階"), status.stage if status.is_living else ""),
            (
                _("進み"),
                f"{status.done}/{status.total}" if status.is_living and status.total else "",
            ),
            (_("更新", "count"), losses.update or ""),
            (_("経過"), text.duration(status.elapsed_s) if status.started_at else ""),
            (
                _("残り", "time"),
                None if status.remaining_s is None else text.duration(status.remaining_s),
            ),
            *(
                (name, None if loss is None else _loss(loss))
                for name, loss in (
                    (_("学習の損失"), losses.loss),
                    (_("検証の損失（学習前）"), losses.first_valid_loss),
                    (_("検証の損失（最新）"), losses.last_valid_loss),
                )
            ),
            (
                _("版", "packages"),
                _("、").join(f"{name} {version}" for name, version in run.versions.items()),
            ),
        ]
    )
    onward = ""
    if run.resumable or (run.can_go_on and status.state == "interrupted"):
        onward = _("→ 続きから: mlx-finetuning train --resume {run_id}").format(run_id=run.run_id)
    listed = [f"  {job.name}  {job.status.state.label}" for job in later]
    jobs = "\n".join([_("その後の作業:"), *listed]) if listed else ""
    problem = text.error(StudioError.from_json(status.error)) if status.error else ""
    return "\n".join(part for part in (shown, jobs, problem, onward) if part)
