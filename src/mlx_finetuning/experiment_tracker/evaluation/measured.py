"""What was measured of a run, and where the run comes from. Plain data; judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from mlx_finetuning.experiment_tracker.evaluation import general_questions
from mlx_finetuning.experiment_tracker.evaluation.comparison import Grade, Measured
from mlx_finetuning.experiment_tracker.evaluation.general_questions import GeneralQuestion
from mlx_finetuning.experiment_tracker.evaluation.questions import Mismatch
from mlx_finetuning.experiment_tracker.evaluation.results import LayerChange
from mlx_finetuning.experiment_tracker.evaluation.rightness import common_words
from mlx_finetuning.jobs.ending import WHOLE, Ending
from mlx_finetuning.jobs.logs import MetricsLine
from mlx_finetuning.tokenization.reasoning import answer_of


@dataclass(frozen=True)
class Prompted:
    """What the base answers with rows of the data in its question."""

    split: str
    """Whose questions were asked: `test`, `reworded` or `train`."""
    places: tuple[int, ...]
    """Of the rows in the split."""
    whole: Sequence[Grade]
    """With as many rows as fit."""
    whole_rows: int
    of_rows: int
    nearest: Sequence[Grade]
    """With the nearest rows only."""


@dataclass(frozen=True)
class Findings:
    """What was measured; the general set is always there."""

    splits: dict[str, Measured]
    general: Measured
    asked: Sequence[GeneralQuestion] = field(default_factory=general_questions.questions)
    """The questions of `general`, in their order."""
    trained_groups: frozenset[str] = frozenset()
    """Paraphrase groups of all trained rows, measured or not."""
    reworded: Measured | None = None
    link_split: str = ""
    """The split whose questions were paired with other answers."""
    mismatches: Sequence[Mismatch] = ()
    mismatched: Measured | None = None
    layers: Sequence[LayerChange] = ()
    objective: str = "sft"
    """What the run trained: on pairs, `dpo` or `orpo`."""
    worse: Mapping[str, Measured] = field(default_factory=dict)
    """By split, the worse answer of every row, whose better one is in `splits`."""
    goal: str = "faq"
    """What the model is for, a key of `utils.goals`."""
    prompted: Prompted | None = None
    marks: Mapping[tuple[tuple[str, ...], str], bool] = field(default_factory=dict)
    """Whether answers are right as people said, by what was asked, in turn, and the answer."""
    thinks: bool | None = None
    """Whether the run was trained with reasoning; None where the model's template knows of none."""

    @cached_property
    def common(self) -> frozenset[str]:
        """Words that many expected answers have, so that saying them proves nothing."""
        return common_words(
            answer_of(row["messages"][-1])
            for measured in self.splits.values()
            for row in measured.rows
            if row.get("messages")
        )

    @property
    def has_changed(self) -> bool:
        """Whether anything at all is otherwise than in the base: an answer, or a loss."""
        return any(
            (base.nats, base.answer) != (tuned.nats, tuned.answer)
            for measured in self.splits.values()
            for base, tuned in zip(measured.base, measured.tuned, strict=True)
        )

    @property
    def adapter_is_zero(self) -> bool:
        """Whether training changed no weight at all."""
        return bool(self.layers) and not any(layer.norm for layer in self.layers)


@dataclass(frozen=True)
class Origin:
    """Where a report comes from: all that is needed to make the run again."""

    run_id: str
    model: str
    dataset: str
    dataset_sha256: str
    """At the start of the run."""
    dataset_changed: bool
    """Whether the dataset is another one by now."""
    created_at: str
    training: Mapping[str, object]
    """The run's settings."""
    versions: dict[str, str]
    evaluated_at: str
    error: str = ""
    """Code of the error the run ended with."""
    metrics: Sequence[MetricsLine] = ()
    ending: Ending = WHOLE
