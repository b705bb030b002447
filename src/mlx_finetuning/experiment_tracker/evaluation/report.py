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
from mlx_finetuning.experiment_tracker.evaluation import comparison, judge, preference, report_html
from mlx_finetuning.experiment_tracker.evaluation.comparison import Exchange
from mlx_finetuning.experiment_tracker.evaluation.measured import Findings, LayerChange, Origin
from mlx_finetuning.experiment_tracker.evaluation.questions import is_paraphrase
from mlx_finetuning.workspace import RunPaths

TITLES = {
    "new": "学習していない内容の質問",
    "paraphrase": "学習した内容の、別の聞き方",
    "reworded": "学習した質問の言い換え（機械的に作ったもの）",
    "trained": "学習した質問",
}
CURVE_POINTS = 400


def build(origin: Origin, found: Findings, settings: EvaluateConfig) -> dict[str, Any]:
    """The content of `report.json`, plain JSON values."""
    seed = settings.seed
    asked = {name: comparison.exchanges(one) for name, one in found.splits.items()}
    kinds = _kinds(asked, found)
    splits = {name: _split(name, found, asked[name], seed) for name in found.splits}
    told = [item for one in kinds.values() for item in one]
    return {
        "run_id": origin.run_id,
        "model": origin.model,
        "dataset": origin.dataset,
        "verdict": judge.learning(origin, found, seed),
        "forgetting": judge.forgetting(found.general, seed),
        "memorising": judge.memorising(found, asked),
        "stopping": judge.stopping(told),
        "thinking": judge.thinking(told, found.thinks),
        "splits": splits,
        "questions": {name: _kind(name, one, seed) for name, one in kinds.items()},
        "adapter": _adapter(found.layers),
        "curves": _curves(origin.metrics),
        "origin": _origin(origin, settings),
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


# --- losses and answers ------------------------------------------------------------------


def _split(name: str, found: Findings, asked: Sequence[Exchange], seed: int) -> dict[str, Any]:
    measured = found.splits[name]
    change = comparison.loss_change(measured, seed)
    return {
        "rows": len(measured.rows),
        "of_rows": measured.of_rows,
        "base": {
            **comparison.loss_figures(measured.base, seed),
            **comparison.answer_figures(asked, "base"),
        },
        "tuned": {
            **comparison.loss_figures(measured.tuned, seed),
            **comparison.answer_figures(asked, "tuned"),
        },
        "change": None if change is None else asdict(change),
        "preference": preference.as_record(judge.preferred(found, name, seed)),
        "answers": [_answer(item) | {"kind": _kind_of(item, name, found)} for item in asked],
    }


def _answer(item: Exchange) -> dict[str, Any]:
    return {
        "row": int(item.row.get("row", 0)),
        "question": item.question,
        "expected": item.expected,
        "base": item.base,
        "tuned": item.tuned,
        "base_exact": bool(item.base_scores.exact),
        "tuned_exact": bool(item.tuned_scores.exact),
        "tuned_contains": bool(item.tuned_scores.contains),
        "base_chrf": item.base_scores.chrf,
        "tuned_chrf": item.tuned_scores.chrf,
        "base_rouge_l": item.base_scores.rouge_l,
        "tuned_rouge_l": item.tuned_scores.rouge_l,
        "ended": item.tuned_ended,
        "base_reasoning": item.base_reasoning,
        "tuned_reasoning": item.tuned_reasoning,
    }


def _kinds(asked: dict[str, list[Exchange]], found: Findings) -> dict[str, list[Exchange]]:
    """Exchanges by how near their question is to what was trained; kinds without any are absent."""
    kinds: dict[str, list[Exchange]] = {name: [] for name in TITLES}
    for split in ("train", "test"):
        for item in asked.get(split, []):
            kinds[_kind_of(item, split, found)].append(item)
    if found.reworded:
        kinds["reworded"] = comparison.exchanges(found.reworded)
    return {name: told for name, told in kinds.items() if told}


def _kind_of(item: Exchange, split: str, found: Findings) -> str:
    if split == "train":
        return "trained"
    return "paraphrase" if is_paraphrase(item.row, found.trained_groups) else "new"


def _kind(name: str, found: Sequence[Exchange], seed: int) -> dict[str, Any]:
    return {
        "title": TITLES[name],
        "rows": len(found),
        "base": comparison.answer_figures(found, "base"),
        "tuned": comparison.answer_figures(found, "tuned"),
        "change": comparison.score_changes(found, seed),
        # The others stand in their splits.
        "answers": [_answer(item) for item in found] if name == "reworded" else [],
    }


# --- the rest ----------------------------------------------------------------------------


def _adapter(layers: Sequence[LayerChange]) -> dict[str, Any]:
    total = sum(one.norm**2 for one in layers) ** 0.5
    return {"norm": total, "is_zero": not total, "layers": [asdict(one) for one in layers]}


def _curves(metrics: Sequence[dict[str, Any]]) -> dict[str, list[list[float]]]:
    return {
        name: _thinned([[line["update"], line[key]] for line in metrics if key in line])
        for name, key in (("train", "loss"), ("valid", "valid_loss"))
    }


def _thinned(points: list[list[float]]) -> list[list[float]]:
    if len(points) <= CURVE_POINTS:
        return points
    last = len(points) - 1
    return [points[at * last // (CURVE_POINTS - 1)] for at in range(CURVE_POINTS)]


def _origin(origin: Origin, settings: EvaluateConfig) -> dict[str, Any]:
    record = asdict(origin)
    for known in ("run_id", "model", "dataset", "metrics"):
        del record[known]
    return {**record, "seed": origin.training.get("seed"), "evaluation": as_dict(settings)}
