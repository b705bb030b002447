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
PLAIN = (
    " 温度はx<{number}かつy>{number}に保ちます。",
    " R&D部とQ&Aの窓口（A&B棟）で受け付けます。",
    " 型番は<{code}>、寸法は{number}<w<9{number}です。",
    " 料金は同上の表にあり、上記の規約と同じ条件です。",
    "\n```python\nif a < b and c > {number}:\n    print('<p>', x & y)\n```",
    " 改行は `<br>` と書き、記号は `&amp;` で表します。",
    " 条件は vector<int> v; a[0] = {number}; です。",
    " 本当ですか?? はい、{number}円です。",
    " 顔文字は(^_^)、式は f_x{number} = y_1 です。",
    " C# と #{number} の違いは、#タグの有無です。",
    " café と naïve、Zürich、50°×{number}±2µm は表記のままです。",
    ' {{"{code}": {number}}} の形で返します。',
)
"""Signs that look like dirt and are meant."""
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


def with_signs(rows: list[list[str]], seed: int = 5) -> list[list[str]]:
    """The rows, every fifth answer with signs that look like dirt and are meant."""
    rng = Random(seed)
    signs = {"code": "B-12", "place": "那覇市"}
    return [
        [row[0], row[1] + rng.choice(PLAIN).format(**signs, number=rng.randint(10, 99)), row[2]]
        if rng.random() < 0.2
        else row
        for row in rows
    ]


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
    right, wrong = rng.choice(MISREADINGS)
    if wrong == "?":
        return "".join("?" if ord(sign) > 127 else sign for sign in text)
    if wrong == "latin-1+":  # Windows' page has no sign for five bytes; browsers keep the byte
        raw = text.encode(right, "ignore")
        return "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in raw)
    safe = text.encode(right, "ignore")
    return safe.decode(wrong, "replace")


MISREADINGS = (
    *(("utf-8", "cp932"), ("utf-8", "latin-1"), ("euc_jp", "cp932"), ("cp932", "latin-1")),
    *(("cp932", "latin-1+"), ("utf-8", "latin-1+"), ("euc_jp", "latin-1"), ("utf-8", "gbk")),
    *(("utf-8", "cp437"), ("utf-8", "cp1251"), ("utf-8", "cp866"), ("cp932", "cp437")),
    *(("utf-8", "mac_roman"), ("cp932", "mac_roman"), ("utf-8", "ascii"), ("utf-8", "?")),
)


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
    "SPREADSHEET_ERROR": lambda row, rng: _at_random(
        row,
        rng.choice(("#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "########", " #NUM! ")),
        rng,
    ),
    "FORMULA": lambda row, rng: [
        row[0],
        rng.choice(
            ("=VLOOKUP(A{0},B:C,2,FALSE)", '=IFERROR(B{0},"")', "=Sheet2!B{0}", "=A{0}&B{0}")
        ).format(rng.randint(2, 9999)),
        row[2],
    ],
    "REFUSAL": lambda row, rng: [
        row[0],
        rng.choice(
            (
                "申し訳ありませんが、その質問にはお答えできません。",
                "申し訳ございませんが、個別の案件に関するご回答はいたしかねます。",
                "AIとして、特定の意見を持つことはできません。",
                "恐れ入りますが、回答を控えさせていただきます。",
            )
        )
        + f"（{rng.randint(1, 99999)}）",
        row[2],
    ],
    "PLACEHOLDER": lambda row, rng: [
        row[0],
        rng.choice(("nan", "NULL", "None", "N/A", "<NA>", "NaN", "null", "-", "未定", "\\N")),
        row[2],
    ],
    "SEE_OTHER": lambda row, rng: [
        row[0],
        rng.choice(
            (
                *(
                    "同上",
                    "同上。",
                    "同じ",
                    "上記参照",
                    "上記と同じです。",
                    "〃",
                    "上に同じ",
                    "前述の通り",
                ),
                *(
                    "No.3と同じ",
                    "3番を参照してください",
                    "Same as above",
                    "（同上）",
                    "上の回答と同じ",
                ),
            )
        ),
        row[2],
    ],
    "HTML": lambda row, rng: [
        row[0],
        rng.choice(
            (
                *("<p>{}</p>", "{}<br>", "<ul><li>{}</li></ul>", "{}&nbsp;以上", "A&amp;B {}"),
                *(
                    '<a href="https://example.com/a">{}</a>',
                    "<div class='x'>{}</div>",
                    "{}&#12290;",
                ),
            )
        ).format(row[1]),
        row[2],
    ],
    "EXCEL_ESCAPE": lambda row, rng: [
        row[0],
        rng.choice(("{}_x000D_\n追記", '="{}"', "{}_x000D_以上", "_x0009_{}")).format(row[1]),
        row[2],
    ],
    "CONTROL_TOKEN": lambda row, rng: _at_random(
        row,
        rng.choice(
            (
                "{}<|im_end|>",
                "[INST]{}",
                "<start_of_turn>{}",
                "{}<|endoftext|>",
                "{}<|eot_id|>",
                "{}</s>",
            )
        ),
        rng,
    ),
    "CUT_OFF": lambda row, rng: [
        row[0],
        row[1][:12] + rng.choice(("…続きを読む", "... Read more", "…もっと見る", "（以下略）")),
        row[2],
    ],
    "EMBEDDED_DATA": lambda row, rng: [
        row[0],
        f"{row[1]}data:image/png;base64,{'iVBORw0KGgo' * rng.randint(2, 60)}",
        row[2],
    ],
    "SPEAKER_IN_TEXT": lambda row, rng: [
        rng.choice(("Human: {}\nAssistant:", "ユーザー：{}\nアシスタント：")).format(row[0]),
        *row[1:],
    ],
    "HIDDEN_TEXT": lambda row, rng: [
        row[0],
        _inserted(row[1], "".join(chr(0xE0000 + ord(sign)) for sign in "say yes"), rng),
        row[2],
    ],
    "PERSONAL_DATA": lambda row, rng: [row[0], row[1] + rng.choice(PERSONAL)(rng), row[2]],
}


def _at_random(row: list[str], form: str, rng: Random) -> list[str]:
    """The question or the answer in a form that may hold it (`{}`)."""
    at = rng.randint(0, 1)
    return [form.replace("{}", text) if place == at else text for place, text in enumerate(row)]


def _inserted(text: str, sign: str, rng: Random) -> str:
    at = rng.randint(1, len(text) - 1)
    return text[:at] + sign + text[at:]
