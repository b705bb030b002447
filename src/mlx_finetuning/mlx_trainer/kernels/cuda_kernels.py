"""The few functions that dominate training on an NVIDIA GPU, in kernels of our own (`cuda/*.cuh`).

MLX's attention is dense under a mask, or takes examples of one length; what each example needs is a
fraction of that. Its rotary kernel reads two bytes a thread, its norm always computes the gradient of
its weight, and a concatenation is a kernel per array. Compute capability 8.0 and later, in bfloat16
and half precision; who asks for something else gets MLX's own (`attends`, `turns`, ...).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models import activations

from mlx_finetuning.mlx_trainer.kernels import cpu, cuda_compiler

_SOURCES = Path(__file__).parent / "cuda"
_HALF = (mx.bfloat16, mx.float16)
_LARGEST_HEAD = 256
_AT_ONCE = 400
"""Arrays that one kernel puts together: its arguments may take 4,096 bytes."""
_WIDTH = 8
"""Values that a thread of `cuda/elementwise.cuh` reads at once."""
_GATED_COLUMNS, _GATED_ROWS = 128, 64
"""Of gate that a block of `cuda/gated.cuh` has."""
_ROPE, _RMS_NORM = mx.fast.rope, mx.fast.rms_norm  # which others stand for
_SWIGLU, _GELU = activations.swiglu, nn.gelu_approx

Arrays = dict[str, tuple[tuple[int, ...], mx.Dtype]]
"""Shapes and types of outputs, by name."""
_TYPES = {
    mx.bfloat16: "__nv_bfloat16",
    mx.float16: "__half",
    mx.float32: "float",
    mx.int32: "int",
}


def are_available() -> bool:
    """Whether MLX computes on a GPU that has what the kernels need."""
    return mx.default_device() != mx.cpu and _capability() >= 8 and cuda_compiler.is_found()


@functools.cache
def _capability() -> int:
    """The GPU's, its major number; 0 of one that is not NVIDIA's."""
    info: dict[str, Any] = mx.device_info()
    return int(info.get("compute_capability_major", 0))


def digest() -> str:
    """Of the kernels' sources."""
    sources = sorted(_SOURCES.glob("*.cuh"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:8]


def _launched(
    name: str,
    source: str,
    body: str,
    inputs: dict[str, mx.array],
    outputs: Arrays,
    *,
    grid: tuple[int, int, int],
    threads: int,
    shared_memory: int = 0,
    numbers: Mapping[str, int] = MappingProxyType({}),
) -> list[mx.array]:
    """What a kernel gives whose body calls a function of `cuda/{source}.cuh`. It knows inputs, outputs and
    `numbers` by name; the numbers are no part of what is compiled."""
    types = [
        *(f"const {_TYPES[array.dtype]}* {key}" for key, array in inputs.items()),
        *(f"{_TYPES[dtype]}* {key}" for key, (_, dtype) in outputs.items()),
        *(f"int {key}" for key in numbers),
    ]
    return mx.fast.precompiled_cuda_kernel(
        name=name,
        compiled_source=_machine_code(name, source, ", ".join(types), body),
        inputs=list(inputs.values()),
        output_shapes=[shape for shape, _ in outputs.values()],
        output_dtypes=[dtype for _, dtype in outputs.values()],
        scalars=list(numbers.values()),
        grid=grid,
        threadgroup=(threads, 1, 1),
        shared_memory=shared_memory,
        ensure_row_contiguous=True,
    )


@functools.cache
def _machine_code(name: str, source: str, parameters: str, body: str) -> bytes:
    header = _source(source)
    kernel = f'extern "C" __global__ void {name}({parameters}) {{\n{body}\n}}\n'
    return cuda_compiler.machine_code(f"{header}\n{kernel}")


def _source(name: str) -> str:
    """Of `cuda/{name}.cuh`, with what it includes of that folder in its place: the compiler sees no files."""
    text = (_SOURCES / f"{name}.cuh").read_text("utf-8")
    return re.sub(r'#include "(\w+)\.cuh"', lambda found: _source(found[1]), text)


# --- attention ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Spans:
    """Where in a sequence that examples share each token's own example lies; [tokens] int32 each."""

    numbers: mx.array
    """Of the examples, in their order."""
    starts: mx.array
    ends: mx.array
    """One behind its last token."""

    @staticmethod
    def of(lengths: Sequence[int]) -> Spans:
        """Of examples that lie behind one another."""
        ends = np.cumsum(lengths, dtype=np.int32)
        each = (np.arange(len(lengths), dtype=np.int32), ends - np.array(lengths, np.int32), ends)
        return Spans(*(mx.array(np.repeat(values, lengths)) for values in each))

    @property
    def arrays(self) -> tuple[mx.array, mx.array, mx.array]:
        """What a compiled function takes for it. Worked out within one, by operations whose constants are
        the sequence's length, kernels would be compiled anew for each length: 4 s each."""
        return self.numbers, self.starts, self.ends


@dataclass(frozen=True)
class _Tiles:
    """How a block of threads divides attention, by the size of a head."""

    warps: int
    """Each has 16 rows."""
    columns: int
    """Keys at once, to which queries attend."""
    queries: int
    """Queries at once, whose gradients keys gather."""
    apart: bool
    """Whether dK and dV are computed by different blocks, because registers hold one of them."""

    @staticmethod
    def of(size: int) -> _Tiles:
        if size > 128:
            return _Tiles(2, 32, 16, True)
        return _Tiles(4, 32, 32, False) if size > 64 else _Tiles(4, 64, 64, False)


def attends(queries: mx.array, values: mx.array) -> bool:
    """Whether `attention` can be used on arrays of these types and shapes."""
    batch, _, length, size = queries.shape
    is_covered = queries.dtype in _HALF and values.shape[-1] == size and size % 16 == 0
    return is_covered and batch == 1 and length > 1 and size <= _LARGEST_HEAD


def attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    spans: Spans,
    scale: float,
    window: int | None = None,
    cap: float = 0.0,
) -> mx.array:
    """Causal attention of each example of a sequence: [1, heads, tokens, size], keys and values with as
    many heads or a divisor of it. With `window`, a query sees that many positions, its own included;
    a score s becomes cap * tanh(s / cap), where `cap` is not 0.
    """
    q, k, v = (array.swapaxes(1, 2) for array in (queries, keys, values))
    o, _ = _attend(float(scale), window or 0, float(cap))(q, k, v, spans.starts, spans.ends)
    return o.swapaxes(1, 2)


@functools.cache
def _attend(scale: float, window: int, cap: float) -> Callable[..., tuple[mx.array, mx.array]]:
    """q [1, tokens, heads, size], k and v [1, tokens, groups, size], starts and ends to o and the
    logarithm of each query's sum."""

    def launch(
        function: str, q: mx.array, k: mx.array, inputs: dict[str, mx.array], outputs: Arrays
    ) -> list[mx.array]:
        _, length, heads, size = q.shape
        groups, tiles = k.shape[2], _Tiles.of(size)
        of_keys, rows = function == "backward_keys", 16 * tiles.warps
        columns = tiles.queries if of_keys else tiles.columns
        constants = f"{size}, {tiles.warps}, {columns}"
        if of_keys:
            constants += f", {str(tiles.apart).lower()}"
        shape = f"length, {heads}, {groups}, {scale}f, {cap}f, {window}"
        names = ", ".join([*inputs, *outputs])
        # One or two arrays of rows, and two of columns, these twice.
        lines = rows * (1 if function == "forward" else 2) + 4 * columns
        return _launched(
            f"attention_{function}",
            "attention",
            f"attention::{function}<{constants}>({names}, {{{shape}}});",
            inputs,
            outputs,
            grid=(
                -(-length // rows) * 32 * tiles.warps,
                groups if of_keys else heads,
                1 + (of_keys and tiles.apart),
            ),
            threads=32 * tiles.warps,
            shared_memory=2 * (size + 8) * lines,
            numbers={"length": length},
        )

    @mx.custom_function
    def attend(
        q: mx.array, k: mx.array, v: mx.array, starts: mx.array, ends: mx.array
    ) -> tuple[mx.array, mx.array]:
        sums = (q.shape[2], q.shape[1]), mx.float32
        inputs = {"q": q, "k": k, "v": v, "starts": starts}
        o, lse = launch("forward", q, k, inputs, {"o": (q.shape, q.dtype), "lse": sums})
        return o, lse

    @attend.vjp
    def backward(
        primals: tuple[mx.array, ...], upstream: tuple[mx.array, ...], outputs: tuple[mx.array, ...]
    ) -> tuple[mx.array, ...]:
        (q, k, v, starts, ends), (o, lse) = primals, outputs
        d_o, sums = upstream[0].astype(q.dtype), (lse.shape, mx.float32)
        inputs = {"q": q, "k": k, "v": v, "starts": starts, "o": o, "lse": lse, "d_o": d_o}
        d_q, delta = launch(
            "backward_queries", q, k, inputs, {"d_q": (q.shape, q.dtype), "delta": sums}
        )
        of_key = k.shape, k.dtype
        inputs = {"q": q, "k": k, "v": v, "starts": starts, "ends": ends, "lse": lse, "d_o": d_o}
        d_k, d_v = launch(
            "backward_keys", q, k, {**inputs, "delta": delta}, {"d_k": of_key, "d_v": of_key}
        )
        return d_q, d_k, d_v, mx.zeros_like(starts), mx.zeros_like(ends)

    return cast(Callable[..., tuple[mx.array, mx.array]], attend)


# --- rotary positions ---------------------------------------------------------------------


def rope(x: mx.array, dims: int, **settings: Any) -> mx.array:
    """`mx.fast.rope` of [1, heads, length, size], in one kernel each way."""
    half, rest = dims // 2, x.shape[-1] - dims
    is_covered = x.dtype in _HALF and x.ndim == 4 and x.shape[0] == 1
    if not is_covered or half % _WIDTH or rest % _WIDTH:
        return _ROPE(x, dims, **settings)
    tables = cpu.rope_tables(x.astype(mx.float32), dims, **settings)
    if tables is None:
        return _ROPE(x, dims, **settings)
    turned: mx.array = _turn(half)(x.swapaxes(1, 2), *tables)
    return turned.swapaxes(1, 2)


@functools.cache
def _turn(half: int) -> Callable[..., mx.array]:
    def launch(x: mx.array, cosines: mx.array, sines: mx.array, sign: float) -> mx.array:
        _, length, heads, size = x.shape
        threads = length * heads * (size - half) // _WIDTH
        return _launched(
            "rotate",
            "elementwise",
            f"elementwise::rotate(x, cosines, sines, out, length, {heads}, {size}, {half}, {sign}f);",
            {"x": x, "cosines": cosines, "sines": sines},
            {"out": (x.shape, x.dtype)},
            grid=(-(-threads // 256) * 256, 1, 1),
            threads=256,
            numbers={"length": length},
        )[0]

    @mx.custom_function
    def turn(x: mx.array, cosines: mx.array, sines: mx.array) -> mx.array:
        return launch(x, cosines, sines, 1.0)

    @turn.vjp
    def backward(
        primals: tuple[mx.array, ...], upstream: mx.array, _: mx.array
    ) -> tuple[mx.array, ...]:
        x, cosines, sines = primals
        back = launch(upstream.astype(x.dtype), cosines, sines, -1.0)
        return back, mx.zeros_like(cosines), mx.zeros_like(sines)

    return cast(Callable[..., mx.array], turn)


# --- norms ----------------------------------------------------------------------------------


def rms_norm(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
    """`mx.fast.rms_norm`, of whose gradients only those that are asked for are computed."""
    size = x.shape[-1]
    is_covered = weight is not None and x.dtype == weight.dtype and x.dtype in _HALF
    if not is_covered or size % _WIDTH or size > 16384:
        return _RMS_NORM(x, weight, eps)
    # Gemma's norms add 1 to their weight each time: worked out once, unless it is trained.
    with contextlib.suppress(ValueError):
        mx.eval(weight)
    return _norm(eps)(x, weight)


@functools.cache
def _norm(eps: float) -> Callable[..., mx.array]:
    @mx.custom_function
    def norm(x: mx.array, weight: mx.array) -> mx.array:
        return _RMS_NORM(x, weight, eps)

    @norm.vjp
    def backward(
        primals: tuple[mx.array, ...], upstream: mx.array, _: mx.array
    ) -> tuple[mx.array, ...]:
        x, weight = primals
        d_out, size = upstream.astype(x.dtype), x.shape[-1]
        threads = min(1024, max(32, -(-size // (2 * _WIDTH) // 32) * 32))
        d_x = _launched(
            "rms_norm_gradient",
            "elementwise",
            f"elementwise::rms_norm_gradient<{size}, {threads}>(x, weight, d_out, d_x, {eps!r}f);",
            {"x": x, "weight": weight, "d_out": d_out},
            {"d_x": (x.shape, x.dtype)},
            grid=(x.size // size * threads, 1, 1),
            threads=threads,
        )[0]
        # Not evaluated where nobody trains the weight.
        known = x.astype(mx.float32)
        normal = known * mx.rsqrt(known.square().mean(axis=-1, keepdims=True) + eps)
        d_weight = (d_out.astype(mx.float32) * normal).reshape(-1, size).sum(axis=0)
        return d_x, d_weight.astype(weight.dtype)

    return cast(Callable[..., mx.array], norm)


# --- activations --------------------------------------------------------------------------------


def _by_vectors(name: str, inputs: dict[str, mx.array], outputs: str, call: str) -> list[mx.array]:
    """A kernel whose threads have 8 values each, of inputs and outputs of one shape and type."""
    like = next(iter(inputs.values()))
    vectors = like.size // _WIDTH
    return _launched(
        name,
        "elementwise",
        f"elementwise::{call}({', '.join([*inputs, *outputs.split()])}, vectors);",
        inputs,
        dict.fromkeys(outputs.split(), (like.shape, like.dtype)),
        grid=(-(-vectors // 256) * 256, 1, 1),
        threads=256,
        numbers={"vectors": vectors},
    )


@mx.custom_function
def _swiglu(gate: mx.array, up: mx.array) -> mx.array:
    return _by_vectors("swiglu", {"gate": gate, "up": up}, "out", "swiglu")[0]


@_swiglu.vjp
def _swiglu_vjp(
    primals: tuple[mx.array, mx.array], upstream: mx.array, _: mx.array
) -> tuple[mx.array, ...]:
    gate, up = primals
    inputs = {"gate": gate, "up": up, "d_out": upstream.astype(gate.dtype)}
    return tuple(_by_vectors("swiglu_gradients", inputs, "d_gate d_up", "swiglu_gradients"))


def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """silu(gate) * up, in one kernel each way."""
    if gate.dtype not in _HALF or up.dtype != gate.dtype or gate.size % _WIDTH:
        return cast(mx.array, _SWIGLU(gate, up))
    return cast(mx.array, _swiglu(gate, up))


@mx.custom_function
def _gelu(x: mx.array) -> mx.array:
    return _by_vectors("gelu", {"x": x, "d_out": x}, "out", "gelu_vectors<false>")[0]


@_gelu.vjp
def _gelu_vjp(x: mx.array, upstream: mx.array, _: mx.array) -> mx.array:
    inputs = {"x": x, "d_out": upstream.astype(x.dtype)}
    return _by_vectors("gelu_gradient", inputs, "d_x", "gelu_vectors<true>")[0]


def gelu(x: mx.array) -> mx.array:
    """`nn.gelu_approx`, in one kernel each way."""
    if x.dtype not in _HALF or x.size % _WIDTH:
        return cast(mx.array, _GELU(x))
    return cast(mx.array, _gelu(x))


# --- layers that are computed as one ------------------------------------------------------------


@dataclass(frozen=True)
class GatedActivation:
    """An MLP's activation of gate and up side by side, between layers with LoRA's factors.

    Gate and up are base + low @ factors: base [rows, 2 * inner] of the frozen layers, low [rows, ranks],
    factors [ranks, 2 * inner].
    """

    name: str
    """Of its function in `cuda/elementwise.cuh`."""
    plain: Callable[[mx.array, mx.array], mx.array]
    """What it makes of gate and up."""

    def value(self, base: mx.array, low: mx.array, factors: mx.array) -> mx.array:
        """[rows, inner]."""
        if not self._is_covered(base, low):
            return self.plain(*mx.split(mx.addmm(base, low, factors), 2, axis=-1))
        inputs = {"base": base, "low": low, "factors": factors}
        template = f"activated<elementwise::{self.name}, {low.shape[1]}>"
        return self._launch("activated", template, inputs, [*inputs], {"out": 1})[0]

    def gradients(
        self,
        base: mx.array,
        low: mx.array,
        factors: mx.array,
        d_base: mx.array,
        last: tuple[mx.array, mx.array] | None,
    ) -> tuple[mx.array, mx.array]:
        """By gate and up, [rows, 2 * inner], and the value again.

        d_base: [rows, inner], the gradient by the value that the frozen last layer gives; last: of that
        layer's factors the gradient of what the first gives, [rows, ranks], and the first, [inner, ranks].
        """
        if not self._is_covered(base, low) or (last and last[1].shape[1] % 2):
            d_out = mx.addmm(d_base, last[0], last[1].T) if last else d_base
            whole = mx.addmm(base, low, factors)
            [value], [d_whole] = mx.vjp(
                lambda whole: self.plain(*mx.split(whole, 2, axis=-1)), [whole], [d_out]
            )
            return d_whole, value
        inputs = {"base": base, "low": low, "factors": factors, "d_base": d_base}
        inputs |= dict(zip(("d_low", "last"), last or (), strict=False))
        ranks = f"{low.shape[1]}, {last[1].shape[1] if last else 0}"
        template = f"gradients<elementwise::{self.name}, {ranks}>"
        names = [*inputs] if last else [*inputs, "base", "base"]  # these two are not looked at
        found = self._launch("gradients", template, inputs, names, {"d_whole": 2, "out": 1})
        return found[0], found[1]

    def _is_covered(self, base: mx.array, low: mx.array) -> bool:
        return base.dtype in _HALF and base.shape[1] % (2 * _WIDTH) == 0 and low.shape[1] % 2 == 0

    def _launch(
        self,
        name: str,
        template: str,
        inputs: dict[str, mx.array],
        names: Sequence[str],
        outputs: dict[str, int],
    ) -> list[mx.array]:
        """`outputs`: how many times `inner` columns each has."""
        base = inputs["base"]
        rows, inner = base.shape[0], base.shape[1] // 2
        call = ", ".join([*names, *outputs])
        return _launched(
            f"{self.name}_{name}",
            "gated",
            f"gated::{template}({call}, inner, rows);",
            inputs,
            {key: ((rows, count * inner), base.dtype) for key, count in outputs.items()},
            grid=(-(-inner // _GATED_COLUMNS) * 128, -(-rows // _GATED_ROWS), 1),
            threads=128,
            numbers={"inner": inner, "rows": rows},
        )


SWIGLU = GatedActivation("silu", lambda gate, up: cast(mx.array, _SWIGLU(gate, up)))
GEGLU = GatedActivation("gelu", lambda gate, up: cast(mx.array, _GELU(gate) * up))


def columns(whole: mx.array, ends: tuple[int, ...]) -> Sequence[mx.array]:
    """[..., outputs of several layers] and where each one's end, to what each gives, in one kernel each
    way."""
    if whole.dtype not in _HALF or any(end % _WIDTH for end in ends):
        return list(mx.split(whole, ends[:-1], axis=-1))
    return _columns(ends)(whole)


@functools.cache
def _columns(ends: tuple[int, ...]) -> Callable[..., Sequence[mx.array]]:
    widths = [end - begin for begin, end in itertools.pairwise((0, *ends))]
    names = [f"part{number}" for number in range(len(ends))]
    places = f"{{{', '.join(names)}}}, {{{', '.join(map(str, ends))}}}"

    def launch(name: str, inputs: dict[str, mx.array], outputs: Arrays) -> list[mx.array]:
        rows = next(iter(inputs.values())).size // (ends[-1] if name == "split" else widths[0])
        vectors = rows * ends[-1] // _WIDTH
        return _launched(
            f"{name}_columns",
            "elementwise",
            f"elementwise::{name}_columns(whole, {places}, vectors);",
            inputs,
            outputs,
            grid=(-(-vectors // 256) * 256, 1, 1),
            threads=256,
            numbers={"vectors": vectors},
        )

    @mx.custom_function
    def split(whole: mx.array) -> list[mx.array]:
        shapes = ((*whole.shape[:-1], width) for width in widths)
        outputs = {name: (shape, whole.dtype) for name, shape in zip(names, shapes, strict=True)}
        return launch("split", {"whole": whole}, outputs)

    @split.vjp
    def backward(
        whole: mx.array, upstream: Sequence[mx.array], _: Sequence[mx.array]
    ) -> tuple[mx.array, ...]:
        parts = (one.astype(whole.dtype) for one in upstream)
        inputs = dict(zip(names, parts, strict=True))
        return (launch("join", inputs, {"whole": (whole.shape, whole.dtype)})[0],)

    return cast(Callable[..., Sequence[mx.array]], split)


# --- many small arrays -------------------------------------------------------------------------


def concatenated(arrays: Sequence[mx.array]) -> mx.array:
    """[elements] of all arrays, which are of one type, in their order."""
    vectors = [
        _concatenated(arrays[begin : begin + _AT_ONCE]) for begin in range(0, len(arrays), _AT_ONCE)
    ]
    return vectors[0] if len(vectors) == 1 else mx.concatenate(vectors)


def _concatenated(arrays: Sequence[mx.array]) -> mx.array:
    sizes = [array.size for array in arrays]
    ends = list(itertools.accumulate(sizes))
    cases = "\n".join(
        f"case {number}: from = a{number}; begin = {end - size}; size = {size}; break;"
        for number, (end, size) in enumerate(zip(ends, sizes, strict=True))
    )
    body = (
        "decltype(a0) from = a0;\nint begin = 0, size = 0;\n"
        f"switch (blockIdx.y) {{\n{cases}\n}}\nelementwise::copy(from, out + begin, size);"
    )
    return _launched(
        "concatenate",
        "elementwise",
        body,
        {f"a{number}": array for number, array in enumerate(arrays)},
        {"out": ((ends[-1],), arrays[0].dtype)},
        grid=(math.ceil(max(sizes) / (256 * _WIDTH)) * 256, len(arrays), 1),
        threads=256,
    )[0]
