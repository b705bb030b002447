"""GGUF files as base models: settings, tokenizers and weights back out of what the export writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, dequantize
from gguf import GGMLQuantizationType as Type

from mlx_finetuning.errors import BaseFileChanged, BaseFileUnusable
from mlx_finetuning.mlx_trainer.kernels import gguf_blocks
from mlx_finetuning.mlx_trainer.kernels.gguf_blocks import PACKED, packed_bytes
from mlx_finetuning.mlx_trainer.model import gguf_weights
from mlx_finetuning.mlx_trainer.model.load import load_weights
from mlx_finetuning.mlx_trainer.model.six_bit import SixBitLinear
from mlx_finetuning.quantizer.base import folder, process, settings
from mlx_finetuning.quantizer.llama_cpp import ggml
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.tokenization import files as tokenizer_files
from mlx_finetuning.utils import gguf_base, gguf_reader
from mlx_finetuning.utils.gguf_reader import StoredTensor
from support.gguf_files import Values, rewrite
from support.small_models import (
    edit_json,
    write_adapter,
    write_model,
    write_sentencepiece,
    write_tokenizer,
)
from support.sweeps import sweep

TRAINABLE = (
    *("llama 2", "llama 3", "linear rope", "mistral", "qwen2", "qwen3"),
    *("gemma2", "gemma3", "phi3", "phi4"),
)
"""Families whose files can be trained."""
TOKENS = mx.array([np.random.default_rng(2).integers(0, 600, 96).tolist()])
QUANTIZED = [
    kind
    for kind in GGML_QUANT_SIZES
    if kind.name.startswith(("Q", "IQ", "TQ", "MXFP4", "NVFP4"))
    and kind not in (Type.Q8_1, Type.Q8_K, Type.Q1_0)
]
"""gguf does not dequantize Q1_0, ggml alone does; the other two are of activations."""
ROWS, COLUMNS = 24, 512


def written(folder_: Path, quant: str = "F32") -> Path:
    """The model's GGUF file, beside its folder."""
    path = folder_.with_name(f"{folder_.name}-{quant}.gguf")
    export_gguf(folder_, None, {quant: path})
    return path


def as_base(path: Path) -> Path:
    made = path.with_name(f"{path.stem}-base")
    folder.write(path, made)
    return made


# --- values ------------------------------------------------------------------------------


def stored(kind: Type) -> StoredTensor:
    """Any bytes are blocks of some values, infinite ones and NaN among them."""
    data = np.random.default_rng(0).integers(
        0, 256, (ROWS, ggml.row_bytes(kind, COLUMNS)), np.uint8
    )
    return StoredTensor("w", (ROWS, COLUMNS), kind, data)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", QUANTIZED, ids=lambda kind: kind.name)
def test_values_are_ggufs_own_to_the_last_bit(kind: Type) -> None:
    tensor = stored(kind)
    np.testing.assert_array_equal(tensor.values(), dequantize(tensor.data, kind))


def test_type_that_only_ggml_knows_is_read() -> None:
    """Q1_0: a scale for 128 signs, the first in the lowest bit."""
    tensor = stored(Type.Q1_0)
    blocks = tensor.data.reshape(-1, 18)
    scales = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
    signs = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").astype(np.float32) * 2 - 1
    np.testing.assert_array_equal(tensor.values(), (scales * signs).reshape(ROWS, COLUMNS))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", PACKED, ids=lambda kind: kind.name)
def test_packed_weights_are_llama_cpps_values_to_the_last_bit(kind: Type) -> None:
    tensor = stored(kind)
    order = np.random.default_rng(1).permutation(ROWS)
    arrays = gguf_blocks.packed(tensor.data, kind, order)
    assert sum(array.nbytes for array in arrays.values()) == packed_bytes(kind, ROWS * COLUMNS)
    bits = 8 * arrays["weight"].nbytes // (ROWS * COLUMNS)
    values = np.array(unpacked({name: mx.array(array) for name, array in arrays.items()}, bits))
    np.testing.assert_array_equal(values, tensor.values(order))


def unpacked(arrays: Mapping[str, mx.array], bits: int) -> mx.array:
    """What the layer that these are the arrays of computes with."""
    if "block_scales" in arrays:
        return SixBitLinear(**arrays).values()
    weight, scales, biases = arrays["weight"], arrays["scales"], arrays["biases"]
    return mx.dequantize(weight, scales, biases, group_size=32, bits=bits)


# --- folders -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", TRAINABLE)
def test_file_gives_back_the_model_it_was_made_of(family: str, tmp_path: Path) -> None:
    write_model(tmp_path / "m", family, dtype=mx.float32)
    base = as_base(written(tmp_path / "m"))
    original, _ = load_weights(tmp_path / "m")
    model, _ = load_weights(base)
    for name, value in gguf_weights.arrays(_record(base)).items():
        expected = mx.load(str(tmp_path / "m" / "model.safetensors"))[name]
        # Norms that the file holds plus one lose their last bits.
        assert mx.allclose(value, expected, rtol=0, atol=2e-7), name
    assert mx.allclose(model(TOKENS), original(TOKENS), rtol=1e-4, atol=1e-4)


def _record(base: Path) -> gguf_base.GgufBase:
    record = gguf_base.read(base)
    assert record is not None
    return record


@pytest.mark.parametrize("quant", ["Q4_K_M", "Q8_0"])
def test_packed_and_dequantized_bases_predict_alike(quant: str, tmp_path: Path) -> None:
    write_model(tmp_path / "m", "qwen2")
    base = _record(as_base(written(tmp_path / "m", quant)))
    packed = gguf_weights.arrays(base, packed=True)
    plain = gguf_weights.arrays(base, packed=False)
    assert any(name.endswith(".scales") for name in packed)
    for name, value in plain.items():
        module = name.removesuffix(".weight")
        values = packed[name]
        if f"{module}.scales" in packed:
            bits = 8 * values.nbytes // value.size
            parts = {
                part: packed[whole]
                for part in ("weight", "scales", "biases", "block_scales")
                if (whole := f"{module}.{part}") in packed
            }
            values = unpacked(parts, bits)
        assert mx.array_equal(values, value).item(), name


@pytest.mark.parametrize(
    # That each is recognised and cuts alike is said in test_tokenizer.
    "pre",
    sweep(
        ("llama-bpe", "smaug-bpe", "qwen2", "gpt-4o", "tekken", "smollm"),
        ("llama-bpe", "tekken", "smollm"),
    ),
)
def test_byte_level_tokenizer_comes_back(pre: str, tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    write_tokenizer(tmp_path / "m", pre)
    edit_json(tmp_path / "m" / "tokenizer_config.json", bos_token="<|endoftext|>")
    # Writing the folder compares its tokens with llama.cpp's on the whole battery.
    found = tokenizer_files.read(as_base(written(tmp_path / "m")))
    original = tokenizer_files.read(tmp_path / "m")
    assert found.named["bos"] == "<|endoftext|>"
    assert found.ids() == original.ids()
    merges = [" ".join(pair) for pair in original.definition["model"]["merges"]]
    assert found.definition["model"]["merges"] == merges


@pytest.mark.parametrize("dummy_prefix", [True, False])
def test_sentencepiece_tokenizer_comes_back(dummy_prefix: bool, tmp_path: Path) -> None:
    write_model(tmp_path / "m", vocab_size=480)
    write_sentencepiece(tmp_path / "m", dummy_prefix=dummy_prefix)
    base = as_base(written(tmp_path / "m"))
    # The vocabulary that is written again is the file's.
    again = written(base, "Q8_0")
    fields = [gguf_reader.read(path).metadata for path in (tmp_path / "m-F32.gguf", again)]
    for key in ("tokens", "scores", "token_type", "add_space_prefix", "add_bos_token"):
        assert fields[0][f"tokenizer.ggml.{key}"] == fields[1][f"tokenizer.ggml.{key}"], key


# --- what is written of it ---------------------------------------------------------------


def test_untouched_tensors_keep_the_base_files_bytes(tmp_path: Path) -> None:
    config = write_model(tmp_path / "m", "llama 2", dtype=mx.float32)
    path = written(tmp_path / "m", "Q4_K_M")
    base = as_base(path)
    write_adapter(tmp_path / "a", config)
    arrays = mx.load(str(tmp_path / "a" / "adapters.safetensors"))
    only = {name: value for name, value in arrays.items() if ".up_proj." in name}
    mx.save_safetensors(str(tmp_path / "a" / "adapters.safetensors"), only)
    export_gguf(base, tmp_path / "a", {"Q8_0": tmp_path / "tuned.gguf"})
    before, after = (gguf_reader.read(one).tensors for one in (path, tmp_path / "tuned.gguf"))
    assert before.keys() == after.keys()
    touched = {name for name in after if "ffn_up" in name}
    for name in before.keys() - touched:
        assert after[name].data.tobytes() == before[name].data.tobytes(), name
    assert touched
    assert {after[name].kind for name in touched} == {Type.Q8_0}


def test_base_file_is_never_written_to(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    path = written(tmp_path / "m", "Q8_0")
    content, time_ns = path.read_bytes(), path.stat().st_mtime_ns
    path.chmod(0o400)
    written(as_base(path), "Q4_K_M")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, time_ns)


# --- refusals ----------------------------------------------------------------------------


def test_base_that_changed_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    path = written(tmp_path / "m", "Q8_0")
    record = _record(as_base(path))
    record.require_same_bytes()
    # As Ollama does when it makes a model of a file that it has.
    os.utime(path, (1, 1))
    record.require_in_place()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BaseFileChanged):
        record.require_in_place()
    path.write_bytes(content[:-1])
    with pytest.raises(BaseFileChanged):
        record.require_in_place()
    path.unlink()
    with pytest.raises(BaseFileChanged):
        record.require_in_place()


def _without_epsilon(fields: Values) -> None:
    del fields["llama.attention.layer_norm_rms_epsilon"]


CHANGES: dict[str, tuple[Callable[[Values], None], str]] = {
    "foreign architecture": (
        lambda fields: fields.update({"general.architecture": "mamba"}),
        "mamba",
    ),
    "unknown pre-tokenizer": (
        lambda fields: fields.update({"tokenizer.ggml.pre": "chameleon"}),
        "chameleon",
    ),
    "wrong pre-tokenizer": (
        lambda fields: fields.update({"tokenizer.ggml.pre": "nothing-like-it"}),
        "nothing-like-it",
    ),
    "missing setting": (_without_epsilon, "layer_norm_rms_epsilon"),
    "another head size": (
        lambda fields: fields.update({"llama.rope.dimension_count": 32}),
        "rope.dimension_count",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_file_that_cannot_be_trained_says_why(case: str, tmp_path: Path) -> None:
    change, word = CHANGES[case]
    write_model(tmp_path / "m")
    path = rewrite(written(tmp_path / "m"), tmp_path / "bad.gguf", change_metadata=change)
    with pytest.raises(BaseFileUnusable) as raised:
        folder.write(path, tmp_path / "base")
    assert word in raised.value.data["reason"]
    assert not (tmp_path / "base").exists()


def test_tensor_that_is_not_known_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m")

    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors["blk.0.attn_sinks.weight"] = np.ones(4, np.float32)

    path = rewrite(written(tmp_path / "m"), tmp_path / "bad.gguf", add)
    with pytest.raises(BaseFileUnusable, match="attn_sinks"):
        folder.write(path, tmp_path / "base")


def test_record_holds_no_more_than_where_the_weights_are(tmp_path: Path) -> None:
    write_model(tmp_path / "m", "llama 2")
    base = as_base(written(tmp_path / "m", "Q8_0"))
    assert sum(file.stat().st_size for file in base.iterdir()) < 100_000
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    assert config["rms_norm_eps"] == 1e-5


def test_list_and_loader_know_the_same_architectures() -> None:
    assert sorted(settings.ARCHITECTURES) == list(gguf_base.TRAINABLE)


def _twice_the_same(fields: Values) -> None:
    fields["tokenizer.ggml.tokens"][5] = fields["tokenizer.ggml.tokens"][6]


def test_file_over_which_llama_cpp_ends_its_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no debugger of the machine's is called, which would take seconds over each."""
    called = tmp_path / "called"
    for name in ("gdb", "lldb"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch '{called}'\n")
        (tmp_path / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    write_model(tmp_path / "m")
    path = rewrite(written(tmp_path / "m"), tmp_path / "bad.gguf", change_metadata=_twice_the_same)
    with pytest.raises(BaseFileUnusable):
        process.write(path, tmp_path / "base")
    assert not (tmp_path / "base").exists() and not called.exists()
