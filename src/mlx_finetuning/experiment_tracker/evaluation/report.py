"""A run's report: all that was measured, what it means, and what is needed to make it again.

`build` gives the content of `report.json`; `write` puts it into the run's folder with a page made of
it; `write_page` makes the page again when a certificate has been added. Measures nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mlx_finetuning import files
from mlx_finetuning.config import EvaluateConfig, as_dict
from mlx_finetuning.experiment_tracker.evaluation import comparison, judge, report_html
from mlx_finetuning.experiment_tracker.evaluation.comparison import Exchange
from mlx_finetuning.experiment_tracker.evaluation.measured import Findings, Origin
from mlx_finetuning.experiment_tracker.evaluation.questions import is_paraphrase
from mlx_finetuning.workspace import RunPaths

TITLES = {
    "new": "学習していない内容の質問",
    "paraphrase": "学習した内容の、別の聞き方",
    "reworded": "学習した質問の言い換え（機械的に作ったもの）",
    "trained": "学習した質問",
}
CURVE_POINTS = 400


def build(origin: Origin, findings: Findings, settings: EvaluateConfig) -> dict[str, Any]:
    """The content of `report.json`, plain JSON values."""
    seed = settings.seed
    exchanges = {name: comparison.exchanges(one) for name, one in findings.splits.items()}
    by_kind = _by_kind(exchanges, findings)
    asked = [one for of_kind in by_kind.values() for one in of_kind]
    learning = judge.learning(origin, findings, seed)
    thinking = judge.thinking(asked, findings.thinks)
    norm = sum(layer.norm**2 for layer in findings.layers) ** 0.5
    origin_record = asdict(origin)
    for name in ("run_id", "model", "dataset", "metrics"):  # they stand elsewhere
        del origin_record[name]
    return {
        "run_id": origin.run_id,
        "model": origin.model,
        "dataset": origin.dataset,
        "verdict": {"learned": learning.state == "learned", **asdict(learning)},
        "forgetting": asdict(judge.forgetting(findings.general, seed)),
        "memorising": asdict(judge.memorising(findings, exchanges)),
        "stopping": asdict(judge.stopping(asked)),
        "thinking": None if thinking is None else asdict(thinking),
        "splits": {name: _split(name, findings, exchanges[name], seed) for name in findings.splits},
        "questions": {
            name: {
                "title": TITLES[name],
                "rows": len(of_kind),
                "base": comparison.answer_figures(of_kind, "base"),
                "tuned": comparison.answer_figures(of_kind, "tuned"),
                "change": {
                    score: change and asdict(change)
                    for score, change in comparison.score_changes(of_kind, seed).items()
                },
                # The others stand in their splits.
                "answers": [_answer(one) for one in of_kind] if name == "reworded" else [],
            }
            for name, of_kind in by_kind.items()
        },
        "adapter": {
            "norm": norm,
            "is_zero": not norm,
            "layers": [asdict(layer) for layer in findings.layers],
        },
        "curves": {
            name: _curve(origin.metrics, key)
            for name, key in (("train", "loss"), ("valid", "valid_loss"))
        },
        "origin": {
            **origin_record,
            "seed": origin.training.get("seed"),
            "evaluation": as_dict(settings),
        },
    }


def write(paths: RunPaths, report: dict[str, Any]) -> None:
    """`report.json` and `report.html`. Raises DiskFull."""
    files.write_json(paths.report, report)
    write_page(paths)


def write_page(paths: RunPaths) -> None:
    """`report.html` from `report.json`, and from the certificate where there is one.

    Nothing happens before there is a report. Raises RecordDamaged, NewerSchema, DiskFull.
    """
    certificate = None
    with contextlib.suppress(FileNotFoundError):
        certificate = files.read_json(paths.certificate)
    with contextlib.suppress(FileNotFoundError):
        files.write_text(
            paths.report_html, report_html.page(files.read_json(paths.report), certificate)
        )


def _split(
    name: str, findings: Findings, exchanges: Sequence[Exchange], seed: int
) -> dict[str, Any]:
    measured = findings.splits[name]
    change = comparison.loss_change(measured, seed)
    preferred = judge.preferred(findings, name, seed)
    figures = {
        who: {
            **asdict(comparison.loss_figures(grades, seed)),
            **comparison.answer_figures(exchanges, who),
        }
        for who, grades in (("base", measured.base), ("tuned", measured.tuned))
    }
    return {
        "rows": len(measured.rows),
        "of_rows": measured.of_rows,
        **figures,
        "change": None if change is None else asdict(change),
        "preference": None if preferred is None else asdict(preferred),
        "answers": [_answer(one) | {"kind": _kind_of(one, name, findings)} for one in exchanges],
    }


def _answer(exchange: Exchange) -> dict[str, Any]:
    base, tuned = exchange.base_scores, exchange.tuned_scores
    return {
        "row": int(exchange.row.get("row", 0)),
        "question": exchange.question,
        "expected": exchange.expected,
        "base": exchange.base,
        "tuned": exchange.tuned,
        "base_exact": bool(base.exact),
        "tuned_exact": bool(tuned.exact),
        "tuned_contains": bool(tuned.contains),
        "base_chrf": base.chrf,
        "tuned_chrf": tuned.chrf,
        "base_rouge_l": base.rouge_l,
        "tuned_rouge_l": tuned.rouge_l,
        "ended": exchange.tuned_ended,
        "base_reasoning": exchange.base_reasoning,
        "tuned_reasoning": exchange.tuned_reasoning,
    }


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
    if split == "train":
        return "trained"
    return "paraphrase" if is_paraphrase(exchange.row, findings.trained_groups) else "new"


def _curve(metrics: Sequence[dict[str, Any]], key: str) -> list[list[float]]:
    """[update, value], thinned evenly to `CURVE_POINTS`; the last one stays."""
    points = [[line["update"], line[key]] for line in metrics if key in line]
    if len(points) <= CURVE_POINTS:
        return points
    last = len(points) - 1
    return [points[at * last // (CURVE_POINTS - 1)] for at in range(CURVE_POINTS)]
