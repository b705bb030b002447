"""Jobs that end are told of on whatever page one is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from mlx_finetuning import files, preferences
from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.ui import notifications
from mlx_finetuning.ui.notifications import SEEN
from mlx_finetuning.workspace import JobPaths, Workspace
from support import ui_workspaces
from support.ui_pages import open_page


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))


class Living:
    """A job that seems to go on until it is ended."""

    def __init__(self, paths: JobPaths) -> None:
        self._paths = paths
        self._lock = files.FileLock(paths.lock)
        self.go_on()

    def _write(self, state: str) -> None:
        status = JobStatus(state, "学習", 9, 20, heartbeat_s=time.monotonic())
        jobs.write_status(self._paths, dataclasses.replace(status, created_at=jobs.now()))

    def go_on(self) -> None:
        self._lock.acquire()
        self._write("running")

    def end(self, state: str) -> None:
        self._write(state)
        self._lock.release()


@pytest.fixture
def living(workspace: Workspace) -> Iterator[Living]:
    ui_workspaces.add_dataset(workspace)
    job = Living(ui_workspaces.add_run(workspace, 0))
    yield job
    job.end("done")


def toasts(page: AppTest) -> list[str]:
    return [str(one.value) for one in page.toast]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("done", "**学習が終わりました**　tiny-ja ← faq"),
        ("failed", "**学習が失敗しました**　tiny-ja ← faq"),
        ("running", "**学習が途切れました**　tiny-ja ← faq"),
    ],
)
def test_end_is_told_on_another_page(living: Living, state: str, told: str) -> None:
    page = open_page("settings")
    assert toasts(page) == []
    living.end(state)  # still `running` once the lock is free: the worker was killed
    page.run()
    assert toasts(page) == [told]
    page.run()
    assert toasts(page) == []  # once


def notices(page: AppTest) -> list[str]:
    """Scripts that let the browser say something."""
    found = [str(one.proto.body) for one in page.get("html")]
    return [text for text in found if "new Notification" in text]


def test_browsers_notice_is_drawn_again_as_the_next_drawing_may_follow_at_once(
    workspace: Workspace, living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    preferences.save_notifies(workspace, True)
    page = open_page("settings")
    assert notices(page) == []
    living.end("done")
    [notice] = notices(page.run())
    assert "学習が終わりました" in notice
    assert notices(page.run()) == [notice]  # which the tab knows by its key
    monkeypatch.setattr(notifications, "NOTICE_S", 0.0)
    assert notices(page.run()) == []


def test_second_end_of_a_run_that_went_on_is_another_notice(
    workspace: Workspace, living: Living
) -> None:
    preferences.save_notifies(workspace, True)
    page = open_page("settings")
    living.end("failed")
    [failed] = notices(page.run())
    living.go_on()
    page.run()
    living.end("failed")
    again = notices(page.run())
    assert len({*again}) == 2 and failed in again


def test_stop_on_request_is_not_told(living: Living) -> None:
    page = open_page("settings")
    living.end("cancelled")
    assert toasts(page.run()) == []


def test_run_deleted_meanwhile_is_passed_over(workspace: Workspace, living: Living) -> None:
    page = open_page("settings")
    living.end("done")
    for folder in workspace.experiments.iterdir():
        folder.rename(workspace.root / "elsewhere")
    page.run()
    assert toasts(page) == []
    assert not page.exception
    assert page.session_state[SEEN] == {}


def test_loaded_model_is_no_job_to_wait_for(workspace: Workspace) -> None:
    run = ui_workspaces.add_run(workspace, 0)
    paths = run.later_job("serve-model-1")
    files.make_folder(paths.folder)
    job = {"kind": "serve_model", "workspace": str(workspace.root), "run_id": run.folder.name}
    files.write_json(paths.job, {**job, "config": {}})
    server = Living(paths)
    page = open_page("settings")
    assert page.session_state[SEEN] == {}
    server.end("done")
    assert toasts(page.run()) == []


@pytest.mark.parametrize(("advise", "told"), [(True, "おすすめの測定"), (False, "書き出し")])
def test_measurement_of_types_is_not_told_of_as_an_export(
    workspace: Workspace, advise: bool, told: str
) -> None:
    run = ui_workspaces.add_run(workspace, 0)
    paths = run.later_job("export-20260101-000000-0001")
    files.make_folder(paths.folder)
    job = {"kind": "export", "workspace": str(workspace.root), "run_id": run.folder.name}
    files.write_json(paths.job, {**job, "config": {"advise": advise}})
    export = Living(paths)
    page = open_page("settings")
    export.end("done")
    assert toasts(page.run()) == [f"**{told}が終わりました**　tiny-ja ← faq"]


def test_no_timer_asks_for_a_fragment_of_the_page_after_the_end(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamlit can lose the rest of a page that is sent while such a request comes in."""
    made: list[tuple[str, float | None]] = []
    fragment = st.fragment

    def recorded(function: Callable[[], None], run_every: float | None = None) -> object:
        made.append((function.__qualname__, run_every))
        return fragment(function, run_every=run_every)

    monkeypatch.setattr(st, "fragment", recorded)
    page = open_page("training", run="20260000-120000-tiny-ja-0000")
    timed = {name for name, run_every in made if run_every is not None}
    assert len(timed) == 2, "the run on the page, and the notices"
    made.clear()
    living.end("done")
    page.run()
    assert made
    assert not timed & {name for name, _ in made}


def test_the_page_keeps_its_place_when_a_job_ends(living: Living) -> None:
    """Where it moves, the browser draws it anew: what is open closes, and the focus is lost."""

    def place_of_title() -> int:
        return next(at for at, item in page.main.children.items() if item.type == "title")

    page = open_page("settings")
    places = [place_of_title()]
    page.run()
    places.append(place_of_title())
    living.end("done")
    page.run()
    places.append(place_of_title())
    assert len(set(places)) == 1
