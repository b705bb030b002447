"""The C++ kernels against MLX's own operations in float64, and what happens where they cannot be had."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type

from mlx_finetuning.errors import GgufUnreadable
from mlx_finetuning.mlx_trainer.kernels import backend, cpu, gguf_blocks
from mlx_finetuning.mlx_trainer.kernels.backend import Backend
from mlx_finetuning.utils import native_kernels
from mlx_finetuning.utils.gguf_reader import EVERYTHING, RowIndex, StoredTensor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="for Linux only")


@pytest.fixture(scope="module", params=["any", "avx2", "avx512"])
def native(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """As it computes on one kind of processor."""
    if native_kernels.compiler() is None:
        pytest.skip("no C++ compiler")
    assert native_kernels.build() == ""
    module = backend.module_of(str(native_kernels.library()))
    if not module.choose(request.param):
        pytest.skip("this processor cannot")
    yield backend.native(module)
    assert module.choose("best")


def test_they_are_what_training_uses(native: Backend) -> None:
    assert backend.chosen().name == "native"
    assert not backend.module_of(str(native_kernels.library())).choose("abacus")


# --- values and gradients -------------------------------------------------------------------


def compared(
    exact: Callable[..., mx.array], found: Callable[..., mx.array], *arrays: mx.array
) -> None:
    """Values and gradients of `found` in float32 are those of `exact` in float64."""
    mx.random.seed(1)
    places = list(range(len(arrays)))

    def weighted(function: Callable[..., mx.array], weights: mx.array) -> Callable[..., Any]:
        return mx.value_and_grad(
            lambda *given: ((out := function(*given)) * weights.astype(out.dtype)).sum(), places
        )

    weights = mx.random.normal(found(*arrays).shape)
    with mx.stream(mx.cpu):
        wide = [array.astype(mx.float64) for array in arrays]
        value, gradients = weighted(exact, weights)(*wide)
        ours, our_gradients = weighted(found, weights)(*arrays)
        np.testing.assert_allclose(found(*arrays), exact(*wide), **within(exact(*wide)))
        for one, other in zip(our_gradients, gradients, strict=True):
            np.testing.assert_allclose(one, other, **within(other))
    assert ours.item() == pytest.approx(value.item(), abs=1e-3 + 1e-7 * weights.size)


def within(exact: mx.array) -> dict[str, float]:
    return {"rtol": 0, "atol": 2e-6 * max(1.0, float(mx.abs(exact).max().item()))}


@pytest.mark.parametrize("tokens", [16, 29, 213])
@pytest.mark.parametrize("inner, outer", [(24, 40), (700, 33), (33, 1100)])
@pytest.mark.parametrize("rank", [0, 1, 8, 30])
def test_linear_layers_with_and_without_factors(
    native: Backend, tokens: int, inner: int, outer: int, rank: int
) -> None:
    mx.random.seed(0)
    x, weight = mx.random.normal((tokens, inner)), mx.random.normal((outer, inner)) / inner**0.5
    factors = [
        mx.random.normal((inner, rank)) / inner**0.5,
        mx.random.normal((rank, outer)) / max(rank, 1) ** 0.5,
    ]

    def exact(x: mx.array, *factors: mx.array) -> mx.array:
        plain = x @ weight.T.astype(x.dtype)
        return plain + 2 * (x @ factors[0]) @ factors[1] if factors else plain

    def found(x: mx.array, *factors: mx.array) -> mx.array:
        return native.linear(x, weight, factors or None, 2.0)

    compared(exact, found, x, *(factors if rank else ()))
    if rank:
        compared(
            lambda *given: exact(x.astype(given[0].dtype), *given),
            lambda *given: found(x, *given),
            *factors,
        )


@pytest.mark.parametrize("kind", backend.HALVES, ids=str)
@pytest.mark.parametrize("tokens", [1, 2, 7, 15, 16, 29, 213])
@pytest.mark.parametrize("inner, outer", [(24, 40), (700, 33), (33, 1100), (17, 5)])
@pytest.mark.parametrize("rank", [0, 3])
def test_linear_layers_by_weights_of_half_precision(
    native: Backend, kind: mx.Dtype, tokens: int, inner: int, outer: int, rank: int
) -> None:
    """Their values are exact in float32, so nothing else is rounded than by float32 weights."""
    mx.random.seed(0)
    x = mx.random.normal((tokens, inner))
    weight = (mx.random.normal((outer, inner)) / inner**0.5).astype(kind)
    factors = [
        mx.random.normal((inner, rank)) / inner**0.5,
        mx.random.normal((rank, outer)) / max(rank, 1) ** 0.5,
    ]

    def exact(x: mx.array, *factors: mx.array) -> mx.array:
        plain = x @ weight.T.astype(x.dtype)
        return plain + 2 * (x @ factors[0]) @ factors[1] if factors else plain

    def found(x: mx.array, *factors: mx.array) -> mx.array:
        return native.linear(x, weight, factors or None, 2.0)

    given = (x, *(factors if rank else ()))
    compared(exact, found, *given)
    assert found(*given).dtype == mx.float32
    reference = backend.PYTHON.linear(x, weight, tuple(factors) if rank else None, 2.0)
    assert reference.dtype == mx.float32
    np.testing.assert_allclose(found(*given), reference, **within(reference))


@pytest.mark.parametrize("kind", backend.HALVES, ids=str)
@pytest.mark.parametrize("tokens", [1, 16])
def test_every_number_of_half_precision_becomes_the_same_float32(
    native: Backend, kind: mx.Dtype, tokens: int
) -> None:
    """Denormal, infinite and none among them: each by itself, in products with one."""
    numbers = mx.arange(1 << 16, dtype=mx.uint32).astype(mx.uint16).view(kind)
    for weight in (numbers[:, None], mx.concatenate([numbers, numbers[:3]])[:, None]):
        found = native.linear(mx.ones((tokens, 1)), weight, None, 1.0)
        expected = np.array(weight.astype(mx.float32)[:, 0])
        for row in np.array(found):
            np.testing.assert_array_equal(row, expected)
    sums = mx.ones((tokens, 1))
    back = mx.grad(lambda x: native.linear(x, numbers[None], None, 1.0).sum())(
        mx.zeros((tokens, 1 << 16))
    )
    np.testing.assert_array_equal(back, sums * np.array(numbers.astype(mx.float32)))


@pytest.mark.parametrize("tokens", [1, 15, 60, 127])
def test_few_rows_by_several_threads_are_the_same(native: Backend, tokens: int) -> None:
    x, weight = mx.random.normal((tokens, 1024)), mx.random.normal((1501, 1024))
    factors = mx.random.normal((1024, 8)), mx.random.normal((8, 1501))
    for kind in (mx.float32, *backend.HALVES):
        made = []
        for threads in (1, 3):
            with cpu.blas_threads(threads):
                made.append(native.linear(x, weight.astype(kind), factors, 2.0))
                mx.eval(made)
        assert (tokens < backend.FEWEST_ROWS and kind == mx.float32) or mx.array_equal(*made)


def test_the_linear_layer_of_a_row_does_not_hang_on_the_others(native: Backend) -> None:
    x, weight = mx.random.normal((213, 384)), mx.random.normal((100, 384))
    whole = native.linear(x, weight, None, 1.0)
    assert mx.array_equal(whole[50:90], native.linear(x[50:90], weight, None, 1.0))


def test_products_with_several_threads_are_the_same(native: Backend) -> None:
    x, weight = mx.random.normal((300, 384)), mx.random.normal((100, 384))
    factors = mx.random.normal((384, 8)), mx.random.normal((8, 100))

    def gradients(threads: int) -> list[mx.array]:
        with cpu.blas_threads(threads):
            found = mx.grad(
                lambda *given: native.linear(given[0], weight, given[1:], 2.0).sum(), (0, 1, 2)
            )
            made = [native.linear(x, weight, factors, 2.0), *found(x, *factors)]
            mx.eval(made)
        return made

    assert all(map(mx.array_equal, gradients(1), gradients(3)))


@pytest.mark.parametrize("heads, groups", [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("window", [None, 2, 20, 100])
def test_attention(native: Backend, heads: int, groups: int, window: int | None) -> None:
    lengths, size, scale = (70, 1, 129), 24, 0.3
    mx.random.seed(0)
    queries = 3 * mx.random.normal((1, sum(lengths), heads, size)).transpose(0, 2, 1, 3)
    keys, values = (mx.random.normal((1, groups, sum(lengths), size)) for _ in range(2))
    number = np.repeat(np.arange(len(lengths)), lengths)
    at = np.arange(sum(lengths))
    seen = (number[:, None] == number) & (at[:, None] >= at)
    if window:
        seen &= at[:, None] < at + window

    def exact(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        k, v = (mx.repeat(array, heads // groups, axis=1) for array in (k, v))
        scores = mx.where(mx.array(seen), q @ k.swapaxes(-1, -2) * scale, -1e30)
        return mx.softmax(scores, axis=-1) @ v

    compared(
        exact,
        lambda q, k, v: native.attention(q, k, v, scale, window, lengths),
        queries,
        keys,
        values,
    )


def test_values_that_are_narrower_than_keys_are_computed_too(native: Backend) -> None:
    queries, keys = (mx.random.normal((1, 2, 9, 8)) for _ in range(2))
    values = mx.random.normal((1, 2, 9, 4))
    expected = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=1.0, mask="causal")
    found = native.attention(queries, keys, values, 1.0, None, (9,))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_activations(native: Backend) -> None:
    mx.random.seed(0)
    gate, up = (mx.random.normal((1, 7, 33)) * 8 for _ in range(2))

    def gelu(x: mx.array) -> mx.array:
        return 0.5 * x * (1 + mx.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x)))

    compared(lambda a, b: a * mx.sigmoid(a) * b, native.swiglu, gate, up)
    compared(gelu, native.gelu, gate)
    np.testing.assert_allclose(native.gelu(gate), nn.gelu_approx(gate), atol=1e-5)


def test_norm_with_and_without_the_gradient_of_its_weight(native: Backend) -> None:
    mx.random.seed(0)
    x, weight = mx.random.normal((2, 5, 37)) * 4, mx.random.normal((37,))

    def exact(x: mx.array, weight: mx.array) -> mx.array:
        return x * mx.rsqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5) * weight

    compared(exact, lambda x, weight: native.rms_norm(x, weight, 1e-5), x, weight)
    wide = weight.astype(mx.float64, stream=mx.cpu)
    compared(
        lambda x: exact(x, wide if x.dtype == mx.float64 else weight),
        lambda x: native.rms_norm(x, weight, 1e-5),
        x,
    )
    assert mx.allclose(native.rms_norm(x, None, 1e-5), mx.fast.rms_norm(x, None, 1e-5))


@pytest.mark.parametrize("dims", [8, 16])
def test_rotary_positions(native: Backend, dims: int) -> None:
    mx.random.seed(0)
    x = mx.random.normal((1, 9, 3, 16)).transpose(0, 2, 1, 3)
    given = {"traditional": False, "base": 1e4, "scale": 0.5, "offset": 3}
    tables = cpu.rope_tables(x, dims, **given)  # type: ignore[arg-type]
    assert tables

    def exact(x: mx.array) -> mx.array:
        cosines, sines = (table.astype(x.dtype) for table in tables)
        first, second, rest = mx.split(x, [dims // 2, dims], axis=-1)
        turned = [first * cosines - second * sines, first * sines + second * cosines, rest]
        return mx.concatenate(turned[: 2 if dims == 16 else 3], axis=-1)

    compared(exact, lambda x: native.rope(x, dims, **given), x)


def test_cross_entropy(native: Backend) -> None:
    mx.random.seed(0)
    logits, targets = mx.random.normal((6, 301)) * 20, mx.random.randint(0, 301, (6,))

    def exact(x: mx.array) -> mx.array:
        chosen = mx.take_along_axis(x, targets[:, None], axis=-1)[:, 0]
        return mx.logsumexp(x, axis=-1) - chosen

    compared(exact, lambda x: native.cross_entropy(x, targets), logits)
    far = mx.array([[0.0, 3e4, -3e4]])
    assert native.cross_entropy(far, mx.array([2])).item() == 6e4


def test_numbers_that_are_none_stay_visible(native: Backend) -> None:
    broken = mx.array([[1.0, float("nan"), 2.0]])
    assert mx.isnan(native.swiglu(broken, broken))[0, 1]
    assert mx.isnan(native.cross_entropy(broken, mx.array([0]))).item()
    assert mx.isnan(native.rms_norm(broken, mx.ones(3), 1e-5)).all()
    assert mx.isnan(native.linear(mx.full((16, 3), float("nan")), mx.ones((5, 3)), None, 1.0)).all()
    rows = mx.full((1, 1, 4, 8), float("nan"))
    assert mx.isnan(native.attention(rows, rows, rows, 1.0, None, (4,))).all()


# --- matrices of GGUF files -----------------------------------------------------------------

CHOICES: tuple[RowIndex, ...] = (EVERYTHING, slice(1), slice(3, 4), np.array([4, 0, 4, 2, 1]))


def any_bytes(kind: Type, blocks: int) -> StoredTensor:
    """Five rows; infinite scales and NaN are among them."""
    block, size = GGML_QUANT_SIZES[kind]
    data = np.random.default_rng(blocks).integers(0, 256, (5, blocks * size), np.uint8)
    data.flags.writeable = False  # as a file is mapped
    return StoredTensor("w", (5, blocks * block), kind, data)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", gguf_blocks.PACKED, ids=lambda kind: kind.name)
def test_packed_blocks_are_the_references_to_the_last_bit(native: Backend, kind: Type) -> None:
    for blocks in (1, 3, 200):
        tensor = any_bytes(kind, blocks)
        for rows in CHOICES:
            expected = gguf_blocks.packed(tensor.data, kind, rows)
            found = {name: np.array(array) for name, array in native.packed(tensor, rows).items()}
            assert found.keys() == expected.keys()
            for name, array in expected.items():
                assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
                assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "kind", [Type.Q4_K, Type.Q3_K, Type.IQ2_XXS, Type.F16, Type.BF16, Type.F32], ids=str
)
def test_dequantized_rows_are_the_references_to_the_last_bit(native: Backend, kind: Type) -> None:
    tensor = any_bytes(kind, 3)
    for rows in CHOICES:
        found, expected = np.array(native.dequantized(tensor, rows)), tensor.values(rows)
        assert found.shape == expected.shape and found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", [Type.F16, Type.BF16], ids=str)
def test_rows_of_half_precision_are_the_files_to_the_last_bit(native: Backend, kind: Type) -> None:
    tensor = any_bytes(kind, 300)
    assert native.halves is not None and backend.PYTHON.halves is None
    for rows in CHOICES:
        found = native.halves(tensor, rows)
        assert found.dtype == (mx.float16 if kind == Type.F16 else mx.bfloat16)
        assert np.array(found.view(mx.uint16)).tobytes() == tensor.data[rows].tobytes()


def test_type_that_ggml_does_not_dequantize_is_said(native: Backend) -> None:
    with pytest.raises(GgufUnreadable):
        native.dequantized(any_bytes(Type.I32, 3), EVERYTHING)


def test_sizes_and_rows_that_do_not_fit_are_refused_before_anything_is_read(
    native: Backend,
) -> None:
    module = backend.module_of(str(native_kernels.library()))
    whole, first = np.zeros((2, 144), np.uint8), np.array([0])
    assert len(module.packed(Type.Q4_K, whole, first)) == 3
    for kind in (Type.Q4_K, Type.F32, -1):
        with pytest.raises(ValueError):  # no whole block; no such type
            module.packed(int(kind), whole[:, :143].copy(), first)
    for numbers in ([2], [-1], [0, 1 << 40]):
        with pytest.raises(IndexError):
            module.packed(Type.Q4_K, whole, np.array(numbers))
        with pytest.raises(IndexError):
            module.dequantized(whole, np.array(numbers), 256, 0)
        with pytest.raises(IndexError):
            module.halves(whole, np.array(numbers), True)
    with pytest.raises(ValueError):  # ends within a number
        module.halves(whole[:, :143].copy(), first, True)
    for stored in (whole[0], whole[:, ::2], whole.astype(np.int8)):
        with pytest.raises(TypeError):
            module.packed(Type.Q4_K, stored, first)
    assert module.packed(Type.Q4_K, whole, first[:0])[0].shape == (0, 32)


def test_other_types_are_left_to_mlx(native: Backend) -> None:
    x = mx.random.normal((40, 8)).astype(mx.bfloat16)
    assert native.linear(x, mx.ones((8, 8), mx.bfloat16), None, 1.0).dtype == mx.bfloat16
    assert native.gelu(x).dtype == mx.bfloat16
    assert native.rms_norm(x, mx.ones(8, mx.bfloat16), 1e-5).dtype == mx.bfloat16


# --- where they cannot be had ---------------------------------------------------------------


@pytest.fixture
def choosing_anew() -> Iterator[None]:
    backend.chosen.cache_clear()
    yield
    backend.chosen.cache_clear()


@pytest.mark.usefixtures("choosing_anew")
def test_switched_off_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native_kernels.OVERRIDE, "off")
    assert native_kernels.state() == "off"
    assert backend.chosen() is backend.PYTHON


@pytest.mark.usefixtures("choosing_anew", "native")
def test_one_that_was_made_for_something_else_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native_kernels, "_digest", lambda: "0" * 16)
    assert native_kernels.state() == "stale"
    assert backend.chosen() is backend.PYTHON


@pytest.mark.usefixtures("native")
def test_a_folder_that_is_named_like_mlx_hides_it_from_nobody(tmp_path: Path) -> None:
    (tmp_path / "mlx").mkdir()
    ask = "from mlx_finetuning.utils import native_kernels; print(native_kernels.state())"
    said = subprocess.run(
        [sys.executable, "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert said.stdout == "built\n"


@pytest.mark.usefixtures("choosing_anew")
def test_a_damaged_one_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "library.so"
    damaged.write_bytes(b"\x7fELF")
    monkeypatch.setattr(native_kernels, "library", lambda: damaged)
    assert native_kernels.state() == "built"
    assert backend.chosen() is backend.PYTHON


def test_set_up_goes_on_without_a_compiler_and_after_a_failed_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native_kernels, "_home", lambda: tmp_path)
    with monkeypatch.context() as without:
        without.setenv("PATH", "/nowhere")
        assert native_kernels.state() == "no_compiler"
        assert native_kernels.main() == 0
        assert not list(tmp_path.iterdir())
    monkeypatch.setattr(native_kernels, "compiler", lambda: "/bin/false")
    assert native_kernels.main() == 0
    assert "遅くなります" in capsys.readouterr().out
    assert native_kernels.state() == "failed"
    assert native_kernels.main() == 0
    assert capsys.readouterr().out == ""
