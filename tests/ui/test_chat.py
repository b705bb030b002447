"""The page 対話, through Streamlit's own test driver, with real answers of a small run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    assert "対話できるモデルがまだありません" in texts(open_page("chat"))
    page = open_page("chat", view="ollama")
    assert not page.exception
    assert "なくても、「話す」で対話できます" in told(page)


def test_wrong_address_of_ollama_leaves_the_page_usable(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "ftp://x y")
    finished_run.make(workspace)
    assert open_page("chat").chat_input
    page = open_page("chat", view="ollama")
    assert shown_errors(page)
    assert "Ollamaにつながると、ここで" in texts(page)


def test_question_is_answered_without_ollama_by_base_and_tuned_and_kept(
    workspace: Workspace,
) -> None:
    run_id = finished_run.make(workspace)
    page = open_page("chat", run=run_id)
    page.toggle[0].set_value(True).run()
    page.chat_input[0].set_value("こんにちは").run(timeout=60)
    assert not page.exception
    assert not shown_errors(page)
    (chat,) = Studio(workspace).chat.list(run_id)
    assert chat.title == "こんにちは"
    assert set(chat.talks) == {"tuned", "base"}
    for talk in chat.talks.values():
        assert talk[1]["content"]
    again = open_page("chat", run=run_id, chat=chat.chat_id)  # as a reload finds it
    for talk in chat.talks.values():
        assert talk[1]["content"] in texts(again)
    assert [message.name for message in again.chat_message] == ["user", "assistant", "assistant"]


def test_strength_of_what_was_learned_is_a_slider_of_the_answers(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace)
    page = open_page("chat", run=run_id)
    page.slider(key="generate-strength").set_value(0.0)
    page.toggle[0].set_value(True).run()
    page.chat_input[0].set_value("こんにちは").run(timeout=60)
    assert not shown_errors(page)
    (chat,) = Studio(workspace).chat.list(run_id)
    assert chat.talks["tuned"][1]["content"] == chat.talks["base"][1]["content"]


def test_reasoning_is_folded_in_before_its_answer(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace)
    chat = Conversation("mlx").with_turn(
        "質問", {"tuned": "答え**太字**"}, {"tuned": "思い出す**こと**"}
    )
    chat = chat.with_turn("次の質問", {"tuned": ""}, {"tuned": "まだ考えて"})
    chat = chat.with_turn("最後の質問", {"tuned": "すぐ答え"}, {"tuned": ""})
    Studio(workspace).chat.save(run_id, chat)
    page = open_page("chat", run=run_id, chat=chat.chat_id)
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
    page = open_page("chat", run=run_id, chat=chat.chat_id)
    assert r"質問\*\*太字\*\*" in texts(page)
    click(page, "この会話を消す")
    assert Studio(workspace).chat.list(run_id) == []


def test_nothing_is_registered_while_ollama_is_away(workspace: Workspace) -> None:
    page = open_page("chat", run=finished_run.make(workspace), view="ollama")
    assert not [one for one in page.button if one.label == "登録する"]
    assert "Ollamaにつながると、ここで" in texts(page)


def test_run_is_registered_and_its_proof_shown(workspace: Workspace, ollama: Ollama) -> None:
    run_id = finished_run.make(workspace, short=True)
    page = open_page("chat", run=run_id, view="ollama")
    assert "つながっています" in told(page)
    page.text_input(key="register-name").input("my-faq")
    click(page, "登録する")
    app = Studio(workspace)
    (job,) = app.jobs.list(run_id)
    wait_until(lambda: not app.jobs.status(run_id, job.name).is_living, 90)
    page = open_page("chat", run=run_id, view="ollama")
    assert not shown_errors(page)
    assert "同じプロンプトで動きます" in told(page)
    assert "停止文字列" in texts(page)
    models = open_page("chat", view="ollama")
    (table,) = tables(models)
    assert [row["名前"] for row in table] == ["my-faq:latest"]
    click(models, "消す")
    assert app.ollama.list() == []


# --- marks, corrections, all questions ---------------------------------------------------


def button(page: AppTest, label: str) -> Any:
    return next(one for one in page.button if one.label == label)


def test_answer_is_marked_put_right_and_taken_back(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace)
    chat = Conversation("mlx").with_turn("営業時間は？", {"tuned": "8時です。"})
    chat = chat.with_turn("土曜は？", {"tuned": "休みです。"})
    Studio(workspace).chat.save(run_id, chat)
    page = open_page("chat", run=run_id, chat=chat.chat_id)
    assert "直した答えでもう一度学習する" not in [one.label for one in page.button]
    click(page, "○ 合っている")
    found = Studio(workspace).marks.read(run_id)
    assert found.of(["営業時間は？"], "8時です。").good is True  # type: ignore[union-attr]
    assert button(page, "直した答えでもう一度学習する").disabled
    page.text_area[0].input("10時です。")
    click(page, "この答えに直す")
    found = Studio(workspace).marks.read(run_id)
    assert found.corrections == {("営業時間は？",): "10時です。"}
    again = open_page("chat", run=run_id, chat=chat.chat_id)
    assert "**直した答え**　10時です。" in texts(again)
    assert "○ 0件　× 1件　直した答え 1件" in texts(again)
    assert not button(again, "直した答えでもう一度学習する").disabled
    click(again, "1つ前に戻す")
    assert Studio(workspace).marks.read(run_id).corrections == {}
    second = again.text_area[1]
    assert second.value == "休みです。"
    second.input("やっています。")
    [*_, last] = [one for one in again.button if one.label == "この答えに直す"]
    last.click().run()
    found = Studio(workspace).marks.read(run_id)
    assert found.corrections == {("営業時間は？", "8時です。", "土曜は？"): "やっています。"}


def test_damaged_marks_are_said_and_kept_while_one_talks_on(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace)
    chat = Conversation("mlx").with_turn("営業時間は？", {"tuned": "8時です。"})
    Studio(workspace).chat.save(run_id, chat)
    marks = workspace.run(run_id).marks
    marks.write_text("{", encoding="utf-8")
    page = open_page("chat", run=run_id, chat=chat.chat_id)
    assert shown_errors(page) and page.chat_input and "8時です。" in texts(page)
    click(page, "○ 合っている")
    assert marks.read_text(encoding="utf-8") == "{"


def test_all_questions_are_put_marked_by_right_and_wrong_and_filtered(
    workspace: Workspace,
) -> None:
    run_id = finished_run.make(workspace)
    page = open_page("chat", run=run_id, view="test")
    click(page, "全ての質問を試す")
    app = Studio(workspace)
    (job,) = app.jobs.list(run_id)
    wait_until(lambda: not app.jobs.status(run_id, job.name).is_living, 90)
    assert app.jobs.status(run_id, job.name).error is None
    answers = app.evaluation.answers(run_id)
    assert {one.prompt[0] for one in answers} == set(finished_run.QUESTIONS)
    assert {one.split for one in answers if one.taught_ja == "教えた"} == {"train"}
    page = open_page("chat", run=run_id, view="test")
    assert f"8問中{sum(one.is_right for one in answers)}問に正解（教えた3問中" in texts(page)
    assert len([one for one in page.button if one.label == "× まちがい"]) == 8
    wrong = [one for one in answers if one.mark == "×"]
    page.segmented_control(key="batch-filter").set_value("×").run()
    assert len([one for one in page.button if one.label == "× まちがい"]) == len(wrong)
    page.text_area[0].input("うまくいきます。")
    click(page, "この答えに直す")
    assert list(app.marks.read(run_id).corrections.values()) == ["うまくいきます。"]
