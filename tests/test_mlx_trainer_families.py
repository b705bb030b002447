"""Model classes of mlx-lm that are built otherwise: text parts of models that see, gated layers."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer import (
    adapters,
    batches,
    concatenation,
    crew,
    loop,
    packing,
    shares,
    shortcuts,
)
from mlx_finetuning.mlx_trainer.load import load
from mlx_finetuning.mlx_trainer.loss import PLAIN, Treatment
from mlx_finetuning.quantizer.export import export_gguf
from mlx_finetuning.quantizer.parity import Reference, compare_logits
from mlx_finetuning.workspace import AdapterPaths
from small_models import write_model
from test_mlx_trainer_loop import Recorder, rows
from test_mlx_trainer_right import COMMON, examples, gradients, plain

GEMMA4 = {
    **COMMON,
    "model_type": "gemma4_text",
    "num_hidden_layers": 4,
    "global_head_dim": 32,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 300,
    "sliding_window": 6,
    "use_double_wide_mlp": True,
}
QWEN35 = {
    **COMMON,
    "model_type": "qwen3_5_text",
    "num_hidden_layers": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "rope_parameters": {"type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
}
GEMMA3 = {**COMMON, "model_type": "gemma3_text", "sliding_window": 6, "sliding_window_pattern": 2}
MINISTRAL3 = {
    **COMMON,
    "model_type": "ministral3",
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 1e4,
        "factor": 4.0,
        "original_max_position_embeddings": 5,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.5,
    },
}
GRANITE = {
    **COMMON,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_multiplier": 0.4,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.4,
    "logits_scaling": 2.0,
}
CLASSES: dict[str, dict[str, Any]] = {
    "mistral3": {"text_config": MINISTRAL3},
    "granite": GRANITE,
    "granitemoehybrid": {**GRANITE, "layer_types": ["attention"] * 3},
    "smollm3": {**COMMON, "num_hidden_layers": 5},
    "qwen3_5": {"text_config": QWEN35},
    "gemma4": {"text_config": GEMMA4, "vocab_size": 300},
    "gemma4_text": GEMMA4,
    "gemma3": {"text_config": GEMMA3, "vocab_size": 300},
}


def model_of(kind: str, **settings: Any) -> nn.Module:
    """A small random model with an adapter that does something."""
    mx.random.seed(3)
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    model = module.Model(module.ModelArgs.from_dict({**CLASSES[kind], "model_type": kind}))
    model.set_dtype(mx.float32)
    model.update(tree_map(lambda value: value * 1.5, model.parameters()))
    adapters.attach(model, TrainConfig(rank=4, alpha=8.0, **settings))
    drawn = tree_map(
        lambda value: value + 0.1 * mx.random.normal(value.shape), model.trainable_parameters()
    )
    model.update(drawn)
    mx.eval(model.parameters())
    return model


@pytest.mark.parametrize("kind", CLASSES)
def test_loss_and_every_gradient_equal_those_of_examples_alone(kind: str) -> None:
    model = model_of(kind)
    expected_loss, expected = plain(model, examples())
    for make in {batches.batch_of, crew.arrangement(model, 300, TrainConfig())}:
        ours_loss, ours = gradients(model, make(examples()))
        assert ours_loss == pytest.approx(expected_loss, rel=1e-5)
        assert ours.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(ours[name], value, atol=2e-4 * np.abs(value).max())


def sums(model: nn.Module, make: Any, treatment: Treatment) -> dict[str, np.ndarray]:
    found = shares.here(shares.gradient_of(model, treatment), make(examples()), (7,))
    return {"loss": np.array(found.loss)} | {k: np.array(v) for k, v in found.gradients.items()}


@pytest.mark.parametrize("kind", CLASSES)
def test_recomputing_changes_no_gradient(kind: str) -> None:
    model = model_of(kind)
    for make in {batches.batch_of, crew.arrangement(model, 300, TrainConfig())}:
        expected = sums(model, make, PLAIN)
        ours = sums(model, make, Treatment(recompute=True))
        for name, value in expected.items():
            np.testing.assert_allclose(ours[name], value, atol=2e-5 * np.abs(value).max())


def test_rows_of_their_own_are_announced_where_examples_cannot_share_one(tmp_path: Path) -> None:
    write_model(tmp_path / "m", "qwen3.5")
    loaded = load(tmp_path / "m")
    assert loaded.context_length == 1024
    recorder = Recorder()
    config = TrainConfig(iterations=3, batch_size=3, rank=4, warmup=1, neftune_alpha=2.0)
    paths = AdapterPaths(tmp_path / "adapter")
    result = loop.train(loaded, rows(5), rows(2), config, paths, recorder.hooks())
    assert [check.kind for check in result.checks if not check.passed] == []
    assert any("余白" in text for text in recorder.warnings)


def test_queries_scaled_by_their_position_are_scaled_by_that_in_their_example() -> None:
    """In a shared row too, far beyond the first examples."""
    model = model_of("mistral3")
    assert concatenation.is_exact(model, 300)
    assert packing.is_exact(model, 300)


@pytest.mark.parametrize(
    "family",
    ["gemma3 with eyes", "gemma4 unified", "ministral3", "granite", "granite4", "smollm3"],
)
def test_a_run_of_three_updates_passes_its_own_checks(tmp_path: Path, family: str) -> None:
    """Among them that mlx-lm, reading the adapter, gives the trained model's logits."""
    write_model(tmp_path / "m", family)
    loaded = load(tmp_path / "m")
    assert loaded.context_length == 1024
    recorder = Recorder()
    config = TrainConfig(iterations=3, batch_size=3, rank=4, warmup=1)
    paths = AdapterPaths(tmp_path / "adapter")
    result = loop.train(loaded, rows(5), rows(2), config, paths, recorder.hooks())
    assert "adapter_reloaded" in {check.kind for check in result.checks}
    assert [check.kind for check in result.checks if not check.passed] == []
    # Three updates move the weights little, but the file holds what was trained.
    export_gguf(tmp_path / "m", paths.folder, {"F32": tmp_path / "m.gguf"})
    tokens = np.random.default_rng(5).integers(0, 600, 160).tolist()
    reference = Reference(tokens, np.array(loaded.model(mx.array([tokens]))[0]))
    assert compare_logits(tmp_path / "m.gguf", [reference], 256).mean_kl < 1e-4


def test_kept_lower_blocks_change_no_loss_and_gemma_4_keeps_none(tmp_path: Path) -> None:
    assert not shortcuts.can_keep(model_of("gemma4", num_layers=2))
    assert shortcuts.can_keep(model_of("gemma3", num_layers=2))
    model = model_of("gemma4", num_layers=2)
    expected, _ = plain(model, examples())
    found = shares.here(shares.gradient_of(model), batches.concatenated(examples()), (7,))
    assert float(found.loss.item()) == pytest.approx(expected, rel=1e-5)
