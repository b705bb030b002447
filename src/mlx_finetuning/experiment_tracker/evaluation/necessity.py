"""Whether training was needed: the tuned model beside the base with the data in its question."""

from __future__ import annotations

from mlx_finetuning.experiment_tracker.evaluation import trial_scores
from mlx_finetuning.experiment_tracker.evaluation.measured import Findings
from mlx_finetuning.experiment_tracker.evaluation.results import Necessity, Verdict
from mlx_finetuning.experiment_tracker.evaluation.statistics import ratio
from mlx_finetuning.experiment_tracker.evaluation.verdict import ENOUGH_ROWS
from mlx_finetuning.language import _


def necessity(findings: Findings, seed: int) -> Necessity | None:
    """By the goal's measure on the same questions; None where the base was not asked so."""
    asked = findings.prompted
    if asked is None:
        return None
    measured = findings.reworded if asked.split == "reworded" else findings.splits.get(asked.split)
    if measured is None:
        return None
    rows = [measured.rows[at] for at in asked.places]
    tuned, whole, nearest = (
        trial_scores.of_rows(findings.goal, rows, grades)
        for grades in ([measured.tuned[at] for at in asked.places], asked.whole, asked.nearest)
    )
    means = [sum(scores) / len(scores) for scores in (tuned, whole, nearest)]
    is_nearest_best = means[2] >= means[1]
    best = nearest if is_nearest_best else whole
    gap = ratio([a - b for a, b in zip(tuned, best, strict=True)], seed=seed)
    evidence = (
        _("学習後: {score:.0%}（{questions}問の出来）").format(score=means[0], questions=len(rows)),
        _(
            "元のモデルに、データを質問に添えて（{of_rows}行のうち入った{whole_rows}行）: {score:.0%}"
        ).format(of_rows=asked.of_rows, whole_rows=asked.whole_rows, score=means[1]),
        _("元のモデルに、質問に近い行だけを添えて: {score:.0%}").format(score=means[2]),
    )
    if len(rows) < ENOUGH_ROWS or gap is None:
        said = Verdict("unknown", "warning", _("判定できません。質問が少なすぎます。"), evidence)
    elif gap.is_above_zero:
        text = _("学習した価値があります。データを添えるだけでは、ここまで答えられません。")
        said = Verdict("needed", "good", text, evidence)
    elif gap.is_below_zero:
        text = (
            _("学習より、質問に近い行を添えるだけのほうが、よく答えます。")
            if is_nearest_best
            else _("学習より、データを質問に添えるだけのほうが、よく答えます。")
        )
        advice = _("元のモデルに、質問と一緒に資料を渡す使い方を考えてください。")
        said = Verdict("not_needed", "warning", text, evidence, advice)
    else:
        text = (
            _("質問に近い行を添えるだけでも、学習後と同じくらい答えます（差は偶然の範囲です）。")
            if is_nearest_best
            else _(
                "データを質問に添えるだけでも、学習後と同じくらい答えます（差は偶然の範囲です）。"
            )
        )
        advice = _("資料がよく変わるなら、学習せずに資料を渡す使い方のほうが手軽です。")
        said = Verdict("enough", "warning", text, evidence, advice)
    return Necessity(
        **vars(said),
        questions=len(rows),
        tuned=means[0],
        whole=means[1],
        whole_rows=asked.whole_rows,
        of_rows=asked.of_rows,
        nearest=means[2],
    )
