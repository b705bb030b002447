"""What is replaced of mlx and mlx-lm: it exists in the pinned versions, and is put back."""

from __future__ import annotations

import importlib
from types import ModuleType

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import base, switch_layers

from mlx_finetuning.mlx_trainer.model import patching
from mlx_finetuning.mlx_trainer.model.patching import Proxy, replaced, replaced_block
from support.pins import pins


def test_table_was_written_for_the_pinned_versions() -> None:
    pinned = pins("requirements.txt")
    assert {name: pinned[name] for name in patching.VERSIONS} == patching.VERSIONS


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (base, patching.MASK),
        (base, patching.ATTENTION),
        (importlib.import_module("mlx_lm.models.ministral3"), patching.POSITION_SCALE),
        (switch_layers, patching.SWIGLU),
        (mx.fast, patching.ROPE),
    ],
)
def test_replaced_function_exists_and_comes_back_after_an_error(
    owner: ModuleType, name: str
) -> None:
    before = getattr(owner, name)
    with pytest.raises(ZeroDivisionError), replaced(owner, name, None):
        assert getattr(owner, name) is None
        raise ZeroDivisionError
    assert getattr(owner, name) is before


def test_no_other_function_of_a_module_can_be_replaced() -> None:
    with (
        pytest.raises(AssertionError, match="create_ssm_mask"),
        replaced(base, "create_ssm_mask", 0),
    ):
        pass


def test_proxy_has_the_attributes_of_its_module_and_none_of_its_parameters() -> None:
    linear = nn.Linear(4, 2)
    proxy = Proxy(linear, lambda x: 2 * linear(x))
    x = mx.ones((1, 4))
    assert mx.array_equal(proxy(x), 2 * linear(x))
    assert proxy.weight is linear.weight
    assert tree_flatten(proxy.parameters()) == []
    shown = Proxy(linear, linear, is_parent=True)
    assert {name for name, _ in tree_flatten(shown.parameters())} == {
        "module.weight",
        "module.bias",
    }


def test_replaced_block_comes_back() -> None:
    blocks = [nn.Linear(1, 1), nn.Linear(1, 1)]
    first, second = blocks
    with replaced_block(blocks, 1, first):
        assert blocks[1] is first
    assert blocks == [first, second]
