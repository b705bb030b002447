"""Edits: the dataset is that of a file edited by hand, the source stays, the same bytes come again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import (
    drafts,
    inspect,
    prepare,
    read_manifest,
    read_rows,
    reproduce,
)
from mlx_finetuning.data_processor.edits import AddRow, DeleteRow, EditedTable, SetCell
from mlx_finetuning.data_processor.examine import open_source
from mlx_finetuning.data_processor.split import SPLITS
from mlx_finetuning.errors import DraftChanged, EditMismatch, SourceChanged, StudioError
from mlx_finetuning.progress import silent
from mlx_finetuning.workspace import DatasetPaths

HEAD = "質問,回答,カテゴリ\n"
ROWS = [f"商品{n}は？,商品{n}は{n}円です。,価格\n" for n in range(2, 22)]


def _sheet(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.write_text(HEAD + "".join(lines), encoding="utf-8")
    return path


def _table(path: Path) -> EditedTable:
    return EditedTable(open_source(path, PrepareConfig(), silent).table)


def _contents(source: Path, folder: Path, rows: EditedTable | None = None) -> list[str]:
    """The lines of all splits, without the rows' numbers."""
    paths = DatasetPaths(folder / "datasets" / source.stem)
    prepare(source, "x", paths, PrepareConfig(), edits=rows.edits if rows else ())
    found = []
    for split in SPLITS:
        for row in read_rows(paths.split(split)):
            del row["row"]
            found.append(json.dumps([split, row], ensure_ascii=False))
    return found


def _fill(rows: EditedTable) -> None:
    rows.set(5, "回答", "手で入れた答えです。")


def _delete(rows: EditedTable) -> None:
    rows.delete(5)
    rows.delete(21)


def _add(rows: EditedTable) -> None:
    new = rows.add(
        7, (("質問", "新しい質問は？"), ("回答", "新しい答えです。"), ("カテゴリ", "価格"))
    )
    rows.set(new, "回答", "直した答えです。")
    rows.delete(rows.add())


def _split(rows: EditedTable) -> None:
    parts = ("前半は？", "後半は？"), ("前半です。", "後半です。")
    first, second = (
        tuple(zip(("質問", "回答"), cells, strict=True)) for cells in zip(*parts, strict=True)
    )
    rows.split(8, first, second)


def _merge(rows: EditedTable) -> None:
    rows.merge(9, 10)


@pytest.mark.parametrize(
    ("change", "at", "lines"),
    [
        (_fill, slice(3, 4), ["商品5は？,手で入れた答えです。,価格\n"]),
        (_delete, slice(3, 4), []),
        (_add, slice(6, 6), ["新しい質問は？,直した答えです。,価格\n"]),
        (_split, slice(6, 7), ["前半は？,前半です。,価格\n", "後半は？,後半です。,価格\n"]),
        (
            _merge,
            slice(7, 9),
            ['"商品9は？\n商品10は？","商品9は9円です。\n商品10は10円です。",価格\n'],
        ),
    ],
)
def test_dataset_is_that_of_a_file_edited_by_hand(
    change: Callable[[EditedTable], None], at: slice, lines: list[str], tmp_path: Path
) -> None:
    source = _sheet(tmp_path, "a.csv", ROWS)
    before = source.read_bytes()
    by_hand = [*ROWS]
    by_hand[at] = lines
    if change is _delete:
        by_hand.pop()
        by_hand = [line for line in by_hand if not line.startswith("商品21は")]
    rows = _table(source)
    change(rows)
    assert _contents(source, tmp_path, rows) == _contents(
        _sheet(tmp_path, "b.csv", by_hand), tmp_path
    )
    assert source.read_bytes() == before


def test_steps_are_undone_one_by_one_and_all(tmp_path: Path) -> None:
    source = _sheet(tmp_path, "a.csv", ROWS)
    rows = _table(source)
    table = open_source(source, PrepareConfig(), silent).table
    states = [rows.records()]
    for change in (_fill, _delete, _add, _split, _merge):
        change(rows)
        states.append(rows.records())
    counts = [0, 1, 3, 7, 8, 9]
    assert len(rows.edits) == counts[-1]
    for count, state in zip(counts, states, strict=True):
        assert EditedTable(table, rows.edits[:count]).records() == state
    assert states[0] == table.records


def test_edited_dataset_is_reproduced_byte_for_byte(tmp_path: Path) -> None:
    source = _sheet(tmp_path, "a.csv", [*ROWS, "空の答えは？,,\n"])
    rows = _table(source)
    for change in (_fill, _delete, _add, _split, _merge):
        change(rows)
    rows.set(22, "回答", "埋めました。")
    paths, again = (DatasetPaths(tmp_path / "datasets" / name) for name in ("a", "again"))
    summary = prepare(source, "a", paths, PrepareConfig(), edits=rows.edits)
    assert [
        (f.code, f.message) for f in summary.findings if f.code in ("EDITED", "EMPTY_ANSWER")
    ] == [("EDITED", "直したところがあります（10か所）。元のファイルはそのままです。")]
    recorded = read_manifest(paths.manifest)
    assert recorded.edits == tuple(rows.edits)
    reproduce(recorded, "again", again)
    for split in SPLITS:
        assert again.split(split).read_bytes() == paths.split(split).read_bytes()
    source.write_text(HEAD + "".join(ROWS), encoding="utf-8")
    with pytest.raises(SourceChanged):
        reproduce(recorded, "again", again, replace=True)


def test_edit_of_a_row_that_is_another_now_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    rows = _table(_sheet(tmp_path, "a.csv", ROWS))
    _fill(rows)
    changed = _sheet(tmp_path, "b.csv", [*ROWS[:3], "商品5は？,値上げしました。,価格\n", *ROWS[4:]])
    paths = DatasetPaths(tmp_path / "datasets" / "b")
    with pytest.raises(EditMismatch, match=r"5行目.*\n.*「回答」の元の内容が違います"):
        prepare(changed, "b", paths, PrepareConfig(), edits=rows.edits)
    assert not paths.folder.exists()


@pytest.mark.parametrize(
    "edit",
    [
        SetCell(99, "回答", "", "あ"),
        SetCell(5, "備考", "", "あ"),
        SetCell(5, "回答", "", "あ", turn=1),
        DeleteRow(5, "0" * 16),
        AddRow(5, 0),
        AddRow(22, 99),
    ],
)
def test_step_about_something_that_is_not_there_is_refused(
    edit: SetCell | DeleteRow | AddRow, tmp_path: Path
) -> None:
    with pytest.raises(EditMismatch):
        _table(_sheet(tmp_path, "a.csv", ROWS)).take(edit)


@pytest.mark.parametrize("key", ["messages", "conversations"])
def test_turn_of_a_conversation_is_edited(key: str, tmp_path: Path) -> None:
    names = ("role", "content") if key == "messages" else ("from", "value")

    def line(answer: str) -> str:
        turns = [
            ("user", "1つ目は？"),
            ("assistant", answer),
            ("user", "では？"),
            ("assistant", "はい。"),
        ]
        said = [{names[0]: role, names[1]: text, "weight": 1} for role, text in turns]
        return json.dumps({key: said}, ensure_ascii=False) + "\n"

    source, by_hand = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text(line("") + line("別の答え"), encoding="utf-8")
    by_hand.write_text(line("入れた答え") + line("別の答え"), encoding="utf-8")
    rows = _table(source)
    rows.set(1, key, "入れた答え", turn=2)
    assert "EMPTY_ANSWER" in [f.code for f in inspect(source).findings]
    assert _contents(source, tmp_path, rows) == _contents(by_hand, tmp_path)


def test_row_of_one_of_several_files_is_edited(tmp_path: Path) -> None:
    sources = [_sheet(tmp_path, name, ROWS) for name in ("a.csv", "b.csv")]
    table = open_source(sources[1], PrepareConfig(), silent).table
    rows = EditedTable(table, source="b.csv")
    _fill(rows)
    paths = DatasetPaths(tmp_path / "datasets" / "both")
    prepare(sources, "both", paths, PrepareConfig(), edits=rows.edits)
    written = [row for split in SPLITS for row in read_rows(paths.split(split))]
    answers = {row["source"]: row["messages"][1]["content"] for row in written if row["row"] == 5}
    assert answers == {"a.csv": "商品5は5円です。", "b.csv": "手で入れた答えです。"}


def test_draft_is_not_overwritten_by_who_has_not_seen_it(tmp_path: Path) -> None:
    path = tmp_path / "draft.json"
    first, second = DeleteRow(2, "0"), SetCell(3, "回答", "1", "二")
    drafts.write(path, [first], None)
    with pytest.raises(DraftChanged):
        drafts.write(path, [second], None)
    drafts.write(path, [first, second], (first,))
    assert drafts.read(path) == (first, second)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(StudioError):
        drafts.read(path)
    drafts.discard(path)
    assert drafts.read(path) is None
