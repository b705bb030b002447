"""Runs made of other runs' adapters, trained and used for real: they are runs like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_finetuning.config import EvaluateConfig, GenerateConfig, MergeConfig, TrainConfig
from mlx_finetuning.errors import ContinuationDiffers, InvalidSettings, MergeImpossible
from mlx_finetuning.mlx_trainer.model import adapter_layers
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.progress import silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support.helpers import write_facts
from support.recorded_run import tiny_folder

pytestmark = pytest.mark.usefixtures("jobs_in_process")
SMALL = {"iterations": 6, "batch_size": 4, "validate_every": 6, "sample_every": 0, "warmup": 0}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    studio = Studio(Workspace(tmp_path_factory.mktemp("merge")))
    write_facts(studio.workspace)
    return studio


def trained(studio: Studio, **settings: Any) -> str:
    run_id = studio.training.start(TrainConfig(dataset="facts", **{**SMALL, **settings}))
    studio.runs.follow(run_id, silent)
    return run_id


@pytest.fixture(scope="module")
def first(studio: Studio) -> str:
    return trained(studio, rank=4)


@pytest.fixture(scope="module")
def second(studio: Studio) -> str:
    """Of another rank, scale, seed and choice of layers."""
    return trained(studio, rank=8, rslora=True, seed=7, targets=("q_proj", "v_proj"), num_layers=3)


def fused(studio: Studio, run_id: str) -> dict[str, np.ndarray[Any, Any]]:
    loaded = load(tiny_folder(), studio.workspace.adapter(run_id).folder)
    adapter_layers.fuse(loaded)
    return {name: np.array(value) for name, value in tree_flatten(loaded.model.parameters())}


def base_weights() -> dict[str, np.ndarray[Any, Any]]:
    model = load(tiny_folder()).model
    return {name: np.array(value) for name, value in tree_flatten(model.parameters())}


@pytest.fixture(scope="module")
def average(studio: Studio, first: str, second: str) -> str:
    made = studio.merging.start([first, second], MergeConfig(weights=(0.75, 0.5)))
    result = studio.runs.follow(made, silent)
    assert result.checks[0].passed
    return made


def test_average_equals_the_dense_one(
    studio: Studio, first: str, second: str, average: str
) -> None:
    base, one, two = base_weights(), fused(studio, first), fused(studio, second)
    found = fused(studio, average)
    changed = 0
    for name, value in base.items():
        expected = value + 0.75 * (one[name] - value) + 0.5 * (two[name] - value)
        np.testing.assert_allclose(found[name], expected, atol=2e-6)
        changed += bool(np.abs(expected - value).max() > 1e-5)
    assert changed > 20


@pytest.mark.usefixtures("few_general")
def test_merged_run_is_evaluated_continued_and_made_again(
    studio: Studio, first: str, second: str, average: str
) -> None:
    run = studio.runs.show(average)
    assert (run.merged, run.shown_state.value) == ((first, second), "done")
    quick = EvaluateConfig(max_rows=4, max_tokens=4)
    report = studio.evaluation.start(average, quick).follow()
    assert report.splits["train"].tuned.loss < report.splits["train"].base.loss
    again = studio.training.rerun(average)
    studio.runs.follow(again, silent)
    weights = [studio.workspace.adapter(one).weights.read_bytes() for one in (average, again)]
    assert weights[0] == weights[1]
    with pytest.raises(ContinuationDiffers):
        studio.training.continue_run(average, {"rank": 4})


def test_strength_scales_what_was_learned(studio: Studio, first: str) -> None:
    half = studio.merging.at_strength(first, 0.5, silent)
    assert studio.merging.at_strength(first, 0.5, silent) == half
    assert studio.merging.at_strength(first, 1.0, silent) == first
    base, whole, found = base_weights(), fused(studio, first), fused(studio, half)
    for name, value in base.items():
        np.testing.assert_allclose(found[name], value + 0.5 * (whole[name] - value), atol=2e-6)
    loaded = load(tiny_folder(), studio.workspace.adapter(first).folder)
    assert adapter_layers.strengthen(loaded, 0.5)
    made = load(tiny_folder(), studio.workspace.adapter(half).folder)
    prompt = mx.array([loaded.tokenizer.encode("商品1の値段は？")])
    np.testing.assert_allclose(
        np.array(loaded.model(prompt)), np.array(made.model(prompt)), atol=1e-4
    )


def test_talk_at_another_strength(studio: Studio, first: str) -> None:
    asked = [{"role": "user", "content": "商品1の値段は？"}]

    def answer(strength: float, **options: Any) -> str:
        settings = GenerateConfig(max_tokens=8, strength=strength)
        return studio.chat.answer(first, asked, settings, **options).text

    try:
        assert answer(0.0) == answer(1.0, base=True) != answer(1.0)
    finally:
        studio.chat.stop_servers(first)
    with pytest.raises(InvalidSettings):
        answer(0.5, engine="gguf")


def test_what_cannot_be_merged_is_refused_with_its_reason(
    studio: Studio, first: str, tmp_path: Path
) -> None:
    dora = trained(studio, method="dora", iterations=1)
    with pytest.raises(MergeImpossible) as refused:
        studio.merging.start([first, dora])
    assert "DoRA" in str(refused.value)
    with pytest.raises(MergeImpossible):
        studio.merging.at_strength(dora, 0.5, silent)
    for run_ids, settings in (
        ([first], MergeConfig()),
        ([first, first], MergeConfig()),
        ([first], MergeConfig(strength=0.5, weights=(1.0, 1.0))),
    ):
        with pytest.raises(InvalidSettings):
            studio.merging.start(run_ids, settings)
