"""Numbers of a workbook as a person sees them: 00123, 2024年1月5日, 10:30, 12.5%, 1.50.

Follows the number formats of ECMA-376 (part 1, 18.8.30 and 18.8.31) with the built-in ones of a
Japanese Excel. Fractions and colours are not rendered; a format that cannot be followed gives the
plain number.
"""

from __future__ import annotations

import datetime
import functools
import operator
import re
from decimal import ROUND_HALF_UP, Decimal

GENERAL = "General"
# What the format ids mean where the file does not say, in a Japanese Excel.
_ERA_DATE, _LONG_DATE = "[$-411]ge.m.d", '[$-411]ggge"年"m"月"d"日"'
_YEAR_MONTH, _MONTH_DAY = 'yyyy"年"m"月"', 'm"月"d"日"'
BUILT_IN: dict[int, str] = {
    **dict(enumerate((GENERAL, "0", "0.00", "#,##0", "#,##0.00"))),
    **dict.fromkeys((5, 6), '"¥"#,##0;"¥"-#,##0'),
    **dict.fromkeys((7, 8), '"¥"#,##0.00;"¥"-#,##0.00'),
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    14: "yyyy/m/d",
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: "yyyy/m/d h:mm",
    30: "m/d/yy",
    31: 'yyyy"年"m"月"d"日"',
    32: 'h"時"mm"分"',
    33: 'h"時"mm"分"ss"秒"',
    **dict.fromkeys((27, 36, 50, 57), _ERA_DATE),
    **dict.fromkeys((28, 29, 51, 54, 58), _LONG_DATE),
    **dict.fromkeys((34, 52, 55), _YEAR_MONTH),
    **dict.fromkeys((35, 53, 56), _MONTH_DAY),
    **dict.fromkeys((37, 38), "#,##0;-#,##0"),
    **dict.fromkeys((39, 40), "#,##0.00;-#,##0.00"),
    **dict.fromkeys((41, 42), "#,##0"),
    **dict.fromkeys((43, 44), "#,##0.00"),
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
    48: "##0.0E+0",
    49: "@",
}
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|_.|\*.|\[(?P<bracket>[^\]]*)\]'
    r"|(?P<halfday>AM/PM|A/P|上午/下午)|(?P<date>[yY]+|[mM]+|[dD]+|[hH]+|[sS]+(?:\.0+)?|g+|e+|a{3,4}|[bB]\d?)"
    r"|(?P<exponent>E[+-]0+)|(?P<digits>[0#?][0#?,]*(?:\.[0#?]*)?|\.[0#?]+)|(?P<general>General)"
    r"|(?P<other>.)",
    re.DOTALL,
)
_SECTION = re.compile(r'(?:"[^"]*"|\\.|\[[^\]]*\]|[^;])*')
_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "<>": operator.ne,
}
_ELAPSED = re.compile(r"h+|m+|s+", re.IGNORECASE)
_CONDITION = re.compile(r"\[(<=|>=|<>|<|>|=)(-?[\d.]+)\]")
# First days of the eras, the latest first.
_ERAS = (
    (datetime.date(2019, 5, 1), "令和", "R"),
    (datetime.date(1989, 1, 8), "平成", "H"),
    (datetime.date(1926, 12, 25), "昭和", "S"),
    (datetime.date(1912, 7, 30), "大正", "T"),
    (datetime.date(1868, 1, 25), "明治", "M"),
)
_WEEKDAYS = "月火水木金土日"
_DAYS_OF_1904 = 1462

Token = tuple[str, str]


def shown(number: float, code: str, *, is_1904: bool = False) -> str:
    """`number` in the number format `code`; dates are days since 1900, or 1904."""
    if code in (GENERAL, "@", ""):
        return plain(number)
    sections = split(code)
    value = number
    conditions = [_CONDITION.search(part) for part in sections[:2]]
    if any(conditions):
        section = sections[min(2, len(sections) - 1)]
        for part, condition in zip(sections, conditions, strict=False):
            if condition and _COMPARE[condition[1]](number, float(condition[2])):
                section = part
                break
    elif number < 0 and len(sections) > 1:
        section, value = sections[1], -number  # which writes its own sign
    else:
        section = sections[2] if number == 0 and len(sections) > 2 else sections[0]
    tokens = tokens_of(section)
    kinds = {kind for kind, _ in tokens}
    try:
        if "date" in kinds or "elapsed" in kinds:
            return date_text(number, tokens, is_1904=is_1904)
        if "digits" not in kinds:
            texts = (plain(value) if kind == "general" else text for kind, text in tokens)
            return "".join(texts).strip() if tokens and "/" not in section else plain(number)
        return number_text(value, tokens) if "/" not in section else plain(number)
    except (ArithmeticError, ValueError):
        return plain(number)


def plain(number: float) -> str:
    """Up to 15 digits, as many as a sheet keeps, and no exponent."""
    if isinstance(number, int) or float(number).is_integer():
        return str(int(number)) if abs(number) < 1e21 else repr(float(number))
    text = f"{number:.15g}"
    return format(Decimal(text), "f") if "e" in text and abs(number) > 1e-9 else text


@functools.lru_cache(256)
def split(code: str) -> list[str]:
    """The sections of a format: for positive numbers, negative ones, zero and text."""
    sections, at = [], 0
    while at <= len(code):
        match = _SECTION.match(code, at)
        part = match[0] if match else ""
        sections.append(part)
        at += len(part) + 1
    return sections


@functools.lru_cache(256)
def tokens_of(section: str) -> list[Token]:
    """Kind and text; literals of every spelling are `text`."""
    tokens: list[Token] = []
    for match in _TOKEN.finditer(section):
        kind, text = match.lastgroup, match[0]
        if kind == "bracket":
            inside = match["bracket"]
            if _ELAPSED.fullmatch(inside):
                tokens.append(("elapsed", inside.lower()))
            elif inside.startswith("$"):
                tokens.append(("text", inside[1:].split("-")[0]))
        elif kind in ("quoted", "escaped"):
            tokens.append(("text", match[kind]))
        elif kind == "date":
            tokens.append(("date", text if text[0] in "gea" else text.lower()))
        elif kind == "other":
            tokens.append(("percent" if text in "%％" else "text", text))
        elif kind:
            tokens.append((kind, text))
    return tokens


def number_text(number: float, tokens: list[Token]) -> str:
    """A number by its placeholders: leading zeros, decimals, thousands, percent, exponent."""
    pattern = next(text for kind, text in tokens if kind == "digits")
    exponent = next((text for kind, text in tokens if kind == "exponent"), "")
    value = Decimal(f"{number:.15g}") * 100 ** sum(kind == "percent" for kind, _ in tokens)
    whole, _, decimals = pattern.partition(".")
    scale = len(whole) - len(whole.rstrip(","))
    value /= Decimal(1000) ** scale
    power = 0
    if exponent and value:
        power = value.adjusted()
        value = value.scaleb(-power)
    rounded = value.quantize(Decimal(1).scaleb(-len(decimals)), ROUND_HALF_UP)
    sign, figures = ("-" if rounded < 0 else ""), format(abs(rounded), "f")
    left, _, right = figures.partition(".")
    needed = whole.count("0")
    left = left.lstrip("0").rjust(needed, "0")
    while (
        right
        and len(decimals) >= len(right)
        and decimals[len(right) - 1] in "#?"
        and right[-1] == "0"
    ):
        right = right[:-1]
    if "," in whole.rstrip(","):
        left = re.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",", left)
    shown_number = f"{left}.{right}" if right or (decimals and "0" in decimals) else left
    groups = [text for kind, text in tokens if kind == "digits"]
    if len(groups) > 1 and "." not in pattern:  # 000-0000: digits fill the groups from the right
        left = left.rjust(sum(text.count("0") for text in groups), "0")
        fills = []
        for text in reversed(groups[1:]):
            fills.append(left[-len(text) :])
            left = left[: -len(text)]
        shown_number, rest = left, fills
    else:
        rest = [""] * (len(groups) - 1)
    fill = [sign + shown_number, *reversed(rest)]
    parts = []
    for kind, text in tokens:
        if kind == "digits":
            parts.append(fill.pop(0))
        elif kind == "exponent":
            mark = "+" if text[1] == "+" and power >= 0 else "-" if power < 0 else ""
            parts.append(f"E{mark}{abs(power):0{len(text) - 2}d}")
        else:
            parts.append(text)
    return "".join(parts).strip()


def date_text(number: float, tokens: list[Token], *, is_1904: bool) -> str:
    """A date or time by its letters. Raises ValueError, OverflowError where there is no such date."""
    days = number + (_DAYS_OF_1904 if is_1904 else 0)
    if days < 0 or days >= 2958466:
        raise ValueError(number)
    has_tenths = any(text.startswith(("s.", "ss.")) for _, text in tokens)
    ticks = round(days * 86_400_000) if has_tenths else round(days * 86_400) * 1000
    whole, ms = divmod(ticks, 86_400_000)
    # Day 60 is the 29th of February 1900, which never was.
    date = datetime.date(1899, 12, 30) + datetime.timedelta(days=whole + (0 < whole < 60))
    hour, minute, second = ms // 3_600_000, ms // 60_000 % 60, ms % 60_000 / 1000
    half = any(kind == "halfday" for kind, _ in tokens)
    marks = [at for at, (kind, text) in enumerate(tokens) if kind in ("date", "elapsed")]
    parts = []
    for at, (kind, text) in enumerate(tokens):
        if kind == "halfday":
            parts.append("AM" if hour < 12 else "PM")
        elif kind == "elapsed":
            unit = {"h": 3_600_000, "m": 60_000, "s": 1000}[text[0]]
            parts.append(f"{ticks // unit:0{len(text)}d}")
        elif kind == "date":
            before = [tokens[mark][1] for mark in marks if mark < at]
            after = [tokens[mark][1] for mark in marks if mark > at]
            is_minute = text in ("m", "mm") and (
                (bool(before) and before[-1][0] == "h") or (bool(after) and after[0][0] == "s")
            )
            if is_minute:
                parts.append(f"{minute:0{len(text)}d}")
            elif text[0] == "h":
                parts.append(f"{(hour % 12 or 12) if half else hour:0{len(text)}d}")
            elif text[0] == "s":
                size, _, tenths = text.partition(".")
                width = len(size) + (1 + len(tenths) if tenths else 0)
                parts.append(f"{second:0{width}.{len(tenths)}f}")
            else:
                parts.append(_day_part(date, text))
        else:
            parts.append("." if kind == "digits" else text)
    return "".join(parts).strip()


def _day_part(date: datetime.date, letters: str) -> str:
    """One group of letters of a date: year, month, day, weekday or era."""
    era = next((era for era in _ERAS if date >= era[0]), _ERAS[-1])
    match letters[0]:
        case "y":
            return f"{date.year:04d}" if len(letters) > 2 else f"{date.year % 100:02d}"
        case "m":
            names = {3: date.strftime("%b"), 4: date.strftime("%B"), 5: date.strftime("%b")[0]}
            return names.get(len(letters), f"{date.month:0{min(len(letters), 2)}d}")
        case "d":
            names = {3: date.strftime("%a"), 4: date.strftime("%A")}
            return names.get(len(letters), f"{date.day:0{min(len(letters), 2)}d}")
        case "a":
            return _WEEKDAYS[date.weekday()] + ("曜日" if len(letters) > 3 else "")
        case "g":
            return {1: era[2], 2: era[1][0]}.get(len(letters), era[1])
        case "e":
            return f"{date.year - era[0].year + 1:0{len(letters)}d}"
    return ""
