"""Logits at chosen positions only: a model's body and its head, run apart. And which parts these are.

The body ends before the final norm and hands over the chosen states; norm, head, soft-caps and
scalings then see only those. Works for every model class of mlx-lm that keeps its blocks and a
final norm in `.model`; of others the full logits are computed.
"""

from __future__ import annotations

import contextlib
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn

from mlx_finetuning.mlx_trainer.kernels import gather
from mlx_finetuning.mlx_trainer.model import frozen_linear
from mlx_finetuning.mlx_trainer.model.patching import Proxy, replaced, replaced_block

_GOES_ONCE = "_goes_once"
"""Attribute of a model of which that has been found out."""


def text(model: nn.Module) -> nn.Module:
    """The part of a model that has body and head: of one that sees too, its language model."""
    inner = getattr(model, "language_model", None)
    return inner if isinstance(inner, nn.Module) else model


def body(model: nn.Module) -> Any:
    """Embedding, blocks and final norm of a model."""
    return text(model).model


def blocks(model: nn.Module) -> list[nn.Module]:
    """The list that the body goes through; some classes give a copy of it as `layers`, PLaMo's have it in a
    module of its own."""
    layers = body(model).layers
    found: list[nn.Module] = layers if isinstance(layers, list) else layers.layers
    return found


def embedding_name(inner: nn.Module) -> str:
    """What a body calls the embedding of its tokens; InternLM 2 and Ling otherwise than most."""
    names = (name for name, module in inner.items() if hasattr(module, "as_linear"))
    return "embed_tokens" if "embed_tokens" in inner else next(names)


def vocabulary(model: nn.Module) -> int:
    """Rows of the embedding of its tokens."""
    inner = body(model)
    embedding = inner[embedding_name(inner)]
    return int(getattr(embedding, "embedding", embedding).weight.shape[0])


def norm_name(inner: Any) -> str:
    """What a body calls its final norm; LFM2 otherwise than all others."""
    return "embedding_norm" if "embedding_norm" in inner else "norm"


def norm(model: nn.Module) -> Any:
    """The final norm of a model."""
    inner = body(model)
    return getattr(inner, norm_name(inner))


def is_separable(model: nn.Module) -> bool:
    """Whether body and head can be run apart, and the last block's output is what the head sees."""
    found = getattr(text(model), "model", None)
    is_known = isinstance(found, nn.Module) and isinstance(
        getattr(found, norm_name(found), None), nn.Module
    )
    if is_known and not hasattr(model, _GOES_ONCE):
        setattr(model, _GOES_ONCE, _goes_once(model))
    return is_known and getattr(model, _GOES_ONCE)


def _goes_once(model: nn.Module) -> bool:
    """Whether the body, given tokens alone, goes through its last block once and through the norm behind it
    once: some go round (Nanbeige, IQuest's LoopCoder), some want more than tokens (StableLM). Counted as a
    token's graph is made, which nobody evaluates."""
    inner, layers = body(model), blocks(model)
    name, calls = norm_name(inner), []

    def counting(key: str, module: nn.Module) -> Proxy:
        def call(*values: Any, **named: Any) -> Any:
            calls.append(key)
            return module(*values, **named)

        return Proxy(module, call)

    last = len(layers) - 1
    state: Any = mx.random.state
    before = mx.array(state[0])  # dropout draws
    with (
        contextlib.suppress(AttributeError, TypeError, ValueError, KeyError),
        replaced_block(layers, last, counting("block", layers[last])),
        replaced(inner, name, counting("norm", getattr(inner, name))),
    ):
        inner(mx.zeros((1, 1), mx.int32))
    state[0][:] = before
    return calls == ["block", "norm"]


def hidden_at(
    model: nn.Module, tokens: mx.array, positions: mx.array, *, unique: bool = False
) -> mx.array:
    """[positions, d_model]: the last block's output; `positions` index the flattened tokens.

    unique: whether it is known that no position occurs twice, which makes the gradient cheap.
    """
    inner = body(model)
    name = norm_name(inner)

    def chosen(hidden: mx.array) -> mx.array:
        states = hidden.reshape(-1, hidden.shape[-1])  # [sequences * length, d_model]
        if not unique:
            return states[positions]
        return cast(
            mx.array, gather.take(states, positions, gather.inverse(positions, states.shape[0]))
        )

    with replaced(inner, name, Proxy(getattr(inner, name), chosen)):
        return inner(tokens)  # type: ignore[no-any-return]


def head(model: nn.Module, hidden: mx.array) -> mx.array:
    """[positions, vocabulary] logits of the last block's outputs [positions, d_model]."""
    whole, inner = text(model), body(model)
    output = norm(model)(hidden[None])  # [1, positions, d_model]
    with replaced(whole, "model", Proxy(inner, lambda *_, **__: output)), frozen_linear.on_cpu():
        # The tokens are not looked at: the body that would embed them is replaced.
        logits: mx.array = whole(mx.zeros((1, hidden.shape[0]), mx.int32))
    # Not an index, whose derivative is a scatter.
    return logits.squeeze(0)


def logits_at(model: nn.Module, tokens: mx.array, positions: mx.array) -> mx.array:
    """[positions, vocabulary] logits of `model` for `tokens` [examples, length].

    Equal to gathering from the full logits.
    """
    if is_separable(model):
        return head(model, hidden_at(model, tokens, positions))
    logits: mx.array = model(tokens)
    return logits.reshape(-1, logits.shape[-1])[positions]
