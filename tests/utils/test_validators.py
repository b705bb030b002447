"""Personal data: found by pattern and check digit, masked, and numbers of other kinds left alone."""

from __future__ import annotations

from random import Random

import pytest

from mlx_finetuning.utils.validators import (
    is_control,
    is_luhn_valid,
    is_my_number,
    mask_personal_data,
    personal_data,
)
from support.japanese_rows import card, my_number


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        ("電話は03-1234-5678です", "phone", "03-1234-5678"),
        ("（０９０−１２３４−５６７８）", "phone", "０９０−１２３４−５６７８"),
        ("+81-90-1234-5678まで", "phone", "+81-90-1234-5678"),
        ("(03)1234-5678", "phone", "(03)1234-5678"),
        ("0120-123-456", "phone", "0120-123-456"),
        ("09012345678へ", "phone", "09012345678"),
        ("メールはa.b+c@mail.example.co.jpへ", "mail", "a.b+c@mail.example.co.jp"),
        ("〒100-0001 東京都", "postal_code", "〒100-0001"),
        ("郵便番号は1000001", "postal_code", "郵便番号は1000001"),
        ("4111 1111 1111 1111", "card", "4111 1111 1111 1111"),
        ("3782-822463-10005です", "card", "3782-822463-10005"),
        ("個人番号1234 5678 9018", "my_number", "1234 5678 9018"),
    ],
)
def test_personal_data_is_found_where_it_stands(text: str, kind: str, part: str) -> None:
    [found] = personal_data(text)
    assert (found.kind, text[found.start : found.end]) == (kind, part)


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-15 10:00から",
        "型番AB-1234-5678",
        "価格は1,234,567円、0.12345678倍",
        "ISBN978-4-06-519981-7",
        "4111 1111 1111 1112",
        "1234 5678 9012",
        "100-0001",
        "000-0000-0000",
        "@user さんへ",
        "",
    ],
)
def test_other_numbers_are_left_alone(text: str) -> None:
    assert personal_data(text) == []


def test_one_wrong_digit_breaks_the_check_digits() -> None:
    rng = Random(3)
    for _ in range(50):
        number, digits = my_number(rng), card(rng).replace(" ", "")
        assert is_my_number(number)
        assert is_luhn_valid(digits)
        at = rng.randrange(15)
        changed = digits[:at] + str((int(digits[at]) + 1) % 10) + digits[at + 1 :]
        assert not is_luhn_valid(changed)


def test_masking_names_the_kind_and_leaves_the_rest() -> None:
    text = "田中（a@example.jp、03-1234-5678）へ。"
    assert mask_personal_data(text) == "田中（【メールアドレス】、【電話番号】）へ。"
    assert mask_personal_data("番号なし") == "番号なし"


def test_control_characters_are_told_from_line_ends_and_emoji_parts() -> None:
    assert not any(map(is_control, "a\tb\r\nc👨\u200d👩葛\U000e0100"))
    assert all(map(is_control, "\x00\x85\u202e\u2028\ufffe"))
