"""Text to a table of records, each with its row number. One reader per file ending.

The row number is the line in the source at which the record begins (the header is 1); of JSON on a
single line it is the record's ordinal. Knows nothing of what the columns mean.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers import json_shapes
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.errors import CellTooLong, SourceMalformed, SourceUnsupported

MAX_CELL = 1_000_000
"""Characters of one cell or string."""
MAX_COLUMNS = 1_000
MAX_CELLS = 50_000_000
"""Rows times columns: rows are filled up to the width, so a small file could fill the memory."""


Record = tuple[int, list[Any]]
"""Row number, and a value per column; a value that the source lacks is None."""


@dataclass(frozen=True)
class Table:
    """What a file holds: columns in the order of first appearance, and records aligned with them."""

    format: str
    columns: tuple[str, ...]
    records: list[Record]
    findings: tuple[Finding, ...] = ()


def parse(text: str, path: Path, progress: StageProgress = SILENT) -> Table:
    """The table in `text`. Raises SourceUnsupported, SourceMalformed, CellTooLong."""
    ending = path.suffix.lower()
    if ending not in READERS:
        supported = [*READERS, ".parquet"]
        raise SourceUnsupported(path=str(path), ending=ending or "なし", supported=supported)
    return READERS[ending](text.removeprefix("\ufeff"), path, progress)


def cell_text(value: Any) -> str:
    """A cell as text: JSON numbers as written, nothing for null and NaN, nested values as JSON."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return json.dumps(value, ensure_ascii=False)


# --- CSV and TSV -------------------------------------------------------------------------


_LINE = re.compile(r"[^\r\n]++(?:\r\n?|\n)?|\r\n?|\n")  # possessive: never steps back over a line
_REPORT_EVERY = 5000
"""Lines between two reports."""


def _read_delimited(text: str, path: Path, progress: StageProgress) -> Table:
    name = path.suffix.lower().removeprefix(".")
    header = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = "\t" if name == "tsv" else max(",\t;", key=header.count)
    findings = []
    try:
        lines = list(_csv_lines(text, path, delimiter, progress, strict=True))
    except _LooseQuotes as problem:
        lines = list(_csv_lines(text, path, delimiter, progress, strict=False))
        findings.append(finding("LOOSE_QUOTES", [problem.line]))
    if not lines:
        return Table(name, (), [], tuple(findings))
    width = len(lines[0][1])
    _refuse_too_many_cells(width, len(lines), path)
    columns: list[str] = []
    for position, cell in enumerate(lines[0][1], 1):
        column = cell.strip() or f"列{position}"
        columns.append(f"{column}（{position}列目）" if column in columns else column)
    records: list[Record] = []
    ragged, blank = [], []
    for row, cells in progress.over(lines[1:]):
        if not any(cell.strip() for cell in cells):
            blank.append(row)
            continue
        if len(cells) != width:
            ragged.append(row)
        records.append((row, (cells + [""] * width)[:width]))
    if ragged:
        findings.append(finding("RAGGED_ROW", ragged))
    if blank:
        findings.append(finding("BLANK_ROW", blank))
    return Table(name, tuple(columns), records, tuple(findings))


def _refuse_too_many_cells(columns: int, rows: int, path: Path) -> None:
    """Raises SourceMalformed for a table that nobody has written by hand."""
    if columns > MAX_COLUMNS or columns * rows > MAX_CELLS:
        reason = f"列が多すぎます（{columns:,}列 × {rows:,}行。列は{MAX_COLUMNS:,}まで）。"
        raise SourceMalformed(path=str(path), line=1, reason=reason)


class _LooseQuotes(Exception):
    """A quotation mark stands where RFC 4180 allows none."""

    def __init__(self, line: int) -> None:
        self.line = line


def _csv_lines(
    text: str, path: Path, delimiter: str, progress: StageProgress, *, strict: bool
) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row with the line it begins at; lines without a character are passed over."""
    csv.field_size_limit(MAX_CELL)
    # Lines one by one: io.StringIO would hold the text again, at four bytes a character.
    lines = (match.group() for match in _LINE.finditer(text))
    reader = csv.reader(lines, delimiter=delimiter, strict=strict)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
            if start % _REPORT_EVERY == 0:
                progress.update(start, 0)
    except csv.Error as error:
        if "field larger" in str(error):
            raise CellTooLong(path=str(path), line=start, limit=MAX_CELL) from error
        if "unexpected end" in str(error):
            reason = '引用符（"）が閉じられていません。'
            raise SourceMalformed(path=str(path), line=start, reason=reason) from error
        raise _LooseQuotes(start) from error


# --- JSON and JSONL ----------------------------------------------------------------------

_SPACE = re.compile(r"[ \t\r\n]*")
_SPACE_OR_COMMA = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)
"""NaN and Infinity, which JSON does not have, are no value."""


def _read_jsonl(text: str, path: Path, progress: StageProgress) -> Table:
    objects = [
        (row, _decode(line, 0, path, row)[0])
        for row, line in enumerate(progress.over(text.split("\n")), 1)
        if line.strip()
    ]
    return _table_of_objects("jsonl", objects, path)


def _read_json(text: str, path: Path, progress: StageProgress) -> Table:
    """A list of objects, or an object of a shape that `json_shapes` knows."""
    start = _skip_space(text, 0)
    if text.startswith("[", start):
        return _table_of_objects("json", _list_elements(text, start, path, progress), path)
    value, end = _decode(text, start, path)
    if _skip_space(text, end) < len(text) and "\n" in text[end:]:
        # JSON Lines under the name .json, as many tools write
        return _read_jsonl(text, path, progress)
    if not isinstance(value, dict):
        reason = "オブジェクトの一覧（[{…}, …]）ではありません。"
        raise SourceMalformed(path=str(path), line=1, reason=reason)
    return _table_of_objects("json", list(enumerate(json_shapes.records(value), 1)), path)


def _list_elements(
    text: str, start: int, path: Path, progress: StageProgress
) -> list[tuple[int, Any]]:
    """The elements of a JSON list one by one, so that each keeps its line."""
    elements = []
    line, counted, at = 1, 0, _skip_space(text, start + 1)
    while not text.startswith("]", at):
        line += text.count("\n", counted, at)
        counted = at
        value, end = _decode(text, at, path)
        elements.append((line, value))
        if len(elements) % _REPORT_EVERY == 0:
            progress.update(at, len(text))
        match = _SPACE_OR_COMMA.match(text, end)
        at = match.end() if match else end
        has_comma = "," in text[end:at]
        if at >= len(text):
            raise _malformed(path, text, end, "途中で終わっています（] がありません）。")
        if has_comma and text.startswith("]", at):
            raise _malformed(path, text, at, "最後の項目の後に余分な , があります。")
        if not has_comma and not text.startswith("]", at):
            raise _malformed(path, text, at, "項目の間に , がありません。")
    if _skip_space(text, at + 1) < len(text):
        raise _malformed(path, text, at + 1, "一覧の終わり（]）の後に余分な文字があります。")
    if len({line for line, _ in elements}) < len(elements):
        return [(ordinal, value) for ordinal, (_, value) in enumerate(elements, 1)]
    return elements


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _decode(text: str, at: int, path: Path, line: int = 0) -> tuple[Any, int]:
    """One JSON value from `at`, and where it ends; `line` numbers `text` if it is a single line."""
    try:
        value, end = _DECODER.raw_decode(text, at if not line else _skip_space(text, at))
    except json.JSONDecodeError as error:
        problem = next((ja for en, ja in _REASONS.items() if error.msg.startswith(en)), error.msg)
        reason = f"JSONの書き方の誤り: {problem}（{error.colno}文字目）"
        raise SourceMalformed(path=str(path), line=line or error.lineno, reason=reason) from error
    except (RecursionError, ValueError) as error:
        is_deep = isinstance(error, RecursionError)
        reason = "入れ子が深すぎます。" if is_deep else "桁の多すぎる数があります。"
        raise SourceMalformed(path=str(path), line=line or 1, reason=reason) from error
    if line and _skip_space(text, end) < len(text):
        raise SourceMalformed(path=str(path), line=line, reason="1行に1つのJSONではありません。")
    return value, end


def _malformed(path: Path, text: str, at: int, reason: str) -> SourceMalformed:
    return SourceMalformed(path=str(path), line=text.count("\n", 0, at) + 1, reason=reason)


_REASONS = {
    "Expecting value": "値がありません",
    "Expecting property name enclosed in double quotes": 'キーが " で囲まれていません',
    "Expecting ':' delimiter": "キーの後に : がありません",
    "Expecting ',' delimiter": "項目の間に , がありません",
    "Unterminated string starting at": "文字列が閉じられていません",
    "Invalid control character at": "文字列の中に改行などの制御文字があります",
    "Illegal trailing comma before end of object": "最後の項目の後に余分な , があります",
    "Illegal trailing comma before end of array": "最後の項目の後に余分な , があります",
}


def _table_of_objects(name: str, objects: list[tuple[int, Any]], path: Path) -> Table:
    """Records aligned with the union of all keys."""
    items = [item for _, item in objects]
    shaped = json_shapes.table(items)
    if shaped is not items:  # a record no longer is what stands on its line
        objects = list(enumerate(shaped, 1))
    positions: dict[str, int] = {}
    for row, item in objects:
        if not isinstance(item, dict):
            reason = "オブジェクト（{…}）ではない項目があります。"
            raise SourceMalformed(path=str(path), line=row, reason=reason)
        for key, value in item.items():
            positions.setdefault(key, len(positions))
            if isinstance(value, str) and len(value) > MAX_CELL:
                raise CellTooLong(path=str(path), line=row, limit=MAX_CELL)
    _refuse_too_many_cells(len(positions), len(objects), path)
    columns = tuple(positions)
    return Table(
        name, columns, [(row, [item.get(key) for key in columns]) for row, item in objects]
    )


# --- plain text --------------------------------------------------------------------------

# Only at the start of a line and never stepping back: a megabyte of spaces must not take hours.
_PARAGRAPH = re.compile(r"(?m)^[^\S\n]*+\S[^\n]*+(?:\n[^\S\n]*+\S[^\n]*+)*+")


def _read_text(text: str, path: Path, progress: StageProgress) -> Table:
    """A record per paragraph: lines up to the next blank one."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    records: list[Record] = []
    line, counted = 1, 0
    for match in _PARAGRAPH.finditer(text):
        line += text.count("\n", counted, match.start())
        counted = match.start()
        if len(match.group()) > MAX_CELL:
            raise CellTooLong(path=str(path), line=line, limit=MAX_CELL)
        records.append((line, [match.group()]))
    return Table("text", ("text",), records)


READERS: dict[str, Callable[[str, Path, StageProgress], Table]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".txt": _read_text,
    ".md": _read_text,
}
