"""Evaluation: the base and the tuned model on the same rows, written to the run's `report.json`.

Trained and held-out questions are answered greedily by both; of the validation split only the
loss is taken, because it chose the best adapter.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mlx_finetuning import config, files, models
from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.data_processor import read_rows
from mlx_finetuning.mlx_trainer import grading
from mlx_finetuning.mlx_trainer.grading import Grades
from mlx_finetuning.mlx_trainer.load import LoadedModel, load
from mlx_finetuning.progress import Step
from mlx_finetuning.tasks.context import TaskContext
from mlx_finetuning.trainer import runs
from mlx_finetuning.workspace import RunPaths

SPLITS = {"train": "学習した質問", "test": "学習していない質問", "valid": "検証"}
ASKED = ("train", "test")

Rows = dict[str, list[dict[str, Any]]]


def run(context: TaskContext) -> dict[str, Any]:
    """config: EvaluateConfig. Returns the report. Raises RunError, ModelError, DataError."""
    settings = config.load(EvaluateConfig, context.config)
    trained = runs.require_trained(context.workspace, context.run_id)
    model = models.resolve(trained.model, context.workspace)
    rows = _rows(context, trained.dataset)
    context.progress(Step("モデルの読み込み", 0, 0))
    base = _graded(context, load(model), rows, settings, "元のモデル")
    adapter = context.workspace.adapter(context.run_id).folder
    tuned = _graded(context, load(model, adapter), rows, settings, "学習後のモデル")
    splits = {name: _compared(base[name], tuned[name]) for name in rows}
    report = {
        "run_id": context.run_id,
        "model": trained.model,
        "dataset": trained.dataset,
        "splits": splits,
        "verdict": verdict(splits),
    }
    files.write_json(RunPaths(context.workspace.run(context.run_id).folder).report, report)
    return report


def _rows(context: TaskContext, dataset: str) -> Rows:
    paths = context.workspace.dataset(dataset)
    found = {name: paths.split(name) for name in SPLITS}
    read = {name: read_rows(path) for name, path in found.items() if path.exists()}
    return {name: rows for name, rows in read.items() if rows}


def _graded(
    context: TaskContext, loaded: LoadedModel, rows: Rows, settings: EvaluateConfig, who: str
) -> dict[str, Grades]:
    return {
        name: grading.grade(
            loaded,
            split,
            settings,
            context.progress,
            f"{who}：{SPLITS[name]}",
            ask=name in ASKED,
        )
        for name, split in rows.items()
    }


def _compared(base: Grades, tuned: Grades) -> dict[str, Any]:
    def figures(grades: Grades) -> dict[str, Any]:
        values = asdict(grades)
        del values["answers"], values["rows"]
        return values

    pairs = zip(base.answers, tuned.answers, strict=True)
    answers = [
        {
            "row": after.row,
            "question": after.question,
            "expected": after.expected,
            "base": before.answer,
            "tuned": after.answer,
            "base_exact": before.exact,
            "tuned_exact": after.exact,
            "ended": after.ended,
        }
        for before, after in pairs
    ]
    return {
        "rows": tuned.rows,
        "base": figures(base),
        "tuned": figures(tuned),
        "answers": answers,
    }


def verdict(splits: dict[str, Any]) -> dict[str, Any]:
    """Whether the run learned, on the strictest evidence there is: held-out rows, else trained."""
    name = next((name for name in ("test", "valid", "train") if name in splits), None)
    if name is None:
        return {"learned": False, "text": "調べる行がありません。"}
    before, after = splits[name]["base"]["loss"], splits[name]["tuned"]["loss"]
    if before is None or after is None:
        return {"learned": False, "text": "調べる行に、答えがありません。"}
    learned = after < before
    word = "学習できています" if learned else "学習していません"
    change = f"{SPLITS[name]}の損失 {before:.3f} → {after:.3f}"
    return {"learned": learned, "text": f"{word}（{change}）。"}
