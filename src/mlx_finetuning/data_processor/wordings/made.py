"""A row that was made from the data, with what speaks against it. Plain data; loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlx_finetuning.data_processor.wordings.kinds import KINDS_JA
from mlx_finetuning.language import N_, _
from mlx_finetuning.utils.text_generator import GeneratorChoice

RULES = N_("規則")
"""Made by no model."""
NEAR_MISSES_JA = {
    "attribute": N_("ほかの項目"),
    "entity": N_("ほかのもの"),
    "year": N_("ほかの年"),
    "near_miss": N_("似た質問"),
}
"""How a question that the data does not answer differs from one that it does."""


@dataclass(frozen=True)
class Known:
    """A question of the data with its answer, and where it stands in the source."""

    row: int
    question: str
    answer: str
    source: str = ""
    """The file's name, where a dataset has several."""
    is_refusal: bool = False


@dataclass(frozen=True)
class MadeRow:
    """A question and answer that can be added to the data."""

    row: int
    """The row it was made from."""
    kind: str
    """A key of `KINDS_JA` or `NEAR_MISSES_JA`."""
    question: str
    answer: str
    made_by: str = RULES
    """`RULES`, or the model's name."""
    problems: tuple[str, ...] = ()
    """In Japanese, each with its reason; empty for a row that passed every check."""
    source: str = ""
    """The file of the row it was made from, where a dataset has several."""
    split: str = ""
    """Where it goes, if that is decided."""

    @property
    def kind_ja(self) -> str:
        """For people."""
        return _((KINDS_JA | NEAR_MISSES_JA)[self.kind])

    @property
    def is_refusal(self) -> bool:
        """Whether it asks what the data does not answer."""
        return self.kind in NEAR_MISSES_JA


@dataclass(frozen=True)
class RewordConfig:
    """Which other wordings to make."""

    dataset: str
    kinds: tuple[str, ...] = tuple(KINDS_JA)
    per_kind: int = 1
    """At most, of a question; by rules, and as many by a model."""
    rules: bool = True
    generator: GeneratorChoice = field(default_factory=lambda: GeneratorChoice(""))
    """Without a model's name, rules alone."""
    check: bool = False
    """Whether the model has to give the original answer to its wordings, too."""
    seed: int = 0


@dataclass(frozen=True)
class RefuseConfig:
    """Which questions without an answer to make."""

    dataset: str
    share: float = 0.3
    """Of the rows there will be, those there are already included. Measured: `benchmarks/README.md`."""
    refusal: str = ""
    """What to say; empty for our words in the tone of the data."""
    rules: bool = True
    generator: GeneratorChoice = field(default_factory=lambda: GeneratorChoice(""))
    """Without a model's name, rules alone."""
    seed: int = 0


@dataclass(frozen=True)
class MadeRows:
    """What a job made of a dataset."""

    dataset: str
    rows: tuple[MadeRow, ...]

    @property
    def passed(self) -> tuple[MadeRow, ...]:
        """Those that no check speaks against."""
        return tuple(row for row in self.rows if not row.problems)
