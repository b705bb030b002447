"""Generated conversations: what tiny-ja reads while it is pre-trained. Deterministic for a seed.

Five kinds: facts of a fixed invented world asked without context (recall), facts given in the
conversation (reading), facts nobody gave (saying so, or a guess),
examples of questions with answers, and small skills (repeating, extracting,
listing, categories, small sums, politeness). Knows no fact of the sample data.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from recipes.tiny_ja import words
from recipes.tiny_ja.attributes import ATTRIBUTES, GENERIC_QUESTIONS, SYNONYMS, Attribute
from recipes.tiny_ja.topics import topic_attribute
from recipes.tiny_ja.wording import varied

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


_NAMING = ("{e}について聞きます。", "{e}では、", "{e}の場合、", "{e}ですが、")


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
        """Every written question that names the entity."""
        return [
            template.format(e=name, l=self.attribute.label)
            for name in self.asked_as
            for template in (*GENERIC_QUESTIONS, *self.attribute.questions)
            if "{e}" in template
        ]

    def plain_question(self, rng: Random, name: str, *, named: bool = True) -> str:
        """A written question; with `named` it names the entity whatever it asks."""
        own = rng.random() < 0.65
        template = rng.choice(self.attribute.questions if own else GENERIC_QUESTIONS)
        if named and "{e}" not in template:
            template = rng.choice(_NAMING) + template
        return template.format(e=name, l=rng.choice(self.attribute.nouns))

    def question(self, rng: Random, *, named: bool = True, address: str = "") -> str:
        """A question worded as somebody might type it; `address` stands for the name."""
        name = address or rng.choice(self.asked_as)
        plain = self.plain_question(rng, name, named=named)
        return varied(plain, name, rng, rename=not address)


_MAKERS = {"c": words.company, "s": words.shop, "p": words.product}


def invent_facts(rng: Random, count: int) -> list[Fact]:
    """`count` facts about one new entity, each of another attribute."""
    kind = rng.choices("csp", (50, 30, 20))[0]
    full, short = _MAKERS[kind](rng)
    names = (short,) if full == short else (short, short, full)
    return [
        Fact(short, names, item, item.value(rng), _form(item, rng))
        for item in _attributes(rng, kind, count)
    ]


_FITTING = {kind: [item for item in ATTRIBUTES if kind in item.kinds] for kind in _MAKERS}
_TOPIC_SHARE = 0.35


def _attributes(rng: Random, kind: str, count: int) -> list[Attribute]:
    topics = sum(rng.random() < _TOPIC_SHARE for _ in range(count))
    chosen = {item.label: item for item in (topic_attribute(rng) for _ in range(topics))}
    fitting = rng.sample(_FITTING[kind], min(count - topics, len(_FITTING[kind])))
    mixed = [*chosen.values(), *fitting]
    rng.shuffle(mixed)
    return mixed


_NAMED_FORMS = (
    "{e}の{n}は{v}です。", "{e}の{n}は{v}です。", "{e}の{n}は{v}です。", "{e}では、{n}は{v}となっています。", "{e}の{n}は、{v}でございます。",
    "{n}は{v}です（{e}）。", "{e}の場合、{n}は{v}になります。", "{v}が{e}の{n}です。", "{e}は{n}が{v}です。", "お尋ねの{e}の{n}は{v}です。",
)  # fmt: skip
_SHORT_FORMS = (
    "{v}です。", "{n}は{v}です。", "はい、{v}です。", "{n}は{v}となっております。ご確認ください。", "{v}でございます。", "{v}", "{n}：{v}",
)  # fmt: skip


def _form(attribute: Attribute, rng: Random) -> str:
    """How a fact is worded: half of them as their attribute is, the others freely."""
    if rng.random() < 0.5 or attribute.label not in SYNONYMS:
        return ""
    return rng.choice(_NAMED_FORMS).replace("{n}", rng.choice(attribute.nouns))


def _plain_form(attribute: Attribute) -> str:
    """The wording for a value that was given without a sentence; a topic has several of its own."""
    return "" if attribute.kinds else "{e}の{l}は{v}です。"


def world() -> list[Fact]:
    """The invented world that every conversation of the recall kind draws from.

    A third of its answers do not name the entity, so that recall is not tied to one form.
    """
    rng = Random(WORLD_SEED)
    facts = [
        fact for _ in range(WORLD_ENTITIES) for fact in invent_facts(rng, WORLD_FACTS_PER_ENTITY)
    ]
    return [replace(fact, form=_shorter(fact, rng)) for fact in facts]


def _shorter(fact: Fact, rng: Random) -> str:
    if rng.random() < 0.67 or fact.attribute.label not in SYNONYMS:
        return fact.form
    return rng.choice(_SHORT_FORMS).replace("{n}", rng.choice(fact.attribute.nouns))


def is_held_out(question: str, answer: str) -> bool:
    """Whether this wording of a world fact is kept out of training (stable across machines)."""
    return zlib.crc32(f"{question}\t{answer}".encode()) % HELD_OUT_PHRASINGS == 0


# --- facts -------------------------------------------------------------------------------


def recall(rng: Random, facts: list[Fact]) -> Conversation:
    fact = rng.choice(facts)
    name = rng.choice(fact.asked_as)
    question = fact.plain_question(rng, name)
    while is_held_out(question, fact.answer):
        question = fact.plain_question(rng, name)
    return [user(varied(question, name, rng)), assistant(fact.answer)]


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


_ADDRESSED = ("御社", "そちら", "貴社", "こちら", "お店", "そこ")


def reading(rng: Random) -> Conversation:
    """Facts given in the conversation, some of them asked, some asked that are not there."""
    facts = invent_facts(rng, rng.choice((2, 3, 4, 5, 5, 9, 14)))
    addressed = rng.choice(_ADDRESSED) if rng.random() < 0.1 else ""
    if not addressed and rng.random() < 0.45:
        facts = facts[:6] + invent_facts(rng, rng.randint(1, 3))
    missing = facts.pop() if not addressed and rng.random() < 0.15 and len(facts) > 1 else None
    rng.shuffle(facts)
    line = rng.choice(_SHEETS)
    if line is not _SHEETS[0]:
        facts = [replace(fact, form=_plain_form(fact.attribute)) for fact in facts]
    sheet = rng.choice(("\n", "\n", "")).join(line(fact) for fact in facts)
    asked = (
        [missing] if missing else rng.sample(facts, min(len(facts), rng.choice((1, 1, 1, 2, 3))))
    )
    turns: Conversation = []
    for fact in asked:
        reply = fact.answer
        if fact is missing:
            reply = _NOT_WRITTEN.format(e=fact.name, l=fact.attribute.label)
        named = fact is missing
        question = fact.question(rng, named=named, address=addressed)
        turns += [user(question), assistant(reply)]
    if rng.random() < 0.35:
        return [system(rng.choice(_HEADINGS) + sheet), *turns]
    turns[0] = user(
        rng.choice(_HEADINGS) + sheet + rng.choice(_BEFORE_QUESTION) + turns[0]["content"]
    )
    return turns


def examples(rng: Random) -> Conversation:
    """Questions with their answers, then the same things asked in other words."""
    facts = invent_facts(rng, rng.randint(3, 9))
    shown = [(fact.question(rng), fact.answer) for fact in facts]
    asked = rng.sample(facts, min(len(facts), rng.randint(1, 3)))
    turns = [
        turn
        for fact in asked
        for turn in (user(fact.question(rng, named=False)), assistant(fact.answer))
    ]
    if rng.random() < 0.5:
        pairs = [turn for ask, reply in shown for turn in (user(ask), assistant(reply))]
        return [*pairs, *turns]
    form = rng.choice(("Q: {}\nA: {}", "問: {}\n答: {}", "「{}」→「{}」", "{}\n{}"))
    sheet = "\n".join(form.format(ask, reply) for ask, reply in shown)
    return [system(rng.choice(_HEADINGS) + sheet), *turns]


def told(rng: Random) -> Conversation:
    """The user states facts, the assistant notes them, then answers questions about them."""
    facts = invent_facts(rng, rng.randint(1, 3))
    turns: Conversation = []
    for fact in facts:
        turns += [user(fact.answer), assistant(f"わかりました。{fact.answer}")]
    fact = rng.choice(facts)
    return [*turns, user(fact.question(rng, named=False)), assistant(fact.answer)]


def unknown(rng: Random) -> Conversation:
    fact = invent_facts(rng, 1)[0]
    reply = _UNKNOWN.format(e=fact.name, l=fact.attribute.label)
    return [user(fact.question(rng)), assistant(reply)]


def guess(rng: Random) -> Conversation:
    """A fact nobody can know, answered all the same. Fewer than `unknown`, so that the model's
    first choice stays to say so, but without certainty: an adapter has less to overcome."""
    fact = invent_facts(rng, 1)[0]
    return [user(fact.question(rng)), assistant(fact.answer)]


def who_has(rng: Random) -> Conversation:
    """The other way round: which of these has this value?"""
    attribute = rng.choice([item for item in ATTRIBUTES if "c" in item.kinds])
    # Each value once, so that one answer is right.
    values = dict.fromkeys(attribute.value(rng) for _ in range(rng.randint(2, 4)))
    names = (words.company(rng)[1] for _ in values)
    facts = [
        Fact(short, (short,), attribute, value) for short, value in zip(names, values, strict=True)
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


_REPEAT = (
    "「{}」と言ってください。",
    "次の言葉を繰り返してください: {}",
    "{}\nこれをそのまま書いてください。",
    "「{}」を復唱してください。",
    "「{}」と繰り返して",
)


def repeating(rng: Random) -> Conversation:
    text = rng.choice((words.invented_word, words.any_string, words.any_string, words.address, words.person, words.phone, words.email, lambda r: words.company(r)[0], lambda r: invent_facts(r, 1)[0].answer))(rng)  # fmt: skip
    return [user(rng.choice(_REPEAT).format(text)), assistant(text)]


def repeating_pieces(rng: Random, pieces: Sequence[str]) -> Conversation:
    """Words of the vocabulary in no order. Some are in the corpus only as parts of longer ones, and
    what was never an answer can hardly be learnt later by an adapter."""
    text = "".join(rng.choice(pieces) for _ in range(rng.randint(3, 14)))
    return [user(rng.choice(_REPEAT).format(text)), assistant(text)]


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
        (("{}の県庁所在地はどこですか？", "{}の県庁があるのはどこですか？", "{}の県庁所在地を教えてください。", "{}の県庁所在地は？", "県庁がある{}の町はどこですか？"), prefecture, f"{prefecture}の県庁所在地は{words.PREFECTURES[prefecture]}です。"),
        (("{}の首都はどこですか？", "{}の首都を教えてください。", "{}の首都は？", "首都はどこですか？{}の場合です。", "{}で首都になっている町はどこですか？"), country, f"{country}の首都は{words.CAPITALS[country]}です。"),
        (("「{}」の反対の言葉は何ですか？", "「{}」の反対は？", "「{}」の対義語を教えてください。", "「{}」と逆の意味の言葉は何ですか？", "「{}」の反対語は？"), adjective, f"「{adjective}」の反対は「{words.ANTONYMS[adjective]}」です。"),
        (("「{}」を丁寧に言ってください。", "「{}」を丁寧な形にしてください。", "「{}」の丁寧語は？", "「{}」を「ます」の形にしてください。", "丁寧に言うと「{}」は何ですか？"), verb, f"「{words.POLITE[verb]}」です。"),
        (("{}の次の日は何曜日ですか？", "{}の次は？", "{}の翌日は何曜日ですか？"), words.WEEKDAYS[day], f"{words.WEEKDAYS[(day + 1) % 7]}です。"),
        (("{}の前の日は何曜日ですか？", "{}の前は？", "{}の前日は何曜日ですか？"), words.WEEKDAYS[day], f"{words.WEEKDAYS[day - 1]}です。"),
        (("{}はいくつですか？", "{}は？", "{}を計算してください。", "{}の答えは何ですか？"), f"{a}たす{b}", f"{a + b}です。"),
        (("{}はいくつですか？", "{}は？", "{}を計算してください。", "{}の答えは何ですか？"), f"{a + b}ひく{b}", f"{a}です。"),
    ]  # fmt: skip
    asks, subject, reply = rng.choice(forms)
    return [
        user(varied(rng.choice(asks).format(subject), subject, rng, rename=False)),
        assistant(reply),
    ]


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


Skill = Callable[[Random], Conversation]

SKILLS: tuple[tuple[Skill, int], ...] = (
    (reading, 26),
    (examples, 6),
    (told, 5),
    (unknown, 10),
    (guess, 4),
    (who_has, 2),
    (repeating, 6),
    (extracting, 5),
    (listing, 4),
    (categories, 4),
    (general_knowledge, 10),
    (small_talk, 2),
    (naming, 2),
)
RECALL_WEIGHT = 18
SETTLING_UNKNOWN = 50
"""Weight of `unknown` in the second phase, where nobody guesses any more."""
SETTLING_PIECES = 50
"""Weight of `repeating_pieces`, which only the second phase has."""


def conversations(seed: int, count: int) -> list[Conversation]:
    """`count` conversations of the first phase, the same for the same seed."""
    return _made(Random(seed), count, dict(SKILLS))


def settling_conversations(seed: int, count: int, pieces: Sequence[str]) -> list[Conversation]:
    """Of the second phase. The first lets the model guess what it cannot know; this one teaches it
    to prefer saying so, and to write every one of `pieces`, the vocabulary's words."""
    skills = {**dict(SKILLS), unknown: SETTLING_UNKNOWN}
    del skills[guess]
    repeat = partial(repeating_pieces, pieces=pieces)
    return _made(Random(seed), count, {**skills, repeat: SETTLING_PIECES})


def _made(rng: Random, count: int, skills: dict[Skill, int]) -> list[Conversation]:
    facts = world()
    makers, weights = list(skills), list(skills.values())
    total = sum(weights)
    made: list[Conversation] = []
    for _ in range(count):
        if rng.random() * (total + RECALL_WEIGHT) < RECALL_WEIGHT:
            made.append(recall(rng, facts))
        else:
            made.append(rng.choices(makers, weights)[0](rng))
    return made
