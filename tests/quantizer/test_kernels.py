"""ggml's kernels, tensors' types, and reading of weights and adapters, against other routes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import dequantize
from gguf import quantize as quantize_with_numpy
from mlx_lm.tuner.dora import DoRALinear
from mlx_lm.tuner.lora import LoRAEmbedding, LoRALinear

from mlx_finetuning.errors import (
    AdapterUnusable,
    ModelSettingUnsupported,
    NonFiniteWeights,
    QuantizerUnusable,
    WeightsUnreadable,
)
from mlx_finetuning.quantizer.families.tensor_types import (
    Outline,
    more_bits,
    tensor_type,
    value_layers,
)
from mlx_finetuning.quantizer.formats import packed, safetensors
from mlx_finetuning.quantizer.llama_cpp import ggml
from mlx_finetuning.quantizer.write import trained_weights
from mlx_finetuning.utils import llama_library as library
from support.small_models import write_adapter, write_model

ROWS = np.random.default_rng(0).standard_normal((96, 1024)).astype(np.float32)


@pytest.mark.parametrize(
    "kind", [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q5_0, Type.Q5_1, Type.Q4_0]
)
def test_bytes_equal_ggufs_own_numpy_quantizer(kind: Type) -> None:
    expected = quantize_with_numpy(ROWS, kind).view(np.uint8).reshape(len(ROWS), -1)
    np.testing.assert_array_equal(ggml.quantize(ROWS, kind), expected)


@pytest.mark.parametrize(
    ("kind", "bound"),
    [
        (Type.Q6_K, 0.02),
        (Type.Q5_K, 0.04),
        (Type.Q4_K, 0.08),
        (Type.IQ4_XS, 0.1),
        (Type.Q3_K, 0.17),
        (Type.Q2_K, 0.3),
    ],
)
def test_k_quants_dequantize_to_nearly_the_same_values(kind: Type, bound: float) -> None:
    restored = dequantize(ggml.quantize(ROWS, kind), kind)
    assert np.sqrt(np.mean((restored - ROWS) ** 2)) < bound


@pytest.mark.parametrize("kind", [Type.Q8_0, Type.Q6_K, Type.Q4_K])
def test_splitting_by_rows_changes_no_byte(kind: Type) -> None:
    parts = [ggml.quantize(np.ascontiguousarray(part), kind) for part in np.array_split(ROWS, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), ggml.quantize(ROWS, kind))


@pytest.mark.parametrize("kind", [Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.IQ4_XS])
def test_columns_of_importance_are_kept_more_exactly(kind: Type) -> None:
    importance = np.ones(1024, np.float32)
    importance[::8] = 1000.0
    plain, weighted = (
        (dequantize(ggml.quantize(ROWS, kind, given), kind) - ROWS) ** 2
        for given in (None, importance)
    )
    assert weighted[:, ::8].mean() < 0.8 * plain[:, ::8].mean()
    assert weighted.mean() < 3 * plain.mean()


@pytest.mark.parametrize("kind", [Type.F16, Type.Q8_0])
def test_types_without_choices_ignore_importance(kind: Type) -> None:
    importance = np.linspace(0.1, 9, 1024, dtype=np.float32)
    expected = ggml.quantize(ROWS, kind)
    np.testing.assert_array_equal(ggml.quantize(ROWS, kind, importance), expected)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(np.nan, Type.Q4_K), (np.inf, Type.Q8_0), (np.nan, Type.F32), (1e6, Type.F16)],
)
def test_values_that_do_not_fit_are_an_error(value: float, kind: Type) -> None:
    rows = ROWS[:2].copy()
    rows[1, 5] = value
    with pytest.raises(NonFiniteWeights):
        ggml.quantize(rows, kind)


@pytest.fixture
def untested() -> Iterator[None]:
    """The library as in a new process, before its self-test."""
    caches = (ggml._kernels, library.load)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_library_that_computes_something_else_is_not_used(
    untested: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ggml.SELF_TEST_ERROR, Type.Q4_K, 1e-6)
    with pytest.raises(QuantizerUnusable, match="Q4_K の自己診断"):
        ggml.quantize(ROWS, Type.Q8_0)


def test_missing_library_is_named(untested: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "PACKAGE", "no_such_package")
    with pytest.raises(QuantizerUnusable, match="no_such_package がありません"):
        ggml.quantize(ROWS, Type.Q8_0)


# --- types of tensors --------------------------------------------------------------------

LAYERS_32 = Outline(layers=32, tied=False, sharing=4)


def test_more_bits_goes_to_the_layers_of_llama_cpps_table() -> None:
    expected = {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31}
    assert {layer for layer in range(32) if more_bits(layer, 32)} == expected
    assert {layer for layer in range(6) if more_bits(layer, 6)} == {2, 5}


@pytest.mark.parametrize(
    ("name", "quant", "kind"),
    [
        ("blk.0.attn_v.weight", "Q4_K_M", Type.Q6_K),
        ("blk.4.attn_v.weight", "Q4_K_M", Type.Q4_K),
        ("blk.6.ffn_down.weight", "Q4_K_M", Type.Q6_K),
        ("blk.7.ffn_down.weight", "Q5_K_M", Type.Q5_K),
        ("blk.0.attn_q.weight", "Q4_K_M", Type.Q4_K),
        ("blk.0.attn_output.weight", "Q5_K_M", Type.Q5_K),
        ("output.weight", "Q4_K_M", Type.Q6_K),
        ("output.weight", "Q8_0", Type.Q8_0),
        ("token_embd.weight", "Q4_K_M", Type.Q4_K),
        ("blk.3.attn_v.weight", "Q6_K", Type.Q6_K),
        ("blk.3.ffn_up.weight", "BF16", Type.BF16),
        ("blk.0.attn_v.weight", "Q5_K_S", Type.Q5_K),
        ("blk.0.ffn_down.weight", "Q5_K_S", Type.Q5_K),
        ("blk.3.attn_v.weight", "Q4_K_S", Type.Q5_K),
        ("blk.4.attn_v.weight", "Q4_K_S", Type.Q4_K),
        ("blk.3.ffn_down.weight", "Q4_K_S", Type.Q5_K),
        ("blk.4.ffn_down.weight", "Q4_K_S", Type.Q4_K),
        ("blk.1.attn_v.weight", "Q3_K_M", Type.Q5_K),
        ("blk.2.attn_v.weight", "Q3_K_M", Type.Q4_K),
        ("blk.9.attn_output.weight", "Q3_K_M", Type.Q4_K),
        ("blk.1.ffn_down.weight", "Q3_K_M", Type.Q5_K),
        ("blk.2.ffn_down.weight", "Q3_K_M", Type.Q4_K),
        ("blk.2.ffn_up.weight", "Q3_K_M", Type.Q3_K),
        ("blk.9.attn_output.weight", "Q3_K_L", Type.Q5_K),
        ("blk.9.ffn_down.weight", "Q3_K_L", Type.Q5_K),
        ("blk.9.attn_v.weight", "Q2_K", Type.Q4_K),
        ("blk.9.attn_output.weight", "Q2_K", Type.Q3_K),
        ("blk.9.ffn_down.weight", "Q2_K", Type.Q3_K),
        ("blk.9.attn_k.weight", "Q2_K", Type.Q2_K),
        ("blk.9.attn_v.weight", "IQ4_XS", Type.Q5_K),
        ("blk.3.ffn_down.weight", "IQ4_XS", Type.Q5_K),
        ("blk.4.ffn_down.weight", "IQ4_XS", Type.IQ4_XS),
        ("blk.0.attn_qkv.weight", "Q4_K_M", Type.Q6_K),
        ("output.weight", "Q2_K", Type.Q6_K),
    ],
)
def test_types_follow_the_recipe(name: str, quant: str, kind: Type) -> None:
    assert tensor_type(name, (4096, 4096), quant, LAYERS_32) == kind


def test_tied_embedding_takes_the_heads_type() -> None:
    tied = Outline(layers=6, tied=True, sharing=4)
    assert tensor_type("token_embd.weight", (4096, 256), "Q4_K_M", tied) == Type.Q6_K
    assert tensor_type("token_embd.weight", (4096, 256), "Q8_0", tied) == Type.Q8_0


@pytest.mark.parametrize(
    "name", ["blk.0.attn_norm.weight", "blk.0.attn_q.bias", "rope_freqs.weight"]
)
def test_vectors_stay_float32(name: str) -> None:
    assert tensor_type(name, (4096,), "Q4_K_M", LAYERS_32) == Type.F32


@pytest.mark.parametrize(
    ("columns", "quant", "kind"),
    [
        (160, "Q4_K_M", Type.Q5_0),
        (160, "Q5_K_M", Type.Q5_1),
        (160, "Q6_K", Type.Q8_0),
        (160, "Q3_K_M", Type.Q4_0),
        (160, "Q2_K", Type.Q4_0),
        (160, "IQ4_XS", Type.IQ4_NL),
        (100, "Q4_K_M", Type.F16),
        (100, "Q8_0", Type.F16),
    ],
)
def test_odd_widths_fall_back(columns: int, quant: str, kind: Type) -> None:
    assert tensor_type("blk.4.attn_q.weight", (64, columns), quant, LAYERS_32) == kind


def test_odd_width_of_the_head_falls_back_to_eight_bits() -> None:
    assert tensor_type("output.weight", (64, 160), "Q4_K_M", LAYERS_32) == Type.Q8_0


def test_importance_saves_the_extra_bits_of_iq4_xs() -> None:
    weighted = Outline(layers=32, tied=False, sharing=4, has_importance=True)
    assert tensor_type("blk.3.ffn_down.weight", (4096, 4096), "IQ4_XS", weighted) == Type.IQ4_XS
    assert tensor_type("blk.3.attn_v.weight", (4096, 4096), "IQ4_XS", weighted) == Type.Q5_K


def test_seventy_billion_models_give_attn_v_more_bits() -> None:
    big = Outline(layers=80, tied=False, sharing=8, is_70b=True)
    assert tensor_type("blk.11.attn_v.weight", (1024, 8192), "Q4_K_M", big) == Type.Q5_K
    assert tensor_type("blk.12.attn_v.weight", (1024, 8192), "Q4_K_M", big) == Type.Q6_K


@pytest.mark.parametrize(
    ("quant", "layer", "kind"),
    [("Q3_K_M", 1, Type.Q5_K), ("Q3_K_M", 2, Type.Q4_K), ("Q4_K_M", 5, Type.Q6_K)],
)
def test_biases_are_not_counted_among_the_value_tensors(quant: str, layer: int, kind: Type) -> None:
    """Qwen2 has both; the figures are those of llama-quantize for 28 layers."""
    parts = ("attn_k.bias", "attn_v.bias", "attn_v.weight", "ffn_down.weight")
    layers = value_layers(f"blk.{layer}.{part}" for layer in range(28) for part in parts)
    assert layers == tuple(range(28))
    qwen2 = Outline(layers=28, tied=True, sharing=6, value_layers=layers)
    assert tensor_type(f"blk.{layer}.attn_v.weight", (256, 1536), quant, qwen2) == kind


# --- weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_weights_are_read_as_mlx_reads_them(tmp_path: Path, dtype: mx.Dtype) -> None:
    values = mx.random.normal((7, 33), key=mx.random.key(3)).astype(dtype)
    mx.save_safetensors(str(tmp_path / "model.safetensors"), {"w": values, "x": values[0]})
    tensors = safetensors.open_model(tmp_path)
    expected = np.array(values.astype(mx.float32))
    np.testing.assert_array_equal(tensors["w"].rows(slice(2, 5)), expected[2:5])
    np.testing.assert_array_equal(tensors["w"].rows(np.array([6, 0])), expected[[6, 0]])
    np.testing.assert_array_equal(tensors["x"].rows(slice(None)), expected[0])


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    mx.save_safetensors(str(tmp_path / "a.safetensors"), {"x": mx.ones((2,))})
    mx.save_safetensors(str(tmp_path / "b.safetensors"), {"y": mx.zeros((3,))})
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    assert set(safetensors.open_model(tmp_path)) == {"x", "y"}
    path.write_text(json.dumps({"weight_map": {**index["weight_map"], "z": "b.safetensors"}}))
    with pytest.raises(WeightsUnreadable, match="z"):
        safetensors.open_model(tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-10], lambda data: data[:100], lambda _: b""]
)
def test_damaged_weights_are_an_error(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "model.safetensors"
    mx.save_safetensors(str(path), {"w": mx.ones((64, 64))})
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(WeightsUnreadable):
        safetensors.open_model(tmp_path)


@pytest.mark.parametrize("bits", packed.BITS)
def test_weights_that_mlx_quantized_are_read_as_mlx_dequantizes_them(
    tmp_path: Path, bits: int
) -> None:
    values = mx.random.normal((24, 256), key=mx.random.key(3))
    parts = dict(zip(("weight", "scales", "biases"), mx.quantize(values, 64, bits), strict=True))
    tensors = {f"model.up.{name}": value for name, value in parts.items()}
    mx.save_safetensors(str(tmp_path / "model.safetensors"), tensors)
    config = {"quantization": {"group_size": 64, "bits": bits}}
    found = packed.open_base(tmp_path, config)
    assert list(found) == ["model.up.weight"]
    assert found["model.up.weight"].shape == (24, 256)
    expected = np.array(mx.dequantize(*parts.values(), group_size=64, bits=bits))
    rows = np.array([20, 1])
    np.testing.assert_allclose(found["model.up.weight"].rows(rows), expected[rows], atol=1e-6)
    np.testing.assert_allclose(found["model.up.weight"].rows(slice(3, 9)), expected[3:9], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"group_size": 16, "bits": 4, "mode": "nvfp4"}, ModelSettingUnsupported),
        ({"group_size": 32, "bits": 4, "mode": "mxfp4"}, WeightsUnreadable),
        ({"group_size": 32, "bits": 4}, WeightsUnreadable),
        ({}, ModelSettingUnsupported),
    ],
)
def test_other_quantizations_are_refused(
    tmp_path: Path, settings: dict[str, object], error: type[Exception]
) -> None:
    parts = zip(("weight", "scales", "biases"), mx.quantize(mx.ones((8, 64)), 64, 4), strict=True)
    tensors = {f"model.up.{name}": value for name, value in parts}
    mx.save_safetensors(str(tmp_path / "model.safetensors"), tensors)
    with pytest.raises(error):
        packed.open_base(tmp_path, {"quantization": settings})


# --- adapters ----------------------------------------------------------------------------


def test_adapter_adds_what_mlx_lm_fuses(tmp_path: Path) -> None:
    config = write_model(tmp_path / "base", dtype=mx.float32)
    folder = write_adapter(tmp_path / "adapter", config)
    module = "model.layers.1.self_attn.q_proj"
    weight = mx.load(str(tmp_path / "base" / "model.safetensors"))[f"{module}.weight"]
    halves = mx.load(str(folder / "adapters.safetensors"))
    layer = LoRALinear(256, 256, r=4, scale=2.0)
    layer.linear.weight = weight
    layer.lora_a, layer.lora_b = halves[f"{module}.lora_a"], halves[f"{module}.lora_b"]
    expected = np.array(layer.fuse().weight)
    rows = np.array([3, 200, 7])
    change = trained_weights.read(folder).changes[f"{module}.weight"]
    found = change.apply(np.array(weight)[rows], rows)
    np.testing.assert_allclose(found, expected[rows], atol=1e-5)


def test_dora_changes_what_mlx_lm_fuses(tmp_path: Path) -> None:
    random = mx.random.normal
    layer = DoRALinear(64, 48, r=4, scale=3.0)
    layer.lora_b = random((4, 48)) * 0.3
    layer.m = layer.m * 1.3
    names = ("lora_a", "lora_b", "m")
    tensors = {f"model.layers.0.mlp.up_proj.{name}": layer[name] for name in names}
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), tensors)
    settings = {"fine_tune_type": "dora", "lora_parameters": {"scale": 3.0, "rank": 4}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    adapter = trained_weights.read(tmp_path)
    rows = np.array([40, 3])
    change = adapter.changes["model.layers.0.mlp.up_proj.weight"]
    found = change.apply(np.array(layer.linear.weight)[rows], rows)
    np.testing.assert_allclose(found, np.array(layer.fuse().weight)[rows], atol=1e-5)
    assert (adapter.kind, adapter.deltas) == ("dora", {})


def test_lora_of_an_embedding_adds_what_mlx_lm_fuses(tmp_path: Path) -> None:
    layer = LoRAEmbedding(40, 24, r=4, scale=2.0)
    layer.lora_a = mx.random.normal((40, 4))
    layer.lora_b = mx.random.normal((4, 24))
    tensors = {f"model.embed_tokens.{name}": layer[name] for name in ("lora_a", "lora_b")}
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), tensors)
    settings = {"fine_tune_type": "lora", "lora_parameters": {"scale": 2.0, "rank": 4}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    change = trained_weights.read(tmp_path).changes["model.embed_tokens.weight"]
    assert change.shape == (40, 24)
    found = change.apply(np.array(layer.embedding.weight), slice(None))
    np.testing.assert_allclose(found, np.array(layer.fuse().weight), atol=1e-5)


def test_full_tuning_replaces_the_weights(tmp_path: Path) -> None:
    weight = mx.random.normal((6, 8)).astype(mx.bfloat16)
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), {"model.norm.weight": weight})
    (tmp_path / "adapter_config.json").write_text(json.dumps({"fine_tune_type": "full"}))
    change = trained_weights.read(tmp_path).changes["model.norm.weight"]
    found = change.apply(np.zeros((2, 8), np.float32), np.array([5, 0]))
    np.testing.assert_array_equal(found, np.array(weight.astype(mx.float32))[[5, 0]])


def test_unknown_kinds_of_adapters_are_refused(tmp_path: Path) -> None:
    config = write_model(tmp_path / "base")
    folder = write_adapter(tmp_path / "adapter", config)
    settings = json.loads((folder / "adapter_config.json").read_text())
    changed = {**settings, "fine_tune_type": "prefix"}
    (folder / "adapter_config.json").write_text(json.dumps(changed))
    with pytest.raises(AdapterUnusable, match="prefix"):
        trained_weights.read(folder)


def test_adapter_without_its_settings_is_an_error(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", write_model(tmp_path / "base"))
    (folder / "adapter_config.json").unlink()
    with pytest.raises(AdapterUnusable):
        trained_weights.read(folder)
