"""Base models on the page 学習: fetched from a hub on loopback, used, and deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_finetuning import files, models
from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.models import fitting
from mlx_finetuning.studio import Studio
from mlx_finetuning.utils.memory_monitor import Memory
from mlx_finetuning.workspace import Workspace
from support import ui_workspaces
from support.helpers import wait_until
from support.hub_server import Hub, Repository, running_hub
from support.ollama_store import put, write_gguf
from support.ui_pages import click, open_page, shown_errors, texts

MODEL, ABSENT = "Qwen/Qwen3-0.6B", "Qwen/Qwen3-1.7B"


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))


@pytest.fixture
def hub(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """It has one model of the catalogue: the built-in one, under that name."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    folder = models.resolve(models.BUILT_IN, workspace)
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.repositories[MODEL] = Repository(content, commit="ab" * 20)
        yield server


def download(name: str) -> None:
    page = open_page("training", view="models")
    page.selectbox(key="download-name").set_value(name).run()
    click(page, "ダウンロード")


def wait_for_downloads(workspace: Workspace) -> None:
    app = Studio(workspace)
    wait_until(lambda: not any(job.status.is_living for job in app.jobs.list("")))


def test_downloaded_model_can_be_trained_and_is_deleted_again(
    workspace: Workspace, hub: Hub
) -> None:
    ui_workspaces.add_dataset(workspace)
    download(MODEL)
    wait_for_downloads(workspace)
    assert MODEL in open_page("training").selectbox(key="train-model").options
    page = open_page("training", view="models")
    assert not shown_errors(page)
    page.button(key=f"delete-{MODEL}").click().run()
    assert [model.name for model in Studio(workspace).models.list()] == [models.BUILT_IN]


def test_failed_download_says_why_until_another_succeeds(workspace: Workspace, hub: Hub) -> None:
    download(ABSENT)
    wait_for_downloads(workspace)
    page = open_page("training", view="models")
    assert ABSENT in shown_errors(page)[0].replace("\\", "")
    download(MODEL)
    wait_for_downloads(workspace)
    assert not shown_errors(open_page("training", view="models"))


def test_entry_of_the_catalogue_is_described_before_it_is_fetched(workspace: Workspace) -> None:
    gated = next(entry for entry in Studio(workspace).models.catalogue() if entry.gated)
    page = open_page("training", view="models")
    page.selectbox(key="download-name").set_value(gated.name).run()
    figures = {metric.label: metric.value for metric in page.metric}
    assert figures["ダウンロード"] == f"{gated.size_gb:g} GB"
    assert f"ライセンス: {gated.licence}" in texts(page)
    assert any("利用に同意" in item.value for item in page.info)


def test_models_are_offered_in_the_order_of_the_catalogue(workspace: Workspace) -> None:
    page = open_page("training", view="models")
    offered = page.selectbox(key="download-name").options
    expected = [entry for entry in Studio(workspace).models.catalogue() if not entry.built_in]
    assert len(offered) == len(expected)
    for shown, entry in zip(offered, expected, strict=True):
        assert entry.group in shown and entry.title in shown


@pytest.mark.parametrize(("gib", "is_short"), [(6, True), (16, True), (64, False)])
def test_4_bit_twin_is_offered_where_memory_is_short(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, gib: int, is_short: bool
) -> None:
    entry = Studio(workspace).models.catalogue()[0]
    assert entry.mlx_4bit
    memory = Memory(gib << 30, gib << 30)
    monkeypatch.setattr(fitting, "read_memory", lambda: memory)
    page = open_page("training", view="models")
    page.selectbox(key="download-name").set_value(entry.name).run()
    assert bool(page.warning) == is_short
    warned = "".join(str(item.value) for item in page.warning).replace("\\", "")
    # On 6 GiB not even the twin fits.
    assert (entry.mlx_4bit.name in warned) == (gib == 16)
    for part in (entry.strong, entry.weak, "MLX・GGUF・Ollama"):
        assert part in texts(page).replace("\\", "")


def test_model_on_its_way_is_not_fetched_again(workspace: Workspace) -> None:
    paths = workspace.job("download-model-1")
    files.make_folder(paths.folder)
    lock = files.FileLock(paths.lock)
    lock.acquire()
    job = {"kind": "download_model", "workspace": "", "run_id": "", "config": {"name": MODEL}}
    files.write_json(paths.job, job)
    jobs.write_status(paths, JobStatus("running", heartbeat_s=time.monotonic()))
    for name, is_disabled in ((MODEL, True), (ABSENT, False)):
        page = open_page("training", view="models")
        page.selectbox(key="download-name").set_value(name).run()
        (start,) = (one for one in page.button if one.label == "ダウンロード")
        assert start.disabled == is_disabled
    lock.release()


def test_training_waits_only_for_what_needs_the_device(workspace: Workspace) -> None:
    ui_workspaces.add_dataset(workspace)
    assert "順番が来るまで" not in texts(open_page("training"))
    lock = files.FileLock(workspace.device_lock)
    files.make_folder(workspace.logs)
    lock.acquire()
    assert "順番が来るまで" in texts(open_page("training"))
    lock.release()


def test_model_that_ollama_keeps_is_used_where_it_lies(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ui_workspaces.add_dataset(workspace)
    store = tmp_path / "store"
    monkeypatch.setenv("OLLAMA_MODELS", str(store))
    own = "registry.ollama.ai/library"
    put(store, f"{own}/small/latest", write_gguf(tmp_path / "a"))
    put(store, f"{own}/foreign/latest", write_gguf(tmp_path / "b", "mamba"))
    page = open_page("training", view="models")
    assert "mamba" in texts(page)
    assert not [one for one in page.button if one.key == "use-ollama:foreign:latest"]
    page = open_page("training", model="ollama:small:latest")
    [chosen] = [box for box in page.selectbox if box.label == "モデル"]
    assert chosen.value == "ollama:small:latest"
    assert "ollama:foreign:latest" not in chosen.options


def test_file_anywhere_is_used_by_its_path(workspace: Workspace, tmp_path: Path) -> None:
    ui_workspaces.add_dataset(workspace)
    own, foreign = write_gguf(tmp_path / "own.gguf"), write_gguf(tmp_path / "f.gguf", "mamba")
    page = open_page("training", view="models")
    for path, has_button in ((own, True), (foreign, False), (tmp_path / "gone.gguf", False)):
        page.text_input(key="own-file").set_value(str(path)).run()
        assert bool([one for one in page.button if one.key == f"use-{path}"]) == has_button
        assert not page.exception
    page = open_page("training", model=str(own))
    [chosen] = [box for box in page.selectbox if box.label == "モデル"]
    assert chosen.value == str(own)
    page = open_page("training", model=str(foreign))
    [chosen] = [box for box in page.selectbox if box.label == "モデル"]
    assert chosen.value != str(foreign)


def test_settings_that_nobody_looks_at_are_not_drawn_and_count_as_they_were_left(
    workspace: Workspace,
) -> None:
    ui_workspaces.add_dataset(workspace)
    page = open_page("training")
    assert not page.number_input
    page.session_state["train-details"] = True
    page.run()
    [updates] = [box for box in page.number_input if box.label.startswith("更新の回数")]
    updates.set_value(7).run()
    page.session_state["train-details"] = False
    page.run()
    assert not page.number_input
    click(page, "学習を開始")
    (run,) = Studio(workspace).runs.list()
    assert Studio(workspace).runs.settings(run.run_id)["iterations"] == 7
