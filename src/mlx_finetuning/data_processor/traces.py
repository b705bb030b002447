"""What people, spreadsheets and copying leave in a text: places to be filled in, marks of a review, values that
became dates, letters that were lost or only look alike. Tests of one text each."""

from __future__ import annotations

import re
import unicodedata

from mlx_finetuning.data_processor.leftovers import CODE

_FILL_IN = re.compile(
    r"\{\{\s?[^{}\n]{1,60}\}\}|\$\{[^{}\n]{1,40}\}"
    r"|[○●〇◯△□▲■]{2,}(?:様|さん|円|年|月|日|時|分|部|課|市|店|県|株式会社|株|会社|支店|センター|まで|です|番)"
    r"|[【\[［〔<＜](?:お?客様名|顧客名|お?名前|氏名|担当者?名?|会社名|御社名|貴社名|日付|日時|金額|商品名|製品名|注文番号|受付番号|店舗名|電話番号|住所|部署名)[】\]］〕>＞]"
)
_REVIEW = re.compile(
    r"(?i)[【\[［〔（(<＜][^】\]］〕）)>＞\n]{0,12}(?:要確認|要修正|要検討|要追記|要更新|要差し?替え|確認中|未確認|未確定|後日追記|作成中|TODO|TBD)"
    r"[^】\]］〕）)>＞\n]{0,20}[】\]］〕）)>＞]"
    r"|(?m:^)[（(【\[]旧[）)】\]].+\n+[ 　]*[（(【\[]新[）)】\]]"
)
_MONTH = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_MADE_DATE = re.compile(rf"\d{{1,2}}-(?:{_MONTH})(?:-\d{{2}})?|(?:{_MONTH})-\d{{2}}")
_SERIAL = re.compile(r"[34]\d{4}(?:\.\d+)?")
_ASKS_DAY = re.compile("いつ|日付|何日|期限|締切|締め切り|日は|日時|開始日|終了日|発売日|日を")
_LOST = re.compile("(?<!〓)〓(?!〓)|[\ue000-\uf8ff]|[\U000f0000-\U0010fffd]")
_RADICAL = re.compile("[\u2e80-\u2ef3\u2f00-\u2fd5]")
_SPACED = re.compile(r"(?:[ぁ-ヿ一-鿿。、][ 　]){8,}[ぁ-ヿ一-鿿。、]")
# What NFKC does not join: radicals that stand for the whole sign.
_ALIKE = str.maketrans("⺟⻁⻄⻑⻘⻝⻣⻤⻨⻩⻫⻭⻯⻲", "母虎西長青食骨鬼麦黄斉歯竜亀")


def has_fill_in(text: str) -> bool:
    """Whether a place is left for a name, a day and the like ({{name}}, ○○様)."""
    return _FILL_IN.search(CODE.sub("", text)) is not None


def has_review_mark(text: str) -> bool:
    """Whether it says of itself that it is not settled (【要確認】), or has an old and a new text."""
    return _REVIEW.search(text) is not None


def is_made_date(question: str, answer: str) -> bool:
    """Whether the answer is what a spreadsheet makes of a value (2-Mar), or the number it keeps a day as."""
    stripped = answer.strip()
    if len(stripped) > 12:
        return False
    is_serial = _SERIAL.fullmatch(stripped) and _ASKS_DAY.search(question)
    return bool(is_serial) or _MADE_DATE.fullmatch(stripped) is not None


def has_lost_letter(text: str) -> bool:
    """Whether a letter is one of the writer's own font, or the sign that stands for one (〓)."""
    return _LOST.search(text) is not None


def has_radical(text: str) -> bool:
    """Whether it has radicals in place of the signs that look like them, as copies from PDF have."""
    return _RADICAL.search(text) is not None


def is_spaced(text: str) -> bool:
    """Whether spaces stand between its letters, as text recognition leaves them."""
    spaces = text.count(" ") + text.count("　")
    return spaces * 3 > len(text) > 8 and _SPACED.search(text) is not None


def without_radicals(text: str) -> str:
    """With the signs that its radicals look like."""
    return _RADICAL.sub(lambda sign: unicodedata.normalize("NFKC", sign[0].translate(_ALIKE)), text)
