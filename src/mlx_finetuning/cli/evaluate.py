"""`evaluate`: base against tuned on trained and held-out rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.runs import RUN_ID, STRENGTH
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.config import EvaluateConfig, as_dict
from mlx_finetuning.experiment_tracker.evaluation.results import (
    MARKS_JA,
    NECESSITY_JA,
    SPLITS_JA,
    THINKING_JA,
    Report,
    examples,
)
from mlx_finetuning.language import _

HEADING = (
    "",
    _("行", "count"),
    _("損失（前 → 後）"),
    *(f"{mark} {_(name)}" for mark, name in MARKS_JA.items()),
    _("自分で終えた答え"),
)
PAIRS_HEADING = (
    "",
    _("組", "count"),
    _("よい答えのほうが出やすい組（前 → 後）"),
    _("差（前 → 後）"),
)
SHOWN_ANSWERS = 5


@command()
@RUN_ID
@STRENGTH
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help=_("設定を1つ変える"))
@click.option(
    "--in-prompt",
    is_flag=True,
    help=_("学習しない場合（元のモデルに、データを質問に添えて答えさせる）とも比べる"),
)
def evaluate(
    session: Session,
    run_id: str,
    strength: float,
    assignments: tuple[str, ...],
    in_prompt: bool,
) -> CommandResult:
    """学習の前後で答えと損失を比べ、報告書（HTML）を作る

    学習できたか、ほかのことを忘れていないか、丸暗記していないか、答えを自分で終えるかを判定します。
    """
    chosen: dict[str, object] = {**config.parse_assignments(list(assignments))}
    if in_prompt:
        chosen["in_prompt"] = True
    settings = config.load(EvaluateConfig, chosen)
    with session.progress() as progress:
        run_id = session.studio.merging.at_strength(run_id, strength, progress)
        report = session.studio.evaluation.start(run_id, settings).follow(progress)
    page = session.studio.workspace.run(run_id).report_html
    data = {"run_id": run_id, "report": as_dict(report), "report_html": str(page)}
    where = _("報告書: {page}").format(page=page)
    return CommandResult(data, f"{_shown(report)}\n\n{where}")


def _shown(report: Report) -> str:
    splits, figures, pairs = report.splits, [], []
    for name, split in splits.items():
        base, tuned = split.base, split.tuned
        figures.append(
            (
                _(SPLITS_JA[name]),
                str(split.rows),
                _change(base.loss, tuned.loss, _number),
                *(str(split.marked(mark)) if split.answers else "" for mark in MARKS_JA),
                "" if tuned.ended is None else text.percent(tuned.ended),
            )
        )
        if preference := split.preference:
            pairs.append(
                (
                    _(SPLITS_JA[name]),
                    str(preference.pairs),
                    _change(preference.base_accuracy, preference.tuned_accuracy, text.percent),
                    _change(preference.base_margin, preference.tuned_margin, _number),
                )
            )
    continued = (
        [
            _("続きの前後（{run_id}）: {text}").format(
                run_id=report.before.run_id, text=report.before.text
            )
        ]
        if report.before
        else []
    )
    lines = [*_verdicts(report), *continued, "", text.table(HEADING, figures)]
    if pairs:
        lines += ["", text.table(PAIRS_HEADING, pairs)]
    # Held-out ones, else trained ones.
    name = "test" if "test" in splits else "train"
    asked = splits[name].answers if name in splits else ()
    for item in examples(asked, SHOWN_ANSWERS):
        base_answer, tuned_answer = item.shown
        lines += [
            "",
            _("{mark} 質問（{taught}）: {question}").format(
                mark=item.mark, taught=_(item.taught_ja), question=item.question
            ),
            _("  正解:       {expected}").format(expected=item.expected),
            _("  元のモデル: {answer}").format(answer=base_answer),
            _("  学習後:     {answer}").format(answer=tuned_answer),
        ]
    return "\n".join(lines)


def _verdicts(report: Report) -> Iterator[str]:
    """The first line, how the training ended, what to do next, and what else was judged."""
    outcome = report.outcome
    for at, (title, judged) in enumerate(report.judgements):
        told = _("{title}: {text}").format(title=title, text=judged.text)
        yield told if at else judged.line
        if at == 0 and outcome is not None:
            yield from (f"  {line}" for line in outcome.evidence)
            yield from [f"  {outcome.ending}"] if outcome.ending else []
        if title in (_(THINKING_JA), _(NECESSITY_JA)):
            yield from (f"  {line}" for line in judged.evidence)
        yield from text.advice(judged)


def _change(before: float | None, after: float | None, form: Any) -> str:
    return "" if before is None or after is None else f"{form(before)} → {form(after)}"


def _number(value: float) -> str:
    return f"{value:.3f}"
