"""Lines of a run's logs, as readers get them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MetricsLine:
    """Of `metrics.jsonl`: an update, or a validation. None: not of this kind, or no finite number."""

    update: int
    """Counted from 1; 0 is the validation before training."""
    loss: float | None = None
    """Nats per supervised token, as `valid_loss`; of preferences, per pair."""
    valid_loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    tokens: int | None = None
    supervised_tokens: int | None = None
    tokens_per_second: float | None = None
    peak_memory_gb: float | None = None
    card_memory_gb: float | None = None
    elapsed_s: float | None = None
    accuracy: float | None = None
    """Share of pairs whose chosen answer leads, as `valid_accuracy`."""
    margin: float | None = None
    """By how much, as `valid_margin`."""
    valid_accuracy: float | None = None
    valid_margin: float | None = None
    simulated: bool = False


@dataclass(frozen=True)
class Sample:
    """Of `samples.jsonl`: what the model answered to a question while it was trained."""

    update: int
    question: str
    expected: str
    answer: str
    row: int = 0
    taught: bool | None = None
    """None in runs of older versions."""
    ended: bool = True
    reasoning: str = ""


@dataclass(frozen=True)
class Event:
    """Of `events.jsonl`: what happened, and in Japanese what there is to say of it."""

    event: str
    time: str = ""
    text: str = ""


@dataclass(frozen=True)
class FitEvent:
    """The event that tells how a run was fitted into memory; 10**9 bytes."""

    event: Literal["fit"]
    needed_gb: float
    available_gb: float
    largest_batch_size: int
    """Examples that could be computed at once."""
    longest_tokens: int
