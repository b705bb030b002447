"""A GGUF base in memory: packed as on a GPU, it trains as its dequantized values do, in less memory."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import FullNeedsPlainWeights
from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.model import adapters, gguf_weights, unpacking
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.mlx_trainer.model.six_bit import SixBitEmbedding, SixBitLinear
from mlx_finetuning.mlx_trainer.training import loop
from mlx_finetuning.quantizer.base import folder
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.utils import gguf_base
from mlx_finetuning.workspace import AdapterPaths
from support.recorded_run import CONFIG, Recorder, rows, tiny_folder
from support.small_models import write_model
from support.sweeps import sweep

QUANTS = ("Q4_K_M", "Q5_K_M", "Q8_0")


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The built-in model as a GGUF base of a type, made when it is first asked for."""

    @functools.cache
    def made(quant: str) -> Path:
        place = tmp_path_factory.mktemp("bases")
        export_gguf(tiny_folder(), None, {quant: place / "base.gguf"})
        folder.write(place / "base.gguf", place / "base")
        return place / "base"

    return made


def keep_packed(monkeypatch: pytest.MonkeyPatch, *, packed: bool) -> None:
    """As a GPU does it, or as a CPU with memory enough."""
    monkeypatch.setattr(gguf_weights, "_stays_packed", lambda tensors: packed)
    monkeypatch.setattr(unpacking, "fits", lambda values: not packed)


@pytest.mark.parametrize(
    ("quant", "method"), sweep(itertools.product(QUANTS, ("lora", "dora")), {("Q4_K_M", "lora")})
)
def test_packed_base_trains_as_dequantized(
    quant: str,
    method: str,
    base_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config: TrainConfig = dataclasses.replace(CONFIG, method=method, iterations=3)
    losses, answers = [], []
    for packed in (True, False):
        keep_packed(monkeypatch, packed=packed)
        loaded, recorder = load(base_of(quant)), Recorder()
        paths = AdapterPaths(tmp_path / str(packed))
        loop.train(loaded, rows(7), rows(2), config, paths, recorder.hooks())
        losses.append(recorder.losses)
        trained = load(base_of(quant), paths.folder)
        prompt = trained.render(rows(1)[0]["messages"][:1], ask=True)
        answers.append(mx.array(generate.logits(trained, prompt)))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert mx.allclose(*answers, rtol=1e-2, atol=1e-2)


def test_six_bit_layers_stand_for_linear_ones_and_embeddings(
    base_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_packed(monkeypatch, packed=True)
    loaded = load(base_of("Q4_K_M"))
    kinds = {type(module) for _, module in loaded.model.named_modules()}
    assert {SixBitLinear, SixBitEmbedding} <= kinds
    with pytest.raises(FullNeedsPlainWeights):
        adapters.attach(loaded.model, dataclasses.replace(CONFIG, method="full"))


def test_packed_base_takes_two_fifths_of_half_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns are multiples of 256, as in the models that people have."""
    keep_packed(monkeypatch, packed=True)
    write_model(tmp_path / "m", "qwen3", hidden_size=512, num_hidden_layers=8)
    export_gguf(tmp_path / "m", None, {"Q4_K_M": tmp_path / "m.gguf"})
    folder.write(tmp_path / "m.gguf", tmp_path / "base")
    base = gguf_base.read(tmp_path / "base")
    assert base is not None
    arrays = [array for _, array in tree_flatten(load(tmp_path / "base").model.parameters())]
    plain = gguf_weights.arrays(base, packed=False)
    half = sum(2 * array.size for array in plain.values())
    assert sum(array.nbytes for array in arrays) <= 0.4 * half
    assert gguf_weights.loaded_bytes(base) == pytest.approx(
        sum(array.nbytes for array in arrays), rel=0.01
    )
