"""What is kept of runs: compared, noted, handed on to other programs, deleted and restored."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import zipfile
from array import array
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning import cli, config, files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import (
    NewerSchema,
    RunBusy,
    RunExists,
    RunNotFound,
    RunNotInTrash,
    TrackerNotInstalled,
)
from mlx_finetuning.experiment_tracker.records import notes
from mlx_finetuning.experiment_tracker.records.differences import differing
from mlx_finetuning.experiment_tracker.records.export import cell
from mlx_finetuning.experiment_tracker.records.notes import tags_of
from mlx_finetuning.jobs.metrics import Metrics, best_valid
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import RunPaths, Workspace
from support import ui_workspaces


@pytest.fixture
def studio(workspace: Workspace) -> Studio:
    return Studio(workspace)


@pytest.fixture
def run(workspace: Workspace) -> RunPaths:
    return ui_workspaces.add_run(workspace, 0)


def json_of(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> tuple[int, Any]:
    code = cli.main([*words, "--workspace", str(root), "--json"])
    return code, json.loads(capsys.readouterr().out)


# --- comparing ---------------------------------------------------------------------------


def test_only_settings_that_differ_are_compared(workspace: Workspace, studio: Studio) -> None:
    first, second = (ui_workspaces.add_run(workspace, number) for number in (0, 1))
    changed = config.as_dict(TrainConfig(dataset="faq", iterations=20, rank=8))
    files.write_text(second.config, json.dumps(changed))
    found = studio.runs.compare([first.folder.name, second.folder.name])
    assert found.differences == {"rank": (16, 8)}
    best = min(
        line.valid_loss
        for line in studio.runs.metrics(first.folder.name)
        if line.valid_loss is not None
    )
    assert found.runs[0].best_valid_loss == best
    assert (found.runs[0].updates, found.runs[0].best_update) == (20, 20)


def test_data_that_changed_between_runs_is_a_difference(
    workspace: Workspace, studio: Studio
) -> None:
    paths = [ui_workspaces.add_run(workspace, number) for number in (0, 1)]
    record = files.read_json(paths[1].experiment)
    files.write_json(paths[1].experiment, {**record, "dataset_sha256": "1" * 64})
    found = studio.runs.compare([path.folder.name for path in paths])
    assert found.differences == {"dataset_sha256": ("0" * 12, "1" * 12)}


def test_setting_that_one_run_lacks_is_a_difference() -> None:
    found = differing([{"rank": 8}, {"rank": 8, "new": 1}, {"rank": 8, "new": 1}])
    assert found == {"new": (None, 1, 1)}
    assert differing([{"rank": 8}]) == {}


def test_damaged_runs_are_compared_as_far_as_they_can_be_read(
    workspace: Workspace, studio: Studio
) -> None:
    ui_workspaces.damage(workspace)
    names = [run.run_id for run in studio.runs.list()]
    found = studio.runs.compare(names)
    assert len(found.runs) == len(names)
    with pytest.raises(RunNotFound):
        studio.runs.compare(["20260101-000000-none-0000"])


def test_best_loss_of_a_log_is_found_without_parsing_it_all(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert best_valid(path) is None
    ui_workspaces.write_metrics(path, 120)
    metrics = Metrics(path)
    metrics.refresh()
    assert metrics.best_valid is not None
    assert best_valid(path) == metrics.best_valid[1]
    with path.open("ab") as stream:
        stream.write(b'{"valid_loss": null}\n["valid_loss"]\n{"valid_loss": 1, \xff\n')
    assert best_valid(path) == metrics.best_valid[1]


# --- notes -------------------------------------------------------------------------------


def test_note_and_tags_are_kept_and_replaced(studio: Studio, run: RunPaths) -> None:
    run_id = run.folder.name
    assert studio.runs.note(run_id) == notes.Note()
    studio.runs.save_note(run_id, " 料金の質問が\n弱い ", ["#本番 料金", "料金、夜間"])
    assert studio.runs.note(run_id) == notes.Note("料金の質問が\n弱い", ("本番", "料金", "夜間"))
    studio.runs.save_note(run_id, "")
    assert studio.runs.note(run_id) == notes.Note()


def test_tags_are_words_without_repetition() -> None:
    assert tags_of(["  #ア,イ　ウ ", "ア ガ"]) == ("ア", "イ", "ウ", "ガ")


def test_damaged_note_is_replaced_and_one_of_a_newer_version_is_not(
    studio: Studio, run: RunPaths
) -> None:
    run_id = run.folder.name
    run.notes.write_text("{", encoding="utf-8")
    assert studio.runs.note(run_id) == notes.Note()
    studio.runs.save_note(run_id, "新しい")
    assert studio.runs.note(run_id).text == "新しい"
    run.notes.write_text('{"schema_version": 99}', encoding="utf-8")
    with pytest.raises(NewerSchema):
        studio.runs.save_note(run_id, "消してはいけない")
    assert run.notes.read_text(encoding="utf-8") == '{"schema_version": 99}'


# --- other programs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["=1+1", "+81", "-1", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("http://evil","x")']
)
def test_text_that_a_spreadsheet_would_run_is_neutralised(text: str) -> None:
    assert cell(text) == f"'{text}"


def test_numbers_and_plain_texts_stay_as_they_are() -> None:
    assert (cell(-0.5), cell(3), cell("a=b"), cell("料金"), cell(None)) == (
        -0.5, 3, "a=b", "料金", "",
    )  # fmt: skip


def test_csv_has_every_update_and_no_formula(studio: Studio, run: RunPaths, tmp_path: Path) -> None:
    with files.LineLog(run.samples) as samples:
        samples.append({"update": 10, "question": "=cmd|'/c calc'!A1", "answer": 'はい,\n「"」'})
    written = studio.records.write(run.folder.name, "csv", tmp_path / "out")
    assert sorted(path.name for path in written) == ["metrics.csv", "samples.csv", "settings.csv"]
    tables = {path.name: read_csv(path.read_bytes()) for path in written}
    lines = studio.runs.metrics(run.folder.name)
    losses = {str(line.update): line.loss for line in lines if line.loss is not None}
    shown = {row["update"]: float(row["loss"]) for row in tables["metrics.csv"] if row["loss"]}
    assert shown == losses
    (sample,) = tables["samples.csv"]
    assert (sample["question"], sample["answer"]) == ("'=cmd|'/c calc'!A1", 'はい,\n「"」')
    assert {"設定": "rank", "値": "16"} in tables["settings.csv"]


def test_archive_holds_the_same_tables(studio: Studio, run: RunPaths, tmp_path: Path) -> None:
    written = studio.records.write(run.folder.name, "csv", tmp_path / "out")
    with zipfile.ZipFile(io.BytesIO(studio.records.csv(run.folder.name))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            path.name: path.read_bytes() for path in written
        }


def read_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def test_tensorboard_that_is_absent_is_said_plainly(
    studio: Studio, run: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    with pytest.raises(TrackerNotInstalled, match="pip install"):
        studio.records.write(run.folder.name, "tensorboard", tmp_path)
    assert "tensorboard" not in studio.records.formats()


def test_event_file_says_what_the_log_says(studio: Studio, run: RunPaths, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    with run.metrics.open("a", encoding="utf-8") as log:  # numbers that float32 has not
        log.write(
            '{"update": 1099511627776, "loss": NaN, "gradient_norm": 1e300, "elapsed_s": 1}\n'
        )
    (path,) = studio.records.write(run.folder.name, "tensorboard", tmp_path / "out")
    assert "tfevents" in path.name
    head, *events = LegacyEventFileLoader(str(path)).Load()
    assert head.file_version == "brain.Event:2"
    lines = studio.runs.metrics(run.folder.name)
    assert [event.step for event in events] == [line.update for line in lines]
    for event, line in zip(events, lines, strict=True):
        shown = {value.tag: value.simple_value for value in event.summary.value}
        known = ("update", "elapsed_s", "simulated")
        wanted = {
            key: as_float32(value)
            for key, value in vars(line).items()
            if value is not None and key not in known
        }
        assert shown == pytest.approx(wanted, nan_ok=True)
        assert event.wall_time == pytest.approx(
            ui_workspaces.START.timestamp() + line.elapsed_s, abs=1e-6
        )


def as_float32(value: float) -> float:
    return array("f", [value])[0]


# --- the trash ---------------------------------------------------------------------------


def snapshot(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.fixture
def whole_run(workspace: Workspace, run: RunPaths) -> str:
    """With an adapter and a written file."""
    run_id = run.folder.name
    for folder in (workspace.adapter(run_id).folder, workspace.gguf_folder(run_id)):
        files.write_text(folder / "weights", "重み")
    return run_id


def test_deleted_run_is_gone_and_comes_back_as_it_was(
    workspace: Workspace, studio: Studio, whole_run: str
) -> None:
    before = snapshot(workspace.root)
    studio.runs.delete(whole_run)
    assert studio.runs.list() == []
    assert not workspace.adapter(whole_run).folder.exists()
    (deleted,) = studio.runs.deleted()
    assert (deleted.run_id, deleted.model) == (whole_run, "tiny-ja")
    studio.runs.restore(whole_run)
    assert snapshot(workspace.root) == before
    assert studio.runs.deleted() == []
    with pytest.raises(RunNotInTrash):
        studio.runs.restore(whole_run)


def test_run_at_work_is_not_deleted(workspace: Workspace, studio: Studio, run: RunPaths) -> None:
    lock = files.FileLock(run.lock)
    assert lock.acquire()
    with pytest.raises(RunBusy):
        studio.runs.delete(run.folder.name)
    lock.release()
    assert studio.runs.show(run.folder.name)


def test_run_with_a_later_job_at_work_is_not_deleted(studio: Studio, run: RunPaths) -> None:
    job = run.later_job("export-20260101-000000-0000")
    files.write_json(job.job, {"kind": "export", "workspace": "", "run_id": "", "config": {}})
    files.write_json(job.status, files.read_json(run.status) | {"state": "running"})
    lock = files.FileLock(job.lock)
    assert lock.acquire()
    with pytest.raises(RunBusy, match="export-"):
        studio.runs.delete(run.folder.name)
    lock.release()
    studio.runs.delete(run.folder.name)


def test_nothing_is_overwritten_by_a_restored_run(
    workspace: Workspace, studio: Studio, whole_run: str
) -> None:
    studio.runs.delete(whole_run)
    files.write_text(workspace.gguf_folder(whole_run) / "another", "別")
    before = snapshot(workspace.root)
    with pytest.raises(RunExists):
        studio.runs.restore(whole_run)
    assert snapshot(workspace.root) == before


def test_killed_deletion_and_restoration_can_be_repeated(
    workspace: Workspace, studio: Studio, whole_run: str
) -> None:
    before = snapshot(workspace.root)
    trash = workspace.trashed(whole_run)
    trash.folder.mkdir(parents=True)
    workspace.run(whole_run).folder.rename(trash.run)  # killed after the first step
    assert [one.run_id for one in studio.runs.deleted()] == [whole_run]
    studio.runs.restore(whole_run)
    assert snapshot(workspace.root) == before
    trash.folder.mkdir(parents=True)
    workspace.gguf_folder(whole_run).rename(trash.gguf)  # killed before the last one
    studio.runs.restore(whole_run)
    assert snapshot(workspace.root) == before


def test_damaged_run_can_be_deleted_and_the_trash_emptied(
    workspace: Workspace, studio: Studio
) -> None:
    ui_workspaces.damage(workspace)
    for run in studio.runs.list():
        studio.runs.delete(run.run_id)
    assert len(studio.runs.deleted()) == 9
    assert "trash" in [waste.key for waste in studio.machine.waste()]
    assert studio.machine.clean("trash") > 0
    assert studio.runs.deleted() == []


# --- commands ----------------------------------------------------------------------------


def test_commands_compare_note_delete_and_export(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (ui_workspaces.add_run(workspace, n).folder.name for n in (0, 1))

    def run(*words: str) -> tuple[int, Any]:
        return json_of(capsys, workspace.root, "runs", *words)

    code, compared = run("compare", first, second)
    assert (code, [one["run_id"] for one in compared["runs"]]) == (0, [first, second])
    assert compared["differences"] == {}
    assert run("note", first, "弱い", "--tag", "本番")[1]["tags"] == ["本番"]
    assert run("note", first, "--tag", "料金")[1] == {
        "run_id": first, "text": "弱い", "tags": ["本番", "料金"], "name": "", "pinned": False,
    }  # fmt: skip
    assert run("note", first, "--name", "料金の回", "--pin")[1]["tags"] == ["本番", "料金"]
    listed = run("list")[1]["runs"]
    assert [one["note"]["name"] for one in listed] == ["料金の回", ""]  # though the older one
    code, written = run("export", first, "--format", "csv", "--out", str(tmp_path / "csv"))
    assert (code, len(written["files"])) == (0, 3)
    assert run("delete", first) == (0, {"deleted": first})
    assert [one["run_id"] for one in run("trash")[1]["deleted"]] == [first]
    assert run("delete", first, "--restore") == (0, {"restored": first})
    assert run("note", first)[1]["text"] == "弱い"
    assert len(run("delete", first, second)[1]["results"]) == 2
    assert run("trash", "--empty")[1]["freed_bytes"] > 0
    assert run("delete", second, "--restore")[1]["error"]["code"] == "RUN_NOT_IN_TRASH"


def test_comparison_is_shown_in_japanese(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [ui_workspaces.add_run(workspace, number) for number in (0, 1)]
    changed = config.as_dict(TrainConfig(dataset="faq", iterations=20, rank=8))
    files.write_text(paths[1].config, json.dumps(changed))
    names = [path.folder.name for path in paths]
    assert cli.main(["runs", "compare", *names, "--workspace", str(workspace.root)]) == 0
    out = capsys.readouterr().out
    assert "違う設定" in out
    assert "rank" in out
    assert "learning_rate" not in out
