"""Datasets that are deleted, and come back."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest

from mlx_finetuning import cli, files, upkeep
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import (
    DatasetInTheWay,
    DatasetInTrash,
    DatasetInUse,
    DatasetNotFound,
    DatasetNotInTrash,
    RunNotResumable,
)
from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support import finished_run, ui_workspaces


@pytest.fixture
def studio(workspace: Workspace) -> Studio:
    ui_workspaces.add_dataset(workspace)
    return Studio(workspace)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(studio: Studio) -> list[str]:
    return [entry.name for entry in studio.data.list()]


def test_deleted_dataset_comes_back_to_the_byte(studio: Studio) -> None:
    folder = studio.workspace.dataset("faq").folder
    before = content(folder)
    studio.data.delete("faq")
    assert names(studio) == []
    assert [one.name for one in studio.data.deleted()] == ["faq"]
    studio.data.restore("faq")
    assert content(folder) == before
    assert studio.data.deleted() == []


def test_replaced_dataset_comes_back_to_the_byte(studio: Studio, tmp_path: Path) -> None:
    source = tmp_path / "faq.csv"
    for price in (100, 200):
        source.write_text(f"質問,回答\n値段は？,{price}円です。\n送料は？,無料です。\n", "utf-8")
        studio.data.prepare(source, "prices", replace=price == 200)
    first = studio.data.prepare(source, "prices", replace=True).folder
    studio.data.reproduce(Path(first) / "dataset.json", replace=True)
    oldest = studio.data.deleted()[-1]
    assert [each.name for each in studio.data.deleted()] == ["prices"] * 3
    studio.data.delete("prices")
    studio.data.restore("prices", oldest.deleted_at)
    assert "100円です。" in (Path(first) / "train.jsonl").read_text("utf-8")


def test_stopped_run_whose_dataset_was_deleted_says_how_to_get_it_back(
    studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = finished_run.make(studio.workspace)
    jobs.write_status(studio.workspace.run(run_id), JobStatus("cancelled"))
    studio.data.delete(finished_run.DATASET)
    root = ["--workspace", str(studio.workspace.root)]
    assert cli.main(["train", "--resume", run_id, *root]) == 1
    told = capsys.readouterr().err
    back = f"data delete {finished_run.DATASET} --restore"
    assert "DATASET_IN_TRASH" in told and back in told
    assert studio.runs.show(run_id).status.state == "cancelled"
    with pytest.raises(DatasetInTrash):
        studio.training.start(TrainConfig(dataset=finished_run.DATASET, engine="simulation"))
    assert cli.main([*back.split(), *root]) == 0
    studio.data.require(finished_run.DATASET)


def test_ended_run_is_not_resumed_whatever_became_of_its_dataset(studio: Studio) -> None:
    run_id = finished_run.make(studio.workspace)
    studio.data.delete(finished_run.DATASET)
    with pytest.raises(RunNotResumable):
        studio.training.resume(run_id)


def test_of_two_deleted_under_one_name_the_last_comes_back_unless_another_is_asked_for(
    studio: Studio,
) -> None:
    first = content(studio.workspace.dataset("faq").folder)
    studio.data.delete("faq")
    _write_other(studio)
    second = content(studio.workspace.dataset("faq").folder)
    studio.data.delete("faq")
    newest, oldest = studio.data.deleted()
    assert newest.deleted_at > oldest.deleted_at
    studio.data.restore("faq")
    assert content(studio.workspace.dataset("faq").folder) == second
    studio.data.delete("faq")
    studio.data.restore("faq", oldest.deleted_at)
    assert content(studio.workspace.dataset("faq").folder) == first


def _write_other(studio: Studio) -> None:
    rows = "質問,回答\n" + "".join(f"色{n}は？,色{n}です。\n" for n in range(20))
    studio.data.prepare(studio.data.keep_upload("b.csv", rows.encode()), "faq")


def test_nothing_is_overwritten_by_what_comes_back(studio: Studio) -> None:
    studio.data.delete("faq")
    _write_other(studio)
    present = content(studio.workspace.dataset("faq").folder)
    with pytest.raises(DatasetInTheWay):
        studio.data.restore("faq")
    assert content(studio.workspace.dataset("faq").folder) == present
    assert len(studio.data.deleted()) == 1


def test_dataset_that_a_living_run_trains_on_stays(studio: Studio) -> None:
    run = ui_workspaces.add_run(studio.workspace, 0)
    status = dataclasses.replace(JobStatus("running"), heartbeat_s=time.monotonic())
    jobs.write_status(run, status)
    lock = files.FileLock(run.lock)
    lock.acquire()
    with pytest.raises(DatasetInUse):
        studio.data.delete("faq")
    lock.release()
    studio.data.delete("faq")


def test_unknown_names_are_refused_with_what_there_is(studio: Studio) -> None:
    with pytest.raises(DatasetNotFound) as unknown:
        studio.data.delete("fax")
    assert unknown.value.data["available"] == ["faq"]
    with pytest.raises(DatasetNotInTrash):
        studio.data.restore("faq")


def test_damaged_dataset_can_be_deleted(studio: Studio) -> None:
    folder = studio.workspace.dataset("broken").folder
    folder.mkdir()
    (folder / "dataset.json").write_bytes(b"\x00{")
    studio.data.delete("broken")
    assert names(studio) == ["faq"]


def test_run_goes_on_to_be_listed_and_says_what_it_lacks(studio: Studio) -> None:
    ui_workspaces.add_run(studio.workspace, 0)
    studio.data.delete("faq")
    (run,) = studio.runs.list()
    with pytest.raises(DatasetNotFound):
        studio.training.rerun(run.run_id)
    with pytest.raises(DatasetNotFound):
        studio.training.start(TrainConfig(dataset="faq"))


def test_trash_of_datasets_is_emptied_apart_from_that_of_runs(studio: Studio) -> None:
    ui_workspaces.add_run(studio.workspace, 0)
    (run,) = studio.runs.list()
    studio.runs.delete(run.run_id)
    studio.data.delete("faq")
    assert {waste.key for waste in studio.machine.waste()} == {"trash", "deleted_datasets"}
    studio.machine.clean("trash")
    assert [one.name for one in studio.data.deleted()] == ["faq"]
    assert studio.machine.clean("deleted_datasets") > 0
    assert studio.data.deleted() == []


def test_files_of_a_deleted_dataset_are_kept_with_it(studio: Studio) -> None:
    (source,) = studio.workspace.uploads.glob("*/*")
    _make_old(source)
    studio.data.delete("faq")
    assert "uploads" not in {waste.key for waste in upkeep.find_waste(studio.workspace)}
    studio.machine.clean("deleted_datasets")
    assert "uploads" in {waste.key for waste in upkeep.find_waste(studio.workspace)}


def _make_old(path: Path) -> None:
    then = time.time() - 48 * 3600
    os.utime(path, (then, then))
