"""The table among rows of cells: its columns and its records, and what is said of the rest.

Blank rows, repeated headers, sums and a second table are told from records; nothing is dropped in
silence. What the columns mean is for `columns` to say.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.arrangements import as_table
from mlx_finetuning.data_processor.readers.cells import (
    LONGEST_NAME,
    filled_in,
    is_remark,
    is_total,
    known_words,
    name_like,
    names_columns,
)
from mlx_finetuning.data_processor.readers.column_names import ROLES, base_name, key
from mlx_finetuning.data_processor.readers.header import SAMPLE, SourceRow, find_header, joined
from mlx_finetuning.data_processor.readers.limits import TableOptions, require_size
from mlx_finetuning.data_processor.stage_progress import StageProgress
from mlx_finetuning.errors import HeaderRowNotFound
from mlx_finetuning.language import _


@dataclass(frozen=True)
class Located:
    """A table that was found: column names, records aligned with them, and what was decided."""

    columns: tuple[str, ...]
    records: list[tuple[int, list[Any]]]
    findings: tuple[Finding, ...]
    has_header: bool = True


def locate(
    rows: Sequence[SourceRow], path: Path, options: TableOptions, progress: StageProgress
) -> Located:
    """The table in `rows`. Raises HeaderRowNotFound, SourceMalformed (too many cells)."""
    notes: list[Finding] = []
    if not rows:
        return Located((), [], ())
    if options.header_rows is None:
        rows, notes = as_table(rows)
    if options.header_rows is not None:
        first, last = requested_header(rows, path, options.header_rows)
    else:
        first, last = find_header(rows, notes)
    names = joined([cells for __, cells in rows[first : last + 1]])
    width = len(names)
    if last < 0:
        sample = rows[:SAMPLE]
        ends = [[at for at, cell in enumerate(cells, 1) if cell.strip()] for __, cells in sample]
        width = max(1, int(statistics.median(max(each, default=0) for each in ends)))
        names = [""] * width
    require_size(width, len(rows), path)
    columns: list[str] = []
    for position, name in enumerate(names, 1):
        column = name or f"列{position}"
        columns.append(f"{column}（{position}列目）" if column in columns else column)
    headers = [[cell.strip() for cell in cells] for __, cells in rows[first : last + 1]]
    records, more = _records(rows[last + 1 :], headers, width, progress)
    kept = [
        at
        for at, name in enumerate(names)
        if name or last < 0 or any(values[at].strip() for __, values in records)
    ]
    if len(kept) < width and records:  # columns with neither a name nor a value
        columns = [columns[at] for at in kept]
        records = [(row, [values[at] for at in kept]) for row, values in records]
    return Located(tuple(columns), records, (*notes, *more), last >= 0)


def requested_header(
    rows: Sequence[SourceRow], path: Path, wanted: tuple[int, int]
) -> tuple[int, int]:
    """Positions of the rows with these numbers; (0, -1) for no header."""
    if wanted == (0, 0):
        return 0, -1
    numbers = {number: at for at, (number, cells) in enumerate(rows) if any(map(str.strip, cells))}
    if not set(wanted) <= numbers.keys():
        few = [
            str(number) + ": " + _("、").join(filter(None, rows[at][1]))[:40]
            for number, at in list(numbers.items())[:5]
        ]
        row = "-".join(map(str, dict.fromkeys(wanted)))
        raise HeaderRowNotFound(path=str(path), row=row, rows=few)
    return numbers[wanted[0]], numbers[wanted[1]]


def _records(
    body: Sequence[SourceRow], headers: Sequence[list[str]], width: int, progress: StageProgress
) -> tuple[list[tuple[int, list[Any]]], list[Finding]]:
    """The rows that hold data, as wide as the table; the others become findings."""
    records: list[tuple[int, list[Any]]] = []
    found: dict[str, list[int]] = {}
    words = [{base_name(cell) for cell in cells} & ROLES.keys() for cells in headers[-1:]]
    names = words[0] if words and known_words([*words[0]]) > 1 else None
    roles = {ROLES[word] for word in names or ()}
    starts = {cells[0] for cells in headers}
    end, ended, below_title = 0, 0, False
    for row, read in progress.over(body):
        cells, start = read, read[0].strip() if read else ""
        if not start and not any(cell.strip() for cell in cells):
            found.setdefault("BLANK_ROW", []).append(row)
            continue
        is_below = 0 < end < row - 1
        after_gap, below_title = is_below or below_title, is_below and filled_in(cells) == 1
        end = row
        if cells[0].startswith("\ufeff"):
            cells = [cells[0].lstrip("\ufeff"), *cells[1:]]
            start = cells[0].strip()
        if start in starts and [cell.strip() for cell in cells] in headers:
            found.setdefault("REPEATED_HEADER", []).append(row)
            continue
        # The same names once more, in another language. With a number behind it a name may be data.
        if not records and headers and is_remark(cells):
            found.setdefault("BELOW_HEADER", []).append(row)
            continue
        is_first = bool(roles) and not records and not found
        if is_first and {ROLES.get(key(cell)) for cell in cells} - {None} == roles:
            found.setdefault("REPEATED_HEADER", []).append(row)
            continue
        if (names and (start in ROLES or start in starts)) or after_gap:
            here = {base_name(cell) for cell in cells if len(cell) <= LONGEST_NAME} & ROLES.keys()
            if names and here >= names:
                ended = row
                break  # the same names in another order or among others: another table
            is_header = known_words(cells) > 1 and name_like(cells)
            if after_gap and (is_header or names_columns(cells)):
                found.setdefault("SECOND_TABLE", []).append(row)
        if is_total(cells):
            found.setdefault("TOTAL_ROW", []).append(row)
            continue
        if "\n" in "".join(cells):
            end += sum(cell.count("\n") for cell in cells)
        if len(cells) != width:
            if len(cells) < width or any(cell.strip() for cell in cells[width:]):
                found.setdefault("RAGGED_ROW", []).append(row)
            cells = (cells + [""] * width)[:width]
        records.append((row, cells))
    if ended:
        found["TABLE_ENDS"] = [row for row, __ in body if row >= ended]
    return records, [finding(code, rows) for code, rows in found.items()]
