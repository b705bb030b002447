"""The page Ollama, through Streamlit's own test driver, with real answers of a small run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from mlx_finetuning.runtime.chats import Conversation
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support import finished_run
from support.helpers import wait_until
from support.ollama_server import Ollama, running_ollama
from support.ui_pages import click, open_page, shown_errors, tables, texts


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")  # nobody answers there
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


@pytest.fixture
def ollama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ollama]:
    with running_ollama(tmp_path / "blobs") as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        yield running


def told(page: AppTest) -> str:
    return "\n".join(item.value for item in (*page.info, *page.success))


def test_without_ollama_the_page_says_so_and_leads_on() -> None:
    page = open_page("ollama")
    assert not page.exception
    assert "内蔵のランタイムで対話できます" in told(page)
    assert "対話できるモデルがまだありません" in texts(page)


def test_wrong_address_of_ollama_leaves_the_page_usable(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "ftp://x y")
    finished_run.make(workspace)
    page = open_page("ollama")
    assert shown_errors(page)
    assert page.chat_input


def test_question_is_answered_without_ollama_by_base_and_tuned_and_kept(
    workspace: Workspace,
) -> None:
    run_id = finished_run.make(workspace)
    page = open_page("ollama", run=run_id)
    page.toggle[0].set_value(True).run()
    page.chat_input[0].set_value("こんにちは").run(timeout=60)
    assert not page.exception
    assert not shown_errors(page)
    (chat,) = Studio(workspace).chat.list(run_id)
    assert chat.title == "こんにちは"
    assert set(chat.talks) == {"tuned", "base"}
    for talk in chat.talks.values():
        assert talk[1]["content"]
    again = open_page("ollama", run=run_id, chat=chat.chat_id)  # as a reload finds it
    for talk in chat.talks.values():
        assert talk[1]["content"] in texts(again)
    assert [message.name for message in again.chat_message] == ["user", "assistant", "assistant"]


def test_reasoning_is_folded_in_before_its_answer(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace)
    chat = Conversation("mlx").with_turn(
        "質問", {"tuned": "答え**太字**"}, {"tuned": "思い出す**こと**"}
    )
    chat = chat.with_turn("次の質問", {"tuned": ""}, {"tuned": "まだ考えて"})
    chat = chat.with_turn("最後の質問", {"tuned": "すぐ答え"}, {"tuned": ""})
    Studio(workspace).chat.save(run_id, chat)
    page = open_page("ollama", run=run_id, chat=chat.chat_id)
    assert not page.exception
    folded = [one for one in page.expander if one.label == "考えた過程"]
    assert [one.markdown[0].value for one in folded] == [
        r"思い出す\*\*こと\*\*",
        "まだ考えて",
    ]
    assert r"答え\*\*太字\*\*" in texts(page)
    assert "考えている途中で終わりました" in texts(page)


def test_conversation_is_forgotten_on_request(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace)
    chat = Conversation("mlx").with_turn("質問**太字**", {"tuned": "答え"})
    Studio(workspace).chat.save(run_id, chat)
    page = open_page("ollama", run=run_id, chat=chat.chat_id)
    assert r"質問\*\*太字\*\*" in texts(page)
    click(page, "この会話を消す")
    assert Studio(workspace).chat.list(run_id) == []


def test_nothing_is_registered_while_ollama_is_away(workspace: Workspace) -> None:
    page = open_page("ollama", run=finished_run.make(workspace), view="register")
    (register,) = (one for one in page.button if one.label == "登録する")
    assert register.disabled
    assert "先にOllamaを起動" in texts(page)


def test_run_is_registered_and_its_proof_shown(workspace: Workspace, ollama: Ollama) -> None:
    run_id = finished_run.make(workspace)
    page = open_page("ollama", run=run_id, view="register")
    assert "つながっています" in told(page)
    page.text_input(key="register-name").input("my-faq")
    click(page, "登録する")
    app = Studio(workspace)
    (job,) = app.jobs.list(run_id)
    wait_until(lambda: not app.jobs.status(run_id, job.name).is_living, 90)
    page = open_page("ollama", run=run_id, view="register")
    assert not shown_errors(page)
    assert "同じプロンプトで動きます" in told(page)
    assert "停止文字列" in texts(page)
    models = open_page("ollama", view="models")
    (table,) = tables(models)
    assert [row["名前"] for row in table] == ["my-faq:latest"]
    click(models, "消す")
    assert app.ollama.list() == []
