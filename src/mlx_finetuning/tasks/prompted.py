"""The same questions asked of the base with the data in the question: would that be enough?"""

from __future__ import annotations

from collections.abc import Sequence

from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.experiment_tracker.evaluation import in_prompt, questions
from mlx_finetuning.experiment_tracker.evaluation.measured import Prompted
from mlx_finetuning.language import N_, _
from mlx_finetuning.mlx_trainer.inference import grade
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.tasks.base_grades import BaseGrades
from mlx_finetuning.tasks.evaluation_progress import EvaluationProgress
from mlx_finetuning.tokenization.rows import Row

ASKED = 48
"""Questions at most."""
LONGEST = 3072
"""Tokens of data in a question at most: they are read once, but each token of an answer looks at all."""
SPARE = 64
"""Tokens of a context that are left free beside data, question and answer."""
WHOLE_JA = N_("元のモデル（データを質問に添えて）")
NEAREST_JA = N_("元のモデル（近い行だけを添えて）")


def of_base(
    base: LoadedModel,
    split: str,
    rows: Sequence[Row],
    taught: Sequence[Row],
    settings: EvaluateConfig,
    progress: EvaluationProgress,
    kept: BaseGrades,
) -> Prompted | None:
    """rows: of `split`, that both models are asked; taught: all rows that the run learned; kept: from
    earlier evaluations.

    None where the base takes no conversation, or nothing can be asked.
    """
    places = [at for at, row in enumerate(rows) if grade.is_question(row)]
    known = [row for row in taught if grade.is_question(row)]
    if base.chat.template is None or not places or not known:
        return None
    places = questions.evenly(places, ASKED)
    asked = [rows[at] for at in places]
    room = min(LONGEST, base.context_length - settings.max_tokens - SPARE)
    longest = max(asked, key=lambda row: len(str(row["messages"][-2]["content"])))

    def fits(some: Sequence[Row]) -> bool:
        return len(grade.prompt(base, in_prompt.with_rows(longest, some))) <= room

    whole = in_prompt.fitting(known, fits)
    index, layout = in_prompt.NearestRows(known), grade.batch_layout(base)

    own = progress.apart(2 * len(asked))

    def answered(
        asked_with: list[Row], stage: str, *, begin_alike: bool = False
    ) -> list[grade.Grade]:
        def compute() -> list[grade.Grade]:
            return grade.grade(
                *(base, asked_with, settings, own, stage),
                layout=layout,
                ask=True,
                begin_alike=begin_alike,
            )

        graded = kept.of(asked_with, compute, ask=True)
        own.finish(len(asked_with), ask=True)
        return graded

    near = [index.of(str(row["messages"][-2]["content"])) for row in asked]
    return Prompted(
        split=split,
        places=tuple(places),
        whole=answered(
            [in_prompt.with_rows(row, whole) for row in asked], _(WHOLE_JA), begin_alike=True
        ),
        whole_rows=len(whole),
        of_rows=len(known),
        nearest=answered(
            [
                in_prompt.with_rows(row, in_prompt.fitting(some, fits))
                for row, some in zip(asked, near, strict=True)
            ],
            _(NEAREST_JA),
        ),
    )
