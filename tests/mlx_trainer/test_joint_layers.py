"""Layers with the same input, computed as one as on a GPU, with MLX's own operations for its kernels: the
losses and gradients of each layer by itself, for what can be joined and for what cannot.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.models import llama

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.gradient import backward, joint_layers, packed_attention
from mlx_finetuning.mlx_trainer.gradient.loss import LossOptions
from mlx_finetuning.mlx_trainer.kernels import backend
from mlx_finetuning.mlx_trainer.model import adapters, lora, trainable
from mlx_finetuning.mlx_trainer.model.patching import Proxy, replaced
from support.card import card
from support.graphs import Graph
from support.model_classes import COMMON, examples, named, plain


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    asked: list[str] = []
    stand_in = card(asked)
    monkeypatch.setattr(backend, "on_card", lambda: stand_in)
    monkeypatch.setattr(lora.CheapLoRALinear, "_is_one_kernel", lambda self: False)
    before = mx.default_device()
    mx.set_default_device(mx.cpu)  # a card rounds float32's products
    yield asked
    mx.set_default_device(before)


def adapted(kind: str = "llama", bits: int = 0, **settings: Any) -> nn.Module:
    """A small random model with an adapter that does something."""
    mx.random.seed(3)
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    model = module.Model(module.ModelArgs.from_dict({**COMMON, "model_type": kind}))
    model.set_dtype(mx.float32)
    model.update(tree_map(lambda value: value * 1.5, model.parameters()))
    if bits:
        nn.quantize(model, 32, bits)
    adapters.attach(model, TrainConfig(**{"rank": 4, "alpha": 8.0, **settings}))
    drawn = tree_map(
        lambda value: value + 0.1 * mx.random.normal(value.shape), model.trainable_parameters()
    )
    model.update(drawn)
    mx.eval(model.parameters())
    return model


def require_plain_gradients(model: nn.Module, used: list[str]) -> None:
    expected_loss, expected = plain(model, examples())
    assert packed_attention.is_exact(model, 300)
    step = backward.compiled(model, LossOptions.of(model, TrainConfig()))
    used.clear()
    value, found = step(batches.packed(examples()))
    assert float(value.item()) == pytest.approx(expected_loss, rel=1e-5)
    for name, gradient in named(model, found):
        wanted = expected[name]
        np.testing.assert_allclose(gradient, wanted, atol=1e-4 * np.abs(wanted).max(), err_msg=name)


@pytest.mark.parametrize(
    ("settings", "asked_for"),
    [
        ({"kind": "qwen2"}, {"columns", "joint swiglu"}),  # q, k and v have biases
        ({"bits": 4}, {"columns", "joint swiglu"}),
        ({"targets": ("q_proj", "v_proj")}, {"columns", "swiglu"}),
        ({"targets": ("gate_proj", "up_proj")}, {"joint swiglu"}),
        ({"targets": ("q_proj", "gate_proj", "down_proj")}, {"swiglu"}),
    ],
)
def test_joined_layers_have_the_gradients_of_each(
    settings: dict[str, Any], asked_for: set[str], used: list[str]
) -> None:
    require_plain_gradients(adapted(**settings), used)
    assert {*used} & {"columns", "joint swiglu", "joint geglu", "swiglu"} == asked_for


def test_layers_with_dropout_stay_apart(used: list[str]) -> None:
    model = adapted(dropout=0.1)
    backward.compiled(model)(batches.packed(examples()))
    assert joint_layers.of(model, trainable.of(model)) is None


def test_layers_of_many_ranks_stay_apart(used: list[str]) -> None:
    """Zeros beside the blocks of B would be most of their products."""
    require_plain_gradients(adapted(rank=joint_layers.LARGEST_RANK + 1), used)
    assert not {"columns", "joint swiglu"} & {*used}


def test_mlp_keeps_no_activation(used: list[str]) -> None:
    model = adapted()
    step = backward.compiled(model)
    used.clear()
    step(batches.packed(examples()))
    assert used.count("joint swiglu") == 2 * len(model.layers)  # once more for the gradients


@pytest.mark.parametrize("options", [LossOptions(), LossOptions(recompute=True)])
def test_nothing_is_computed_that_no_gradient_needs(options: LossOptions, used: list[str]) -> None:
    """Where a part is computed again, above all no product with weights: an MLP's last layer has a seventh
    of them."""
    value, found = backward.compiled(adapted(), options)(batches.packed(examples()))
    graph = Graph(value, found["all"])
    assert not graph.computed() - graph.needed()


def limited(gate: mx.array) -> mx.array:
    """SiLU of what is not too large, as in Step 3.5."""
    return mx.minimum(nn.silu(gate), 16)


@pytest.mark.parametrize("activation", [nn.gelu, nn.relu, limited])
def test_mlp_with_another_activation_computes_it_itself(
    activation: Any, used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(self: Any, x: mx.array) -> mx.array:
        output: mx.array = self.down_proj(activation(self.gate_proj(x)) * self.up_proj(x))
        return output

    monkeypatch.setattr(llama.MLP, "__call__", call)
    require_plain_gradients(adapted(), used)
    assert "columns" in used and not {"joint swiglu", "joint geglu"} & {*used}


def test_class_whose_head_cannot_be_run_apart_is_trained_layer_by_layer(used: list[str]) -> None:
    """Phi 1 and 2, whose final norm has another name."""
    module = importlib.import_module("mlx_lm.models.phi")
    settings = {"model_type": "phi", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 300}
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 96}
    model = module.Model(module.ModelArgs.from_dict({**settings, **sizes}))
    adapters.attach(model, TrainConfig(rank=4, alpha=8.0))
    drawn = tree_map(
        lambda value: value + 0.1 * mx.random.normal(value.shape), model.trainable_parameters()
    )
    model.update(drawn)
    expected_loss, expected = plain(model, examples())
    value, found = backward.compiled(model)(batches.padded(examples()))
    assert value.item() == pytest.approx(expected_loss, rel=1e-5)
    for name, gradient in named(model, found):
        wanted = expected[name]
        np.testing.assert_allclose(gradient, wanted, atol=1e-4 * np.abs(wanted).max(), err_msg=name)
    assert joint_layers.of(model, trainable.of(model)) is None


def test_layer_that_is_given_something_else_takes_that(
    used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = llama.Attention.__call__

    def call(self: Any, x: mx.array, *rest: Any) -> mx.array:
        layer = self.k_proj
        with replaced(self, "k_proj", Proxy(layer, lambda x: layer(0.5 * x), is_parent=True)):
            return own(self, x, *rest)

    monkeypatch.setattr(llama.Attention, "__call__", call)
    require_plain_gradients(adapted(), used)
    assert "columns" in used


def test_weights_of_joined_layers_are_what_they_were(used: list[str]) -> None:
    model = adapted("qwen2")
    before = {name: np.array(value) for name, value in _frozen(model).items()}
    assert joint_layers.of(model, trainable.of(model)) is not None
    after = _frozen(model)
    assert list(before) == list(after)
    assert all(np.array_equal(value, after[name]) for name, value in before.items())


def test_layers_are_joined_once_for_an_adapter(used: list[str]) -> None:
    model = adapted()
    first = joint_layers.of(model, trainable.of(model))
    assert joint_layers.of(model, trainable.of(model)) is first
    trainable.forget(model)
    assert joint_layers.of(model, trainable.of(model)) is not first


def _frozen(model: nn.Module) -> dict[str, mx.array]:
    return {
        f"{path}.{key}": module[key]
        for path, module in model.named_modules()
        for key in ("weight", "bias")
        if key in module
    }
