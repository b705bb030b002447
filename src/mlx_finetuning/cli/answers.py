"""`answers test|list|mark|correct|undo|retrain|export`: a model's answers, marked and put right."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from mlx_finetuning import config, files
from mlx_finetuning.cli import text
from mlx_finetuning.cli.runs import RUN_ID, as_json
from mlx_finetuning.cli.session import CommandResult, Session, command, group
from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.experiment_tracker.evaluation.batch_test import counted
from mlx_finetuning.language import _, n_

answers = group("answers", _("モデルの答えをまとめて試し、○×を付け、直して、もう一度学習する"))

VERDICTS = {"right": True, "wrong": False, "none": None}
WIDTH = 40
QUESTION = click.option(
    "--question",
    "prompt",
    metavar="SENTENCE",
    multiple=True,
    required=True,
    help=_("質問。会話の途中なら、質問・答え・質問の順に何度でも"),
)
SAID = click.option(
    "--said",
    metavar="SENTENCE",
    help=_("モデルの答え。省略時は、最後に answers test で試したときの答え"),
)


@command(answers)
@RUN_ID
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help=_("設定を1つ変える"))
def test(session: Session, run_id: str, assignments: tuple[str, ...]) -> CommandResult:
    """データセットの全ての質問を学習したモデルに聞き、○△？×を付ける（Ctrl-Cで、途中までを残して止まる）"""
    settings = config.load(EvaluateConfig, config.parse_assignments(list(assignments)))
    app = session.studio.evaluation
    with session.progress() as progress:
        app.batch_test(run_id, settings).follow(progress)
    told = app.answers(run_id)
    rows = (
        (
            one.mark,
            one.taught_ja,
            text.shorten(one.prompt[-1], WIDTH),
            text.shorten(one.answer, WIDTH),
        )
        for one in told
    )
    heading = ("", _("行", "kind"), _("質問"), _("答え"))
    shown = f"{text.table(heading, rows)}\n\n{counted(told).line}"
    data = {
        "run_id": run_id,
        **dataclasses.asdict(counted(told)),
        "answers": [dataclasses.asdict(one) for one in told],
    }
    return CommandResult(data, shown)


@command(answers, "list")
@RUN_ID
def list_(session: Session, run_id: str) -> CommandResult:
    """○×を付けた答えと、直した答えを表示する"""
    marks = list(session.studio.marks.read(run_id).current.values())
    rows = (
        (
            "○" if mark.good else "×",
            text.shorten(mark.prompt[-1], WIDTH),
            text.shorten(mark.answer, WIDTH),
            text.shorten(mark.correction, WIDTH),
        )
        for mark in marks
    )
    shown = text.table(("", _("質問"), _("モデルの答え"), _("直した答え")), rows)
    data = {"run_id": run_id, "marks": [dataclasses.asdict(mark) for mark in marks]}
    return CommandResult(data, shown if marks else _("印の付いた答えはまだありません。"))


@command(answers)
@RUN_ID
@QUESTION
@SAID
@click.option(
    "--as",
    "verdict",
    type=click.Choice(list(VERDICTS)),
    required=True,
    help=_("rightは○、wrongは×、noneは印を消す"),
)
def mark(
    session: Session, run_id: str, prompt: tuple[str, ...], said: str | None, verdict: str
) -> CommandResult:
    """1つの答えに○か×を付ける"""
    answer = _said(session, run_id, prompt, said)
    session.studio.marks.mark(run_id, prompt, answer, VERDICTS[verdict])
    sign = {"right": "○", "wrong": "×", "none": _("印なし")}[verdict]
    return CommandResult({"run_id": run_id, "answer": answer}, f"{sign}: {answer}")


@command(answers)
@RUN_ID
@QUESTION
@SAID
@click.option("--right", metavar="SENTENCE", required=True, help=_("正しい答え"))
def correct(
    session: Session, run_id: str, prompt: tuple[str, ...], said: str | None, right: str
) -> CommandResult:
    """1つの答えを直す。直した答えは、answers retrain で学習する"""
    answer = _said(session, run_id, prompt, said)
    session.studio.marks.correct(run_id, prompt, answer, right)
    data = {"run_id": run_id, "answer": answer, "correction": right.strip()}
    return CommandResult(
        data,
        _("直しました: {answer} → {right}").format(
            answer=answer or _("（なし）"), right=right.strip()
        ),
    )


@command(answers)
@RUN_ID
def undo(session: Session, run_id: str) -> CommandResult:
    """最後に付けた印か、最後の直しを取り消す"""
    session.studio.marks.undo(run_id)
    left = len(session.studio.marks.read(run_id).steps)
    return CommandResult(
        {"run_id": run_id, "steps": left}, _("1つ前に戻しました（残り {left}）。").format(left=left)
    )


@command(answers)
@RUN_ID
@click.option("--detach", is_flag=True, help=_("始めるだけで、終わりを待たない"))
def retrain(session: Session, run_id: str, detach: bool) -> CommandResult:
    """直した答えを足した新しいデータセットを作り、同じ設定で学習する"""
    with session.progress() as progress:
        again = session.studio.marks.retrain(run_id, progress)
    run = session.studio.runs.show(again)
    click.echo(
        _("データセット「{dataset}」で学習を始めました: {again}").format(
            dataset=run.dataset, again=again
        ),
        err=True,
    )
    if detach:
        return CommandResult(
            as_json(run), _("進みの表示: mlx-finetuning runs watch {again}").format(again=again)
        )
    with session.progress() as progress:
        session.studio.runs.follow(again, progress, stops=True)
    run = session.studio.runs.show(again)
    return CommandResult(
        as_json(run),
        _("{again}: {state}\n次は: answers test {again}").format(
            again=again, state=run.state_label
        ),
    )


@command(answers)
@RUN_ID
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", required=True,
    help=_("書き出すファイル（.jsonl）"),
)  # fmt: skip
def export(session: Session, run_id: str, out: Path) -> CommandResult:
    """○×の付いた答えと直した答えを、KTO形式（prompt、completion、label）で書き出す"""
    content = session.studio.marks.as_kto(run_id)
    files.write_text(out, content.decode())
    rows = content.count(b"\n")
    return CommandResult(
        {"path": str(out), "rows": rows}, n_("{out}（{rows}行）", rows).format(out=out, rows=rows)
    )


def _said(session: Session, run_id: str, prompt: tuple[str, ...], said: str | None) -> str:
    """The answer that is meant."""
    if len(prompt) % 2 == 0:
        raise click.UsageError(_("--question は、質問・答え・質問の順に、奇数個書いてください。"))
    if said is not None:
        return said
    tested = session.studio.evaluation.answers(run_id)
    found = [one.answer for one in tested if one.prompt == prompt]
    if not found:
        raise click.UsageError(
            _("この質問はまだ試していません。--said でモデルの答えを書いてください。")
        )
    return found[0]
