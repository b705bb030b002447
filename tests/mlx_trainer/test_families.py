"""Model classes of mlx-lm that are built otherwise: text parts of models that see, gated layers."""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map
from mlx_lm.generate import generate_step
from mlx_lm.tuner.lora import LoRALinear, LoRASwitchLinear

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import DoraOfExperts
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.gradient import (
    backward,
    concatenated_attention,
    packed_attention,
    separated_convolution,
    skipped_work,
)
from mlx_finetuning.mlx_trainer.gradient.loss import PLAIN, LossOptions
from mlx_finetuning.mlx_trainer.inference import batch_generate, weight_change
from mlx_finetuning.mlx_trainer.model import adapter_layers, adapters
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.mlx_trainer.parallel import workload
from mlx_finetuning.mlx_trainer.training import loop
from mlx_finetuning.quantizer.verify.parity import Reference, compare_logits
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.workspace import AdapterPaths
from support import expert_models
from support.model_classes import COMMON, examples, gradients, named, plain
from support.recorded_run import Recorder, rows
from support.small_models import write_model

GEMMA4 = {
    **COMMON,
    "model_type": "gemma4_text",
    "num_hidden_layers": 4,
    "global_head_dim": 32,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 300,
    "sliding_window": 6,
    "use_double_wide_mlp": True,
}
QWEN35 = {
    **COMMON,
    "model_type": "qwen3_5_text",
    "num_hidden_layers": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "rope_parameters": {"type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
}
GEMMA3 = {**COMMON, "model_type": "gemma3_text", "sliding_window": 6, "sliding_window_pattern": 2}
QWEN3_MOE = {
    **COMMON,
    "moe_intermediate_size": 48,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "rope_scaling": None,
}
GPT_OSS = {
    **COMMON,
    "num_hidden_layers": 4,
    "num_local_experts": 6,
    "num_experts_per_tok": 2,
    "sliding_window": 6,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}
LFM2 = {
    **COMMON,
    "num_hidden_layers": 4,
    "norm_eps": 1e-6,
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": 64,
    "block_multiple_of": 32,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": True,
    "layer_types": ["conv", "full_attention", "conv", "conv"],
}
MINISTRAL3 = {
    **COMMON,
    "model_type": "ministral3",
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 1e4,
        "factor": 4.0,
        "original_max_position_embeddings": 5,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.5,
    },
}
GRANITE = {
    **COMMON,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_multiplier": 0.4,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.4,
    "logits_scaling": 2.0,
}
CLASSES: dict[str, dict[str, Any]] = {
    "qwen3_moe": QWEN3_MOE,
    "gpt_oss": GPT_OSS,
    "lfm2": LFM2,
    "mistral3": {"text_config": MINISTRAL3},
    "granite": GRANITE,
    "granitemoehybrid": {**GRANITE, "layer_types": ["attention"] * 3},
    "smollm3": {**COMMON, "num_hidden_layers": 5},
    "qwen3_5": {"text_config": QWEN35},
    "gemma4": {"text_config": GEMMA4, "vocab_size": 300},
    "gemma4_text": GEMMA4,
    "gemma3": {"text_config": GEMMA3, "vocab_size": 300},
}


LOOPED: dict[str, dict[str, Any]] = {
    "nanbeige": {**COMMON, "num_loops": 2},
    "nanbeige, one norm": {**COMMON, "num_loops": 2, "skip_loop_final_norm": True},
    "iquestloopcoder": {**COMMON, "loop_num": 2},
}
OTHER_NAMES: dict[str, dict[str, Any]] = {
    "internlm2": {**COMMON, "bias": False},
    "bailing_moe": {
        **COMMON,
        "moe_intermediate_size": 48,
        "num_experts": 4,
        "num_shared_experts": 1,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "first_k_dense_replace": 1,
    },
    "plamo": {**COMMON, "num_key_value_heads": 4, "n_shared_head": 2},
    "plamo2": {**COMMON, "num_hidden_layers": 4},
    "stablelm": {
        **COMMON,
        "layer_norm_eps": 1e-5,
        "partial_rotary_factor": 0.5,
        "use_qkv_bias": True,
    },
}


def model_of(kind: str, **settings: Any) -> nn.Module:
    """A small random model with an adapter that does something."""
    mx.random.seed(3)
    name = kind.split(",")[0]
    module = importlib.import_module(f"mlx_lm.models.{name}")
    known = {**(CLASSES | LOOPED | OTHER_NAMES)[kind], "model_type": name}
    model = module.Model(module.ModelArgs.from_dict(known))
    model.set_dtype(mx.float32)
    model.update(tree_map(lambda value: value * 1.5, model.parameters()))
    adapters.attach(model, TrainConfig(rank=4, alpha=8.0, **settings))
    drawn = tree_map(
        lambda value: value + 0.1 * mx.random.normal(value.shape), model.trainable_parameters()
    )
    model.update(drawn)
    mx.eval(model.parameters())
    return model


@pytest.mark.parametrize("kind", CLASSES)
def test_loss_and_every_gradient_equal_those_of_examples_alone(kind: str) -> None:
    model = model_of(kind)
    expected_loss, expected = plain(model, examples())
    for layout in {batches.PADDED, workload.batch_layout(model, 300, TrainConfig())}:
        ours_loss, ours = gradients(model, layout.build(examples()))
        assert ours_loss == pytest.approx(expected_loss, rel=1e-5)
        assert ours.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(ours[name], value, atol=2e-4 * np.abs(value).max())


def sums(model: nn.Module, make: Any, options: LossOptions) -> dict[str, np.ndarray]:
    found = backward.sums_of_batch(backward.gradient_of(model, options), make(examples()), (7,))
    return {"loss": np.array(found.loss)} | {k: np.array(v) for k, v in found.gradients.items()}


@pytest.mark.parametrize("kind", CLASSES)
def test_recomputing_changes_no_gradient(kind: str) -> None:
    model = model_of(kind)
    for layout in {batches.PADDED, workload.batch_layout(model, 300, TrainConfig())}:
        expected = sums(model, layout.build, PLAIN)
        ours = sums(model, layout.build, LossOptions(recompute=True))
        for name, value in expected.items():
            np.testing.assert_allclose(ours[name], value, atol=2e-5 * np.abs(value).max())


def test_rows_of_their_own_are_announced_where_examples_cannot_share_one(tmp_path: Path) -> None:
    write_model(tmp_path / "m", "qwen3.5")
    loaded = load(tmp_path / "m")
    assert loaded.context_length == 1024
    recorder = Recorder()
    config = TrainConfig(iterations=3, batch_size=3, rank=4, warmup=1, neftune_alpha=2.0)
    paths = AdapterPaths(tmp_path / "adapter")
    result = loop.train(loaded, rows(5), rows(2), config, paths, recorder.hooks())
    assert [check.kind for check in result.checks if not check.passed] == []
    assert any("余白" in text for text in recorder.warnings)


def test_queries_scaled_by_their_position_are_scaled_by_that_in_their_example() -> None:
    """In a shared row too, far beyond the first examples."""
    model = model_of("mistral3")
    assert concatenated_attention.is_exact(model, 300)
    assert packed_attention.is_exact(model, 300)


@pytest.mark.parametrize(
    "family",
    ["gemma3 with eyes", "gemma4 unified", "ministral3", "granite", "granite4", "smollm3"],
)
def test_a_run_of_three_updates_passes_its_own_checks(tmp_path: Path, family: str) -> None:
    """Among them that mlx-lm, reading the adapter, gives the trained model's logits."""
    write_model(tmp_path / "m", family)
    loaded = load(tmp_path / "m")
    assert loaded.context_length == 1024
    recorder = Recorder()
    config = TrainConfig(iterations=3, batch_size=3, rank=4, warmup=1)
    paths = AdapterPaths(tmp_path / "adapter")
    result = loop.train(loaded, rows(5), rows(2), config, paths, recorder.hooks())
    assert "adapter_reloaded" in {check.kind for check in result.checks}
    assert [check.kind for check in result.checks if not check.passed] == []
    # Three updates move the weights little, but the file holds what was trained.
    export_gguf(tmp_path / "m", paths.folder, {"F32": tmp_path / "m.gguf"})
    tokens = np.random.default_rng(5).integers(0, 600, 160).tolist()
    reference = Reference(tokens, np.array(loaded.model(mx.array([tokens]))[0]))
    assert compare_logits(tmp_path / "m.gguf", [reference], 256).mean_kl < 1e-4


@pytest.mark.parametrize("family", ["gemma2", "qwen2"])
def test_upper_layers_train_alike_on_cached_outputs_of_the_lower_ones(
    tmp_path: Path, family: str
) -> None:
    """Gemma 2 has its scores inline, so that its whole attention is done example by example."""
    write_model(tmp_path / "m", family)
    config = TrainConfig(iterations=3, batch_size=3, rank=4, warmup=1, num_layers=1)

    def losses(folder: Path) -> list[float]:
        recorder = Recorder()
        loaded, paths = load(tmp_path / "m"), AdapterPaths(folder)
        loop.train(loaded, rows(5), rows(2), config, paths, recorder.hooks())
        return recorder.losses

    cached = losses(tmp_path / "cached")
    with patch.object(skipped_work, "can_cache", lambda _: False):
        assert losses(tmp_path / "computed") == pytest.approx(cached, rel=1e-5)


def test_kept_lower_blocks_change_no_loss_and_gemma_4_keeps_none(tmp_path: Path) -> None:
    assert not skipped_work.can_cache(model_of("gemma4", num_layers=2))
    assert skipped_work.can_cache(model_of("gemma3", num_layers=2))
    model = model_of("gemma4", num_layers=2)
    expected, _ = plain(model, examples())
    found = backward.sums_of_batch(
        backward.gradient_of(model), batches.concatenated(examples()), (7,)
    )
    assert float(found.loss.item()) == pytest.approx(expected, rel=1e-5)


# --- experts and short convolutions ------------------------------------------------------

EXPERTS = ("qwen3_moe", "gpt_oss")
NEW = (*EXPERTS, "lfm2")


@pytest.mark.parametrize("kind", NEW)
def test_examples_share_rows_and_the_compiled_gradient_is_the_plain_one(kind: str) -> None:
    model = model_of(kind)
    assert concatenated_attention.is_exact(model, 300)
    assert packed_attention.is_exact(model, 300)
    expected_loss, expected = plain(model, examples())
    value, found = backward.compiled(model)(batches.packed(examples()))
    assert float(value.item()) == pytest.approx(expected_loss, rel=1e-5)
    for name, gradient in named(model, found):
        wanted = expected[name]
        np.testing.assert_allclose(gradient, wanted, atol=2e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", NEW)
def test_layers_multiply_as_mlx_lms_own(kind: str) -> None:
    model = model_of(kind)
    expected_loss, expected = plain(model, examples())
    kinds = set()
    for _, module in model.named_modules():
        stock = LoRASwitchLinear if isinstance(module, LoRASwitchLinear) else LoRALinear
        if isinstance(module, stock):
            module.__class__ = stock
            kinds.add(stock)
    assert (LoRASwitchLinear in kinds) == (kind in EXPERTS)
    found_loss, found = plain(model, examples())
    assert found_loss == pytest.approx(expected_loss, rel=1e-5)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4 * np.abs(value).max())


def test_convolution_that_reaches_into_another_example_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("lfm2")
    monkeypatch.setattr(separated_convolution, "separated", lambda *_: contextlib.nullcontext())
    assert not concatenated_attention.is_exact(model, 300)
    assert not packed_attention.is_exact(model, 300)


@pytest.mark.parametrize("kind", LOOPED)
def test_class_that_goes_through_its_blocks_twice_is_trained_rightly(kind: str) -> None:
    """What is left out of the last block, or known of a lower one, is so the first time round only."""
    model = model_of(kind)
    expected_loss, expected = plain(model, examples())
    layout = workload.batch_layout(model, 300, TrainConfig())
    assert layout == batches.PADDED
    assert not skipped_work.can_cache(model)
    loss, found = gradients(model, layout.build(examples()))
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for name, wanted in expected.items():
        np.testing.assert_allclose(found[name], wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", OTHER_NAMES)
def test_class_whose_parts_have_other_names_is_trained_rightly(kind: str) -> None:
    """`tok_embeddings`, `word_embeddings`; blocks within a module `layers`; a body that wants more than tokens."""
    model = model_of(kind)
    assert skipped_work.lowest_trained(model) == 0
    expected_loss, expected = plain(model, examples())
    layout = workload.batch_layout(model, 300, TrainConfig())
    for options in (PLAIN, LossOptions(noise=1e-9)):
        found = backward.uncompiled(model, options)(layout.build(examples()))
        loss, gradients = found[0].item(), dict(tree_flatten(found[1]))
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        for name, wanted in expected.items():
            np.testing.assert_allclose(gradients[name], wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("bias", [False, True])
def test_convolution_of_a_shared_row_is_that_of_each_example(bias: bool) -> None:
    from mlx_lm.models import lfm2

    settings = lfm2.ModelArgs.from_dict({**LFM2, "model_type": "lfm2", "conv_bias": bias})
    layer = lfm2.Lfm2DecoderLayer(settings, 0)
    layer.update(tree_map(lambda value: mx.random.normal(value.shape), layer.parameters()))
    x = mx.random.normal((1, 9, 64))
    lengths = (4, 1, 2, 2)
    segments = mx.array(np.repeat(np.arange(4, dtype=np.int32), lengths))

    class Owner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [layer]

    with separated_convolution.separated(Owner(), segments):
        found = layer.conv(x)
    starts = np.cumsum(lengths)[:-1].tolist()
    expected = mx.concatenate([layer.conv(part) for part in mx.split(x, starts, axis=1)], axis=1)
    scale = float(mx.abs(expected).max().item())
    np.testing.assert_allclose(np.array(found), np.array(expected), atol=1e-5 * scale)
    assert isinstance(layer.conv.conv, nn.Conv1d)


@pytest.mark.parametrize("kind", EXPERTS)
def test_routers_are_trained_only_if_they_are_named(kind: str) -> None:
    router = {"qwen3_moe": "mlp.gate", "gpt_oss": "mlp.router"}[kind]
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    layers = module.Model(module.ModelArgs.from_dict({**CLASSES[kind], "model_type": kind})).layers
    everything = adapters.target_keys(layers, ("all-linear",))
    assert len(everything) == 7
    assert router not in everything
    assert adapters.target_keys(layers, (router,)) == [router]
    assert len(adapters.target_keys(layers, ("attention",))) == 4


@pytest.mark.parametrize("kind", EXPERTS)
def test_dora_of_experts_is_refused_before_training(kind: str) -> None:
    with pytest.raises(DoraOfExperts, match="attention"):
        model_of(kind, method="dora")
    assert model_of(kind, method="dora", targets=("attention",))


@dataclass(frozen=True)
class TrainedRun:
    base: Path
    adapter: Path
    loaded: LoadedModel
    result: loop.TrainResult
    recorder: Recorder


@pytest.fixture(scope="module", params=NEW)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "lfm2":
        write_model(folder / "m", "lfm2")
    else:
        settings = {"qwen3_moe": expert_models.QWEN3MOE, "gpt_oss": expert_models.GPT_OSS}
        expert_models.write(folder / "m", settings[request.param])
    recorder, loaded = Recorder(), load(folder / "m")
    config = TrainConfig(iterations=3, batch_size=3, rank=4, warmup=0, neftune_alpha=2.0)
    paths = AdapterPaths(folder / "adapter")
    result = loop.train(loaded, rows(5), rows(2), config, paths, recorder.hooks())
    return TrainedRun(folder / "m", paths.folder, loaded, result, recorder)


def test_three_updates_end_well_and_mlx_lm_reads_the_adapter(trained: TrainedRun) -> None:
    assert [check.text_ja for check in trained.result.checks if not check.passed] == []
    assert {check.kind for check in trained.result.checks} >= {
        "adapter_changed",
        "adapter_reloaded",
    }
    assert not trained.result.padded
    assert trained.result.last_loss is not None
    first = next(line for line in trained.recorder.lines if "valid_loss" in line)
    assert trained.result.last_valid_loss != first["valid_loss"]


def test_change_of_each_block_is_that_of_its_weights(trained: TrainedRun) -> None:
    base, tuned = load(trained.base), load(trained.base, trained.adapter)
    found = weight_change.norms(base, trained.adapter)
    adapter_layers.fuse(tuned)
    before, after = (dict(tree_flatten(one.model.parameters())) for one in (base, tuned))
    for layer, (norm, _) in found.items():
        names = [name for name in after if f".layers.{layer}." in name and name.endswith("weight")]
        both = [name for name in names if before[name].shape == after[name].shape]
        squares = [float(mx.square(after[one] - before[one]).sum().item()) for one in both]
        if not any(name.endswith("scales") for name in before):
            assert norm == pytest.approx(sum(squares) ** 0.5, rel=1e-3)
        assert norm > 0


def test_answers_to_many_prompts_are_those_to_each(trained: TrainedRun) -> None:
    loaded = load(trained.base, trained.adapter)
    random = np.random.default_rng(3)
    prompts = [random.integers(3, 500, length).tolist() for length in (4, 9, 6)]
    answers = batch_generate.answers(loaded, prompts, 6, 3)
    ends = set(loaded.tokenizer.eos_token_ids)
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = []
        for token, _ in generate_step(mx.array(prompt), loaded.model, max_tokens=6):
            tokens.append(token)
            if token in ends:
                break
        assert answer.tokens == len(tokens)
