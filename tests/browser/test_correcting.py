"""From a wrong answer to the right one, in a real browser: put right, trained again, asked again."""

from __future__ import annotations

import re
import shutil
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from mlx_finetuning.config import PrepareConfig, TrainConfig
from mlx_finetuning.progress import silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support.browser_actions import (
    DRAWN,
    MOST_TABS,
    ask,
    badge,
    click,
    open_page,
    press,
    reach,
)
from support.helpers import wait_until
from support.served import Served

LOADED_MS, TRAINED_MS = 120_000, 600_000
ASKED, RIGHT = "返品は何日以内ですか？", "三十日以内です。"
ROWS = {
    "営業時間は何時からですか？": "九時からです。",
    "定休日は何曜日ですか？": "水曜日です。",
    "駐車場は何台分ありますか？": "五台分です。",
    "送料はいくらですか？": "五百円です。",
    ASKED: "七日以内です。",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, jobs_in_process: None) -> Studio:
    """A run that has learned its five answers, one of which is out of date."""
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "shop.csv"
    path.write_text("質問,回答\n" + "".join(f"{q},{a}\n" for q, a in ROWS.items()), "utf-8")
    studio = Studio(Workspace(folder / "workspace"))
    studio.data.prepare(path, "shop", PrepareConfig(goal="faq"))
    settings = TrainConfig(
        dataset="shop", iterations=60, batch_size=5, warmup=5, replay=0, sample_every=0
    )
    studio.runs.follow(studio.training.start(settings), silent)
    return studio


@pytest.fixture
def run_id(workspace: Workspace, trained: Studio) -> str:
    """That run, in the server's workspace."""
    shutil.copytree(trained.workspace.root, workspace.root, dirs_exist_ok=True)
    (run,) = trained.runs.list()
    return run.run_id


def last_answer(page: Page) -> str:
    return page.get_by_test_id("stChatMessage").last.inner_text()


def test_corrected_answer_is_given_after_one_click(
    page: Page, served: Served, workspace: Workspace, run_id: str
) -> None:
    open_page(page, f"{served.url}/chat?run={run_id}")
    ask(page, ASKED)
    expect(page.get_by_role("button", name="× まちがい")).to_be_visible(timeout=LOADED_MS)
    assert "七日" in last_answer(page)
    click(page, "直す")
    box = page.get_by_role("textbox", name="正しい答え")
    box.fill(RIGHT)
    click(page, "この答えに直す")
    expect(page.get_by_text(f"直した答え　{RIGHT}")).to_be_visible()
    page.reload()  # it is on the drive
    expect(page.get_by_text(f"直した答え　{RIGHT}")).to_be_visible()
    click(page, "直した答えでもう一度学習する")
    page.wait_for_url(re.compile("/training"), timeout=LOADED_MS)
    expect(page.get_by_text(re.compile("shop-v2")).first).to_be_visible()
    again = parse_qs(urlsplit(page.url).query)["run"][0]
    assert again != run_id
    expect(badge(page, "完了").first).to_be_visible(timeout=TRAINED_MS)
    studio = Studio(workspace)
    first, second = studio.runs.settings(run_id), studio.runs.settings(again)
    assert {**first, "dataset": "shop-v2"} == second
    studio.chat.stop_servers(run_id)
    open_page(page, f"{served.url}/chat?run={again}")
    ask(page, ASKED)
    expect(page.get_by_role("button", name="× まちがい")).to_be_visible(timeout=LOADED_MS)
    assert RIGHT.removesuffix("。") in last_answer(page)
    (chat,) = studio.chat.list(again)
    assert "七日" not in chat.talks["tuned"][-1]["content"]


def test_an_answer_is_put_right_and_trained_again_by_the_keyboard_alone(
    page: Page, served: Served, workspace: Workspace, run_id: str
) -> None:
    open_page(page, f"{served.url}/chat?run={run_id}&view=test")
    press(page, "button", "全ての質問を試す")
    expect(page.get_by_text(re.compile(r"5問中\d問に正解"))).to_be_visible(timeout=LOADED_MS)
    page.locator(DRAWN).wait_for()
    row = page.get_by_test_id("stVerticalBlock").filter(has_text=ASKED).last
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        # Of the buttons with this name, the one of the question.
        if row.evaluate("e => e.contains(document.activeElement)") and "直す" in page.evaluate(
            "document.activeElement.innerText"
        ):
            break
    page.keyboard.press("Enter")
    reach(page, "textbox", "正しい答え")
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(RIGHT)
    page.keyboard.press("Control+Enter")
    press(page, "button", "この答えに直す")
    wait_until(lambda: bool(Studio(workspace).marks.read(run_id).corrections))
    assert Studio(workspace).marks.read(run_id).corrections == {(ASKED,): RIGHT}
    expect(page.get_by_text("○ 0件　× 1件　直した答え 1件")).to_be_visible()
    page.keyboard.press("Escape")
    press(page, "button", "直した答えでもう一度学習する")
    page.wait_for_url(re.compile("/training"), timeout=LOADED_MS)
    expect(page.get_by_text(re.compile("shop-v2")).first).to_be_visible()
    expect(badge(page, "完了").first).to_be_visible(timeout=TRAINED_MS)
    Studio(workspace).chat.stop_servers(run_id)
    press(page, "link", "5 対話")
    reach(page, "textbox", "質問を書いて、送信してください")
    page.keyboard.insert_text(ASKED)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="× まちがい")).to_be_visible(timeout=LOADED_MS)
    assert RIGHT.removesuffix("。") in last_answer(page)
