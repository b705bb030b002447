"""Text to a table of records, each with its row number. One reader per file ending.

A row is a line of the source (the header is 1); of JSON on a single line, the record's ordinal.
Knows nothing of what the columns mean.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.watching import Tick, still, watched
from mlx_finetuning.errors import CellTooLong, SourceMalformed, SourceUnsupported

MAX_CELL = 1_000_000
"""Characters of one cell or string."""
MAX_COLUMNS = 1_000
MAX_CELLS = 50_000_000
"""Rows times columns: rows are filled up to the width, so a small file could fill the memory."""


@dataclass(frozen=True)
class Table:
    """What a file holds: columns in the order of first appearance, and rows aligned with them."""

    format: str
    columns: tuple[str, ...]
    rows: list[tuple[int, list[Any]]]
    """Row number and values; a value that the record lacks is None."""
    findings: tuple[Finding, ...] = ()


def parse(text: str, path: Path, tick: Tick = still) -> Table:
    """The table in `text`. Raises SourceUnsupported, SourceMalformed, CellTooLong."""
    ending = path.suffix.lower()
    if ending not in READERS:
        supported = [*READERS, ".parquet"]
        raise SourceUnsupported(path=str(path), ending=ending or "なし", supported=supported)
    return READERS[ending](text.removeprefix("\ufeff"), path, tick)


# --- CSV and TSV -------------------------------------------------------------------------


_LINE = re.compile(r"[^\r\n]++(?:\r\n?|\n)?|\r\n?|\n")  # possessive: never steps back over a line
_REPORTED = 5000
"""Lines between two reports."""


def _read_csv(text: str, path: Path, tick: Tick) -> Table:
    return _read_delimited(text, path, "csv", _delimiter(text), tick)


def _read_tsv(text: str, path: Path, tick: Tick) -> Table:
    return _read_delimited(text, path, "tsv", "\t", tick)


def _delimiter(text: str) -> str:
    """The sign among , ; tab that the header line has most of."""
    header = text.lstrip("\r\n").split("\n", 1)[0]
    return max(",\t;", key=header.count)


def _read_delimited(text: str, path: Path, name: str, delimiter: str, tick: Tick) -> Table:
    try:
        lines = list(_csv_lines(text, path, delimiter, tick, strict=True))
        findings: tuple[Finding, ...] = ()
    except _LooseQuotes as problem:
        lines = list(_csv_lines(text, path, delimiter, tick, strict=False))
        findings = (finding("LOOSE_QUOTES", [problem.line]),)
    if not lines:
        return Table(name, (), [], findings)
    _require_reasonable(len(lines[0][1]), len(lines), path)
    columns = _column_names(lines[0][1])
    rows, ragged, blank = _aligned(lines[1:], len(columns), tick)
    if ragged:
        findings += (finding("RAGGED_ROW", ragged),)
    if blank:
        findings += (finding("BLANK_ROW", blank),)
    return Table(name, columns, rows, findings)


def _require_reasonable(columns: int, rows: int, path: Path) -> None:
    """Raises SourceMalformed for a table that nobody has written by hand."""
    if columns > MAX_COLUMNS or columns * rows > MAX_CELLS:
        reason = f"列が多すぎます（{columns:,}列 × {rows:,}行。列は{MAX_COLUMNS:,}まで）。"
        raise SourceMalformed(path=str(path), line=1, reason=reason)


class _LooseQuotes(Exception):
    def __init__(self, line: int) -> None:
        self.line = line


def _csv_lines(
    text: str, path: Path, delimiter: str, tick: Tick, *, strict: bool
) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it begins at; lines without a character are passed over."""
    csv.field_size_limit(MAX_CELL)
    # Lines one by one: io.StringIO would hold the text again, at four bytes a character.
    lines = (match.group() for match in _LINE.finditer(text))
    reader = csv.reader(lines, delimiter=delimiter, strict=strict)
    start = 1
    try:
        for record in reader:
            if record:
                yield start, record
            start = reader.line_num + 1
            if start % _REPORTED == 0:
                tick(start, 0)
    except csv.Error as error:
        if "field larger" in str(error):
            raise CellTooLong(path=str(path), line=start, limit=MAX_CELL) from error
        if "unexpected end" in str(error):
            reason = '引用符（"）が閉じられていません。'
            raise SourceMalformed(path=str(path), line=start, reason=reason) from error
        raise _LooseQuotes(start) from error


def _column_names(header: list[str]) -> tuple[str, ...]:
    """Trimmed names; a nameless column is 列2, a repeated name gets its position."""
    names: list[str] = []
    for position, cell in enumerate(header, 1):
        name = cell.strip() or f"列{position}"
        names.append(f"{name}（{position}列目）" if name in names else name)
    return tuple(names)


def _aligned(
    lines: list[tuple[int, list[str]]], width: int, tick: Tick
) -> tuple[list[tuple[int, list[Any]]], list[int], list[int]]:
    """Rows of exactly `width` values, and the numbers of ragged and of blank ones."""
    rows: list[tuple[int, list[Any]]] = []
    ragged, blank = [], []
    for line, values in watched(lines, tick):
        if not any(value.strip() for value in values):
            blank.append(line)
            continue
        if len(values) != width:
            ragged.append(line)
        rows.append((line, (values + [""] * width)[:width]))
    return rows, ragged, blank


# --- JSON and JSONL ----------------------------------------------------------------------

_SPACE = re.compile(r"[ \t\r\n]*")
_SPACE_OR_COMMA = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def _read_jsonl(text: str, path: Path, tick: Tick) -> Table:
    records = [
        (number, _decode(line, 0, path, number)[0])
        for number, line in enumerate(watched(text.split("\n"), tick), 1)
        if line.strip()
    ]
    return _table_of_objects("jsonl", records, path)


def _read_json(text: str, path: Path, tick: Tick) -> Table:
    """A list of objects, or an object holding one such list (`{"data": […]}`)."""
    start = _skip(text, 0)
    if text.startswith("[", start):
        return _table_of_objects("json", _list_records(text, start, path, tick), path)
    value, end = _decode(text, start, path)
    if _skip(text, end) < len(text) and "\n" in text[end:]:
        return _read_jsonl(text, path, tick)  # JSON Lines under the name .json, as many tools write
    lists = (
        [item for item in value.values() if _is_records(item)] if isinstance(value, dict) else []
    )
    if len(lists) == 1:
        return _table_of_objects("json", list(enumerate(lists[0], 1)), path)
    if isinstance(value, dict):
        return _table_of_objects("json", [(1, value)], path)
    raise SourceMalformed(
        path=str(path), line=1, reason="オブジェクトの一覧（[{…}, …]）ではありません。"
    )


def _list_records(text: str, start: int, path: Path, tick: Tick) -> list[tuple[int, Any]]:
    """The elements of a JSON list one by one, so that each keeps its line."""
    records = []
    line, counted, at = 1, 0, _skip(text, start + 1)
    while not text.startswith("]", at):
        line += text.count("\n", counted, at)
        counted = at
        value, end = _decode(text, at, path)
        records.append((line, value))
        if len(records) % _REPORTED == 0:
            tick(at, len(text))
        at = _after_element(text, end, path)
    if _skip(text, at + 1) < len(text):
        raise _malformed(path, text, at + 1, "一覧の終わり（]）の後に余分な文字があります。")
    lines = [number for number, _ in records]
    if len(set(lines)) < len(lines):
        return [(ordinal, value) for ordinal, (_, value) in enumerate(records, 1)]
    return records


def _after_element(text: str, end: int, path: Path) -> int:
    """Where the next element or the closing bracket begins."""
    match = _SPACE_OR_COMMA.match(text, end)
    at = match.end() if match else end
    has_comma = "," in text[end:at]
    if at >= len(text):
        raise _malformed(path, text, end, "途中で終わっています（] がありません）。")
    if has_comma == text.startswith("]", at):
        problem = (
            "最後の項目の後に余分な , があります。" if has_comma else "項目の間に , がありません。"
        )
        raise _malformed(path, text, at, problem)
    return at


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _decode(text: str, at: int, path: Path, line: int = 0) -> tuple[Any, int]:
    """One JSON value from `at`, and where it ends; `line` numbers `text` if it is a single line."""
    try:
        value, end = _DECODER.raw_decode(text, at if not line else _skip(text, at))
    except json.JSONDecodeError as error:
        found = line or error.lineno
        reason = f"JSONの書き方の誤り: {_reason_ja(error)}（{error.colno}文字目）"
        raise SourceMalformed(path=str(path), line=found, reason=reason) from error
    except (RecursionError, ValueError) as error:
        is_deep = isinstance(error, RecursionError)
        reason = "入れ子が深すぎます。" if is_deep else "桁の多すぎる数があります。"
        raise SourceMalformed(path=str(path), line=line or 1, reason=reason) from error
    if line and _skip(text, end) < len(text):
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


def _reason_ja(error: json.JSONDecodeError) -> str:
    return next((ja for en, ja in _REASONS.items() if error.msg.startswith(en)), error.msg)


def _table_of_objects(name: str, records: list[tuple[int, Any]], path: Path) -> Table:
    """Rows aligned with the union of all keys."""
    positions: dict[str, int] = {}
    for line, record in records:
        if not isinstance(record, dict):
            reason = "オブジェクト（{…}）ではない項目があります。"
            raise SourceMalformed(path=str(path), line=line, reason=reason)
        for key, value in record.items():
            positions.setdefault(key, len(positions))
            if isinstance(value, str) and len(value) > MAX_CELL:
                raise CellTooLong(path=str(path), line=line, limit=MAX_CELL)
    _require_reasonable(len(positions), len(records), path)
    columns = tuple(positions)
    rows = [(line, [record.get(key) for key in columns]) for line, record in records]
    return Table(name, columns, rows)


# --- plain text --------------------------------------------------------------------------

# Only at the start of a line and never stepping back: a megabyte of spaces must not take hours.
_PARAGRAPH = re.compile(r"(?m)^[^\S\n]*+\S[^\n]*+(?:\n[^\S\n]*+\S[^\n]*+)*+")


def _read_text(text: str, path: Path, tick: Tick) -> Table:
    """One row per paragraph: lines up to the next blank one."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    rows: list[tuple[int, list[Any]]] = []
    line, counted = 1, 0
    for match in _PARAGRAPH.finditer(text):
        line += text.count("\n", counted, match.start())
        counted = match.start()
        if len(match.group()) > MAX_CELL:
            raise CellTooLong(path=str(path), line=line, limit=MAX_CELL)
        rows.append((line, [match.group()]))
    return Table("text", ("text",), rows)


READERS: dict[str, Callable[[str, Path, Tick], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".txt": _read_text,
    ".md": _read_text,
}
