"""Other ways to put the same question: politeness, a fronted topic, a slip of the keyboard.

Multiplies the written phrasings, so that the model learns what is asked and not one string.
"""

from __future__ import annotations

from random import Random

_ENDINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("を教えてください。", ("を教えて", "を教えていただけますか？", "を教えてほしいのですが。", "を教えてもらえますか？", "が知りたいです。", "を知りたいのですが", "を聞きたいです。", "はわかりますか？", "をお願いします。", "は？", "って何ですか？")),
    ("何ですか？", ("何でしょうか？", "何になりますか？", "何なのでしょうか。", "何", "何か教えてください。", "何ですか")),
    ("誰ですか？", ("どなたですか？", "誰でしょうか。", "誰なのでしょう？", "誰", "何という人ですか？", "どんな名前の人ですか？", "誰か知っていますか？")),
    ("どこですか？", ("どこでしょうか？", "どこになりますか？", "どこ", "どちらですか？", "どのあたりですか？", "どこか教えてください。")),
    ("いつですか？", ("いつでしょうか？", "いつになりますか？", "いつ", "いつなのか教えてください。", "いつだったでしょうか。")),
    ("いくらですか？", ("いくらでしょうか。", "おいくらですか？", "いくら", "いくらになりますか？", "いくらかかりますか？", "何円ですか？")),
    ("ありますか？", ("ありますでしょうか。", "あるのですか？", "ある？", "あるか教えてください。")),
    ("できますか？", ("できるでしょうか。", "できる？", "できるのか知りたいです。", "できますでしょうか？")),
    ("いいですか？", ("いいのでしょうか。", "よいですか？", "よろしいですか？", "いい？")),
    ("ですか？", ("でしょうか？", "なのですか？", "ですか", "なんですか？", "か教えてください。", "でしょうか。")),
    ("ますか？", ("ますでしょうか。", "ますか", "るのか教えてください。", "るんでしょうか？")),
    ("は？", ("は何ですか？", "を教えてください。", "はどうなっていますか？", "について", "って？", "は何でしょうか？", "")),
    ("したいです。", ("したいのですが。", "したいんですけど", "する必要があります。")),
)  # fmt: skip
# 「〜ますか」 has no plain 「〜るのか」 but for verbs in -る; only these keep their grammar.
_PLAIN_RU = ("れますか？", "えますか？", "きますか？")

_FRONTS = (
    "{e}についてですが、", "{e}のことで質問です。", "{e}についてお聞きします。", "{e}に関して、", "{e}の件で、", "{e}なんですけど、", "{e}について。",
)  # fmt: skip
_NAMED = ("{e}さん", "{e}さん", "{e}という会社", "あの{e}", "今の{e}", "こちらの{e}")
_OPENINGS = (
    "こんにちは。", "すみません。", "質問があります。", "教えてください。", "初めてです。", "お世話になっております。", "すみません、", "ちょっと聞きたいのですが、", "ところで、",
    "では、", "えーと、", "確認ですが、", "もしわかれば、", "急いでいます。", "念のため、", "あの、", "ひとつ質問です。", "失礼します。",
)  # fmt: skip


def varied(question: str, name: str, rng: Random, *, rename: bool = True) -> str:
    """`question` about `name`, the same in meaning, as somebody else might type it.

    With `rename`, the name may be fronted or get an addition; its letters never change.
    """
    if rng.random() < 0.4:
        question = _ended_otherwise(question, rng)
    chance = rng.random() if rename else 1.0
    if chance < 0.10 and question.startswith(f"{name}の"):
        question = rng.choice(_FRONTS).format(e=name) + question[len(name) + 1 :]
    elif chance < 0.22:
        question = question.replace(name, rng.choice(_NAMED).format(e=name), 1)
    if rng.random() < 0.2:
        question = rng.choice(_OPENINGS) + question
    return _mistyped(question, name, rng) if rng.random() < 0.15 else question


def _ended_otherwise(question: str, rng: Random) -> str:
    for ending, others in _ENDINGS:
        if question.endswith(ending):
            other = rng.choice(others)
            if other.startswith("る") and not question.endswith(_PLAIN_RU):
                return question[:-1]
            return question[: -len(ending)] + other
    return question


def _mistyped(question: str, name: str, rng: Random) -> str:
    if rng.random() < 0.7:
        return question.rstrip("。？") + rng.choice(("", "?", "？", "。"))
    at, start = rng.randrange(len(question)), question.find(name)
    if start <= at < start + len(name):
        return question
    return question[:at] + question[at + 1 :]
