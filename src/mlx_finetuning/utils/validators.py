"""Personal data in Japanese text: phone, mail, postal code, My Number, credit card.

Found by pattern and, where there is one, by check digit. Finds and masks; decides nothing. Names
and addresses need a dictionary and are not found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from mlx_finetuning.language import N_

# Full-width digits and the many dashes, one sign for one, so that positions stay.
_PLAIN = str.maketrans("０１２３４５６７８９＠．－−‐‑–ー（）　＋", "0123456789@.------() +")


class PersonalData(NamedTuple):
    """A stretch of a text that looks like personal data."""

    kind: str
    """A key of `KINDS_JA`."""
    start: int
    end: int
    """Where it stands in the text."""


KINDS_JA = {
    "mail": N_("メールアドレス"),
    "card": N_("クレジットカード番号"),
    "my_number": N_("マイナンバー"),
    "phone": N_("電話番号"),
    "postal_code": N_("郵便番号"),
}
"""As they are written into masked data; shown with `_`."""


def is_luhn_valid(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812)."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + index % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_my_number(digits: str) -> bool:
    """Whether twelve digits are a My Number, by the check digit of 総務省令第85号 (2014)."""
    if len(digits) != 12 or len(set(digits)) == 1:
        return False
    weighted = (int(d) * (n + 1 if n <= 6 else n - 5) for n, d in enumerate(digits[-2::-1], 1))
    remainder = sum(weighted) % 11
    return int(digits[-1]) == (0 if remainder <= 1 else 11 - remainder)


def _is_phone(digits: str) -> bool:
    """Ten digits, or eleven of a mobile, IP or toll-free number; the area code is not 00."""
    if digits.startswith("+81"):
        digits = "0" + digits[3:].removeprefix("0")
    if digits[1] == "0" or len(set(digits)) == 1:
        return False
    is_long = digits[:3] in ("050", "070", "080", "090") or digits.startswith("0800")
    return len(digits) == (11 if is_long else 10)


def _always(digits: str) -> bool:
    return True


# A number is not part of a longer one.
_BEFORE, _AFTER = r"(?<![\d+])(?<!\d[- ])", r"(?![- ]?\d)"
_AREA = r"(?:\+81[- ]?(?:\(0\))?\d{1,4}|\(0\d{1,4}\)|0\d{1,4})"
# Kind, pattern over plain digits, and a test of the digits (with a leading +). First come, first
# served: what is a card number is not taken for a phone number.
_PATTERNS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("mail", re.compile(r"[\w.%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", re.ASCII), _always),
    (
        "card",
        re.compile(rf"{_BEFORE}\d{{4}}([- ]?)\d{{4,6}}\1\d{{4,5}}(?:\1\d{{1,4}})?{_AFTER}"),
        lambda digits: 14 <= len(digits) <= 16 and digits[0] in "23456" and is_luhn_valid(digits),
    ),
    (
        "my_number",
        re.compile(rf"{_BEFORE}\d{{4}}([- ]?)\d{{4}}\1\d{{4}}{_AFTER}"),
        is_my_number,
    ),
    (
        "phone",
        re.compile(rf"{_BEFORE}{_AREA}[- (]?\d{{1,4}}[-) ]?\d{{3,4}}{_AFTER}"),
        _is_phone,
    ),
    ("postal_code", re.compile(r"(?:〒|郵便番号[は:：]?) ?\d{3}-?\d{4}(?!\d)"), _always),
)

_DIGIT = re.compile(r"\d")
_FEWEST_DIGITS = {"mail": 0, "card": 14, "my_number": 12, "phone": 10, "postal_code": 7}
"""Below which a text holds none: most texts are not searched at all."""


def personal_data(text: str) -> list[PersonalData]:
    """What looks like personal data, from left to right, without overlaps."""
    plain = text.translate(_PLAIN)
    items: list[PersonalData] = []
    digits = len(_DIGIT.findall(plain))
    if digits < _FEWEST_DIGITS["postal_code"] and "@" not in plain:
        return items
    for kind, pattern, holds in _PATTERNS:
        if digits < _FEWEST_DIGITS[kind]:
            continue
        for match in pattern.finditer(plain):
            is_free = all(match.end() <= item.start or item.end <= match.start() for item in items)
            if is_free and holds(re.sub(r"[^\d+]", "", match.group())):
                items.append(PersonalData(kind, match.start(), match.end()))
    return sorted(items, key=lambda item: item.start)


def mask_personal_data(text: str) -> str:
    """`text` with 【電話番号】 and the like in place of what `personal_data` finds."""
    for item in reversed(personal_data(text)):
        text = f"{text[: item.start]}【{KINDS_JA[item.kind]}】{text[item.end :]}"
    return text


def is_control(character: str) -> bool:
    """Whether nobody types it: C0 and C1 controls but tab and line ends, bidirectional marks, line and
    paragraph separators, noncharacters."""
    if character in "\t\n\r":
        return False
    code = ord(character)
    is_mark = (
        code in (0x061C, 0x200E, 0x200F) or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    )
    is_noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return is_mark or is_noncharacter or unicodedata.category(character) in ("Cc", "Zl", "Zp")
