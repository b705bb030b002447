"""What a GPU does to all arrays at once gives what is done to each alone."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer import flat, optimizer


def stepped(rule_of: str, *, at_once: bool) -> dict[str, mx.array]:
    mx.random.seed(2)
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))
    model.layers[0].freeze()
    rule = optimizer.build(TrainConfig(optimizer=rule_of))
    if at_once:
        rule = optimizer.in_one_step(rule)
    rule.init(model.trainable_parameters())
    for number in range(1, 5):
        gradients = {"layers": [{}, {"weight": mx.random.normal((4, 6)), "bias": mx.ones(4)}]}
        rule.learning_rate = 0.1 / number
        rule.update(model, gradients)
    return dict(tree_flatten(model.parameters()))


@pytest.mark.parametrize("rule_of", optimizer.ELEMENTWISE)
def test_a_step_of_all_arrays_at_once_is_the_step_of_each(rule_of: str) -> None:
    each, at_once = stepped(rule_of, at_once=False), stepped(rule_of, at_once=True)
    assert each.keys() == at_once.keys()
    for name, value in each.items():
        np.testing.assert_allclose(at_once[name], value, rtol=2e-6, atol=1e-7, err_msg=name)


def test_a_vector_gives_back_the_tree_it_was_made_of() -> None:
    tree = {"a": mx.arange(6.0).reshape(2, 3), "b": [mx.ones((2,)), {"c": mx.zeros((1, 4))}]}
    layout = flat.Layout(tree)
    assert layout.vector(tree).shape == (12,)
    again = layout.tree(layout.vector(tree))
    for (name, value), (other, found) in zip(tree_flatten(tree), tree_flatten(again), strict=True):
        assert name == other
        assert mx.array_equal(value, found)
