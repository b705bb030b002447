"""Models with adapters from one set of the base's weights, and adapters that are merged into them."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.model import adapter_layers
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load, load_beside
from mlx_finetuning.workspace import Workspace
from support import finished_run, small_models

TOKENS = [1, 50, 300, 900, 42, 7]


def arrays(loaded: LoadedModel) -> dict[int, mx.array]:
    return {id(array): array for _, array in tree_flatten(loaded.model.parameters())}


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_a_model_beside_its_base_computes_as_if_it_were_alone(tmp_path: Path, kind: str) -> None:
    workspace = Workspace(tmp_path)
    adapter = workspace.adapter(finished_run.make(workspace, scale=2.0, kind=kind)).folder
    folder = finished_run.base(workspace)
    base = load(folder)
    if kind == "full":
        norm = {"model.norm.weight": base.model["model"].norm.weight * 1.5}
        mx.save_safetensors(str(adapter / "adapters.safetensors"), norm)
    before = generate.logits(base, TOKENS)
    tuned = load_beside(base, folder, adapter)
    changed = generate.logits(tuned, TOKENS)
    assert np.array_equal(changed, generate.logits(load(folder, adapter), TOKENS))
    assert np.array_equal(generate.logits(base, TOKENS), before)
    assert not np.allclose(before, changed, atol=0.1)
    own = arrays(tuned).keys() - arrays(base).keys()
    assert len(own) == len(mx.load(str(adapter / "adapters.safetensors")))


@pytest.mark.parametrize("family", ["gemma4", "lfm2", "phi3", "qwen3.5"])
def test_models_of_other_families_share_their_weights_too(tmp_path: Path, family: str) -> None:
    folder = tmp_path / "base"
    config = small_models.write_model(folder, family=family)
    adapter = small_models.write_adapter(tmp_path / "adapter", config)
    base = load(folder)
    tuned = load_beside(base, folder, adapter)
    assert arrays(base).keys() <= arrays(tuned).keys()
    alone = generate.logits(load(folder, adapter), [1, 5, 7])
    assert np.array_equal(generate.logits(tuned, [1, 5, 7]), alone)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_merged_adapter_computes_the_same(tmp_path: Path, kind: str) -> None:
    workspace = Workspace(tmp_path)
    run_id = finished_run.make(workspace, scale=2.0, kind=kind)
    tuned = load(finished_run.base(workspace), workspace.adapter(run_id).folder)
    changed = generate.logits(tuned, TOKENS)
    adapter_layers.fuse(tuned)
    assert np.allclose(generate.logits(tuned, TOKENS), changed, atol=1e-2)
    adapter_layers.detach(tuned)  # nothing is left to take off
    assert np.allclose(generate.logits(tuned, TOKENS), changed, atol=1e-2)


def test_adapter_that_is_taken_off_leaves_the_base(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run_id = finished_run.make(workspace, scale=2.0)
    tuned = load(finished_run.base(workspace), workspace.adapter(run_id).folder)
    adapter_layers.detach(tuned)
    base = generate.logits(load(finished_run.base(workspace)), TOKENS)
    assert np.array_equal(generate.logits(tuned, TOKENS), base)
