"""Evaluation: base and tuned model on the same rows, judged, as `report.json` and `report.html`.

Each model is loaded once: the base, the tuned one, and that of the run which is continued, if it is.
Trained, held-out and reworded questions and the general set are answered by all; of the validation
split only the loss is taken, because it chose the best adapter. Of large splits an even choice is taken. Of preference rows the better answer is the expected
one; a run that trained on pairs is judged by how far it tells both answers apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mlx_finetuning import bases, config, files
from mlx_finetuning.config import EvaluateConfig, TrainConfig
from mlx_finetuning.errors import StudioError
from mlx_finetuning.experiment_tracker.evaluation import general_questions, judge, questions, report
from mlx_finetuning.experiment_tracker.evaluation.comparison import Measured
from mlx_finetuning.experiment_tracker.evaluation.general_questions import GeneralQuestion
from mlx_finetuning.experiment_tracker.evaluation.measured import Findings, Origin
from mlx_finetuning.experiment_tracker.evaluation.questions import Mismatch
from mlx_finetuning.experiment_tracker.evaluation.results import LayerChange, Report
from mlx_finetuning.experiment_tracker.records import marks
from mlx_finetuning.jobs import jobs, runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.ending import WHOLE, ending
from mlx_finetuning.jobs.results import TrainResult
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.language import N_, _
from mlx_finetuning.mlx_trainer.batches import examples
from mlx_finetuning.mlx_trainer.gradient import objectives
from mlx_finetuning.mlx_trainer.inference import grade, weight_change
from mlx_finetuning.mlx_trainer.inference.grade import Grade
from mlx_finetuning.mlx_trainer.kernels import cpu
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, free_memory, load
from mlx_finetuning.progress import Step
from mlx_finetuning.tasks import general_set, prompted
from mlx_finetuning.tasks.base_grades import BaseGrades
from mlx_finetuning.tasks.evaluation_progress import EvaluationProgress
from mlx_finetuning.tokenization.rows import Row, read_rows
from mlx_finetuning.utils import goals

STAGES = {
    "train": N_("教えた質問"),
    "test": N_("教えていない質問"),
    "valid": N_("検証の行"),
    "reworded": N_("言い換えた質問"),
    "mismatched": N_("質問と答えの対応"),
    "general": N_("一般の質問"),
    "worse-train": N_("教えた質問のよくない答え"),
    "worse-test": N_("教えていない質問のよくない答え"),
    "worse-valid": N_("検証の行のよくない答え"),
}
ASKED = ("train", "test", "reworded", "general")
SPLITS = ("train", "test", "valid")
BETTER, WORSE = 0, 1

RowsBySplit = dict[str, list[Row]]


@dataclass(frozen=True)
class Plan:
    """What both models are shown."""

    rows: RowsBySplit
    """By the names of `STAGES`; none is empty."""
    of_rows: dict[str, int]
    """Rows that a split has, by its name."""
    trained_groups: frozenset[str]
    link_split: str
    mismatches: list[Mismatch]
    objective: str

    def gradings(self, models: int) -> dict[bool, int]:
        """How many rows so many models are shown in all, by whether they are asked."""
        sizes = {name: models * len(split) for name, split in self.rows.items()}
        sizes["general"] = models * len(general_questions.questions())
        asked = sum(size for name, size in sizes.items() if name in ASKED)
        return {True: asked, False: sum(sizes.values()) - asked}


def run(context: TaskContext) -> Report:
    """config: EvaluateConfig. Returns the report. Raises RunError, ModelError, DataError."""
    settings = config.load(EvaluateConfig, context.config)
    run = runs.require_trained(context.workspace, context.run_id)
    folder = bases.of_run(run, context.workspace)
    adapter = context.workspace.adapter(context.run_id).folder
    plan = _plan(context, run, settings)
    parent = context.workspace.adapter(run.parent).folder if run.parent else None
    if parent is not None and not (parent / "adapters.safetensors").exists():
        parent = None  # deleted since
    cpu.keep_freed_memory()
    models = 2 if parent is None else 3
    progress = EvaluationProgress(context.progress, plan.gradings(models), settings)
    context.progress(Step(_("モデルの読み込み"), 0, 0))
    base_model = load(folder, asked_like=adapter)
    changes = weight_change.norms(base_model, adapter)
    kept = BaseGrades(context.workspace, folder, base_model, settings)
    base = _grade(progress, base_model, plan, settings, _("元のモデル"), kept)
    general = general_set.of_base(_asker(progress, base_model, settings, kept))
    plan = replace(
        plan, rows={**plan.rows, "general": _general_rows(base_model, general.questions)}
    )
    base["general"] = general.base
    in_prompt = None
    if settings.in_prompt:
        split = next((name for name in ("test", "reworded", "train") if name in plan.rows), "")
        taught = read_rows(context.workspace.dataset(run.dataset).train)
        asked = plan.rows.get(split, [])
        in_prompt = prompted.of_base(base_model, split, asked, taught, settings, progress, kept)
    del base_model
    free_memory()
    tuned_model = load(folder, adapter)
    tuned = _grade(progress, tuned_model, plan, settings, _("学習後のモデル"))
    chat = tuned_model.chat
    former = {}
    if parent is not None:
        del tuned_model
        free_memory()
        former = _grade(progress, load(folder, parent), plan, settings, _("続ける前のモデル"))
    context.progress(Step(_("報告書の作成"), 0, 0))
    thinks, goal = chat.thinks if chat.form.style else None, _goal(context, run, settings, plan)
    layers = [LayerChange(layer, *figures) for layer, figures in changes.items()]
    findings = _findings(plan, base, tuned, layers, thinks, goal)
    said = marks.read(context.workspace.run(context.run_id)).said
    findings = replace(findings, asked=general.questions, prompted=in_prompt, marks=said)
    content = report.build(_origin(context, run), findings, settings)
    if former:
        before = replace(_findings(plan, base, former, [], thinks, goal), asked=general.questions)
        content = report.continuing(content, findings, before, run.parent, settings)
    report.write(context.workspace.run(context.run_id), content)
    return content


def _findings(
    plan: Plan,
    base: dict[str, list[Grade]],
    tuned: dict[str, list[Grade]],
    layers: list[LayerChange],
    thinks: bool | None,
    goal: str,
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
        goal=goal,
    )


def _plan(context: TaskContext, run: Run, settings: EvaluateConfig) -> Plan:
    dataset = context.workspace.dataset(run.dataset)
    whole = {
        name: questions.distinct(read_rows(dataset.split(name)))
        for name in SPLITS
        if dataset.split(name).exists()
    }

    def chosen(which: int) -> dict[str, list[Row]]:
        # Of judged rows as many of either kind, however they alternate.
        answered = {name: _with_answer(split, which) for name, split in whole.items()}
        return {name: questions.evenly(rows, settings.max_rows) for name, rows in answered.items()}

    training = jobs.read_job(context.workspace.run(context.run_id)).config
    objective = objectives.objective_for(
        TrainConfig(objective=training.get("objective", TrainConfig.objective)),
        whole.get("train", []),
    )
    trained_groups = questions.groups(whole.get("train", []))
    rows = chosen(BETTER)
    worse = {}
    if objective.is_per_item:
        worse = {f"worse-{name}": split for name, split in chosen(WORSE).items()}
    link_split = judge.judged_split({name: len(split) for name, split in rows.items() if split})
    linked = rows.get(link_split, [])
    mismatches = []
    if not worse and all(map(grade.is_question, linked)):
        mismatches = questions.mismatched(linked)
    reworded = []
    if not any(questions.is_paraphrase(row, trained_groups) for row in rows.get("test", [])):
        # The test split brings no other wordings of trained questions.
        trained = [row for row in rows.get("train", []) if grade.is_question(row)]
        reworded = questions.reworded(trained)
    shown = {
        **rows,
        **worse,
        "reworded": reworded,
        "mismatched": [mismatch.row for mismatch in mismatches],
    }
    return Plan(
        rows={name: split for name, split in shown.items() if split},
        of_rows={name: len(split) for name, split in whole.items()},
        trained_groups=trained_groups,
        link_split=link_split,
        mismatches=mismatches,
        objective=objective.name,
    )


def _goal(context: TaskContext, run: Run, settings: EvaluateConfig, plan: Plan) -> str:
    """As it was asked for, else the dataset's; of one that was made before goals, a guess."""
    if settings.goal != "auto":
        return settings.goal
    with contextlib.suppress(FileNotFoundError, StudioError):
        manifest = files.read_json(context.workspace.dataset(run.dataset).manifest)
        if goal := str(manifest.get("goal", "")):
            return goal
    rows = plan.rows.get("train", [])
    if objectives.BY_NAME[plan.objective].is_per_item:
        return "preference"
    talks = [row["messages"] for row in rows if row.get("messages")]
    exchanges = [
        goals.QuestionAnswer(str(talk[-2]["content"]), str(talk[-1]["content"]), len(talk))
        for talk in talks
        if len(talk) > 1
    ]
    return goals.guess("chat" if talks else "text", exchanges).goal


def _with_answer(rows: list[Row], which: int) -> list[Row]:
    """Preference rows as conversations with the better or the worse answer, and of judged ones those
    that are so; others as they are."""
    return [
        {**row, "messages": examples.conversations(row)[which]} if "chosen" in row else row
        for row in rows
        if "label" not in row or row["label"] == (which == BETTER)
    ]


def _grade(
    progress: EvaluationProgress,
    loaded: LoadedModel,
    plan: Plan,
    settings: EvaluateConfig,
    model: str,
    kept: BaseGrades | None = None,
) -> dict[str, list[Grade]]:
    """What one model makes of the rows, by the names of `STAGES`; kept: from earlier evaluations."""
    layout = grade.batch_layout(loaded)
    grades = {}
    for number, (name, split) in enumerate(plan.rows.items(), 1):
        stage = _("{model}（{number}/{total} {rows}）").format(
            model=model, number=number, total=len(plan.rows), rows=_(STAGES[name])
        )
        ask = name in ASKED

        def compute(split: list[Row] = split, stage: str = stage, ask: bool = ask) -> list[Grade]:
            return grade.grade(loaded, split, settings, progress, stage, layout=layout, ask=ask)

        grades[name] = compute() if kept is None else kept.of(split, compute, ask=ask)
        progress.finish(len(split), ask=ask)
    return grades


def _asker(
    progress: EvaluationProgress, base: LoadedModel, settings: EvaluateConfig, kept: BaseGrades
) -> Callable[[Sequence[GeneralQuestion]], list[Grade]]:
    """What asks the base general questions, or looks up what it has said."""
    layout = grade.batch_layout(base)
    stage = _("元のモデル（{rows}）").format(rows=_(STAGES["general"]))

    def asked(some: Sequence[GeneralQuestion]) -> list[Grade]:
        rows = _general_rows(base, some)

        def compute() -> list[Grade]:
            return grade.grade(base, rows, settings, progress, stage, layout=layout, ask=True)

        return kept.of(rows, compute, ask=True)

    return asked


def _general_rows(loaded: LoadedModel, some: Sequence[GeneralQuestion]) -> list[Row]:
    has_template = loaded.chat.template is not None
    return [question.row if has_template else question.text_row for question in some]


def _origin(context: TaskContext, run: Run) -> Origin:
    paths = context.workspace.run(context.run_id)
    dataset_sha256 = runs.dataset_hash(context.workspace.dataset(run.dataset))
    error, end = run.status.error or {}, WHOLE
    training = jobs.read_job(paths).config
    with contextlib.suppress(StudioError):  # of a run that did not come to its end
        result = jobs.result(paths, TrainResult)
        end = ending(result)
        if result.replayed:
            training = {**training, "replayed": result.replayed}
    return Origin(
        run_id=context.run_id,
        model=run.model,
        dataset=run.dataset,
        dataset_sha256=run.dataset_sha256,
        dataset_changed=dataset_sha256 != run.dataset_sha256,
        created_at=run.created_at,
        training=training,
        versions=run.versions,
        evaluated_at=jobs.now(),
        error=str(error.get("code", "")),
        metrics=runs.metrics(context.workspace, context.run_id),
        ending=end,
    )
