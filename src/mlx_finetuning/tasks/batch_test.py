"""All questions of a run's dataset, put to the tuned model and judged, a batch at a time.

Answers are written as they come, to `answers.jsonl` in the job's folder: a test that is stopped keeps
what was answered by then. The base is not asked; `evaluate` compares both.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict

from mlx_finetuning import bases, config, files
from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.errors import NoQuestions, StudioError
from mlx_finetuning.experiment_tracker.evaluation import batch_test, questions
from mlx_finetuning.experiment_tracker.evaluation.batch_test import BatchAnswer, BatchTest
from mlx_finetuning.experiment_tracker.evaluation.rightness import common_words, rightness
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.language import N_, _
from mlx_finetuning.mlx_trainer.inference import batch_generate, grade
from mlx_finetuning.mlx_trainer.kernels import cpu
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.progress import Step
from mlx_finetuning.tokenization.reasoning import answer_of
from mlx_finetuning.tokenization.rows import read_rows

STAGE = N_("質問に答えています")
SPLITS = ("train", "valid", "test")


def run(context: TaskContext) -> BatchTest:
    """config: EvaluateConfig. Raises RunError, ModelError, DataError."""
    settings = config.load(EvaluateConfig, context.config)
    run = runs.require_trained(context.workspace, context.run_id)
    dataset = context.workspace.dataset(run.dataset)
    by_split = {
        split: [
            row
            for row in questions.distinct(read_rows(dataset.split(split)))
            if questions.takes_turns(row)
        ]
        for split in SPLITS
    }
    rows = [(split, row) for split, some in by_split.items() for row in some]
    if not rows:
        raise NoQuestions(dataset=run.dataset)
    context.progress(Step(_("モデルの読み込み"), 0, 0))
    cpu.keep_freed_memory()
    adapter = context.workspace.adapter(context.run_id).folder
    loaded = load(bases.of_run(run, context.workspace), adapter)
    trained_groups = questions.groups(by_split["train"])
    common = common_words(answer_of(row["messages"][-1]) for __, row in rows)
    is_label = False
    with contextlib.suppress(FileNotFoundError, StudioError):  # of a dataset that was made by hand
        is_label = files.read_json(dataset.manifest).get("goal") == "labels"
    prompts = [grade.prompt(loaded, row) for __, row in rows]
    # Alike long ones together, as answers are computed.
    order = sorted(range(len(rows)), key=lambda at: len(prompts[at]))
    fitting = [at for at in order if len(prompts[at]) < loaded.context_length]
    told: list[BatchAnswer] = []
    with files.LineLog(context.paths.answers) as log:
        for start in range(0, len(fitting), settings.batch_size):
            batch = fitting[start : start + settings.batch_size]
            answers = batch_generate.answers(
                loaded,
                [prompts[at] for at in batch],
                settings.max_tokens,
                settings.batch_size,
                lambda count: context.progress(Step(_(STAGE), len(told) + count, len(fitting))),
            )
            for at, answer in zip(batch, answers, strict=True):
                split, row = rows[at]
                expected = answer_of(row["messages"][-1])
                turns = (turn for turn in row["messages"][:-1] if turn["role"] != "system")
                prompt = tuple(str(turn["content"]) for turn in turns)
                found = rightness(answer.text, expected, prompt[-1], common, is_label=is_label)
                told.append(
                    BatchAnswer(
                        prompt=prompt,
                        expected=expected,
                        answer=answer.text,
                        rightness=found,
                        split=split,
                        is_reworded=questions.is_paraphrase(row, trained_groups),
                        row=int(row.get("row", 0)),
                        ended=answer.ended,
                    )
                )
                log.append(asdict(told[-1]))
    return batch_test.counted(told)
