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
    settings = TrainConfig(dataset="faq", engine="simulation", iterations=800, warmup=0)
    expect(page).to_have_title("ホーム | mlx-finetuning")
    Studio(served.workspace).training.start(settings)
    page.goto(f"{served.url}/settings")
    expect(page).to_have_title(re.compile(r"学習中 \| mlx-finetuning"))
    expect(page.get_by_test_id("stToast")).to_contain_text("学習が終わりました", timeout=60_000)
    expect(page).to_have_title("✓ 学習が終わりました | mlx-finetuning")
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="ホーム").click()
    expect(page).to_have_title("ホーム | mlx-finetuning")
