"""A run's report: all that was measured, what it means, and what is needed to make it again.

`build` gives the content of `report.json`; `write` puts it into the run's folder with a page made of
it; `write_page` makes the page again when a certificate has been added. Measures nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from mlx_finetuning import files
from mlx_finetuning.config import EvaluateConfig, as_dict
from mlx_finetuning.experiment_tracker.evaluation import (
    comparison,
    judge,
    necessity,
    refusals,
    report_html,
)
from mlx_finetuning.experiment_tracker.evaluation.comparison import Exchange, Grade
from mlx_finetuning.experiment_tracker.evaluation.measured import Findings, Origin
from mlx_finetuning.experiment_tracker.evaluation.questions import is_paraphrase
from mlx_finetuning.experiment_tracker.evaluation.results import (
    AdapterChange,
    Answered,
    Continuation,
    Curve,
    Learned,
    ModelFigures,
    QuestionsReport,
    Report,
    ReportOrigin,
    SplitReport,
    rows_of,
)
from mlx_finetuning.experiment_tracker.evaluation.rightness import RIGHT
from mlx_finetuning.jobs.results import Certificate
from mlx_finetuning.language import N_, _
from mlx_finetuning.workspace import RunPaths

TITLES = {
    "new": N_("教えていない内容の質問"),
    "paraphrase": N_("教えた内容の、別の聞き方"),
    "reworded": N_("教えた質問の言い換え（機械的に作ったもの）"),
    "trained": N_("教えた質問"),
    "refusal": N_("データに答えのない質問（教えていないもの）"),
    "trained_refusal": N_("データに答えのない質問（教えたもの）"),
}
REFUSALS = ("refusal", "trained_refusal")
CURVE_POINTS = 400


def build(origin: Origin, findings: Findings, settings: EvaluateConfig) -> Report:
    """The content of `report.json`."""
    seed = settings.seed
    exchanges = {name: comparison.exchanges(one) for name, one in findings.splits.items()}
    by_kind = _by_kind(exchanges, findings)
    asked = [one for of_kind in by_kind.values() for one in of_kind]
    learning = judge.learning(origin, findings, seed)
    forgetting = judge.forgetting(findings, seed)
    memorising = judge.memorising(findings, exchanges)
    stopping = judge.stopping(asked)
    judged = (learning, forgetting, memorising, stopping)
    norm = sum(layer.norm**2 for layer in findings.layers) ** 0.5
    return Report(
        run_id=origin.run_id,
        model=origin.model,
        dataset=origin.dataset,
        verdict=Learned(**vars(learning), learned=learning.state == "learned"),
        outcome=judge.first_line(origin, findings, by_kind, judged, seed),
        forgetting=forgetting,
        memorising=memorising,
        stopping=stopping,
        necessity=necessity.necessity(findings, seed),
        thinking=judge.thinking(asked, findings.thinks),
        refusing=refusals.refusing(_replies(by_kind, findings)),
        splits={name: _split(name, findings, exchanges[name], seed) for name in findings.splits},
        questions={
            name: QuestionsReport(
                title=TITLES[name],
                rows=len(of_kind),
                base=comparison.answer_figures(of_kind, "base"),
                tuned=comparison.answer_figures(of_kind, "tuned"),
                change=comparison.score_changes(of_kind, seed),
                # The others stand in their splits.
                answers=tuple(_answer(one, findings) for one in of_kind)
                if name == "reworded"
                else (),
            )
            for name, of_kind in by_kind.items()
        },
        adapter=AdapterChange(norm, is_zero=not norm, layers=tuple(findings.layers)),
        curves={
            "train": _curve((line.update, line.loss) for line in origin.metrics),
            "valid": _curve((line.update, line.valid_loss) for line in origin.metrics),
        },
        origin=ReportOrigin(
            dataset_sha256=origin.dataset_sha256,
            dataset_changed=origin.dataset_changed,
            created_at=origin.created_at,
            training=origin.training,
            versions=origin.versions,
            evaluated_at=origin.evaluated_at,
            error=origin.error,
            seed=origin.training.get("seed"),
            evaluation=as_dict(settings),
        ),
    )


def continuing(
    report: Report, findings: Findings, former: Findings, parent: str, settings: EvaluateConfig
) -> Report:
    """`report` with what the run `parent`, which its run continues, came to on the same questions;
    findings, former: of both runs."""
    seed = settings.seed
    origin = Origin(
        run_id=parent,
        model=report.model,
        dataset=report.dataset,
        dataset_sha256=report.origin.dataset_sha256,
        dataset_changed=report.origin.dataset_changed,
        created_at="",
        training={},
        versions={},
        evaluated_at=report.origin.evaluated_at,
    )
    before = build(origin, former, settings)
    split = judge.judged_split({name: len(one.rows) for name, one in findings.splits.items()})
    change = None
    if split:
        ours, theirs = findings.splits[split], former.splits[split]
        change = comparison.loss_change(replace(ours, base=theirs.tuned), seed)
    moved = _("比べられません")
    if change is not None:
        moved = _("{change:+.3f}（偶然の範囲です）")
        if change.is_below_zero:
            moved = _("{change:+.3f}（下がりました）")
        elif change.is_above_zero:
            moved = _("{change:+.3f}（上がりました）")
        moved = moved.format(change=change.value)
    return replace(
        report,
        before=Continuation(
            run_id=parent,
            text=_("続ける前: {before} 続けた後: {after} {name}の損失の変化: {moved}").format(
                before=before.first_line.text,
                after=report.first_line.text,
                name=rows_of(split),
                moved=moved,
            ),
            first_line=before.first_line.text,
            losses={name: one.tuned.loss for name, one in before.splits.items()},
            change=change,
        ),
    )


def write(paths: RunPaths, report: Report) -> None:
    """`report.json` and `report.html`. Raises DiskFull."""
    files.write_json(paths.report, asdict(report))
    write_page(paths)


def write_page(paths: RunPaths) -> None:
    """`report.html` from `report.json`, and from the certificate where there is one.

    Nothing happens before there is a report. Raises RecordDamaged, NewerSchema, DiskFull.
    """
    certificate = None
    with contextlib.suppress(FileNotFoundError):
        certificate = files.read_record(paths.certificate, Certificate)
    with contextlib.suppress(FileNotFoundError):
        report = files.read_record(paths.report, Report)
        files.write_text(paths.report_html, report_html.page(report, certificate))


def _split(name: str, findings: Findings, exchanges: Sequence[Exchange], seed: int) -> SplitReport:
    measured = findings.splits[name]

    def figures(who: str, grades: Sequence[Grade]) -> ModelFigures:
        answers = comparison.answer_figures(exchanges, who)
        return ModelFigures(**vars(comparison.loss_figures(grades, seed)), **vars(answers))

    return SplitReport(
        rows=len(measured.rows),
        of_rows=measured.of_rows,
        base=figures("base", measured.base),
        tuned=figures("tuned", measured.tuned),
        change=comparison.loss_change(measured, seed),
        preference=judge.preferred(findings, name, seed),
        answers=tuple(
            replace(_answer(one, findings), kind=_kind_of(one, name, findings)) for one in exchanges
        ),
    )


def _answer(exchange: Exchange, findings: Findings) -> Answered:
    base, tuned = exchange.base_scores, exchange.tuned_scores
    return Answered(
        row=int(exchange.row.get("row", 0)),
        question=exchange.question,
        expected=exchange.expected,
        rightness=judge.how_right(exchange.tuned, exchange, findings),
        base=exchange.base,
        tuned=exchange.tuned,
        base_exact=bool(base.exact),
        tuned_exact=bool(tuned.exact),
        tuned_contains=bool(tuned.contains),
        base_chrf=base.chrf,
        tuned_chrf=tuned.chrf,
        base_rouge_l=base.rouge_l,
        tuned_rouge_l=tuned.rouge_l,
        ended=exchange.tuned_ended,
        base_reasoning=exchange.base_reasoning,
        tuned_reasoning=exchange.tuned_reasoning,
    )


def _by_kind(exchanges: dict[str, list[Exchange]], findings: Findings) -> dict[str, list[Exchange]]:
    """Exchanges by how near their question is to what was trained; kinds without any are absent."""
    by_kind: dict[str, list[Exchange]] = {name: [] for name in TITLES}
    for split in ("train", "test"):
        for exchange in exchanges.get(split, []):
            by_kind[_kind_of(exchange, split, findings)].append(exchange)
    if findings.reworded:
        by_kind["reworded"] = comparison.exchanges(findings.reworded)
    return {name: of_kind for name, of_kind in by_kind.items() if of_kind}


def _kind_of(exchange: Exchange, split: str, findings: Findings) -> str:
    is_refusal = bool(exchange.row.get("refusal"))
    if split == "train":
        return "trained_refusal" if is_refusal else "trained"
    if is_refusal:
        return "refusal"
    return "paraphrase" if is_paraphrase(exchange.row, findings.trained_groups) else "new"


def _replies(by_kind: dict[str, list[Exchange]], findings: Findings) -> list[refusals.Reply]:
    """What was asked of the data itself: taught questions, other wordings, and those without answer."""
    return [
        refusals.Reply(
            one.expected,
            one.tuned,
            judge.how_right(one.tuned, one, findings) in RIGHT,
            kind in REFUSALS,
            kind == "refusal",
        )
        for kind in ("trained", "paraphrase", *REFUSALS)
        for one in by_kind.get(kind, [])
    ]


def _curve(losses: Iterable[tuple[int, float | None]]) -> Curve:
    """Thinned evenly to `CURVE_POINTS`; the last point stays."""
    points = tuple((update, loss) for update, loss in losses if loss is not None)
    if len(points) <= CURVE_POINTS:
        return points
    last = len(points) - 1
    return tuple(points[at * last // (CURVE_POINTS - 1)] for at in range(CURVE_POINTS))
