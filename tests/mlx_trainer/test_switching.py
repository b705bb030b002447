"""Putting an adapter aside gives the base to the last bit, and taking it up again the tuned model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.model import adapter_toggle
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.workspace import Workspace
from support import finished_run

TOKENS = [1, 50, 300, 900, 42, 7]


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_base_and_tuned_come_from_one_set_of_weights(tmp_path: Path, kind: str) -> None:
    workspace = Workspace(tmp_path)
    run_id = finished_run.make(workspace, scale=2.0, kind=kind)
    tuned = load(finished_run.base(workspace), workspace.adapter(run_id).folder)
    base = generate.logits(load(finished_run.base(workspace)), TOKENS)
    changed = generate.logits(tuned, TOKENS)
    assert adapter_toggle.can_toggle(tuned)
    with adapter_toggle.without_adapter(tuned):
        assert np.array_equal(generate.logits(tuned, TOKENS), base)
    assert np.array_equal(generate.logits(tuned, TOKENS), changed)
    assert not np.allclose(base, changed, atol=0.1)
    adapter_toggle.fuse(tuned)
    assert not adapter_toggle.can_toggle(tuned)
    assert np.allclose(generate.logits(tuned, TOKENS), changed, atol=1e-2)


def test_failure_within_the_block_takes_the_adapter_up_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run_id = finished_run.make(workspace, scale=2.0)
    tuned = load(finished_run.base(workspace), workspace.adapter(run_id).folder)
    changed = generate.logits(tuned, TOKENS)
    with pytest.raises(KeyError), adapter_toggle.without_adapter(tuned):
        raise KeyError
    assert np.array_equal(generate.logits(tuned, TOKENS), changed)


def test_model_without_an_adapter_has_nothing_to_put_aside() -> None:
    assert not adapter_toggle.can_toggle(load(finished_run.base(Workspace(Path("/nonexistent")))))
