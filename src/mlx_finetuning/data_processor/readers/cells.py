"""What cells and rows of a table look like: a name, a sentence, a value; a note, a sum.

Judges by form and by words that name columns whatever role they play later; knows nothing of files.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

LONGEST_NAME = 60

# Words that name columns, by what the columns play; where the role is the word, it stands alone.
_QUESTIONS = (
    "質問 問い 問 問題 質問文 質問内容 質問例 質問事項 ご質問 想定質問 指示 プロンプト 問い合わせ 問合せ お問い合わせ お問合せ "
    "問い合わせ内容 お問い合わせ内容 お問い合わせ文 question questions instruction prompt query q user"
)
_ANSWERS = (
    "回答 答え 答 解答 応答 返答 返信 返事 回答文 回答内容 回答例 ご回答 想定回答 模範解答 返信内容 返信文 対応内容 出力 "
    "answer answers output completion response a assistant"
)
_TEXTS = (
    "入力 本文 テキスト 文章 内容 会話 対話 input text content messages conversations chosen rejected system "
    "reasoning context"
)
ROLES = {
    **dict.fromkeys(_QUESTIONS.split(), "question"),
    **dict.fromkeys(_ANSWERS.split(), "answer"),
    **{word: word for word in _TEXTS.split()},
}
WORDS = frozenset(ROLES)
OTHER_WORDS = frozenset(
    "番号 no no. # id 項番 連番 通番 管理番号 受付番号 日付 日時 更新日 作成日 登録日 受付日 回答日 年月日 時刻 "
    "タイムスタンプ 氏名 名前 担当 担当者 回答者 質問者 部署 部門 部署名 状態 ステータス 対応 対応状況 備考 メモ "
    "分類 区分 種別 種類 カテゴリ カテゴリー 大分類 中分類 小分類 グループ タグ キーワード 件名 タイトル 題名 見出し "
    "用語 単語 説明 意味 定義 訳 対応内容 内容 term word meaning definition "
    "url リンク 出典 根拠 優先度 重要度 商品名 価格 金額 数量 合計 公開 公開可否 言語 category label group title name "
    "date time timestamp status tag tags note notes remarks source url owner type".split()
)
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
    """How many roles of columns the cells are words for: question and 質問 are one."""
    return len({ROLES[key] for key in map(key_of, cells) if key in ROLES})


def names_columns(cells: Sequence[str]) -> bool:
    """Whether all cells, two or more, are words that name columns."""
    filled = [key_of(cell) for cell in cells if cell.strip()]
    return len({*filled}) > 1 and all(word in WORDS or word in OTHER_WORDS for word in filled)


def key_of(cell: str) -> str:
    """A name without case, width, spaces, numbers at its end and remarks in brackets."""
    # A cell may hold a million signs, and brackets that are never closed take quadratic time.
    folded = unicodedata.normalize("NFKC", cell[:200]).casefold()
    return re.sub(r"\(.*?\)|\[.*?\]|【.*?】|[\s_\-*:]|(?<=\D)\d{1,2}$", "", folded)


def filled_in(cells: Sequence[str]) -> int:
    """Different values, so that a title across merged cells counts once."""
    return len({cell.strip() for cell in cells} - {""})


def is_note(cells: Sequence[str], typical: float) -> bool:
    """Whether a row above a table says something about it, and is not part of it."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return (
        filled_in(cells) < min(typical, max(2, 0.6 * typical))
        or any(VALUE.fullmatch(cell) for cell in filled)
        or key_of(filled[0]) in _NOTE_WORDS
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


def is_total(cells: Sequence[str]) -> bool:
    """A sum of the rows above: its word first, and otherwise numbers only."""
    label = next(cell for cell in cells if cell.strip())
    if len(label) > 12 or key_of(label) not in _TOTALS:
        return False
    others = [cell.strip() for cell in cells if cell.strip() and cell is not label]
    return bool(others) and all(VALUE.fullmatch(cell) for cell in others)
