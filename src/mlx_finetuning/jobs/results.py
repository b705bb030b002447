"""What jobs come to: the `result.json` of each kind that several packages write or read.

Reports of evaluations and of exports are described where they are made (`experiment_tracker`,
`quantizer.verify.results`). Fields with a default were added later, or are not known to every engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlx_finetuning.language import N_, _


@dataclass(frozen=True)
class Check:
    """One proof of a run about itself, with its outcome in words."""

    kind: str
    """`supervision`, `adapter_changed`, `adapter_reloaded`, `ranks_agree`, `merged` or `imported`."""
    passed: bool
    text_ja: str


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What became of a run. None: the engine does not tell (mlx-lm), or there is nothing (simulation)."""

    updates: int
    first_valid_loss: float | None
    last_valid_loss: float | None
    adapter_path: str | None = None
    """The folder; None while the loop has not handed it over, and for a simulation."""
    simulated: bool = False
    note: str = ""
    """In Japanese, of a simulation: that it is one."""
    train_rows: int | None = None
    valid_rows: int | None = None
    cut_rows: int | None = None
    """Rows longer than the limit."""
    cut_answers: int | None = None
    """Rows of which an answer has lost its end, those that are left out for it among them."""
    supervised_tokens: int | None = None
    best_valid_loss: float | None = None
    best_update: int | None = None
    last_loss: float | None = None
    peak_memory_gb: float | None = None
    """10**9 bytes: what each process held at most, added up; on a GPU, what its arrays took."""
    card_memory_gb: float | None = None
    """Of a GPU with memory of its own: what its driver had given to all programs, at most."""
    elapsed_s: float | None = None
    processes: int | None = None
    padded: bool | None = None
    """Whether examples had rows of their own, because the model class needs it."""
    micro_batch_size: int | None = None
    """Examples computed at once."""
    recompute: bool | None = None
    """Whether blocks were computed again for their gradients, to save memory."""
    checks: tuple[Check, ...] = ()
    """What the run proved about itself."""
    resumed_from: int | None = None
    """The update of the checkpoint the last sitting began with."""
    stopped_early: bool = False
    objective: str = ""
    """What was learned by: `sft`, `dpo`, `orpo`, `simpo` or `kto`."""
    replayed: int | None = None
    """Of the base's own answers, those that were learned beside the rows."""
    not_replayed: str = ""
    """In Japanese, why there were none, where they were not turned off."""


@dataclass(frozen=True)
class LayoutTrial:
    """One batch layout, tried on one update."""

    layout: str
    """`padded`, `packed` or `concatenated`."""
    seconds: float
    """The fastest of a few."""
    difference: float
    """Of its gradient from that of padded rows, relative to its norm."""
    agrees: bool
    """Whether rounding explains the difference."""
    is_chosen: bool
    """Whether runs take this layout here."""


@dataclass(frozen=True)
class LayoutTrials:
    """All layouts that a device computes."""

    device: str
    """MLX's: `cpu` or `gpu`."""
    trials: tuple[LayoutTrial, ...]


@dataclass(frozen=True)
class Estimate:
    """What a run will take, for people and for the form of settings."""

    fits: bool
    peak_memory_gb: float
    """10**9 bytes, over all processes."""
    available_gb: float
    """What the run may take."""
    seconds_per_update: float
    updates: int
    total_s: float
    """Of the whole run, validation included."""
    rows: int
    longest_tokens: int
    batch_size: int
    micro_batch_size: int
    """Examples computed at once; smaller than `batch_size` where memory asks for parts."""
    largest_batch_size: int
    """Examples that could be computed at once, at most all rows."""
    recommended_batch_size: int
    processes: int
    recompute: bool
    reason_ja: str


@dataclass(frozen=True)
class Downloaded:
    """A base model from the hub."""

    name: str
    path: str


@dataclass(frozen=True)
class Shared:
    """What a run made, as other people get it."""

    place: str
    """A folder, a ZIP file, or a page of the hub."""
    files: tuple[str, ...]
    size_bytes: int
    notes: tuple[str, ...] = ()
    """In Japanese, what is missing and why."""


@dataclass(frozen=True)
class ServerEnded:
    """A model server that was not stopped."""

    reason: str = "idle"


JOURNEY_JA = {
    "train": N_("学習", "stage"),
    "evaluate": N_("確かめる", "stage"),
    "export": N_("軽くする", "stage"),
    "certify": N_("同じか比べる", "stage"),
}
"""The jobs of a journey, in the order of the work, with their names for people (`journey_stage`)."""


def journey_stage(kind: str) -> str:
    """What people call this job of a journey."""
    return _(JOURNEY_JA[kind], "stage")


@dataclass(frozen=True)
class Journey:
    """What has been made of a run from its training to where one can talk to it."""

    run_id: str
    seconds: Mapping[str, float]
    """What each stage's job took, by its kind, in the order of the work."""
    gguf: Mapping[str, str]
    """Paths of the written files, by type."""


SAME_ANSWERS = 0.99
"""Share of equal greedy answers from which two engines answer alike."""
LITTLE_KL = 0.1
"""Nats below which predictions differ little, as an export's own verdict has it."""


@dataclass(frozen=True)
class TriedChoice:
    """A trial of a tuning."""

    run_id: str
    text: str
    """Its settings, in Japanese."""
    share: float
    """Of the updates."""
    goal: float
    """The goal's measure on held-out questions, 0 to 1."""
    forgotten: float
    """Share of the general questions that the base answers."""
    loss: float
    """Nats per token on held-out rows."""
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """What a tuning came to."""

    run_id: str
    """The run that was trained to its end with the settings that were found."""
    reason: str
    """In Japanese, why these."""
    settings: Mapping[str, float]
    is_usual: bool
    """Whether they are those that would have been taken anyway."""
    goal: float
    forgotten: float
    seconds: float
    asked_s: float
    trials: tuple[TriedChoice, ...]
    """In the order they were made; the last run too."""


@dataclass(frozen=True)
class EngineRow:
    """One engine beside the trained model; shares of 1. A row of `certificate.json`."""

    engine: str
    """`mlx`, `mlx-fused`, `Q4_K_M`, `ollama`."""
    prompts: int
    prompt_ids_equal: float
    top1: float | None
    """Positions whose likeliest next token is the same; None where logits cannot be had."""
    kl: float | None
    """Mean divergence, nats."""
    answers_equal: float
    """Without their reasoning."""
    ended: float
    verdict: str
    label: str = ""
    """For people: 「GGUF Q4_K_M（llama.cpp）」."""
    path: str = ""
    problems: tuple[str, ...] = ()
    reasoning_equal: float | None = None
    """Of the answers that either side thought over; None where neither does."""

    @property
    def predicts_alike(self) -> bool:
        """Whether its next words are as likely as the trained model's, as far as is known."""
        return self.kl is None or self.kl < LITTLE_KL


@dataclass(frozen=True)
class Certificate:
    """`certificate.json`: whether everything made of a run is still the trained model."""

    passed: bool
    verdict: str
    prompts: int
    held_out_prompts: int
    """Of them, those that were not trained on."""
    rows: tuple[EngineRow, ...]
    """The trained model's first."""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """In Japanese, what else the reader should know."""

    @property
    def level(self) -> str:
        """good, warning or bad: how it is coloured. Rounding that changes answers is no fault, and is
        not the trained model either."""
        if not self.passed:
            return "bad"
        is_alike = all(
            row.answers_equal >= SAME_ANSWERS and row.predicts_alike for row in self.rows
        )
        return "good" if is_alike else "warning"


@dataclass(frozen=True)
class Deployment:
    """A run's model in Ollama, and what was proven of it."""

    name: str
    host: str
    verdict: str
    path: str
    modelfile: str
    system: str
    quant: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    """Of Ollama's Modelfile."""
    details: Mapping[str, object] = field(default_factory=dict)
    """Ollama's own words about the model."""
    digest: str = ""
    compared: int = 0
    """Questions."""
    equal_answers: int = 0
    ended_answers: int = 0

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        stop = self.parameters.get("stop")
        return tuple(map(str, stop)) if isinstance(stop, list | tuple) else ()
