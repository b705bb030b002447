"""Marks on answers: kept, replaced, taken back, and what is made of them."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict

import pytest

from mlx_finetuning import files
from mlx_finetuning.data_processor import inspect
from mlx_finetuning.errors import NewerSchema, NothingCorrected, RunNotFound
from mlx_finetuning.experiment_tracker.evaluation.batch_test import BatchAnswer, counted
from mlx_finetuning.experiment_tracker.records import marks
from mlx_finetuning.experiment_tracker.records.marks import Mark, Marks
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support import ui_workspaces

ASKED = ("営業時間は？",)


@pytest.fixture
def run_id(workspace: Workspace) -> str:
    return ui_workspaces.add_run(workspace, 0).folder.name


def test_what_people_said_of_tested_answers_holds(workspace: Workspace, run_id: str) -> None:
    folder = workspace.run(run_id).later_job("batch-1")
    files.make_folder(folder.folder)
    files.write_json(folder.job, asdict(Job("batch_test", str(workspace.root), run_id, {})))
    told = [
        BatchAnswer((f"{n}は？",), "はい。", "ええ。", rightness, "train", is_reworded=False, row=n)
        for n, rightness in enumerate(("exact", "contains", "unsure", "unsure", "wrong"))
    ]
    with files.LineLog(folder.answers) as log:
        for one in told:
            log.append(asdict(one))
    app = Studio(workspace)
    assert counted(app.evaluation.answers(run_id)).unsure == 2
    app.marks.mark(run_id, ("2は？",), "ええ。", good=True)
    app.marks.mark(run_id, ("1は？",), "ええ。", good=False)
    found = app.evaluation.answers(run_id)
    assert [one.mark for one in found] == ["○", "×", "△", "？", "×"]
    assert "ほかに要確認が1問" in counted(found).line


def test_marks_are_kept_replaced_and_taken_back(workspace: Workspace, run_id: str) -> None:
    app = Studio(workspace).marks
    app.mark(run_id, ASKED, "9時です。", good=True)
    app.mark(run_id, ASKED, "8時です。", good=False)
    app.correct(run_id, ASKED, "8時です。", " 10時からです。 ")
    found = Studio(workspace).marks.read(run_id)  # as a reload finds it
    assert found.of(ASKED, "9時です。").good is True  # type: ignore[union-attr]
    assert found.of(ASKED, "8時です。").correction == "10時からです。"  # type: ignore[union-attr]
    assert found.corrections == {ASKED: "10時からです。"}
    app.undo(run_id)
    assert app.read(run_id).of(ASKED, "8時です。") == Mark(
        ASKED, "8時です。", False, marked_at=app.read(run_id).steps[1].marked_at
    )
    app.mark(run_id, ASKED, "9時です。", good=None)
    assert app.read(run_id).of(ASKED, "9時です。") is None
    for _ in range(5):
        app.undo(run_id)
    assert app.read(run_id) == Marks()


def test_two_tabs_lose_no_mark(workspace: Workspace, run_id: str) -> None:
    def mark(tab: int) -> None:
        for number in range(20):
            Studio(workspace).marks.mark(run_id, (f"質問{tab}-{number}",), "答え", good=True)

    tabs = [threading.Thread(target=mark, args=(tab,)) for tab in range(3)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert len(marks.read(workspace.run(run_id)).current) == 60


def test_newer_record_is_never_rewritten(workspace: Workspace, run_id: str) -> None:
    files.write_text(workspace.run(run_id).marks, '{"schema_version": 99}')
    with pytest.raises(NewerSchema):
        Studio(workspace).marks.mark(run_id, ASKED, "はい", good=True)


def test_kto_rows_have_each_answer_and_each_correction_once(
    workspace: Workspace, run_id: str
) -> None:
    app = Studio(workspace).marks
    app.mark(run_id, ASKED, "9時です。", good=True)
    app.correct(run_id, ASKED, "8時です。", "9時です。")
    app.correct(run_id, ("定休日は？",), "", "日曜です。")
    rows = [json.loads(line) for line in app.as_kto(run_id).decode().splitlines()]
    assert rows == [  # an answer without a word teaches nothing
        {"prompt": "営業時間は？", "completion": "9時です。", "label": True},
        {"prompt": "営業時間は？", "completion": "8時です。", "label": False},
        {"prompt": "定休日は？", "completion": "日曜です。", "label": True},
    ]
    path = workspace.root / "kto.jsonl"
    path.write_bytes(app.as_kto(run_id))
    assert inspect(path).usable_rows == 3


def test_kto_rows_within_conversations_keep_the_turns_before(
    workspace: Workspace, run_id: str
) -> None:
    app = Studio(workspace).marks
    app.mark(run_id, ASKED, "9時です。", good=True)
    app.mark(run_id, (*ASKED, "9時です。", "土曜は？"), "休みです。", good=False)
    rows = [json.loads(line) for line in app.as_kto(run_id).decode().splitlines()]
    assert rows[1] == {
        "prompt": [
            {"role": "user", "content": "営業時間は？"},
            {"role": "assistant", "content": "9時です。"},
            {"role": "user", "content": "土曜は？"},
        ],
        "completion": [{"role": "assistant", "content": "休みです。"}],
        "label": False,
    }
    assert isinstance(rows[0]["prompt"], list)


def test_nothing_is_trained_again_without_a_correction(workspace: Workspace, run_id: str) -> None:
    Studio(workspace).marks.mark(run_id, ASKED, "9時です。", good=False)
    with pytest.raises(NothingCorrected):
        Studio(workspace).marks.retrain(run_id)
    with pytest.raises(RunNotFound):
        Studio(workspace).marks.mark("20260101-000000-none-0000", ASKED, "", good=True)
