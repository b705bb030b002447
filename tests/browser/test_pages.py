"""Faults that people found on the pages, and that must not come back; in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from mlx_finetuning.studio import Studio
from support import ui_workspaces
from support.browser_actions import DRAWN, click, hand_in, open_page, visit
from support.served import Served


def test_value_out_of_bounds_bars_the_start_and_one_in_bounds_survives_leaving_the_page(
    page: Page, served: Served
) -> None:
    ui_workspaces.add_dataset(served.workspace)
    open_page(page, f"{served.url}/training?view=new")
    page.get_by_text("詳細設定").click()
    rate = page.get_by_role("spinbutton", name="学習率の最大値")
    rate.fill("50")
    rate.press("Tab")
    told = page.get_by_role("alert").get_by_text("50 は大きすぎます。10 以下にしてください。")
    expect(told).to_be_visible()
    expect(page.get_by_role("button", name="学習を開始")).to_be_hidden()
    rate.fill("0.0005")
    rate.press("Tab")
    expect(page.get_by_role("button", name="学習を開始")).to_be_visible()
    page.locator(DRAWN).wait_for()
    visit(page, "settings")
    visit(page, "training")
    page.get_by_text("詳細設定").click()
    expect(rate).to_have_value("0.0005")
    click(page, "学習を開始")
    expect(page.get_by_role("button", name="一時停止")).to_be_visible(timeout=60_000)
    studio = Studio(served.workspace)
    (run,) = studio.runs.list()
    assert studio.runs.settings(run.run_id)["learning_rate"] == 0.0005


def test_wrong_and_broken_uploads_are_refused_with_words(page: Page, served: Served) -> None:
    photo = {"name": "写真.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n" + bytes(300)}
    open_page(page, f"{served.url}/dataset")
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(photo)  # type: ignore[arg-type]
    expect(page.get_by_text("何が起きたか")).to_be_visible()
    expect(page.get_by_text("次にすること")).to_be_visible()
    shown = page.locator("body").inner_text()
    assert "not allowed" not in shown and str(served.workspace.root) not in shown


@pytest.mark.usefixtures("home")
def test_menu_closes_when_a_page_was_chosen_on_a_phone(page: Page, served: Served) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    page.locator(DRAWN).wait_for()
    page.get_by_test_id("stExpandSidebarButton").click()
    menu = page.get_by_test_id("stSidebarNav")
    menu.get_by_role("link", name="設定").click()
    expect(page.get_by_role("heading", name="設定", level=1)).to_be_visible()
    expect(page.get_by_test_id("stExpandSidebarButton")).to_be_visible()
    expect(menu).not_to_be_in_viewport()


def test_steps_of_the_home_page_are_the_five_of_the_way_and_each_link_has_its_name(
    page: Page, served: Served
) -> None:
    open_page(page, served.url)
    links = page.locator(".st-key-cards").get_by_role("link")
    expect(links).to_have_count(5)
    names = [text.split()[-1] for text in links.all_inner_texts()]
    assert names == ["データセット", "学習", "実験", "軽くする", "対話"]
    expect(page.get_by_role("link", name="次へ: データセット")).to_have_count(1)


def test_rows_and_what_masking_makes_of_them_are_told_apart(
    page: Page, served: Served, tmp_path: Path
) -> None:
    sheet = tmp_path / "phone.csv"
    rows = "".join(f"店{n}の電話は？,店{n}は090-1234-56{n:02}です。\n" for n in range(12))
    sheet.write_text(f"質問,回答\n{rows}", encoding="utf-8")
    open_page(page, f"{served.url}/dataset")
    hand_in(page, sheet)
    expect(page.get_by_text("元のファイルのままです")).to_be_visible()
    page.get_by_role("button", name="直す（個人情報", exact=False).first.click()
    samples = page.get_by_role("table").filter(has_text="前").filter(has_text="後")
    expect(samples.first).to_contain_text("090-1234-5600")
    expect(samples.first).to_contain_text("【電話番号】")


def test_tables_are_read_as_tables(page: Page, served: Served) -> None:
    ui_workspaces.fill(served.workspace, 3)
    open_page(page, served.url)
    table = page.get_by_role("table")
    expect(table.get_by_role("columnheader", name="データセット")).to_be_visible()
    expect(table.get_by_role("row")).to_have_count(4)
    assert page.locator("canvas").count() == 0
    page.set_viewport_size({"width": 390, "height": 844})
    expect(table.get_by_role("row")).to_have_count(4 - 1)  # its head is in each card
