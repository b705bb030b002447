"""Where a table lies among rows of cells: its header, its columns and its records.

Titles, notes and blank rows above the header, headers of two rows, repeated headers and totals are
recognised by how rows compare with those below them, and everything that was decided is a finding.
Knows nothing of files; what the columns mean is for `columns` to say.
"""

from __future__ import annotations

import itertools
import re
import statistics
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.limits import TableOptions, require_size
from mlx_finetuning.data_processor.stage_progress import StageProgress
from mlx_finetuning.errors import HeaderRowNotFound

Row = tuple[int, list[str]]
"""Row number in the source, and its cells."""

SAMPLE = 200
"""Rows that are looked at to find the header."""
DEEPEST = 30
"""Rows, without blank ones, among which a header is looked for."""
_LONGEST_NAME = 60
_SHOWN = 6
"""Column names in a finding."""

# Words that name columns, whatever role the columns play later.
_WORDS = frozenset(
    "質問 回答 問い 答え 問 答 問題 解答 正解 指示 入力 出力 応答 返答 返信 質問文 回答文 質問内容 回答内容 質問例 回答例 質問事項 返事 ご質問 ご回答 お問合せ お問い合わせ文 返信内容 返信文 対応内容 想定質問 想定回答 模範解答 "
    "問い合わせ お問い合わせ 問い合わせ内容 お問い合わせ内容 本文 テキスト 文章 内容 会話 対話 プロンプト "
    "question answer questions answers instruction input output prompt completion response query q a text "
    "content messages conversations chosen rejected system user assistant reasoning context".split()
)
_OTHER_WORDS = frozenset(
    "番号 no no. # id 項番 連番 通番 管理番号 受付番号 日付 日時 更新日 作成日 登録日 受付日 回答日 年月日 時刻 "
    "タイムスタンプ 氏名 名前 担当 担当者 回答者 質問者 部署 部門 部署名 状態 ステータス 対応 対応状況 備考 メモ "
    "分類 区分 種別 種類 カテゴリ カテゴリー 大分類 中分類 小分類 グループ タグ キーワード 件名 タイトル 題名 見出し "
    "url リンク 出典 根拠 優先度 重要度 商品名 価格 金額 数量 合計 公開 公開可否 言語 category label group title name "
    "date time timestamp status tag tags note notes remarks source url owner type".split()
)
_NOTE_WORDS = frozenset(
    "作成者 作成日 作成 更新日 更新者 更新 出力日 出力日時 発行日 対象 期間 対象期間 版 バージョン 部署 部署名 "
    "ファイル名 資料名 文書番号 担当 担当者 件数 提出先 提出日 承認 宛先 from to date version author".split()
)
_PARTS = (
    "質問",
    "回答",
    "問い合わせ",
    "教えてください",
    "記入",
    "入力してください",
    "question",
    "answer",
)
_TOTALS = frozenset(
    ("合計", "総計", "小計", "計", "総合計", "累計", "平均", "total", "grandtotal", "subtotal")
)

# Numbers, money, percentages, dates and times: what fills columns and does not name them.
_VALUE = re.compile(
    r"[-+−▲△(]?[¥￥$€£]?\s?[\d,.]*\d[\d,.]*\)?\s?(?:[%％]|[eE][-+]?\d+|円|個|件|人|回|点|歳|分|秒|時間|万円|kg|g|cm|m|mm)?"
    r"|(?:令和|平成|昭和|[RHS])?(?:\d{1,4}|元)[-/.年]\s?\d{1,2}(?:[-/.月]\s?\d{1,4}日?)?(?:\s*[(（][^)）]{1,3}[)）])?"
    r"(?:[T\s]+\d{1,2}[:時]\d{1,2}.*)?"
    r"|\d{1,2}月\d{1,2}日.{0,4}|(?:午前|午後)?\d{1,2}[:時]\d{1,2}(?:[:分]\d{0,2}(?:\.\d+)?秒?)?Z?"
    r"|[○×✓◯●△―ー-]|#[NRVD][A-Z/0!?]+"
)
_NOTE = re.compile(r"[※＊■◆●◇□▼▽☆★・#]|[^：:]{1,12}[：:]")
_SENTENCE = re.compile(
    r".{6,}(?:[。．？?！!…]|ます|です|ください|ますか|ですか|でしょうか|か)[」』）)]?", re.DOTALL
)


@dataclass(frozen=True)
class Located:
    """A table that was found: column names, records aligned with them, and what was decided."""

    columns: tuple[str, ...]
    records: list[tuple[int, list[Any]]]
    findings: tuple[Finding, ...]
    has_header: bool = True


@dataclass(frozen=True)
class _Candidate:
    """A row that may be the header: its place among the rows, and what speaks for it."""

    at: int
    last: int
    """The same, or the row below if that goes on naming."""
    score: float
    known: int
    """Cells that are words for columns of questions and answers."""


def locate(
    rows: Sequence[Row], path: Path, options: TableOptions, progress: StageProgress
) -> Located:
    """The table in `rows`. Raises HeaderRowNotFound, SourceMalformed (too many cells)."""
    notes: list[Finding] = []
    if not rows:
        return Located((), [], ())
    if options.header_rows is not None:
        first, last = _requested(rows, path, options.header_rows)
    else:
        first, last = find_header(rows, notes)
    names = _joined([cells for _, cells in rows[first : last + 1]])
    width = len(names)
    if last < 0:
        sample = rows[:SAMPLE]
        ends = [[at for at, cell in enumerate(cells, 1) if cell.strip()] for _, cells in sample]
        width = max(1, int(statistics.median(max(each, default=0) for each in ends)))
        names = [""] * width
    require_size(width, len(rows), path)
    columns: list[str] = []
    for position, name in enumerate(names, 1):
        column = name or f"列{position}"
        columns.append(f"{column}（{position}列目）" if column in columns else column)
    headers = [[cell.strip() for cell in cells] for _, cells in rows[first : last + 1]]
    records, more = _records(rows[last + 1 :], headers, width, progress)
    kept = [
        at
        for at, name in enumerate(names)
        if name or last < 0 or any(values[at].strip() for _, values in records)
    ]
    if len(kept) < width and records:  # columns with neither a name nor a value
        columns = [columns[at] for at in kept]
        records = [(row, [values[at] for at in kept]) for row, values in records]
    return Located(tuple(columns), records, (*notes, *more), last >= 0)


def sentence_like(cell: str) -> bool:
    """Whether a cell says something, as data do and names of columns seldom."""
    return _SENTENCE.fullmatch(cell.strip()) is not None


def name_like(cells: Sequence[str]) -> bool:
    """Whether all cells that are filled could name a column each."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return (
        bool(filled)
        and len(set(filled)) == len(filled)
        and all(
            len(cell) <= _LONGEST_NAME and not _VALUE.fullmatch(cell) and not cell.endswith("。")
            for cell in filled
        )
    )


def known_words(cells: Sequence[str]) -> int:
    """How many cells are words for columns of questions, answers or texts."""
    return sum(_key(cell) in _WORDS for cell in cells)


def _key(cell: str) -> str:
    """A name without case, width, spaces, numbers at its end and remarks in brackets."""
    folded = unicodedata.normalize("NFKC", cell).casefold()
    return re.sub(r"\(.*?\)|\[.*?\]|【.*?】|[\s_\-*:]|(?<=\D)\d{1,2}$", "", folded)


def _filled(cells: Sequence[str]) -> int:
    """Different values, so that a title across merged cells counts once."""
    return len({cell.strip() for cell in cells} - {""})


def _requested(rows: Sequence[Row], path: Path, wanted: tuple[int, int]) -> tuple[int, int]:
    """Positions of the rows with these numbers; (0, -1) for no header."""
    if wanted == (0, 0):
        return 0, -1
    numbers = {number: at for at, (number, cells) in enumerate(rows) if any(map(str.strip, cells))}
    if not set(wanted) <= numbers.keys():
        few = [
            f"{number}: {'、'.join(filter(None, rows[at][1]))[:40]}"
            for number, at in list(numbers.items())[:5]
        ]
        row = "-".join(map(str, dict.fromkeys(wanted)))
        raise HeaderRowNotFound(path=str(path), row=row, rows=few)
    return numbers[wanted[0]], numbers[wanted[1]]


def find_header(rows: Sequence[Row], notes: list[Finding]) -> tuple[int, int]:
    """Positions of the header's first and last row, (0, -1) for none; adds what was decided."""
    filled_rows = [at for at, (_, cells) in enumerate(rows[:SAMPLE]) if any(map(str.strip, cells))]
    if not filled_rows:
        return 0, 0
    later = filled_rows[len(filled_rows) // 2 :]
    typical = statistics.median(_filled(rows[at][1]) for at in later)
    candidates = list(_candidates(rows, filled_rows, typical))
    best = max(candidates, key=lambda candidate: candidate.score, default=None)
    top = filled_rows[0]
    if (best is None or not best.known) and _is_data(rows, filled_rows, typical):
        notes.append(finding("NO_HEADER", [rows[top][0]]))
        return 0, -1
    first, last = (best.at, best.last) if best is not None else (top, top)
    number, cells = rows[first]
    below = [rows[at][1] for at in filled_rows if at > last][:50]
    if best is None:
        is_doubtful = any(map(sentence_like, cells)) and not _contrast(cells, below)
    else:
        # The row below may be the header, and this one a note.
        is_doubtful = (
            not best.known
            and len(below) > 3
            and name_like(below[0])
            and _contrast(below[0], below[1:]) >= max(2, _filled(below[0]))
        )
    if is_doubtful:
        notes.append(finding("HEADER_DOUBTFUL", [number]))
    skipped = [at for at in filled_rows if at < first]
    if (
        first == last
        and skipped
        and len(set(filled := [cell for cell in cells if cell.strip()])) < len(filled)
    ):
        # Names that repeat are told apart by the row of groups above them.
        first -= 1
        skipped = [at for at in skipped if at < first]
    shown = [name for name in _joined([cells for _, cells in rows[first : last + 1]]) if name]
    names = "、".join(shown[:_SHOWN]) + ("、…" if len(shown) > _SHOWN else "")
    if first != last:
        both = f"{rows[first][0]}・{rows[last][0]}"
        notes.append(finding("HEADER_OF_TWO_ROWS", row=both, names=names))
    elif skipped or first != 0:
        notes.append(finding("HEADER_ROW", row=number, names=names))
    if skipped:
        above = [rows[at][1] for at in skipped]
        is_lost = any(
            not _is_note(cells, typical) and _filled(cells) >= 0.8 * typical for cells in above
        )
        code = "ROWS_LOST" if is_lost else "ABOVE_HEADER"
        notes.append(finding(code, [rows[at][0] for at in skipped]))
    return first, last


def _candidates(
    rows: Sequence[Row], filled_rows: Sequence[int], typical: float
) -> Iterator[_Candidate]:
    """Rows that could name the columns of the rows below them."""
    only_notes, full_rows = True, 0
    for order, at in enumerate(filled_rows[:DEEPEST]):
        cells, last = rows[at][1], at
        names = cells
        if at + 1 < len(rows) and _is_continued(cells, rows[at + 1][1]):
            pairs = itertools.zip_longest(cells, rows[at + 1][1], fillvalue="")
            names = _joined([cells, rows[at + 1][1]])
            cells, last = [below or above for above, below in pairs], at + 1
        filled, known = _filled(names), known_words(cells)
        is_wide = filled >= max(min(2, typical), 0.6 * typical)
        is_reachable = only_notes or (known >= min(2, typical) and full_rows < 3 and order <= 12)
        if is_wide and name_like(names) and is_reachable and filled_rows[-1] > at:
            others = sum(_key(cell) in _OTHER_WORDS for cell in cells)
            below = [rows[other][1] for other in filled_rows[order + 1 : order + 51]]
            # Blank lines of a text are no rows; they leave a gap in the numbers.
            before = rows[at - 1] if order else (rows[at][0] - 1, ["-"])
            end = before[0] + sum(cell.count("\n") for cell in before[1])
            after_blank = 2 * (not any(map(str.strip, before[1])) or rows[at][0] > end + 1)
            contrast = 0.5 * _contrast(cells, below)
            fill = 2 * min(1.0, filled / max(1.0, typical))
            score = 3 * known + 2 * others + after_blank + contrast + fill
            yield _Candidate(at, last, score, known)
            if known > 1:
                return  # further down another table begins
        only_notes = only_notes and _is_note(rows[at][1], typical)
        full_rows += filled >= max(2, 0.8 * typical) and any(map(sentence_like, cells))


def _is_note(cells: Sequence[str], typical: float) -> bool:
    """Whether a row above a table says something about it, and is not part of it."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return (
        _filled(cells) < min(typical, max(2, 0.6 * typical))
        or any(_VALUE.fullmatch(cell) for cell in filled)
        or _key(filled[0]) in _NOTE_WORDS
        or _NOTE.match(filled[0]) is not None
    )


def _kind(cell: str) -> str:
    return "value" if _VALUE.fullmatch(cell) else "sentence" if sentence_like(cell) else "name"


def _contrast(cells: Sequence[str], below: Sequence[Sequence[str]]) -> int:
    """Columns whose values are of another kind than the cell that may name them."""
    columns = 0
    for at, cell in enumerate(cells):
        values = [row[at].strip() for row in below if at < len(row) and row[at].strip()]
        if cell.strip() and values:
            kind = _kind(cell.strip())
            columns += sum(_kind(value) != kind for value in values) >= 0.7 * len(values)
    return columns


def _is_data(rows: Sequence[Row], filled_rows: Sequence[int], typical: float) -> bool:
    """Whether the first row is like those below it, and names nothing."""
    top, others = filled_rows[0], filled_rows[1:51]
    cells = [cell.strip() for cell in rows[top][1]]
    if not others or typical < 2 or _filled(cells) < max(2, 0.6 * typical):
        return False
    words = [_key(cell) for cell in cells]
    if any(word in _WORDS or word in _OTHER_WORDS for word in words):
        return False
    if not any(map(sentence_like, cells)) and not (_VALUE.fullmatch(cells[0]) and len(cells) > 2):
        return False
    if _contrast(cells, [rows[at][1] for at in others]) > 0.3 * typical:
        return False
    lengths = [len("".join(rows[at][1])) for at in others]
    is_short = len("".join(cells)) < 0.4 * statistics.median(lengths)
    return not is_short and not all(any(part in word for part in _PARTS) for word in words if word)


def _is_continued(upper: Sequence[str], lower: Sequence[str]) -> bool:
    """Whether `lower` names what `upper` leaves blank or spans, as headers of two rows do."""
    width = max(len(upper), len(lower))
    above = [cell.strip() for cell in [*upper, *[""] * width][:width]]
    below = [cell.strip() for cell in [*lower, *[""] * width][:width]]
    named = [at for at in range(width) if below[at] and below[at] != above[at]]
    is_named = bool(named) and all(name_like([below[at]]) for at in named)
    if _filled(upper) < 2 or not is_named:  # a single cell above is a title
        return False
    is_repeated = 2 * len({below[at] for at in named}) <= len(named)
    if not is_repeated and not name_like([below[at] for at in named]):
        return False
    is_merged = any(below[at] and below[at] == above[at] for at in range(width))
    # A row without a gap is data, unless cells above it were merged downwards or names repeat.
    is_full = all(below) and not is_repeated
    if not is_merged and (is_full or any(sentence_like(below[at]) for at in named)):
        return False
    spans = [
        not above[at] or (at > 0 and above[at] == above[at - 1]) or above.count(above[at]) > 1
        for at in range(width)
    ]
    begins = [
        at + 1 < width and (spans[at + 1] and (not above[at + 1] or above[at + 1] == above[at]))
        for at in range(width)
    ]
    in_span = all(spans[at] or begins[at] for at in named)
    return in_span and any(spans[at] for at in named)


def _joined(header: Sequence[Sequence[str]]) -> list[str]:
    """The name of each column; of two rows the upper one's names reach over blanks."""
    lines = [[" ".join(cell.split()) for cell in cells] for cells in header]
    width = max((len(cells) for cells in lines), default=0)
    lines = [[*cells, *[""] * width][:width] for cells in lines]
    names = [""] * width
    for depth, cells in enumerate(lines):
        reach = ""
        for at, cell in enumerate(cells):
            below = any(other[at] for other in lines[depth + 1 :])
            reach = cell or (reach if below and not names[at] else "")
            if reach and reach not in names[at].split(" "):
                names[at] = f"{names[at]} {reach}".strip()
    return names


def _records(
    body: Sequence[Row], headers: Sequence[list[str]], width: int, progress: StageProgress
) -> tuple[list[tuple[int, list[Any]]], list[Finding]]:
    """The rows that hold data, as wide as the table; the others become findings."""
    records: list[tuple[int, list[Any]]] = []
    found: dict[str, list[int]] = {}
    words = [{_key(cell) for cell in cells} & _WORDS for cells in headers[-1:]]
    names = words[0] if words and len(words[0]) > 1 else None
    starts = {cells[0] for cells in headers}
    end, ended = 0, 0
    for row, read in progress.over(body):
        cells = read
        if not any(cell.strip() for cell in cells):
            found.setdefault("BLANK_ROW", []).append(row)
            continue
        after_gap, end = 0 < end < row - 1, row
        if cells[0].startswith("\ufeff"):
            cells = [cells[0].lstrip("\ufeff"), *cells[1:]]
        start = cells[0].strip()
        if start in starts and [cell.strip() for cell in cells] in headers:
            found.setdefault("REPEATED_HEADER", []).append(row)
            continue
        if (names and (start in _WORDS or start in starts)) or after_gap:
            here = {_key(cell) for cell in cells if len(cell) <= _LONGEST_NAME} & _WORDS
            if names and here >= names:
                ended = row
                break  # the same names in another order or among others: another table
            if len(here) > 1 and name_like(cells):
                found.setdefault("SECOND_TABLE", []).append(row)
        if _is_total(cells):
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
        found["TABLE_ENDS"] = [row for row, _ in body if row >= ended]
    return records, [finding(code, rows) for code, rows in found.items()]


def _is_total(cells: Sequence[str]) -> bool:
    """A sum of the rows above: its word first, and otherwise numbers only."""
    label = next(cell for cell in cells if cell.strip())
    if len(label) > 12 or _key(label) not in _TOTALS:
        return False
    others = [cell.strip() for cell in cells if cell.strip() and cell is not label]
    return bool(others) and all(_VALUE.fullmatch(cell) for cell in others)
