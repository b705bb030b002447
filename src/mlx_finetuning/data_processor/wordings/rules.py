"""Other wordings of Japanese questions by rules: endings, politeness, keywords, order, nouns and verbs,
slips.

A rule knows one form of question and leaves others alone, so that what it gives means the same. The
nouns of a question stay as they are, but for synonyms of common business words. Deterministic for a
question and a seed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from mlx_finetuning.data_processor.wordings import forms
from mlx_finetuning.data_processor.wordings.kinds import KINDS_JA, Wording
from mlx_finetuning.data_processor.wordings.verbs import plain_past, plain_present

_TAIL = re.compile(r"[\s。．.？?！!]+$")
_TELL = re.compile(
    r"(?:を|について)(?:お?教えて(?:ください|くださいませんか|いただけますか|もらえますか|ほしいです)"
    r"|お?知りたい(?:です|のですが)|お?聞きしたい(?:です|のですが)|聞きたいです|お願いします)$"
)
_WHAT = r"(?:何|なん|誰|だれ|どなた|どこ|どちら|いつ|いくら|おいくら|いくつ|どれ|どのくらい|どれくらい|何[人名年月日時分円台個回度階番曜][日目間]?)"
_IS = re.compile(
    rf"^(?P<topic>[^、はがを]+の[^、はがを]+)は(?P<what>{_WHAT}(?:から|まで|頃|ごろ|ほど)?(?:{_WHAT}まで)?)"
    r"(?:です|でしょう|になります)か$"
)
_HAS = re.compile(r"^(?P<topic>.+?)は(?P<what>どこ|どちら)に(?:あり|ござい)ますか$")
_DOES = re.compile(r"^(?P<stem>.+?)(?:ます|まし|です|でしょう|でし)(?P<past>た)?か$")
_WHAT_WORDS = re.compile(_WHAT)
_PARTICLE = re.compile(
    r"(?<=[一-龯々ァ-ヴーa-zA-Z0-9」』])(?:の|は|を|が|に|で|って|へ)(?=[一-龯々ァ-ヴa-zA-Z0-9「『])"
)
_KEYWORD = re.compile(rf"何[一-龯]*|{_WHAT}|「[^」]+」|[一-龯々ァ-ヴー0-9a-zA-Z]{{2,}}")
_SAYS_NOTHING = re.compile(
    r"(?:[のはがをにでへとも、か]|です|ます|でしょう|あり|い|いらっしゃい|なり|し)*"
)
_OWNER = re.compile(r"[^にをでへがはと、]*[一-龯々ァ-ヴー」』a-zA-Z0-9]")
"""Words of which one can say 「…の件です」."""
_PLACES_JA = {"どこ": "場所", "どちら": "場所"}
_PREFACES = (
    "お世話になっております。確認したいことがあり、ご連絡しました。",
    "初めて問い合わせます。調べてもわからなかったので、教えてください。",
    "急ぎではないのですが、気になっていることがあります。",
    "友人に聞かれて答えられなかったので、確認させてください。",
)
_OPENINGS = ("すみません、", "ちょっと聞きたいのですが、", "質問です。", "あの、")


@dataclass(frozen=True)
class Parts:
    """A question taken apart; what does not apply is empty."""

    body: str
    """Without the marks behind it."""
    topic: str = ""
    """What is asked about, as a noun phrase: 「ミナモ精機の定休日」."""
    what: str = ""
    """The word that asks: 「いつ」."""
    nouns: tuple[str, ...] = ()
    """What is asked for with a verb, as noun phrases: 「ミナモ精機が設立された時期」."""

    @property
    def noun(self) -> str:
        """What is asked for as a noun phrase, however it was asked."""
        return self.topic or next(iter(self.nouns), "")


def parts_of(question: str) -> Parts:
    """How a question is built, as far as the rules know it."""
    body = _TAIL.sub("", question.strip())
    if "\n" in body or "。" in body:
        return Parts(body)  # several sentences: only what stands around them can change
    if told := _TELL.search(body):
        return Parts(body, body[: told.start()])
    if found := _HAS.match(body):
        return Parts(body, f"{found['topic']}の{_PLACES_JA[found['what']]}")
    if found := _IS.match(body):
        return Parts(body, found["topic"], found["what"])
    return Parts(body, nouns=tuple(forms.named(body)))


Rule = Callable[[Parts, Random], Iterator[str]]


def polite(parts: Parts, rng: Random) -> Iterator[str]:
    """As one asks a stranger."""
    if parts.noun:
        yield f"{parts.noun}を教えていただけますか？"
        yield f"恐れ入りますが、{parts.noun}を教えていただけないでしょうか。"
        yield f"{parts.noun}についてお伺いしたいのですが。"
    if parts.topic and parts.what:
        yield f"{parts.topic}は{parts.what}でしょうか？"
    if parts.body.endswith("ばいいですか"):
        yield f"{parts.body.removesuffix('いいですか')}よろしいでしょうか？"
    elif parts.body.endswith("ですか"):
        yield f"{parts.body.removesuffix('ですか')}でしょうか？"
    elif parts.body.endswith("ますか"):
        yield f"恐れ入りますが、{parts.body}？"
        yield f"{parts.body.removesuffix('ますか')}ますでしょうか？"


def casual(parts: Parts, rng: Random) -> Iterator[str]:
    """As one asks a friend."""
    if parts.noun:
        yield f"{parts.noun}って{parts.what or 'どうなってる'}？"
        yield f"{parts.noun}教えて"
        yield f"{parts.noun}が知りたいんだけど"
    found = _DOES.match(parts.body)
    if found is None or parts.topic:
        return
    stem, ending = found["stem"], parts.body[len(found["stem"]) :]
    if ending == "ますか" and (verb := plain_present(stem)):
        yield f"{verb}？"
        yield f"{verb}の？"
    elif ending == "ましたか" and (verb := plain_past(stem)):
        yield f"{verb}？"
    elif ending in ("ですか", "でしょうか"):
        yield f"{stem}？" if stem.endswith(("い", "の")) else f"{stem}なの？"


def keyword(parts: Parts, rng: Random) -> Iterator[str]:
    """As one asks a search engine."""
    if parts.noun:
        words = _PARTICLE.sub(" ", parts.noun)
        yield words
        yield f"{words} {parts.what or '教えて'}"
        return
    words = " ".join(found[0] for found in _KEYWORD.finditer(parts.body))
    # Other verbs say something that a list of nouns would not.
    if " " in words and _SAYS_NOTHING.fullmatch(_KEYWORD.sub("", parts.body)):
        yield words


def asked(parts: Parts, rng: Random) -> Iterator[str]:
    """By another form of question."""
    if not parts.noun:
        return
    yield f"{parts.noun}を教えてください。"
    if parts.what:
        yield f"{parts.noun}がわかりません。{parts.what}ですか？"
    yield f"{parts.noun}は？"
    yield f"{parts.noun}を知りたいです。"
    yield f"{parts.noun}はどうなっていますか？"


def recast(parts: Parts, rng: Random) -> Iterator[str]:
    """With a noun for a verb, with a verb or a word that asks for a noun."""
    for question in forms.with_verbs(parts.topic) if parts.topic else ():
        yield f"{question}？"
    for noun in parts.nouns:
        yield f"{noun}を教えてください。"
        yield f"{noun}は？"


def order(parts: Parts, rng: Random) -> Iterator[str]:
    """With its words in another order."""
    owner, _, rest = parts.topic.partition("の")
    if rest and len(owner) > 1:
        yield f"{owner}についてですが、{rest}{f'は{parts.what}ですか？' if parts.what else 'を教えてください。'}"
        yield f"{rest}を教えてください。{owner}のです。"
    if parts.what and parts.topic:
        yield f"{parts.what}ですか、{parts.topic}は？"
    owner, mark, rest = parts.body.partition("は")
    is_noun = _OWNER.fullmatch(owner) and not _WHAT_WORDS.search(owner)
    if not parts.topic and mark and len(rest) > 4 and is_noun:
        yield f"{owner}の件です。{rest}？"


def long(parts: Parts, rng: Random) -> Iterator[str]:
    """With what people say before they ask."""
    mark = "" if _TELL.search(parts.body) and not parts.body.endswith("か") else "？"
    ended = f"{parts.body}{mark or '。'}"
    for preface in rng.sample(_PREFACES, len(_PREFACES)):
        yield f"{preface}{ended}よろしくお願いします。"
    for opening in rng.sample(_OPENINGS, len(_OPENINGS)):
        yield f"{opening}{ended}"


SYNONYMS: tuple[tuple[str, ...], ...] = tuple(
    tuple(line.split())
    for line in (
        "営業時間 開いている時間 営業している時間",
        "定休日 休みの日 休業日",
        "所在地 住所 場所",
        "電話番号 電話の番号",
        "メールアドレス メールの宛先",
        "社長 代表者 代表取締役",
        "設立年 設立された年 できた年",
        "社員数 従業員数 社員の人数",
        "価格 値段 料金",
        "保証期間 保証の期間 保証の年数",
        "送料 配送料 送るときの料金",
        "返品期限 返品できる期間 返品の期限",
        "支払い方法 決済方法 払い方",
        "納期 届くまでの期間",
        "最寄り駅 一番近い駅 近くの駅",
        "駐車場 車を止める場所",
        "予約方法 予約のしかた 予約の方法",
        "問い合わせ窓口 相談窓口 問い合わせ先",
        "申請方法 申請のしかた 申し込み方法",
        "締め切り 期限 締切",
        "有給休暇 有休 年休",
        "手当 手当て",
    )
)
"""Words of company FAQs that may stand for each other in a question; each is a noun phrase."""


def synonym(parts: Parts, rng: Random) -> Iterator[str]:
    """With another word for what is asked."""
    for noun in filter(None, (parts.topic, *parts.nouns)):
        for group in SYNONYMS:
            # The longest first: 「返品の期限」 holds 「期限」.
            fitting = (word for word in sorted(group, key=len)[::-1] if noun.endswith(word))
            head = noun.removesuffix(written := next(fitting, ""))
            if written and (not head or head.endswith("の")):
                for other in rng.sample(group, len(group)):
                    if other != written:
                        yield f"{head}{other}を教えてください。"
                        yield f"{head}{other}は？"
                break


def name(parts: Parts, rng: Random) -> Iterator[str]:
    """With the name alone of what is named in quotes: 「ノギス「ハヤセ」の」 as 「ハヤセの」."""
    mark = "" if _TELL.search(parts.body) else "？"
    pattern = _QUOTED if re.search(_QUOTED, parts.body) else r"「([^」]+)」"
    for by in (r"\1", r"「\1」"):
        if (text := re.sub(pattern, by, parts.body)) != parts.body:
            yield f"{text}{mark}"


_QUOTED = r"[ァ-ヴー一-龯々a-zA-Z]+の?「([^」]+)」"
"""A name in quotes with the kind of thing before it."""


def kana(parts: Parts, rng: Random) -> Iterator[str]:
    """With words of kanji in kana."""
    text = _READ.sub(lambda found: _READINGS[found[0]], parts.body)
    if text != parts.body:
        yield f"{text}？" if text.endswith("か") else text


_READINGS = {
    word: sound
    for line in (
        "営業時間 えいぎょうじかん 定休日 ていきゅうび 住所 じゅうしょ 場所 ばしょ 電話番号 でんわばんごう",
        "電話 でんわ 番号 ばんごう 社長 しゃちょう 代表 だいひょう 価格 かかく 値段 ねだん 料金 りょうきん",
        "送料 そうりょう 返品 へんぴん 期限 きげん 支払い しはらい 方法 ほうほう 駐車場 ちゅうしゃじょう",
        "予約 よやく 窓口 まどぐち 教えて おしえて 何時 なんじ 何年 なんねん 何人 なんにん 何曜日 なんようび",
        "会社 かいしゃ 製品 せいひん 商品 しょうひん 保証 ほしょう 期間 きかん 申請 しんせい 休み やすみ",
        "社員 しゃいん 見学 けんがく 最寄り もより 使えます つかえます 誰 だれ 今 いま 名前 なまえ",
    )
    for word, sound in zip(line.split()[::2], line.split()[1::2], strict=True)
}


_READ = re.compile(rf"(?<![一-龯])(?:{'|'.join(sorted(_READINGS, key=len)[::-1])})(?![一-龯])")
"""Whole words only: 「しゃいん数」 is nobody's way to write."""


def typo(parts: Parts, rng: Random) -> Iterator[str]:
    """A slip in the kana of the ending or between words; never in a name or a number."""
    slips = [
        (at, found)
        for at in range(len(parts.body) - 1)
        if (found := parts.body[at : at + 2]) in _SLIPS
    ]
    for at, found in rng.sample(slips, len(slips)):
        yield parts.body[:at] + _SLIPS[found] + parts.body[at + 2 :]


_SLIPS = {
    "です": "でう",
    "ます": "まう",
    "教え": "教エ",
    "えて": "えｔ",
    "くだ": "くっだ",
    "さい": "さお",
    "すか": "すｋ",
    "いく": "いきゅ",
    "どこ": "ど個",
    "でし": "でｓ",
    "しょ": "しょｗ",
    "には": "いは",
    "にあ": "なあ",
    "あり": "あろ",
    "して": "してｔ",
}
"""Neighbouring keys, a key too many, a wrong conversion."""

RULES: dict[str, Rule] = {
    "polite": polite,
    "casual": casual,
    "keyword": keyword,
    "asked": asked,
    "recast": recast,
    "synonym": synonym,
    "name": name,
    "order": order,
    "long": long,
    "kana": kana,
    "typo": typo,
}


def wordings(
    question: str, kinds: Sequence[str] = tuple(KINDS_JA), per_kind: int = 1, seed: int = 0
) -> list[Wording]:
    """Up to `per_kind` of each kind, of those that the rules have for this question."""
    parts = parts_of(question)
    digest = hashlib.sha256(f"{seed}:{question}".encode()).digest()
    seen = {parts.body}
    found = []
    for kind in kinds:
        rng = Random(digest + kind.encode())
        candidates = list(RULES[kind](parts, rng))
        rng.shuffle(candidates)
        taken = 0
        for text in candidates:
            body = _TAIL.sub("", text)
            if taken < per_kind and body not in seen:
                seen.add(body)
                found.append(Wording(kind, text))
                taken += 1
    return found
