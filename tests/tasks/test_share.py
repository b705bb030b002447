"""Sharing a run: into a folder, a ZIP file and a repository, each holding what it says and no more."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import yaml
from mlx_lm.utils import load_adapters, load_model
from safetensors.numpy import load_file

from mlx_finetuning import config, files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import HubTokenMissing, InvalidSettings, RepositoryIsPublic
from mlx_finetuning.jobs.results import Certificate, EngineRow, Shared
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import export, share
from mlx_finetuning.workspace import Workspace
from support import finished_run
from support.hub_server import GOOD_TOKEN, Hub, Repository, running_hub

REPO = "me/shop-answers"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a run, its settings, a GGUF file and a certificate, to be copied."""
    made = Workspace(tmp_path_factory.mktemp("exported"))
    finished_run.make(made)
    paths = made.run(finished_run.RUN)
    settings = config.as_dict(TrainConfig(dataset=finished_run.DATASET))
    paths.config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    export.run(finished_run.context(made, quant="Q8_0"))
    row = EngineRow("Q8_0", 8, 1.0, 0.984, 0.001, 0.875, 1.0, "", label="GGUF Q8_0")
    certificate = Certificate(True, "同じ動きをします。", 8, 3, (row,))
    files.write_json(paths.certificate, dataclasses.asdict(certificate))
    return made


@pytest.fixture
def workspace(tmp_path: Path, exported: Workspace) -> Workspace:
    copied = Workspace(tmp_path / "workspace")
    shutil.copytree(exported.root, copied.root)
    return copied


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    # The real hub takes large files by a protocol of its own, too; here they come by LFS.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def shared(workspace: Workspace, **details: Any) -> Shared:
    wanted = {"out": None, "repository": "", "public": False, **details}
    context = finished_run.context(workspace, **wanted)
    files.make_folder(context.paths.folder)
    return share.run(context)


def test_folder_holds_a_model_for_every_program(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = shared(workspace, out=str(out))
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert found == set(result.files)
    adapter = workspace.adapter(finished_run.RUN)
    gguf = workspace.gguf_folder(finished_run.RUN) / "tiny-ja-Q8_0.gguf"
    assert (out / "gguf/tiny-ja-Q8_0.gguf").read_bytes() == gguf.read_bytes()
    assert (out / "mlx/adapters.safetensors").read_bytes() == adapter.weights.read_bytes()
    assert "FROM ./tiny-ja-Q8_0.gguf" in (out / "gguf/Modelfile").read_text(encoding="utf-8")
    model, _ = load_model(finished_run.base(workspace))
    model = load_adapters(model, str(out / "mlx"))
    stored = load_file(adapter.weights)
    loaded = dict(_flat(model.trainable_parameters()))
    assert all(np.array_equal(stored[name], loaded[name]) for name in stored)
    peft = load_file(out / "peft/adapter_model.safetensors")
    assert len(peft) == len(stored)


def _flat(tree: Any) -> Iterator[tuple[str, Any]]:
    from mlx.utils import tree_flatten

    for name, array in tree_flatten(tree):
        yield name, np.array(array)


def test_nothing_shared_tells_the_data_or_where_things_lie(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = workspace.adapter(finished_run.RUN).config
    record = json.loads(path.read_text(encoding="utf-8"))
    # As mlx-lm's own trainer writes it.
    path.write_text(json.dumps({**record, "data": str(tmp_path), "adapter_path": str(tmp_path)}))
    out = tmp_path / "out"
    shared(workspace, out=str(out))
    for file in out.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert str(tmp_path).encode() not in content, file
            for question in finished_run.QUESTIONS:
                assert question.encode() not in content, file


def test_card_says_what_was_measured_and_what_it_stands_on(
    workspace: Workspace, tmp_path: Path
) -> None:
    shared(workspace, out=str(tmp_path / "out"))
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "mit"
    assert "評価していません" in body and "Not evaluated" in body
    assert "| GGUF Q8_0 | 98.4 % | 87.5 % |" in body
    assert "| データの行（学習・検証・テスト） | 3・2・3 |" in body
    assert "| LoRAのランク | 16 |" in body and "| 学習の方法 | LoRA |" in body
    assert not re.search(r"\b(learning_rate|batch_size|max_length|replay)\b", body)


def test_card_names_a_modelfile_only_where_there_is_one(
    workspace: Workspace, tmp_path: Path
) -> None:
    shared(workspace, out=str(tmp_path / "talks"))
    assert "Modelfile" in (tmp_path / "talks/README.md").read_text(encoding="utf-8")
    finished_run.forget_template(workspace)
    result = shared(workspace, out=str(tmp_path / "silent"))
    assert "gguf/Modelfile" not in result.files
    assert "Modelfile" not in (tmp_path / "silent/README.md").read_text(encoding="utf-8")


def test_file_of_an_earlier_training_stays_behind(workspace: Workspace, tmp_path: Path) -> None:
    workspace.adapter(finished_run.RUN).weights.touch()
    result = shared(workspace, out=str(tmp_path / "out"))
    assert not [name for name in result.files if name.startswith("gguf/")]
    assert "GGUF" in result.notes[0]


def test_zip_holds_the_same_as_the_folder(workspace: Workspace, tmp_path: Path) -> None:
    in_folder = shared(workspace, out=str(tmp_path / "out"))
    in_zip = shared(workspace, out=str(tmp_path / "model.zip"))
    assert in_zip.files == in_folder.files
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert archive.testzip() is None
        for name in in_folder.files:
            assert archive.read(f"model/{name}") == (tmp_path / "out" / name).read_bytes()


def test_push_is_private_and_one_commit(hub: Hub, workspace: Workspace) -> None:
    result = shared(workspace, repository=REPO)
    repository = hub.repositories[REPO]
    assert repository.private
    assert len(repository.commits) == 1
    assert set(repository.files) == set(result.files)
    gguf = workspace.gguf_folder(finished_run.RUN) / "tiny-ja-Q8_0.gguf"
    assert repository.files["gguf/tiny-ja-Q8_0.gguf"] == gguf.read_bytes()
    assert result.place == f"{hub.url}/{REPO}"
    assert shared(workspace, repository="me/open", public=True)
    assert not hub.repositories["me/open"].private


def test_push_into_a_public_repository_sends_nothing_unless_asked(
    hub: Hub, workspace: Workspace
) -> None:
    hub.repositories[REPO] = Repository({})
    with pytest.raises(RepositoryIsPublic):
        shared(workspace, repository=REPO)
    assert not hub.repositories[REPO].files and not hub.objects


def test_push_without_token_or_with_a_strange_name_starts_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Studio(workspace).records
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(HubTokenMissing):
        records.publish(finished_run.RUN, REPO)
    with pytest.raises(InvalidSettings):
        records.publish(finished_run.RUN, "no-owner")
    assert not list(workspace.run(finished_run.RUN).jobs.glob("share-*"))
