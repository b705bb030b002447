"""What a tab tells of jobs, in a real browser: in its title, and by a note on whatever page."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.studio import Studio
from support import ui_workspaces
from support.served import Served


@pytest.mark.usefixtures("home")
def test_end_of_a_run_is_told_on_another_page_and_in_the_title(page: Page, served: Served) -> None:
    ui_workspaces.add_dataset(served.workspace)
    settings = TrainConfig(dataset="faq", engine="simulation", iterations=400, warmup=0)
    expect(page).to_have_title("ホーム | mlx-finetuning")
    Studio(served.workspace).training.start(settings)
    page.goto(f"{served.url}/settings")
    expect(page).to_have_title(re.compile(r"学習中 \| mlx-finetuning"))
    expect(page.get_by_test_id("stToast")).to_contain_text("学習が終わりました", timeout=60_000)
    expect(page).to_have_title("✓ 学習が終わりました | mlx-finetuning")
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="ホーム").click()
    expect(page).to_have_title("ホーム | mlx-finetuning")


ALLOWED = """window.told = []; window.leave = "default";
window.Notification = class {
  static get permission() { return window.leave; }
  static async requestPermission() { window.leave = "granted"; return window.leave; }
  constructor(title, options) { window.told.push(`${title} ${options.body}`); }
};"""
"""Stands for the browser's own, which shows nothing without a window."""


def test_browser_asks_for_leave_and_tells_of_the_end_once(page: Page, served: Served) -> None:
    ui_workspaces.add_dataset(served.workspace)
    page = page.context.new_page()  # a script like this one stays with its tab
    page.add_init_script(ALLOWED)
    page.goto(f"{served.url}/settings")
    page.get_by_text("学習などが終わったら、通知で知らせる").click()
    page.get_by_role("button", name="ブラウザーの通知を許可する").click()
    expect(page.get_by_role("status").filter(has_text="許可されています")).to_be_visible()
    assert Studio(served.workspace).preferences.notifies()
    settings = TrainConfig(dataset="faq", engine="simulation", iterations=400, warmup=0)
    Studio(served.workspace).training.start(settings)
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="ホーム").click()
    page.wait_for_function("window.told.length > 0", timeout=60_000)
    page.wait_for_timeout(4_000)  # longer than between two looks
    assert page.evaluate("window.told") == ["学習が終わりました tiny-ja ← faq"]
