"""The proof of an export: true files pass, every planted fault is caught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load_model
from tokenizers import Tokenizer

from mlx_finetuning import files
from mlx_finetuning.errors import ExportNotProven, GgufUnreadable
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.quantizer.verify import structure, verification
from mlx_finetuning.quantizer.verify.parity import Reference, compare_logits
from mlx_finetuning.quantizer.verify.results import Verification
from mlx_finetuning.quantizer.vocabulary import tokenizer
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.utils import gguf_reader
from support.gguf_files import Tensors, Values, rewrite
from support.small_models import write_model

ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
CONTEXT = 512


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "m"
    write_model(folder, rope_theta=500000.0, rope_scaling=ROPE, tie_word_embeddings=False)
    return folder


@pytest.fixture(scope="module")
def references(model: Path) -> list[Reference]:
    network, _ = load_model(model)
    network.set_dtype(mx.float32)
    tokens = np.random.default_rng(2).integers(3, 600, 448).tolist()
    return [Reference(tokens, np.array(network(mx.array([tokens]))[0]))]


@pytest.fixture(scope="module")
def written(model: Path) -> dict[str, Path]:
    paths = {quant: model.parent / f"{quant}.gguf" for quant in ("F16", "Q4_K_M")}
    export_gguf(model, None, paths)
    return paths


def examined(gguf: Path, model: Path, references: list[Reference]) -> Verification:
    original = Tokenizer.from_file(str(model / "tokenizer.json"))
    return verification.examine(
        gguf,
        model,
        None,
        references,
        lambda text, special: original.encode(text, add_special_tokens=special).ids,
        context=CONTEXT,
        texts=["お客様の行"],
        end_tokens=[2],
    )


def test_true_file_is_proven(
    model: Path, written: dict[str, Path], references: list[Reference]
) -> None:
    report = examined(written["F16"], model, references)
    assert report.problems == ()
    assert report.structure.quant == "F16"
    assert report.logits.mean_kl < 1e-4
    assert report.logits.top1_agreement >= 0.99
    assert report.tokens.texts > 150
    assert "同じ動き" in report.verdict
    verification.require_proven(report, written["F16"])


def test_quantized_file_gets_figures_and_no_gate(
    model: Path, written: dict[str, Path], references: list[Reference]
) -> None:
    report = examined(written["Q4_K_M"], model, references)
    assert report.proven
    assert 1e-3 < report.logits.mean_kl < 0.5
    assert report.logits.perplexity_gguf != report.logits.perplexity_reference
    assert "一致率" in report.verdict


def test_report_is_kept_beside_the_file(
    model: Path, written: dict[str, Path], references: list[Reference]
) -> None:
    kept = verification.write(examined(written["F16"], model, references), written["F16"])
    path = written["F16"].with_name("F16.export_report.json")
    assert kept.report_path == str(path)
    record = files.read_json(path)
    assert record["proven"] is True
    assert record["logits"]["tokens"] == 448


# --- planted faults ----------------------------------------------------------------------


def unpermuted(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.endswith(("attn_q.weight", "attn_k.weight"))]:
        rows = tensors[name]
        heads = rows.reshape(len(rows) // 64, 32, 2, rows.shape[1])
        tensors[name] = np.ascontiguousarray(heads.swapaxes(1, 2).reshape(rows.shape))


def swapped(tensors: Tensors) -> None:
    for layer in range(3):
        gate, up = f"blk.{layer}.ffn_gate.weight", f"blk.{layer}.ffn_up.weight"
        tensors[gate], tensors[up] = tensors[up], tensors[gate]


def without_rope_factors(tensors: Tensors) -> None:
    del tensors["rope_freqs.weight"]


def flat_rope_factors(tensors: Tensors) -> None:
    tensors["rope_freqs.weight"] = np.ones_like(tensors["rope_freqs.weight"])


def with_nan(tensors: Tensors) -> None:
    tensors["blk.1.ffn_up.weight"][0, 0] = np.nan


def one_weight_zeroed(tensors: Tensors) -> None:
    tensors["blk.0.attn_v.weight"][:] = 0


def set_to(key: str, value: object) -> Callable[[Values], None]:
    return lambda values: values.__setitem__(key, value)


def dropped(key: str) -> Callable[[Values], None]:
    return lambda values: values.__delitem__(key)


TENSOR_FAULTS = [
    unpermuted,
    swapped,
    without_rope_factors,
    flat_rope_factors,
    with_nan,
    one_weight_zeroed,
]
METADATA_FAULTS = {
    "wrong theta": set_to("llama.rope.freq_base", 10000.0),
    "missing theta": dropped("llama.rope.freq_base"),
    "wrong epsilon": set_to("llama.attention.layer_norm_rms_epsilon", 1e-6),
    "missing pre-tokenizer": dropped("tokenizer.ggml.pre"),
    "wrong pre-tokenizer": set_to("tokenizer.ggml.pre", "gpt-2"),
    "foreign template": set_to("tokenizer.chat_template", "{{ messages[0].content }}"),
    "missing template": dropped("tokenizer.chat_template"),
    "wrong end": set_to("tokenizer.ggml.eos_token_id", 0),
    "unstated bos": dropped("tokenizer.ggml.add_bos_token"),
    "wrong context": set_to("llama.context_length", 64),
}


@pytest.mark.parametrize("fault", TENSOR_FAULTS)
def test_faults_in_tensors_are_caught(
    tmp_path: Path,
    model: Path,
    written: dict[str, Path],
    references: list[Reference],
    fault: Callable[[Tensors], None],
) -> None:
    faulty = rewrite(written["F16"], tmp_path / "faulty.gguf", change_tensors=fault)
    report = examined(faulty, model, references)
    assert not report.proven
    with pytest.raises(ExportNotProven) as caught:
        verification.require_proven(report, faulty)
    assert caught.value.data["problems"]


@pytest.mark.parametrize("fault", METADATA_FAULTS.values(), ids=METADATA_FAULTS)
def test_faults_in_metadata_are_caught(
    tmp_path: Path,
    model: Path,
    written: dict[str, Path],
    references: list[Reference],
    fault: Callable[[Values], None],
) -> None:
    faulty = rewrite(written["F16"], tmp_path / "faulty.gguf", change_metadata=fault)
    assert not examined(faulty, model, references).proven


FAMILY_FAULTS = {
    "wrong final soft-cap": ("gemma2", set_to("gemma2.final_logit_softcapping", 50.0)),
    "wrong attention soft-cap": ("gemma2", set_to("gemma2.attn_logit_softcapping", 30.0)),
    "no soft-cap": ("gemma2", dropped("gemma2.final_logit_softcapping")),
    "wrong window": ("gemma3", set_to("gemma3.attention.sliding_window", 128)),
    "wrong local theta": ("gemma3", set_to("gemma3.rope.freq_base_swa", 1000000.0)),
    "yarn forgotten": ("qwen3", dropped("qwen3.rope.scaling.type")),
    "wrong long factor": ("phi3", set_to("phi3.rope.scaling.attn_factor", 1.0)),
    "wrong interval": ("qwen3.5", set_to("qwen35.full_attention_interval", 2)),
    "wrong key heads": ("qwen3.5", set_to("qwen35.ssm.group_count", 3)),
    "wrong rotation": ("qwen3.5", set_to("qwen35.rope.dimension_count", 64)),
    "sliding Phi-4": ("phi4", set_to("phi3.attention.sliding_window", 64)),
}


@pytest.mark.parametrize(("family", "fault"), FAMILY_FAULTS.values(), ids=FAMILY_FAULTS)
def test_faults_of_single_families_are_caught(
    tmp_path: Path, family: str, fault: Callable[[Values], None]
) -> None:
    config = write_model(tmp_path / "m", family)
    export_gguf(tmp_path / "m", None, {"F16": tmp_path / "m.gguf"})
    faulty = rewrite(tmp_path / "m.gguf", tmp_path / "f.gguf", change_metadata=fault)
    original = tokenizer.read(tmp_path / "m", config["vocab_size"], registry.of(config))
    true, wrong = (
        structure.inspect(gguf_reader.read(path), tmp_path / "m", config, original).problems
        for path in (tmp_path / "m.gguf", faulty)
    )
    assert true == ()
    assert len(wrong) == 1


@pytest.mark.parametrize(
    ("fault", "least_kl"), [(unpermuted, 1.0), (swapped, 1.0), (flat_rope_factors, 1e-3)]
)
def test_logits_alone_show_the_gross_faults(
    tmp_path: Path,
    written: dict[str, Path],
    references: list[Reference],
    fault: Callable[[Tensors], None],
    least_kl: float,
) -> None:
    faulty = rewrite(written["F16"], tmp_path / "faulty.gguf", change_tensors=fault)
    assert compare_logits(faulty, references, CONTEXT).mean_kl > least_kl


def test_unchanged_copy_passes(
    tmp_path: Path, model: Path, written: dict[str, Path], references: list[Reference]
) -> None:
    copy = rewrite(written["F16"], tmp_path / "copy.gguf")
    assert examined(copy, model, references).problems == ()


def test_too_few_tokens_prove_nothing(
    model: Path, written: dict[str, Path], references: list[Reference]
) -> None:
    short = [Reference(references[0].tokens[:100], references[0].logits[:100])]
    assert not examined(written["F16"], model, short).proven


def test_file_that_is_no_gguf_is_an_error(
    tmp_path: Path, model: Path, references: list[Reference]
) -> None:
    for content in (b"", b"GGUF", b"not a model" * 100):
        (tmp_path / "x.gguf").write_bytes(content)
        with pytest.raises(GgufUnreadable):
            examined(tmp_path / "x.gguf", model, references)


def test_cut_file_is_an_error(
    tmp_path: Path, model: Path, written: dict[str, Path], references: list[Reference]
) -> None:
    data = written["F16"].read_bytes()
    (tmp_path / "x.gguf").write_bytes(data[: len(data) // 2])
    with pytest.raises(GgufUnreadable):
        examined(tmp_path / "x.gguf", model, references)


def test_figures_agree_with_a_calculation_by_hand(
    written: dict[str, Path], references: list[Reference]
) -> None:
    shifted = [Reference(references[0].tokens, references[0].logits + 3.0)]
    first = compare_logits(written["F16"], references, CONTEXT)
    second = compare_logits(written["F16"], shifted, CONTEXT)
    assert second.mean_kl == pytest.approx(first.mean_kl, abs=1e-9)
    logits = references[0].logits.astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    following = np.array(references[0].tokens[1:])
    losses = -np.log(chances[np.arange(len(following)), following])
    assert first.perplexity_reference == pytest.approx(np.exp(losses.mean()), rel=1e-6)
