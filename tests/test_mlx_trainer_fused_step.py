"""The optimizer's step as a GPU takes it, compiled, is the plain one."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer import optimizer


def stepped(rule_of: str, *, fused: bool) -> dict[str, mx.array]:
    mx.random.seed(2)
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))
    model.layers[0].freeze()
    rule = optimizer.build(TrainConfig(optimizer=rule_of))
    rule.init(model.trainable_parameters())
    if fused:
        rule = optimizer.fused(rule)
    for number in range(1, 5):
        gradients = {"layers": [{}, {"weight": mx.random.normal((4, 6)), "bias": mx.ones(4)}]}
        rule.learning_rate = 0.1 / number
        rule.update(model, gradients)
    return {**dict(tree_flatten(model.parameters())), **dict(tree_flatten(rule.state))}


@pytest.mark.parametrize("rule_of", optimizer.RULES)
def test_a_fused_step_changes_weights_and_state_as_the_plain_one(rule_of: str) -> None:
    plain, fused = stepped(rule_of, fused=False), stepped(rule_of, fused=True)
    assert plain.keys() == fused.keys()
    for name, value in plain.items():
        np.testing.assert_allclose(fused[name], value, rtol=2e-5, atol=1e-6, err_msg=name)
