"""Texts on which two tokenizers are compared: scripts, spacing, digits, symbols, odd characters."""

from __future__ import annotations

_PIECES = (
    "こんにちは、世界。",
    "株式会社みどり商店の営業時間は午前9時から午後6時です。",
    "カタカナとひらがなと漢字、ﾊﾝｶｸｶﾅ、ＡＢＣ１２３",
    "「かぎ括弧」『二重』（丸）【隅付き】…―〜・！？",
    "髙橋さんと﨑さん、𠮷野家、辻󠄀",
    "がぎぐ ぱぴぷ が",
    "価格は¥1,234,567（税込）です",
    "2024年12月31日 23:59:59",
    "3 33 333 3333 33333 333333 3.14 1e-5 ٣٤٥",
    "Hello, world! I'm sure they'd've WE'LL 'Tis",
    "The quick brown fox jumps over the lazy dog.",
    "naïve café Ünïcödé Straße İstanbul",
    "Привет, мир! Γειά σου. שלום مرحبا नमस्ते ไทย 한국어 你好，世界",
    "🚀 👩‍👩‍👧‍👦 🇯🇵 👍🏽 ❤️ ✅",
    "def f(x):\n    return x ** 2  # 二乗\n\n\nprint(f(3))\n",
    '{"鍵": [1, 2.5, null], "a\\\\b": "\\n"}',
    "https://example.com/パス?q=検索&x=1#frag user@example.co.jp",
    "a\tb\t\tc\n \n  \n\n   d   e    f",
    "\u3000全角空白\u3000\u3000です\u00a0\u200b\ufeff",
    "行一\r\n行二\r\r行三",
    "------======~~~~____////\\\\\\\\",
    "<|im_start|>user\n質問<|im_end|>",
    "< |im_start| > <|unknown|> <s></s> [INST]",
    "α+β=γ ∑∫√≠≤ ①②③ ㍻ ㈱ ℃ №",
    "\x01\x7f\x1b[0m",
    "ー・゛゜ 々〆〇",
    "すもももももももものうち",
    "1つ2つ3つ、第10回、No.5-2",
    "x=y;z!=w?a:b,c.d->e",
    "ありがとうございます" * 5,
)
_FRAMES = (("", ""), (" ", ""), ("", "\n"), ("「", "」\n\n"), ("  \n", "  "))

TEXTS = tuple(f"{before}{piece}{after}" for piece in _PIECES for before, after in _FRAMES)
