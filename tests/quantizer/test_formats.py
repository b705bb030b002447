"""Adapters as files, fused folders, quantized bases, proofs and advice, against mlx-lm and llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import load_adapters, load_model

from mlx_finetuning import files
from mlx_finetuning.errors import AdapterMustBeFused, ExportNotProven, Interrupted
from mlx_finetuning.mlx_trainer.model import split_head
from mlx_finetuning.progress import Step
from mlx_finetuning.quantizer.families.family import mlx_names
from mlx_finetuning.quantizer.verify import advice, proof, tensor_error
from mlx_finetuning.quantizer.verify.advice import Candidate
from mlx_finetuning.quantizer.verify.parity import Reference, compare, compare_logits
from mlx_finetuning.quantizer.write import adapter_files, fused
from mlx_finetuning.quantizer.write.export import export_gguf, read_config, sources
from mlx_finetuning.utils import gguf_reader
from support.gguf_files import metadata, rewrite, values
from support.small_models import (
    DISTINCT,
    FAMILIES,
    edit_json,
    write_adapter,
    write_json,
    write_model,
    write_quantized,
)
from support.sweeps import sweep

TOKENS = np.random.default_rng(5).integers(0, 600, 448).tolist()


def network_of(model: Path, adapter: Path | None = None) -> nn.Module:
    network, _ = load_model(model)
    network.set_dtype(mx.float32)
    return network if adapter is None else load_adapters(network, str(adapter))


def reference(network: nn.Module) -> Reference:
    return Reference(TOKENS, np.array(network(mx.array([TOKENS]))[0].astype(mx.float32)))


# --- adapters as files -------------------------------------------------------------------


@pytest.mark.parametrize("family", sweep(FAMILIES, DISTINCT))
def test_gguf_adapter_on_its_base_is_the_tuned_model(tmp_path: Path, family: str) -> None:
    model = tmp_path / "m"
    config = write_model(model, family)
    adapter = write_adapter(tmp_path / "adapter", config)
    base, path = tmp_path / "base.gguf", tmp_path / "adapter.gguf"
    export_gguf(model, None, {"F32": base})
    adapter_files.write_gguf(model, adapter, path, "名前")
    tuned = reference(network_of(model, adapter))
    found = compare_logits(base, [tuned], 512, adapter=path)
    assert found.mean_kl < 1e-3
    assert found.top1_agreement >= 0.99
    assert compare_logits(base, [tuned], 512).mean_kl > 0.02
    assert metadata(path)["adapter.lora.alpha"] == pytest.approx(8.0)
    assert adapter_files.check_gguf(model, adapter, path) > 0


def test_changed_gguf_adapter_is_not_proven(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", write_model(tmp_path / "m"))
    path = tmp_path / "adapter.gguf"
    adapter_files.write_gguf(tmp_path / "m", adapter, path, "")
    assert adapter_files.check_gguf(tmp_path / "m", adapter, path) == 21
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # in the last factor
    path.write_bytes(content)
    with pytest.raises(ExportNotProven, match="lora_b"):
        adapter_files.check_gguf(tmp_path / "m", adapter, path)
    louder = write_adapter(tmp_path / "louder", write_model(tmp_path / "m2"))
    edit_json(louder / "adapter_config.json", lora_parameters={"rank": 4, "scale": 4.0})
    with pytest.raises(ExportNotProven, match="alpha"):
        adapter_files.check_gguf(tmp_path / "m", louder, path)


# Its formula is of single matrices: joined ones, several sizes, layers without attention.
@pytest.mark.parametrize("family", sweep(FAMILIES, ("llama 3", "phi3", "gemma4", "qwen3.5")))
def test_peft_formula_gives_mlx_lms_tuned_model(tmp_path: Path, family: str) -> None:
    model, folder = tmp_path / "m", tmp_path / "peft"
    adapter = write_adapter(tmp_path / "adapter", write_model(model, family, dtype=mx.float32))
    folder.mkdir()
    adapter_files.write_peft(model, adapter, folder, "base")
    untuned, tuned = reference(network_of(model)), reference(network_of(model, adapter))
    found = compare([(tuned, reference(with_peft(network_of(model), folder)).logits)])
    assert found.mean_kl < 1e-6
    assert found.top1_agreement >= 0.99
    assert compare([(tuned, untuned.logits)]).mean_kl > 0.02


def with_peft(network: nn.Module, folder: Path) -> nn.Module:
    """The network with what peft adds to its weights: alpha / r * (B @ A)."""
    settings = json.loads((folder / "adapter_config.json").read_text())
    tensors = mx.load(str(folder / "adapter_model.safetensors"))
    weights = dict(tree_flatten(network.parameters()))
    for module in settings["target_modules"]:
        down, up = (tensors[f"base_model.model.{module}.lora_{half}.weight"] for half in "AB")
        rank = settings["rank_pattern"].get(module, settings["r"])
        alpha = settings["alpha_pattern"].get(module, settings["lora_alpha"])
        assert down.shape[0] == up.shape[1] == rank
        added = alpha / rank * up @ down
        name = module.replace("model.language_model", "language_model.model")
        parts = mlx_names(f"{name}.weight")
        for part, own in zip(parts, mx.split(added, len(parts)), strict=True):
            weights[part] += own
    network.load_weights(list(weights.items()))
    return network


def test_peft_folder_names_every_changed_module(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", write_model(tmp_path / "m"))
    adapter_files.write_peft(tmp_path / "m", adapter, tmp_path, "base")
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert len(settings["target_modules"]) == 21
    assert adapter_files.check_peft(tmp_path / "m", adapter, tmp_path) == 21


def test_changed_peft_folder_is_not_proven(tmp_path: Path) -> None:
    model = tmp_path / "m"
    adapter = write_adapter(tmp_path / "adapter", write_model(model))

    def refused() -> None:
        with pytest.raises(ExportNotProven):
            adapter_files.check_peft(model, adapter, tmp_path)

    def written() -> None:
        adapter_files.write_peft(model, adapter, tmp_path, "base")

    written()
    edit_json(tmp_path / "adapter_config.json", lora_alpha=4.0)
    refused()
    written()
    settings = files.read_json(tmp_path / "adapter_config.json")
    edit_json(tmp_path / "adapter_config.json", target_modules=settings["target_modules"][1:])
    refused()
    written()
    edit_json(tmp_path / "adapter_config.json", alpha_pattern={settings["target_modules"][0]: 1.0})
    refused()
    written()
    content = bytearray((tmp_path / "adapter_model.safetensors").read_bytes())
    content[-1] ^= 1  # the last factor's last row
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    refused()


def test_dora_makes_no_adapter_file(tmp_path: Path) -> None:
    model = tmp_path / "m"
    adapter = write_adapter(tmp_path / "adapter", write_model(model), kind="dora")
    with pytest.raises(AdapterMustBeFused, match="DORA"):
        adapter_files.write_gguf(model, adapter, tmp_path / "a.gguf", "")
    with pytest.raises(AdapterMustBeFused, match="safetensors"):
        adapter_files.write_peft(model, adapter, tmp_path, "")


def test_lora_of_an_embedding_makes_no_adapter_file(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", write_model(tmp_path / "m"))
    tensors = mx.load(str(adapter / "adapters.safetensors"))
    tensors["model.embed_tokens.lora_a"] = mx.ones((608, 4))
    tensors["model.embed_tokens.lora_b"] = mx.ones((4, 256))
    mx.save_safetensors(str(adapter / "adapters.safetensors"), tensors)
    with pytest.raises(AdapterMustBeFused, match="埋め込み層のLoRA"):
        adapter_files.write_gguf(tmp_path / "m", adapter, tmp_path / "a.gguf", "")


# --- fused -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_fused_folder_is_the_tuned_model(tmp_path: Path, kind: str) -> None:
    model, folder = tmp_path / "m", tmp_path / "fused"
    config = write_model(model, dtype=mx.float32)
    adapter = write_adapter(tmp_path / "adapter", config, kind=kind)
    folder.mkdir()
    fused.write(model, adapter, folder, "pt")
    expected = reference(network_of(model, adapter))
    np.testing.assert_allclose(reference(network_of(folder)).logits, expected.logits, atol=2e-3)
    assert (folder / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()


def test_fused_folder_leaves_out_a_head_that_repeats_the_embedding(tmp_path: Path) -> None:
    """It would be the embedding's before training."""
    model, folder = tmp_path / "m", tmp_path / "fused"
    adapter = write_adapter(tmp_path / "adapter", write_model(model))
    weights = mx.load(str(model / "model.safetensors"))
    repeated = {"lm_head.weight": weights["model.embed_tokens.weight"]}
    mx.save_safetensors(str(model / "model.safetensors"), {**weights, **repeated})
    folder.mkdir()
    fused.write(model, adapter, folder, "pt")
    assert mx.load(str(folder / "model.safetensors")).keys() == weights.keys()


@pytest.mark.parametrize("made_for", ["pt", "mlx"])
def test_fused_folder_says_whether_it_has_a_head_of_its_own(tmp_path: Path, made_for: str) -> None:
    """Of a base that is silent: mlx-lm's Llama would tie it and forget the head."""
    model, folder = tmp_path / "m", tmp_path / "fused"
    config = write_model(model, tie_word_embeddings=False)
    adapter = write_adapter(tmp_path / "adapter", config)
    del config["tie_word_embeddings"]
    write_json(model / "config.json", config)
    folder.mkdir()
    fused.write(model, adapter, folder, made_for)
    edit_json(model / "config.json", tie_word_embeddings=False)
    tuned = reference(network_of(model, adapter))
    assert compare([(tuned, reference(network_of(folder)).logits)]).mean_kl < 1e-4


def test_fused_folder_for_mlx_rotates_as_it_was_trained(tmp_path: Path) -> None:
    """Of a base with transformers 5's settings, which mlx-lm's Llama does not read."""
    model, folder = tmp_path / "m", tmp_path / "fused"
    config = write_model(model, rope_theta=500000.0)
    adapter = write_adapter(tmp_path / "adapter", config)
    tuned = reference(network_of(model, adapter))
    del config["rope_theta"]
    parameters = {"rope_type": "default", "rope_theta": 500000.0}
    write_json(model / "config.json", {**config, "rope_parameters": parameters})
    folder.mkdir()
    fused.write(model, adapter, folder, "mlx")
    assert compare([(tuned, reference(network_of(folder)).logits)]).mean_kl < 1e-4


def test_fused_folder_keeps_the_bases_type_in_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "SHARD_BYTES", 1_000_000)
    model = tmp_path / "m"
    adapter = write_adapter(tmp_path / "adapter", write_model(model, "gemma2", dtype=mx.bfloat16))
    folder = tmp_path / "fused"
    folder.mkdir()
    fused.write(model, adapter, folder, "pt")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    stored = {name: mx.load(str(folder / file))[name] for name, file in index["weight_map"].items()}
    assert {value.dtype for value in stored.values()} == {mx.bfloat16}
    network = network_of(model, adapter)
    name = "layers.1.mlp.up_proj"
    expected = network.model.layers[1].mlp.up_proj.fuse().weight.astype(mx.bfloat16)
    assert mx.array_equal(stored[f"model.{name}.weight"], expected)


def test_cancelled_fusing_stops(tmp_path: Path) -> None:
    def stop(step: Step) -> None:
        raise Interrupted()

    adapter = write_adapter(tmp_path / "adapter", write_model(tmp_path / "m"))
    with pytest.raises(Interrupted):
        fused.write(tmp_path / "m", adapter, tmp_path, "pt", stop)
    assert not (tmp_path / "model.safetensors").exists()


# --- quantized bases ---------------------------------------------------------------------


def test_adapter_on_a_four_bit_base_survives_in_every_format(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m")
    model, folder = tmp_path / "q", tmp_path / "fused"
    write_quantized(tmp_path / "m", model)
    adapter = write_adapter(tmp_path / "adapter", config)
    tuned = reference(network_of(model, adapter))
    paths = {quant: tmp_path / f"{quant}.gguf" for quant in ("F32", "Q8_0")}
    export_gguf(model, adapter, paths)
    assert compare_logits(paths["F32"], [tuned], 512).mean_kl < 1e-4
    assert compare_logits(paths["Q8_0"], [tuned], 512).mean_kl < 0.05
    folder.mkdir()
    fused.write(model, adapter, folder, "mlx")
    assert "quantization" not in read_config(folder)
    np.testing.assert_allclose(reference(network_of(folder)).logits, tuned.logits, atol=2e-3)


@pytest.mark.parametrize("kind", ["dora", "full"])
def test_what_changes_whole_weights_is_fused_into_the_gguf_file(tmp_path: Path, kind: str) -> None:
    model, adapter = tmp_path / "m", tmp_path / "adapter"
    config = write_model(model)
    if kind == "dora":
        write_adapter(adapter, config, kind="dora")
    else:
        write_model(tmp_path / "other", seed=9)
        adapter.mkdir()
        other = mx.load(str(tmp_path / "other" / "model.safetensors"))
        changed = {name: value for name, value in other.items() if ".layers.1." in name}
        mx.save_safetensors(str(adapter / "adapters.safetensors"), changed)
        (adapter / "adapter_config.json").write_text('{"fine_tune_type": "full"}')
    export_gguf(model, adapter, {"F32": tmp_path / "m.gguf"})
    tuned = reference(network_of(model, adapter))
    assert compare_logits(tmp_path / "m.gguf", [tuned], 512).mean_kl < 1e-4


# --- the proof ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", sweep(FAMILIES, DISTINCT))
def test_proof_of_some_layers_and_tokens_agrees_with_mlx_lm(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "VOCABULARY", 100)
    monkeypatch.setattr(proof, "BYTES", 4_500_000)
    model = tmp_path / "m"
    adapter = write_adapter(tmp_path / "adapter", write_model(model, family))
    extent = proof.extent(model, [TOKENS])
    assert 0 < extent.layers < extent.of_layers
    assert len(extent.tokens) < 608
    assert set(TOKENS) <= set(extent.tokens.tolist())
    network = network_of(model, adapter)
    del split_head.blocks(network)[extent.layers :]
    whole = reference(network)
    expected = Reference(extent.local(TOKENS), whole.logits[:, extent.tokens])
    before = set(tmp_path.rglob("*"))
    with proof.written(model, adapter, extent) as path:
        found = compare_logits(path, [expected], 512)
        assert set(tmp_path.rglob("*")) == before
    assert found.mean_kl < 1e-4
    assert found.top1_agreement >= 0.99


def test_large_models_are_proven_by_at_least_one_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "BYTES", 1)
    write_model(tmp_path / "m")
    write_model(tmp_path / "g", "gemma3")
    assert proof.extent(tmp_path / "m", [TOKENS]).layers == 1
    assert proof.extent(tmp_path / "g", [TOKENS]).layers == 6


# --- faults of single families -----------------------------------------------------------


def scaled(name: str, factor: float, offset: float) -> object:
    def change(tensors: dict[str, np.ndarray]) -> None:
        for key in [key for key in tensors if key.endswith(name)]:
            tensors[key] = tensors[key] * np.float32(factor) + np.float32(offset)

    return change


@pytest.mark.parametrize(
    ("family", "fault"),
    [
        ("gemma2", scaled("_norm.weight", 1, -1)),
        ("gemma3", scaled("attn_q_norm.weight", 1, -1)),
        ("qwen2", scaled("attn_q.bias", 0, 0)),
        ("phi3", scaled("rope_factors_long.weight", 0, 1)),
        ("llama 3", scaled("rope_freqs.weight", 0, 1)),
    ],
)
def test_faults_of_values_show_in_the_comparison_with_the_weights(
    tmp_path: Path, family: str, fault: object
) -> None:
    write_model(tmp_path / "m", family)
    export_gguf(tmp_path / "m", None, {"F16": tmp_path / "m.gguf"})
    original = sources(tmp_path / "m", read_config(tmp_path / "m"), None)
    true = gguf_reader.read(tmp_path / "m.gguf")
    assert tensor_error.problems(true, tensor_error.errors(true, original)) == []
    faulty = gguf_reader.read(
        rewrite(tmp_path / "m.gguf", tmp_path / "f.gguf", change_tensors=fault)
    )
    assert tensor_error.problems(faulty, tensor_error.errors(faulty, original))


@pytest.mark.parametrize("quant", ["Q8_0", "Q6_K", "Q5_K_S", "Q4_K_S", "IQ4_XS", "Q3_K_L", "Q2_K"])
def test_quantization_errors_stay_within_their_bounds(tmp_path: Path, quant: str) -> None:
    write_model(tmp_path / "m", "qwen3")
    export_gguf(tmp_path / "m", None, {quant: tmp_path / "m.gguf"})
    file = gguf_reader.read(tmp_path / "m.gguf")
    original = sources(tmp_path / "m", read_config(tmp_path / "m"), None)
    found = tensor_error.errors(file, original)
    assert len(found) == len(file.tensors)
    assert tensor_error.problems(file, found) == []
    assert max(found.values()) > 1e-3


def test_reader_agrees_with_ggufs_own(tmp_path: Path) -> None:
    write_model(tmp_path / "m", "qwen2")
    export_gguf(tmp_path / "m", None, {"Q4_K_M": tmp_path / "m.gguf"})
    file = gguf_reader.read(tmp_path / "m.gguf")
    assert file.metadata == metadata(tmp_path / "m.gguf")
    for name, expected in values(tmp_path / "m.gguf").items():
        found = file.tensors[name]
        np.testing.assert_array_equal(found.values().reshape(found.shape), expected)
    alone = gguf_reader.read_tensors(tmp_path / "m.gguf")
    assert alone.keys() == file.tensors.keys()
    for name, found in alone.items():
        assert (found.shape, found.kind) == (file.tensors[name].shape, file.tensors[name].kind)
        np.testing.assert_array_equal(found.data, file.tensors[name].data)


# --- advice ------------------------------------------------------------------------------


def test_smallest_type_with_a_small_loss_is_recommended() -> None:
    good = [
        Candidate("Q8_0", 800, 0.001, 0.99, 0.001),
        Candidate("Q4_K_M", 400, 0.03, 0.95, 0.02),
        Candidate("Q3_K_M", 300, 0.3, 0.8, 0.2),
    ]
    assert advice.recommended(good).quant == "Q4_K_M"
    often_another_word = Candidate("Q2_K", 200, 0.08, 0.9, 0.015)
    assert advice.recommended([*good, often_another_word]).quant == "Q4_K_M"
    assert advice.recommended(good[2:]).quant == "Q3_K_M"
