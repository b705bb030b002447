"""Qwen3.5 in GGUF: every transform spelled out in NumPy, planted faults, and folders of mlx-lm."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from mlx.utils import tree_flatten
from mlx_lm.utils import load_adapters, load_model

from mlx_finetuning.errors import AdapterUnusable, ModelSettingUnsupported, WeightsIncomplete
from mlx_finetuning.mlx_trainer.inference import layerwise
from mlx_finetuning.quantizer.llama_cpp import ggml
from mlx_finetuning.quantizer.verify import tensor_error, verification
from mlx_finetuning.quantizer.verify.parity import Reference, compare_logits
from mlx_finetuning.quantizer.write.export import export_gguf, read_config, sources
from mlx_finetuning.utils import gguf_reader
from support.gguf_files import Tensors, metadata, rewrite, types, values
from support.small_models import (
    edit_json,
    shapes,
    stored_name,
    write_adapter,
    write_model,
    write_quantized,
)

TOKENS = np.random.default_rng(5).integers(0, 600, 448).tolist()
KEYS, VALUES, SIZE = 2, 6, 32
"""Key heads, value heads and their size in the small model."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen35") / "m"
    write_model(folder, "qwen3.5", dtype=mx.bfloat16)
    return folder


@pytest.fixture(scope="module")
def original(folder: Path) -> Tensors:
    weights = mx.load(str(folder / "model.safetensors"))
    return {
        name.removeprefix("model.language_model."): np.array(value.astype(mx.float32))
        for name, value in weights.items()
    }


@functools.cache
def reference(model: Path, adapter: Path | None = None) -> Reference:
    network, _ = load_model(model)
    network.set_dtype(mx.float32)
    if adapter is not None:
        network = load_adapters(network, str(adapter))
    return Reference(TOKENS, np.array(network(mx.array([TOKENS]))[0]))


def tiled(heads: np.ndarray) -> np.ndarray:
    """llama.cpp's order of value heads: head 3 of the folder is the first of the second key head."""
    parts = np.split(heads, VALUES)
    return np.concatenate([parts[number] for number in (0, 3, 1, 4, 2, 5)])


def test_tensors_equal_transforms_in_plain_numpy(written: Path, original: Tensors) -> None:
    found, layer = values(written), "layers.1.linear_attn."
    keys = 2 * KEYS * SIZE
    qkv, conv = original[f"{layer}in_proj_qkv.weight"], original[f"{layer}conv1d.weight"][:, 0]
    expected = {
        "attn_qkv.weight": np.concatenate([qkv[:keys], tiled(qkv[keys:])]),
        "attn_gate.weight": tiled(original[f"{layer}in_proj_z.weight"]),
        "ssm_alpha.weight": tiled(original[f"{layer}in_proj_a.weight"]),
        "ssm_beta.weight": tiled(original[f"{layer}in_proj_b.weight"]),
        "ssm_dt.bias": tiled(original[f"{layer}dt_bias"]),
        "ssm_conv1d.weight": np.concatenate([conv[:keys], tiled(conv[keys:])]),
        "ssm_norm.weight": original[f"{layer}norm.weight"],
        "ssm_out.weight": tiled(original[f"{layer}out_proj.weight"].T).T,
        "attn_norm.weight": original["layers.1.input_layernorm.weight"] + 1,
        "post_attention_norm.weight": original["layers.1.post_attention_layernorm.weight"] + 1,
        "ffn_down.weight": original["layers.1.mlp.down_proj.weight"],
    }
    for name, value in expected.items():
        np.testing.assert_array_equal(found[f"blk.1.{name}"], value, err_msg=name)
    decay = -np.exp(tiled(original[f"{layer}A_log"]))
    np.testing.assert_allclose(found["blk.1.ssm_a"], decay, rtol=2e-7)
    np.testing.assert_array_equal(
        found["blk.3.attn_q_norm.weight"], original["layers.3.self_attn.q_norm.weight"] + 1
    )
    np.testing.assert_array_equal(
        found["blk.3.attn_q.weight"], original["layers.3.self_attn.q_proj.weight"]
    )


def test_what_sees_and_what_guesses_ahead_is_left_out(written: Path, folder: Path) -> None:
    assert len(values(written)) == len(shapes(read_config(folder)))


def test_metadata_is_what_llama_cpp_writes(written: Path) -> None:
    found = metadata(written)
    expected = {
        "general.architecture": "qwen35",
        "qwen35.block_count": 5,
        "qwen35.attention.head_count_kv": 2,
        "qwen35.attention.key_length": 64,
        "qwen35.rope.freq_base": 1e7,
        "qwen35.rope.dimension_count": 16,
        "qwen35.rope.dimension_sections": [3, 3, 2, 0],
        "qwen35.full_attention_interval": 4,
        "qwen35.ssm.conv_kernel": 4,
        "qwen35.ssm.state_size": SIZE,
        "qwen35.ssm.group_count": KEYS,
        "qwen35.ssm.time_step_rank": VALUES,
        "qwen35.ssm.inner_size": VALUES * SIZE,
    }
    assert {key: found.get(key) for key in expected} == expected


def test_convolutions_are_never_quantized(folder: Path, tmp_path: Path) -> None:
    paths = {quant: tmp_path / quant for quant in ("F16", "Q4_K_M")}
    export_gguf(folder, None, paths)
    assert {types(path)["blk.0.ssm_conv1d.weight"] for path in paths.values()} == {"F32"}
    found = types(paths["Q4_K_M"])
    assert found["blk.4.attn_qkv.weight"] == "Q6_K"
    assert found["blk.0.attn_gate.weight"] == found["blk.1.ffn_up.weight"] == "Q4_K"


def test_folder_of_mlx_lm_has_its_norms_added_already(folder: Path, tmp_path: Path) -> None:
    """Its weights are quantized, and named and shaped as in mlx-lm's class."""
    write_quantized(folder, tmp_path / "q", bits=8)
    adapter = write_adapter(tmp_path / "adapter", read_config(folder))
    export_gguf(tmp_path / "q", adapter, {"F32": tmp_path / "q.gguf"})
    found = compare_logits(tmp_path / "q.gguf", [reference(tmp_path / "q", adapter)], 512)
    assert found.mean_kl < 1e-4
    assert found.top1_agreement >= 0.99


def test_importance_follows_the_columns_of_its_weight(folder: Path, tmp_path: Path) -> None:
    importance = layerwise.importance(folder, None, [TOKENS[:40]])
    paths = {quant: tmp_path / quant for quant in ("F32", "Q3_K_M")}
    name = "model.layers.0.linear_attn.out_proj.weight"
    assert importance.keys() >= {name}
    export_gguf(folder, None, paths, importance=importance)
    plain = values(paths["F32"])["blk.0.ssm_out.weight"]
    stored = gguf_reader.read(paths["Q3_K_M"]).tensors["blk.0.ssm_out.weight"]
    assert stored.kind == Type.Q4_0  # 192 columns
    expected = ggml.quantize(plain, stored.kind, np.ascontiguousarray(tiled(importance[name])))
    np.testing.assert_array_equal(stored.data.view(np.uint8).reshape(expected.shape), expected)


# --- planted faults ----------------------------------------------------------------------


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], None]:
    def plant(tensors: Tensors) -> None:
        for key in [key for key in tensors if key.endswith(name)]:
            tensors[key] = np.ascontiguousarray(change(tensors[key]))

    return plant


def untiled(heads: np.ndarray) -> np.ndarray:
    parts = np.split(heads, VALUES)
    return np.concatenate([parts[number] for number in (0, 2, 4, 1, 3, 5)])


FAULTS = {
    "norms less one": changed("attn_norm.weight", lambda value: value - 1),
    "decay as its logarithm": changed("ssm_a", lambda value: np.log(-value)),
    "value heads in the folder's order": changed("attn_gate.weight", untiled),
    "columns in the folder's order": changed("ssm_out.weight", lambda value: untiled(value.T).T),
    "convolution backwards": changed("ssm_conv1d.weight", lambda value: value[:, ::-1]),
    "queries and gates exchanged": changed(
        "attn_q.weight", lambda value: value.reshape(4, 2, -1)[:, ::-1].reshape(value.shape)
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_faults_show_in_the_weights_and_in_the_logits(
    tmp_path: Path, folder: Path, written: Path, fault: Callable[[Tensors], None]
) -> None:
    faulty = rewrite(written, tmp_path / "faulty.gguf", change_tensors=fault)
    file, true = gguf_reader.read(faulty), sources(folder, read_config(folder), None)
    assert not tensor_error.problems(
        gguf_reader.read(written), tensor_error.errors(gguf_reader.read(written), true)
    )
    assert tensor_error.problems(file, tensor_error.errors(file, true))
    assert verification.proof_problems(compare_logits(faulty, [reference(folder)], 512))


# --- refuses instead of guessing ---------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"full_attention_interval": 2},
        {"layer_types": ["full_attention"] * 5},
        {"linear_value_head_dim": 64},
        {"num_experts": 8},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e7, "factor": 4.0}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_settings_that_a_file_cannot_express_are_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = write_model(tmp_path / "m", "qwen3.5")
    edit_json(tmp_path / "m" / "config.json", text_config={**config, **changes})
    with pytest.raises(ModelSettingUnsupported):
        export_gguf(tmp_path / "m", None, {"F16": tmp_path / "m.gguf"})


def test_missing_part_of_a_gated_layer_is_named(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m", "qwen3.5")
    path = tmp_path / "m" / "model.safetensors"
    weights = dict(mx.load(str(path)))
    del weights[stored_name(config, "model.layers.2.linear_attn.A_log")]
    mx.save_safetensors(str(path), weights)
    with pytest.raises(WeightsIncomplete, match=r"layers\.2\.linear_attn\.A_log"):
        export_gguf(tmp_path / "m", None, {"F16": tmp_path / "m.gguf"})


def test_whole_weights_trained_in_mlx_lms_form_are_refused(tmp_path: Path, folder: Path) -> None:
    network, _ = load_model(folder)
    layer = "language_model.model.layers.0."
    trained = {
        name: value for name, value in tree_flatten(network.parameters()) if name.startswith(layer)
    }
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), trained)
    (tmp_path / "adapter_config.json").write_text('{"fine_tune_type": "full"}')
    with pytest.raises(AdapterUnusable, match="conv1d"):
        export_gguf(folder, tmp_path, {"F16": tmp_path / "m.gguf"})
