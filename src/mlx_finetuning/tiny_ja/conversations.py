"""Generated conversations: what tiny-ja reads while it is pre-trained. Deterministic for a seed.

Four kinds: facts of a fixed invented world asked without context (recall), facts given in the
conversation (reading), facts nobody gave (saying so), and small skills (repeating, extracting,
listing, categories, small sums, politeness). Knows no fact of the sample data.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from mlx_finetuning.tiny_ja import words
from mlx_finetuning.tiny_ja.attributes import ATTRIBUTES, GENERIC_QUESTIONS, Attribute

Message = dict[str, str]
Conversation = list[Message]

WORLD_SEED = 20261123
WORLD_ENTITIES = 500
WORLD_FACTS_PER_ENTITY = 6
HELD_OUT_PHRASINGS = 10
"""One in so many phrasings of a world fact is never trained: it measures recall across wordings."""


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def system(text: str) -> Message:
    return {"role": "system", "content": text}


@dataclass(frozen=True)
class Fact:
    name: str
    """As the answer names it."""
    asked_as: tuple[str, ...]
    """The names it goes by in questions."""
    attribute: Attribute
    value: str
    form: str = ""
    """How the answer is worded; empty for the attribute's usual wording."""

    @property
    def answer(self) -> str:
        form = self.form or self.attribute.answer
        return form.format(e=self.name, v=self.value, l=self.attribute.label)

    def phrasings(self) -> list[str]:
        return [
            template.format(e=name, l=self.attribute.label)
            for name in self.asked_as
            for template in (*GENERIC_QUESTIONS, *self.attribute.questions)
        ]

    def question(self, rng: Random) -> str:
        own = rng.random() < 0.65
        template = rng.choice(self.attribute.questions if own else GENERIC_QUESTIONS)
        return template.format(e=rng.choice(self.asked_as), l=self.attribute.label)


_MAKERS = {"c": words.company, "s": words.shop, "p": words.product}


def invent_facts(rng: Random, count: int) -> list[Fact]:
    """`count` facts about one new entity, each of another attribute."""
    kind = rng.choices("csp", (50, 30, 20))[0]
    full, short = _MAKERS[kind](rng)
    fitting = [attribute for attribute in ATTRIBUTES if kind in attribute.kinds]
    chosen = rng.sample(fitting, min(count, len(fitting)))
    names = (short,) if full == short else (short, short, full)
    return [Fact(short, names, item, item.value(rng)) for item in chosen]


_OTHER_FORMS = (
    "{v}です。",
    "{l}は{v}です。",
    "{e}では、{l}は{v}となっています。",
    "はい、{v}です。",
    "{l}は{v}となっております。ご確認ください。",
    "{v}でございます。",
)


def world() -> list[Fact]:
    """The invented world that every conversation of the recall kind draws from.

    A third of its answers are worded in other ways, so that recall is not tied to one form.
    """
    rng = Random(WORLD_SEED)
    facts = [
        fact for _ in range(WORLD_ENTITIES) for fact in invent_facts(rng, WORLD_FACTS_PER_ENTITY)
    ]
    forms = [rng.choice(_OTHER_FORMS) if rng.random() < 0.33 else "" for _ in facts]
    return [replace(fact, form=form) for fact, form in zip(facts, forms, strict=True)]


def is_held_out(question: str, answer: str) -> bool:
    """Whether this wording of a world fact is kept out of training (stable across machines)."""
    return zlib.crc32(f"{question}\t{answer}".encode()) % HELD_OUT_PHRASINGS == 0


# --- facts -------------------------------------------------------------------------------

_ASIDES = (
    "", "", "", "", "", "", "こんにちは。", "すみません。", "質問があります。", "教えてください。", "初めてです。", "お世話になっております。",
)  # fmt: skip


def recall(rng: Random, facts: list[Fact]) -> Conversation:
    fact = rng.choice(facts)
    question = fact.question(rng)
    while is_held_out(question, fact.answer):
        question = fact.question(rng)
    return [user(rng.choice(_ASIDES) + question), assistant(fact.answer)]


_UNKNOWN = "申し訳ありませんが、{e}の{l}についての情報はありません。"
_NOT_WRITTEN = "{e}の{l}は書かれていません。"
_SHEETS: tuple[Callable[[Fact], str], ...] = (
    lambda fact: fact.answer,
    lambda fact: f"{fact.name}の{fact.attribute.label}: {fact.value}",
    lambda fact: f"・{fact.name}の{fact.attribute.label}は{fact.value}",
    lambda fact: f"{fact.attribute.label}（{fact.name}）＝{fact.value}",
)
_HEADINGS = (
    "次の資料を読んで質問に答えてください。\n", "以下の情報を参考にしてください。\n", "資料:\n", "【情報】\n", "", "次の文章を読んでください。\n", "参考情報です。\n",
)  # fmt: skip
_BEFORE_QUESTION = ("\n質問: ", "\n\n", "\nでは、", "\nQ: ", "\n上の情報を使って答えてください。")


def reading(rng: Random) -> Conversation:
    """Facts given in the conversation, some of them asked, some asked that are not there."""
    facts = invent_facts(rng, rng.choice((2, 3, 4, 5, 5, 12)))
    if rng.random() < 0.45:
        facts = facts[:6] + invent_facts(rng, rng.randint(1, 3))
    missing = facts.pop() if rng.random() < 0.15 and len(facts) > 1 else None
    rng.shuffle(facts)
    line = rng.choice(_SHEETS)
    sheet = rng.choice(("\n", "\n", "")).join(line(fact) for fact in facts)
    asked = (
        [missing] if missing else rng.sample(facts, min(len(facts), rng.choice((1, 1, 1, 2, 3))))
    )
    turns: Conversation = []
    for fact in asked:
        reply = fact.answer
        if fact is missing:
            reply = _NOT_WRITTEN.format(e=fact.name, l=fact.attribute.label)
        turns += [user(fact.question(rng)), assistant(reply)]
    if rng.random() < 0.35:
        return [system(rng.choice(_HEADINGS) + sheet), *turns]
    turns[0] = user(
        rng.choice(_HEADINGS) + sheet + rng.choice(_BEFORE_QUESTION) + turns[0]["content"]
    )
    return turns


def told(rng: Random) -> Conversation:
    """The user states facts, the assistant notes them, then answers questions about them."""
    facts = invent_facts(rng, rng.randint(1, 3))
    turns: Conversation = []
    for fact in facts:
        turns += [user(fact.answer), assistant(f"わかりました。{fact.answer}")]
    fact = rng.choice(facts)
    return [*turns, user(fact.question(rng)), assistant(fact.answer)]


def unknown(rng: Random) -> Conversation:
    fact = invent_facts(rng, 1)[0]
    reply = _UNKNOWN.format(e=fact.name, l=fact.attribute.label)
    return [user(rng.choice(_ASIDES) + fact.question(rng)), assistant(reply)]


def who_has(rng: Random) -> Conversation:
    """The other way round: which of these has this value?"""
    attribute = rng.choice([item for item in ATTRIBUTES if "c" in item.kinds])
    facts = [
        Fact(short, (short,), attribute, attribute.value(rng))
        for short in (words.company(rng)[1] for _ in range(rng.randint(2, 4)))
    ]
    fact = rng.choice(facts)
    sheet = "\n".join(item.answer for item in facts)
    question = rng.choice(
        ("{l}が{v}なのはどこですか？", "{l}が{v}の会社はどれですか？", "どの会社の{l}が{v}ですか？")
    )
    return [
        user(f"{sheet}\n{question.format(l=attribute.label, v=fact.value)}"),
        assistant(f"{fact.name}です。"),
    ]


# --- small skills ------------------------------------------------------------------------


def _any_word(rng: Random) -> str:
    if rng.random() < 0.5:
        return words.invented_word(rng)
    return rng.choice(rng.choice(tuple(words.CATEGORIES.values())))


def repeating(rng: Random) -> Conversation:
    text = rng.choice((words.invented_word, words.address, words.person, words.phone, words.email, lambda r: words.company(r)[0], lambda r: invent_facts(r, 1)[0].answer))(rng)  # fmt: skip
    ask = rng.choice(
        (
            "「{}」と言ってください。",
            "次の言葉を繰り返してください: {}",
            "{}\nこれをそのまま書いてください。",
            "「{}」を復唱してください。",
            "「{}」と繰り返して",
        )
    )
    return [user(ask.format(text)), assistant(text)]


def extracting(rng: Random) -> Conversation:
    kinds = {"電話番号": words.phone, "メールアドレス": words.email, "名前": words.person, "住所": words.address, "日付": words.date, "金額": words.yen}  # fmt: skip
    chosen = rng.sample(list(kinds), rng.randint(2, 3))
    found = {kind: kinds[kind](rng) for kind in chosen}
    form = {"電話番号": "電話は{}です。", "メールアドレス": "メールは{}です。", "名前": "担当は{}です。", "住所": "住所は{}です。", "日付": "締め切りは{}です。", "金額": "料金は{}です。"}  # fmt: skip
    text = "".join(form[kind].format(value) for kind, value in found.items())
    wanted = rng.choice(chosen)
    ask = rng.choice(
        (
            "次の文から{k}を抜き出してください。\n{t}",
            "{t}\nこの文の中の{k}は何ですか？",
            "{t}\n{k}だけを書いてください。",
        )
    )
    return [user(ask.format(k=wanted, t=text)), assistant(found[wanted])]


def listing(rng: Random) -> Conversation:
    items = list(dict.fromkeys(_any_word(rng) for _ in range(rng.randint(2, 5))))
    joined = "、".join(items)
    forms = [
        ("{}を箇条書きにしてください。", "\n".join(f"・{item}" for item in items)),
        (
            "{}を番号付きの一覧にしてください。",
            "\n".join(f"{n}. {item}" for n, item in enumerate(items, 1)),
        ),
        ("{}の最初のものは何ですか？", f"{items[0]}です。"),
        ("{}の最後のものは何ですか？", f"{items[-1]}です。"),
        ("{}はいくつありますか？", f"{len(items)}つあります。"),
        ("{}を「と」でつないでください。", "と".join(items)),
    ]
    ask, reply = rng.choice(forms)
    return [user(ask.format(joined)), assistant(reply)]


def categories(rng: Random) -> Conversation:
    kind = rng.choice(tuple(words.CATEGORIES))
    member = rng.choice(words.CATEGORIES[kind])
    others = [item for name, items in words.CATEGORIES.items() if name != kind for item in items]
    mixed = [member, *rng.sample(others, 2)]
    rng.shuffle(mixed)
    odd = rng.choice(others)
    forms = [
        (f"{'、'.join(mixed)}のうち、{kind}はどれですか？", f"{member}です。"),
        (f"{member}は{kind}ですか？", f"はい、{member}は{kind}です。"),
        (f"{odd}は{kind}ですか？", f"いいえ、{odd}は{kind}ではありません。"),
        (f"{member}は何の仲間ですか？", f"{member}は{kind}です。"),
    ]
    ask, reply = rng.choice(forms)
    return [user(ask), assistant(reply)]


def general_knowledge(rng: Random) -> Conversation:
    prefecture = rng.choice(tuple(words.PREFECTURES))
    country = rng.choice(tuple(words.CAPITALS))
    adjective = rng.choice(tuple(words.ANTONYMS))
    verb = rng.choice(tuple(words.POLITE))
    day = rng.randrange(7)
    a, b = rng.randint(1, 20), rng.randint(1, 20)
    forms = [
        (("{}の県庁所在地はどこですか？", "{}の県庁があるのはどこ？", "{}の県庁所在地を教えてください。"), prefecture, f"{prefecture}の県庁所在地は{words.PREFECTURES[prefecture]}です。"),
        (("{}の首都はどこですか？", "{}の首都を教えてください。", "{}の首都は？"), country, f"{country}の首都は{words.CAPITALS[country]}です。"),
        (("「{}」の反対の言葉は何ですか？", "「{}」の反対は？", "「{}」の対義語を教えてください。"), adjective, f"「{adjective}」の反対は「{words.ANTONYMS[adjective]}」です。"),
        (("「{}」を丁寧に言ってください。", "「{}」を丁寧な形にしてください。", "「{}」の丁寧語は？"), verb, f"「{words.POLITE[verb]}」です。"),
        (("{}の次の日は何曜日ですか？", "{}の次は？"), words.WEEKDAYS[day], f"{words.WEEKDAYS[(day + 1) % 7]}です。"),
        (("{}の前の日は何曜日ですか？",), words.WEEKDAYS[day], f"{words.WEEKDAYS[day - 1]}です。"),
        (("{}はいくつですか？", "{}は？", "{}を計算してください。"), f"{a}たす{b}", f"{a + b}です。"),
        (("{}はいくつですか？", "{}は？", "{}を計算してください。"), f"{a + b}ひく{b}", f"{a}です。"),
    ]  # fmt: skip
    asks, subject, reply = rng.choice(forms)
    return [user(rng.choice(_ASIDES) + rng.choice(asks).format(subject)), assistant(reply)]


_SMALL_TALK = (
    ("こんにちは", "こんにちは。何かお手伝いできることはありますか？"),
    ("おはようございます", "おはようございます。今日もよろしくお願いします。"),
    ("こんばんは", "こんばんは。ご質問をどうぞ。"),
    ("ありがとう", "どういたしまして。"),
    ("ありがとうございます。助かりました。", "お役に立ててうれしいです。"),
    ("さようなら", "さようなら。またお越しください。"),
    ("あなたは誰ですか？", "私はtiny-jaです。日本語の小さな言語モデルです。"),
    ("自己紹介をしてください。", "私はtiny-jaです。日本語の小さな言語モデルです。"),
    ("あなたの名前は？", "私の名前はtiny-jaです。"),
    ("何ができますか？", "資料を読んで質問に答えたり、言葉を抜き出したりできます。"),
    ("お元気ですか？", "はい、元気です。"),
    ("はじめまして", "はじめまして。よろしくお願いします。"),
)


def small_talk(rng: Random) -> Conversation:
    ask, reply = rng.choice(_SMALL_TALK)
    return [user(ask + rng.choice(("", "", "。"))), assistant(reply)]


def naming(rng: Random) -> Conversation:
    name = words.person(rng)
    turns = [
        user(rng.choice(("私は{}です。", "私の名前は{}です。", "{}と申します。")).format(name))
    ]
    turns.append(assistant(f"{name}さん、こんにちは。"))
    ask = rng.choice(("私の名前は何ですか？", "私の名前を覚えていますか？", "私は誰ですか？"))
    return [*turns, user(ask), assistant(f"{name}さんです。")]


SKILLS: tuple[tuple[Callable[[Random], Conversation], int], ...] = (
    (reading, 34),
    (told, 6),
    (unknown, 7),
    (who_has, 3),
    (repeating, 5),
    (extracting, 5),
    (listing, 4),
    (categories, 3),
    (general_knowledge, 5),
    (small_talk, 1),
    (naming, 2),
)
RECALL_WEIGHT = 25


def conversations(seed: int, count: int) -> list[Conversation]:
    """`count` conversations of all kinds, the same for the same seed."""
    rng = Random(seed)
    facts = world()
    makers = [maker for maker, _ in SKILLS]
    weights = [weight for _, weight in SKILLS]
    total = sum(weights)
    made: list[Conversation] = []
    for _ in range(count):
        if rng.random() * (total + RECALL_WEIGHT) < RECALL_WEIGHT:
            made.append(recall(rng, facts))
        else:
            made.append(rng.choices(makers, weights)[0](rng))
    return made
