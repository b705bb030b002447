"""Predictions computed layer by layer, against mlx-lm's own of the whole model."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load_adapters, load_model

from mlx_finetuning.errors import Interrupted
from mlx_finetuning.mlx_trainer.inference import layerwise
from mlx_finetuning.progress import Step
from support.small_models import (
    DISTINCT,
    FAMILIES,
    shapes,
    write_adapter,
    write_model,
    write_quantized,
)
from support.sweeps import sweep

LENGTHS = (40, 3, 100, 12)
SEQUENCES = [np.random.default_rng(n).integers(3, 600, n).tolist() for n in LENGTHS]


def expected(model: Path, adapter: Path, layers: int | None = None) -> list[np.ndarray]:
    network, _ = load_model(model)
    network.set_dtype(mx.float32)
    network = load_adapters(network, str(adapter))
    if layers is not None:
        del network.model.layers[layers:]
    return [np.array(network(mx.array([tokens]))[0]) for tokens in SEQUENCES]


@pytest.mark.parametrize("family", sweep(FAMILIES, DISTINCT))
def test_predictions_equal_those_of_the_whole_model(tmp_path: Path, family: str) -> None:
    model = tmp_path / "m"
    adapter = write_adapter(tmp_path / "adapter", write_model(model, family))
    found = layerwise.logits(model, adapter, SEQUENCES)
    for one, other in zip(found, expected(model, adapter), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_first_layers_of_a_quantized_base_in_several_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layerwise, "POSITIONS", 60)
    adapter = write_adapter(tmp_path / "adapter", write_model(tmp_path / "m"))
    write_quantized(tmp_path / "m", tmp_path / "q")
    found = layerwise.logits(tmp_path / "q", adapter, SEQUENCES, layers=2)
    for one, other in zip(found, expected(tmp_path / "q", adapter, layers=2), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_one_layer_at_a_time_is_in_memory(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m", num_hidden_layers=7, intermediate_size=4096)
    adapter = write_adapter(tmp_path / "adapter", config)
    layer_bytes = 4 * 3 * 256 * 4096
    held: list[int] = []

    def look(step: Step) -> None:
        held.append(mx.get_active_memory())

    layerwise.logits(tmp_path / "m", adapter, SEQUENCES, look)
    assert len(held) == 7
    assert max(held) < held[0] + layer_bytes
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    layerwise.logits(tmp_path / "m", adapter, SEQUENCES)
    assert mx.get_peak_memory() - before < 5 * layer_bytes


@pytest.mark.parametrize("kind", ["lora", "dora", "quantized"])
def test_importance_is_the_mean_square_of_what_weights_are_multiplied_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(layerwise, "POSITIONS", 120)
    model = tmp_path / "m"
    config = write_model(model)
    adapter = write_adapter(tmp_path / "adapter", config, kind="dora" if kind == "dora" else "lora")
    if kind == "quantized":
        write_quantized(model, tmp_path / "q")
        model = tmp_path / "q"
    found = layerwise.importance(model, adapter, SEQUENCES)
    assert set(found) == {name for name in shapes(config) if name.endswith("_proj.weight")}
    network, _ = load_model(model)
    network.set_dtype(mx.float32)
    network = load_adapters(network, str(adapter))
    first = [
        np.array(network.model.layers[0].input_layernorm(network.model.embed_tokens(mx.array(one))))
        for one in SEQUENCES
    ]
    expected = np.mean(np.concatenate(first) ** 2, axis=0)
    for part in "qkv":
        name = f"model.layers.0.self_attn.{part}_proj.weight"
        np.testing.assert_allclose(found[name], expected, rtol=1e-4)
    gate, up = (found[f"model.layers.2.mlp.{part}_proj.weight"] for part in ("gate", "up"))
    np.testing.assert_array_equal(gate, up)
    assert found["model.layers.2.mlp.down_proj.weight"].shape == (512,)


def test_asking_can_be_cancelled_between_layers(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", write_model(tmp_path / "m"))
    steps: list[Step] = []

    def stop(step: Step) -> None:
        steps.append(step)
        raise Interrupted()

    with pytest.raises(Interrupted):
        layerwise.logits(tmp_path / "m", adapter, SEQUENCES, stop)
    assert [(step.done, step.total) for step in steps] == [(1, 3)]
