"""The same question with a noun and with a verb: 「いつ設立されましたか」 asks for 「設立の時期」, and for the
「返品期限」 one asks 「返品はいつまでですか」.

By grammar and by the last word of a noun, whatever the business. A question that no pattern knows is
left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import Formatter

from mlx_finetuning.data_processor.wordings.verbs import plain_past, plain_present

Forms = tuple[tuple[str, tuple[str, ...]], ...]
_AMOUNTS = {
    word: noun
    for line in (
        "曜日 曜日 日間 日数 日 日数 年間 年数 年 年 か月 月数 時間 時間 分 時間 人 人数 名 人数 円 金額 台 台数",
        "個 個数 回 回数 枚 枚数 冊 冊数 番 番号 階 階",
        "度 温度 歳 年齢 いつ 時期 どこ 場所 誰 人 どなた 人 いくら 金額",
    )
    for word, noun in zip(line.split()[::2], line.split()[1::2], strict=True)
}
"""By what is counted, or the word that asks: what is asked for."""
_COUNTED = "|".join(sorted(_AMOUNTS, key=len)[::-1])
_STEM = r"(?P<stem>(?:(?!どれ|どの|いつ|いくら|まで|から)[^、。何])+?)"
_DO = rf"{_STEM}ま(?:す|し(?P<past>た))か$"
_CAN = r"(?P<stem>[^、。何]*(?:[えけげせてねべめれ]|でき))(?P<past>)ますか$"
_BE = r"(?:あり|い|いらっしゃい|ござい)ますか$"
_IS = r"(?:です|でしょう)か$"
_GOOD = rf"(?:いい|よい|よろしい){_IS}"
_OF = r"^(?P<of>[^、。は]+?)"
_SELF = rf"{_OF}(?<![にでへとのるうくぐすつぬぶむ])は"
_NOUN = r"(?P<noun>[^をにがではのへと、。何]{2,})"
_HOW_MANY = rf"(?:いくつ|何(?P<unit>{_COUNTED})(?![前後分目]))(?:以内|まで|から|ほど|くらい)?"

NOUNS: Forms = (
    (rf"{_OF}のは何?(?P<unit>{_COUNTED}){_IS}", ("{of}{amount}",)),
    (
        rf"{_SELF}(?:どうやって|どのように){_DO}",
        ("{of}の{does}方法", "{of}の{does}のしかた", "{of}を{clause}方法"),
    ),
    (
        rf"{_OF}(?:には|ときは|ときには|場合は)(?:どうすれば|どうしたら|何をすれば){_GOOD}",
        ("{act}方法", "{act}手順"),
    ),
    (rf"{_SELF}(?:どうすれば|どうしたら){_GOOD}", ("{of}の方法", "{of}のしかた")),
    (
        rf"{_OF}(?:には|では|は|で)(?:どんな|どのような|どういう){_NOUN}[がをに]{_BE}",
        ("{of}の{noun}",),
    ),
    (
        rf"{_OF}(?:には|では|は|で)(?:どんな|どのような|どういう){_NOUN}[がをに]{_DO}",
        ("{of}で{clause}{noun}", "{of}の{noun}"),
    ),
    (
        rf"{_OF}(?:には|では|に|で|は){_NOUN}[がは]{_HOW_MANY}{_BE}",
        ("{of}の{noun}の{amount}", "{of}の{noun}の数"),
    ),
    (rf"{_OF}に?は{_HOW_MANY}{_BE}", ("{of}の{amount}",)),
    (rf"{_OF}(?:には|に|は){_HOW_MANY}かかりますか$", ("{of}にかかる{amount}",)),
    (rf"{_OF}では?{_HOW_MANY}の?(?:人が|方が)?{_DO}", ("{of}で{clause}{amount}",)),
    (rf"{_SELF}{_HOW_MANY}(?:なら|で)?{_CAN}", ("{of}を{clause}{amount}",)),
    (rf"{_SELF}何(?P<unit>年|日|曜日)に{_DO}", ("{of}が{clause}{amount}",)),
    (
        rf"{_SELF}何時(?:から|まで)(?:何時まで)?{_DO}",
        ("{of}が{clause}時間", "{of}の{does}時間"),
    ),
    (rf"{_SELF}いつまで(?:でき|受け付けてい)ますか$", ("{of}の期限", "{of}の締め切り")),
    (rf"{_SELF}いつまでに?{_STEM}(?:ますか|ば{_GOOD})$", ("{of}の{does}の期限",)),
    (rf"{_SELF}いつ(?:ごろ|頃)?{_DO}", ("{of}が{clause}時期", "{of}の{does}の時期")),
    (rf"{_SELF}いくら(?:で(?:買え|売ってい|購入でき)|し)ますか$", ("{of}の値段", "{of}の価格")),
    (
        rf"{_OF}(?<![にのるうくぐすつぬぶむ])(?:には|に|は)お金[はが]かかりますか$",
        ("{of}にかかるお金",),
    ),
    (
        rf"{_OF}(?<![にのるうくぐすつぬぶむ])(?:には|に|は)(?:(?:料金|費用)[はが]|いくら)かかりますか$",
        ("{of}の費用", "{of}の料金"),
    ),
    (rf"{_OF}ときはどこ(?:に|へ){_DO}", ("{of}ときに{clause}ところ", "{of}ときの{does}先")),
    (rf"{_SELF}どこ(?:で|から){_DO}", ("{of}を{clause}ところ", "{of}の{does}先")),
    (rf"{_OF}には?{_NOUN}は{_BE}", ("{of}の{noun}",)),
)
"""Forms of questions, and what they ask for as a noun; the first that fits counts."""

_WHOLE = r"^(?P<topic>(?:(?P<of>.+)の)?"
_DOING = r"(?P<stem>[一-龯]{2}|[ァ-ヴー]{3,}|[一-龯][一-龯ぁ-ん]*[いちりきしけえめべれ])"
VERBS: Forms = (
    (
        rf"{_WHOLE}(?P<stem>営業|受付|受け付け|開館|開店|診療|利用|取扱|販売|相談)時間)$",
        ("{topic}は何時から何時までですか", "{of}は何時まで{stem}していますか"),
    ),
    (
        rf"{_WHOLE}(?:定休日|休業日|休館日|休診日|休園日|休みの日|お?休み))$",
        ("{of}はいつ休みですか", "{of}が休むのはいつですか", "{topic}は何曜日ですか"),
    ),
    (
        rf"{_WHOLE}(?P<stem>設立|創立|創業|発売|開始|公開|発行|完成|開店|開業)(?:された)?の?(?:時期|年|日))$",
        ("{of}はいつ{stem}されましたか", "{of}が{stem}されたのはいつですか", "{topic}はいつですか"),
    ),
    (
        rf"{_WHOLE}(?![^の]*休)[^の]*[一-龯ァ-ヴーた](?:日|年|時期))$",
        ("{topic}はいつですか", "{topic}はいつになりますか"),
    ),
    (rf"{_WHOLE}[^の]*番号)$", ("{topic}は何番ですか", "{topic}は何番になりますか")),
    (
        rf"{_WHOLE}(?P<stem>[^の]*[員客者])の?(?:人数|数))$",
        ("{of}の{stem}は何人ですか", "{of}には{stem}が何人いますか", "{of}の{stem}は何名ですか"),
    ),
    (
        rf"{_WHOLE}(?:価格|値段))$",
        ("{of}はいくらですか", "{of}はいくらで買えますか", "{of}を買うのにいくら要りますか"),
    ),
    (
        rf"{_WHOLE}[^の給]*(?:料金|料|費用|費))$",
        ("{topic}はいくらですか", "{topic}はいくらかかりますか", "{topic}はいくら払えばいいですか"),
    ),
    (
        rf"{_WHOLE}{_DOING}の?(?:期限|期間))$",
        (
            "{of}の{stem}はいつまでですか",
            "{topic}はいつまでですか",
            "{topic}はどのくらいですか",
        ),
    ),
    (rf"{_WHOLE}[^の]*(?:期限|締め切り))$", ("{topic}はいつまでですか",)),
    (
        rf"{_WHOLE}{_DOING}の?(?:方法|しかた|手順|手続き))$",
        (
            "{of}の{stem}はどうすればいいですか",
            "{of}の{stem}はどうやりますか",
            "{of}の{stem}は何をすればいいですか",
        ),
    ),
    (rf"{_WHOLE}(?:住所|所在地|場所))$", ("{of}はどこですか", "{of}はどこにありますか")),
    (
        rf"{_WHOLE}[^の]*(?:駅|窓口|入口|会場))$",
        ("{topic}はどこですか", "{topic}はどこになりますか"),
    ),
    (
        rf"{_WHOLE}(?P<stem>[^の]*(?:社長|代表|代表者|取締役|担当|担当者|責任者|会長|店長|校長|院長))(?:のお?名前)?)$",
        ("{of}の{stem}は誰ですか", "{of}の{stem}はどなたですか", "{of}の{stem}は何という方ですか"),
    ),
)
"""Last words of nouns, and how people ask for them without saying them."""


def named(body: str) -> list[str]:
    """What a question with a verb asks for, as noun phrases; `body` has no mark behind it."""
    return _filled(NOUNS, body)


def with_verbs(topic: str) -> list[str]:
    """Questions for a noun phrase with a verb or a word that asks, without a mark behind them."""
    return _filled(VERBS, topic)


def _filled(forms: Forms, text: str) -> list[str]:
    for pattern, templates in forms:
        if found := re.search(pattern, text):
            parts = dict(_parts(found))
            return [
                template.format(**parts)
                for template in templates
                if all(parts.get(name) for _, name, _, _ in Formatter().parse(template) if name)
            ]
    return []


def _parts(found: re.Match[str]) -> Iterator[tuple[str, str]]:
    """What templates may name, as far as there is any of it."""
    groups = {name: text or "" for name, text in found.groupdict().items()}
    yield from groups.items()
    stem, of = groups.get("stem", ""), groups.get("of", "")
    # 「開いてる」 is how one speaks; before a noun it is written out.
    present = f"{stem}る" if stem.endswith(("てい", "でい")) else plain_present(stem)
    present = "する" if stem == "し" else present
    yield "clause", plain_past(stem) if groups.get("past") else present
    does = re.fullmatch(r"([一-龯]{2,4}|[ァ-ヴー]{3,})(?:し|され|でき|してい|すれ)", stem)
    yield "does", does[1] if does else ""
    yield "amount", _AMOUNTS.get(groups.get("unit", ""), "")
    yield "act", plain_present(of.removesuffix("たい")) if of.endswith("たい") else of
