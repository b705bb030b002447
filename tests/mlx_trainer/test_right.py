"""Examples in one row, without padding, give what each gives alone: losses and every gradient."""

from __future__ import annotations

import importlib
import math
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.gradient import (
    backward,
    concatenated_attention,
    loss,
    packed_attention,
)
from mlx_finetuning.mlx_trainer.kernels import cpu
from mlx_finetuning.mlx_trainer.model import adapters
from support.model_classes import CLASSES, COMMON, examples, gradients, model_of, named, plain


@pytest.mark.parametrize("make", [batches.padded, batches.concatenated, batches.packed])
@pytest.mark.parametrize("kind", CLASSES)
def test_loss_and_every_gradient_equal_those_of_examples_alone(kind: str, make: Any) -> None:
    model = model_of(kind)
    expected_loss, expected = plain(model, examples())
    ours_loss, ours = gradients(model, make(examples()))
    assert ours_loss == pytest.approx(expected_loss, rel=1e-5)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert np.abs(value).max() > 0
        np.testing.assert_allclose(ours[name], value, atol=1e-4 * np.abs(value).max())


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_can_be_concatenated_and_packed(kind: str) -> None:
    assert concatenated_attention.is_exact(model_of(kind), 300)
    assert packed_attention.is_exact(model_of(kind), 300)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_compiled_gradient_of_packed_rows_is_the_plain_one(kind: str) -> None:
    model = model_of(kind)
    expected_loss, expected = plain(model, examples())
    step = backward.compiled(model)
    for _ in range(2):  # traced, then run from what was traced
        value, found = step(batches.packed(examples()))
        assert float(value.item()) == pytest.approx(expected_loss, rel=1e-5)
        for name, gradient in named(model, found):
            wanted = expected[name]
            np.testing.assert_allclose(gradient, wanted, atol=1e-4 * np.abs(wanted).max())


def test_rows_hold_every_example_once_and_stay_short() -> None:
    lengths = [900, 2000, 40, 1100, 700, 3000, 5]
    given = [Example([1] * length, [True] * length, row) for row, length in enumerate(lengths)]
    rows = batches.PACKED.grouped(given)
    assert sorted(example.row for row in rows for example in row) == list(range(7))
    assert max(sum(len(example.tokens) - 1 for example in row) for row in rows) <= 3072
    assert len(rows) == 3

    short = given[:1] + given[2:4]
    even, first_fit = (
        [[example.row for example in row] for row in layout.grouped(short)]
        for layout in (batches.PACKED, batches.BatchLayout(batches.concatenated, 1280))
    )
    assert (even, first_fit) == ([[3], [0, 2]], [[3, 2], [0]])


@pytest.mark.parametrize("kind", CLASSES)
def test_one_examples_tokens_change_no_others_loss(kind: str) -> None:
    model = model_of(kind)
    first, *others = examples()
    changed = Example([(token + 7) % 300 for token in first.tokens], first.supervised, first.row)

    def losses(taken: list[Example]) -> list[float]:
        found = []
        for index in range(len(taken)):
            only = [
                Example(item.tokens, item.supervised if place == index else [False] * 99, item.row)
                for place, item in enumerate(taken)
            ]
            cut = [Example(e.tokens, e.supervised[: len(e.tokens)], e.row) for e in only]
            found.append(float(loss.summed(model, batches.concatenated(cut)).item()))
        return found

    before, after = losses([first, *others]), losses([changed, *others])
    assert before[0] != after[0]
    np.testing.assert_allclose(before[1:], after[1:], atol=1e-6)


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_gradients_of_every_method_equal_those_of_examples_alone(method: str) -> None:
    module = importlib.import_module("mlx_lm.models.llama")
    model = module.Model(module.ModelArgs.from_dict({**COMMON, "model_type": "llama"}))
    adapters.attach(model, TrainConfig(rank=4, method=method, rslora=True))
    expected_loss, expected = plain(model, examples())
    ours_loss, ours = gradients(model, batches.concatenated(examples()))
    assert ours_loss == pytest.approx(expected_loss, rel=1e-5)
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, atol=1e-4 * np.abs(value).max() + 1e-8)


@pytest.mark.parametrize(("length", "window", "groups"), [(50, None, 4), (300, None, 2), (300, 40, 4), (300, 200, 1), (600, None, 2), (600, 200, 4)])  # fmt: skip
def test_attention_equals_mlx_and_so_do_its_gradients(
    length: int, window: int | None, groups: int
) -> None:
    mx.random.seed(0)
    queries, above = (mx.random.normal((1, 4, length, 16)) for _ in range(2))
    keys, values = (mx.random.normal((1, groups, length, 16)) for _ in range(2))
    mask = concatenated_attention.Causal(window).array(length)

    def reference(*arrays: mx.array) -> mx.array:
        return (mx.fast.scaled_dot_product_attention(*arrays, scale=0.3, mask=mask) * above).sum()

    def ours(*arrays: mx.array) -> mx.array:
        return (cpu.attention(*arrays, 0.3, window) * above).sum()

    compared(reference, ours, queries, keys, values)


@pytest.mark.parametrize("traditional", [False, True])
@pytest.mark.parametrize("dims", [8, 16])
@pytest.mark.parametrize("periods", [None, [1.0, 30.0, 900.0, math.inf]])
@pytest.mark.parametrize("length", [40, 600])  # within one table of sines, and in a longer one
def test_rotary_positions_equal_mlx_and_so_do_their_gradients(
    length: int, periods: list[float] | None, dims: int, traditional: bool
) -> None:
    values = mx.random.normal((2, 3, length, 16), key=mx.random.key(0))
    weights = mx.random.normal(values.shape, key=mx.random.key(1))
    given: dict[str, Any] = {"traditional": traditional, "scale": 0.5, "offset": 7, "base": None}
    if periods is None:
        given["base"] = 10_000.0
    else:
        given["freqs"] = mx.array(periods * (dims // 8))

    def turned(rope: Any, values: mx.array) -> mx.array:
        return (rope(values, dims, **given) * weights).sum()

    ours = mx.value_and_grad(lambda values: turned(cpu.rope, values))(values)
    theirs = mx.value_and_grad(lambda values: turned(mx.fast.rope, values))(values)
    for mine, expected in zip(ours, theirs, strict=True):
        assert mx.array_equal(mine, expected)


def test_training_turns_positions_with_them_and_leaves_mlx_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, before, turns = model_of("llama"), mx.fast.rope, []
    plain = cpu.rope_tables
    monkeypatch.setattr(cpu, "rope_tables", lambda *a, **b: turns.append(1) or plain(*a, **b))
    loss.summed(model, batches.concatenated(examples()))
    assert len(turns) == 2 * len(model.layers)  # queries and keys
    assert mx.fast.rope is before


def test_swiglu_and_cross_entropy_equal_mlx_and_so_do_their_gradients() -> None:
    mx.random.seed(0)
    gate, up, above = (mx.random.normal((40, 64)) * 20 for _ in range(3))
    compared(
        lambda a, b: (nn.silu(a) * b * above).sum(),
        lambda a, b: (cpu.swiglu(a, b) * above).sum(),
        gate,
        up,
    )
    targets = mx.random.randint(0, 64, (40,))
    compared(
        lambda x: (nn.losses.cross_entropy(x, targets) * above[:, 0]).sum(),
        lambda x: (cpu.cross_entropy(x, targets) * above[:, 0]).sum(),
        gate * 3,
    )


def compared(reference: Any, ours: Any, *arrays: mx.array) -> None:
    places = tuple(range(len(arrays)))
    expected = mx.value_and_grad(reference, argnums=places)(*arrays)
    found = mx.value_and_grad(ours, argnums=places)(*arrays)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=2e-5)
    for one, other in zip(expected[1], found[1], strict=True):
        limit = 3e-6 * float(mx.abs(one).max().item())
        np.testing.assert_allclose(np.array(other), np.array(one), atol=limit)


def test_factors_cast_all_at_once_give_the_gradients_of_factors_cast_alone() -> None:
    model = model_of("llama")
    frozen = {name: value for name, value in tree_flatten(model.parameters()) if "lora" not in name}
    model.update(tree_unflatten([(k, v.astype(mx.bfloat16)) for k, v in frozen.items()]))
    batch = batches.packed(examples())
    expected_loss, expected = gradients(model, batch)
    value, found = backward.compiled(model)(batch)
    assert float(value.item()) == pytest.approx(expected_loss, rel=1e-2)
    for name, gradient in named(model, found):
        assert gradient.dtype == mx.float32
        difference = np.linalg.norm(np.array(gradient) - expected[name])
        assert difference < 0.05 * np.linalg.norm(expected[name])
