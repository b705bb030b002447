"""What cells and rows of a table look like: a name, a sentence, a value; a note, a sum.

Judges by form and by the names of `column_names`; knows nothing of files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlx_finetuning.data_processor.readers.column_names import (
    OTHER_NAMES,
    ROLES,
    base_name,
    key,
    role_named,
)

LONGEST_NAME = 60

_NOTE_WORDS = frozenset(
    "作成者 作成日 作成 更新日 更新者 更新 出力日 出力日時 発行日 対象 期間 対象期間 版 バージョン 部署 部署名 "
    "ファイル名 資料名 文書番号 担当 担当者 件数 提出先 提出日 承認 宛先 from to date version author".split()
)
_TOTALS = frozenset(
    ("合計", "総計", "小計", "計", "総合計", "累計", "平均", "total", "grandtotal", "subtotal")
)

# Numbers, money, percentages, dates and times: what fills columns and does not name them.
VALUE = re.compile(
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
            len(cell) <= LONGEST_NAME and not VALUE.fullmatch(cell) and not cell.endswith("。")
            for cell in filled
        )
    )


def known_words(cells: Sequence[str]) -> int:
    """How many roles of columns the cells are names of: question and 質問 are one."""
    return len({role_named(cell) for cell in cells} - {None})


def names_columns(cells: Sequence[str]) -> bool:
    """Whether all cells, two or more, are words that name columns."""
    names = {base_name(cell) for cell in cells if cell.strip()}
    return len(names) > 1 and all(name in ROLES or name in OTHER_NAMES for name in names)


def filled_in(cells: Sequence[str]) -> int:
    """Different values, so that a title across merged cells counts once."""
    return len({cell.strip() for cell in cells} - {""})


def is_note(cells: Sequence[str], typical: float) -> bool:
    """Whether a row above a table says something about it, and is not part of it."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return (
        filled_in(cells) < min(typical, max(2, 0.6 * typical))
        or any(VALUE.fullmatch(cell) for cell in filled)
        or base_name(filled[0]) in _NOTE_WORDS
        or _NOTE.match(filled[0]) is not None
    )


def _kind(cell: str) -> str:
    return "value" if VALUE.fullmatch(cell) else "sentence" if sentence_like(cell) else "name"


def contrast(cells: Sequence[str], below: Sequence[Sequence[str]]) -> int:
    """Columns whose values are of another kind than the cell that may name them."""
    columns = 0
    for at, cell in enumerate(cells):
        values = [row[at].strip() for row in below if at < len(row) and row[at].strip()]
        if cell.strip() and values:
            kind = _kind(cell.strip())
            columns += sum(_kind(value) != kind for value in values) >= 0.7 * len(values)
    return columns


def is_remark(cells: Sequence[str]) -> bool:
    """Whether a row straight below a header says of its columns what may be filled in (必須, string), as
    forms and databases write it."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return len(filled) > 1 and all(_REMARK.fullmatch(cell) for cell in filled)


_REMARK = re.compile(
    r"""(?xi)
    [(（\[［【<＜〔]?\s*(?:(?:入力)?(?:必須|任意)(?:項目|入力)?|自由(?:記述|回答|記入)|記述式?|(?:単一|複数)(?:選択|回答)|選択式?
    |文字列|テキスト|数値|数字|整数|日付|日時|半角(?:英?数字?)?|全角(?:文字)?|\d+文字(?:以内|まで)
    |open-ended\ response|response|required|optional|(?:not\ )?null|(?:small|big|tiny)?int(?:eger|\d+)?|str(?:ing)?|text|n?(?:var)?char
    |float\d*|double|decimal|numeric|number|bool(?:ean)?|date|datetime|timestamp|object|uuid|long\ ?text|short\ ?text
    )\s*(?:\(\d+\))?\s*[)）\]］】>＞〕]?
    | \{"ImportId".*\}
    """
)


def is_total(cells: Sequence[str]) -> bool:
    """A sum of the rows above: its word first, and otherwise numbers only."""
    label = next(cell for cell in cells if cell.strip())
    if len(label) > 12 or key(label).rstrip("0123456789") not in _TOTALS:
        return False
    others = [cell.strip() for cell in cells if cell.strip() and cell is not label]
    return bool(others) and all(VALUE.fullmatch(cell) for cell in others)
