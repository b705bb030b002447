"""Gemma 4 in GGUF: settings per layer, shared keys and values, inputs per layer, planted faults."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load_model

from mlx_finetuning.errors import ModelSettingUnsupported, WeightsIncomplete
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.quantizer.verify import proof, structure, verification
from mlx_finetuning.quantizer.verify.parity import Reference, compare_logits
from mlx_finetuning.quantizer.vocabulary import tokenizer
from mlx_finetuning.quantizer.write.export import export_gguf, read_config, stored_config
from mlx_finetuning.utils import gguf_reader
from support.gguf_files import Tensors, Values, metadata, rewrite, types, values
from support.small_models import (
    edit_json,
    shapes,
    stored_name,
    write_adapter,
    write_model,
    write_quantized,
)

TOKENS = np.random.default_rng(5).integers(0, 600, 448).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gemma4") / "m"
    write_model(folder, "gemma4", dtype=mx.bfloat16)
    return folder


@functools.cache
def reference(model: Path) -> Reference:
    network, _ = load_model(model)
    network.set_dtype(mx.float32)
    return Reference(TOKENS, np.array(network(mx.array([TOKENS]))[0]))


def test_every_tensor_is_its_source_and_norms_stay_as_they_are(written: Path, folder: Path) -> None:
    weights = mx.load(str(folder / "model.safetensors"))
    found = values(written)
    factors = found.pop("rope_freqs.weight")
    np.testing.assert_array_equal(factors, [1.0] * 16 + [np.float32(1e30)] * 48)
    sources = {
        "per_layer_token_embd.weight": "embed_tokens_per_layer.weight",
        "per_layer_model_proj.weight": "per_layer_model_projection.weight",
        "per_layer_proj_norm.weight": "per_layer_projection_norm.weight",
        "blk.2.layer_output_scale.weight": "layers.2.layer_scalar",
        "blk.2.inp_gate.weight": "layers.2.per_layer_input_gate.weight",
        "blk.2.proj.weight": "layers.2.per_layer_projection.weight",
        "blk.2.post_norm.weight": "layers.2.post_per_layer_input_norm.weight",
        "blk.2.attn_norm.weight": "layers.2.input_layernorm.weight",
        "blk.2.ffn_norm.weight": "layers.2.pre_feedforward_layernorm.weight",
        "blk.2.post_ffw_norm.weight": "layers.2.post_feedforward_layernorm.weight",
        "blk.2.attn_k_norm.weight": "layers.2.self_attn.k_norm.weight",
        "blk.5.attn_q.weight": "layers.5.self_attn.q_proj.weight",
        "output_norm.weight": "norm.weight",
    }
    for name, source in sources.items():
        original = np.array(weights[f"model.language_model.{source}"].astype(mx.float32))
        np.testing.assert_array_equal(found[name], original, err_msg=name)
    assert len(found) == len(shapes(read_config(folder)))
    assert "blk.3.attn_k.weight" not in found


def test_metadata_is_what_llama_cpp_writes(written: Path) -> None:
    found = metadata(written)
    expected = {
        "general.architecture": "gemma4",
        "gemma4.block_count": 6,
        "gemma4.feed_forward_length": [512] * 3 + [1024] * 3,
        "gemma4.attention.head_count_kv": 1,
        "gemma4.attention.shared_kv_layers": 3,
        "gemma4.attention.sliding_window": 64,
        "gemma4.attention.sliding_window_pattern": [True, True, False] * 2,
        "gemma4.attention.key_length": 128,
        "gemma4.attention.key_length_swa": 64,
        "gemma4.embedding_length_per_layer_input": 32,
        "gemma4.rope.freq_base": 1e6,
        "gemma4.rope.freq_base_swa": 1e4,
        "gemma4.rope.dimension_count": 128,
        "gemma4.rope.dimension_count_swa": 64,
        "gemma4.final_logit_softcapping": 30.0,
    }
    assert {key: found.get(key) for key in expected} == expected


def test_layers_that_attend_to_everything_may_take_keys_for_values(tmp_path: Path) -> None:
    write_model(tmp_path / "m", "gemma4 dense")
    export_gguf(tmp_path / "m", None, {"Q4_K_M": tmp_path / "m.gguf"})
    found = metadata(tmp_path / "m.gguf")
    assert found["gemma4.attention.head_count_kv"] == [2, 2, 1] * 2
    kinds = types(tmp_path / "m.gguf")
    assert {name for name in kinds if "attn_v" in name} == {
        f"blk.{layer}.attn_v.weight" for layer in (0, 1, 3, 4)
    }
    # llama.cpp counts the four value tensors: the last, and every third, get more bits.
    assert [kinds[f"blk.{at}.attn_v.weight"] for at in (0, 1, 3, 4)] == [
        "Q4_K",
        "Q4_K",
        "Q6_K",
        "Q6_K",
    ]


def test_tables_per_layer_take_the_types_that_llama_cpp_gives_them(
    folder: Path, tmp_path: Path
) -> None:
    paths = {quant: tmp_path / quant for quant in ("BF16", "Q4_K_M")}
    export_gguf(folder, None, paths)
    names = ("per_layer_token_embd.weight", "per_layer_model_proj.weight")
    assert [types(paths["BF16"])[name] for name in names] == ["BF16", "BF16"]
    # The table is 192 wide, which no K-quant divides.
    assert [types(paths["Q4_K_M"])[name] for name in names] == ["Q8_0", "F32"]


def test_folder_of_mlx_lm_gives_the_trained_models_logits(folder: Path, tmp_path: Path) -> None:
    write_quantized(folder, tmp_path / "q", bits=8)
    export_gguf(tmp_path / "q", None, {"F32": tmp_path / "q.gguf"})
    found = compare_logits(tmp_path / "q.gguf", [reference(tmp_path / "q")], 512)
    assert found.mean_kl < 1e-4
    assert found.top1_agreement >= 0.99


@pytest.mark.parametrize("layers", [3, 5])
def test_proof_of_layers_that_share_keys_and_of_those_before(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, layers: int
) -> None:
    config = read_config(folder)
    adapter = write_adapter(tmp_path / "adapter", config)
    monkeypatch.setattr(proof, "VOCABULARY", 100)
    whole = proof.extent(folder, [TOKENS])
    chosen = proof.Extent(layers, whole.of_layers, whole.tokens)
    with proof.written(folder, adapter, chosen) as path:
        found, kept = metadata(path), values(path)
    assert found["gemma4.attention.shared_kv_layers"] == max(0, layers - 3)
    assert len(found["gemma4.feed_forward_length"]) == layers
    tables = mx.load(str(folder / "model.safetensors"))
    table = tables[stored_name(config, "model.embed_tokens_per_layer.weight")]
    expected = np.array(table.astype(mx.float32))[chosen.tokens, : 32 * layers]
    np.testing.assert_array_equal(kept["per_layer_token_embd.weight"], expected)
    assert kept["per_layer_model_proj.weight"].shape == (32 * layers, 256)


def test_proof_reaches_the_first_layer_that_attends_to_everything(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "BYTES", 1)
    assert proof.extent(folder, [TOKENS]).layers == 3


# --- planted faults ----------------------------------------------------------------------


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], None]:
    def plant(tensors: Tensors) -> None:
        for key in [key for key in tensors if key.endswith(name)]:
            tensors[key] = np.ascontiguousarray(change(tensors[key]), np.float32)

    return plant


def layers_exchanged(table: np.ndarray) -> np.ndarray:
    return np.roll(table.reshape(len(table), 6, -1), 1, axis=1).reshape(table.shape)


TENSOR_FAULTS = {
    "norms with one more": changed("attn_norm.weight", lambda value: value + 1),
    "layers' scales forgotten": changed("layer_output_scale.weight", np.ones_like),
    "everything rotated": changed("rope_freqs.weight", np.ones_like),
    "another layer's input": changed("per_layer_token_embd.weight", layers_exchanged),
    "input gates zeroed": changed("inp_gate.weight", np.zeros_like),
}
METADATA_FAULTS: dict[str, tuple[str, Any]] = {
    "wrong theta": ("gemma4.rope.freq_base", 1e4),
    "wrong near theta": ("gemma4.rope.freq_base_swa", 1e6),
    "wrong window": ("gemma4.attention.sliding_window", 512),
    "wrong pattern": ("gemma4.attention.sliding_window_pattern", [True] * 6),
    "wrong sharing": ("gemma4.attention.shared_kv_layers", 2),
    "wrong soft-cap": ("gemma4.final_logit_softcapping", 50.0),
}


@pytest.mark.parametrize("fault", TENSOR_FAULTS.values(), ids=TENSOR_FAULTS)
def test_faults_of_values_show_in_the_logits(
    tmp_path: Path, folder: Path, written: Path, fault: Callable[[Tensors], None]
) -> None:
    faulty = rewrite(written, tmp_path / "faulty.gguf", change_tensors=fault)
    assert verification.proof_problems(compare_logits(faulty, [reference(folder)], 512))


@pytest.mark.parametrize(("key", "value"), METADATA_FAULTS.values(), ids=METADATA_FAULTS)
def test_faults_of_settings_are_named(
    tmp_path: Path, folder: Path, written: Path, key: str, value: Any
) -> None:
    def plant(found: Values) -> None:
        found[key] = value

    faulty = rewrite(written, tmp_path / "faulty.gguf", change_metadata=plant)
    config = read_config(folder)
    original = tokenizer.read(folder, config["vocab_size"], registry.of(config))
    true, wrong = (
        structure.inspect(gguf_reader.read(path), folder, config, original).problems
        for path in (written, faulty)
    )
    assert true == ()
    assert len(wrong) == 1 and key.removeprefix("gemma4.") in wrong[0]


# --- refuses instead of guessing ---------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"enable_moe_block": True},
        {"use_bidirectional_attention": "all"},
        {"num_kv_shared_layers": 2},
        {"vocab_size_per_layer_input": 300},
        {"num_kv_shared_layers": None},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_settings_that_a_file_cannot_express_are_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    write_model(tmp_path / "m", "gemma4")
    text = {**stored_config(tmp_path / "m")["text_config"], **changes}
    known = {key: value for key, value in text.items() if value is not None}
    edit_json(tmp_path / "m" / "config.json", text_config=known)
    with pytest.raises(ModelSettingUnsupported):
        export_gguf(tmp_path / "m", None, {"F16": tmp_path / "m.gguf"})


def test_missing_table_of_inputs_is_named(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m", "gemma4")
    path = tmp_path / "m" / "model.safetensors"
    weights = dict(mx.load(str(path)))
    del weights[stored_name(config, "model.embed_tokens_per_layer.weight")]
    mx.save_safetensors(str(path), weights)
    with pytest.raises(WeightsIncomplete, match="embed_tokens_per_layer"):
        export_gguf(tmp_path / "m", None, {"F16": tmp_path / "m.gguf"})
