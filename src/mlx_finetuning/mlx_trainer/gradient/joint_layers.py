"""Layers with factors that take the same input, computed as one layer: on a GPU each product is a launch.

An attention's q, k and v, an MLP's gate and up. Their frozen weights become parts of one array, and
their factors one pair: A's side by side, B's in blocks along a diagonal, zeros elsewhere. So of
three layers a GPU has three products to start forward and five backward instead of nine and
fifteen, and no gradients by their input to add up.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.mlx_trainer.gradient import checkpointing
from mlx_finetuning.mlx_trainer.gradient.gated_mlp import gated_mlp
from mlx_finetuning.mlx_trainer.kernels import backend
from mlx_finetuning.mlx_trainer.kernels.backend import CardBackend
from mlx_finetuning.mlx_trainer.kernels.cuda_kernels import GatedActivation
from mlx_finetuning.mlx_trainer.model import split_head
from mlx_finetuning.mlx_trainer.model.flat_arrays import Layout
from mlx_finetuning.mlx_trainer.model.lora import CheapLoRALinear, with_factors
from mlx_finetuning.mlx_trainer.model.patching import Proxy, replaced
from mlx_finetuning.mlx_trainer.model.trainable import TrainedArrays

LARGEST_RANK = 32
"""Of joined layers: the zeros beside B's blocks are multiplied too, 3% of 8B's products at this rank."""
_QKV, _GATE_UP = checkpointing.ATTENTION[0], checkpointing.MLP[0]
_PLAIN = (nn.Linear, nn.QuantizedLinear)
_NAME = "_joint_layers"


@dataclass(frozen=True)
class _Joint:
    """Layers of one owner as one: `owner.names[i]` gives the columns behind `ends[i - 1]` of `linear`."""

    path: str
    """The owner's, in the model."""
    block: nn.Module
    owner: str
    """Its name in the block."""
    names: tuple[str, ...]
    linear: nn.Module
    ends: tuple[int, ...]

    @property
    def part(self) -> Any:
        """The owner: an attention or an MLP."""
        return getattr(self.block, self.owner)

    @property
    def keys(self) -> tuple[str, str]:
        """Of the factors [inputs, ranks of all] and [ranks of all, outputs of all], among a loss's arguments."""
        return f"{self.path}.joint_a", f"{self.path}.joint_b"

    def product(self, factors: Mapping[str, mx.array], x: mx.array) -> mx.array:
        """[..., outputs of all] for x [..., inputs]."""
        rows = x.reshape(-1, x.shape[-1])
        down, up = (factors[key] for key in self.keys)
        whole: mx.array = with_factors(self.linear)(rows, down, up)
        return whole.reshape(*x.shape[:-1], -1)

    def mlp(
        self, factors: Mapping[str, mx.array], activation: GatedActivation, x: mx.array
    ) -> mx.array:
        """What the owner, an MLP, gives for x [..., inputs]."""
        last = self.part.down_proj
        has_factors = type(last) is CheapLoRALinear
        own = [last.lora_a, last.lora_b] if has_factors else []
        compute = gated_mlp(self.linear, last.linear if has_factors else last, activation)
        rows, first = x.reshape(-1, x.shape[-1]), [factors[key] for key in self.keys]
        return compute(rows, *first, *own)[0].reshape(*x.shape[:-1], -1)


@dataclass
class _Columns:
    """What each of some layers gives. Computed once for calls with the same array that follow one another,
    as an attention makes them; a layer that is given another one has all computed again."""

    product: Callable[[mx.array], mx.array]
    """Of all layers."""
    ends: tuple[int, ...]
    card: CardBackend
    input: mx.array | None = None
    outputs: Sequence[mx.array] = ()

    def of(self, index: int, x: mx.array) -> mx.array:
        """What the layer of this index gives."""
        if x is not self.input:
            self.input, self.outputs = x, self.card.columns(self.product(x), self.ends)
        return self.outputs[index]


class JointLayers:
    """Of a model, on a GPU. Has the trained factors in an order of its own: joint ones, then the others."""

    def __init__(self, joints: list[_Joint], trained: TrainedArrays, card: CardBackend) -> None:
        self.trained = trained
        self._joints, self._card = joints, card
        self._activations = {joint.path: _activation(joint, card) for joint in joints}
        places, total = trained.places(), trained.size
        indices: dict[str, NDArray[np.int32]] = {}
        for joint in self._joints:
            layers = [f"{joint.path}.{name}" for name in joint.names]
            downs, ups = ([places.pop(f"{one}.lora_{k}") for one in layers] for k in "ab")
            joined = np.concatenate(downs, axis=1), _along_diagonal(ups, total)
            indices |= dict(zip(joint.keys, joined, strict=True))
        indices |= places
        flat = np.concatenate([index.reshape(-1) for index in indices.values()])
        known = np.flatnonzero(flat < total)
        back = np.empty(total, np.int32)
        back[flat[known]] = known
        self._layout = Layout({name: mx.zeros(index.shape) for name, index in indices.items()})
        self._index, self._back = mx.array(flat), mx.array(back)
        mx.eval(self._index, self._back)

    def parts(self, vector: mx.array, dtype: mx.Dtype) -> dict[str, mx.array]:
        """The factors in `vector`, which has them in the order of `TrainedArrays`."""
        zero = mx.zeros(1, vector.dtype)  # what a diagonal leaves free
        return self._layout.arrays(mx.concatenate([vector, zero])[self._index], dtype)

    def vector(self, arrays: Mapping[str, mx.array]) -> mx.array:
        """[elements] of arrays as `parts` gives them, in the order of `TrainedArrays`."""
        return self._layout.vector(arrays)[self._back]

    @contextmanager
    def given(self, factors: Mapping[str, mx.array]) -> Iterator[None]:
        """Inside, the model computes with these factors, as `parts` gives them."""
        joint_keys = {key for joint in self._joints for key in joint.keys}
        others = {key: value for key, value in factors.items() if key not in joint_keys}
        self.trained.put_some(others)
        with ExitStack() as changes:
            for joint in self._joints:
                part, activation = joint.part, self._activations[joint.path]
                if activation is not None:
                    # No layers of its own are seen in it, so `checkpointing.selective` leaves it alone.
                    mlp = partial(joint.mlp, factors, activation)
                    changes.enter_context(replaced(joint.block, joint.owner, Proxy(part, mlp)))
                    continue
                product = partial(joint.product, factors)
                columns = _Columns(product, joint.ends, self._card)
                for index, name in enumerate(joint.names):
                    proxy = Proxy(part[name], partial(columns.of, index), is_parent=True)
                    changes.enter_context(replaced(part, name, proxy))
            yield


def of(model: nn.Module, trained: TrainedArrays) -> JointLayers | None:
    """Of a model of which LoRA's factors alone are trained; None where nothing can be joined. The weights of
    joined layers become parts of one array each."""
    card = backend.on_card()
    # In the joint order an adapter is at most three times as long, and places are 32 bits wide.
    if card is None or not split_head.is_separable(model) or 3 * trained.size >= 1 << 31:
        return None
    known: JointLayers | None = getattr(model, _NAME, None)
    if known is not None and known.trained is trained:
        return known
    # What an earlier adapter had joined is let go of first, or the weights would be there twice.
    setattr(model, _NAME, None)
    del known
    joints = _joints(model)
    mx.clear_cache()  # of the layers' former weights
    found = JointLayers(joints, trained, card) if joints else None
    setattr(model, _NAME, found)
    return found


def _joints(model: nn.Module) -> list[_Joint]:
    paths = {id(module): path for path, module in model.named_modules()}
    found = []
    for block in split_head.blocks(model):
        for owner, names in (("self_attn", _QKV), ("mlp", _GATE_UP)):
            part = getattr(block, owner, None)
            if not isinstance(part, nn.Module):
                continue
            own = tuple(name for name in names if type(part.get(name)) is CheapLoRALinear)
            layers = [part[name] for name in own]
            ranks = [layer.lora_a.shape[1] for layer in layers]
            if max(ranks, default=0) > LARGEST_RANK or any(map(_drops, layers)):
                continue
            linear = _joined([layer.linear for layer in layers])
            if linear is not None:
                ends = tuple(accumulate(layer.lora_b.shape[1] for layer in layers))
                found.append(_Joint(paths[id(part)], block, owner, own, linear, ends))
    return found


def _drops(layer: CheapLoRALinear) -> bool:
    return bool(layer.dropout._p_1 < 1)


def _joined(linears: Sequence[nn.Module]) -> nn.Module | None:
    """One layer with all their outputs; their arrays become parts of its own. None if they differ in more
    than in how many outputs they have."""
    if len(linears) < 2 or type(linears[0]) not in _PLAIN:
        return None
    kinds = {
        (
            type(linear),
            *((key, value.dtype, value.shape[1:]) for key, value in linear.items()),
            *(getattr(linear, name, None) for name in ("group_size", "bits", "mode")),
        )
        for linear in linears
    }
    if len(kinds) > 1:
        return None
    whole = copy.copy(linears[0])
    for key in whole:
        whole[key] = mx.concatenate([linear[key] for linear in linears])
        ends = list(accumulate(linear[key].shape[0] for linear in linears))
        parts = mx.split(whole[key], ends[:-1])
        for linear, part in zip(linears, parts, strict=True):
            linear[key] = part
        mx.eval(whole[key], parts)
    return whole


def _along_diagonal(blocks: Sequence[NDArray[np.int32]], other: int) -> NDArray[np.int32]:
    """Blocks [ranks, outputs] along a diagonal, `other` elsewhere."""
    rows, columns = zip(*(block.shape for block in blocks), strict=True)
    whole = np.full((sum(rows), sum(columns)), other, np.int32)
    for block, bottom, right in zip(blocks, accumulate(rows), accumulate(columns), strict=True):
        whole[bottom - block.shape[0] : bottom, right - block.shape[1] : right] = block
    return whole


def _activation(joint: _Joint, card: CardBackend) -> GatedActivation | None:
    """The one of a GPU's activations that an MLP of this class has; None if it is none, or no MLP."""
    if joint.names != _GATE_UP or not _ends_as_expected(joint.part):
        return None
    inner = joint.ends[0]
    whole = mx.random.normal((4, 2 * inner), key=mx.random.key(0))  # float32
    whole *= mx.array([[0.01], [2.0], [100.0], [1000.0]])  # some classes limit large values
    gate, up = mx.split(whole, 2, axis=-1)
    try:
        expected = _activated(joint.part, gate[None], up[None])[0]
        # GELU and its approximation by tanh differ by more.
        limit = 1e-5 * mx.abs(expected).max(axis=-1, keepdims=True)
        fitting = (
            one for one in card.gated if (mx.abs(one.plain(gate, up) - expected) <= limit).all()
        )
        return next(fitting, None)
    except (AttributeError, TypeError, ValueError, KeyError):
        return None


def _ends_as_expected(mlp: nn.Module) -> bool:
    last = mlp.get("down_proj")
    return type(last) in _PLAIN or (type(last) is CheapLoRALinear and not _drops(last))


def _activated(mlp: nn.Module, gate: mx.array, up: mx.array) -> mx.array:
    """What an MLP gives to its last layer."""
    calls = {"gate_proj": lambda _: gate, "up_proj": lambda _: up, "down_proj": lambda x: x}
    with ExitStack() as changes:
        for name, call in calls.items():
            changes.enter_context(replaced(mlp, name, Proxy(mlp[name], call)))
        activated: mx.array = mlp(gate)
        return activated
