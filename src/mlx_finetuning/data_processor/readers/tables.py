"""Text to a table of records, each with its row number. One reader per file ending.

The row number is the line in the source at which the record begins (the header is 1); of JSON on a
single line it is the record's ordinal. Knows nothing of what the columns mean.
"""

from __future__ import annotations

import ast
import contextlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers import json_records, json_shapes
from mlx_finetuning.data_processor.readers.arrangements import in_lines
from mlx_finetuning.data_processor.readers.cells import known_words
from mlx_finetuning.data_processor.readers.column_content import asks
from mlx_finetuning.data_processor.readers.delimited import is_divided, is_table, read_rows
from mlx_finetuning.data_processor.readers.drawn_tables import between_bars, in_fixed_columns
from mlx_finetuning.data_processor.readers.limits import ANY, MAX_CELL, TableOptions, require_size
from mlx_finetuning.data_processor.readers.locate import locate
from mlx_finetuning.data_processor.readers.text_forms import form_of
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.errors import CellTooLong, SourceMalformed
from mlx_finetuning.language import N_, _

Record = tuple[int, list[Any]]
"""Row number, and a value per column; a value that the source lacks is None."""


@dataclass(frozen=True)
class Table:
    """What a file holds: columns in the order of first appearance, and records aligned with them."""

    format: str
    columns: tuple[str, ...]
    records: list[Record]
    findings: tuple[Finding, ...] = ()
    sheet: str = ""
    """Of a workbook: the one that was read."""
    sheets: tuple[str, ...] = ()
    """Of a workbook: all there are."""


def parse(
    text: str,
    path: Path,
    progress: StageProgress = SILENT,
    options: TableOptions = ANY,
) -> Table:
    """The table in `text`, of a file with one of `ENDINGS`. Raises SourceMalformed, CellTooLong,
    HeaderRowNotFound."""
    ending = path.suffix.lower()
    text = text.removeprefix("\ufeff")
    if ending not in READERS:
        return _read_delimited(text, path, progress, options)
    if ending == ".txt":  # what Anki writes above its notes; the lines keep their numbers
        text = _ABOVE_NOTES.sub(lambda above: "\n" * above.group().count("\n"), text)
        drawn = None if options.delimiter else _read_drawn(text, path, progress, options)
        if drawn is not None:
            return drawn
    if ending == ".txt" and (options.delimiter or is_table(text)):
        table = _read_delimited(text, path, progress, options)
        return replace(table, findings=(finding("TABLE_IN_TEXT"), *table.findings))
    if ending == ".txt" and text.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(SourceMalformed):
            table = _read_jsonl(without_halves(text), path, progress)
            return replace(table, findings=(finding("TABLE_IN_TEXT"), *table.findings))
    if ending not in (".txt", ".md"):
        text = without_halves(text)
    is_prose = ending in (".txt", ".md") and options.header_rows is None
    table = (is_prose and _pairs_under_marks(text, path)) or READERS[ending](text, path, progress)
    if ending == ".txt" and is_divided(text, "\t"):
        return replace(table, findings=(finding("TABS_IN_TEXT"), *table.findings))
    return table


_ABOVE_NOTES = re.compile(r"\A(?:#[a-z ]{1,30}:[^\n]*\n)+(?=[^\n]*\t)")


def cell_text(value: Any) -> str:
    """A cell as text: JSON numbers as written, nothing for null and NaN, nested values as JSON."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return json.dumps(value, ensure_ascii=False)


def without_halves(text: str) -> str:
    """JSON with U+FFFD for escapes of half a character (a cut emoji), which no file can hold."""
    if "\\ud" not in text and "\\uD" not in text:
        return text
    return _ESCAPES.sub(lambda found: "\\ufffd" if found[1] else found[0], text)


_ESCAPES = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


# --- CSV and TSV -------------------------------------------------------------------------


def _read_delimited(text: str, path: Path, progress: StageProgress, options: TableOptions) -> Table:
    delimiter, rows, findings = read_rows(text, path, progress, options)
    if any(note.code == "FIXED_WIDTH" for note in findings):
        drawn = _read_drawn(text, path, progress, options)
        if drawn is not None:
            return drawn
    found = locate(rows, path, options, progress)
    name = "tsv" if path.suffix.lower() == ".tsv" or delimiter == "\t" else "csv"
    return Table(name, found.columns, found.records, (*findings, *found.findings))


# --- JSON and JSONL ----------------------------------------------------------------------

_REPORT_EVERY = 5000
"""Elements between two reports."""
_MAX_LITERAL = 100_000
"""Characters of a line that Python's parser is given: it takes far more memory than text."""
_SPACE = re.compile(r"[ \t\r\n]*")
_SPACE_OR_COMMA = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_DECODER = json.JSONDecoder(parse_constant=lambda __: None)
"""NaN and Infinity, which JSON does not have, are no value."""


def _read_jsonl(text: str, path: Path, progress: StageProgress) -> Table:
    try:
        objects = [
            (row, _decode(line, 0, path, row)[0])
            for row, line in enumerate(progress.over(text.split("\n")), 1)
            if line.strip()
        ]
    except SourceMalformed as problem:
        if text.lstrip().startswith("["):
            return _read_json(text, path, progress)
        in_turn = _values_in_turn(text, path)
        if in_turn is None:
            lines = [(row, line) for row, line in enumerate(text.split("\n"), 1) if line.strip()]
            if not all(line.startswith("{'") and len(line) <= _MAX_LITERAL for __, line in lines):
                raise
            try:
                in_python = [(row, ast.literal_eval(line)) for row, line in lines]
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                raise problem from None
            note = finding("PYTHON_TEXT", [row for row, __ in in_python])
            table = _table_of_objects("jsonl", in_python, path)
            return replace(table, findings=(note, *table.findings))
        objects = in_turn
    return _table_of_objects("jsonl", objects, path)


def _values_in_turn(text: str, path: Path) -> list[tuple[int, Any]] | None:
    """JSON values that follow one another, over lines or with commas between, by the line each begins at;
    None where one of them is none."""
    values = []
    line, counted, at = 1, 0, _skip_space(text, 0)
    try:
        while at < len(text):
            line += text.count("\n", counted, at)
            counted = at
            value, end = _decode(text, at, path)
            values.append((line, value))
            match = _SPACE_OR_COMMA.match(text, end)
            at = match.end() if match else end
            if at < len(text) and "\n" not in text[end:at]:
                return None  # two on a line are a slip
    except SourceMalformed:
        return None
    return values


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
        reason = _("オブジェクトの一覧（[{…}, …]）ではありません。")
        raise SourceMalformed(path=str(path), line=1, reason=reason)
    table = _table_of_objects("json", list(enumerate(json_shapes.records(value), 1)), path)
    if json_shapes.are_splits(value):
        note = finding("SPLITS_JOINED", names=_("、").join(value))
        return replace(table, findings=(note, *table.findings))
    return table


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
            raise _malformed(path, text, end, _("途中で終わっています（] がありません）。"))
        if has_comma and text.startswith("]", at):
            raise _malformed(path, text, at, _("最後の項目の後に余分な , があります。"))
        if not has_comma and not text.startswith("]", at):
            raise _malformed(path, text, at, _("項目の間に , がありません。"))
    if _skip_space(text, at + 1) < len(text):
        raise _malformed(path, text, at + 1, _("一覧の終わり（]）の後に余分な文字があります。"))
    if len({line for line, __ in elements}) < len(elements):
        return [(ordinal, value) for ordinal, (__, value) in enumerate(elements, 1)]
    return elements


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _decode(text: str, at: int, path: Path, line: int = 0) -> tuple[Any, int]:
    """One JSON value from `at`, and where it ends; `line` numbers `text` if it is a single line."""
    try:
        value, end = _DECODER.raw_decode(text, at if not line else _skip_space(text, at))
    except json.JSONDecodeError as error:
        known = (ja for en, ja in _REASONS.items() if error.msg.startswith(en))
        problem = _(next(known, error.msg))
        reason = _("JSONの書き方の誤り: {problem}（{column}文字目）").format(
            problem=problem, column=error.colno
        )
        raise SourceMalformed(path=str(path), line=line or error.lineno, reason=reason) from error
    except (RecursionError, ValueError) as error:
        is_deep = isinstance(error, RecursionError)
        reason = _("入れ子が深すぎます。") if is_deep else _("桁の多すぎる数があります。")
        raise SourceMalformed(path=str(path), line=line or 1, reason=reason) from error
    if line and _skip_space(text, end) < len(text):
        raise SourceMalformed(path=str(path), line=line, reason=_("1行に1つのJSONではありません。"))
    return value, end


def _malformed(path: Path, text: str, at: int, reason: str) -> SourceMalformed:
    return SourceMalformed(path=str(path), line=text.count("\n", 0, at) + 1, reason=reason)


_REASONS = {
    "Expecting value": N_("値がありません"),
    "Expecting property name enclosed in double quotes": N_('キーが " で囲まれていません'),
    "Expecting ':' delimiter": N_("キーの後に : がありません"),
    "Expecting ',' delimiter": N_("項目の間に , がありません"),
    "Unterminated string starting at": N_("文字列が閉じられていません"),
    "Invalid control character at": N_("文字列の中に改行などの制御文字があります"),
    "Illegal trailing comma before end of object": N_("最後の項目の後に余分な , があります"),
    "Illegal trailing comma before end of array": N_("最後の項目の後に余分な , があります"),
}


def _table_of_objects(name: str, objects: list[tuple[int, Any]], path: Path) -> Table:
    """Records aligned with the union of all keys."""
    items = [item for __, item in objects]
    shaped = json_shapes.table(items)
    if shaped is not items:  # a record no longer is what stands on its line
        objects = list(enumerate(shaped, 1))
    objects = [(row, json_records.record(item)) for row, item in objects]
    positions: dict[str, int] = {}
    for row, item in objects:
        if not isinstance(item, dict):
            reason = _("オブジェクト（{…}）ではない項目があります。")
            raise SourceMalformed(path=str(path), line=row, reason=reason)
        for key, value in item.items():
            positions.setdefault(key, len(positions))
            if isinstance(value, str) and len(value) > MAX_CELL:
                raise CellTooLong(path=str(path), line=row, limit=MAX_CELL)
    require_size(len(positions), len(objects), path)
    columns = tuple(positions)
    return Table(
        name, columns, [(row, [item.get(key) for key in columns]) for row, item in objects]
    )


# --- plain text --------------------------------------------------------------------------

# Only at the start of a line and never stepping back: a megabyte of spaces must not take hours.
_PARAGRAPH = re.compile(r"(?m)^[^\S\n]*+\S[^\n]*+(?:\n[^\S\n]*+\S[^\n]*+)*+")


def _pairs_under_marks(text: str, path: Path) -> Table | None:
    """Questions and answers that are written below one another under marks (Q1, A1, 【質問】)."""
    rows = in_lines(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    for line, cells in rows:
        if max(map(len, cells)) > MAX_CELL:
            raise CellTooLong(path=str(path), line=line, limit=MAX_CELL)
    if not rows:
        return None
    records: list[Record] = [(line, [*cells]) for line, cells in rows[1:]]
    note = finding("MARKED_ROWS", count=len(records))
    return Table("text", tuple(rows[0][1]), records, (note,))


_SAMPLE_LINES = 200


def _read_drawn(
    text: str, path: Path, progress: StageProgress, options: TableOptions
) -> Table | None:
    """A table between bars or in columns of fixed width; None for other texts. Raises SourceMalformed where
    columns are named and cannot be told apart."""
    between = between_bars(text)
    code = "TABLE_IN_TEXT" if between else "FIXED_COLUMNS"
    rows = between or in_fixed_columns(text)
    if rows is None:
        reason = _(
            "空白で桁をそろえた表（固定長）のようですが、桁の始まる位置が行によって違い、列に分けられません。"
            "コンマかタブで区切ったファイルに書き出し直してください。"
        )
        raise SourceMalformed(path=str(path), line=1, reason=reason)
    if not rows:
        return None
    found = locate(rows, path, options, progress)
    return Table("text", found.columns, found.records, (finding(code), *found.findings))


def _read_text(text: str, path: Path, progress: StageProgress) -> Table:
    """A record per paragraph: lines up to the next blank one."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    records: list[Record] = []
    line, counted = 1, 0
    for match in _PARAGRAPH.finditer(text):
        line += text.count("\n", counted, match.start())
        counted = match.start()
        if len(match.group()) > MAX_CELL:
            raise CellTooLong(path=str(path), line=line, limit=MAX_CELL)
        records.append((line, [match.group()]))
    form = form_of(lines[:_SAMPLE_LINES])
    notes = (finding("FORMED_TEXT", how=form),) if form else ()
    return Table("text", ("text",), records, notes)


_HEADING = re.compile(r"(?m)^(#{1,6})[ \t]+([^\n]*[^\s#])[ \t#]*$")
_MARK = re.compile(
    r"\A\W{0,4}(?:[QAＱＡ]|質問|回答|問|答)[ ]?[0-9０-９]{0,4}\*{0,2}[.．:：)）]\*{0,2}\s*"
)
_BOLD_LINE = re.compile(r"(?m)^\*\*([^*\n]{3,100})\*\*[ \t]*$")
_FEWEST_HEADINGS = 3


def _read_markdown(text: str, path: Path, progress: StageProgress) -> Table:
    """A record per paragraph, or where headings ask a record per question with what stands below it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    table = _markdown_table(text, path, progress)
    if table is not None:
        return table
    asked = _BOLD_LINE.sub(r"## \1", text)  # which many write in bold letters instead
    headings = [match for match in _HEADING.finditer(asked) if "```" not in match[2]]
    parts = [
        (match, body)
        for match, after in zip_longest(headings, headings[1:])
        if (body := asked[match.end() : after.start() if after else len(asked)].strip())
    ]
    titles = [match[2] for match, __ in parts]
    are_marked = sum(_MARK.match(title) is not None for title in titles) * 2 > len(titles)
    if len(parts) < _FEWEST_HEADINGS or not (are_marked or asks(titles)):
        return _read_text(text, path, progress)
    records: list[Record] = []
    for match, body in parts:
        if len(body) > MAX_CELL:
            raise CellTooLong(path=str(path), line=1, limit=MAX_CELL)
        line = asked.count("\n", 0, match.start()) + 1
        records.append((line, [_MARK.sub("", match[2]), _MARK.sub("", body)]))
    return Table("markdown", ("質問", "回答"), records, (finding("QUESTION_HEADINGS"),))


_TABLE = re.compile(r"(?m)^\|.*\|[ ]*\n\|[ :|-]*-[ :|-]*\|[ ]*\n(?:\|.*\|[ ]*(?:\n|\Z))+")
_BAR = re.compile(r"(?<!\\)\|")
_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)


def _markdown_table(text: str, path: Path, progress: StageProgress) -> Table | None:
    """The tables of a page, if they are most of it and name questions or answers."""
    found = list(_TABLE.finditer(text))
    if sum(len(match.group()) for match in found) * 2 < len(text.strip()):
        return None
    rows = []
    for match in found:
        line = text.count("\n", 0, match.start()) + 1
        for number, written in enumerate(match.group().splitlines(), line):
            cells = _BAR.split(written.strip()[1:-1])
            cells = [_BREAK.sub("\n", cell.strip().replace("\\|", "|")) for cell in cells]
            if not all(_RULE.fullmatch(cell) for cell in cells):
                rows.append((number, cells))
    located = locate(rows, path, ANY, progress)
    if not located.has_header or not known_words(located.columns):
        return None
    notes = (finding("TABLE_IN_PAGE"), *located.findings)
    return Table("markdown", located.columns, located.records, notes)


_RULE = re.compile(r":?-+:?")
DELIMITED = (".csv", ".tsv", ".xls")  # many systems export text under the last name, too
READERS: dict[str, Callable[[str, Path, StageProgress], Table]] = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".txt": _read_text,
    ".md": _read_markdown,
}
ENDINGS = (*DELIMITED, *READERS)
