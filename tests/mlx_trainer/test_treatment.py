"""Recomputation and NEFTune: what they change, and what they leave alone."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import llama

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.gradient import backward, checkpointing, neftune
from mlx_finetuning.mlx_trainer.gradient.loss import PLAIN, LossOptions
from mlx_finetuning.mlx_trainer.model import adapters
from support.model_classes import CLASSES, COMMON, examples, model_of

RECOMPUTING = LossOptions(recompute=True)


def selective(model: nn.Module) -> LossOptions:
    return LossOptions(selective=checkpointing.parts(model))


def sums(model: nn.Module, make: Any, options: LossOptions) -> dict[str, np.ndarray]:
    gradient = backward.gradient_of(model, options)
    found = backward.sums_of_batch(gradient, make(examples()), (7,))
    return {"loss": np.array(found.loss)} | {k: np.array(v) for k, v in found.gradients.items()}


@pytest.mark.parametrize("make", [batches.padded, batches.concatenated, batches.packed])
@pytest.mark.parametrize("kind", CLASSES)
def test_recomputing_changes_no_gradient(kind: str, make: Any) -> None:
    model = model_of(kind)
    expected = sums(model, make, PLAIN)
    for options in (RECOMPUTING, selective(model)):
        ours = sums(model, make, options)
        assert ours.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(ours[name], value, atol=1e-5 * np.abs(value).max())


@pytest.mark.parametrize("kind", CLASSES)
def test_attention_and_mlp_of_every_trained_block_keep_products_only(kind: str) -> None:
    model = model_of(kind)
    found = {(part.layer, part.owner) for part in checkpointing.parts(model)}
    names = [name for name, _ in tree_flatten(model.trainable_parameters())]
    trained = {int(name.split(".layers.")[1].split(".")[0]) for name in names}
    assert found == {(layer, owner) for layer in trained for owner in ("mlp", "self_attn")} != set()


def test_part_that_takes_its_input_elsewhere_too_is_left_alone() -> None:
    class Gated(llama.MLP):  # type: ignore[misc]
        def __call__(self, x: mx.array) -> mx.array:
            return super().__call__(x) * mx.sigmoid(x)

    model = model_of("llama")
    for layer in model.layers:
        layer.mlp.__class__ = Gated
    assert {part.owner for part in checkpointing.parts(model)} == {"self_attn"}


def test_recomputing_leaves_out_what_dropout_left_out_before() -> None:
    model = model_of("llama")
    for _, module in model.named_modules():
        if hasattr(module, "lora_a"):
            module.dropout = nn.Dropout(0.4)
    model.train()
    expected = sums(model, batches.concatenated, PLAIN)
    for options in (RECOMPUTING, selective(model)):
        ours = sums(model, batches.concatenated, options)
        for name, value in expected.items():
            np.testing.assert_allclose(ours[name], value, atol=1e-5 * np.abs(value).max())
    model.eval()
    assert sums(model, batches.concatenated, PLAIN)["loss"] != expected["loss"]


def test_recomputing_takes_less_memory_and_leaves_the_model_as_it_was() -> None:
    shape = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 12}
    settings = {**COMMON, "model_type": "llama", **shape}
    model = llama.Model(llama.ModelArgs.from_dict(settings))
    adapters.attach(model, TrainConfig(rank=4))
    names = [name for name, _ in tree_flatten(model.parameters())]
    peaks = []
    for options in (PLAIN, selective(model), RECOMPUTING):
        mx.eval(model.parameters())
        mx.reset_peak_memory()
        began = mx.get_active_memory()
        sums(model, lambda items: batches.concatenated(items * 8), options)
        peaks.append(mx.get_peak_memory() - began)
    assert peaks[1] < 0.95 * peaks[0]
    assert peaks[2] < 0.6 * peaks[0]
    assert [name for name, _ in tree_flatten(model.parameters())] == names


@pytest.mark.parametrize("make", [batches.padded, batches.concatenated, batches.packed])
def test_noise_is_uniform_within_the_published_bound_of_each_example(make: Any) -> None:
    model = model_of("llama", hidden_size=128)
    batch = make(examples())
    plain = np.array(model.model.embed_tokens(batch.tokens))
    with neftune.noise(model, batch, alpha=5.0):
        noisy = np.array(model.model.embed_tokens(batch.tokens))
    added = (noisy - plain).reshape(-1, 128)
    if make is batches.padded:
        lengths = np.full(len(added), batch.tokens.shape[1])
    elif make is batches.concatenated:
        lengths = np.repeat(batch.lengths, batch.lengths)
    else:
        numbers = np.array(batch.spans.numbers)
        lengths = np.bincount(numbers)[numbers]
    bounds = 5.0 / np.sqrt(lengths * 128)
    assert (np.abs(added) <= bounds[:, None] + 1e-6).all()
    scaled = added / bounds[:, None]
    assert abs(scaled.mean()) < 0.05
    assert scaled.std() == pytest.approx(3**-0.5, rel=0.05)
    assert (np.array(model.model.embed_tokens(batch.tokens)) == plain).all()


def test_noise_follows_from_the_seed() -> None:
    model, noisy = model_of("qwen3"), LossOptions(noise=5.0)
    first, again = (sums(model, batches.concatenated, noisy) for _ in range(2))
    assert all((first[name] == again[name]).all() for name in first)
    assert first["loss"] != sums(model, batches.concatenated, PLAIN)["loss"]
