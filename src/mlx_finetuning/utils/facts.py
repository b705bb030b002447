"""Numbers, dates, times and names in a Japanese text, in one notation, so that texts can be compared.

「令和8年十月五日」 and 「2026/10/05」 give the same facts, as do 「1万2千円」 and 「１２，０００円」. Names are told by what
they stand with (課, さん, 株式会社 …) or by lists of surnames and places: no dictionary is loaded, and a
name that neither shows is not seen.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from mlx_finetuning.utils.japanese_utils import normalised
from mlx_finetuning.utils.proper_names import PLACES, SURNAMES

_ERAS = {"令和": 2018, "平成": 1988, "昭和": 1925, "大正": 1911, "明治": 1867}
_ERA_LETTERS = dict(zip("RHSTM", _ERAS.values(), strict=True))
_DIGITS = {sign: value for value, sign in enumerate("〇一二三四五六七八九")} | {"零": 0}
_TENS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10_000, "億": 100_000_000}
_UNITS = (
    "年度 年 月 日間 日 時間 時 分間 分 秒 円 ドル 人 名 個 本 枚 台 件 回 度 歳 才 号室 号 番 階 泊 割 週間 週 か月 条 章 節 項 "
    "点 冊 部屋 箱 袋 つ 倍 営業日 % kg g mg km m cm mm L ml kW W V A dB GB MB TB 種類 種"
).split()
_UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_NO_NUMBER = (
    "十分(?=[なにでだ注配理考確検])|一時(?=[的停預保金間])|一部|一番|一度|一方|千葉|八百屋|三日月"
)
_KANJI_NUMBER = re.compile(
    rf"(?!{_NO_NUMBER})"
    rf"(?:(?<=第)|(?<![0-9.])(?=[〇零一二三四五六七八九十百千万億]+(?:{_UNIT}|パーセント|[ヶヵカケ箇]月)))[〇零一二三四五六七八九十百千万億]+"
)
_MIXED = re.compile(r"([0-9]+(?:\.[0-9]+)?)([万億千百])(?![0-9.]*[一二三四五六七八九])")
_MONTHS = re.compile(r"[ヶヵカケ箇か](?=月)")
_COMMA = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_FIRST_YEAR = re.compile(rf"({'|'.join(_ERAS)})元年")
_ERA_YEAR = re.compile(rf"({'|'.join(_ERAS)})\s*([0-9]{{1,2}})(?=\s*年)")
_ERA_LETTER = re.compile(
    r"(?<![A-Za-z])([RHSTM])\.?([0-9]{1,2})[./年]([0-9]{1,2})[./月]([0-9]{1,2})日?"
)
_DATE = re.compile(r"(?<![0-9])([12][0-9]{3})[/.-]([01]?[0-9])[/.-]([0-3]?[0-9])(?![0-9])")
_SHORT_DATE = re.compile(r"(?<![0-9/.])(1[0-2]|0?[1-9])/([12][0-9]|3[01]|0?[1-9])(?![0-9/])")
_CLOCK = re.compile(r"(?<![0-9:])([01]?[0-9]|2[0-4]):([0-5][0-9])(?![0-9:])")
_HALF = re.compile(r"(?<=[0-9]時)半")
_AFTERNOON = re.compile(r"(午前|午後)\s*([0-9]{1,2})(?=時)")
_CODE = re.compile(
    r"(?<![A-Za-z0-9])(?=[A-Za-z0-9-]*[0-9])(?:[A-Za-z]+-?[0-9][A-Za-z0-9-]*|0[0-9]{1,4}-[0-9]{1,4}-[0-9]{3,4})(?![A-Za-z0-9])"
)
_NUMBER = re.compile(rf"(第?)\s*([0-9]+(?:\.[0-9]+)?)\s*({_UNIT})?")
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)割([0-9])?分?")

_KANJI, _KATAKANA = "一-鿿々", "ァ-ヺー"
_NAMED = re.compile(
    rf"[{_KANJI}{_KATAKANA}A-Za-z]{{1,8}}(?:さん|様|氏|課長|部長|社長|係長|店長|委員長|委員|先生|課|部|係|室|支店|支社|営業所|"
    rf"本社|工場|市|県|町|村|区|駅|港|銀行|病院|大学|高校|商店|商事|株式会社|センター|事務所|窓口)(?![{_KANJI}])"
)
_GENERIC = re.compile(
    r"(?:本|各|当|全|同|一|他|両|何|どの|所属|担当|関係|該当|外|内|上|下|幹|支|大|小|学|分|半|後|前|中|毎|都|道|府|地|職|頭|胸|背|"
    r"皆|皆様|お客|客|利用者|保護者|相手|本人|仕|模|同|有|無|多|異|王|都道府|市区町|教|居|寝|浴|温|別|個|全)"
    r"(?:さん|様|氏|課|部|係|室|市|県|町|村|区|駅|港|支店|支社|先生|委員)"
)
_TITLE = re.compile("(?:さん|様|氏|課長|部長|社長|係長|店長|委員長|委員|先生)$")
_COMPANY = re.compile(rf"(?:株式会社|有限会社|合同会社)([{_KANJI}{_KATAKANA}ぁ-ゖA-Za-z]{{2,12}})")
_QUOTED = re.compile(r"[「『]([^「」『』]{2,30})[」』]")
_KATAKANA_WORD = re.compile(rf"[{_KATAKANA}]{{3,}}")
_LATIN_WORD = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2,}(?![A-Za-z0-9])")
_LISTED = re.compile("|".join(sorted((*SURNAMES, *PLACES), key=len, reverse=True)))
_TIMES = re.compile(
    r"[月火水木金土日]曜|毎日|毎週|毎月|毎年|隔週|隔月|四半期|月末|月初|年末|翌月|翌日|翌週|翌年|当日|前日|当月|前月"
)


@dataclass(frozen=True)
class Number:
    """A number and what it counts, which may not be said."""

    value: float
    unit: str = ""

    def stands_in(self, others: frozenset[Number]) -> bool:
        """Whether it is among others; one without a unit may count anything."""
        return any(
            other.value == self.value and (other.unit == self.unit or "" in (other.unit, self.unit))
            for other in others
        )

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}" if self.value < 1e6 else f"{self.value:.0f}{self.unit}"


def folded(text: str) -> str:
    """`text` for looking for a passage: NFKC, small letters, without spaces, signs between cells and
    punctuation."""
    plain = unicodedata.normalize("NFKC", normalised(text)).casefold()
    return "".join(sign for sign in plain if sign.isalnum() or sign in "%+")


def numbers(text: str) -> frozenset[Number]:
    """The numbers in a text, dates and times among them."""
    plain = _CODE.sub(" ", numeric(text))
    return frozenset(
        Number(float(found[2]), found[1] or _UNITS_ALIKE.get(found[3] or "", found[3] or ""))
        for found in _NUMBER.finditer(plain)
    )


_UNITS_ALIKE = {
    "年度": "年",
    "名": "人",
    "才": "歳",
    "日間": "日",
    "分間": "分",
    "週間": "週",
    "種類": "種",
}


def numeric(text: str) -> str:
    """`text` with its numbers, dates and times in one notation."""
    plain = normalised(text)
    plain = _COMMA.sub("", plain)
    plain = _FIRST_YEAR.sub(r"\g<1>1年", plain)
    plain = _KANJI_NUMBER.sub(lambda found: str(_kanji_value(found[0])), plain)
    plain = _MONTHS.sub("か", plain)
    for _ in range(3):  # 1万2千, 3億5000万
        plain = _MIXED.sub(
            lambda found: f"{float(found[1]) * (_TENS | _MYRIADS)[found[2]]:.0f}+", plain
        )
    plain = re.sub(
        r"[0-9]+(?:\+[0-9]+)+\+?",
        lambda found: str(sum(map(int, found[0].strip("+").split("+")))),
        plain,
    )
    plain = re.sub(r"(?<=[0-9])\+", "", plain)
    plain = _ERA_LETTER.sub(
        lambda found: (
            f"{_ERA_LETTERS[found[1]] + int(found[2])}年{int(found[3])}月{int(found[4])}日"
        ),
        plain,
    )
    plain = _ERA_YEAR.sub(lambda found: str(_ERAS[found[1]] + int(found[2])), plain)
    plain = _DATE.sub(lambda found: f"{found[1]}年{int(found[2])}月{int(found[3])}日", plain)
    plain = _SHORT_DATE.sub(lambda found: f"{int(found[1])}月{int(found[2])}日", plain)
    plain = _CLOCK.sub(
        lambda found: f"{int(found[1])}時" + (f"{int(found[2])}分" if int(found[2]) else ""), plain
    )
    plain = _HALF.sub("30分", plain)
    plain = _AFTERNOON.sub(
        lambda found: str(int(found[2]) + (12 if found[1] == "午後" and int(found[2]) < 12 else 0)),
        plain,
    )
    plain = _SHARE.sub(lambda found: f"{float(found[1]) * 10 + int(found[2] or 0):g}%", plain)
    return plain.replace("パーセント", "%")


def _kanji_value(text: str) -> int:
    """三千五百 and 二〇二六 as numbers."""
    if not any(sign in _TENS or sign in _MYRIADS for sign in text):
        return int("".join(str(_DIGITS[sign]) for sign in text))
    total = section = digit = 0
    for sign in text:
        if sign in _DIGITS:
            digit = digit * 10 + _DIGITS[sign]
        elif sign in _TENS:
            section += (digit or 1) * _TENS[sign]
            digit = 0
        else:
            total += (section + digit or 1) * _MYRIADS[sign]
            section = digit = 0
    return total + section + digit


def names(text: str) -> Iterator[str]:
    """What a text names: people, departments, companies, places, products, codes, days of the week,
    each as it is written."""
    plain = normalised(text)
    for found in _NAMED.finditer(plain):
        if not _GENERIC.fullmatch(found[0]):
            yield _TITLE.sub("", found[0])
    for pattern in (_COMPANY, _QUOTED):
        yield from (found[1] for found in pattern.finditer(plain))
    for pattern in (_CODE, _KATAKANA_WORD, _LATIN_WORD, _LISTED, _TIMES):
        yield from (found[0] for found in pattern.finditer(plain))


_TERM = re.compile(rf"[{_KANJI}]+|[{_KATAKANA}]{{2,}}|[A-Za-z0-9]+")
_ASKING = re.compile(
    r"何[時日月年人回個円枚本冊台歳泊階件名]?間?|誰|幾|教え|下さい|願い|説明|質問|回答|場合|必要"
)
_SUBJECT = re.compile(
    rf"{_TERM.pattern.replace(']+|', ']{2,}|', 1)}|[{_KANJI}](?=[はがをのでともへに、?])"
)


def terms(text: str) -> list[str]:
    """What a text says: its words in kanji, katakana and Latin letters, but for those that ask."""
    return _TERM.findall(_ASKING.sub(" ", numeric(text)).casefold())


def has_subject(question: str) -> bool:
    """Whether a question says what it is about: kanji that a verb begins with do not."""
    return _SUBJECT.search(_ASKING.sub(" ", numeric(question))) is not None
