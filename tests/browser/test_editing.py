"""A spreadsheet with an empty answer, filled in where it was found, in a real browser."""

from __future__ import annotations

from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import Page, expect

from mlx_finetuning.data_processor import read_rows
from mlx_finetuning.data_processor.split import SPLITS
from mlx_finetuning.studio import Studio
from support.browser_actions import DRAWN, click, hand_in, metric, open_page, open_row, visit
from support.served import Served


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A title above the table, and no answer in row 5."""
    book = openpyxl.Workbook()
    rows = [
        (f"商品{n}の値段は？", "" if n == 5 else f"商品{n}は{n}00円です。") for n in range(4, 16)
    ]
    for row in [("よくある質問 2026年度",), (), ("質問", "回答"), *rows]:
        book.active.append(row)
    path = tmp_path / "faq.xlsx"
    book.save(path)
    return path


@pytest.mark.usefixtures("home")
def test_empty_answer_of_a_workbook_is_filled_in_by_the_keyboard_and_learned(
    page: Page, served: Served, book: Path
) -> None:
    visit(page, "dataset")
    hand_in(page, book)
    expect(metric(page, "使わない行")).to_contain_text("1 行")
    page.get_by_text("行を見る・直す").first.click()
    cells = '[class*="st-key-edit-"] [data-testid="data-grid-canvas"]'
    page.locator(cells).wait_for()
    page.keyboard.press("Tab")
    # The canvas hands the focus on to a cell, for screen readers.
    focused = page.locator(f"{cells}:focus-within")
    focused.wait_for()
    # From the row's number over its question to its answer.
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.locator("#portal textarea").wait_for()
    page.keyboard.insert_text("商品5は500円です。")
    page.keyboard.press("Enter")
    expect(metric(page, "使わない行")).to_contain_text("0 行")
    expect(page.get_by_text("直りました")).to_be_visible()
    page.locator(DRAWN).wait_for()
    page.locator(cells).focus()  # the table with the new answer is another one
    focused.wait_for()
    for key in ("Shift+Space", "Delete"):
        page.keyboard.press(key)
    expect(metric(page, "全体")).to_contain_text("11 行")
    click(page, "1つ戻す")
    expect(metric(page, "全体")).to_contain_text("12 行")
    page.reload()
    expect(page.get_by_text("直したところ 1か所")).to_be_visible()
    click(page, "データセットを保存")
    page.get_by_role("link", name="このデータセットで学習する").click()
    page.get_by_text("お試し", exact=True).click()
    click(page, "学習を開始")
    # Two updates may have ended before the page is drawn.
    begun = page.get_by_role("button", name="一時停止").or_(page.get_by_text("完了", exact=True))
    expect(begun.first).to_be_visible(timeout=120_000)
    paths = served.workspace.dataset("faq")
    rows = [row for split in SPLITS for row in read_rows(paths.split(split))]
    answers = {row["row"]: row["messages"][1]["content"] for row in rows}
    assert (len(answers), answers[5]) == (12, "商品5は500円です。")
    assert [run.dataset for run in Studio(served.workspace).runs.list()] == ["faq"]


def test_row_is_edited_in_the_form_on_a_phone(page: Page, served: Served, book: Path) -> None:
    kept = Studio(served.workspace).data.keep_upload("faq.xlsx", book.read_bytes())
    page.set_viewport_size({"width": 390, "height": 844})
    open_page(page, f"{served.url}/dataset?file={kept.parent.name}")
    page.get_by_text("全ての行を見る・直す").click()
    open_row(page, 5)
    page.get_by_role("textbox", name="回答", exact=True).fill("商品5は500円です。")
    click(page, "直す")
    expect(metric(page, "使わない行")).to_contain_text("0 行")
    page.get_by_text("直したところの一覧").click()
    expect(page.get_by_text("5行目の「回答」を書き換え")).to_be_visible()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
