"""Text to rows of cells: which sign divides them, judged over records, and how quotes are read."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.cells import known_words, name_like, sentence_like
from mlx_finetuning.data_processor.readers.drawn_tables import are_aligned
from mlx_finetuning.data_processor.readers.header import SourceRow
from mlx_finetuning.data_processor.readers.limits import ANY, MAX_CELL, TableOptions
from mlx_finetuning.data_processor.readers.locate import locate
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.errors import CellTooLong, SourceMalformed
from mlx_finetuning.language import N_, _

DELIMITERS = {
    ",": N_("コンマ"),
    "\t": N_("タブ"),
    ";": N_("セミコロン"),
    "|": N_("縦棒（|）"),
    "，": N_("全角コンマ（，）"),
    "、": N_("読点（、）"),
}
"""Signs that are found without help, the likelier first."""
_RARE = "^~¦§"
"""Signs that are found only below names of questions and answers."""
_IN_PROSE = "，、"
"""Signs that sentences are full of: they count only where every record has as many."""
_SAMPLE_CHARACTERS = 200_000
_SAMPLE_RECORDS = 200
_LINE = re.compile(r"[^\r\n]++(?:\r\n?|\n)?|\r\n?|\n")  # possessive: never steps back over a line
_SEP = re.compile(r'[\r\n]*"?sep=(.)"?[^\S\r\n]*[,;\t]*(?:\r\n?|\n|$)', re.IGNORECASE)
_SINGLE = re.compile(r"^'[^']*'(?:[,;\t|]|$)")
_CURLY = re.compile(r"^“[^“”]*”(?:[,;\t|]|$)")
_CURLY_EDGE = re.compile(r"(?m)(?:(?<=^)|(?<=[,;\t|]))“|”(?=[,;\t|\r\n]|\Z)")
_SWAPPED = str.maketrans("'\"", "\"'")
_SPACED = re.compile(r'[,;|] +"')
_WHOLE = re.compile(r'^"([^"]*)"$')
_RULE = re.compile(r"[-:]{3,}")
_MOST = 0.9
"""Share of records that are divided alike, from which on a sign divides them."""
_REPORT_EVERY = 5000
"""Lines between two reports."""


class _LooseQuotes(Exception):
    """A quotation mark stands where RFC 4180 allows none."""

    def __init__(self, line: int) -> None:
        self.line = line


def read_rows(
    text: str, path: Path, progress: StageProgress, options: TableOptions
) -> tuple[str, list[SourceRow], list[Finding]]:
    """The delimiter, all rows (blank lines are none), and what was decided on the way.

    Raises SourceMalformed, CellTooLong.
    """
    if _in_most_lines(_SINGLE, text):
        delimiter, rows, findings = read_rows(text.translate(_SWAPPED), path, progress, options)
        rows = [(number, [cell.translate(_SWAPPED) for cell in cells]) for number, cells in rows]
        return delimiter, rows, [finding("SINGLE_QUOTES", sign="'"), *findings]
    if _in_most_lines(_CURLY, text):  # a word processor went over it
        straight = _CURLY_EDGE.sub('"', text.replace('"', '""'))
        delimiter, rows, findings = read_rows(straight, path, progress, options)
        return delimiter, rows, [finding("SINGLE_QUOTES", sign="“ ”"), *findings]
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    declared = _SEP.match(text)
    delimiter = options.delimiter or (declared[1] if declared else "")
    findings = []
    if not delimiter:
        delimiter = find_delimiter(text, usual)
    if delimiter != usual and not options.delimiter:
        sign = DELIMITERS.get(delimiter, delimiter)
        findings.append(finding("DELIMITER", sign=_(sign)))
    try:
        rows = list(_lines(text, path, delimiter, progress, strict=True))
    except (_LooseQuotes, SourceMalformed) as problem:
        line = problem.line if isinstance(problem, _LooseQuotes) else problem.data["line"]
        found = _of_other_quotes(text, path, delimiter, progress)
        if found is None and isinstance(problem, SourceMalformed):
            raise
        rows = found or list(_lines(text, path, delimiter, progress, strict=False))
        findings.append(finding("LOOSE_QUOTES", [line]))
    if declared:
        line = 1 + len(re.findall(r"\r\n?|\n", declared[0].rstrip("\r\n")))
        rows = [(number, cells) for number, cells in rows if number > line]
    if delimiter == "|":  # which people write with spaces around, and with a rule below the header
        stripped = [(number, [cell.strip() for cell in cells]) for number, cells in rows]
        rows = [
            (number, cells) for number, cells in stripped if not _RULE.fullmatch("".join(cells))
        ]
    if rows and all(len(cells) == 1 for __, cells in rows[:_SAMPLE_RECORDS]):
        lines = [cells[0] for __, cells in rows[:_SAMPLE_RECORDS]]
        findings.append(finding("FIXED_WIDTH" if are_aligned(lines) else "ONE_COLUMN"))
    return delimiter, rows, findings


def _in_most_lines(pattern: re.Pattern[str], text: str) -> bool:
    """Whether most of the first lines that are not blank have it."""
    lines = text[:_SAMPLE_CHARACTERS].splitlines()[:_SAMPLE_RECORDS]
    filled = [line for line in lines if line.strip()]
    return sum(pattern.search(line) is not None for line in filled) > max(1, 0.8 * len(filled))


def _of_other_quotes(
    text: str, path: Path, delimiter: str, progress: StageProgress
) -> list[SourceRow] | None:
    """The rows of a file that writes quotes in cells as \\", or, between tabs, uses none; None for
    others."""
    ways = []
    if '\\"' in text:
        ways.append((text.replace('\\"', '""'), True))
    if delimiter == "\t" and '""' not in text:
        ways.append((text, False))
    for each, is_quoted in ways:
        try:
            rows = list(_lines(each, path, delimiter, progress, strict=True, is_quoted=is_quoted))
        except (_LooseQuotes, SourceMalformed):
            continue
        if len({len(cells) for __, cells in rows}) == 1 < len(rows[0][1]):
            if is_quoted:
                return rows
            return [(line, [_WHOLE.sub(r"\1", cell) for cell in cells]) for line, cells in rows]
    return None


def find_delimiter(text: str, usual: str = ",") -> str:
    """The sign that gives most records the same number of cells; `usual` where none does."""
    best, best_score = usual, 0.0
    for sign in sorted(DELIMITERS, key=lambda sign: sign != usual):
        share, cells = _consistency(text, sign)
        if sign in _IN_PROSE and share < 1:
            continue
        # Of two signs that agree with all records the one that divides more is meant.
        score = share + min(cells, 20) / 1000
        if cells > 1 and score > best_score + 0.01:
            best, best_score = sign, score
    return best if best_score >= _MOST else _rare_delimiter(text) or best


def _rare_delimiter(text: str) -> str:
    """A sign of `_RARE` that divides nearly all lines alike, the first into known names; else nothing."""
    for sign in _RARE:
        if is_divided(text, sign):
            __, names = next(_sampled(text, sign))
            if known_words(names) > 1:
                return sign
    return ""


def is_table(text: str) -> bool:
    """Whether a text that is not named as a table is one: nearly all its lines are divided alike by
    tabs, or by another sign below well-known names, and the first of them names the columns."""
    sign = find_delimiter(text, "\t")
    if not is_divided(text, sign):
        return False
    rows = list(itertools.islice(_sampled(text, sign), 30))
    table = locate(rows, Path(), ANY, SILENT)
    if not table.has_header or not table.records:
        return False
    is_named = name_like(table.columns) and not any(map(sentence_like, table.columns))
    known = known_words(table.columns)
    return is_named and (known >= 2 or (sign == "\t" and (known > 0 or len(rows) > 2)))


def is_divided(text: str, sign: str) -> bool:
    """Whether nearly all lines are divided alike by `sign`."""
    share, cells = _consistency(text, sign)
    return cells > 1 and share >= _MOST


def _consistency(text: str, sign: str) -> tuple[float, int]:
    """Share of the first records that have the most common number of cells (two or more), and that
    number; half the share where quotes are broken, as they are when read with a wrong sign."""
    head = text[:_SAMPLE_CHARACTERS]
    if sign not in head:
        return 0.0, 1
    counts: Counter[int] = Counter()
    penalty = 1.0
    try:
        counts.update(len(cells) for __, cells in _sampled(text, sign, strict=True))
    except csv.Error:
        penalty = 0.5
        counts = Counter(len(cells) for __, cells in _sampled(text, sign))
    several = [(number, cells) for cells, number in counts.items() if cells > 1]
    if not several:
        return 0.0, 1
    number, cells = max(several)
    return penalty * number / counts.total(), cells


def _sampled(text: str, sign: str, *, strict: bool = False) -> Iterator[SourceRow]:
    """The first records that hold anything."""
    csv.field_size_limit(MAX_CELL)
    head = text[:_SAMPLE_CHARACTERS]
    is_cut = len(text) > len(head)
    sep = _SEP.match(head)
    lines = (match.group() for match in _LINE.finditer(head, sep.end() if sep else 0))
    reader = csv.reader(lines, delimiter=sign, strict=strict)
    filled = (cells for cells in reader if any(map(str.strip, cells)))
    try:
        records = list(itertools.islice(enumerate(filled, 1), _SAMPLE_RECORDS))
    except csv.Error as error:
        if is_cut and "unexpected end" in str(error):
            return
        raise
    yield from records


def _lines(
    text: str,
    path: Path,
    delimiter: str,
    progress: StageProgress,
    *,
    strict: bool,
    is_quoted: bool = True,
) -> Iterator[SourceRow]:
    """The cells of each row with the line it begins at; lines without a character are passed over."""
    csv.field_size_limit(MAX_CELL)
    # Lines one by one: io.StringIO would hold the text again, at four bytes a character.
    lines = (match.group() for match in _LINE.finditer(text))
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        strict=strict,
        quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
        skipinitialspace=_in_most_lines(_SPACED, text),
    )
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
            reason = _('引用符（"）が閉じられていません。')
            raise SourceMalformed(path=str(path), line=start, reason=reason) from error
        raise _LooseQuotes(start) from error
