"""An F16 or BF16 base on a CPU: kept as it is stored, it computes what float32 does, in half of the memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import Interrupted
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.examples import encode_rows
from mlx_finetuning.mlx_trainer.gradient import backward
from mlx_finetuning.mlx_trainer.inference import generate, layerwise
from mlx_finetuning.mlx_trainer.kernels import backend
from mlx_finetuning.mlx_trainer.model import (
    adapter_layers,
    adapters,
    gguf_weights,
    half_precision,
)
from mlx_finetuning.mlx_trainer.model.half_precision import HalfEmbedding, HalfLinear
from mlx_finetuning.mlx_trainer.model.load import load, load_beside, load_module
from mlx_finetuning.mlx_trainer.training import loop, memory_fit, selfcheck
from mlx_finetuning.quantizer.base import folder
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.utils import gguf_base
from mlx_finetuning.workspace import AdapterPaths
from support.gguf_bases import greedy
from support.recorded_run import CONFIG, Recorder, rows
from support.resumed_run import metrics, stop_at, train
from support.small_models import write_adapter, write_model
from support.sweeps import sweep

pytestmark = [
    pytest.mark.skipif(mx.default_device() != mx.cpu, reason="for a CPU"),
    pytest.mark.skipif(backend.chosen().halves is None, reason="without the C++ kernels"),
]
FAMILIES = ("llama 2", "llama 3", "qwen2", "gemma2", "phi4")
"""Heads of their own and such as are embeddings, rows in another order, biases, scaled embeddings, joined
layers."""
KINDS = {"F16": mx.float16, "BF16": mx.bfloat16}
TOKENS = [1, 5, 7, 300, 12, 4]


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A random model of a family as a GGUF base of a type, made once."""
    made = tmp_path_factory.mktemp("halves")

    def base(family: str, quant: str = "F16") -> Path:
        model, file = made / family, made / f"{family}-{quant}.gguf"
        if not model.exists():
            write_model(model, family, dtype=mx.float32)
        if not file.exists():
            export_gguf(model, None, {quant: file})
            folder.write(file, file.with_suffix(""))
        return file.with_suffix("")

    return base


@contextmanager
def as_float32() -> Iterator[None]:
    """As without the C++ kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf_weights, "_stays_half", lambda tensor: False)
        yield


def both(work: Callable[[], Any]) -> tuple[Any, Any]:
    """Of halves, and of float32."""
    of_halves = work()
    with as_float32():
        return of_halves, work()


def halves_of(model: nn.Module) -> set[type]:
    return {type(module) for _, module in model.named_modules()} & set(half_precision.LAYERS)


def dtypes(model: nn.Module) -> set[mx.Dtype]:
    return {array.dtype for _, array in tree_flatten(model.parameters())}


def near(left: object, right: object, share: float = 5e-6) -> None:
    scale = float(np.abs(np.array(right)).max())
    np.testing.assert_allclose(np.array(left), np.array(right), rtol=0, atol=share * scale)


# --- what it is -------------------------------------------------------------------------


@pytest.mark.parametrize("quant", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_matrices_stay_as_stored_and_take_half(
    family: str, quant: str, base_of: Callable[..., Path]
) -> None:
    path = base_of(family, quant)
    model, _ = load_module(path)
    assert halves_of(model) == {HalfLinear, HalfEmbedding}
    for name, array in tree_flatten(model.parameters()):
        assert array.dtype == (KINDS[quant] if array.ndim == 2 else mx.float32), name
    with as_float32():
        plain, _ = load_module(path)
    assert halves_of(plain) == set() and dtypes(plain) == {mx.float32}
    for (name, ours), (other, theirs) in zip(
        tree_flatten(model.parameters()), tree_flatten(plain.parameters()), strict=True
    ):
        assert name == other and mx.array_equal(ours.astype(mx.float32), theirs), name
    sizes = [sum(a.nbytes for _, a in tree_flatten(one.parameters())) for one in (model, plain)]
    assert sizes[0] == pytest.approx(sizes[1] / 2, rel=0.02)
    base = gguf_base.read(path)
    assert base is not None
    assert gguf_weights.loaded_bytes(base) == memory_fit.weights_bytes(path) == sizes[0]


def test_without_the_kernels_all_is_float32(
    base_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = base_of("llama 3")
    of_halves = generate.logits(load(path), TOKENS)
    monkeypatch.setattr(backend, "chosen", lambda: backend.PYTHON)
    loaded = load(path)
    assert halves_of(loaded.model) == set() and dtypes(loaded.model) == {mx.float32}
    np.testing.assert_allclose(of_halves, generate.logits(loaded, TOKENS), atol=1e-4)


def test_other_arrays_of_half_precision_become_float32() -> None:
    class Other(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.table = nn.Linear(4, 3, bias=True), mx.zeros((2, 2))

    model = Other()
    weights = {
        "inner.weight": mx.ones((3, 4), mx.float16),
        "inner.bias": mx.ones(3),
        "table": mx.ones((2, 2), mx.bfloat16),
    }
    half_precision.put_into(model, weights)
    model.load_weights(list(weights.items()))
    assert type(model.inner) is HalfLinear and not model.inner.trainable_parameters()
    assert model.table.dtype == mx.float32 and model.inner.weight.dtype == mx.float16
    assert model.inner(mx.ones((2, 4))).tolist() == [[5.0] * 3] * 2


# --- what it computes -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "quant"), [*((family, "F16") for family in FAMILIES), ("gemma2", "BF16")]
)
def test_the_same_predictions_and_answers(
    family: str, quant: str, base_of: Callable[..., Path]
) -> None:
    def asked() -> tuple[object, list[int]]:
        loaded = load(base_of(family, quant))
        logits = loaded.model(mx.array([TOKENS]))
        assert logits.dtype == mx.float32
        embedded = loaded.model.model.embed_tokens(mx.array(TOKENS))
        assert embedded.dtype == mx.float32
        return logits, greedy(loaded, loaded.render(rows(1)[0]["messages"][:1], ask=True))

    (ours, said), (theirs, also_said) = both(asked)
    near(ours, theirs)
    assert said == also_said


@pytest.mark.parametrize(
    ("family", "method"),
    sweep(
        [*((family, "lora") for family in FAMILIES), ("qwen2", "dora"), ("llama 2", "full")],
        {("llama 3", "lora"), ("gemma2", "lora"), ("qwen2", "dora"), ("llama 2", "full")},
    ),
)
def test_the_same_training(
    family: str, method: str, base_of: Callable[..., Path], tmp_path: Path
) -> None:
    """Losses, what is learned, and what the saved adapter predicts."""
    layers = -1 if method == "lora" else 1
    config = dataclasses.replace(CONFIG, method=method, iterations=4, num_layers=layers)
    path, paths = base_of(family), iter("ab")

    def trained() -> tuple[list[float], object]:
        loaded, recorder = load(path), Recorder()
        result = AdapterPaths(tmp_path / next(paths))
        loop.train(loaded, rows(7), rows(2), config, result, recorder.hooks())
        check = selfcheck.reloaded(loaded, result.folder, TOKENS)
        assert check is not None and check.passed
        changed = load(path, result.folder)
        near(generate.logits(changed, TOKENS), generate.logits(loaded, TOKENS))
        return recorder.losses, generate.logits(changed, TOKENS)

    (losses, predicted), (other_losses, also_predicted) = both(trained)
    assert losses == pytest.approx(other_losses, rel=2e-6)
    np.testing.assert_allclose(predicted, also_predicted, atol=1e-3)


@pytest.mark.parametrize("family", ["llama 2", "gemma2", "qwen2"])
def test_the_same_gradients(family: str, base_of: Callable[..., Path]) -> None:
    def gradients() -> dict[str, mx.array]:
        loaded = load(base_of(family))
        mx.random.seed(0)
        adapters.attach(loaded.model, CONFIG)
        layout = batches.CONCATENATED
        [group, *_] = layout.grouped(encode_rows(loaded, rows(5), 256))
        gradient = backward.gradient_for(loaded.model, CONFIG)
        return backward.sums_of_batch(gradient, layout.build(group), (0,)).gradients

    ours, theirs = both(gradients)
    assert ours.keys() == theirs.keys() and ours
    for name, found in ours.items():
        scale = float(mx.abs(theirs[name]).max())
        np.testing.assert_allclose(found, theirs[name], rtol=0, atol=2e-5 * scale + 1e-12)


@pytest.mark.parametrize(("method", "wide"), [("full", True), ("dora", True), ("lora", False)])
def test_what_takes_whole_weights_gets_float32(
    method: str, wide: bool, base_of: Callable[..., Path]
) -> None:
    loaded = load(base_of("qwen2"))
    config: TrainConfig = dataclasses.replace(CONFIG, method=method, num_layers=1)
    adapters.attach(loaded.model, config)
    assert (HalfLinear in halves_of(loaded.model.layers[-1])) is not wide
    assert {array.dtype for _, array in tree_flatten(loaded.model.trainable_parameters())} == {
        mx.float32
    }
    assert HalfEmbedding in halves_of(loaded.model)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_merged_adapter_is_not_rounded(
    kind: str, base_of: Callable[..., Path], tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / kind, write_model(tmp_path / "m", "qwen2"), kind=kind)
    loaded = load(base_of("qwen2"), adapter)
    before = generate.logits(loaded, TOKENS)
    adapter_layers.fuse(loaded)
    near(generate.logits(loaded, TOKENS), before, 1e-5)  # rounded to half precision 1e-3
    beside = load_beside(load(base_of("qwen2")), base_of("qwen2"), adapter)
    near(generate.logits(beside, TOKENS), before)
    adapter_layers.detach(beside)
    near(generate.logits(beside, TOKENS), generate.logits(load(base_of("qwen2")), TOKENS))


def test_layer_by_layer_it_predicts_the_same(base_of: Callable[..., Path]) -> None:
    path = base_of("gemma2")
    [found] = layerwise.logits(path, None, [TOKENS])
    near(found[-1], generate.logits(load(path), TOKENS)[-1])
    ours, theirs = both(lambda: layerwise.importance(path, None, [TOKENS]))
    assert ours.keys() == theirs.keys()
    for name, squares in ours.items():
        near(squares, theirs[name])


def test_a_run_of_float32_goes_on_with_halves(base_of: Callable[..., Path], tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, iterations=6)
    with as_float32():
        train(tmp_path / "whole", config, loaded=load(base_of("llama 3")))
        with pytest.raises(Interrupted):
            train(tmp_path / "cut", config, stop_at(4), loaded=load(base_of("llama 3")))
    train(tmp_path / "cut", config, loaded=load(base_of("llama 3")))
    assert metrics(tmp_path / "cut", "loss") == pytest.approx(
        metrics(tmp_path / "whole", "loss"), rel=1e-6
    )


def test_bits_that_are_no_numbers_stay_visible(base_of: Callable[..., Path]) -> None:
    layer = load(base_of("qwen2")).model.layers[0].mlp.up_proj
    layer.weight = mx.full(layer.weight.shape, float("nan"), mx.float16)
    assert mx.isnan(layer(mx.ones((1, layer.weight.shape[1])))).all()
