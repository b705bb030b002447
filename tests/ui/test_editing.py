"""Rows edited on the page データセット, through Streamlit's own test driver: the form, the way back, the
draft. The table itself is drawn on a canvas: `tests/browser/test_editing.py`."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import read_rows
from mlx_finetuning.data_processor.edits import SplitRow
from mlx_finetuning.studio import Studio
from mlx_finetuning.ui.dataset import editing
from mlx_finetuning.workspace import Workspace
from support.ui_pages import click, open_page, shown_errors, texts

ROWS = "".join(f"商品{n}は？,{'' if n == 3 else f'商品{n}は{n}円です。'}\n" for n in range(2, 14))
EMPTY = "EMPTY_ANSWER-1"


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))


@pytest.fixture
def digest(workspace: Workspace) -> str:
    """Of a file with an empty answer in row 3."""
    kept = Studio(workspace).data.keep_upload("a.csv", f"質問,回答\n{ROWS}".encode())
    return kept.parent.name


def _see(page: AppTest, finding: str) -> None:
    next(one for one in page.toggle if one.key and one.key.endswith(f"-see-{finding}")).set_value(
        True
    ).run()


def _open_row(page: AppTest, row: int) -> None:
    next(one for one in page.selectbox if one.label == "1行を開いて直す").set_value(row).run()


def _fill(page: AppTest, label: str, text: str) -> None:
    next(one for one in page.text_area if one.label == label).set_value(text)


def _metric(page: AppTest, label: str) -> str:
    return next(one.value for one in page.metric if one.label == label)


def _row(workspace: Workspace, name: str, row: int) -> str:
    paths = Studio(workspace).workspace.dataset(name)
    rows = [row for split in ("train", "valid", "test") for row in read_rows(paths.split(split))]
    return next(one["messages"][1]["content"] for one in rows if one["row"] == row)


def test_filled_answer_is_checked_at_once_survives_a_reload_and_is_saved(
    workspace: Workspace, digest: str
) -> None:
    page = open_page("dataset", view="new", file=digest)
    assert _metric(page, "使わない行") == "1 行"
    _see(page, EMPTY)
    _open_row(page, 3)
    _fill(page, "回答", "3円です。")
    click(page, "直す")
    assert shown_errors(page) == []
    assert _metric(page, "使わない行") == "0 行"
    assert "**直りました**" in texts(page)
    page = open_page("dataset", view="new", file=digest)
    assert "直したところ 1か所" in texts(page)
    click(page, "データセットを保存")
    assert shown_errors(page) == []
    assert _row(workspace, "a", 3) == "3円です。"


def test_rows_are_split_merged_added_deleted_and_all_is_undone(digest: str) -> None:
    page = open_page("dataset", view="new", file=digest)
    _see(page, "all")
    _open_row(page, 4)
    _fill(page, "回答", "前半です。\n===\n後半です。")
    click(page, "2つに分ける")
    assert _metric(page, "全体") == "13 行"
    _open_row(page, 5)
    click(page, "消す")
    _open_row(page, 6)
    click(page, "まとめる")
    click(page, "行を足す")
    assert _metric(page, "全体") == "12 行"
    assert "直したところ 4か所" in texts(page)
    assert "4行目を2つに分割（後ろは14行目）" in texts(page)
    click(page, "1つ戻す")
    assert _metric(page, "全体") == "11 行"
    click(page, "全て元に戻す")
    assert _metric(page, "全体") == "12 行"
    assert "直したところ" not in texts(page)


def test_two_tabs_do_not_overwrite_each_other(workspace: Workspace, digest: str) -> None:
    first, second = (open_page("dataset", view="new", file=digest) for _ in range(2))
    for page in (first, second):
        _see(page, EMPTY)
        _open_row(page, 3)
    _fill(first, "回答", "一つ目のタブ。")
    click(first, "直す")
    _fill(second, "回答", "二つ目のタブ。")
    click(second, "直す")
    assert "今の変更は入れていません" in "\n".join(shown_errors(second))
    source = next(workspace.uploads.joinpath(digest).glob("[!.]*"))
    (edit,) = Studio(workspace).data.draft(source) or ()
    assert "一つ目のタブ。" in str(edit)
    assert "直したところ 1か所" in texts(second)


def test_saved_dataset_gets_a_new_version_and_the_old_one_is_in_the_trash(
    workspace: Workspace, digest: str
) -> None:
    data = Studio(workspace).data
    data.prepare(next(workspace.uploads.joinpath(digest).glob("[!.]*")), "faq")
    page = open_page("dataset", view="edit", dataset="faq")
    assert shown_errors(page) == []
    assert next(one for one in page.button if one.label == "新しい版を保存").disabled
    _see(page, "all")
    _open_row(page, 2)
    _fill(page, "回答", "20円に値上げしました。")
    click(page, "直す")
    click(page, "新しい版を保存")
    assert shown_errors(page) == []
    assert _row(workspace, "faq", 2) == "20円に値上げしました。"
    assert [one.name for one in data.deleted()] == ["faq"]
    assert data.draft("faq") is None
    data.delete("faq")
    data.restore("faq", data.deleted()[1].deleted_at)
    assert _row(workspace, "faq", 2) == "商品2は2円です。"
    assert data.draft("faq") is None


def test_rows_of_each_file_of_a_dataset_are_edited(workspace: Workspace) -> None:
    data = Studio(workspace).data
    kept = [
        data.keep_upload(f"{name}.csv", f"{header}\n{ROWS.replace('商品', name)}".encode())
        for name, header in (("りんご", "質問,回答"), ("みかん", "問い,答え"))
    ]
    data.prepare(kept, "fruit", PrepareConfig(weights=(1.0, 2.0)))
    page = open_page("dataset", view="edit", dataset="fruit")
    for file, column, word in (("りんご.csv", "回答", "赤い"), ("みかん.csv", "答え", "丸い")):
        next(one for one in page.selectbox if one.label == "直すファイル").set_value(file).run()
        assert shown_errors(page) == []
        assert _metric(page, "使わない行") == "1 行"
        _see(page, "all")
        _open_row(page, 2)
        _fill(page, column, word)
        click(page, "直す")
    click(page, "新しい版を保存")
    assert shown_errors(page) == []
    paths = workspace.dataset("fruit")
    rows = [row for split in ("train", "valid", "test") for row in read_rows(paths.split(split))]
    changed = {
        (each["source"], each["messages"][1]["content"]) for each in rows if each["row"] == 2
    }
    assert changed == {("りんご.csv", "赤い"), ("みかん.csv", "丸い")}
    assert data.manifest("fruit").settings.weights == (1.0, 2.0)


def test_dataset_is_handed_out_and_what_does_not_fit_is_said(
    workspace: Workspace,
) -> None:
    data = Studio(workspace).data
    long = f"質問,回答\n{ROWS}長い？,{'長' * 40_000}。\n"
    data.prepare(data.keep_upload("long.csv", long.encode()), "long")
    page = open_page("dataset", view="saved", dataset="long")
    click(page, "ファイルを作る")
    assert "長すぎて、Excelのファイルに入りません" in "\n".join(shown_errors(page))
    next(one for one in page.radio if one.label == "形式").set_value("csv").run()
    click(page, "ファイルを作る")
    assert shown_errors(page) == []
    (file,) = page.get("download_button")
    assert file.proto.label == "long.csv を受け取る"  # type: ignore[attr-defined]


def test_checks_of_many_rows_wait_until_they_are_asked_for(
    digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing, "MANY", 10)
    page = open_page("dataset", view="new", file=digest)
    _see(page, EMPTY)
    _open_row(page, 3)
    _fill(page, "回答", "3円です。")
    click(page, "直す")
    assert _metric(page, "使わない行") == "1 行"
    click(page, "検査し直す")
    assert _metric(page, "使わない行") == "0 行"


def test_edit_that_no_longer_fits_is_said_and_can_be_undone(digest: str) -> None:
    page = open_page("dataset", view="new", file=digest)
    _see(page, EMPTY)
    _open_row(page, 3)
    _fill(page, "回答", "3円です。")
    click(page, "直す")
    page.text_input(key=f"{digest}-header_row").set_value("0").run()
    assert "3行目の直しを、元のファイルに当てはめられません" in "\n".join(shown_errors(page))
    click(page, "全て元に戻す")
    assert shown_errors(page) == []


def test_split_names_only_the_cells_that_are_divided(workspace: Workspace) -> None:
    line = '{"question": "値段は？", "answer": "前\\n===\\n後", "score": 5, "tags": ["a"]}\n'
    kept = Studio(workspace).data.keep_upload("a.jsonl", line.encode())
    page = open_page("dataset", view="new", file=kept.parent.name)
    _see(page, "all")
    _open_row(page, 1)
    click(page, "2つに分ける")
    (edit,) = Studio(workspace).data.draft(kept) or ()
    assert isinstance(edit, SplitRow)
    assert (edit.first, edit.second) == ((("answer", "前"),), (("answer", "後"),))


def test_damaged_draft_does_not_bar_the_file(workspace: Workspace, digest: str) -> None:
    workspace.uploads.joinpath(digest, ".draft.json").write_text('{"edits": [', "utf-8")
    page = open_page("dataset", view="new", file=digest)
    assert "壊れていて読めないため、捨てました" in texts(page)
    assert _metric(page, "全体") == "12 行"
    assert "捨てました" not in texts(open_page("dataset", view="new", file=digest))


def test_turns_of_a_conversation_are_edited_added_and_removed(workspace: Workspace) -> None:
    line = (
        '{"conversations": [{"from": "human", "value": "値段は？"}, {"from": "gpt", "value": ""}, '
        '{"from": "human", "value": "色は？"}, {"from": "gpt", "value": "赤です。"}]}\n'
    )
    kept = Studio(workspace).data.keep_upload("a.jsonl", line.encode())
    page = open_page("dataset", view="new", file=kept.parent.name)
    _see(page, EMPTY)
    _open_row(page, 1)
    _fill(page, "2. 回答", "3円です。")
    _fill(page, "3. 質問", "")
    _fill(page, "4. 回答", "")
    _fill(page, "5. 質問（続きを足すとき）", "大きさは？")
    _fill(page, "6. 回答（続きを足すとき）", "10センチです。")
    click(page, "直す")
    assert _metric(page, "使う行") == "1 行"
    click(page, "データセットを保存")
    (row,) = read_rows(workspace.dataset("a").train)
    assert [turn["content"] for turn in row["messages"]] == [
        "値段は？",
        "3円です。",
        "大きさは？",
        "10センチです。",
    ]
