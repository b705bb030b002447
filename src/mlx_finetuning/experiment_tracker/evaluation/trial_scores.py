"""How good answers are by a goal's own measure, a number from 0 to 1 for each row."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlx_finetuning.experiment_tracker.evaluation import comparison
from mlx_finetuning.experiment_tracker.evaluation.comparison import Grade
from mlx_finetuning.experiment_tracker.evaluation.judge import NEARNESS
from mlx_finetuning.experiment_tracker.evaluation.rightness import RIGHT, common_words, rightness
from mlx_finetuning.tokenization.reasoning import answer_of
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.utils import goals


def of_rows(goal: str, rows: Sequence[Row], grades: Sequence[Grade]) -> list[float]:
    """Right or not for facts and labels, nearness to the expected answer for style and rewriting; for
    texts, and where nothing was answered, the probability of a token."""
    expected = [answer_of(row["messages"][-1]) if row.get("messages") else "" for row in rows]
    common = common_words(expected)
    values = []
    for row, wanted, grade in zip(rows, expected, grades, strict=True):
        if grade.answer is None or not (goal in goals.COUNTED or goal in NEARNESS):
            values.append(math.exp(-comparison.per_token(grade)))
        elif goal in NEARNESS:
            scores = comparison.score(grade.answer, wanted)
            values.append(float(getattr(scores, NEARNESS[goal])))
        else:
            question = str(row["messages"][-2]["content"])
            found = rightness(grade.answer, wanted, question, common)
            accepted = ("exact",) if goal == "labels" else RIGHT
            values.append(float(found in accepted))
    return values
