"""Rows of invented Japanese questions and answers, without a problem, and problems to plant."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

NOUNS = (
    *("受付窓口", "製品保証", "配送センター", "会員カード", "第二工場", "検査装置", "油圧ポンプ"),
    *(
        "見積書",
        "サポート契約",
        "タブレット端末",
        "社員食堂",
        "研修プログラム",
        "USBケーブル",
        "冷却ファン",
    ),
    *(
        "アルミ部品",
        "精密歯車",
        "温度センサー",
        "制御ソフト",
        "展示会",
        "請求書",
        "駐車場",
        "保守部品",
    ),
)
ADJECTIVES = (
    "新しい",
    "古い",
    "小型の",
    "大型の",
    "人気の",
    "標準の",
    "特別な",
    "屋外用の",
    "試作の",
    "輸出用の",
)
PLACES = (
    "東京都",
    "大阪府",
    "札幌市",
    "名古屋市",
    "福岡県",
    "仙台市",
    "金沢市",
    "広島県",
    "那覇市",
    "京都府",
)
NAMES = ("佐藤", "鈴木", "髙橋", "田中", "伊藤", "渡辺", "山本", "中村", "小林", "加藤")
QUESTIONS = (
    "{place}の{adjective}{noun}について、担当の{name}さんが{month}月に決めたことは何ですか？",
    "{name}さんが{place}で使っている{adjective}{noun}の価格はいくらですか？",
    "{adjective}{noun}を{place}の支店へ送るとき、{name}さんに伝えることを教えてください。",
    "{month}月の{place}での{noun}の点検で、{name}さんが見つけた{adjective}不具合を説明してください。",
)
ANSWERS = (
    "{name}さんによると、{place}の{noun}は{month}月{day}日から{price}円で、{adjective}型番は{code}です。",
    "{place}では{day}日以内に{noun}を交換します。費用は{price}円（税込）で、{adjective}場合は{code}番の書類が要ります。",
    "はい、{adjective}{noun}は{price}円です。{name}さんが{place}で{month}月{day}日に確認しました（管理記号 {code}）。",
    "次の通りです。\n1. {noun}の電源を切る\n2. {place}の{name}さんに連絡する\n3. {code}と書いた{adjective}札を{day}日まで付ける",
)
ODD = (
    " 👨‍👩‍👧の方もどうぞ。",
    "①から③のうち、②が正しい答えです。",
    "㈱ミナモの“A-{code}”です。",
    "〒は郵便記号です。",
)
CATEGORIES = ("営業", "技術", "総務")


def clean_row(rng: Random) -> list[str]:
    """Question, answer, category."""
    words = {
        "place": rng.choice(PLACES),
        "adjective": rng.choice(ADJECTIVES),
        "noun": rng.choice(NOUNS),
        "name": rng.choice(NAMES),
        "month": rng.randint(1, 12),
        "day": rng.randint(1, 28),
        "price": f"{rng.randint(100, 999999):,}",
        "code": f"{rng.choice('ABCDEFGH')}{rng.randint(1000, 99999)}",
    }
    answer = rng.choice(ANSWERS).format(**words)
    if rng.random() < 0.1:
        answer += rng.choice(ODD).format(**words)
    return [rng.choice(QUESTIONS).format(**words), answer, rng.choice(CATEGORIES)]


def clean_rows(count: int, seed: int = 1) -> list[list[str]]:
    """`count` rows of which no two have the same question."""
    rng = Random(seed)
    rows: dict[str, list[str]] = {}
    while len(rows) < count:
        row = clean_row(rng)
        rows.setdefault(row[0], row)
    return list(rows.values())


def my_number(rng: Random) -> str:
    """Eleven random digits and the check digit, in the words of the ordinance."""
    digits = [rng.randint(0, 9) for _ in range(11)]
    weights = [n + 1 if n <= 6 else n - 5 for n in range(1, 12)]
    total = sum(p * q for p, q in zip(reversed(digits), weights, strict=True)) % 11
    return "".join(map(str, digits)) + str(0 if total <= 1 else 11 - total)


def card(rng: Random) -> str:
    """Sixteen digits that satisfy Luhn, in fours."""
    digits = [4, *(rng.randint(0, 9) for _ in range(14))]
    doubled = [d * 2 - 9 * (d > 4) if at % 2 == 0 else d for at, d in enumerate(digits)]
    text = "".join(map(str, [*digits, -sum(doubled) % 10]))
    return " ".join(text[at : at + 4] for at in range(0, 16, 4))


def _misread(text: str, rng: Random) -> str:
    right, wrong = rng.choice((("utf-8", "cp932"), ("utf-8", "latin-1"), ("euc_jp", "cp932")))
    safe = text.encode(right, "ignore")
    return safe.decode(wrong, "replace")


FOREIGN = (
    "Please contact our support team before noon on Friday.",
    "The warranty covers all parts for two years after purchase.",
    "我们的产品质量很好，请您放心使用，谢谢。",
    "这个问题应该怎么解决呢？请告诉我们。",
    "제품 보증 기간은 구입 후 이 년입니다.",
    "Гарантия действует два года после покупки.",
)
PERSONAL: tuple[Callable[[Random], str], ...] = (
    lambda rng: f"電話は03-{rng.randint(1000, 9999)}-{rng.randint(1000, 9999)}です。",
    lambda rng: f"携帯は０９０−{rng.randint(1000, 9999)}−{rng.randint(1000, 9999)}です。",
    lambda rng: f"連絡先は user{rng.randint(1, 999)}@example.co.jp です。",
    lambda rng: f"住所は〒{rng.randint(100, 999)}-{rng.randint(1000, 9999)}の近くです。",
    lambda rng: f"個人番号は{my_number(rng)}です。",
    lambda rng: f"カード番号は {card(rng)} です。",
)
Plant = Callable[[list[str], Random], list[str]]
# Finding → a row with that problem, made from a clean one.
PLANTS: dict[str, Plant] = {
    "EMPTY_QUESTION": lambda row, rng: [rng.choice(("", " ", "\u3000", "\n\t")), *row[1:]],
    "EMPTY_ANSWER": lambda row, rng: [row[0], rng.choice(("", "  ", "\u3000\n", "\u200b")), row[2]],
    "MOJIBAKE": lambda row, rng: [row[0], _misread(row[1], rng), row[2]],
    "ANSWER_REPEATS_QUESTION": lambda row, rng: [row[0], row[0].rstrip("？。") + "。", row[2]],
    "CONTROL_CHARACTER": lambda row, rng: [
        _inserted(row[0], rng.choice("\x01\x08\x0b\x1b\x7f\x85\u202e\u2028\u200e"), rng),
        *row[1:],
    ],
    "ZERO_WIDTH": lambda row, rng: [
        row[0],
        _inserted(row[1], rng.choice("\u200b\u200c\u2060\ufeff"), rng),
        row[2],
    ],
    "HALF_WIDTH_KANA": lambda row, rng: [row[0], row[1] + "ｶﾀﾛｸﾞをご覧ください。", row[2]],
    "MIXED_WIDTH": lambda row, rng: [row[0], row[1] + "部屋は１２号室と12号室です。", row[2]],
    "EDGE_SPACE": lambda row, rng: [row[0], row[1] + rng.choice((" ", "\n", "\u3000")), row[2]],
    "NOT_JAPANESE": lambda row, rng: [
        row[0],
        f"{rng.choice(FOREIGN)} ({rng.randint(1, 99999)})",
        row[2],
    ],
    "PERSONAL_DATA": lambda row, rng: [row[0], row[1] + rng.choice(PERSONAL)(rng), row[2]],
}


def _inserted(text: str, sign: str, rng: Random) -> str:
    at = rng.randint(1, len(text) - 1)
    return text[:at] + sign + text[at:]
