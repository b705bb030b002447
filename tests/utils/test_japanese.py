"""Japanese comparison keys, mojibake and character classes."""

from __future__ import annotations

from random import Random

import pytest

from mlx_finetuning.data_processor import SAMPLE_DATA
from mlx_finetuning.utils.japanese_utils import (
    chrf,
    comparison_key,
    contains,
    exact_match,
    foreign_language,
    has_mixed_width,
    is_mojibake,
    normalised,
    rouge_l,
    to_fullwidth_kana,
    to_halfwidth_alnum,
)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("午前９時", "午前9時"),
        ("ｶﾀﾛｸﾞ", "カタログ"),
        ("9時〜18時", "9時～18時"),
        ("5−3", "5-3"),
        (" 営業  時間\n", "営業 時間"),
        ("か\u3099", "が"),
    ],
)
def test_equal_looking_texts_match_exactly(left: str, right: str) -> None:
    assert exact_match(left, right)


def test_exact_match_keeps_wording_apart() -> None:
    assert not exact_match("9時です。", "9時です")
    assert not exact_match("9時です。", "19時です。")


def test_comparison_key_ignores_case_and_trailing_punctuation() -> None:
    assert comparison_key("ＵＳＢは使えますか？？") == comparison_key("usbは使えますか")
    assert comparison_key("。") == ""


def test_contains_looks_for_words_and_never_for_nothing() -> None:
    assert contains("はい、午前９時からです。", "午前9時")
    assert not contains("はい", "")


def test_long_vowel_marks_are_not_dashes() -> None:
    assert normalised("サーバー") == "サーバー"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        *(("utf-8", "cp932"), ("utf-8", "latin-1"), ("utf-8", "euc_jp"), ("euc_jp", "cp932")),
        *(("utf-8", page) for page in ("cp437", "cp850", "cp852", "cp1251", "cp866", "koi8_r")),
        *(("utf-8", "mac_cyrillic"), ("cp932", "cp437"), ("cp932", "cp1251"), ("euc_jp", "cp850")),
    ],
)
def test_sample_questions_read_in_a_wrong_encoding_are_mojibake(right: str, wrong: str) -> None:
    lines = SAMPLE_DATA.read_text(encoding="utf-8").splitlines()[1:]
    texts = [line.split(",")[0].encode(right).decode(wrong, errors="replace") for line in lines]
    assert all(is_mojibake(text) for text in texts)


@pytest.mark.parametrize(
    "text",
    [
        "ﾊﾝｶｸｶﾅのままの伝票です。",
        "ﾃｽﾄ",
        "café à la crème、ça va?",
        "Ångström単位で測ります。",
        "繧繝縁（うんげんべり）は畳のふちです。",
        "Гарантия действует два года после покупки, уБ.",
        "Ґрунт і ґанок, Ґа Ґо",
        "src\n├── app.py\n│   └── ui ┤ │ ═══",
        "∑αβ = √π ≦ Ω、Σは総和です",
        "Zażółć gęślą jaźń, Příliš žluťoučký kůň",
        "絵文字👨‍👩‍👧と①㈱髙",
        "",
    ],
)
def test_honest_text_is_not_mojibake(text: str) -> None:
    assert not is_mojibake(text)


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [  # sacrebleu 2.6.0, sentence_chrf, divided by 100
        ("今日は晴れです", "今日は雨です", 0.2702724618877716),
        ("the cat sat", "a cat sat on", 0.5021825396825397),
        ("東京都庁", "京都", 0.7812499999999999),
        ("営業時間は午前9時からです。", "営業時間は午前9時からです。", 1.0),
        ("あ", "い", 0.0),
        ("", "い", 0.0),
    ],
)
def test_chrf_is_that_of_sacrebleu(answer: str, expected: str, score: float) -> None:
    assert chrf(answer, expected) == pytest.approx(score, abs=1e-12)


def _longest_common(left: str, right: str) -> int:
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            longer = max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else longer
    return table[-1][-1]


def test_rouge_l_counts_the_longest_common_subsequence_of_characters() -> None:
    rng = Random(1)
    for _ in range(100):
        left, right = ("".join(rng.choices("あいうえ", k=rng.randint(1, 90))) for _ in range(2))
        expected = 2 * _longest_common(left, right) / (len(left) + len(right))
        assert rouge_l(left, right) == pytest.approx(expected)
    assert rouge_l("午前９時です", "午前9時です") == 1.0
    assert rouge_l("", "あ") == 0.0


def test_width_changes_touch_nothing_else() -> None:
    assert to_fullwidth_kana("ｶﾞｽとﾊﾟﾝ①㈱Ａ１～") == "ガスとパン①㈱Ａ１～"
    assert to_halfwidth_alnum("Ａ１号室、１０％～ｶﾞ①") == "A1号室、10％～ｶﾞ①"


@pytest.mark.parametrize(
    ("text", "mixed"),
    [("１２号室と12号室", True), ("ＡとB", True), ("Ａ４サイズ", False), ("A4サイズ、１階", True)],
)
def test_mixed_width_is_judged_for_letters_and_for_digits(text: str, mixed: bool) -> None:
    assert has_mixed_width(text) is mixed


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "英語など"),
        ("今天天气怎么样？我们去公园吧。", "中国語"),
        ("安녕하세요 반갑습니다", "韓国語"),
        ("Привет как дела", "ロシア語など"),
        ("東京都新宿区西新宿二丁目八番一号", ""),
        ("電話受付時間平日午前九時開始", ""),
        ("print(a, b) if x == 3 else None", ""),
        ("MacBook Pro M4", ""),
        ("Pythonのdef文を使います。def main(): pass", ""),
        ("", ""),
    ],
)
def test_other_languages_are_named(text: str, language: str) -> None:
    assert foreign_language(text) == language
