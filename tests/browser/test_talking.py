"""Conversations in a real browser: an answer that is stopped, a conversion that sends nothing."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support import finished_run
from support.browser_actions import DRAWN, ask, open_page
from support.helpers import wait_until
from support.served import Served

LOADED_MS = 120_000
"""The first question waits for a process that imports MLX and loads the model."""


STOP_AT_FIRST_WORDS = """turn => {
  const stop = document.querySelector('[data-testid="stChatInputStopButton"]');
  const said = document.querySelectorAll('[data-testid="stChatMessage"]')[turn];
  const words = said?.querySelector('[data-testid="stMarkdownContainer"] p')?.innerText ?? "";
  if (!stop || !words || words.includes("準備しています")) return false;
  stop.click();
  return true;
}"""
"""In the page itself: an answer may be over before a test has seen its first words."""
WHOLE = 1_000
"""Characters; an answer that is not stopped goes on to the model's 1,024 tokens, and more."""


def said(workspace: Workspace, run_id: str) -> str:
    """The last answer of the run's only conversation, as it was kept."""
    (chat,) = Studio(workspace).chat.list(run_id)
    return chat.talks["tuned"][-1]["content"]


def test_answer_is_stopped_and_kept_as_far_as_it_came(page: Page, served: Served) -> None:
    # Wild changes: such a model never ends an answer by itself.
    run_id = finished_run.make(served.workspace, scale=50.0)
    open_page(page, f"{served.url}/chat?run={run_id}")
    page.get_by_role("button", name="答え方の設定").click()
    limit = page.get_by_role("spinbutton", name="1つの答えの最大トークン数")
    limit.fill("100000")
    limit.press("Tab")
    # A question right behind another change would have no stop button: Streamlit takes the end of the
    # drawing before for the end of its own.
    page.wait_for_timeout(1_000)
    page.locator(DRAWN).wait_for()
    ask(page, "こんにちは")
    page.wait_for_function(STOP_AT_FIRST_WORDS, arg=1, timeout=LOADED_MS)
    expect(page.get_by_test_id("stChatInputSubmitButton")).to_be_visible()
    wait_until(lambda: bool(Studio(served.workspace).chat.list(run_id)))
    kept = said(served.workspace, run_id)
    assert 0 < len(kept) < WHOLE
    page.reload()
    expect(page.get_by_test_id("stChatMessage")).to_have_count(2)
    assert said(served.workspace, run_id) == kept
    ask(page, "続けてください。")
    page.wait_for_function(STOP_AT_FIRST_WORDS, arg=3, timeout=LOADED_MS)
    wait_until(lambda: said(served.workspace, run_id) != kept)


def test_enter_that_ends_a_conversion_sends_nothing(page: Page, served: Served) -> None:
    run_id = finished_run.make(served.workspace)
    open_page(page, f"{served.url}/chat?run={run_id}")
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill("こんにちは")
    # What an input method sends when Enter accepts its proposal.
    conversion = {"key": "Enter", "keyCode": 229, "isComposing": True, "bubbles": True}
    box.dispatch_event("keydown", conversion)
    page.wait_for_timeout(1500)
    expect(box).to_have_value("こんにちは")
    expect(page.get_by_test_id("stChatMessage")).to_have_count(0)
    box.press("Enter")
    expect(page.get_by_test_id("stChatMessage").first).to_contain_text("こんにちは")
