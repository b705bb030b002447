"""Mixtures of experts in GGUF: transforms in NumPy, proofs against mlx-lm, adapters, planted faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from mlx_lm.utils import load_adapters, load_model

from mlx_finetuning.errors import (
    ExpertsNotInPeft,
    ModelSettingUnsupported,
    ModelUnloadable,
    WeightsIncomplete,
    WeightsUnreadable,
)
from mlx_finetuning.mlx_trainer.inference import layerwise
from mlx_finetuning.mlx_trainer.model import split_head
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.quantizer.families import registry, tensor_types
from mlx_finetuning.quantizer.llama_cpp import ggml, inference
from mlx_finetuning.quantizer.verify import (
    diagnosis,
    proof,
    structure,
    tensor_error,
    verification,
)
from mlx_finetuning.quantizer.verify.parity import Reference, compare_logits
from mlx_finetuning.quantizer.vocabulary import tokenizer
from mlx_finetuning.quantizer.write import adapter_files, fused
from mlx_finetuning.quantizer.write.export import export_gguf, read_config, sources
from mlx_finetuning.utils import gguf_reader
from support import expert_models
from support.expert_models import ATTENTION, EXPERTS, GPT_OSS, QWEN3MOE, ROUTER, float32
from support.gguf_files import Tensors, Values, metadata, rewrite, types, values
from support.small_models import edit_json, write_quantized
from support.sweeps import sweep

TOKENS = np.random.default_rng(5).integers(0, 600, 448).tolist()
MODELS = {"qwen3moe": QWEN3MOE, "gpt-oss": GPT_OSS}


def network_of(model: Path, adapter: Path | None = None) -> nn.Module:
    network = float32(load_model(model)[0])
    return network if adapter is None else load_adapters(network, str(adapter))


def reference(network: nn.Module) -> Reference:
    return Reference(TOKENS, np.array(network(mx.array([TOKENS]))[0].astype(mx.float32)))


@pytest.fixture(scope="module", params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "m"
    expert_models.write(folder, MODELS[request.param])
    return folder


@pytest.fixture(scope="module")
def adapter(folder: Path) -> Path:
    return expert_models.write_adapter(folder.parent / "adapter", folder)


def stored(folder: Path) -> dict[str, np.ndarray]:
    """The folder's weights; bytes as they are, all else in float32."""
    found = mx.load(str(folder / "model.safetensors"))
    return {
        name: np.array(value if value.dtype == mx.uint8 else value.astype(mx.float32))
        for name, value in found.items()
    }


# --- values ------------------------------------------------------------------------------


def test_logits_equal_mlx_lms(folder: Path, written: Path) -> None:
    found = compare_logits(written, [reference(network_of(folder))], 512)
    assert found.mean_kl < 1e-7
    assert found.top1_agreement >= 0.99


def test_settings_of_another_llama_cpp_leave_attention_in_half_precision(
    folder: Path, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = compare_logits(written, [reference(network_of(folder))], 512)
    monkeypatch.setitem(inference._AS_KNOWN, 22, 7)
    found = compare_logits(written, [reference(network_of(folder))], 512)
    assert 20 * exact.mean_kl < found.mean_kl < 1e-3


@pytest.mark.parametrize("quant", sweep(("F32", "F16"), ("F16",)))
def test_logits_with_an_adapter_equal_mlx_lms(
    tmp_path: Path, folder: Path, adapter: Path, written: Path, quant: str
) -> None:
    tuned = reference(network_of(folder, adapter))
    export_gguf(folder, adapter, {quant: tmp_path / "m.gguf"})
    assert compare_logits(tmp_path / "m.gguf", [tuned], 512).mean_kl < 1e-3
    assert compare_logits(written, [tuned], 512).mean_kl > 0.02


def test_experts_of_qwen_are_stacked_by_their_numbers(tmp_path: Path) -> None:
    # Names sort 10 before 2.
    expert_models.write(tmp_path / "m", QWEN3MOE, num_experts=12)
    export_gguf(tmp_path / "m", None, {"F32": tmp_path / "m.gguf"})
    original, found = stored(tmp_path / "m"), values(tmp_path / "m.gguf")
    for part in ("gate", "up", "down"):
        expected = np.stack(
            [original[f"model.layers.1.mlp.experts.{e}.{part}_proj.weight"] for e in range(12)]
        )
        np.testing.assert_array_equal(found[f"blk.1.ffn_{part}_exps.weight"], expected)
    router = original["model.layers.1.mlp.gate.weight"]
    np.testing.assert_array_equal(found["blk.1.ffn_gate_inp.weight"], router)
    assert len(found) == 3 + 3 * 12  # nothing else


FP4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]


def by_hand(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """[…, groups, 16] bytes and […, groups] exponents → values, number by number."""
    groups = blocks.reshape(-1, 16)
    rows = [
        [FP4[half] * 2.0 ** (int(scale) - 127) for byte in group for half in (byte & 15, byte >> 4)]
        for group, scale in zip(groups.tolist(), scales.reshape(-1), strict=True)
    ]
    return np.array(rows, np.float32).reshape(*blocks.shape[:-2], -1)


def test_rows_of_gpt_oss_lie_in_turns_and_keep_their_four_bits(tmp_path: Path) -> None:
    expert_models.write(tmp_path / "m", GPT_OSS)
    paths = {quant: tmp_path / f"{quant}.gguf" for quant in ("F32", "Q8_0", "Q4_K_M")}
    export_gguf(tmp_path / "m", None, paths)
    original, layer = stored(tmp_path / "m"), "model.layers.1.mlp.experts."
    whole = by_hand(
        original[f"{layer}gate_up_proj_blocks"], original[f"{layer}gate_up_proj_scales"]
    )
    down = by_hand(original[f"{layer}down_proj_blocks"], original[f"{layer}down_proj_scales"])
    bias = original[f"{layer}gate_up_proj_bias"]
    for path in paths.values():
        found = values(path)
        np.testing.assert_array_equal(found["blk.1.ffn_gate_exps.weight"], whole[:, ::2])
        np.testing.assert_array_equal(found["blk.1.ffn_up_exps.weight"], whole[:, 1::2])
        np.testing.assert_array_equal(found["blk.1.ffn_down_exps.weight"], down)
        np.testing.assert_array_equal(found["blk.1.ffn_gate_exps.bias"], bias[:, ::2])
        np.testing.assert_array_equal(found["blk.1.ffn_up_exps.bias"], bias[:, 1::2])
    kinds = types(paths["Q4_K_M"])
    assert kinds["blk.1.ffn_up_exps.weight"] == "MXFP4"
    assert kinds["blk.1.ffn_up_exps.bias"] == kinds["blk.1.attn_sinks.weight"] == "F32"
    assert types(paths["F32"])["blk.1.ffn_up_exps.weight"] == "F32"


def test_experts_that_were_trained_are_not_put_back_into_four_bits(tmp_path: Path) -> None:
    expert_models.write(tmp_path / "m", GPT_OSS)
    trained = expert_models.write_adapter(tmp_path / "a", tmp_path / "m", (EXPERTS["gpt_oss"][2],))
    export_gguf(tmp_path / "m", trained, {"Q8_0": tmp_path / "m.gguf"})
    kinds = types(tmp_path / "m.gguf")
    assert kinds["blk.0.ffn_down_exps.weight"] == "Q8_0"
    assert kinds["blk.0.ffn_up_exps.weight"] == "MXFP4"


@pytest.mark.parametrize(
    ("settings", "rotation"),
    [
        (QWEN3MOE, {"rope_type": "default"}),
        (GPT_OSS, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}),
    ],
    ids=MODELS,
)
def test_rotation_under_transformers_5s_names_is_trained_and_written(
    tmp_path: Path, settings: dict[str, Any], rotation: dict[str, Any]
) -> None:
    """mlx-lm's classes do not know `rope_parameters`."""
    rope_parameters = {**rotation, "rope_theta": 5000.0}
    expert_models.write(tmp_path / "m", settings)
    config = {key: value for key, value in settings.items() if not key.startswith("rope_")}
    expert_models.write_json(
        tmp_path / "m" / "config.json", {**config, "rope_parameters": rope_parameters}
    )
    export_gguf(tmp_path / "m", None, {"F32": tmp_path / "m.gguf"})
    trained = reference(load(tmp_path / "m").model)
    assert compare_logits(tmp_path / "m.gguf", [trained], 512).mean_kl < 1e-7
    assert metadata(tmp_path / "m.gguf")[f"{prefix_of(tmp_path / 'm.gguf')}.rope.freq_base"] == 5000


def test_rotation_that_mlx_lm_does_not_read_is_refused_before_training(tmp_path: Path) -> None:
    expert_models.write(tmp_path / "m", QWEN3MOE, rope_scaling={"rope_type": "yarn", "factor": 4.0})
    with pytest.raises(ModelUnloadable, match="rope_scaling"):
        load(tmp_path / "m")


def prefix_of(path: Path) -> str:
    return str(metadata(path)["general.architecture"])


# --- metadata and types ------------------------------------------------------------------


def test_metadata_is_what_llama_cpp_writes(folder: Path, written: Path) -> None:
    expected = {
        "qwen3_moe": {
            "general.architecture": "qwen3moe",
            "qwen3moe.expert_count": 6,
            "qwen3moe.expert_used_count": 4,
            "qwen3moe.expert_feed_forward_length": 96,
            "qwen3moe.feed_forward_length": 128,
            "qwen3moe.attention.key_length": 32,
        },
        "gpt_oss": {
            "general.architecture": "gpt-oss",
            "gpt-oss.expert_count": 6,
            "gpt-oss.expert_used_count": 4,
            "gpt-oss.expert_feed_forward_length": 96,
            "gpt-oss.attention.sliding_window": 16,
            "gpt-oss.rope.freq_base": 150000.0,
            "gpt-oss.rope.scaling.type": "yarn",
            "gpt-oss.rope.scaling.original_context_length": 128,
        },
    }[read_config(folder)["model_type"]]
    found = metadata(written)
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.parametrize(("factor", "found"), [(1.0, 1.0), (2.0, 2.0), (0.0, 0.0)])
def test_factor_of_an_adapter_is_seen_where_attention_was_trained(
    tmp_path: Path, factor: float, found: float
) -> None:
    """Four-bit experts say nothing of it in a coarse file: small changes are rounded away there."""
    expert_models.write(tmp_path / "m", GPT_OSS)
    trained = expert_models.write_adapter(tmp_path / "a", tmp_path / "m")
    weights = mx.load(str(trained / "adapters.safetensors"))
    tiny = {name: value * (0.2 if "lora_b" in name else 1) for name, value in weights.items()}
    mx.save_safetensors(str(trained / "adapters.safetensors"), tiny)
    config = read_config(tmp_path / "m")
    base, tuned = sources(tmp_path / "m", config, None), sources(tmp_path / "m", config, trained)
    edit_json(trained / "adapter_config.json", lora_parameters={"scale": 2.0 * factor})
    export_gguf(tmp_path / "m", trained, {"Q4_K_M": tmp_path / "m.gguf"})
    file = gguf_reader.read(tmp_path / "m.gguf")
    assert diagnosis.adapter_scale(file, base, tuned) == pytest.approx(found, abs=0.1)


def outline(experts: int) -> tensor_types.Outline:
    return tensor_types.Outline(layers=32, tied=False, sharing=4, experts=experts)


@pytest.mark.parametrize(
    ("quant", "role", "layer", "of_eight", "of_many"),
    [
        ("Q4_K_M", "attn_v", 5, Type.Q8_0, Type.Q4_K),
        ("Q4_K_M", "attn_k", 5, Type.Q8_0, Type.Q4_K),
        ("Q4_K_M", "attn_output", 5, Type.Q5_K, Type.Q4_K),
        ("Q4_K_M", "ffn_down_exps", 0, Type.Q6_K, Type.Q6_K),
        ("Q4_K_M", "ffn_down_exps", 5, Type.Q4_K, Type.Q4_K),
        ("Q4_K_M", "ffn_gate_inp", 5, Type.F32, Type.F32),
        ("Q6_K", "attn_v", 5, Type.Q8_0, Type.Q6_K),
        ("Q5_K_M", "attn_output", 5, Type.Q5_K, Type.Q5_K),
        ("Q3_K_L", "attn_output", 5, Type.Q3_K, Type.Q5_K),
        ("Q3_K_M", "attn_output", 5, Type.Q5_K, Type.Q4_K),
        ("Q2_K", "attn_output", 5, Type.Q5_K, Type.Q3_K),
        ("IQ4_XS", "ffn_down_exps", 0, Type.Q5_K, Type.Q5_K),
        ("Q3_K_M", "ffn_down_exps", 0, Type.Q5_K, Type.Q5_K),
    ],
)
def test_types_follow_llama_cpps_recipe(
    quant: str, role: str, layer: int, of_eight: Type, of_many: Type
) -> None:
    name, shape = f"blk.{layer}.{role}.weight", (8, 512, 256)
    assert tensor_types.tensor_type(name, shape, quant, outline(8)) == of_eight
    assert tensor_types.tensor_type(name, shape, quant, outline(128)) == of_many


def test_quantized_experts_are_the_kernels_output_for_each(folder: Path, tmp_path: Path) -> None:
    paths = {quant: tmp_path / f"{quant}.gguf" for quant in ("F32", "Q5_K_M")}
    model_type = read_config(folder)["model_type"]
    trained = expert_models.write_adapter(tmp_path / "a", folder, EXPERTS[model_type])
    export_gguf(folder, trained, paths)
    plain = values(paths["F32"])["blk.1.ffn_down_exps.weight"]
    found = gguf_reader.read(paths["Q5_K_M"]).tensors["blk.1.ffn_down_exps.weight"]
    assert found.kind == Type.Q5_1  # 96 columns
    each = [ggml.quantize(np.ascontiguousarray(one), found.kind) for one in plain]
    np.testing.assert_array_equal(found.data, np.concatenate(each))


# --- other folders, other formats --------------------------------------------------------


@pytest.mark.parametrize("bits", sweep((4, 8), (4,)))
def test_folder_of_mlx_lm_gives_its_own_logits(tmp_path: Path, bits: int) -> None:
    expert_models.write(tmp_path / "m", QWEN3MOE)
    write_quantized(tmp_path / "m", tmp_path / "q", bits=bits, group_size=32)
    trained = expert_models.write_adapter(tmp_path / "a", tmp_path / "q")
    export_gguf(tmp_path / "q", trained, {"F32": tmp_path / "q.gguf"})
    tuned = reference(network_of(tmp_path / "q", trained))
    assert compare_logits(tmp_path / "q.gguf", [tuned], 512).mean_kl < 1e-4


def test_folder_of_mlx_lm_keeps_gpt_oss_in_four_bits(tmp_path: Path) -> None:
    expert_models.write(tmp_path / "m", GPT_OSS)
    network, config = load_model(tmp_path / "m")
    (tmp_path / "q").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "q" / name).write_bytes((tmp_path / "m" / name).read_bytes())
    expert_models.write_json(tmp_path / "q" / "config.json", config)
    network.save_weights(str(tmp_path / "q" / "model.safetensors"))
    assert config["quantization"]["mode"] == "mxfp4"
    for name in ("m", "q"):
        export_gguf(tmp_path / name, None, {"Q8_0": tmp_path / f"{name}.gguf"})
    first, second = (gguf_reader.read(tmp_path / f"{name}.gguf").tensors for name in "mq")
    assert first["blk.0.ffn_up_exps.weight"].kind == Type.MXFP4
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor.data, second[name].data, err_msg=name)


def test_gguf_adapter_on_its_base_is_the_tuned_model(
    tmp_path: Path, folder: Path, written: Path
) -> None:
    kind = read_config(folder)["model_type"]
    keys = (*ATTENTION, *EXPERTS[kind], ROUTER[kind])
    trained = expert_models.write_adapter(tmp_path / "a", folder, keys)
    adapter_files.write_gguf(folder, trained, tmp_path / "a.gguf", "名前")
    tuned = reference(network_of(folder, trained))
    found = compare_logits(written, [tuned], 512, adapter=tmp_path / "a.gguf")
    assert found.mean_kl < 1e-3
    assert compare_logits(written, [tuned], 512).mean_kl > 0.02
    assert adapter_files.check_gguf(folder, trained, tmp_path / "a.gguf") > 0


def test_peft_folder_holds_attention_and_refuses_experts(tmp_path: Path, folder: Path) -> None:
    kind = read_config(folder)["model_type"]
    trained = expert_models.write_adapter(tmp_path / "a", folder, ATTENTION)
    adapter_files.write_peft(folder, trained, tmp_path, "base")
    layers = read_config(folder)["num_hidden_layers"]
    assert adapter_files.check_peft(folder, trained, tmp_path) == 4 * layers
    for key in (EXPERTS[kind][0], ROUTER[kind]):
        refused = expert_models.write_adapter(tmp_path / "b", folder, (*ATTENTION, key))
        with pytest.raises(ExpertsNotInPeft, match="attention"):
            adapter_files.write_peft(folder, refused, tmp_path, "base")


def test_fused_folder_is_the_tuned_model(tmp_path: Path, folder: Path, adapter: Path) -> None:
    (tmp_path / "fused").mkdir()
    fused.write(folder, adapter, tmp_path / "fused", "mlx")
    found = layerwise.logits(tmp_path / "fused", None, [TOKENS])[0]
    tuned = reference(network_of(folder, adapter))
    kl = fused_kl(tuned.logits, found)
    assert kl < 5e-3  # rounded to the base's 16 bits
    assert fused_kl(reference(network_of(folder)).logits, found) > 0.02


def fused_kl(expected: np.ndarray, found: np.ndarray) -> float:
    first, second = (np.array(nn.log_softmax(mx.array(one))) for one in (expected, found))
    return float((np.exp(first) * (first - second)).sum(-1).mean())


def test_fused_experts_keep_the_names_of_the_folder(tmp_path: Path) -> None:
    expert_models.write(tmp_path / "m", QWEN3MOE)
    trained = expert_models.write_adapter(tmp_path / "a", tmp_path / "m")
    (tmp_path / "fused").mkdir()
    fused.write(tmp_path / "m", trained, tmp_path / "fused", "pt")
    before, after = stored(tmp_path / "m"), stored(tmp_path / "fused")
    assert before.keys() == after.keys()
    name = "model.layers.2.mlp.experts.5.up_proj"
    factors = mx.load(str(trained / "adapters.safetensors"))
    a, b = (np.array(factors[f"model.layers.2.mlp.switch_mlp.up_proj.lora_{h}"])[5] for h in "ab")
    expected = before[f"{name}.weight"] + 2.0 * b @ a
    np.testing.assert_allclose(after[f"{name}.weight"], expected, atol=0.02)


def test_fused_gpt_oss_is_for_mlx_only(tmp_path: Path) -> None:
    expert_models.write(tmp_path / "m", GPT_OSS)
    trained = expert_models.write_adapter(tmp_path / "a", tmp_path / "m", ATTENTION)
    with pytest.raises(ModelSettingUnsupported, match="gpt_oss"):
        fused.write(tmp_path / "m", trained, tmp_path, "pt")


# --- the proof ---------------------------------------------------------------------------


def test_proof_of_some_layers_and_tokens_agrees_with_mlx_lm(
    folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "VOCABULARY", 100)
    monkeypatch.setattr(proof, "BYTES", 1)
    extent = proof.extent(folder, [TOKENS])
    assert extent.layers == (2 if read_config(folder)["model_type"] == "gpt_oss" else 1)
    network = network_of(folder, adapter)
    del split_head.blocks(network)[extent.layers :]
    logits = reference(network).logits[:, extent.tokens]
    with proof.written(folder, adapter, extent) as path:
        found = compare_logits(path, [Reference(extent.local(TOKENS), logits)], 512)
    assert found.mean_kl < 1e-7
    assert found.top1_agreement >= 0.99


# --- planted faults ----------------------------------------------------------------------


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], None]:
    def plant(tensors: Tensors) -> None:
        for key in [key for key in tensors if key.endswith(name)]:
            tensors[key] = np.ascontiguousarray(change(tensors[key]))

    return plant


def gate_and_up_exchanged(tensors: Tensors) -> None:
    for key in [key for key in tensors if key.endswith("ffn_gate_exps.weight")]:
        other = key.replace("gate", "up")
        tensors[key], tensors[other] = tensors[other], tensors[key]


TENSOR_FAULTS = {
    "experts in another order": changed("ffn_down_exps.weight", lambda value: np.roll(value, 1, 0)),
    "routers in another order": changed("ffn_gate_inp.weight", lambda value: np.roll(value, 1, 0)),
    "one expert for all": changed(
        "ffn_up_exps.weight", lambda value: np.repeat(value[:1], len(value), axis=0)
    ),
    "gate and up exchanged": gate_and_up_exchanged,
}


@pytest.mark.parametrize("fault", TENSOR_FAULTS.values(), ids=TENSOR_FAULTS)
def test_faults_show_in_the_weights_and_in_the_logits(
    tmp_path: Path, folder: Path, written: Path, fault: Callable[[Tensors], None]
) -> None:
    faulty = rewrite(written, tmp_path / "faulty.gguf", change_tensors=fault)
    file, true = gguf_reader.read(faulty), sources(folder, read_config(folder), None)
    assert not tensor_error.problems(
        gguf_reader.read(written), tensor_error.errors(gguf_reader.read(written), true)
    )
    assert tensor_error.problems(file, tensor_error.errors(file, true))
    assert verification.proof_problems(compare_logits(faulty, [reference(network_of(folder))], 512))


GPT_OSS_FAULTS = {
    "sinks forgotten": changed("attn_sinks.weight", lambda value: value - 30),
    "biases of experts forgotten": changed("exps.bias", np.zeros_like),
    "bias of the router forgotten": changed("ffn_gate_inp.bias", np.zeros_like),
}


@pytest.mark.parametrize("fault", GPT_OSS_FAULTS.values(), ids=GPT_OSS_FAULTS)
def test_faults_of_gpt_oss_show(tmp_path: Path, fault: Callable[[Tensors], None]) -> None:
    expert_models.write(tmp_path / "m", GPT_OSS)
    export_gguf(tmp_path / "m", None, {"F32": tmp_path / "m.gguf"})
    faulty = rewrite(tmp_path / "m.gguf", tmp_path / "faulty.gguf", change_tensors=fault)
    found = compare_logits(faulty, [reference(network_of(tmp_path / "m"))], 512)
    assert verification.proof_problems(found)


@pytest.mark.parametrize("key", ["expert_used_count", "attention.layer_norm_rms_epsilon"])
def test_faults_of_settings_are_named(
    tmp_path: Path, folder: Path, written: Path, key: str
) -> None:
    prefix = metadata(written)["general.architecture"]

    def plant(found: Values) -> None:
        found[f"{prefix}.{key}"] = type(found[f"{prefix}.{key}"])(1)

    faulty = rewrite(written, tmp_path / "faulty.gguf", change_metadata=plant)
    config = read_config(folder)
    original = tokenizer.read(folder, config["vocab_size"], registry.of(config))
    true, wrong = (
        structure.inspect(gguf_reader.read(path), folder, config, original).problems
        for path in (written, faulty)
    )
    assert true == ()
    assert len(wrong) == 1 and key in wrong[0]


# --- refuses instead of guessing ---------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        (QWEN3MOE, {"norm_topk_prob": False}),
        (QWEN3MOE, {"mlp_only_layers": [0]}),
        (QWEN3MOE, {"decoder_sparse_step": 2}),
        (QWEN3MOE, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
        (GPT_OSS, {"layer_types": ["full_attention", "sliding_attention"] * 2}),
        (GPT_OSS, {"swiglu_limit": 5.0}),
        (GPT_OSS, {"quantization_config": {"quant_method": "fp8"}}),
    ],
    ids=str,
)
def test_settings_that_a_file_cannot_express_are_refused(
    tmp_path: Path, settings: dict[str, Any], changes: dict[str, Any]
) -> None:
    expert_models.write(tmp_path / "m", settings)
    edit_json(tmp_path / "m" / "config.json", **changes)
    with pytest.raises(ModelSettingUnsupported):
        export_gguf(tmp_path / "m", None, {"F16": tmp_path / "m.gguf"})


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
def test_missing_expert_is_named(tmp_path: Path, settings: dict[str, Any]) -> None:
    expert_models.write(tmp_path / "m", settings)
    path = tmp_path / "m" / "model.safetensors"
    weights = dict(mx.load(str(path)))
    gone = [name for name in weights if "layers.1." in name and "experts" in name][-1]
    del weights[gone]
    mx.save_safetensors(str(path), weights)
    with pytest.raises((WeightsIncomplete, WeightsUnreadable), match=r"layers\.1\.mlp"):
        export_gguf(tmp_path / "m", None, {"F16": tmp_path / "m.gguf"})
