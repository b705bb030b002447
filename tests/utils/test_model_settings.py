"""A model's settings as they are meant, against transformers' own configuration classes and mlx-lm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load_model
from transformers import AutoConfig, Gemma3TextConfig, Ministral3Config

from mlx_finetuning.errors import ModelUnloadable
from mlx_finetuning.mlx_trainer.model.load import load, load_tokenizer
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.trainer import mlx_lm
from mlx_finetuning.utils import model_settings
from support.small_models import edit_json, stored_config, write_json, write_model

GEMMA3_4B = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "vision_config": {"hidden_size": 1152},
}
GEMMA3_27B_TEXT = {
    "head_dim": 128,
    "hidden_size": 5376,
    "intermediate_size": 21504,
    "model_type": "gemma3_text",
    "num_attention_heads": 32,
    "num_hidden_layers": 62,
    "num_key_value_heads": 16,
    "query_pre_attn_scalar": 168,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "sliding_window": 1024,
}
"""The settings that these models are published with."""


def text_of(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    return registry.text_part(model_settings.completed(config, folder))


@pytest.mark.parametrize(
    ("kind", "config"), [("gemma3_text", Gemma3TextConfig), ("ministral3", Ministral3Config)]
)
def test_defaults_are_those_of_transformers(kind: str, config: type) -> None:
    theirs = config().to_dict()
    # transformers 5 holds the bases of rotation in one dictionary.
    rope = theirs["rope_parameters"]
    if kind == "gemma3_text":
        theirs["rope_theta"] = rope["full_attention"]["rope_theta"]
        theirs["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    ours = model_settings.DEFAULTS[kind]
    assert {key: theirs[key] for key in ours} == ours


@pytest.mark.parametrize("text", [GEMMA3_4B["text_config"], GEMMA3_27B_TEXT], ids=["4B", "27B"])
def test_published_gemma_3_is_completed_as_transformers_does(
    tmp_path: Path, text: dict[str, Any]
) -> None:
    config = {**GEMMA3_4B, "text_config": text}
    write_json(tmp_path / "config.json", config)
    theirs = AutoConfig.from_pretrained(tmp_path).text_config.to_dict()
    ours = text_of(config, tmp_path)
    same = ("head_dim", "num_attention_heads", "num_key_value_heads", "rms_norm_eps")
    sizes = ("vocab_size", "max_position_embeddings", "sliding_window", "query_pre_attn_scalar")
    assert {key: ours[key] for key in (*same, *sizes)} == {
        key: theirs[key] for key in (*same, *sizes)
    }
    written = registry.of(ours).metadata(ours)
    assert written["rope.scaling.factor"] == 8.0
    assert written["rope.freq_base"] == theirs["rope_parameters"]["full_attention"]["rope_theta"]
    near = theirs["rope_parameters"]["sliding_attention"]
    assert written["rope.freq_base_swa"] == near["rope_theta"]
    assert near["rope_type"] == "default"


def test_settings_that_transformers_5_saved_mean_what_was_published(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", GEMMA3_4B)
    saved = AutoConfig.from_pretrained(tmp_path).to_dict()
    assert "rope_theta" not in saved["text_config"]
    again = {**saved, "architectures": GEMMA3_4B["architectures"]}
    first, second = text_of(GEMMA3_4B, tmp_path), text_of(again, tmp_path)
    metadata = registry.of(first).metadata
    assert metadata(first) == metadata(second)
    keys = ("rope_theta", "rope_local_base_freq", "tie_word_embeddings", "vocab_size")
    assert {key: second[key] for key in keys} == {
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "tie_word_embeddings": True,
        "vocab_size": 262208,
    }
    assert second["rope_scaling"]["factor"] == 8.0


@pytest.mark.parametrize("family", ["gemma3 with eyes", "ministral3"])
def test_text_part_without_its_defaults_is_loaded_with_them(tmp_path: Path, family: str) -> None:
    """mlx-lm asks for some, and takes others for another model's."""
    left_out = {"rms_norm_eps", "head_dim", "num_key_value_heads", "num_attention_heads"}
    defaults = model_settings.DEFAULTS
    kind = {"ministral3": "ministral3"}.get(family, "gemma3_text")
    sizes = {key: defaults[kind][key] for key in left_out} | {"hidden_size": 64}
    config = write_model(tmp_path / "m", family, **sizes, num_hidden_layers=1)
    stored = stored_config(config)
    short = {key: value for key, value in stored["text_config"].items() if key not in left_out}
    edit_json(tmp_path / "m" / "config.json", text_config=short)
    loaded = load(tmp_path / "m")
    assert {key: loaded.config[key] for key in left_out} == {key: sizes[key] for key in left_out}
    assert load_tokenizer(tmp_path / "m").context_length == loaded.context_length == 1024


def test_settings_without_weights_say_nothing_of_a_head(tmp_path: Path) -> None:
    assert "tie_word_embeddings" not in model_settings.completed({"model_type": "llama"}, tmp_path)
    stated = {"model_type": "llama", "tie_word_embeddings": False}
    assert model_settings.completed(stated, tmp_path)["tie_word_embeddings"] is False


@pytest.mark.parametrize("inside", [True, False])
def test_settings_that_contradict_each_other_leave_it_to_the_weights(
    tmp_path: Path, inside: bool
) -> None:
    """Mistral 3's outer settings are tied by default, its text part's are not."""
    config = write_model(tmp_path / "m", "ministral3", tie_word_embeddings=inside)
    edit_json(tmp_path / "m" / "config.json", tie_word_embeddings=not inside)
    loaded = load(tmp_path / "m")
    assert loaded.config["tie_word_embeddings"] is inside
    assert config["tie_word_embeddings"] is inside


def test_large_tables_that_differ_at_their_end_differ(tmp_path: Path) -> None:
    write_model(tmp_path / "m", vocab_size=4000)
    path = tmp_path / "m" / "model.safetensors"
    weights = dict(mx.load(str(path)))
    head = weights["model.embed_tokens.weight"] + 0
    mx.save_safetensors(str(path), {**weights, "lm_head.weight": head})
    assert model_settings.read(tmp_path / "m")["tie_word_embeddings"] is True
    head[3999, 255] += 1
    mx.save_safetensors(str(path), {**weights, "lm_head.weight": head})
    assert model_settings.read(tmp_path / "m")["tie_word_embeddings"] is False


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff" * 20])
def test_damaged_weights_are_left_to_their_reader(tmp_path: Path, damage: bytes) -> None:
    write_model(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(damage)
    assert model_settings.read(tmp_path / "m")["tie_word_embeddings"] is True


def test_ministral_in_eight_bit_floats_is_refused_before_training(tmp_path: Path) -> None:
    """mlx-lm would multiply the bytes as whole numbers."""
    write_model(tmp_path / "m", "ministral3")
    edit_json(tmp_path / "m" / "config.json", quantization_config={"quant_method": "fp8"})
    with pytest.raises(ModelUnloadable, match="BF16"):
        load(tmp_path / "m")


def test_plain_mlx_lm_is_offered_settings_that_it_reads_as_they_are_meant(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m")
    (tmp_path / "run").mkdir()
    assert mlx_lm.offered_model(tmp_path / "m", tmp_path / "run") == tmp_path / "m"
    tokens = mx.arange(100)[None]
    expected = np.array(load(tmp_path / "m").model(tokens))
    del config["rope_theta"]
    newer = {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}}
    write_json(tmp_path / "m" / "config.json", {**config, **newer})
    offered = mlx_lm.offered_model(tmp_path / "m", tmp_path / "run")
    network, _ = load_model(offered)
    network.set_dtype(mx.float32)
    found = np.array(network(tokens))
    assert abs(found - expected).max() > 0.1
    np.testing.assert_array_equal(found, np.array(load(tmp_path / "m").model(tokens)))
    assert json.loads((tmp_path / "m" / "config.json").read_text()) == {**config, **newer}
