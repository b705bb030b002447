"""Memory and time before the start: predictions against what runs then take, and odd data sets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import NothingToLearn, NoTrainingRows
from mlx_finetuning.mlx_trainer.batches.examples import encode_rows
from mlx_finetuning.mlx_trainer.model import adapters
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.mlx_trainer.parallel import workload
from mlx_finetuning.mlx_trainer.training import estimate, loop, memory_fit
from mlx_finetuning.mlx_trainer.training.estimate import recommended
from mlx_finetuning.progress import silent
from mlx_finetuning.workspace import AdapterPaths
from support.cut_models import short_folder
from support.recorded_run import Recorder, rows, tiny_folder
from support.small_models import write_model

CONFIG = TrainConfig(iterations=4, batch_size=4, rank=4, warmup=1, validate_every=2, sample_every=0)


def trained(
    folder: Path, config: TrainConfig, data: list[dict[str, Any]]
) -> tuple[loop.TrainResult, Recorder]:
    recorder = Recorder()
    paths = AdapterPaths(folder)
    return loop.train(load(short_folder()), data, [], config, paths, recorder.hooks()), recorder


def work(tiny: LoadedModel, config: TrainConfig) -> workload.Workload:
    examples = encode_rows(tiny, rows(12), config.max_length)
    layout = workload.batch_layout(tiny.model, len(tiny.tokenizer.vocab), config)
    return workload.Workload(tiny, examples, layout, config)


def test_estimate_names_memory_time_and_batch_sizes_and_leaves_nothing(tiny: LoadedModel) -> None:
    found = estimate.estimate(tiny, rows(30), rows(3), CONFIG, silent)
    assert found.fits
    assert 0 < found.peak_memory_gb < found.available_gb
    assert found.updates == 4 and found.seconds_per_update > 0
    assert found.total_s >= 4 * found.seconds_per_update * 0.9
    assert found.largest_batch_size == found.rows == 30
    assert found.recommended_batch_size == 2
    assert "30 行" in found.reason_ja


@pytest.mark.parametrize(
    ("rows", "largest", "size", "why"),
    [
        (1000, 6, 4, "メモリー"),
        (50, 50, 4, "1周"),
        (1, 1, 1, "行"),
        (5000, 400, 16, "安定"),
        (40, 0, 1, "メモリー"),
    ],
)
def test_recommended_batch_fits_and_says_why(rows: int, largest: int, size: int, why: str) -> None:
    found, reason = recommended(rows, largest)
    assert found == size and why in reason


def test_update_that_does_not_fit_is_computed_in_parts_with_a_warning_and_the_same_losses(
    tmp_path: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, recorder = trained(tmp_path / "whole", CONFIG, rows(12))
    assert whole.micro_batch_size == 4
    # As much memory as three of the longest examples take.
    monkeypatch.setattr(memory_fit, "allowed", lambda config: 300)
    need = memory_fit.Need(
        0, 100 / memory_fit._cost_at_once(work(tiny, CONFIG), work(tiny, CONFIG).longest(1))
    )
    monkeypatch.setattr(memory_fit, "measured", lambda *_: need)
    monkeypatch.setattr(memory_fit, "SPARE", 1.0)
    parts, noted = trained(tmp_path / "parts", CONFIG, rows(12))
    assert parts.micro_batch_size == 3
    assert "warning" in noted.events
    assert noted.losses == pytest.approx(recorder.losses, rel=1e-5)


def test_fixed_number_at_once_is_recomputed_with_a_warning_or_refused_with_figures(
    tmp_path: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(CONFIG, micro_batch_size=4)
    cost = memory_fit._cost_at_once(work(tiny, config), work(tiny, config).longest(1))

    def need(work: workload.Workload, _: Any) -> memory_fit.Need:
        return memory_fit.Need(0, (40 if work.config.recompute == "on" else 100) / cost)

    monkeypatch.setattr(memory_fit, "measured", need)
    monkeypatch.setattr(memory_fit, "SPARE", 1.0)
    monkeypatch.setattr(memory_fit, "allowed", lambda config: 200)
    result, noted = trained(tmp_path / "less", config, rows(12))
    assert result.recompute and result.micro_batch_size == 4 and "warning" in noted.events
    monkeypatch.setattr(memory_fit, "allowed", lambda config: 100)
    with pytest.raises(memory_fit.RunDoesNotFit) as caught:
        trained(tmp_path / "least", config, rows(12))
    assert caught.value.data["largest"] == 2
    assert "4 例" in str(caught.value)


@pytest.mark.parametrize("changes", [{"micro_batch_size": 1}, {"micro_batch_size": 3}, {"recompute": "on"}])  # fmt: skip
def test_parts_and_recomputing_change_no_loss_and_no_adapter(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    _, plain = trained(tmp_path / "plain", CONFIG, rows(12))
    result, other = trained(tmp_path / "other", dataclasses.replace(CONFIG, **changes), rows(12))
    assert (result.micro_batch_size, result.recompute) == (
        changes.get("micro_batch_size", 4),
        "recompute" in changes,
    )
    assert other.losses == pytest.approx(plain.losses, rel=1e-5)
    ours, theirs = (mx.load(str(tmp_path / name / "adapters.safetensors")) for name in ("plain", "other"))  # fmt: skip
    for name, value in theirs.items():
        # Adam divides by a gradient's size: where one is next to nothing, rounding moves a whole step.
        np.testing.assert_allclose(np.array(ours[name]), np.array(value), atol=5e-4)


def test_a_run_far_from_its_limit_begins_at_once_and_one_near_it_with_the_longest_update(
    tmp_path: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(CONFIG, iterations=1)
    data = [*rows(9), *(chat("話は？", "とても長い答え。" * n, 90 + n) for n in (30, 60))]
    asked: list[int] = []
    measured = memory_fit.measured

    def noted(work: workload.Workload, examples: list[Any]) -> memory_fit.Need:
        asked.append(len(examples[0].tokens))
        return measured(work, examples)

    monkeypatch.setattr(memory_fit, "measured", noted)
    _, far = trained(tmp_path / "far", config, data)
    assert "rehearsed" not in far.events
    (short,) = asked
    assert short >= memory_fit.SHORT
    monkeypatch.setattr(memory_fit, "NEAR", 0.0)
    _, near = trained(tmp_path / "near", config, data)
    assert "rehearsed" in near.events and asked[1] == short < asked[2]
    assert near.losses == far.losses


def test_prediction_from_a_short_example_is_not_below_what_the_longest_takes(
    tiny: LoadedModel,
) -> None:
    """Twice as much is what a prediction may be wrong by."""
    data = [chat(f"{n}番の話は？", "とても長い答え。" * n, n) for n in (20, 30, 60, 120)]
    examples = encode_rows(tiny, data, CONFIG.max_length)
    adapters.attach(tiny.model, CONFIG)
    layout = workload.batch_layout(tiny.model, len(tiny.tokenizer.vocab), CONFIG)
    examined = workload.Workload(tiny, examples, layout, CONFIG)
    short = memory_fit.measured(examined, memory_fit._short(examined))
    exact = memory_fit.measured(examined, examined.longest(1))
    assert len(memory_fit._short(examined)[0].tokens) < len(examined.longest(1)[0].tokens) / 2
    assert exact.per_cost * memory_fit.NEAR < short.per_cost < 4 * exact.per_cost


def test_updates_that_take_more_than_predicted_are_computed_in_smaller_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plain = trained(tmp_path / "plain", CONFIG, rows(12))
    # Nothing at all is predicted, so that what the process holds comes as a surprise.
    monkeypatch.setattr(memory_fit, "measured", lambda *_: memory_fit.Need(0, 0.0))
    monkeypatch.setattr(memory_fit, "allowed", lambda config: 1000)
    result, noted = trained(tmp_path / "less", CONFIG, rows(12))
    assert result.micro_batch_size == 2
    assert any("2 例ずつ" in text for text in noted.warnings)
    assert noted.losses == pytest.approx(plain.losses, rel=1e-5)
    fixed = dataclasses.replace(CONFIG, micro_batch_size=4)
    asked, noted = trained(tmp_path / "fixed", fixed, rows(12))
    assert asked.micro_batch_size == 4 and not noted.warnings


def test_memory_grows_with_examples_and_the_largest_batch_is_the_last_that_fits(
    tiny: LoadedModel,
) -> None:
    examined = work(tiny, CONFIG)
    need = memory_fit.Need(fixed=1000, per_cost=2.0)
    sizes = [need.of(examined, count) for count in range(1, 13)]
    assert sizes == sorted(sizes) and sizes[0] > 1000
    assert memory_fit.largest_of(examined, need, sizes[6]) == 7
    assert memory_fit.largest_of(examined, need, sizes[6] - 1) == 6
    assert memory_fit.largest_of(examined, need, 999) == 0
    assert memory_fit.largest_of(examined, need, 10**15) == 12


@pytest.mark.parametrize("family", ["gemma3 with eyes", "gemma4 unified", "ministral3", "qwen3.5"])
def test_weights_that_see_are_not_counted(tmp_path: Path, family: str) -> None:
    """Nobody loads them."""
    write_model(tmp_path / "m", family)
    loaded = tree_flatten(load(tmp_path / "m").model.parameters())
    assert memory_fit.weights_bytes(tmp_path / "m") == sum(value.nbytes for _, value in loaded)


def test_weights_too_large_for_the_machine_are_refused_by_formula(tmp_path: Path) -> None:
    folder = tiny_folder()
    loaded = sum(value.size * 4 for value in mx.load(str(folder / "model.safetensors")).values())
    assert memory_fit.weights_bytes(folder) == loaded
    memory_fit.require_loadable(folder, CONFIG)
    with pytest.raises(memory_fit.RunDoesNotFit):
        memory_fit.require_loadable(folder, dataclasses.replace(CONFIG, memory_limit_gb=0.01))


def chat(question: str, answer: str, row: int) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "row": row}


ODD: dict[str, list[dict[str, Any]]] = {
    "one empty answer": [*rows(3), chat("無言の質問", "", 90)],
    "one row longer than the limit": [*rows(3), chat("長い話は？", "とても長い答え。" * 200, 91)],
    "one question longer than the limit": [*rows(3), chat("長い質問。" * 300, "はい。", 92)],
    "one row of emoji": [*rows(3), chat("😀🎉👨‍👩‍👧‍👦", "🐟🍣🇯🇵", 93)],
    "batch above the rows": rows(2),
    "one single row": rows(1),
    "one emoji row alone": [chat("😀", "🍣", 94)],
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_data_sets_train(tmp_path: Path, kind: str) -> None:
    config = dataclasses.replace(CONFIG, max_length=64, batch_size=8)
    result, recorder = trained(tmp_path, config, ODD[kind])
    assert result.updates == 4
    assert np.isfinite(recorder.losses).all()
    assert result.cut_rows == ("longer" in kind and "question" not in kind)
    # A row of which nothing is left has lost its answer as well.
    assert result.cut_answers == ("longer" in kind)
    assert any("回答の終わり" in text for text in recorder.warnings) == ("longer" in kind)
    assert all(check.passed for check in result.checks), result.checks


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([], NoTrainingRows),
        ([chat("長い質問。" * 300, "はい。", 2)], NothingToLearn),
    ],
)
def test_data_sets_without_anything_to_learn_say_why_in_japanese(
    tmp_path: Path, data: list[dict[str, Any]], expected: type[Exception]
) -> None:
    with pytest.raises(expected) as caught:
        trained(tmp_path, dataclasses.replace(CONFIG, max_length=64), data)
    assert any("ぁ" <= letter <= "ん" for letter in str(caught.value))
    assert list(tmp_path.iterdir()) == []
