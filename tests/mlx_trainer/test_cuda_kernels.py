"""Training by kernels of a GPU, with MLX's own operations in the kernels' place: what is handed to them,
where they stand for something, and which rows they allow. The kernels themselves are compared with
padded rows on the user's machine (`doctor --full`) and by `benchmarks/gpu.py`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models import activations

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.examples import Example, encode_rows
from mlx_finetuning.mlx_trainer.gradient import backward, packed_attention
from mlx_finetuning.mlx_trainer.gradient.loss import LossOptions
from mlx_finetuning.mlx_trainer.kernels import backend, cuda_compiler, cuda_kernels
from mlx_finetuning.mlx_trainer.kernels.cuda_kernels import Spans
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.model.lora import with_factors
from mlx_finetuning.mlx_trainer.parallel import workload
from mlx_finetuning.mlx_trainer.training import checkpoints, layout_trial, memory_fit
from mlx_finetuning.mlx_trainer.training.memory_watch import MemoryWatch
from mlx_finetuning.progress import silent
from support.card import card
from support.model_classes import CLASSES, examples, model_of, named, plain
from support.recorded_run import rows

LENGTHS = (3, 1, 5, 2)
SEGMENTS = np.repeat(np.arange(len(LENGTHS), dtype=np.int32), LENGTHS)


@pytest.fixture
def on_cpu() -> Iterator[None]:
    """A card rounds float32's products."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which of a GPU's kernels were asked for, on this machine."""
    asked: list[str] = []
    stand_in = card(asked)
    monkeypatch.setattr(backend, "on_card", lambda: stand_in)
    return asked


def test_spans_say_where_each_token_s_example_begins_and_ends() -> None:
    spans = Spans.of(LENGTHS)
    for token, segment in enumerate(SEGMENTS):
        own = np.flatnonzero(segment == SEGMENTS)
        assert (int(spans.starts[token]), int(spans.ends[token])) == (own[0], own[-1] + 1)


@pytest.mark.parametrize("kind", CLASSES)
def test_by_kernels_loss_and_every_gradient_are_those_of_examples_alone(
    kind: str, used: list[str], on_cpu: None
) -> None:
    model = model_of(kind)
    expected_loss, expected = plain(model, examples())
    assert packed_attention.is_exact(model, 300) and packed_attention.uses_kernels(model)
    options = LossOptions.of(model, TrainConfig())
    step = backward.compiled(model, options)
    used.clear()
    value, found = step(batches.packed(examples()))
    assert float(value.item()) == pytest.approx(expected_loss, rel=1e-5)
    for name, gradient in named(model, found):
        wanted = expected[name]
        np.testing.assert_allclose(gradient, wanted, atol=1e-4 * np.abs(wanted).max())
    activation = "joint geglu" if kind.startswith("gemma") else "joint swiglu"
    joined = {"swiglu"} if kind == "phi3" else {activation, "columns"}
    assert {"attention", "rope", "rms_norm", "concatenated", *joined} <= {*used}


@pytest.mark.parametrize("is_wrong", [False, True])
def test_what_kernels_get_wrong_is_told_by_the_trial_of_layouts(
    is_wrong: bool, tiny: LoadedModel, on_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = card([])

    def columns(whole: mx.array, ends: tuple[int, ...]) -> Sequence[mx.array]:
        *others, last = right.columns(whole, ends)
        return [*others, 1.1 * last if is_wrong else last]

    stand_in = dataclasses.replace(right, columns=columns)
    monkeypatch.setattr(backend, "on_card", lambda: stand_in)
    monkeypatch.setattr(backward, "gradient_of", backward.compiled)  # as on a GPU
    monkeypatch.setattr(layout_trial, "ROUNDS", 0)
    config = TrainConfig(batch_size=4, rank=4)
    found = {trial.layout: trial for trial in layout_trial.trials(tiny, rows(8), config, silent)}
    assert found["packed"].agrees == (not is_wrong)
    assert found["padded"].agrees == (not is_wrong)  # by the joined layers, too


def test_class_that_the_kernels_do_not_fit_is_masked(
    used: list[str], on_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one whose attention looks into its mask."""
    from mlx_lm.models import llama

    own = llama.Attention.__call__

    def looking(
        self: llama.Attention, x: mx.array, mask: mx.array, cache: object = None
    ) -> mx.array:
        if mask is not None and not isinstance(mask, str):
            assert mask.ndim == 2
        return own(self, x, mask, cache)

    monkeypatch.setattr(llama.Attention, "__call__", looking)
    model = model_of("llama")
    expected_loss, _ = plain(model, examples())
    assert packed_attention.is_exact(model, 300)
    assert not packed_attention.uses_kernels(model)
    value, _ = backward.compiled(model)(batches.packed(examples()))
    assert float(value.item()) == pytest.approx(expected_loss, rel=1e-5)


def test_nothing_is_computed_by_kernels_without_a_gpu(on_cpu: None) -> None:
    assert backend.on_card() is None
    model = model_of("llama")
    assert packed_attention.is_exact(model, 300) and not packed_attention.uses_kernels(model)


def test_what_kernels_do_not_cover_is_left_to_mlx() -> None:
    half = mx.zeros((1, 4, 12, 64), mx.bfloat16)
    assert cuda_kernels.attends(half, half)
    for other in (half.astype(mx.float32), mx.zeros((2, 4, 12, 64), mx.bfloat16), half[..., :24]):
        assert not cuda_kernels.attends(other, other)
    assert not cuda_kernels.attends(half, half[..., :32])
    x = mx.random.normal((1, 2, 5, 16))
    settings = {"traditional": False, "base": 1e4, "scale": 1.0, "offset": 3}
    assert mx.array_equal(cuda_kernels.rope(x, 16, **settings), mx.fast.rope(x, 16, **settings))
    assert mx.array_equal(cuda_kernels.gelu(x), nn.gelu_approx(x))
    assert mx.array_equal(cuda_kernels.swiglu(x, x), activations.swiglu(x, x))
    weight = mx.random.normal((16,))
    expected = mx.fast.rms_norm(x, weight, 1e-5)
    assert mx.array_equal(cuda_kernels.rms_norm(x, weight, 1e-5), expected)


@pytest.mark.parametrize("is_quantized", [False, True])
def test_layer_with_factors_has_the_gradients_of_its_parts(is_quantized: bool) -> None:
    linear = nn.Linear(64, 32)
    layer = nn.QuantizedLinear.from_linear(linear, 32, 8) if is_quantized else linear
    arrays = [mx.random.normal(shape) for shape in ((5, 64), (64, 4), (4, 32))]
    upstream = [mx.random.normal((5, 32))]
    [expected], wanted = mx.vjp(lambda x, a, b: layer(x) + x @ a @ b, arrays, upstream)
    [found], gradients = mx.vjp(with_factors(layer), arrays, upstream)
    for one, other in zip([found, *gradients], [expected, *wanted], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


# --- what compiles them ----------------------------------------------------------------------


class Compiler:
    """Stands for NVRTC."""

    version = "13.0"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def compiled(self, source: str, target: str) -> bytes:
        self.asked.append(target)
        return f"{target} {len(self.asked)}".encode()


def test_kernels_are_compiled_once_for_a_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler, capability = Compiler(), {"major": 8, "minor": 6}
    monkeypatch.setattr(cuda_compiler, "_compiler", lambda: compiler)
    monkeypatch.setattr(cuda_compiler, "HOME", tmp_path / "kept")

    def about() -> dict[str, int]:
        return {f"compute_capability_{key}": value for key, value in capability.items()}

    monkeypatch.setattr(mx, "device_info", about)

    def code(source: str) -> bytes:
        cuda_compiler.machine_code.cache_clear()  # as in another process
        return cuda_compiler.machine_code(source)

    assert code("a") == code("a") == b"sm_86 1"
    assert code("b") == b"sm_86 2"
    for path in (tmp_path / "kept").iterdir():  # a full disk, say
        path.write_bytes(path.read_bytes()[:-1])
    assert code("a") == b"sm_86 3" == code("a")
    capability |= {"major": 9, "minor": 0}
    assert code("a") == b"sm_90a 4"
    cuda_compiler.machine_code.cache_clear()


def test_kernel_is_given_its_arrays_and_numbers_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    launched: list[dict[str, Any]] = []
    monkeypatch.setattr(
        cuda_compiler, "machine_code", lambda source: seen.append(source) or b"code"
    )
    monkeypatch.setattr(
        mx.fast, "precompiled_cuda_kernel", lambda **named: launched.append(named) or [mx.zeros(1)]
    )
    cuda_kernels._machine_code.cache_clear()
    gate = mx.zeros((20, 64), mx.bfloat16)
    for length in (20, 12):
        cuda_kernels.swiglu(gate[:length], gate[:length])
    cuda_kernels._machine_code.cache_clear()
    [source] = seen  # another length is no other kernel
    signature = "swiglu(const __nv_bfloat16* gate, const __nv_bfloat16* up, "
    assert signature + "__nv_bfloat16* out, int vectors)" in source
    assert [call["scalars"] for call in launched] == [[160], [96]]
    assert [call["output_shapes"] for call in launched] == [[(20, 64)], [(12, 64)]]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a GPU is asked to launch; its outputs are ones."""
    calls: list[dict[str, Any]] = []

    def launch(**named: Any) -> list[mx.array]:
        calls.append(named)
        outputs = zip(named["output_shapes"], named["output_dtypes"], strict=True)
        return [mx.ones(shape, dtype) for shape, dtype in outputs]

    monkeypatch.setattr(cuda_compiler, "machine_code", lambda source: source.encode())
    monkeypatch.setattr(mx.fast, "precompiled_cuda_kernel", launch)
    cuda_kernels._machine_code.cache_clear()
    yield calls
    cuda_kernels._machine_code.cache_clear()


def test_columns_of_joined_layers_are_divided_and_joined_by_one_kernel_each(
    launched: list[dict[str, Any]],
) -> None:
    whole = mx.zeros((1, 20, 64), mx.bfloat16)
    parts, [back] = mx.vjp(
        lambda whole: tuple(cuda_kernels.columns(whole, (32, 48, 64))),
        [whole],
        [mx.zeros((1, 20, width), mx.bfloat16) for width in (32, 16, 16)],
    )
    assert [part.shape for part in parts] == [(1, 20, 32), (1, 20, 16), (1, 20, 16)]
    assert back.shape == whole.shape
    split, join = launched
    assert split["scalars"] == join["scalars"] == [20 * 64 // 8]
    call = "(whole, {part0, part1, part2}, {32, 48, 64}, vectors);"
    assert f"elementwise::split_columns{call}".encode() in split["compiled_source"]
    assert f"elementwise::join_columns{call}".encode() in join["compiled_source"]


@pytest.mark.parametrize("activation", [cuda_kernels.SWIGLU, cuda_kernels.GEGLU])
@pytest.mark.parametrize("has_factors", [True, False])
def test_activation_between_layers_with_factors_is_one_kernel_each_way(
    activation: cuda_kernels.GatedActivation, has_factors: bool, launched: list[dict[str, Any]]
) -> None:
    base, low, factors, value, d_low, last = (
        mx.zeros(shape, mx.float16)
        for shape in ((20, 64), (20, 8), (8, 64), (20, 32), (20, 4), (32, 4))
    )
    assert activation.value(base, low, factors).shape == value.shape
    given = (d_low, last) if has_factors else None
    d_whole, again = activation.gradients(base, low, factors, value, given)
    assert d_whole.shape == base.shape and again.shape == value.shape
    forward, backward = launched
    function = f"elementwise::{activation.name}"
    call = f"gated::activated<{function}, 8>(base, low, factors, out, inner, rows);"
    assert call.encode() in forward["compiled_source"]
    ranks, arrays = ("8, 4", "d_low, last") if has_factors else ("8, 0", "base, base")
    call = f"gated::gradients<{function}, {ranks}>(base, low, factors, d_base, {arrays}, "
    assert f"{call}d_whole, out, inner, rows);".encode() in backward["compiled_source"]
    assert forward["scalars"] == backward["scalars"] == [32, 20]
    assert b'#include "' not in backward["compiled_source"]


def test_blocks_of_the_activation_are_launched_as_its_source_divides_them(
    launched: list[dict[str, Any]],
) -> None:
    """With fewer, columns or rows would be left out."""
    source = cuda_kernels._source("gated")
    found = re.search(r"COLUMNS = (\d+), ROWS = (\d+), WARPS = (\d+);", source)
    assert found
    columns, rows, warps = map(int, found.groups())
    inner, length = 2 * columns * warps + 8, 3 * rows + 1
    base, low, factors = (
        mx.zeros(shape, mx.bfloat16) for shape in ((length, 2 * inner), (length, 8), (8, 2 * inner))
    )
    cuda_kernels.SWIGLU.value(base, low, factors)
    [call] = launched
    assert call["threadgroup"] == (32 * warps, 1, 1)
    assert call["grid"] == (3 * 32 * warps, 4, 1)


@pytest.mark.parametrize("activation", [cuda_kernels.SWIGLU, cuda_kernels.GEGLU])
@pytest.mark.parametrize(("inner", "ranks"), [(32, 8), (12, 8), (32, 5)])
@pytest.mark.parametrize("has_factors", [True, False])
def test_activation_of_other_types_and_widths_is_left_to_mlx(
    activation: cuda_kernels.GatedActivation, inner: int, ranks: int, has_factors: bool
) -> None:
    dtype = mx.float32 if (inner, ranks) == (32, 8) else mx.bfloat16
    base, low, factors, d_base, d_low, last = (
        mx.random.normal(shape, key=mx.random.key(number)).astype(dtype)
        for number, shape in enumerate(
            ((5, 2 * inner), (5, ranks), (ranks, 2 * inner), (5, inner), (5, 4), (inner, 4))
        )
    )

    def plain(gate: mx.array, up: mx.array) -> mx.array:
        activated = nn.silu(gate) if activation is cuda_kernels.SWIGLU else nn.gelu_approx(gate)
        return activated * up

    whole = (base + low @ factors).astype(mx.float32)
    d_out = d_base + d_low @ last.T if has_factors else d_base
    expected, wanted = mx.vjp(
        plain, [whole[:, :inner], whole[:, inner:]], [d_out.astype(mx.float32)]
    )
    given = (d_low, last) if has_factors else None
    d_whole, again = activation.gradients(base, low, factors, d_base, given)
    found = activation.value(base, low, factors), again, d_whole
    for one, other in zip(found, (*expected, *expected, mx.concatenate(wanted, 1)), strict=True):
        error = 1e-5 if dtype == mx.float32 else 3e-2
        assert mx.abs(one.astype(mx.float32) - other).max() <= error * mx.abs(other).max()


def test_columns_of_other_types_and_widths_are_left_to_mlx() -> None:
    for whole in (mx.random.normal((2, 3, 32)), mx.random.normal((2, 3, 24)).astype(mx.bfloat16)):
        inner = whole.shape[-1] // 2
        parts = cuda_kernels.columns(whole, (4, 2 * inner))
        assert mx.array_equal(mx.concatenate(parts, axis=-1), whole)
        assert [part.shape[-1] for part in parts] == [4, 2 * inner - 4]


# --- rows ------------------------------------------------------------------------------------


@pytest.fixture
def work(tiny: LoadedModel, used: list[str], monkeypatch: pytest.MonkeyPatch) -> workload.Workload:
    """A run as on a GPU: packed rows, attention by kernels."""
    assert packed_attention.is_exact(tiny.model, len(tiny.tokenizer.vocab))
    config = TrainConfig(iterations=4, batch_size=8, rank=4)
    return workload.Workload(
        tiny, encode_rows(tiny, rows(12), config.max_length), batches.PACKED, config
    )


def test_rows_grow_as_memory_allows(
    work: workload.Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_fit, "used_memory", lambda: 10**9)  # what other tests left varies
    roomy = memory_fit.fitted(work, 10**12)
    assert roomy.batch_tokens == batches.WIDE_TOKENS[0]
    need = memory_fit.measured(work, work.longest(1))
    narrow = need.of(work, 8)
    assert memory_fit.fitted(work, round(1.01 * narrow)).batch_tokens == batches.PACKED_TOKENS
    masked = dataclasses.replace(work, layout=batches.CONCATENATED)
    assert memory_fit.fitted(masked, 10**12).batch_tokens == batches.CONCATENATED_TOKENS


def test_resumed_run_has_the_rows_that_it_had(work: workload.Workload, tmp_path: Path) -> None:
    state = checkpoints.TrainingState()
    watch = MemoryWatch(
        dataclasses.replace(work.config, memory_limit_gb=500.0), lambda name, **_: None
    )
    limited = dataclasses.replace(
        work, config=dataclasses.replace(work.config, memory_limit_gb=500.0)
    )
    fitted = watch.fit(limited, state, is_resumed=False, exactly=False)
    assert fitted.layout.batch_tokens == state.row_tokens == batches.WIDE_TOKENS[0]
    state.row_tokens = 2048
    again = watch.fit(limited, state, is_resumed=True, exactly=False)
    assert again.layout.batch_tokens == 2048


@pytest.mark.parametrize(("tokens", "step"), [(1100, 256), (4200, 512), (8100, 1024)])
def test_rows_have_few_shapes_and_no_target_too_many(tokens: int, step: int) -> None:
    """Each shape is traced anew, so a long row's number of targets is rounded up further."""
    lengths = [tokens // 4 + 1] * 4
    taken = [Example([5] * length, [True] * length, row=length) for length in lengths]
    batch = batches.packed(taken)
    assert batch.tokens.shape[1] % 256 == 0 and batch.positions.size % step == 0
    assert batch.weights.sum().item() == batch.supervised == 4 * (tokens // 4)
    assert batch.positions.size - batch.supervised < step
