"""Families that are Llama with a change, and text parts of models that see: planted faults, names."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_finetuning.errors import AdapterUnusable, ModelSettingUnsupported, WeightsIncomplete
from mlx_finetuning.mlx_trainer.inference import layerwise
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.quantizer.verify import structure, verification
from mlx_finetuning.quantizer.verify.parity import LogitParity, Reference, compare, compare_logits
from mlx_finetuning.quantizer.vocabulary import tokenizer
from mlx_finetuning.quantizer.write import fused, trained_weights
from mlx_finetuning.quantizer.write.export import export_gguf, read_config, stored_config
from mlx_finetuning.utils import gguf_reader
from support.gguf_files import Tensors, metadata, rewrite, types, values
from support.small_models import (
    edit_json,
    shapes,
    write_adapter,
    write_json,
    write_model,
    write_quantized,
)
from support.sweeps import sweep

TOKENS = np.random.default_rng(5).integers(0, 600, 448).tolist()
NEW = ("gemma3 with eyes", "gemma4 unified", "ministral3", "granite", "granite4", "smollm3")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("llama_like")
    found = {family: root / family.replace(" ", "_") for family in NEW}
    for family, folder in found.items():
        write_model(folder, family, dtype=mx.bfloat16)
        export_gguf(folder, None, {"F32": folder.with_suffix(".gguf")})
    return found


@functools.cache
def reference(model: Path, adapter: Path | None = None) -> Reference:
    network = load(model, adapter).model
    return Reference(TOKENS, np.array(network(mx.array([TOKENS]))[0]))


METADATA: dict[str, dict[str, Any]] = {
    "ministral3": {
        "general.architecture": "mistral3",
        "mistral3.rope.scaling.type": "yarn",
        "mistral3.rope.scaling.factor": 4.0,
        "mistral3.rope.scaling.original_context_length": 128,
        "mistral3.rope.scaling.yarn_log_multiplier": 1.0,
        "mistral3.rope.scaling.yarn_beta_fast": 32.0,
        "mistral3.rope.freq_base": 1e6,
        "mistral3.attention.temperature_scale": pytest.approx(0.1),
        "mistral3.attention.key_length": 64,
        "mistral3.rope.dimension_count": 64,
    },
    "granite": {
        "general.architecture": "granite",
        "granite.attention.scale": pytest.approx(0.2),
        "granite.embedding_scale": 3.0,
        "granite.residual_scale": pytest.approx(0.4),
        "granite.logit_scale": 2.0,
        "granite.rope.dimension_count": 64,
        "granite.attention.key_length": None,
    },
    "smollm3": {"general.architecture": "smollm3", "smollm3.rope.freq_base": 2e6},
    "gemma3 with eyes": {
        "general.architecture": "gemma3",
        "gemma3.rope.scaling.type": "linear",
        "gemma3.rope.scaling.factor": 8.0,
        "gemma3.rope.freq_base": 1e6,
        "gemma3.rope.freq_base_swa": 1e4,
        "gemma3.attention.sliding_window": 64,
    },
}
METADATA["granite4"] = METADATA["granite"]


@pytest.mark.parametrize("family", METADATA)
def test_metadata_is_what_llama_cpp_writes(folders: dict[str, Path], family: str) -> None:
    found = metadata(folders[family].with_suffix(".gguf"))
    expected = METADATA[family]
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.parametrize("family", NEW)
def test_what_sees_is_left_out(folders: dict[str, Path], family: str) -> None:
    found = values(folders[family].with_suffix(".gguf"))
    found.pop("rope_freqs.weight", None)
    assert len(found) == len(shapes(read_config(folders[family]) | {"model_type": kind(family)}))


def kind(family: str) -> str:
    return {"gemma3 with eyes": "gemma3", "granite4": "granitemoehybrid"}.get(family, family)


def test_joined_matrices_are_separated_by_their_rows(folders: dict[str, Path]) -> None:
    weights = mx.load(str(folders["granite4"] / "model.safetensors"))
    found = values(folders["granite4"].with_suffix(".gguf"))
    shared = "model.layers.1.shared_mlp"
    joined = np.array(weights[f"{shared}.input_linear.weight"].astype(mx.float32))
    down = np.array(weights[f"{shared}.output_linear.weight"].astype(mx.float32))
    np.testing.assert_array_equal(found["blk.1.ffn_gate.weight"], joined[:512])
    np.testing.assert_array_equal(found["blk.1.ffn_up.weight"], joined[512:])
    np.testing.assert_array_equal(found["blk.1.ffn_down.weight"], down)


# --- planted faults ----------------------------------------------------------------------


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], None]:
    def plant(tensors: Tensors) -> None:
        for key in [key for key in tensors if key.endswith(name)]:
            tensors[key] = np.ascontiguousarray(change(tensors[key]), np.float32)

    return plant


def exchanged(tensors: Tensors) -> None:
    for key in [key for key in tensors if key.endswith("ffn_gate.weight")]:
        other = key.replace("gate", "up")
        tensors[key], tensors[other] = tensors[other], tensors[key]


def halved(heads: int) -> Callable[[np.ndarray], np.ndarray]:
    """The rows as the folder has them: a head's rotated pairs in halves."""
    return lambda rows: rows.reshape(heads, -1, 2, 256).swapaxes(1, 2).reshape(rows.shape)


TENSOR_FAULTS: dict[str, tuple[str, Callable[[Tensors], None]]] = {
    "gates for inputs": ("granite4", exchanged),
    "granite's queries in halves": ("granite", changed("attn_q.weight", halved(4))),
    "ministral's keys in halves": ("ministral3", changed("attn_k.weight", halved(2))),
    "smollm's queries in halves": ("smollm3", changed("attn_q.weight", halved(4))),
    "gemma's norms less one": ("gemma3 with eyes", changed("norm.weight", lambda v: v - 1)),
}
METADATA_FAULTS: dict[str, tuple[str, str, Any]] = {
    "scale of attention": ("granite", "granite.attention.scale", 0.125),
    "scale of embeddings": ("granite4", "granite.embedding_scale", 1.0),
    "scale of residuals": ("granite4", "granite.residual_scale", 1.0),
    "scale of logits": ("granite", "granite.logit_scale", 1.0),
    "scale by position": ("ministral3", "mistral3.attention.temperature_scale", 0.0),
    "yarn's multiplier": ("ministral3", "mistral3.rope.scaling.yarn_log_multiplier", 0.0),
    "theta": ("smollm3", "smollm3.rope.freq_base", 1e4),
    "linear factor": ("gemma3 with eyes", "gemma3.rope.scaling.factor", 1.0),
}


@pytest.mark.parametrize(("family", "fault"), TENSOR_FAULTS.values(), ids=TENSOR_FAULTS)
def test_faults_of_values_show_in_the_logits(
    tmp_path: Path, folders: dict[str, Path], family: str, fault: Callable[[Tensors], None]
) -> None:
    folder = folders[family]
    true = folder.with_suffix(".gguf")
    assert not verification.proof_problems(compare_logits(true, [reference(folder)], 512))
    faulty = rewrite(true, tmp_path / "faulty.gguf", change_tensors=fault)
    assert verification.proof_problems(compare_logits(faulty, [reference(folder)], 512))


@pytest.mark.parametrize("fault", METADATA_FAULTS)
def test_faults_of_settings_are_named_and_change_logits(
    tmp_path: Path, folders: dict[str, Path], fault: str
) -> None:
    family, key, value = METADATA_FAULTS[fault]
    folder = folders[family]
    faulty = rewrite(
        folder.with_suffix(".gguf"),
        tmp_path / "faulty.gguf",
        change_metadata=lambda found: found.update({key: value}),
    )
    config = read_config(folder)
    original = tokenizer.read(folder, config["vocab_size"], registry.of(config))
    true, wrong = (
        structure.inspect(gguf_reader.read(path), folder, config, original).problems
        for path in (folder.with_suffix(".gguf"), faulty)
    )
    assert true == ()
    assert len(wrong) == 1 and key.partition(".")[2] in wrong[0]
    assert verification.proof_problems(compare_logits(faulty, [reference(folder)], 512))


@pytest.mark.parametrize(("kl", "accepted"), [(9e-6, True), (1e-4, False), (float("nan"), False)])
def test_ties_between_likeliest_tokens_are_no_fault(kl: float, accepted: bool) -> None:
    """Granite's flat logits on conversations that all begin alike: KL 1e-6, 98.5% agree."""
    found = LogitParity(540, kl, 5e-5, 0.985, 839.45, 839.49)
    assert (verification.proof_problems(found) == []) == accepted


# --- names and joined weights ------------------------------------------------------------


@pytest.mark.parametrize("own_head", [False, True])
def test_gemma_3_under_the_names_of_transformers_5(tmp_path: Path, own_head: bool) -> None:
    """mlx-lm knows only those of the hub."""
    write_model(tmp_path / "m", "gemma3 with eyes")
    path = tmp_path / "m" / "model.safetensors"
    weights = {newer_name(name): value for name, value in mx.load(str(path)).items()}
    if own_head:
        weights["lm_head.weight"] = 0.1 * mx.random.normal((608, 256), key=mx.random.key(1))
    mx.save_safetensors(str(path), weights)
    config = read_config(tmp_path / "m") | {"model_type": "gemma3"}
    adapter = write_adapter(tmp_path / "adapter", config)
    export_gguf(tmp_path / "m", adapter, {"F32": tmp_path / "m.gguf"})
    assert ("output.weight" in types(tmp_path / "m.gguf")) == own_head
    tuned = reference(tmp_path / "m", adapter)
    assert compare_logits(tmp_path / "m.gguf", [tuned], 512).mean_kl < 1e-4


def newer_name(name: str) -> str:
    if name.startswith("language_model."):
        return name.replace("language_model.model.", "model.language_model.")
    return f"model.{name}"


def test_mistral_that_sees_was_a_plain_mistral_before_ministral_3(tmp_path: Path) -> None:
    """Mistral Small 3.1: the same class, without yarn and without a scale by position."""
    write_model(tmp_path / "m", "ministral3", tie_word_embeddings=False)
    text = stored_config(tmp_path / "m")["text_config"] | {"model_type": "mistral"}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e8}
    edit_json(tmp_path / "m" / "config.json", text_config=text)
    export_gguf(tmp_path / "m", None, {"F32": tmp_path / "m.gguf"})
    assert "mistral3.attention.temperature_scale" not in metadata(tmp_path / "m.gguf")
    found = compare_logits(tmp_path / "m.gguf", [reference(tmp_path / "m")], 512)
    assert found.mean_kl < 1e-4


QUANTIZED = ("ministral3", "gemma3 with eyes", "granite4")


@pytest.mark.parametrize("family", sweep(QUANTIZED, QUANTIZED[1:]))
def test_folder_of_mlx_lm_gives_the_trained_models_logits(tmp_path: Path, family: str) -> None:
    """Its weights are quantized, and named as in mlx-lm's class."""
    config = write_model(tmp_path / "m", family)
    write_quantized(tmp_path / "m", tmp_path / "q", bits=8)
    adapter = write_adapter(tmp_path / "adapter", config)
    export_gguf(tmp_path / "q", adapter, {"F32": tmp_path / "q.gguf"})
    tuned = reference(tmp_path / "q", adapter)
    assert compare_logits(tmp_path / "q.gguf", [tuned], 512).mean_kl < 1e-4


@pytest.mark.parametrize(
    ("kind", "made_for"),
    sweep(itertools.product(("lora", "dora"), ("pt", "mlx")), (("lora", "mlx"), ("dora", "pt"))),
)
def test_fused_granite_4_is_the_tuned_model(tmp_path: Path, kind: str, made_for: str) -> None:
    """What was trained as two matrices is stored as one."""
    config = write_model(tmp_path / "m", "granite4", dtype=mx.float32)
    adapter = write_adapter(tmp_path / "adapter", config, kind=kind)
    (tmp_path / "fused").mkdir()
    fused.write(tmp_path / "m", adapter, tmp_path / "fused", made_for)
    before = mx.load(str(tmp_path / "m" / "model.safetensors"))
    assert mx.load(str(tmp_path / "fused" / "model.safetensors")).keys() == before.keys()
    tuned, found = reference(tmp_path / "m", adapter), reference(tmp_path / "fused")
    assert compare([(tuned, found.logits)]).mean_kl < 1e-6


@pytest.mark.parametrize("trained", ["gate", "up"])
def test_one_of_two_joined_matrices_may_be_trained_alone(tmp_path: Path, trained: str) -> None:
    config = write_model(tmp_path / "m", "granite4")
    adapter = write_adapter(tmp_path / "adapter", config)
    path = adapter / "adapters.safetensors"
    kept = {name: value for name, value in mx.load(str(path)).items() if f".{trained}_" in name}
    mx.save_safetensors(str(path), kept)
    edit_json(
        adapter / "adapter_config.json",
        lora_parameters={
            "rank": 4,
            "scale": 2.0,
            "dropout": 0.0,
            "keys": [f"mlp.{trained}_proj"],
        },
    )
    export_gguf(tmp_path / "m", adapter, {"F32": tmp_path / "m.gguf"})
    tuned = reference(tmp_path / "m", adapter)
    assert compare_logits(tmp_path / "m.gguf", [tuned], 512).mean_kl < 1e-4


def test_adapter_that_does_not_fit_a_joined_matrix_is_named(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m", "granite4")
    adapter = write_adapter(tmp_path / "adapter", {**config, "intermediate_size": 768})
    with pytest.raises(AdapterUnusable, match=r"mlp\.gate_proj"):
        export_gguf(tmp_path / "m", adapter, {"F32": tmp_path / "m.gguf"})


def test_side_by_side_changes_touch_their_own_rows_in_any_order() -> None:
    class Times:
        shape = (3, 2)

        def apply(self, values: np.ndarray, which: Any) -> np.ndarray:
            return values * (1 + np.arange(3)[which])[:, None]

    both = trained_weights.SideBySide((None, Times()), (6, 2))
    rows = np.array([5, 0, 3, 2, 4])
    found = both.apply(np.ones((5, 2), np.float32), rows)
    np.testing.assert_array_equal(found[:, 0], [3, 1, 1, 1, 2])


def test_importance_reaches_separated_matrices(folders: dict[str, Path], tmp_path: Path) -> None:
    importance = layerwise.importance(folders["granite4"], None, [TOKENS[:40]])
    export_gguf(folders["granite4"], None, {"Q3_K_M": tmp_path / "m.gguf"}, importance=importance)
    export_gguf(folders["granite4"], None, {"Q3_K_M": tmp_path / "plain.gguf"})
    found, plain = (gguf_reader.read(tmp_path / f"{one}.gguf").tensors for one in ("m", "plain"))
    for name in ("blk.1.ffn_gate.weight", "blk.1.ffn_up.weight", "blk.1.ffn_down.weight"):
        assert (found[name].data != plain[name].data).any(), name


# --- refuses instead of guessing ---------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("granite4", {"layer_types": ["mamba", "attention", "attention"]}),
        ("granite4", {"num_local_experts": 8}),
        ("granite4", {"position_embedding_type": "nope"}),
        ("granite4", {"shared_intermediate_size": 256}),
        ("granite4", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}),
        ("granite", {"head_dim": 32}),
        ("granite", {"attention_multiplier": None}),
        ("smollm3", {"no_rope_layers": [1, 0, 1, 0, 1]}),
        ("smollm3", {"no_rope_layer_interval": 2}),
        ("smollm3", {"use_sliding_window": True}),
        ("gemma3 with eyes", {"use_bidirectional_attention": True}),
        ("gemma3 with eyes", {"sliding_window_pattern": 4}),
        ("gemma3 with eyes", {"query_pre_attn_scalar": 100}),
        ("ministral3", {"sliding_window": 64}),
        ("ministral3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_settings_that_a_file_cannot_express_are_refused(
    tmp_path: Path, family: str, changes: dict[str, Any]
) -> None:
    write_model(tmp_path / "m", family)
    stored = stored_config(tmp_path / "m")
    inner = {**stored.get("text_config", stored), **changes}
    known = {key: value for key, value in inner.items() if value is not None}
    whole = {**stored, "text_config": known} if "text_config" in stored else known
    write_json(tmp_path / "m" / "config.json", whole)
    with pytest.raises(ModelSettingUnsupported):
        export_gguf(tmp_path / "m", None, {"F16": tmp_path / "m.gguf"})


def test_missing_joined_matrix_is_named(tmp_path: Path) -> None:
    write_model(tmp_path / "m", "granite4")
    path = tmp_path / "m" / "model.safetensors"
    weights = dict(mx.load(str(path)))
    del weights["model.layers.2.shared_mlp.input_linear.weight"]
    mx.save_safetensors(str(path), weights)
    with pytest.raises(WeightsIncomplete, match=r"layers\.2\.mlp\.gate_proj"):
        export_gguf(tmp_path / "m", None, {"F16": tmp_path / "m.gguf"})
