"""What a preview of a dataset shows, the result of its job."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PreviewToken:
    """One token of a row as training sees it."""

    id: int
    piece: str
    """Its text."""
    supervised: bool
    """Whether it counts in the loss."""
    cut: bool
    """Whether it is beyond the limit."""


@dataclass(frozen=True, kw_only=True)
class PreviewSequence:
    """One sequence of a row."""

    row: int
    source: str
    group: str
    text: str
    tokens: tuple[PreviewToken, ...]
    token_count: int
    supervised_tokens: int
    cut: int
    """Tokens."""
    answer_end_lost: bool
    characters: int
    tokens_per_character: float


@dataclass(frozen=True, kw_only=True)
class PreviewRow(PreviewSequence):
    """The first sequence, with the split it is in."""

    split: str


@dataclass(frozen=True)
class LongRow:
    """A row that does not fit."""

    row: int
    source: str
    tokens: int
    cut: int
    answer_end_lost: bool


@dataclass
class Totals:
    """Figures over all rows of all splits; filled while they are counted."""

    rows: int = 0
    tokens: int = 0
    """As trained on: what is cut does not count."""
    supervised_tokens: int = 0
    characters: int = 0
    cut_rows: int = 0
    answer_end_lost_rows: int = 0
    """Rows whose last answer has lost its end: the model learns not to stop there."""
    unused_rows: int = 0
    """Rows of which nothing supervised is left: training leaves them out."""
    longest_row: int = 0
    longest_tokens: int = 0
    tokens_per_character: float = 0.0
    supervised_share: float = 0.0
    too_long: list[LongRow] = field(default_factory=list)


@dataclass(frozen=True)
class Preview:
    """What training will see of a dataset: one row token by token, and figures over all rows."""

    dataset: str
    model: str
    max_length: int
    supervise: str
    thinks: bool
    """Whether answers are learned with their reasoning."""
    row: PreviewRow
    rejected: PreviewSequence | None
    """The second answer of a preference row."""
    more: tuple[PreviewSequence, ...]
    """Further sequences of a conversation whose answers are learned apart."""
    tools_ignored: bool
    """Whether the row has tools, and the model's template no place for them."""
    ends: tuple[str, ...]
    """In Japanese, where the model will be usable once it is trained."""
    warnings: tuple[str, ...]
    """In Japanese, where it will not be, or not for all rows."""
    totals: Totals
    label: bool | None = None
    """Of a judged row, whether its answer is a good one."""
