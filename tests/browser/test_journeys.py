"""What people do, in a real browser: from a file to a run that survives reloads and restarts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.data_processor import SAMPLE_DATA, read_rows
from mlx_finetuning.progress import silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support import cut_models, ui_workspaces
from support.browser_actions import (
    ask,
    badge,
    click,
    hand_in,
    metric,
    open_page,
    press,
    reach,
    visit,
)
from support.served import Served
from support.sweeps import sweep

LONG_UPDATES = 20_000
"""Of a simulated run: minutes, longer than any test looks at it; it is stopped at the test's end."""
RECONNECTED_MS = 60_000
"""Streamlit's page asks every four seconds while the server is away, and up to 15 for an answer."""


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """The sample's first 32 rows as a Japanese spreadsheet program saves them: `e2e` learns them all."""
    path = tmp_path / "質問と回答.csv"
    lines = SAMPLE_DATA.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_bytes("".join(lines[:33]).encode("cp932"))
    return path


@pytest.fixture
def long_run(served: Served) -> str:
    """A run that goes on while it is looked at."""
    ui_workspaces.add_dataset(served.workspace)
    settings = TrainConfig(dataset="faq", engine="simulation", iterations=LONG_UPDATES, warmup=0)
    return Studio(served.workspace).training.start(settings)


@pytest.fixture(scope="module")
def asked_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("asked")


@pytest.fixture
def base_is_asked_once(workspace: Workspace, asked_before: Path) -> Iterator[None]:
    """What the base knows without training is the same in each journey."""
    shutil.copytree(asked_before, workspace.base_grades, dirs_exist_ok=True)
    yield
    shutil.copytree(workspace.base_grades, asked_before, dirs_exist_ok=True)


class Clicks:
    """Clicks as a user would, and counts."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.count = 0

    def button(self, name: str) -> None:
        self.on(self._page.get_by_role("button", name=name))

    def link(self, name: str) -> None:
        self.on(self._page.get_by_role("link", name=name))

    def on(self, target: Locator) -> None:
        target.click()
        self.count += 1


@pytest.mark.usefixtures("home", "base_is_asked_once")
def test_cp932_sheet_becomes_a_model_that_answers_in_twelve_clicks(
    page: Page, served: Served, sheet: Path
) -> None:
    before = sheet.read_bytes()
    visit(page, "dataset")
    hand_in(page, sheet)
    expect(page.get_by_text("cp932", exact=False).first).to_be_visible()
    expect(metric(page, "使う行")).to_contain_text("32 行")
    clicks = Clicks(page)
    clicks.button("データセットを保存")
    clicks.link("このデータセットで学習する")
    clicks.on(page.get_by_text("お試し", exact=True))
    clicks.button("学習を開始")
    expect(badge(page, "完了")).to_be_visible(timeout=600_000)
    expect(metric(page, "学習の損失")).not_to_contain_text("—")
    expect(page.get_by_test_id("stVegaLiteChart").first).to_contain_text("検証")
    clicks.link("次へ: 実験")
    clicks.button("成果を確かめる")
    expect(page.get_by_text("学習できたか").first).to_be_visible(timeout=300_000)
    clicks.link("4 軽くする")  # whatever the result of so short a training asks for
    clicks.button("軽くする")
    expect(badge(page, "検証済み").first).to_be_visible(timeout=600_000)
    clicks.link("5 対話")
    ask(page, "ミナモ精機の代表者のお名前を教えてください。")
    expect(page.get_by_test_id("stChatMessage")).to_have_count(2, timeout=120_000)
    answer = page.get_by_test_id("stChatMessage").nth(1)
    expect(answer).to_contain_text("ミナモ精機", timeout=120_000)
    assert clicks.count <= 12
    (entry,) = Studio(served.workspace).data.list()
    assert entry.name == "my-data"
    assert entry.manifest is not None
    assert entry.manifest["encoding"] == "cp932"
    assert sheet.read_bytes() == before


# In short by a base that says nothing: that what was taught is answered is said above, and by `test_correcting`.
@pytest.mark.parametrize("speaks", sweep((True, False), (False,)))
@pytest.mark.usefixtures("home", "base_is_asked_once")
def test_sheet_becomes_a_conversation_by_omakase_in_five_clicks(
    page: Page, served: Served, tmp_path: Path, speaks: bool
) -> None:
    if not speaks:
        cut_models.write_curt(served.workspace)
    facts = "".join(f"{n}番の窓口はどこですか？,{n}番の窓口は{n}階です。\n" for n in range(1, 7))
    sheet = tmp_path / "faq.csv"
    sheet.write_text(f"質問,回答\n{facts}", encoding="utf-8")
    visit(page, "dataset")
    hand_in(page, sheet)
    expect(page.get_by_text("社内FAQ（事実）").first).to_be_visible()
    expect(page.get_by_text("別の聞き方がありません").first).to_be_visible()
    clicks = Clicks(page)
    clicks.button("データセットを保存")
    clicks.button("おまかせで作る")
    expect(page.get_by_role("button", name="おまかせを止める")).to_be_visible(timeout=120_000)
    expect(page.get_by_text("1/4 学習").first).to_be_visible(timeout=120_000)
    expect(page.get_by_role("button", name="おまかせを止める")).to_be_hidden(timeout=600_000)
    expect(page.get_by_role("link", name="✓ 軽くする")).to_be_visible()
    clicks.link("5 対話")
    ask(page, "3番の窓口はどこですか？")
    answer = page.get_by_test_id("stChatMessage").nth(1)
    expect(answer).to_be_visible(timeout=120_000)
    if speaks:
        expect(answer).to_contain_text("3階", timeout=120_000)
    assert clicks.count <= 5


def test_pasted_table_becomes_a_journey_and_the_journey_is_stopped_by_the_keyboard_alone(
    page: Page, served: Served
) -> None:
    """From a table in the clipboard: the window that asks for a file is the system's, not the page's.
    How it goes on is the same by the mouse, and `test_correcting` talks by the keyboard."""
    facts = "".join(f"{n}番の窓口はどこですか？\t{n}番の窓口は{n}階です。\n" for n in range(1, 7))
    open_page(page, f"{served.url}/dataset")
    press(page, "button", "表を貼り付ける")
    reach(page, "textbox", "表計算ソフトで", exact=False)
    page.keyboard.insert_text(f"質問\t回答\n{facts}")
    press(page, "button", "貼り付けた表を使う")
    press(page, "button", "データセットを保存")
    press(page, "button", "おまかせで作る")
    page.get_by_role("button", name="おまかせを止める").wait_for(timeout=120_000)
    press(page, "button", "おまかせを止める")
    expect(page.get_by_role("button", name="おまかせを止める")).to_be_hidden(timeout=120_000)
    (run,) = Studio(served.workspace).runs.list()
    assert len(read_rows(served.workspace.dataset(run.dataset).train)) >= 6


def test_two_runs_are_compared(page: Page, served: Served) -> None:
    ui_workspaces.add_dataset(served.workspace)
    studio = Studio(served.workspace)
    ids = []
    for rate in (1e-4, 3e-4):
        settings = TrainConfig(
            dataset="faq", engine="simulation", iterations=20, learning_rate=rate, warmup=0
        )
        ids.append(studio.training.start(settings))
        studio.runs.follow(ids[-1], silent)
    page.goto(f"{served.url}/experiments?view=compare&runs={','.join(ids)}")
    chart = page.get_by_test_id("stVegaLiteChart").first
    for run_id in ids:
        expect(chart).to_contain_text(run_id[-4:])
    expect(page.get_by_role("heading", name="違う設定")).to_be_visible()
    expect(page.get_by_role("table")).to_have_count(2)


@pytest.mark.usefixtures("home")
def test_reload_and_second_tab_show_the_same_run(
    page: Page, context: BrowserContext, long_run: str
) -> None:
    visit(page, "home")
    page.get_by_role("link", name="様子を見る").click()
    page.get_by_role("heading", name="学習", exact=True, level=1).wait_for()
    expect(badge(page, "実行中")).to_be_visible()
    page.reload()
    expect(badge(page, "実行中")).to_be_visible()
    expect(page.get_by_text(long_run).first).to_be_visible()
    tab = context.new_page()
    tab.goto(page.url)
    expect(badge(tab, "実行中")).to_be_visible()
    first = metric(tab, "学習の損失").inner_text()
    expect(metric(tab, "学習の損失")).not_to_have_text(first)


def test_run_and_page_survive_a_restart_of_the_server(
    page: Page, served: Served, long_run: str
) -> None:
    page.goto(f"{served.url}/training?run={long_run}")
    # Streamlit fetches the code of a figure when it first draws one, and tries only once.
    before = metric(page, "学習の損失").inner_text()
    served.stop()
    served.start()
    expect(metric(page, "学習の損失")).not_to_have_text(before, timeout=RECONNECTED_MS)
    expect(badge(page, "実行中")).to_be_visible()
    assert Studio(served.workspace).runs.show(long_run).status.state == "running"


def test_run_is_stopped_and_resumed(page: Page, served: Served) -> None:
    ui_workspaces.add_dataset(served.workspace)
    settings = TrainConfig(dataset="faq", iterations=400, checkpoint_every=10, processes=1)
    run_id = Studio(served.workspace).training.start(settings)
    page.goto(f"{served.url}/training?run={run_id}")
    expect(metric(page, "学習の損失")).not_to_contain_text("—", timeout=120_000)
    click(page, "一時停止")
    expect(page.get_by_role("button", name="再開")).to_be_visible(timeout=120_000)
    stopped = Studio(served.workspace).runs.show(run_id).status.done
    click(page, "再開")
    expect(badge(page, "実行中")).to_be_visible(timeout=120_000)
    expect(page.get_by_role("button", name="一時停止")).to_be_visible()
    assert 0 < stopped < 400


@pytest.mark.usefixtures("home")
def test_wrong_file_is_refused_with_the_next_step(page: Page, tmp_path: Path) -> None:
    book = tmp_path / "book.csv"
    book.write_bytes(b"PK\x03\x04" + bytes(200))
    visit(page, "dataset")
    hand_in(page, book)
    expect(page.get_by_text("ZIP形式")).to_be_visible()
    expect(page.get_by_text("次にすること", exact=False).first).to_be_visible()
    expect(page.get_by_text("技術的な詳細（コード: SOURCE_BINARY）")).to_be_visible()
    click(page, "別のファイルにする")
    expect(page.get_by_test_id("stFileUploader")).to_be_visible()


@pytest.mark.usefixtures("home")
def test_findings_lead_to_their_rows_and_are_mended(page: Page, tmp_path: Path) -> None:
    rows = "".join(f"商品{n}は？,商品{n}は{n}円です。\n" for n in range(12))
    sheet = tmp_path / "kana.csv"
    sheet.write_text(f"質問,回答\nﾊﾝｶｸは？,ﾃｽﾄです。\n{rows}", encoding="utf-8")
    visit(page, "dataset")
    hand_in(page, sheet)
    expect(page.get_by_text("半角カナが使われています。")).to_be_visible()
    page.get_by_text("行を見る").first.click()
    click(page, "直す（半角カナを全角に）")
    expect(page.get_by_text("半角カナが使われています。")).to_be_hidden()
    expect(page.get_by_role("checkbox", name="半角カナを全角に")).to_be_checked()


@pytest.mark.usefixtures("home")
def test_damaged_run_can_be_looked_at(page: Page, served: Served) -> None:
    ui_workspaces.damage(served.workspace)
    visit(page, "training")
    page.get_by_text("様子を見る", exact=True).click()
    expect(page.get_by_text("破損").first).to_be_visible()
