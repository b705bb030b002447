"""What is done to all arrays at once gives what is done to each alone."""

from __future__ import annotations

import os
import subprocess
import sys

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import llama

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.model import adapters, flat_arrays, trainable
from mlx_finetuning.mlx_trainer.training import optimizer


def stepped(rule_of: str, *, at_once: bool) -> dict[str, mx.array]:
    mx.random.seed(2)
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))
    model.layers[0].freeze()
    rule = optimizer.OPTIMIZERS[rule_of]()
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


@pytest.mark.parametrize("rule_of", optimizer.ELEMENTWISE)
def test_an_optimizer_goes_on_from_a_state_that_has_each_array_s_own(rule_of: str) -> None:
    """As the CPU's checkpoints had it before its optimizer took one vector."""
    steps = []
    for is_kept in (False, True):
        mx.random.seed(2)
        model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))
        model.layers[0].freeze()
        rule = optimizer.OPTIMIZERS[rule_of]()
        rule.init(model.trainable_parameters())
        for number in range(4):
            if is_kept and number == 2:
                kept = rule.state
                rule = optimizer.build(TrainConfig(optimizer=rule_of))
                rule.init(model.trainable_parameters())
                optimizer.put_state(rule, model, kept)
                assert flat_arrays.ALL in rule.state
            gradients = {"layers": [{}, {"weight": mx.random.normal((4, 6)), "bias": mx.ones(4)}]}
            rule.learning_rate = 0.1
            rule.update(model, gradients)
        steps.append(dict(tree_flatten(model.parameters())))
    for name, value in steps[0].items():
        np.testing.assert_allclose(steps[1][name], value, rtol=2e-6, atol=1e-7, err_msg=name)


def test_a_vector_gives_back_the_tree_it_was_made_of() -> None:
    tree = {"a": mx.arange(6.0).reshape(2, 3), "b": [mx.ones((2,)), {"c": mx.zeros((1, 4))}]}
    layout = flat_arrays.Layout(tree)
    assert layout.vector(tree).shape == (12,)
    again = layout.tree(layout.vector(tree))
    for (name, value), (other, found) in zip(tree_flatten(tree), tree_flatten(again), strict=True):
        assert name == other
        assert mx.array_equal(value, found)


def test_trained_arrays_stay_parts_of_one_vector_until_others_take_their_place() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    model.layers[0].freeze()
    arrays = trainable.of(model)
    before = arrays.arrays()
    assert before.keys() == {"layers.1.weight", "layers.1.bias"}
    assert before["layers.1.weight"] is model.layers[1].weight
    vector = mx.arange(6.0)
    arrays.put_vector(vector)
    assert arrays.vector() is vector
    assert arrays.stored() is vector
    np.testing.assert_array_equal(model.layers[1].weight, [[0, 1], [2, 3]])
    model.layers[1].bias = mx.array([7.0, 8.0])
    np.testing.assert_array_equal(arrays.vector(), [0, 1, 2, 3, 7, 8])
    assert arrays.stored()["layers.1.bias"] is model.layers[1].bias
    arrays.put(before)
    np.testing.assert_array_equal(model.layers[1].weight, before["layers.1.weight"])
    assert trainable.of(model) is arrays


def test_what_adapters_train_is_found_though_the_model_was_asked_before() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 40}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
    model = llama.Model(llama.ModelArgs(model_type="llama", **sizes, **heads))
    assert "model.embed_tokens.weight" in trainable.of(model).arrays()
    adapters.attach(model, TrainConfig(rank=4))
    arrays = trainable.of(model).arrays()
    assert arrays.keys() == dict(tree_flatten(model.trainable_parameters())).keys()
    assert all(name.endswith((".lora_a", ".lora_b")) for name in arrays)


@pytest.mark.skipif(sys.platform != "linux", reason="settings of MLX's CUDA backend")
@pytest.mark.parametrize("begun", ["train._with_mlx(None, None, None)", "dry_run.run(None)"])
def test_a_job_that_trains_tells_mlx_how_to_launch_before_it_is_loaded(begun: str) -> None:
    program = f"""
import os, sys
from mlx_finetuning import mlx_trainer, worker
from mlx_finetuning.tasks import dry_run, train
own = mlx_trainer.for_training
def for_training():
    own()
    names = ("MLX_USE_CUDA_GRAPHS", "MLX_MAX_OPS_PER_BUFFER")
    print(*(os.environ[name] for name in names), "mlx.core" in sys.modules)
    sys.exit()
mlx_trainer.for_training = for_training
{begun}
"""
    chosen = {**os.environ, "MLX_MAX_OPS_PER_BUFFER": "77"}  # what the user sets is kept
    chosen.pop("MLX_USE_CUDA_GRAPHS", None)
    done = subprocess.run(
        [sys.executable, "-c", program], env=chosen, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["0", "77", "False"]
