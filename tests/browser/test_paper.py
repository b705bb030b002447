"""The page for who decides, and the whole report, as documents of their own and on paper."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from mlx_finetuning.experiment_tracker.evaluation import report
from support import ui_workspaces
from support.browser_actions import open_page
from support.reports import summed_up
from support.served import Served


def printed_pages(page: Page) -> int:
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


@pytest.mark.parametrize(
    "text", ["", "長い文章です。" * 80, "very long English words " * 40, "行\n" * 200, "㍿Ｗ" * 300]
)
def test_summary_is_one_page_of_a4(page: Page, served: Served, text: str) -> None:
    run = ui_workspaces.add_run(served.workspace, 0)
    report.write(run, summed_up(text))
    page.goto(f"{served.url}/report/{run.folder.name}/summary")
    expect(page.get_by_role("heading", level=1)).to_have_text("学習の結果のまとめ")
    expect(page.get_by_role("heading", name="使ってはいけないこと")).to_be_visible()
    assert printed_pages(page) == 1


def test_summary_and_report_are_opened_and_kept_from_the_page_of_a_run(
    page: Page, served: Served
) -> None:
    run = ui_workspaces.add_run(served.workspace, 0)
    report.write(run, summed_up())
    open_page(page, f"{served.url}/experiments?view=detail&run={run.folder.name}")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="まとめ（A4 1枚）を開く").click()
    expect(opened.value.get_by_role("heading", name="正解した数")).to_be_visible()
    page.get_by_role("button", name="ファイルに保存").click()
    with page.expect_download() as kept:
        page.get_by_role("button", name="報告書（全て）を保存").click()
    text = kept.value.path().read_text(encoding="utf-8")
    assert "<h1>報告書</h1>" in text and "言葉の説明" in text


def test_tables_of_the_report_are_not_divided_between_pages(page: Page, served: Served) -> None:
    run = ui_workspaces.add_run(served.workspace, 0)
    report.write(run, summed_up())
    page.goto(f"{served.url}/report/{run.folder.name}/full")
    page.emulate_media(media="print")
    kept = page.locator("table, figure, .card, .exchange").evaluate_all(
        "parts => parts.map(part => getComputedStyle(part).breakInside)"
    )
    assert kept and set(kept) == {"avoid"}


def test_run_without_a_report_and_unknown_addresses_are_answered_in_japanese(
    page: Page, served: Served
) -> None:
    run = ui_workspaces.add_run(served.workspace, 0)
    for path, told in (
        (f"report/{run.folder.name}/summary", "まだ成果を確かめていません"),
        ("report/20260101-000000-none-0000/full", "見つかりません"),
        ("nowhere", "アドレスが正しいか"),
    ):
        answer = page.goto(f"{served.url}/{path}")
        assert answer is not None and answer.status == 404
        expect(page.get_by_role("heading", name="このページは見つかりません")).to_be_visible()
        expect(page.get_by_role("paragraph")).to_contain_text(told)
    page.get_by_role("link", name="学習", exact=True).click()
    expect(page.get_by_role("heading", name="学習", level=1)).to_be_visible()
