"""Evaluation: base and tuned model on the same rows, judged, as `report.json` and `report.html`.

Each model is loaded once, the base first. Trained, held-out and reworded questions and the general
set are answered by both; of the validation split only the loss is taken, because it chose the best
adapter. Of large splits an even choice is taken. Of preference rows the better answer is the expected
one; a run that trained on pairs is judged by how far it tells both answers apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlx_finetuning import config, files, models
from mlx_finetuning.config import EvaluateConfig, TrainConfig
from mlx_finetuning.data_processor import read_rows
from mlx_finetuning.experiment_tracker.evaluation import general_questions, judge, questions, report
from mlx_finetuning.experiment_tracker.evaluation.comparison import Measured
from mlx_finetuning.experiment_tracker.evaluation.measured import Findings, LayerChange, Origin
from mlx_finetuning.experiment_tracker.evaluation.questions import Mismatch
from mlx_finetuning.jobs import jobs, runs
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.mlx_trainer.batches import examples
from mlx_finetuning.mlx_trainer.gradient import preference
from mlx_finetuning.mlx_trainer.inference import grade, weight_change
from mlx_finetuning.mlx_trainer.inference.grade import Grade
from mlx_finetuning.mlx_trainer.kernels import cpu
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, free_memory, load
from mlx_finetuning.progress import Step
from mlx_finetuning.tasks.context import TaskContext

STAGES = {
    "train": "学習した質問",
    "test": "学習していない質問",
    "valid": "検証の行",
    "reworded": "言い換えた質問",
    "mismatched": "質問と答えの対応",
    "general": "一般の質問",
    "worse-train": "学習した質問のよくない答え",
    "worse-test": "学習していない質問のよくない答え",
    "worse-valid": "検証の行のよくない答え",
}
ASKED = ("train", "test", "reworded", "general")
SPLITS = ("train", "test", "valid")
BETTER, WORSE = 0, 1

Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class _Plan:
    """What both models are shown."""

    rows: Rows
    """By the names of `STAGES`; none is empty."""
    of_rows: dict[str, int]
    trained_groups: frozenset[str]
    link_split: str
    mismatches: list[Mismatch]
    objective: str


def run(context: TaskContext) -> dict[str, Any]:
    """config: EvaluateConfig. Returns the report. Raises RunError, ModelError, DataError."""
    settings = config.load(EvaluateConfig, context.config)
    trained = runs.require_trained(context.workspace, context.run_id)
    folder = models.resolve(trained.model, context.workspace)
    adapter = context.workspace.adapter(context.run_id).folder
    plan = _plan(context, trained, settings)
    cpu.keep_freed_memory()
    context.progress(Step("モデルの読み込み", 0, 0))
    base_model = load(folder, asked_like=adapter)
    changed = weight_change.norms(base_model, adapter)
    base = _graded(context, base_model, plan, settings, "元のモデル")
    del base_model
    free_memory()
    tuned_model = load(folder, adapter)
    tuned = _graded(context, tuned_model, plan, settings, "学習後のモデル")
    chat = tuned_model.chat
    thinks = chat.thinks if chat.form.style else None
    context.progress(Step("報告書の作成", 0, 0))
    layers = [LayerChange(layer, *figures) for layer, figures in changed.items()]
    made = report.build(
        _origin(context, trained), _findings(plan, base, tuned, layers, thinks), settings
    )
    report.write(context.workspace.run(context.run_id), made)
    return made


def _plan(context: TaskContext, trained: Run, settings: EvaluateConfig) -> _Plan:
    paths = context.workspace.dataset(trained.dataset)
    whole = {name: read_rows(paths.split(name)) for name in SPLITS if paths.split(name).exists()}
    chosen = {name: questions.evenly(split, settings.max_rows) for name, split in whole.items()}
    objective = _objective(context, whole.get("train", []))
    trained_groups = questions.groups(whole.get("train", []))
    rows = {name: _answered(split, BETTER) for name, split in chosen.items()}
    pairs = chosen if objective in preference.KINDS else {}
    link_split = judge.judged_split({name: len(split) for name, split in rows.items() if split})
    mismatches = [] if pairs else _mismatches(rows.get(link_split, []))
    shown = {
        **rows,
        **{f"worse-{name}": _answered(split, WORSE) for name, split in pairs.items()},
        "reworded": _reworded(rows, trained_groups),
        "mismatched": [mismatch.row for mismatch in mismatches],
        "general": [question.row for question in general_questions.questions()],
    }
    return _Plan(
        rows={name: split for name, split in shown.items() if split},
        of_rows={name: len(split) for name, split in whole.items()},
        trained_groups=trained_groups,
        link_split=link_split,
        mismatches=mismatches,
        objective=objective,
    )


def _objective(context: TaskContext, rows: list[dict[str, Any]]) -> str:
    training = jobs.read_job(context.workspace.run(context.run_id)).config
    wanted = TrainConfig(objective=training.get("objective", TrainConfig.objective))
    return preference.objective_for(wanted, rows)


def _answered(rows: list[dict[str, Any]], which: int) -> list[dict[str, Any]]:
    """Preference rows as conversations with the better or the worse answer; others as they are."""
    return [
        {**row, "messages": examples.conversations(row)[which]} if "chosen" in row else row
        for row in rows
    ]


def _reworded(rows: Rows, trained_groups: frozenset[str]) -> list[dict[str, Any]]:
    """Other wordings of trained questions, where the test split brings none."""
    if any(questions.is_paraphrase(row, trained_groups) for row in rows.get("test", [])):
        return []
    return questions.reworded([row for row in rows.get("train", []) if grade.is_question(row)])


def _mismatches(rows: list[dict[str, Any]]) -> list[Mismatch]:
    return questions.mismatched(rows) if all(map(grade.is_question, rows)) else []


def _graded(
    context: TaskContext, loaded: LoadedModel, plan: _Plan, settings: EvaluateConfig, who: str
) -> dict[str, list[Grade]]:
    rows = plan.rows
    if not loaded.tokenizer.has_chat_template:
        rows = {
            **rows,
            "general": [question.text_row for question in general_questions.questions()],
        }
    layout = grade.row_layout(loaded)
    return {
        name: grade.grade(
            loaded,
            split,
            settings,
            context.progress,
            f"{who}（{number}/{len(rows)} {STAGES[name]}）",
            layout=layout,
            ask=name in ASKED,
        )
        for number, (name, split) in enumerate(rows.items(), 1)
    }


def _findings(
    plan: _Plan,
    base: dict[str, list[Grade]],
    tuned: dict[str, list[Grade]],
    layers: list[LayerChange],
    thinks: bool | None,
) -> Findings:
    measured = {
        name: Measured(rows, base[name], tuned[name], plan.of_rows.get(name, len(rows)))
        for name, rows in plan.rows.items()
    }
    return Findings(
        splits={name: measured[name] for name in SPLITS if name in measured},
        general=measured["general"],
        trained_groups=plan.trained_groups,
        reworded=measured.get("reworded"),
        link_split=plan.link_split,
        mismatches=plan.mismatches,
        mismatched=measured.get("mismatched"),
        layers=layers,
        objective=plan.objective,
        worse={name: measured[f"worse-{name}"] for name in SPLITS if f"worse-{name}" in measured},
        thinks=thinks,
    )


def _origin(context: TaskContext, trained: Run) -> Origin:
    paths = context.workspace.run(context.run_id)
    present = runs.dataset_hash(context.workspace.dataset(trained.dataset))
    error = trained.status.error or {}
    return Origin(
        run_id=context.run_id,
        model=trained.model,
        dataset=trained.dataset,
        dataset_sha256=trained.dataset_sha256,
        dataset_changed=present != trained.dataset_sha256,
        created_at=trained.created_at,
        training=jobs.read_job(paths).config,
        versions=trained.versions,
        evaluated_at=jobs.now(),
        error=str(error.get("code", "")),
        metrics=list(files.read_lines(paths.metrics)),
    )
