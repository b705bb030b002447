"""Datasets that are deleted, and come back."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest

from mlx_finetuning import files, upkeep
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import DatasetInTheWay, DatasetInUse, DatasetNotFound, DatasetNotInTrash
from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support import ui_workspaces


@pytest.fixture
def studio(workspace: Workspace) -> Studio:
    ui_workspaces.add_dataset(workspace)
    return Studio(workspace)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(studio: Studio) -> list[str]:
    return [entry.name for entry in studio.datasets()]


def test_deleted_dataset_comes_back_to_the_byte(studio: Studio) -> None:
    folder = studio.workspace.dataset("faq").folder
    before = content(folder)
    studio.delete_dataset("faq")
    assert names(studio) == []
    assert [one.name for one in studio.deleted_datasets()] == ["faq"]
    studio.restore_dataset("faq")
    assert content(folder) == before
    assert studio.deleted_datasets() == []


def test_of_two_deleted_under_one_name_the_last_comes_back_unless_another_is_asked_for(
    studio: Studio,
) -> None:
    first = content(studio.workspace.dataset("faq").folder)
    studio.delete_dataset("faq")
    _write_other(studio)
    second = content(studio.workspace.dataset("faq").folder)
    studio.delete_dataset("faq")
    newest, oldest = studio.deleted_datasets()
    assert newest.deleted_at > oldest.deleted_at
    studio.restore_dataset("faq")
    assert content(studio.workspace.dataset("faq").folder) == second
    studio.delete_dataset("faq")
    studio.restore_dataset("faq", oldest.deleted_at)
    assert content(studio.workspace.dataset("faq").folder) == first


def _write_other(studio: Studio) -> None:
    rows = "質問,回答\n" + "".join(f"色{n}は？,色{n}です。\n" for n in range(20))
    studio.prepare_data(studio.keep_upload("b.csv", rows.encode()), "faq")


def test_nothing_is_overwritten_by_what_comes_back(studio: Studio) -> None:
    studio.delete_dataset("faq")
    _write_other(studio)
    present = content(studio.workspace.dataset("faq").folder)
    with pytest.raises(DatasetInTheWay):
        studio.restore_dataset("faq")
    assert content(studio.workspace.dataset("faq").folder) == present
    assert len(studio.deleted_datasets()) == 1


def test_dataset_that_a_living_run_trains_on_stays(studio: Studio) -> None:
    run = ui_workspaces.add_run(studio.workspace, 0)
    status = dataclasses.replace(JobStatus("running"), heartbeat_s=time.monotonic())
    jobs.write_status(run, status)
    lock = files.FileLock(run.lock)
    lock.acquire()
    with pytest.raises(DatasetInUse):
        studio.delete_dataset("faq")
    lock.release()
    studio.delete_dataset("faq")


def test_unknown_names_are_refused_with_what_there_is(studio: Studio) -> None:
    with pytest.raises(DatasetNotFound) as unknown:
        studio.delete_dataset("fax")
    assert unknown.value.data["available"] == ["faq"]
    with pytest.raises(DatasetNotInTrash):
        studio.restore_dataset("faq")


def test_damaged_dataset_can_be_deleted(studio: Studio) -> None:
    folder = studio.workspace.dataset("broken").folder
    folder.mkdir()
    (folder / "dataset.json").write_bytes(b"\x00{")
    studio.delete_dataset("broken")
    assert names(studio) == ["faq"]


def test_run_goes_on_to_be_listed_and_says_what_it_lacks(studio: Studio) -> None:
    ui_workspaces.add_run(studio.workspace, 0)
    studio.delete_dataset("faq")
    (run,) = studio.runs()
    with pytest.raises(DatasetNotFound):
        studio.rerun(run.run_id)
    with pytest.raises(DatasetNotFound):
        studio.start_training(TrainConfig(dataset="faq"))


def test_trash_of_datasets_is_emptied_apart_from_that_of_runs(studio: Studio) -> None:
    ui_workspaces.add_run(studio.workspace, 0)
    (run,) = studio.runs()
    studio.delete_run(run.run_id)
    studio.delete_dataset("faq")
    assert {waste.key for waste in studio.waste()} == {"trash", "deleted_datasets"}
    studio.clean("trash")
    assert [one.name for one in studio.deleted_datasets()] == ["faq"]
    assert studio.clean("deleted_datasets") > 0
    assert studio.deleted_datasets() == []


def test_files_of_a_deleted_dataset_are_kept_with_it(studio: Studio) -> None:
    (source,) = studio.workspace.uploads.glob("*/*")
    _make_old(source)
    studio.delete_dataset("faq")
    assert "uploads" not in {waste.key for waste in upkeep.find_waste(studio.workspace)}
    studio.clean("deleted_datasets")
    assert "uploads" in {waste.key for waste in upkeep.find_waste(studio.workspace)}


def _make_old(path: Path) -> None:
    then = time.time() - 48 * 3600
    os.utime(path, (then, then))
