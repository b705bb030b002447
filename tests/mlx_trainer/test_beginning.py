"""What sequences begin with is read once, and nothing becomes another for it."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_finetuning import errors
from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.experiment_tracker.evaluation import in_prompt
from mlx_finetuning.mlx_trainer.batches.batches import CONCATENATED, PADDED, BatchLayout, padded
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.gradient import loss
from mlx_finetuning.mlx_trainer.inference import batch_generate, beginning, grade
from mlx_finetuning.mlx_trainer.inference.grade import Grade
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.progress import Step
from support.recorded_run import rows
from support.small_models import write_model

FAMILIES = ("llama 2", "qwen3", "qwen3.5", "gemma2", "gemma3", "gemma4", "phi3")


def unheard(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("layout", [CONCATENATED, PADDED], ids=["by kernels", "by MLX"])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_answers_behind_a_common_beginning_are_those_without_it(
    family: str, layout: BatchLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path, family, dtype=mx.float32)
    loaded = load(tmp_path)
    monkeypatch.setattr(beginning, "AT_ONCE", 50)
    random = np.random.default_rng(2)
    # Longer than gemma3's window of 64.
    common, *ends = (random.integers(5, 600, size).tolist() for size in (90, 4, 1, 20, 90))
    sequences = [[*common, *end] for end in ends]
    shared = beginning.read(loaded.model, sequences, layout, unheard)
    assert shared is not None
    assert shared.tokens == common
    for batch_size in (1, 8):
        alone = batch_generate.answers(loaded, sequences, 5, batch_size)
        assert batch_generate.answers(loaded, sequences, 5, batch_size, shared=shared) == alone
    for tokens in (sequences[2], sequences[3]):
        supervised = [at > len(common) and at % 3 > 0 for at in range(len(tokens))]
        example = Example(tokens, supervised, 0)
        assert len(beginning.before_targets(example)) >= len(common)
        batch = padded([example])
        whole = loss.each(loaded.model, batch)[: example.targets].tolist()
        assert beginning.losses(loaded.model, example, shared) == pytest.approx(whole, abs=1e-4)


def graded(loaded: LoadedModel, begin_alike: bool, told: list[Step]) -> list[Grade]:
    three, data = rows(3), rows(9)
    layout, settings = grade.batch_layout(loaded), EvaluateConfig(max_tokens=12)
    asked = [in_prompt.with_rows(row, data[3:]) for row in three]
    return grade.grade(
        *(loaded, asked, settings, told.append, ""),
        layout=layout,
        ask=True,
        begin_alike=begin_alike,
    )


def test_questions_with_the_same_data_are_graded_as_one_by_one(tiny: LoadedModel) -> None:
    steps: dict[bool, list[Step]] = {True: [], False: []}
    assert beginning.is_exact(tiny.model, by_kernels=True)
    alone, together = (graded(tiny, alike, steps[alike]) for alike in (False, True))
    for one, other in zip(alone, together, strict=True):
        assert (other.answer, other.ended, other.targets) == (one.answer, one.ended, one.targets)
        assert other.nats == pytest.approx(one.nats, abs=1e-4 * one.targets)
    reading = [step for step in steps[True] if step.stage == grade.READING]
    assert len(reading) == len(tiny.model.layers)
    assert {step.total is not None and step.total > 100 for step in reading} == {True}
    assert grade.READING not in {step.stage for step in steps[False]}


@pytest.mark.parametrize("sequences", [[], [[7] * 63, [7] * 70], [[1] + [7] * 99, [7] * 100]])
def test_nothing_is_shared_where_there_is_little_in_common(
    tiny: LoadedModel, sequences: list[list[int]]
) -> None:
    assert beginning.read(tiny.model, sequences, PADDED, unheard) is None


def test_a_model_that_computes_otherwise_behind_a_cache_shares_nothing(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [[7] * 100, [*[7] * 100, 8]]
    assert beginning.read(tiny.model, sequences, PADDED, unheard) is not None
    # A cache that forgets its beginning.
    made = beginning.make_prompt_cache
    monkeypatch.setattr(
        beginning, "make_prompt_cache", lambda model: made(_Forgetting(model), max_kv_size=5)
    )
    assert beginning.read(tiny.model, sequences, PADDED, unheard) is None


class _Forgetting:
    def __init__(self, model: object) -> None:
        self.layers = model.layers  # type: ignore[attr-defined]


def test_short_beginnings_are_read_anew(tiny: LoadedModel) -> None:
    sequences = [[5] * beginning.FEWEST, [*[5] * (beginning.FEWEST - 1), 6]]
    assert beginning.read(tiny.model, sequences, PADDED, unheard) is None


@pytest.mark.parametrize("layout", [CONCATENATED, PADDED], ids=["by kernels", "by MLX"])
def test_reading_a_beginning_can_be_cancelled(
    tiny: LoadedModel, layout: BatchLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginning, "AT_ONCE", 64)
    heard: list[int] = []

    def stop(done: int, total: int) -> None:
        assert total == 300
        heard.append(done)
        if done > 40:
            raise errors.Interrupted()

    with pytest.raises(errors.Interrupted):
        beginning.read(tiny.model, [[5] * 300, [5] * 300], layout, stop)
    assert heard == sorted(heard) and heard[0] == 0
    assert 40 < heard[-1] < 300
