"""GGUF files of every family and type as bases: taught through an adapter, they answer both ways as MLX does.

Small models, which have learned sentences with all their weights, so that they have something to say.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.utils import gguf_base, gguf_reader
from support.gguf_bases import FAMILIES, QUANTS, changed, compared, pretrained, taught_base
from support.sweeps import sweep

UPDATES = 60
"""Of both trainings; by then what was taught is known by heart."""


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """A family's model, made when it is first asked for."""

    @functools.cache
    def made(family: str) -> Path:
        folder = tmp_path_factory.mktemp("family") / "model"
        pretrained(folder, family, UPDATES)
        return folder

    mx.disable_compile()  # it would take longer than models of this size
    yield made
    mx.enable_compile()


@pytest.mark.parametrize(
    ("family", "quant"), sweep(itertools.product(FAMILIES, QUANTS), always={("qwen3", "Q4_K_M")})
)
def test_taught_file_answers_as_mlx_with_the_adapter_and_as_a_new_file(
    family: str, quant: str, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    file = tmp_path / f"{quant}.gguf"
    export_gguf(model_of(family), None, {quant: file})
    sha256 = gguf_base.sha256(file)
    base = taught_base(file, UPDATES)
    assert base.loss < 0.01
    for way, answered_by in base.ways.items():
        found = compared(base.answers["taught"], *answered_by)
        assert (found.prompts, found.top1, found.answers) == (1, 1, 1), (way, found)
        assert compared(base.answers["before"], *answered_by).prompts == 1, way
    new, _ = base.ways["new file"]
    before, after = (gguf_reader.read(path).tensors for path in (file, new))
    linear = {name for name, tensor in before.items() if "blk." in name and len(tensor.shape) == 2}
    assert before.keys() == after.keys()
    assert changed(file, new) == linear  # all else has the base's bytes
    assert gguf_base.sha256(file) == sha256
