"""Saved datasets on the page データセット, through Streamlit's own test driver."""

from __future__ import annotations

import io

import openpyxl
import pytest

from mlx_finetuning.data_processor import uploads
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support import ui_workspaces
from support.ui_pages import click, open_page, shown_errors, texts


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))
    ui_workspaces.add_dataset(workspace)


def test_deleted_dataset_is_found_in_the_trash_and_brought_back(workspace: Workspace) -> None:
    click(open_page("dataset", view="saved"), "移す")
    assert Studio(workspace).data.list() == []
    trash = open_page("dataset", view="trash")
    assert "**faq**" in texts(trash)
    click(trash, "元に戻す")
    assert [entry.name for entry in Studio(workspace).data.list()] == ["faq"]
    assert "ゴミ箱は空です" in texts(open_page("dataset", view="trash"))


def test_damaged_dataset_can_be_thrown_away(workspace: Workspace) -> None:
    workspace.dataset("faq").manifest.write_bytes(b"\x00{")
    page = open_page("dataset", view="saved")
    assert "壊れて" in shown_errors(page)[0]
    click(page, "移す")
    assert Studio(workspace).data.list() == []


def test_what_was_made_last_is_offered_first() -> None:
    ui_workspaces.add_dataset(Workspace.locate(), "a-later-one")
    assert open_page("training").selectbox(key="train-dataset").value == "a-later-one"
    assert open_page("training", dataset="faq").selectbox(key="train-dataset").value == "faq"


def _uploaded(workspace: Workspace, name: str, text: str) -> str:
    """The digest of a file handed in."""
    return uploads.keep(name, text.encode(), workspace.uploads).parent.name


def test_doubtful_column_is_confirmed_before_saving(workspace: Workspace) -> None:
    rows = "".join(f"質問{n}は何ですか,答えは{n}番です。\n" for n in range(6))
    digest = _uploaded(workspace, "a.csv", "質問,担当からの回答\n" + rows)
    page = open_page("dataset", file=digest)
    assert "データセットを保存" not in [one.label for one in page.button]
    next(one for one in page.checkbox if "回答の列で合っています" in one.label).check().run()
    assert "データセットを保存" in [one.label for one in page.button]


def test_speaker_of_a_chat_log_is_chosen_on_the_page(workspace: Workspace) -> None:
    log = "".join(f"10:0{n}\t田端\t問い{n}\n10:0{n}\tわたし\t答え{n}です\n" for n in range(6))
    digest = _uploaded(workspace, "a.txt", "[LINE] 田端とのトーク履歴\n\n2024/05/01(水)\n" + log)
    page = open_page("dataset", file=digest)
    chosen = next(one for one in page.selectbox if one.label == "AIの役にする話し手")
    assert "会話の記録" in texts(page)
    chosen.select("わたし").run()
    assert "会話に組み立てました" in texts(page)


def _workbook() -> bytes:
    """Two sheets: answers of last year, and more of this year below a title."""
    book, content = openpyxl.Workbook(), io.BytesIO()
    rows = [["質問", "回答"], *([f"商品{n}は？", f"商品{n}は{n}円です。"] for n in range(4))]
    for sheet, lines in (
        (book.active, rows),
        (book.create_sheet("今年"), [["一覧"], *rows, *rows[1:]]),
    ):
        for line in lines:
            sheet.append(line)
    book.active.title = "去年"
    book.save(content)
    return content.getvalue()


def test_workbook_is_read_and_its_sheet_can_be_chosen(workspace: Workspace) -> None:
    kept = Studio(workspace).data.keep_upload("books.xlsx", _workbook())
    page = open_page("dataset", view="new", file=kept.parent.name)
    assert shown_errors(page) == []
    assert "シート「今年」を読みました" in texts(page)
    assert "2行目を見出しとして読みました（質問、回答）" in texts(page)
    digest = kept.parent.name
    page.selectbox(key=f"{digest}-sheet").set_value("去年").run()
    assert "シート「去年」を読みました" in texts(page)
    page.text_input(key=f"{digest}-header_row").set_value("99").run()
    assert "99 行目を見出しにできません" in "\n".join(shown_errors(page))
    page.text_input(key=f"{digest}-header_row").set_value("").run()
    click(page, "データセットを保存")
    saved = {entry.name: entry.manifest for entry in Studio(workspace).data.list()}
    manifest = saved["books"] or {}
    assert (manifest["config"]["sheet"], manifest["source_rows"]) == ("去年", 4)


def test_any_sign_can_be_typed_as_the_delimiter(workspace: Workspace) -> None:
    text = "問い!答え\n" + "".join(f"商品{n}の値段は？!{n}00円です。\n" for n in range(6))
    digest = _uploaded(workspace, "a.csv", text)
    chosen = f"{digest}-delimiter"  # the test's browser types nothing that the list does not have
    page = open_page("dataset", {chosen: "!"}, file=digest)
    assert shown_errors(page) == []
    assert "列名「問い」から質問と判断しました" in texts(page)
    page = open_page("dataset", {chosen: "!!"}, file=digest)
    assert "設定に誤りがあります" in "\n".join(shown_errors(page))
    assert "1文字" in texts(page)


def test_pasted_table_is_kept_and_read(workspace: Workspace) -> None:
    kept = Studio(workspace).data.keep_pasted("質問\t回答\n営業は？\t9時です。\n".encode())
    page = open_page("dataset", view="new", file=kept.parent.name)
    assert shown_errors(page) == []
    assert kept.name == "pasted.tsv"
    page = open_page("dataset", view="new")
    page.text_area(key="pasted").set_value("質問\t回答\nあ\tい\n").run()
    click(page, "貼り付けた表を使う")
    assert page.query_params["file"]


def test_goal_is_guessed_and_can_be_changed_before_saving(workspace: Workspace) -> None:
    rows = "".join(f"{n}番はどう？,{n}番はとてもよいのじゃ！\n" for n in range(12))
    page = open_page("dataset", file=_uploaded(workspace, "manner.csv", "質問,回答\n" + rows))
    assert "**口調・文体**" in texts(page)
    asked = next(one for one in page.selectbox if one.label == "何のために学習しますか")
    asked.select("faq").run()
    assert "**社内FAQ（事実）**" in texts(page)
    assert any("別の聞き方がありません" in str(item.value) for item in page.info)
    click(page, "データセットを保存")
    manifest = next(one.manifest for one in Studio(workspace).data.list() if one.name == "manner")
    assert manifest is not None
    assert (manifest["goal"], manifest["config"]["goal"]) == ("faq", "faq")
    assert manifest["counts"] == {"train": 12, "valid": 0, "test": 0}
