"""A whole dataset as one spreadsheet, for people to look at and change, and such a file read again.

What a spreadsheet would run as a formula is kept from it and comes back as it was. Rows, groups and
splits come back too; a row is then numbered by its line in that file.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from mlx_finetuning.data_processor.examples import Example, build
from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.columns import choose
from mlx_finetuning.data_processor.readers.goal_columns import for_goal
from mlx_finetuning.data_processor.readers.tables import Table
from mlx_finetuning.errors import RowsUnfitForTable, TextTooLongForExcel, TooManyRowsForExcel
from mlx_finetuning.tokenization.rows import Row

GROUP, SPLIT, TIMES, ORIGIN, FILE = "グループ", "分割", "回数", "元の行", "元のファイル"
_MARKS = {SPLIT, TIMES, ORIGIN}
"""Columns by which a file of ours is known."""
SPLITS_JA = {"train": "学習", "valid": "検証", "test": "テスト"}
_RUN = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet may run, or that has been kept from it."""
_NAMED = 20
"""Rows that an error names."""
_EXCEL_CELL, _EXCEL_ROWS = 32_767, 1_048_575
"""Characters of a cell, rows without the header."""
_UNWRITABLE = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)|[\x00-\x08\x0b-\x1f\ufffe\uffff]")
"""What XML cannot hold, and what Excel reads as its way to write that."""
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")


@dataclass(frozen=True)
class Sheet:
    """A dataset as a table of texts."""

    columns: tuple[str, ...]
    rows: list[list[str]]


# --- out ---------------------------------------------------------------------------------


def sheet_of(splits: Mapping[str, Sequence[Row]], sources: Sequence[str] = ()) -> Sheet:
    """The rows of all splits in the order of their sources; those that training sees several times
    stand once, with how often.

    Conversations of one question and answer have a column for each, unless a row would not come back
    from these as it is; then the whole conversation stands in one. Raises RowsUnfitForTable.
    """
    order = {name: at for at, name in enumerate(sources)}
    lines = [
        (row, split, len([*same])) for split, rows in splits.items() for row, same in groupby(rows)
    ]
    lines.sort(key=lambda line: (order.get(line[0].get("source", ""), 0), line[0].get("row", 0)))
    rows = [row for row, _, _ in lines]
    table = _table([_plain(row) for row in rows])
    if _not_coming_back(table, rows) and all("messages" in row for row in rows):
        table = _table([_whole(row) for row in rows])
    if changed := _not_coming_back(table, rows):
        raise RowsUnfitForTable(rows=changed[:_NAMED])
    marks = [
        {
            GROUP: str(row.get("group", "")),
            SPLIT: SPLITS_JA[split],
            TIMES: str(times),
            ORIGIN: str(row.get("row", "")),
            **({FILE: str(row["source"])} if "source" in row else {}),
        }
        for row, split, times in lines
    ]
    more = _table(marks)
    cells = [
        values + own for (_, values), (_, own) in zip(table.records, more.records, strict=True)
    ]
    return Sheet((*table.columns, *more.columns), cells)


def _plain(row: Row) -> dict[str, str]:
    """A cell for each text; of a longer conversation the last of each side."""
    if "text" in row:
        return {"本文": row["text"]}
    if "prompt" in row:
        answers = {"良い回答": row["chosen"], "悪い回答": row["rejected"]}
        return {"質問": row["prompt"], **answers, "システム文": row.get("system", "")}
    said = {str(turn["role"]): str(turn["content"]) for turn in row["messages"]}
    sides = {"user": "質問", "assistant": "回答", "system": "システム文"}
    return {**{column: said.get(role, "") for role, column in sides.items()}, **_mark(row)}


def _whole(row: Row) -> dict[str, str]:
    """The conversation and what it may call, as JSON."""
    tools = row.get("tools")
    return {
        "会話": json.dumps(row["messages"], ensure_ascii=False),
        "ツール": json.dumps(tools, ensure_ascii=False) if tools else "",
        **_mark(row),
    }


def _mark(row: Row) -> dict[str, str]:
    return {"良し悪し": "○" if row["label"] else "×"} if "label" in row else {}


def _table(cells: Sequence[Mapping[str, str]]) -> Table:
    """Without columns in which nothing stands."""
    columns = tuple(dict.fromkeys(name for row in cells for name, text in row.items() if text))
    records = [(at, [row.get(name, "") for name in columns]) for at, row in enumerate(cells)]
    return Table("csv", columns, records)


def _not_coming_back(table: Table, rows: Sequence[Row]) -> list[int]:
    """The rows that are not made again of the table's cells."""
    chosen = choose(table.columns, None, table.records)
    chosen = for_goal(chosen, table.records, table.columns, "preference")
    examples = build(table, chosen, "")[0] if chosen.kind else ()
    made: defaultdict[int, list[str]] = defaultdict(list)
    for example in examples:
        made[example.row].append(_content(example.to_row("")))
    return [row.get("row", 0) for at, row in enumerate(rows) if made[at] != [_content(row)]]


def _content(row: Mapping[str, Any]) -> str:
    """What is learned of a row, as its line holds it."""
    learned = {key: value for key, value in row.items() if key not in ("row", "group", "source")}
    return json.dumps(learned, ensure_ascii=False)


def to_csv(sheet: Sheet) -> bytes:
    """UTF-8 with the mark by which Excel knows it. Cells that would be run begin with an apostrophe."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    for cells in (sheet.columns, *sheet.rows):
        writer.writerow([f"'{cell}" if _RUN.match(cell) else cell for cell in cells])
    return stream.getvalue().encode("utf-8-sig")


def to_xlsx(sheet: Sheet) -> bytes:
    """A workbook of texts. Raises TextTooLongForExcel, TooManyRowsForExcel."""
    import openpyxl
    from openpyxl.cell import WriteOnlyCell

    if len(sheet.rows) > _EXCEL_ROWS:
        raise TooManyRowsForExcel(rows=len(sheet.rows), limit=_EXCEL_ROWS)
    rows = [
        [_UNWRITABLE.sub(lambda sign: f"_x{ord(sign.group()):04X}_", text) for text in cells]
        for cells in sheet.rows
    ]
    for number, cells in enumerate(rows, 2):
        if max(map(len, cells)) > _EXCEL_CELL:
            raise TextTooLongForExcel(row=number, limit=_EXCEL_CELL)
    book = openpyxl.Workbook(write_only=True)
    page = book.create_sheet("データセット")
    page.freeze_panes = "A2"
    for cells in ([*sheet.columns], *rows):
        written = [WriteOnlyCell(page, text) for text in cells]
        for cell, text in zip(written, cells, strict=True):
            cell.data_type = "s"
            # Stays text when somebody goes through the cell in Excel.
            cell.quotePrefix = _RUN.match(text) is not None
        page.append(written)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


WRITERS: dict[str, Callable[[Sheet], bytes]] = {"csv": to_csv, "xlsx": to_xlsx}


# --- back --------------------------------------------------------------------------------


def restored(table: Table) -> Table:
    """A file of ours with its cells as they were; any other table as it is."""
    restore = _RESTORES.get(table.format)
    if restore is None or not is_ours(table):
        return table
    records = [(row, [restore(str(value)) for value in values]) for row, values in table.records]
    return replace(table, records=records)


def is_ours(table: Table) -> bool:
    """Whether its columns say where a row belongs, as `sheet_of` writes them."""
    return {*table.columns} >= _MARKS


def _from_csv(text: str) -> str:
    return text[1:] if text.startswith("'") and _RUN.match(text) else text


_RESTORES: dict[str, Callable[[str], str]] = {
    "csv": _from_csv,
    "tsv": _from_csv,
    "xlsx": lambda text: _ESCAPE.sub(lambda sign: chr(int(sign[1], 16)), text),
}


def with_marks(table: Table, examples: Sequence[Example]) -> tuple[list[Example], list[Finding]]:
    """The examples of a file of ours with their split and how often they are trained. What cannot be
    read is found, and left to the settings."""
    split_at, times_at = (table.columns.index(name) for name in (SPLIT, TIMES))
    names = {"": "", **{name: split for split, name in SPLITS_JA.items()}}
    splits: dict[int, str] = {}
    times: dict[int, int] = {}
    unread = []
    for row, values in table.records:
        split, count = str(values[split_at]).strip(), str(values[times_at]).strip() or "1"
        is_count = re.fullmatch("[1-9][0-9]{0,2}", count) is not None
        splits[row], times[row] = names.get(split, ""), int(count) if is_count else 1
        if split not in names or not is_count:
            unread.append(row)
    marked = [replace(one, split=splits[one.row], times=times[one.row]) for one in examples]
    notes = [finding("OWN_SPLITS")]
    return marked, [*notes, finding("MARKS_UNREAD", unread)] if unread else notes
