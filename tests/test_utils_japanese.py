"""Japanese comparison keys, mojibake and character classes."""

from __future__ import annotations

import pytest

from mlx_finetuning.data_processor import SAMPLE_DATA
from mlx_finetuning.utils.japanese_utils import (
    character_classes,
    comparison_key,
    contains,
    exact_match,
    is_mojibake,
    normalised,
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
    [("utf-8", "cp932"), ("utf-8", "latin-1"), ("utf-8", "euc_jp"), ("euc_jp", "cp932")],
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
        "絵文字👨‍👩‍👧と①㈱髙",
        "",
    ],
)
def test_honest_text_is_not_mojibake(text: str) -> None:
    assert not is_mojibake(text)


def test_character_classes_count_every_character_once() -> None:
    text = "ﾐﾅﾓ精機のハヤセは、Ａ４サイズ USB 12個。🎉"
    counts = character_classes(text)
    assert sum(counts.values()) == len(text)
    assert counts["halfwidth_kana"] == 3
    assert counts["kanji"] == 3
    assert counts["fullwidth_alnum"] == 2
    assert counts["other"] == 1
