"""Computing intermediate values again in the backward pass instead of keeping them.

`selective` keeps what the linear layers before attention's scores and before an MLP's activation
give, and computes scores, softmax and activation again: most of the memory for hardly any time,
as no product with weights is repeated (Korthikanti et al. 2022, "Reducing Activation Recomputation
in Large Transformer Models"). `recomputed`, gradient checkpointing, keeps a block's input only and
computes all the rest again, for about a third more time. Only blocks with something to train are
treated; the others keep nothing anyway.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from mlx_finetuning.mlx_trainer.model import split_head
from mlx_finetuning.mlx_trainer.model.patching import Proxy, replaced

Arrangement = Callable[[], AbstractContextManager[Any]]
"""Enters what replaces parts of the model during an update."""

ATTENTION = (("q_proj", "k_proj", "v_proj"), ("qkv_proj",))
MLP = (("gate_proj", "up_proj"), ("gate_up_proj",))
"""Names of the linear layers that take a part's input, one tuple per way of building it."""


def again(
    part: nn.Module, arrangement: Arrangement, call: Callable[..., mx.array]
) -> Callable[..., mx.array]:
    """`call` as a function of `part`'s trained arrays and of its own, keeping only these."""
    state: Any = mx.random.state
    before = mx.array(state[0])
    arranged: list[Arrangement] = [nullcontext]

    def compute(trained: dict[str, Any], *arrays: mx.array) -> mx.array:
        # The second time as the first: dropout has to leave out the same values.
        state[0][:] = before
        with arranged[0]():
            arranged[0] = arrangement
            part.update(trained)
            return call(*arrays)

    return cast(Callable[..., mx.array], mx.checkpoint(compute))


def _recomputed_block(block: nn.Module, arrangement: Arrangement) -> Proxy:
    """A block that keeps its input only."""

    def call(x: mx.array, *rest: Any, **named: Any) -> mx.array:
        def forward(x: mx.array, *arrays: mx.array) -> mx.array:
            following = iter(arrays)
            others, names = tree_map(
                lambda leaf: next(following) if _is_passed(leaf) else leaf, [rest, named]
            )
            return cast(mx.array, block(x, *others, **names))

        compute = again(block, arrangement, forward)
        # Gradients pass through other inputs, too: Gemma 4's shared keys and values.
        passed = [leaf for _, leaf in tree_flatten([rest, named]) if _is_passed(leaf)]
        return compute(block.trainable_parameters(), x, *passed)

    return Proxy(block, call)


def _is_passed(leaf: Any) -> bool:
    return isinstance(leaf, mx.array) and mx.issubdtype(leaf.dtype, mx.floating)


def _from_products(part: nn.Module, arrangement: Arrangement, names: tuple[str, ...]) -> Proxy:
    """An attention or MLP that keeps what its first linear layers, `names`, give."""

    def call(x: mx.array, *rest: Any, **named: Any) -> mx.array:
        # Never looked at, unless a part takes its input elsewhere too, which `parts` would notice.
        unused = mx.full(x.shape, mx.nan, x.dtype)

        def forward(*products: mx.array) -> mx.array:
            with ExitStack() as changes:
                for name, product in zip(names, products, strict=True):
                    known = Proxy(part[name], lambda _, product=product: product)
                    changes.enter_context(replaced(part, name, known))
                return cast(mx.array, part(unused, *rest, **named))

        products = [part[name](x) for name in names]
        trained = part.trainable_parameters()
        later = {name: value for name, value in trained.items() if name not in names}
        return again(part, arrangement, forward)(later, *products)

    return Proxy(part, call)


@dataclass(frozen=True)
class Part:
    """Of a model: an attention or MLP that can be computed from what its first layers give."""

    layer: int
    owner: str
    names: tuple[str, ...]
    """Of those linear layers."""


def parts(model: nn.Module) -> tuple[Part, ...]:
    """Where `selective` can be used, tried on a few values once per kind of module."""
    if not split_head.is_separable(model):
        return ()
    norm = split_head.norm(model).weight
    x = mx.random.normal((1, 4, norm.size), key=mx.random.key(0)).astype(norm.dtype)
    tried: dict[tuple[type, tuple[str, ...]], bool] = {}
    found = []
    blocks = enumerate(split_head.blocks(model))
    ways = [("mlp", names) for names in MLP] + [("self_attn", names) for names in ATTENTION]
    for (layer, block), (owner, names) in itertools.product(blocks, ways):
        part = getattr(block, owner, None)
        if isinstance(part, nn.Module) and all(name in part for name in names):
            kind = type(part), names
            if kind not in tried:
                tried[kind] = _is_exact(part, names, x, () if owner == "mlp" else (None, None))
            if tried[kind] and _is_trained(block):
                found.append(Part(layer, owner, names))
    return tuple(found)


def _is_exact(part: nn.Module, names: tuple[str, ...], x: mx.array, rest: tuple[Any, ...]) -> bool:
    training = part.training
    part.eval()
    try:
        plain = part(x, *rest)
        again = _from_products(part, nullcontext, names)(x, *rest)
        return bool(mx.abs(plain - again).max() <= 1e-2 * mx.abs(plain).max())
    except (AttributeError, TypeError, ValueError, KeyError):
        return False
    finally:
        part.train(training)


@contextmanager
def selective(model: nn.Module, chosen: Sequence[Part], arrangement: Arrangement) -> Iterator[None]:
    """Inside, the chosen parts keep only products with weights. To be entered within an
    `arrangement`, as `recomputed`.
    """
    with ExitStack() as changes:
        for part in chosen:
            block = split_head.blocks(model)[part.layer]
            module = getattr(block, part.owner)
            if all(name in module for name in part.names):
                proxy = _from_products(module, arrangement, part.names)
                changes.enter_context(replaced(block, part.owner, proxy))
        yield


@contextmanager
def recomputed(model: nn.Module, arrangement: Arrangement) -> Iterator[None]:
    """Inside, the model's trained blocks keep nothing. To be entered within an `arrangement`, which
    is entered again for the backward pass: by then the forward pass and its contexts are over.
    """
    layers = split_head.blocks(model)
    before = list(layers)
    layers[:] = [
        _recomputed_block(block, arrangement) if _is_trained(block) else block for block in before
    ]
    try:
        yield
    finally:
        layers[:] = before


def _is_trained(block: nn.Module) -> bool:
    return bool(tree_flatten(block.trainable_parameters()))
