"""The main job end to end on the bundled data: おまかせ as anybody starts it, then every trained
question put to llama.cpp.

Every figure of its result comes from the stage that made it. Loads no MLX.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning import config
from mlx_finetuning.config import EvaluateConfig, PrepareConfig, TrainConfig, as_dict
from mlx_finetuning.experiment_tracker.evaluation.results import Answered, Learned, Outcome
from mlx_finetuning.jobs.results import JOURNEY_JA
from mlx_finetuning.language import N_, _
from mlx_finetuning.models import BUILT_IN
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.quantizer.verify.results import Exported, LogitParity
from mlx_finetuning.studio import Studio

DATASET = "demo"
MAIN_QUANT = "Q4_K_M"
QUANTS = (MAIN_QUANT, "Q8_0", "F16")
"""Of the built-in model; of others the first, for each takes gigabytes."""
PREPARE = PrepareConfig(goal="faq")
COMPARED = 16
"""Questions that the written files are compared with."""
# Enough for every fact of the sample to be learned on two cores within half a minute.
SETTINGS = TrainConfig(model=BUILT_IN, dataset=DATASET, iterations=150, validate_every=50)


STAGES_JA = {
    "prepare": N_("データの用意", "stage"),
    **JOURNEY_JA,
    "ask": N_("llama.cpp での確認", "stage"),
    "total": N_("合計", "stage"),
}
"""Keys of `Demonstration.seconds`, as people call them (`stage_name`)."""


@dataclass(frozen=True)
class RuntimeAnswer:
    """What llama.cpp said to a trained question."""

    question: str
    expected: str
    answer: str


@dataclass(frozen=True)
class Demonstration:
    """What the chain came to; accuracies are shares."""

    run_id: str
    settings: TrainConfig
    seconds: Mapping[str, float]
    """By stage, and `total`."""
    base_accuracy: float | None
    """On trained questions."""
    tuned_accuracy: float | None
    base_paraphrase_accuracy: float | None
    """On trained questions in other words."""
    paraphrase_accuracy: float | None
    valid_loss_before: float | None
    valid_loss_after: float | None
    examples: tuple[Answered, ...]
    verdict: Learned
    outcome: Outcome | None
    adapter_path: str | None
    gguf_path: str
    gguf_paths: Mapping[str, str]
    """By type, as `parities`."""
    parities: Mapping[str, LogitParity | None]
    q4_k_m_accuracy: float
    runtime_answer: RuntimeAnswer


def stage_name(stage: str) -> str:
    """What people call this part of the chain."""
    return _(STAGES_JA[stage], "stage")


def run_demo(
    studio: Studio, model: str, settings: Mapping[str, str], progress: Progress
) -> Demonstration:
    """Run the chain; `settings` change the training's. Raises whatever a stage raises."""
    from mlx_finetuning.data_processor import SAMPLE_DATA

    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        studio.data.prepare(SAMPLE_DATA, DATASET, PREPARE, replace=True, progress=progress)
        # What suits the sheet's rows and the model's width is chosen by hand for the built-in one.
        usual = TrainConfig(model=model, dataset=DATASET)
        start = SETTINGS if model == BUILT_IN else studio.training.preset(usual, "usual")
        training = config.load(TrainConfig, {**as_dict(start), **settings})
    quants = QUANTS if model == BUILT_IN else (MAIN_QUANT,)
    run_id = studio.auto.start(training, quants, prompts=COMPARED)
    journey = studio.auto.follow(run_id).follow(progress)
    seconds |= journey.seconds
    trained, report = studio.runs.follow(run_id, progress), studio.evaluation.report(run_id)
    assert report is not None  # the journey made it
    [export] = (job.name for job in studio.jobs.list(run_id) if job.kind == "export")
    files = studio.jobs.result(run_id, export, Exported).files
    gguf = Path(journey.gguf[MAIN_QUANT])
    train, test = report.splits["train"], report.splits["test"]
    with _timed(seconds, "ask"):
        accuracy, asked = _ask(gguf, train.answers, progress)
    return Demonstration(
        run_id=run_id,
        settings=training,
        seconds={**seconds, "total": round(sum(seconds.values()), 2)},
        base_accuracy=train.base.exact,
        tuned_accuracy=train.tuned.exact,
        base_paraphrase_accuracy=test.base.exact,
        paraphrase_accuracy=test.tuned.exact,
        valid_loss_before=trained.first_valid_loss,
        valid_loss_after=trained.last_valid_loss,
        examples=test.answers[:3],
        verdict=report.verdict,
        outcome=report.outcome,
        adapter_path=trained.adapter_path,
        gguf_path=str(gguf),
        gguf_paths=journey.gguf,
        parities={quant: file.parity for quant, file in files.items()},
        q4_k_m_accuracy=accuracy,
        runtime_answer=asked,
    )


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began_s = time.monotonic()
    yield
    seconds[stage] = round(time.monotonic() - began_s, 2)


def _ask(
    gguf: Path, answers: Sequence[Answered], progress: Progress
) -> tuple[float, RuntimeAnswer]:
    """Ask llama.cpp every trained question: the share of right answers, and the first one."""
    from mlx_finetuning.runtime import serve
    from mlx_finetuning.utils.japanese_utils import exact_match

    right, first = 0, ""
    with serve(gguf) as client:
        for number, item in enumerate(answers, 1):
            question = {"role": "user", "content": item.question}
            text = client.chat([question], max_tokens=EvaluateConfig().max_tokens).text
            right += exact_match(text, item.expected)
            first = first or text
            progress(Step(stage_name("ask"), number, len(answers)))
    return right / len(answers), RuntimeAnswer(answers[0].question, answers[0].expected, first)
