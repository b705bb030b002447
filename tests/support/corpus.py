"""Several thousand lines on which tokenizers have been seen to differ; the same on every call.

Kanji, kana of all kinds, decomposed kana, combining marks, emoji, rare kanji, digits, English, code,
whitespace, and names of special tokens.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable

WORDS = (
    "営業時間 東京都 株式会社 お問い合わせ 返品 料金 電話番号 予約 会議室 領収書 送料 在庫 担当者 "
    "です ます でした ください について から まで ところ ので しかし また こちら ありがとう すみません "
    "コーヒー プリンター データベース キャンセル ヴァイオリン メールアドレス スケジュール ラーメン "
    "食べる 走った 美しい 静かに 早くて 見られる 行きました 聞いてみると 鬱病 齟齬 鷹揚 蒟蒻 躊躇"
).split()
ENGLISH = (
    "the quick brown fox jumps over lazy dogs It's don't we'll THEY'VE I'd Hello world "
    "antidisestablishmentarianism GPT-4o iPhone15 e.g. U.S.A. naïve café Zürich résumé"
).split()
CODE = (
    "def f(x: int) -> str:",
    "    return f'{x:>10}'  # コメント",
    "\tfor (int i = 0; i < n; ++i) { a[i] += b[i]; }",
    "SELECT * FROM 顧客 WHERE 氏名 LIKE '%山田%';",
    '{"名前": "太郎", "年齢": 20, "tags": ["a", "b"]}',
    "<div class='見出し'>こんにちは&nbsp;</div>",
    "https://例え.jp/パス?q=検索#断片",
    "C:\\Users\\太郎\\文書.txt",
    "$ git commit -m '修正'",
    "x² + y³ ≠ ∑ᵢ √(αβ) ∀ε>0",
    "| 品名 | 価格 |\n|---|---:|\n| りんご | 120円 |",
    "a = b if c else d;;;; !!!! ???? ---- ____ ==== ....",
)
EMOJI = "😀 🎉 👨‍👩‍👧‍👦 🇯🇵 👍🏽 ❤️ ☃ ♨️ 🫠 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🈳 ㊗️ 1️⃣ 🧑🏿‍🚀".split()
RARE = "𠮷野家 𩸽 𠀋 叱𠮟 髙橋 﨑 神 塚 辻󠄀 葛󠄁 丂 㐂 𪚥 龘 鬮 彁 〇 々 〻 ゟ ヿ ㍿ ㍻ ㌔ ㈱ ℡ № Ⅳ ⅳ ① ⓐ".split()
MARKS = "がぎぐ パピプ か゚ き゚ う゛ ぁ゙ é ñ ö ạ̈ Ǹ ก็ ि सं ﷺ אָ ё й x̄ ö̲".split()
HALF_WIDTH = "ﾊﾝｶｸ ｶﾞｷﾞ ﾊﾟﾋﾟ ｡｢｣､ ﾃﾞｰﾀ ﾌﾟﾛｸﾞﾗﾑ ＡＢＣ １２３ ！？ （全角） ～ 〜 − － — ー".split()
SPACES = (
    "",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\n\n\n",
    " \n ",
    "\r\n",
    "　",
    "\u00a0",
    "    \t ",
)
NUMBERS = (
    "0 7 42 100 1,234 12345678 3.1415 2024-12-31 03-1234-5678 ¥1,980 10% 1/2 -5 ２０２４".split()
)
NAMES = (
    "<s> </s> <unk> <pad> <bos> <eos> <|im_start|> <|im_end|> <|endoftext|> <|eot_id|> [INST] "
    "[/INST] <start_of_turn> <end_of_turn> <|begin_of_text|> <mask> <0x0A> <|end|> [UNK] <think> "
    "</think> <tool_call> <|file_sep|> <fim_prefix> <｜end▁of▁sentence｜> ▁ ▁▁ Ġ Ċ"
).split()
OTHERS = (
    "안녕하세요 세계",
    "你好，世界。简体字与繁體字",
    "Привет, мир!",
    "مرحبا بالعالم",
    "สวัสดีชาวโลก",
    "Γειά σου Κόσμε",
    "नमस्ते दुनिया",
    "Xin chào thế giới",
    "\u200bゼロ幅\u200d空白\ufeff",
    "\u202e右から\u202c",
    "ゝゞヽヾ",
    "㎏㎝㏄",
)


def lines(count: int = 4000, seed: int = 16) -> list[str]:
    """Different texts, none empty."""
    chosen = random.Random(seed)
    found = dict.fromkeys((*CODE, *EMOJI, *RARE, *MARKS, *HALF_WIDTH, *NUMBERS, *NAMES, *OTHERS))
    kinds = tuple(KINDS.values())
    while len(found) < count:
        text = chosen.choice(kinds)(chosen)
        if text:
            found[text] = None
    return list(found)


def _japanese(chosen: random.Random) -> str:
    return "".join(chosen.choices(WORDS, k=chosen.randint(2, 12))) + chosen.choice("。？！、…")


def _english(chosen: random.Random) -> str:
    return " ".join(chosen.choices(ENGLISH, k=chosen.randint(1, 10))) + chosen.choice(".?!,")


def _mixed(chosen: random.Random) -> str:
    parts = (WORDS, ENGLISH, EMOJI, RARE, HALF_WIDTH, NUMBERS, CODE, OTHERS, MARKS)
    pieces = [chosen.choice(chosen.choice(parts)) for _ in range(chosen.randint(2, 9))]
    return chosen.choice(("", " ", "、")).join(pieces)


def _spaced(chosen: random.Random) -> str:
    pieces = [
        piece
        for _ in range(chosen.randint(1, 6))
        for piece in (chosen.choice(SPACES), chosen.choice((*WORDS, *ENGLISH, *NUMBERS)))
    ]
    return "".join((*pieces, chosen.choice(SPACES)))


def _decomposed(chosen: random.Random) -> str:
    return unicodedata.normalize("NFD", _japanese(chosen) + "ガギグゲゴだぢづでどパピプペポ")


def _any_kanji(chosen: random.Random) -> str:
    ranges = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x3041, 0x30FE))
    picked = (chosen.randint(*chosen.choice(ranges)) for _ in range(chosen.randint(1, 12)))
    return "".join(map(chr, picked))


def _any_character(chosen: random.Random) -> str:
    points = (chosen.randrange(0x20, 0x2FFFF) for _ in range(chosen.randint(1, 8)))
    return "".join(chr(point) for point in points if unicodedata.category(chr(point))[0] != "C")


def _named(chosen: random.Random) -> str:
    return chosen.choice(WORDS) + chosen.choice(NAMES) + chosen.choice(("", " ", *WORDS))


def _numbers(chosen: random.Random) -> str:
    return "".join(chosen.choices((*NUMBERS, "年", "月", "円", " ", "、"), k=chosen.randint(1, 8)))


KINDS: dict[str, Callable[[random.Random], str]] = {
    "Japanese": _japanese,
    "English": _english,
    "mixed": _mixed,
    "whitespace": _spaced,
    "decomposed": _decomposed,
    "any kanji": _any_kanji,
    "any character": _any_character,
    "names of special tokens": _named,
    "numbers": _numbers,
}
