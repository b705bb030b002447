"""GGUF files against independent routes: NumPy transforms, gguf's reader, mlx-lm's logits."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from gguf import GGUFReader
from mlx_lm.utils import load_adapters, load_model

from mlx_finetuning.errors import (
    AdapterUnusable,
    ArchitectureUnsupported,
    DiskFull,
    Interrupted,
    ModelSettingUnsupported,
    ModelUnloadable,
    NonFiniteWeights,
    NotEnoughSpace,
    WeightsIncomplete,
)
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.progress import Step
from mlx_finetuning.quantizer.families.family import llama3_rope_factors
from mlx_finetuning.quantizer.llama_cpp import ggml
from mlx_finetuning.quantizer.verify.parity import LogitParity, Reference, compare_logits
from mlx_finetuning.quantizer.write.export import export_gguf
from support.gguf_files import metadata, types, values
from support.helpers import file_size_limit
from support.small_models import (
    FAMILIES,
    LLAMA3_ROPE,
    edit_json,
    shapes,
    write_adapter,
    write_json,
    write_model,
)
from support.sweeps import sweep

TOKENS = np.random.default_rng(5).integers(0, 600, (1, 448)).tolist()


def mlx_references(model: Path, adapter: Path | None = None) -> list[Reference]:
    """Logits by mlx-lm itself, in float32."""
    network, _ = load_model(model)
    network.set_dtype(mx.float32)
    if adapter is not None:
        network = load_adapters(network, str(adapter))
    return [
        Reference(tokens, np.array(network(mx.array([tokens]))[0].astype(mx.float32)))
        for tokens in TOKENS
    ]


def exported(model: Path, quant: str = "F32", adapter: Path | None = None) -> Path:
    path = model.parent / f"{model.name}-{quant}.gguf"
    export_gguf(model, adapter, {quant: path})
    return path


def parity(gguf: Path, references: list[Reference]) -> LogitParity:
    return compare_logits(gguf, references, context=512)


def numpy_permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's row order, spelled out: within a head, row 2i is i and row 2i + 1 is i + half."""
    rows = np.split(weight, heads)
    half = rows[0].shape[0] // 2
    return np.concatenate(
        [np.stack([head[:half], head[half:]], axis=1).reshape(head.shape) for head in rows]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_mlx_lms(tmp_path: Path, family: str) -> None:
    write_model(tmp_path / "m", family)
    result = parity(exported(tmp_path / "m"), mlx_references(tmp_path / "m"))
    assert result.tokens == 448
    assert result.mean_kl < 1e-4
    assert result.top1_agreement >= 0.99
    assert result.perplexity_gguf == pytest.approx(result.perplexity_reference, rel=0.01)


@pytest.mark.parametrize("quant", ["F16", "Q8_0"])
def test_logits_with_an_adapter_equal_mlx_lms(tmp_path: Path, quant: str) -> None:
    config = write_model(tmp_path / "m")
    adapter = write_adapter(tmp_path / "adapter", config)
    tuned = mlx_references(tmp_path / "m", adapter)
    result = parity(exported(tmp_path / "m", quant, adapter), tuned)
    assert result.mean_kl < (1e-3 if quant == "F16" else 0.05)
    assert parity(exported(tmp_path / "m"), tuned).mean_kl > 0.5


def test_tensors_equal_transforms_in_plain_numpy(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m", dtype=mx.bfloat16, tie_word_embeddings=False)
    weights = mx.load(str(tmp_path / "m" / "model.safetensors"))
    found = values(exported(tmp_path / "m"))
    assert len(found) == len(shapes(config))
    layer = "model.layers.1."
    pairs = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output.weight": "lm_head.weight",
        "output_norm.weight": "model.norm.weight",
        "blk.1.attn_norm.weight": f"{layer}input_layernorm.weight",
        "blk.1.ffn_norm.weight": f"{layer}post_attention_layernorm.weight",
        "blk.1.attn_v.weight": f"{layer}self_attn.v_proj.weight",
        "blk.1.attn_output.weight": f"{layer}self_attn.o_proj.weight",
        "blk.1.ffn_gate.weight": f"{layer}mlp.gate_proj.weight",
        "blk.1.ffn_up.weight": f"{layer}mlp.up_proj.weight",
        "blk.1.ffn_down.weight": f"{layer}mlp.down_proj.weight",
    }
    original = {name: np.array(value.astype(mx.float32)) for name, value in weights.items()}
    for name, source in pairs.items():
        np.testing.assert_array_equal(found[name], original[source], err_msg=name)
    for name, heads in (("q", 4), ("k", 2)):
        expected = numpy_permuted(original[f"{layer}self_attn.{name}_proj.weight"], heads)
        np.testing.assert_array_equal(found[f"blk.1.attn_{name}.weight"], expected)


def test_quantized_tensors_are_the_kernels_output_for_the_f32_files(tmp_path: Path) -> None:
    write_model(tmp_path / "m", dtype=mx.float32)
    paths = {quant: tmp_path / f"{quant}.gguf" for quant in ("F32", "Q8_0", "Q5_K_M", "Q4_K_M")}
    export_gguf(tmp_path / "m", None, paths)
    plain = values(paths["F32"])
    for quant in ("Q8_0", "Q5_K_M", "Q4_K_M"):
        for tensor in GGUFReader(paths[quant]).tensors:
            rows = plain[tensor.name].reshape(-1, plain[tensor.name].shape[-1])
            expected = ggml.quantize(np.ascontiguousarray(rows), tensor.tensor_type)
            np.testing.assert_array_equal(
                tensor.data.view(np.uint8).reshape(expected.shape), expected, err_msg=tensor.name
            )


def test_importance_reaches_the_kernels_by_the_models_own_names(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m", dtype=mx.float32)
    paths = {quant: tmp_path / f"{quant}.gguf" for quant in ("F32", "Q3_K_M")}
    random = np.random.default_rng(6)
    importance = {
        name: random.random(shape[1], np.float32)
        for name, shape in shapes(config).items()
        if name.endswith("_proj.weight")
    }
    export_gguf(tmp_path / "m", None, paths, importance=importance)
    plain = values(paths["F32"])
    sources = {
        "blk.1.attn_q.weight": "model.layers.1.self_attn.q_proj.weight",
        "blk.2.ffn_down.weight": "model.layers.2.mlp.down_proj.weight",
        "token_embd.weight": "",
    }
    stored = {tensor.name: tensor for tensor in GGUFReader(paths["Q3_K_M"]).tensors}
    for name, source in sources.items():
        kind = stored[name].tensor_type
        expected = ggml.quantize(plain[name], kind, importance.get(source))
        found = stored[name].data.view(np.uint8).reshape(expected.shape)
        np.testing.assert_array_equal(found, expected)
    assert metadata(paths["Q3_K_M"])["quantize.imatrix.entries_count"] == 21


def test_types_of_a_small_q4_k_m_file(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    found = types(exported(tmp_path / "m", "Q4_K_M"))
    assert found["token_embd.weight"] == "Q6_K"  # tied: it is the output head
    assert [found[f"blk.{layer}.attn_v.weight"] for layer in range(3)] == ["Q4_K", "Q4_K", "Q6_K"]
    assert found["blk.0.attn_q.weight"] == "Q4_K"
    assert found["blk.0.attn_norm.weight"] == "F32"


def test_metadata_is_what_llama_cpp_writes(tmp_path: Path) -> None:
    write_model(tmp_path / "m", **FAMILIES["llama 3"])
    found = metadata(exported(tmp_path / "m", "Q4_K_M"))
    expected = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.file_type": 15,
        "general.quantization_version": 2,
        "llama.block_count": 3,
        "llama.context_length": 1024,
        "llama.embedding_length": 256,
        "llama.feed_forward_length": 512,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 64,
        "llama.attention.value_length": 64,
        "llama.rope.dimension_count": 64,
        "llama.rope.freq_base": 500000.0,
        "llama.vocab_size": 608,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)


def test_rope_factors_divide_slow_frequencies_only(tmp_path: Path) -> None:
    write_model(tmp_path / "m", **FAMILIES["llama 3"])
    factors = values(exported(tmp_path / "m"))["rope_freqs.weight"]
    assert factors.shape == (32,)
    assert factors[0] == 1.0
    assert factors[-1] == 8.0
    assert np.all(np.diff(factors) >= 0)


@pytest.mark.parametrize(
    ("size", "factor", "expected"),
    [
        (64, 32.0, ["0x1.a6bd84p+0", "0x1.a568dep+1", "0x1.3555dcp+3"]),
        (
            128,
            8.0,
            [
                "0x1.351daap+0",
                "0x1.8dac94p+0",
                "0x1.035e3ap+1",
                "0x1.58e65cp+1",
                "0x1.d7959cp+1",
                "0x1.50780cp+2",
            ],
        ),
    ],
    ids=["Llama 3.2 1B", "Llama 3.1 8B"],
)
def test_rope_factors_are_llama_cpps_to_the_last_bit(
    size: int, factor: float, expected: list[str]
) -> None:
    """Those between 1 and the factor, as its converter wrote them."""
    settings = {
        "rope_theta": 500000.0,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    found = llama3_rope_factors(size, settings).tolist()
    assert [one for one in found if one not in (1.0, factor)] == [
        float.fromhex(one) for one in expected
    ]


def test_newer_rope_parameters_give_the_same_file(tmp_path: Path) -> None:
    write_model(tmp_path / "old", rope_theta=500000.0, rope_scaling=LLAMA3_ROPE)
    newer = {"rope_theta": None, "rope_parameters": {**LLAMA3_ROPE, "rope_theta": 500000.0}}
    write_model(tmp_path / "new", **newer)
    old, new = exported(tmp_path / "old"), exported(tmp_path / "new")
    assert {**metadata(old), "general.name": ""} == {**metadata(new), "general.name": ""}
    np.testing.assert_array_equal(
        values(old)["rope_freqs.weight"], values(new)["rope_freqs.weight"]
    )


HEADS = ("llama 3", "qwen2", "qwen3", "gemma3", "phi4")
"""Families whose classes in mlx-lm take the tie from the settings, from the weights, or by default."""
MISTAKEN = (*((family, True) for family in HEADS), ("llama 3", None), ("gemma3", False))
"""Settings that deny a head, in each of them; that are silent or right, where the class ties by default."""


def add_head(model: Path, *, own: bool) -> None:
    """An output head among the weights: one of its own, or the embedding again."""
    path = model / "model.safetensors"
    weights = dict(mx.load(str(path)))
    embedding = weights["model.embed_tokens.weight"]
    noise = 0.1 * mx.random.normal(embedding.shape, key=mx.random.key(7))
    head = noise.astype(embedding.dtype) if own else embedding
    mx.save_safetensors(str(path), {**weights, "lm_head.weight": head})


def our_reference(model: Path) -> list[Reference]:
    """Logits of the model as it is trained."""
    network = load(model).model
    return [Reference(tokens, np.array(network(mx.array([tokens]))[0])) for tokens in TOKENS]


@pytest.mark.parametrize(
    ("family", "said"), sweep(itertools.product(HEADS, (True, False, None)), MISTAKEN)
)
def test_head_of_its_own_is_trained_and_written(
    tmp_path: Path, family: str, said: bool | None
) -> None:
    """Whatever the settings say, as transformers and llama.cpp's converter do."""
    write_model(tmp_path / "m", family, tie_word_embeddings=True)
    add_head(tmp_path / "m", own=True)
    say(tmp_path / "m", tie_word_embeddings=said)
    path = exported(tmp_path / "m")
    head = np.array(mx.load(str(tmp_path / "m" / "model.safetensors"))["lm_head.weight"])
    np.testing.assert_array_equal(values(path)["output.weight"], head)
    assert parity(path, our_reference(tmp_path / "m")).mean_kl < 1e-4
    assert types(exported(tmp_path / "m", "Q4_K_M"))["token_embd.weight"] == "Q4_K"


@pytest.mark.parametrize("family", sweep(HEADS, ("llama 3", "gemma3")))
def test_head_that_repeats_a_tied_embedding_is_left_out(tmp_path: Path, family: str) -> None:
    write_model(tmp_path / "m", family, tie_word_embeddings=True)
    add_head(tmp_path / "m", own=False)
    path = exported(tmp_path / "m")
    # mlx-lm's Gemma 3 trains a head that is there.
    assert ("output.weight" in types(path)) == (family == "gemma3")
    assert parity(path, our_reference(tmp_path / "m")).mean_kl < 1e-4


@pytest.mark.parametrize("family", sweep(HEADS, ("qwen2", "phi4")))
def test_settings_that_are_silent_tie_where_there_is_no_head(tmp_path: Path, family: str) -> None:
    write_model(tmp_path / "m", family, tie_word_embeddings=True)
    say(tmp_path / "m", tie_word_embeddings=None)
    path = exported(tmp_path / "m")
    assert "output.weight" not in types(path)
    assert parity(path, our_reference(tmp_path / "m")).mean_kl < 1e-4
    assert types(exported(tmp_path / "m", "Q4_K_M"))["token_embd.weight"] == "Q6_K"


@pytest.mark.parametrize("own", [False, True])
def test_gemma_2_has_no_head_but_its_embedding(tmp_path: Path, own: bool) -> None:
    """llama.cpp and mlx-lm have no place for another."""
    write_model(tmp_path / "m", "gemma2")
    add_head(tmp_path / "m", own=own)
    if own:
        with pytest.raises(ModelSettingUnsupported, match="tie_word_embeddings"):
            exported(tmp_path / "m")
        with pytest.raises(ModelUnloadable):
            load(tmp_path / "m")
        return
    path = exported(tmp_path / "m")
    assert "output.weight" not in types(path)
    assert parity(path, our_reference(tmp_path / "m")).mean_kl < 1e-4


def say(model: Path, **settings: Any) -> None:
    """Change settings; None takes one away."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8")) | settings
    kept = {key: value for key, value in config.items() if value is not None}
    write_json(model / "config.json", kept)


ROPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama 3": ("llama 3", {**LLAMA3_ROPE, "rope_theta": 500000.0}),
    "linear": ("llama 2", {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}),
    "qwen2": ("qwen2", {"rope_type": "default", "rope_theta": 30000.0}),
    "gemma3": (
        "gemma3",
        {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0},
        },
    ),
    "phi3": (
        "phi3",
        {
            "rope_type": "longrope",
            "short_factor": [1.0] * 32,
            "long_factor": FAMILIES["phi3"]["rope_scaling"]["long_factor"],
            "rope_theta": 20000.0,
        },
    ),
}


@pytest.mark.parametrize(("family", "parameters"), ROPES.values(), ids=ROPES)
def test_transformers_5s_rope_parameters_are_trained_as_they_are_written(
    tmp_path: Path, family: str, parameters: dict[str, Any]
) -> None:
    """mlx-lm's own classes take these settings for silence, and rotate by their defaults."""
    write_model(tmp_path / "m", family)
    older = dict.fromkeys(("rope_theta", "rope_scaling", "rope_local_base_freq"))
    say(tmp_path / "m", **older, rope_parameters=parameters)
    path = exported(tmp_path / "m")
    assert parity(path, our_reference(tmp_path / "m")).mean_kl < 1e-4
    assert parity(path, mlx_references(tmp_path / "m")).mean_kl > 1e-2


# --- leaves nothing half-written ---------------------------------------------------------


def remaining(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("**/*") if path.is_file())


def test_cancelled_export_leaves_what_was_there_before(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    target = tmp_path / "out" / "m.gguf"
    target.parent.mkdir()
    target.write_text("前のファイル", encoding="utf-8")

    def stop_in_the_middle(step: Step) -> None:
        if step.done * 2 > step.total:
            raise Interrupted()

    with pytest.raises(Interrupted):
        export_gguf(tmp_path / "m", None, {"Q4_K_M": target}, stop_in_the_middle)
    assert remaining(target.parent) == ["m.gguf"]
    assert target.read_text(encoding="utf-8") == "前のファイル"


def test_files_that_are_not_accepted_are_not_handed_over(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    seen: list[list[str]] = []

    def refuse(parts: dict[str, Path]) -> None:
        seen.extend([list(parts), [metadata(path)["general.name"] for path in parts.values()]])
        raise ArchitectureUnsupported(architecture="試験", supported=[])

    outputs = {quant: tmp_path / "out" / f"{quant}.gguf" for quant in ("F16", "Q8_0")}
    with pytest.raises(ArchitectureUnsupported):
        export_gguf(tmp_path / "m", None, outputs, accept=refuse, name="名前")
    assert seen == [["F16", "Q8_0"], ["名前", "名前"]]
    assert remaining(tmp_path / "out") == []


def test_full_disk_is_reported_and_nothing_is_left(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    with pytest.raises(DiskFull), file_size_limit(200_000):
        export_gguf(tmp_path / "m", None, {"F16": tmp_path / "out" / "m.gguf"})
    assert remaining(tmp_path / "out") == []


def test_short_space_is_found_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "m")
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(NotEnoughSpace):
        export_gguf(tmp_path / "m", None, {"F16": tmp_path / "out" / "m.gguf"})
    assert remaining(tmp_path / "out") == []


def test_progress_reaches_its_total(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m")
    steps: list[Step] = []
    export_gguf(tmp_path / "m", None, {"Q8_0": tmp_path / "m.gguf"}, steps.append)
    total = sum(int(np.prod(shape)) for shape in shapes(config).values())
    assert steps[-1].done == steps[-1].total == total
    assert [step.done for step in steps] == sorted(step.done for step in steps)


# --- refuses instead of guessing ---------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"architectures": ["GemmaForCausalLM"]}, ArchitectureUnsupported),
        ({"architectures": None}, ArchitectureUnsupported),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, ModelSettingUnsupported),
        ({"hidden_act": "gelu"}, ModelSettingUnsupported),
        ({"quantization_config": {"quant_method": "gptq"}}, ModelSettingUnsupported),
        ({"num_hidden_layers": 4}, WeightsIncomplete),
        ({"num_hidden_layers": 2}, WeightsIncomplete),
        ({"tie_word_embeddings": False}, WeightsIncomplete),
    ],
)
def test_models_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception]
) -> None:
    write_model(tmp_path / "m")
    edit_json(tmp_path / "m" / "config.json", **changes)
    with pytest.raises(error):
        exported(tmp_path / "m")
    assert not (tmp_path / "m-F32.gguf").exists()


def test_missing_setting_is_named(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m")
    del config["rms_norm_eps"]
    (tmp_path / "m" / "config.json").unlink()
    (tmp_path / "m" / "config.json").write_text(
        str(config).replace("'", '"').replace("True", "true")
    )
    with pytest.raises(ModelSettingUnsupported, match="rms_norm_eps"):
        exported(tmp_path / "m")


def test_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m")
    adapter = write_adapter(tmp_path / "adapter", {**config, "intermediate_size": 768})
    with pytest.raises(AdapterUnusable, match="mlp"):
        exported(tmp_path / "m", adapter=adapter)


def test_nan_in_a_weight_names_the_tensor(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    weights = dict(mx.load(str(path)))
    name = "model.layers.2.mlp.up_proj.weight"
    weights[name][3, 4] = float("nan")
    mx.save_safetensors(str(path), weights)
    with pytest.raises(NonFiniteWeights, match=r"blk\.2\.ffn_up\.weight"):
        exported(tmp_path / "m", "Q4_K_M")
