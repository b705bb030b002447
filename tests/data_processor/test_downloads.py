"""A dataset as CSV and as a workbook: it comes back as it was, and no cell of it is run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import openpyxl
import pytest

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import downloads, read_rows
from mlx_finetuning.data_processor.split import SPLITS
from mlx_finetuning.errors import RowsUnfitForTable, TextTooLongForExcel
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

FORMULAS = ("=1+1", "+81-3-0000", "-1", "@SUM(A1)", "\tタブ", "'=1", "''=1", '=HYPERLINK("a")')
OTHERS = (
    *(
        "'普通の引用",
        "_x000D_",
        "_x005F_x000D_",
        "改\n行",
        " 前後の空白 ",
        "00123",
        "2024/1/5",
        "合計",
    ),
    *('"引用符", と ,', "nan", "TRUE", "👨‍👩‍👧", "a\tb", "<b>", "1e5", "#N/A です"),
)
FORMS = ("csv", "xlsx")


def _prepare(workspace: Workspace, name: str, lines: list[object], **settings: object) -> Studio:
    source = workspace.root / f"{name}.jsonl"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(
        "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines), "utf-8"
    )
    studio = Studio(workspace)
    studio.data.prepare(source, name, PrepareConfig(clean=(), **settings))  # type: ignore[arg-type]
    return studio


def _content(workspace: Workspace, name: str) -> list[tuple[str, str]]:
    """The lines of each split in their order, without the rows' numbers."""
    found = []
    for split in SPLITS:
        for row in read_rows(workspace.dataset(name).split(split)):
            found.append((split, json.dumps({**row, "row": 0}, ensure_ascii=False)))
    return found


def _assert_comes_back(studio: Studio, name: str, form: str, **settings: object) -> None:
    workspace = studio.workspace
    path = studio.data.export(name, form, workspace.root / f"back.{form}")
    again = PrepareConfig(clean=(), seed=7, **settings)  # type: ignore[arg-type]
    studio.data.prepare(path, "back", again)
    assert _content(workspace, "back") == _content(workspace, name)


@pytest.mark.parametrize("form", FORMS)
def test_every_text_comes_back_as_it_was(form: str, workspace: Workspace) -> None:
    texts = (*FORMULAS, *OTHERS)
    lines: list[object] = [
        {"question": f"{text}は{at}？", "answer": f"{text}{'。' * at}"}
        for at, text in enumerate(texts)
    ]
    lines += [{"question": text, "answer": f"答え{at}"} for at, text in enumerate(FORMULAS)]
    _assert_comes_back(_prepare(workspace, "a", lines), "a", form)


def test_no_cell_is_run() -> None:
    sheet = downloads.Sheet(("質問", "回答"), [[text, text] for text in FORMULAS])
    written = downloads.to_csv(sheet)
    assert written.startswith(b"\xef\xbb\xbf")
    for cells in csv.reader(io.StringIO(written.decode("utf-8-sig"), newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    page = openpyxl.load_workbook(io.BytesIO(downloads.to_xlsx(sheet))).active
    for row, text in zip(page.iter_rows(min_row=2), FORMULAS, strict=True):
        assert [(cell.value, cell.data_type) for cell in row] == [(text, "s")] * 2
        assert all(cell.quotePrefix for cell in row)


@pytest.mark.parametrize("form", FORMS)
def test_judged_answers_come_back_with_their_marks(form: str, workspace: Workspace) -> None:
    lines: list[object] = [
        {"prompt": f"{at}号店は？", "completion": f"答え{at}", "label": at % 3 == 0}
        for at in range(12)
    ]
    _assert_comes_back(_prepare(workspace, "a", lines), "a", form)


@pytest.mark.parametrize("form", FORMS)
def test_conversations_with_all_they_hold_come_back(form: str, workspace: Workspace) -> None:
    tool = {"type": "function", "function": {"name": "price", "parameters": {"type": "object"}}}
    call = {"type": "function", "function": {"name": "price", "arguments": {"id": 3}}}
    lines: list[object] = []
    for at in range(8):
        turns = [
            {"role": "system", "content": "店員です。"},
            {"role": "user", "content": f"商品{at}は？"},
            {"role": "assistant", "content": f"=商品{at}です。", "weight": 0},
            {"role": "user", "content": f"値段{at}は？"},
            {"role": "assistant", "content": f"{at}円です。", "reasoning_content": "計算する。"},
        ]
        if at == 3:
            turns[4] |= {"content": "", "tool_calls": [call]}
        lines.append({"messages": turns, **({"tools": [tool]} if at == 3 else {})})
    _assert_comes_back(_prepare(workspace, "a", lines), "a", form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["system", "text", "preference"])
def test_other_kinds_of_rows_come_back(kind: str, form: str, workspace: Workspace) -> None:
    lines: list[object] = [
        {
            "system": {"question": f"=質問{at}", "answer": f"答え{at}", "system": "-店員\nです。"},
            "text": {"text": f"@文章{at}です。\n続きます。"},
            "preference": {"prompt": f"質問{at}", "chosen": f"+良い{at}", "rejected": f"悪い{at}"},
        }[kind]
        for at in range(9)
    ]
    _assert_comes_back(_prepare(workspace, "a", lines), "a", form)


def test_rows_that_are_trained_several_times_stand_once_and_come_back(workspace: Workspace) -> None:
    for name, count in (("a", 9), ("b", 6)):
        lines: list[object] = [
            {"question": f"{name}{n}は？", "answer": f"{name}の{n}"} for n in range(count)
        ]
        _prepare(workspace, name, lines)
    studio = Studio(workspace)
    sources = [workspace.root / "a.jsonl", workspace.root / "b.jsonl"]
    studio.data.prepare(sources, "both", PrepareConfig(weights=(1, 2.5)))
    path = studio.data.export("both", "xlsx", workspace.root / "both.xlsx")
    studio.data.prepare(path, "back")
    rows = {
        name: [
            (split, json.dumps(row["messages"]))
            for split in SPLITS
            for row in read_rows(workspace.dataset(name).split(split))
        ]
        for name in ("both", "back")
    }
    assert rows["back"] == rows["both"]
    assert len({*rows["both"]}) == 15 < len(rows["both"])


def test_row_whose_split_was_mistyped_is_named(workspace: Workspace) -> None:
    lines: list[object] = [{"question": f"質問{at}", "answer": f"答え{at}"} for at in range(9)]
    studio = _prepare(workspace, "a", lines, hold_out="group")
    path = studio.data.export("a", "csv", workspace.root / "a.csv")
    text = path.read_text("utf-8-sig").replace("テスト,1,", "てすと,1,", 1)
    path.write_text(text, "utf-8")
    findings = {one.code: one.rows for one in studio.data.inspect(path).findings}
    row = next(at for at, line in enumerate(text.splitlines(), 1) if "てすと" in line)
    assert (findings["OWN_SPLITS"], findings["MARKS_UNREAD"]) == ((), (row,))


def test_text_that_a_cell_of_excel_cannot_hold_is_refused(workspace: Workspace) -> None:
    lines: list[object] = [
        {"question": f"質問{at}", "answer": "長" * (40_000 + at)} for at in range(4)
    ]
    studio = _prepare(workspace, "a", lines)
    with pytest.raises(TextTooLongForExcel):
        studio.data.download("a", "xlsx")
    _assert_comes_back(studio, "a", "csv")


def test_text_that_would_be_read_as_something_else_is_refused() -> None:
    written = json.dumps({"text": "一つ", "answer_start": 0}, ensure_ascii=False)
    with pytest.raises(RowsUnfitForTable):
        downloads.sheet_of({"train": [{"text": written, "row": 3}]})


def test_file_of_others_keeps_its_apostrophes(tmp_path: Path, workspace: Workspace) -> None:
    path = tmp_path / "a.csv"
    path.write_text("質問,回答\n何？,'=1\n", "utf-8")
    Studio(workspace).data.prepare(path, "a")
    (row,) = read_rows(workspace.dataset("a").train)
    assert row["messages"][1]["content"] == "'=1"
