"""Adapters made elsewhere become runs like any other. Those in support/peft_adapters, and the logits beside
them, are peft's own (0.21.2 with torch 2.15); mlx-lm's is written by its own code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlx_finetuning.config import EvaluateConfig, ExportConfig
from mlx_finetuning.errors import (
    AdapterNotImportable,
    DatasetNotFound,
    RunHasNoDataset,
    StudioError,
)
from mlx_finetuning.mlx_trainer.model.load import load, load_weights
from mlx_finetuning.progress import silent
from mlx_finetuning.quantizer.formats import foreign_adapters
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support.helpers import write_facts
from support.recorded_run import tiny_folder

pytestmark = pytest.mark.usefixtures("jobs_in_process")
PEFT = Path(__file__).parents[1] / "support" / "peft_adapters"
ASKED = [1, 300, 41, 77, 1203, 15, 982, 2044, 6, 3]
"""What peft was asked with for `logits.npy`: the last token's."""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, jobs_in_process: None) -> Studio:
    studio = Studio(Workspace(tmp_path_factory.mktemp("import")))
    write_facts(studio.workspace)
    return studio


def imported(studio: Studio, folder: Path, dataset: str = "") -> str:
    run_id = studio.importing.start(folder, "tiny-ja", dataset)
    result = studio.runs.follow(run_id, silent)
    assert [check.kind for check in result.checks] == ["imported", "adapter_reloaded"]
    assert all(check.passed for check in result.checks)
    return run_id


def last_logits(studio: Studio, run_id: str) -> np.ndarray[Any, Any]:
    model = load(tiny_folder(), studio.workspace.adapter(run_id).folder).model
    return np.array(model(mx.array([ASKED])))[0, -1]


@pytest.fixture(scope="module")
def lora(studio: Studio) -> str:
    return imported(studio, PEFT / "lora", "facts")


@pytest.fixture(scope="module")
def dora(studio: Studio) -> str:
    return imported(studio, PEFT / "dora")


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_peft_adapter_predicts_as_in_peft(
    studio: Studio, kind: str, request: pytest.FixtureRequest
) -> None:
    """With ranks and scales by layer, some layers only, and rsLoRA."""
    found = last_logits(studio, request.getfixturevalue(kind))
    expected = np.load(PEFT / kind / "logits.npy")
    untrained = np.array(load(tiny_folder()).model(mx.array([ASKED])))[0, -1]
    assert np.abs(expected - untrained).max() > 1
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.usefixtures("few_general")
def test_imported_run_is_evaluated_exported_continued_and_made_again(
    studio: Studio, lora: str
) -> None:
    run = studio.runs.show(lora)
    assert (run.imported, run.dataset, run.shown_state.value) == ("peft", "facts", "done")
    report = studio.evaluation.start(lora, EvaluateConfig(max_rows=4, max_tokens=4)).follow()
    assert report.splits["train"].tuned.loss != report.splits["train"].base.loss
    exported = studio.exports.start(lora, ExportConfig(format="peft")).follow()
    again = imported(studio, Path(exported.path))
    np.testing.assert_allclose(
        last_logits(studio, again), last_logits(studio, lora), rtol=0, atol=1e-4
    )
    onward = {"iterations": 2, "validate_every": 2, "sample_every": 0, "batch_size": 2}
    continued = studio.training.continue_run(lora, onward)
    assert studio.runs.follow(continued, silent).updates == 2
    repeated = studio.training.rerun(lora)
    studio.runs.follow(repeated, silent)
    weights = [studio.workspace.adapter(one).weights.read_bytes() for one in (lora, repeated)]
    assert weights[0] == weights[1]


def test_run_without_dataset_is_certified_and_exported_but_not_evaluated(
    studio: Studio, dora: str
) -> None:
    with pytest.raises(RunHasNoDataset):
        studio.evaluation.start(dora)
    exported = studio.exports.start(dora, ExportConfig(quant="F16")).follow()
    assert Path(exported.path).is_file()


def write_mlx_lm(folder: Path, method: str = "lora", **parameters: Any) -> dict[str, mx.array]:
    """As `mlx_lm lora` leaves it; returns its arrays."""
    model, _ = load_weights(tiny_folder())
    model.set_dtype(mx.float32)
    model.freeze()
    form = {"rank": 3, "scale": 4.0, "dropout": 0.0, **parameters}
    linear_to_lora_layers(model, 2, form, use_dora=method == "dora")
    mx.random.seed(3)
    arrays = {
        name: value + 0.05 * mx.random.normal(value.shape)
        for name, value in tree_flatten(model.trainable_parameters())
    }
    folder.mkdir(parents=True)
    mx.save_safetensors(str(folder / "adapters.safetensors"), arrays)
    record = {"fine_tune_type": method, "num_layers": 2, "model": "somewhere/Other-Model"}
    text = json.dumps({**record, "lora_parameters": form})
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    return arrays


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_mlx_lm_adapter_keeps_its_arrays(studio: Studio, tmp_path: Path, method: str) -> None:
    """It names no layers: then mlx-lm has trained them all."""
    arrays = write_mlx_lm(tmp_path / "made", method)
    run_id = imported(studio, tmp_path / "made")
    kept = mx.load(str(studio.workspace.adapter(run_id).weights))
    assert kept.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(np.array(kept[name]), np.array(value))
    assert "Other-Model" in studio.workspace.run(run_id).result.read_text("utf-8")


def config_with(**changed: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        text = json.dumps({**json.loads(path.read_text("utf-8")), **changed})
        path.write_text(text, encoding="utf-8")

    return change


def renamed(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        arrays = mx.load(str(path))
        mx.save_safetensors(str(path), {n.replace(old, new): v for n, v in arrays.items()})

    return change


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def cut(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def poisoned(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    arrays = mx.load(str(path))
    name = sorted(arrays)[0]
    mx.save_safetensors(str(path), {**arrays, name: arrays[name] * mx.nan})


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "another kind": (config_with(peft_type="IA3"), "IA3"),
    "whole weights": (config_with(modules_to_save=["lm_head"]), "modules_to_save"),
    "new tokens": (config_with(trainable_token_indices=[5]), "trainable_token_indices"),
    "biases": (config_with(bias="all"), "バイアス"),
    "changed base": (config_with(init_lora_weights="pissa"), "pissa"),
    "no alpha": (config_with(lora_alpha=None), "adapter_config.json"),
    "a list": (lambda f: (f / "adapter_config.json").write_text("[]"), "adapter_config.json"),
    "no settings": (lambda f: (f / "adapter_config.json").unlink(), "adapter_config.json"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "adapter_model"),
    "a pickle": (pickled, "pickle"),
    "cut": (cut, "切れて"),
    "not finite": (poisoned, "nan"),
    "half a pair": (renamed("layers.3.self_attn.q_proj.lora_B", "layers.3.x.lora_B"), "lora_B"),
    "outside the layers": (renamed("model.layers.3.self_attn.q_proj", "lm_head"), "lm_head"),
    "more layers": (renamed("layers.5", "layers.25"), "25番目"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_taken_over_is_refused_at_once(
    studio: Studio, tmp_path: Path, bad: str
) -> None:
    change, reason = BAD[bad]
    shutil.copytree(PEFT / "lora", folder := tmp_path / "adapter")
    change(folder)
    before = studio.runs.list()
    with pytest.raises(AdapterNotImportable) as refused:
        studio.importing.start(folder, "tiny-ja")
    assert reason in refused.value.data["reason"]
    assert studio.runs.list() == before


UNFIT = {
    "another shape": ("self_attn.q_proj", "self_attn.k_proj"),
    "another name": ("self_attn.q_proj", "self_attn.query"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_adapter_of_another_base_is_refused(studio: Studio, tmp_path: Path, case: str) -> None:
    shutil.copytree(PEFT / "lora", folder := tmp_path / "adapter")
    renamed(*UNFIT[case])(folder)
    run_id = studio.importing.start(folder, "tiny-ja")
    with pytest.raises(AdapterNotImportable) as refused:
        studio.runs.follow(run_id, silent)
    assert "合いません" in str(refused.value) or "ありません" in str(refused.value)
    assert not studio.workspace.adapter(run_id).folder.exists()


def test_dataset_and_folder_have_to_be_there(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound):
        studio.importing.start(PEFT / "lora", "tiny-ja", "nowhere")
    with pytest.raises(StudioError) as refused:
        studio.importing.start(tmp_path / "nowhere", "tiny-ja")
    assert "フォルダーがありません" in str(refused.value)


def test_patterns_match_whole_parts_of_names() -> None:
    found = {
        (change.layer, change.key): (change.rank, change.scale)
        for change in foreign_adapters.read(PEFT / "lora").changes
    }
    assert found[3, "self_attn.q_proj"] == (2, 3.0)  # rank_pattern
    assert found[5, "self_attn.v_proj"] == (4, 2.25)  # alpha_pattern
    assert found[3, "self_attn.v_proj"] == (4, 1.5)
