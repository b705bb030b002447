"""The few functions that dominate training on MLX's CPU backend, in a form it computes quickly.

That backend runs elementwise work on one thread and needs about 9 ns for an exponential; as a
polynomial inside a compiled kernel it needs 2. Each function here has its derivative written out,
so that backward takes few passes as well. float32 only; on a GPU nothing of this is used.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import mlx.core as mx
import numpy as np

QUERIES = 128
"""Queries per block of attention: scores above the diagonal blocks are never computed."""
LONGEST_KEPT = 512
"""Positions up to which attention keeps its exponentials for the backward pass; they grow with the
square, so of longer examples they are computed again."""
_MASKED = -1e30
_ROUND = 1.5 * 2**23 + 127
"""A float32 with this added is rounded to an integer, whose sum with the exponent's bias then lies in
the lowest bits."""
_NOTHING = -60.0
"""e**-60 of the highest probability counts as zero; float32 sums notice nothing below e**-16."""
_ROPE = mx.fast.rope  # which `rope` stands for
_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_ARENA_MAX = -4, -1, -8


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc reuse what MLX frees instead of handing it back to the system.

    MLX keeps 32 MB of freed buffers on the CPU. Beyond that every large temporary is mapped and
    faulted in anew, page by page, which costs several times what computing its values does. What
    glibc keeps serves every size, so MLX need not keep anything.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    # MLX allocates in its stream's thread too; one arena serves both with the same pages.
    mallopt(_M_ARENA_MAX, 1)
    if mx.default_device() == mx.cpu:
        mx.set_cache_limit(0)


@contextlib.contextmanager
def blas_threads(count: int | None) -> Iterator[None]:
    """OpenBLAS works with `count` threads inside; None, or another library, is left as it is."""
    library = ctypes.CDLL(None)
    if count is None or not hasattr(library, "openblas_set_num_threads"):
        yield
        return
    before = library.openblas_get_num_threads()
    library.openblas_set_num_threads(count)
    try:
        yield
    finally:
        library.openblas_set_num_threads(before)


def linear(
    x: mx.array, weight: mx.array, factors: tuple[mx.array, mx.array] | None, scale: float
) -> mx.array:
    """x [rows, in] by a frozen weight [out, in] and LoRA's factors [in, rank], [rank, out]; [rows, out].
    The weight may be of half precision where x is float32.

    It is a factor that is scaled, never activations or their gradients, and both directions are
    fused multiply-adds.
    """
    plain = x @ weight.T
    if factors is None:
        return plain
    down, up = factors
    up = up if scale == 1.0 else scale * up
    return mx.addmm(plain, x @ down.astype(x.dtype), up.astype(x.dtype))


def exp(x: mx.array) -> mx.array:
    """e**x for x in [-87, 87] to a relative 3e-7 near 0 and 4e-6 at the ends."""
    power = x * 1.4426950408889634
    shifted = power + _ROUND
    rest = power - (shifted - _ROUND)
    value = 0.00015403530 * rest + 0.0013333558
    for coefficient in (0.0096181291, 0.0555041087, 0.2402265070, 0.6931471806, 1.0):
        value = value * rest + coefficient
    return mx.view(mx.view(shifted, mx.int32) << 23, mx.float32) * value


@mx.compile
def _exp_below(x: mx.array, highest: mx.array) -> mx.array:
    below = x - highest
    # Exactly nothing far below: products with denormal numbers take a hundred times as long.
    return mx.where(below > _NOTHING, exp(mx.maximum(below, _NOTHING)), 0.0)


def _sigmoid(x: mx.array) -> mx.array:
    return 1.0 / (1.0 + exp(mx.maximum(mx.minimum(-x, 87.0), -87.0)))


@mx.compile
def _swiglu(gate: mx.array, up: mx.array) -> mx.array:
    return gate * _sigmoid(gate) * up


@mx.compile
def _swiglu_gradients(
    gate: mx.array, up: mx.array, upstream: mx.array
) -> tuple[mx.array, mx.array]:
    sigmoid = _sigmoid(gate)
    silu = sigmoid * gate
    return upstream * up * (sigmoid + silu * (1.0 - sigmoid)), upstream * silu


@mx.custom_function
def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """silu(gate) * up."""
    return _swiglu(gate, up)


@swiglu.vjp
def _swiglu_vjp(
    primals: tuple[mx.array, mx.array], upstream: mx.array, _: mx.array
) -> tuple[mx.array, mx.array]:
    return _swiglu_gradients(*primals, upstream)


@mx.custom_function
def _losses(logits: mx.array, targets: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    highest = logits.max(axis=-1, keepdims=True)
    exponentials = _exp_below(logits, highest)
    total = exponentials.sum(axis=-1, keepdims=True)
    chosen = mx.take_along_axis(logits, targets[:, None], axis=-1)
    return (mx.log(total) + highest - chosen)[:, 0], exponentials, total


@_losses.vjp
def _losses_vjp(
    primals: tuple[mx.array, mx.array],
    upstream: tuple[mx.array, ...],
    outputs: tuple[mx.array, ...],
) -> tuple[mx.array, mx.array]:
    targets = primals[1][:, None]
    _, exponentials, total = outputs
    weight = upstream[0][:, None]
    gradient = exponentials * (weight / total)
    chosen = mx.take_along_axis(gradient, targets, axis=-1)
    return mx.put_along_axis(gradient, targets, chosen - weight, axis=-1), primals[1]


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """logits: [positions, vocabulary]; targets: [positions]; nats per position."""
    losses, *_ = cast(tuple[mx.array, ...], _losses(logits, targets))
    return losses


@mx.custom_function
def _divergences(logits: mx.array, base: mx.array) -> tuple[mx.array, mx.array]:
    said = logits - logits.max(axis=-1, keepdims=True)
    known = base - base.max(axis=-1, keepdims=True)
    said_odds, known_odds = _exp_below(said, mx.array(0.0)), _exp_below(known, mx.array(0.0))
    said_total = said_odds.sum(axis=-1, keepdims=True)
    known_total = known_odds.sum(axis=-1, keepdims=True)
    shares = known_odds / known_total
    nats = (shares * (known - said)).sum(axis=-1) + mx.log(said_total / known_total)[:, 0]
    return nats, said_odds / said_total - shares


@_divergences.vjp
def _divergences_vjp(
    primals: tuple[mx.array, mx.array],
    upstream: tuple[mx.array, ...],
    outputs: tuple[mx.array, ...],
) -> tuple[mx.array, mx.array]:
    return outputs[1] * upstream[0][:, None], mx.zeros_like(primals[1])


def divergence(logits: mx.array, base: mx.array) -> mx.array:
    """Kullback and Leibler's, of the predictions of `logits` from those of `base`, which is held fixed.

    logits, base: [positions, vocabulary]; nats per position.
    """
    nats, _ = cast(tuple[mx.array, ...], _divergences(logits, base))
    return nats


def rope(x: mx.array, dims: int, **settings: Any) -> mx.array:
    """`mx.fast.rope`, which has no derivative of its own on the CPU and computes its sines anew.

    x: [..., length, size], of which the first `dims` are turned, each with that half of them away.
    """
    tables = rope_tables(x, dims, **settings)
    if tables is None:
        return _ROPE(x, dims, **settings)
    return _turn(*tables)(x)


def rope_tables(
    x: mx.array,
    dims: int,
    *,
    traditional: bool,
    base: float | None,
    scale: float,
    offset: Any,
    freqs: mx.array | None = None,
) -> tuple[mx.array, mx.array] | None:
    """Cosines and sines [length, dims / 2] for `rope` of `x`; None where it is MLX's own."""
    if traditional or x.dtype != mx.float32 or not isinstance(offset, int):
        return None
    periods = None if freqs is None else np.array(freqs, np.float32).tobytes()
    length = x.shape[-2]
    # Lengths share a table, or the tables of many long examples would fill the memory.
    cosines, sines = _angles(-(-length // 512) * 512, dims, base, periods, scale, offset)
    return cosines[:length], sines[:length]


@functools.lru_cache(maxsize=16)
def _angles(
    length: int, dims: int, base: float | None, periods: bytes | None, scale: float, offset: int
) -> tuple[mx.array, mx.array]:
    """Cosines and sines [length, dims / 2]; `periods` stands for `base`."""
    half = dims // 2
    if periods is None:
        powers = mx.arange(0, -half, -1, dtype=mx.float32)
        speeds = mx.exp(powers * (math.log(cast(float, base)) / half))
    else:
        speeds = 1.0 / mx.array(np.frombuffer(periods, np.float32))
    positions = mx.arange(offset, offset + length, dtype=mx.float32) * scale
    angles = positions[:, None] * speeds
    return mx.cos(angles), mx.sin(angles)


def _turn(cosines: mx.array, sines: mx.array) -> Callable[[mx.array], mx.array]:
    half = cosines.shape[-1]

    def turned(x: mx.array, sines: mx.array) -> mx.array:
        first, second, *rest = mx.split(x, [half, 2 * half], axis=-1)
        parts = (first * cosines - second * sines, first * sines + second * cosines)
        return mx.concatenate([*parts, *(part for part in rest if part.size)], axis=-1)

    @mx.custom_function
    def turn(x: mx.array) -> mx.array:
        return turned(x, sines)

    @turn.vjp
    def back(_: mx.array, upstream: mx.array, __: mx.array) -> mx.array:
        return turned(upstream, -sines)

    return cast(Callable[[mx.array], mx.array], turn)


def attention_apart(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    scale: float,
    window: int | None,
    lengths: Sequence[int],
) -> mx.array:
    """`attention` of a sequence of examples of these lengths, each by itself."""
    return by_example(
        lambda q, k, v: attention(q, k, v, scale, window), lengths, queries, keys, values
    )


def by_example(
    attend: Callable[..., mx.array], lengths: Sequence[int], *arrays: mx.array
) -> mx.array:
    """`attend` applied to each example's part of the arrays [1, heads, tokens, size]."""
    # Cut at once: the derivative of a split is one concatenation, that of each slice an array
    # of zeros as long as the sequence.
    starts = list(itertools.accumulate(lengths))[:-1]
    cut = [mx.split(array, starts, axis=2) for array in arrays]
    return mx.concatenate([attend(*parts) for parts in zip(*cut, strict=True)], axis=2)


def attention(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float, window: int | None
) -> mx.array:
    """Causal attention of one example: [1, heads, length, size], keys and values with as many
    heads or a divisor of it; with `window`, a query sees that many positions, its own included.

    Blocks of queries, and a backward pass from the outputs, as FlashAttention (Dao et al. 2022,
    algorithms 2 and 4), whose symbols the code has: S scores, P probabilities, O outputs, m and l a
    row's maximum and sum, D the row sums of dO * O. Of P, the numerator exp(S - m) is kept.
    """
    _, heads, length, size = queries.shape
    groups = keys.shape[1]
    q = queries.reshape(groups, heads // groups, length, size)
    k, v = (mx.expand_dims(array.squeeze(0), 1) for array in (keys, values))
    o = _attend(scale, window)(q, k, v)[0]
    return o.reshape(1, heads, length, values.shape[-1])


@functools.cache
def _attend(scale: float, window: int | None) -> Callable[..., tuple[mx.array, ...]]:
    """q [groups, heads, length, size], k and v [groups, 1, length, size] to o and what backward
    takes: per block the numerator of P (or m, where that would be too large) and 1 / l."""

    def scores(q: mx.array, k: mx.array, first: int, low: int, stop: int) -> mx.array:
        qk = q[:, :, first:stop] @ k[:, :, low:stop].swapaxes(-1, -2)  # [.., queries, keys]
        return _biased(qk, mx.array(scale), _bias(first, low, stop, window))

    @mx.custom_function
    def attend(q: mx.array, k: mx.array, v: mx.array) -> tuple[mx.array, ...]:
        outputs, saved = [], []
        for first, low, stop in _blocks(q.shape[2], window):
            s = scores(q, k, first, low, stop)
            m = s.max(axis=-1, keepdims=True)
            numerator = _exp_below(s, m)
            inverse_l = 1.0 / numerator.sum(axis=-1, keepdims=True)  # [.., queries, 1]
            outputs.append((numerator @ v[:, :, low:stop]) * inverse_l)
            saved += [numerator if q.shape[2] <= LONGEST_KEPT else m, inverse_l]
        return (_joined(outputs), *saved)

    @attend.vjp
    def backward(
        primals: tuple[mx.array, ...], upstream: tuple[mx.array, ...], outputs: tuple[mx.array, ...]
    ) -> tuple[mx.array, ...]:
        (q, k, v), d_o, o = primals, upstream[0], outputs[0]
        length = q.shape[2]
        d_q, d_k, d_v = [], mx.array(0.0), mx.array(0.0)
        d = (d_o * o).sum(axis=-1, keepdims=True)  # D, [groups, heads, length, 1]
        for number, (first, low, stop) in enumerate(_blocks(length, window)):
            numerator, inverse_l = outputs[1 + 2 * number : 3 + 2 * number]
            if length > LONGEST_KEPT:
                m = numerator
                numerator = _exp_below(scores(q, k, first, low, stop), m)
            d_o_block = d_o[:, :, first:stop]
            d_p = d_o_block @ v[:, :, low:stop].swapaxes(-1, -2)  # [.., queries, keys]
            d_s = _score_gradient(numerator, inverse_l * scale, d_p, d[:, :, first:stop])
            d_q.append(d_s @ k[:, :, low:stop])
            d_k_block = d_s.swapaxes(-1, -2) @ q[:, :, first:stop]
            d_v_block = numerator.swapaxes(-1, -2) @ (d_o_block * inverse_l)
            d_k = d_k + _placed(d_k_block, low, length)
            d_v = d_v + _placed(d_v_block, low, length)
        return _joined(d_q), d_k, d_v

    return cast(Callable[..., tuple[mx.array, ...]], attend)


def _blocks(length: int, window: int | None) -> list[tuple[int, int, int]]:
    """(first query, first key, end of both) per block."""
    return [
        (first, 0 if window is None else max(0, first + 1 - window), min(first + QUERIES, length))
        for first in range(0, length, QUERIES)
    ]


@functools.lru_cache(maxsize=512)
def _bias(first: int, low: int, stop: int, window: int | None) -> mx.array:
    """[queries, keys]: 0 where a query sees a key, else a very negative number."""
    query, key = np.arange(first, stop)[:, None], np.arange(low, stop)[None]
    seen = key <= query
    if window is not None:
        seen &= key > query - window
    return mx.array(np.where(seen, 0.0, _MASKED).astype(np.float32))


@functools.partial(mx.compile, shapeless=True)
def _biased(scores: mx.array, scale: mx.array, bias: mx.array) -> mx.array:
    return scores * scale + bias


@functools.partial(mx.compile, shapeless=True)
def _score_gradient(
    numerator: mx.array, inverse_l: mx.array, d_p: mx.array, d: mx.array
) -> mx.array:
    """dS = P * (dP - D)."""
    return numerator * inverse_l * (d_p - d)


def _placed(gradient: mx.array, low: int, length: int) -> mx.array:
    """Summed over the query heads of a group, and zero where the block has no keys."""
    summed = gradient.sum(axis=1, keepdims=True) if gradient.shape[1] > 1 else gradient
    after = length - low - summed.shape[2]
    if not low and not after:
        return summed
    return mx.pad(summed, [(0, 0), (0, 0), (low, after), (0, 0)])


def _joined(parts: list[mx.array]) -> mx.array:
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=2)
