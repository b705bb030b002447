"""The interface in English: chosen on its settings page, at once, for all that is drawn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from mlx_finetuning import language, preferences
from mlx_finetuning.ui import unfound
from mlx_finetuning.ui.language import InItsLanguage
from mlx_finetuning.workspace import Workspace
from support.ui_pages import open_page, texts


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))
    yield
    language.use(None)


def test_language_is_chosen_on_the_settings_page_and_kept(workspace: Workspace) -> None:
    page = open_page("settings")
    page.selectbox(key="language").select("en").run()
    assert preferences.language(workspace) == "en"
    page.run()
    assert not page.exception
    assert [title.value for title in page.title] == ["Settings"]
    page.selectbox(key="language").select("ja").run()
    page.run()
    assert [title.value for title in page.title] == ["設定"]


def test_variable_goes_before_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(language.VARIABLE, "en")
    page = open_page("settings")
    assert page.selectbox(key="language").disabled
    assert any(language.VARIABLE in caption.value for caption in page.caption)
    assert [title.value for title in page.title] == ["Settings"]


def test_empty_page_and_address_that_is_no_page_are_told_in_english(workspace: Workspace) -> None:
    preferences.save_language(workspace, "en")
    assert "No runs yet." in texts(open_page("experiments"))
    body = bytes(unfound.page().body).decode()
    assert '<html lang="en">' in body and "Page not found" in body and "Settings" in body


@pytest.mark.parametrize("code", ["ja", "en"])
def test_page_tells_the_browser_its_language_from_the_first_load(
    workspace: Workspace, code: str
) -> None:
    preferences.save_language(workspace, code)
    page = Route("/", lambda request: HTMLResponse('<html lang="en"><p lang="en">'))
    app = Starlette(routes=[page], middleware=[Middleware(InItsLanguage)])
    answer = TestClient(app).get("/", headers={"accept": "text/html"})
    assert answer.text == f'<html lang="{code}"><p lang="en">'
    assert TestClient(app).get("/").text.startswith('<html lang="en">')  # a script, an image
