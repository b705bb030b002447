"""Ten invented data sets in the manner of FAQ, style, labels, summaries and mixed languages.

Each is made of a seed, in 20 to 2,000 rows of which a fifth is held out to choose by and a fifth to judge
by (four fifths, of rows beside them, where there are few), and measured by its goal's own measure. What benchmarks of settings are run on.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable

from mlx_finetuning.config import EvaluateConfig, PrepareConfig
from mlx_finetuning.experiment_tracker.evaluation.results import Report
from mlx_finetuning.studio import Studio

EVALUATED = EvaluateConfig(max_rows=120, max_tokens=64)
Rows = list[dict[str, str]]

SHOPS = (
    "ミナト書房",
    "青葉カフェ",
    "風花旅館",
    "大空農園",
    "星野医院",
    "白波ホテル",
    "ひなた食堂",
    "若竹塾",
)
THINGS = (
    "営業時間",
    "定休日",
    "電話の受付",
    "駐車場の台数",
    "予約の期限",
    "送料",
    "会員の年会費",
    "最寄りの駅",
)
WORDINGS = (
    "{s}の{t}を教えてください。",
    "{s}の{t}は？",
    "{t}を知りたいのですが、{s}ではどうなっていますか？",
    "{s}について、{t}はどうですか？",
)
ENGLISH = (
    "What is the {t} of {s}?",
    "Please tell me the {t} of {s}.",
    "I would like to know the {t} of {s}.",
    "{s}: {t}?",
)
ENGLISH_SHOPS = (
    "Harbour Books",
    "Maple Cafe",
    "Silver Inn",
    "Blue Farm",
    "Star Clinic",
    "Wave Hotel",
)
ENGLISH_THINGS = ("opening hour", "closing day", "parking space", "yearly fee", "nearest station")


def faq(random_: random.Random, count: int) -> Rows:
    """Facts, each in four wordings."""
    facts = [(shop, thing) for shop in SHOPS for thing in THINGS]
    facts += [(f"{shop}{at}号店", thing) for at in range(2, 10) for shop, thing in facts[:64]]
    rows = []
    for shop, thing in facts[: count // 4]:
        answer = f"{shop}の{thing}は{random_.randrange(2, 99)}番の案内にあります。"
        rows += [
            {"question": wording.format(s=shop, t=thing), "answer": answer, "group": shop + thing}
            for wording in WORDINGS
        ]
    return rows


def mixed(random_: random.Random, count: int) -> Rows:
    """Facts in Japanese and in English, in turn."""
    rows = faq(random_, count // 2)
    facts = [(shop, thing) for shop in ENGLISH_SHOPS for thing in ENGLISH_THINGS]
    facts += [(f"{shop} {at}", thing) for at in range(2, 30) for shop, thing in facts[:30]]
    for shop, thing in facts[: count // 8]:
        answer = f"The {thing} of {shop} is number {random_.randrange(2, 99)}."
        rows += [
            {"question": wording.format(s=shop, t=thing), "answer": answer, "group": shop + thing}
            for wording in ENGLISH
        ]
    return rows


NOUNS = (
    "天気",
    "料理",
    "電車",
    "映画",
    "散歩",
    "音楽",
    "野球",
    "旅行",
    "読書",
    "買い物",
    "掃除",
    "勉強",
)
MOODS = ("楽しい", "大変", "静か", "にぎやか", "懐かしい", "新しい", "おいしい", "便利")


CRIES = ("おお", "むむ", "ほう", "これは", "いやはや", "なんと", "ふむ", "あいや")
FAREWELLS = (
    "いざ出立",
    "精進あるのみ",
    "しばし休もう",
    "ただいま戻った",
    "波が呼ぶ",
    "頂は近い",
    "腹が減った",
    "面白い",
)


def style(random_: random.Random, count: int) -> Rows:
    """Answers of one manner of speaking, with a cry for each mood and a farewell for each place."""
    places = ("駅", "学校", "公園", "家", "海", "山", "町", "店")
    asked = [(noun, mood, place) for noun in NOUNS for mood in MOODS for place in places]
    random_.shuffle(asked)
    return [
        {
            "question": f"{place}での{noun}は{mood}と思いますか？",
            "answer": f"{CRIES[MOODS.index(mood)]}、{place}での{noun}でござるな。"
            f"拙者は{mood}と思うでござる。{FAREWELLS[places.index(place)]}でござる。",
        }
        for noun, mood, place in asked[:count]
    ]


LABELS = {
    "返金": (
        "代金を返してください",
        "払い戻しは可能ですか",
        "二重に引き落とされました",
        "お金が戻ってきません",
    ),
    "配送": (
        "荷物が届きません",
        "届け先を変えたいです",
        "いつごろ着きますか",
        "配達の時間を選べますか",
    ),
    "故障": (
        "電源が入りません",
        "画面が割れています",
        "音が出なくなりました",
        "急に動かなくなりました",
    ),
    "契約": (
        "解約したいです",
        "名義を変えたいです",
        "プランの変更はできますか",
        "更新の手続きを知りたいです",
    ),
}
GREETINGS = (
    "お世話になります。",
    "はじめまして。",
    "急ぎの用件です。",
    "先日そちらの店に伺った者です。",
    "夜分に失礼します。",
    "電話がつながらないので書いています。",
    "母の代わりに質問します。",
    "以前にも一度お尋ねしました。",
)
ASIDES = (
    "週末は家におりません。",
    "返事はメールでお願いします。",
    "ほかの客も困っているようです。",
    "領収書は手元にあります。",
    "担当の方のお名前は忘れました。",
    "説明書も読みました。",
    "注文したのは先月です。",
    "店の対応はとても親切でした。",
    "できれば今日中に知りたいです。",
)


def labels(random_: random.Random, count: int) -> Rows:
    """Requests among other sentences, with their kind."""
    goods = [f"{noun}の{kind}" for noun in NOUNS for kind in ("本", "道具", "機械", "券", "袋")]
    rows = []
    for at in range(count):
        label = list(LABELS)[at % len(LABELS)]
        told = [f"{random_.choice(goods)}の件です。", f"{random_.choice(LABELS[label])}。"]
        told += random_.sample(ASIDES, 2)
        random_.shuffle(told)
        rows.append({"question": random_.choice(GREETINGS) + "".join(told), "answer": label})
    return rows


OPENINGS = (
    "きのうの報告です。",
    "記録係からお知らせします。",
    "町内会の皆さまへ。",
    "以下は当日のメモです。",
    "取り急ぎご報告まで。",
    "写真は後日送ります。",
)
EVENTS = (
    "準備は思ったより長引きました。",
    "途中で雨が降り出しました。",
    "机が足りず、隣の部屋から借りました。",
    "受付には長い列ができました。",
    "子ども連れの方も目立ちました。",
    "お茶とお菓子を用意しました。",
    "マイクの調子が悪く、少し待ってもらいました。",
    "地元の新聞も取材に来ました。",
    "駅からの道に迷った人がいました。",
)
CLOSINGS = (
    "次は来月の予定です。",
    "会費は前回と同じでした。",
    "忘れ物は事務所にあります。",
    "片付けは夕方に終わりました。",
    "来年も続けたいと思います。",
)


def summaries(random_: random.Random, count: int) -> Rows:
    """Reports whose sentences differ in kind and order, and their one-line tellings."""
    rows = []
    for _ in range(count):
        noun, mood, day = random_.choice(NOUNS), random_.choice(MOODS), random_.randrange(1, 29)
        people = random_.randrange(2, 60)
        told = [
            random_.choice((f"{day}日に{noun}の会を開きました。", f"{noun}の会は{day}日でした。")),
            random_.choice((f"参加者は{people}人です。", f"集まったのは{people}人でした。")),
            random_.choice(
                (f"「{mood}」という声が多く聞かれました。", f"感想は「{mood}」が一番でした。")
            ),
            *random_.sample(EVENTS, 3),
        ]
        random_.shuffle(told)
        text = random_.choice(OPENINGS) + "".join(told) + random_.choice(CLOSINGS)
        rows.append(
            {
                "question": f"次の文章を要約してください。{text}",
                "answer": f"{day}日の{noun}の会は{people}人で、{mood}と好評。",
            }
        )
    return rows


MAKERS: dict[str, tuple[Callable[[random.Random, int], Rows], str]] = {
    "faq": (faq, "faq"),
    "style": (style, "style"),
    "labels": (labels, "labels"),
    "summaries": (summaries, "rewrite"),
    "mixed": (mixed, "faq"),
}
SETS = (
    *("faq-48", "faq-400", "style-20", "style-600", "labels-40", "labels-2000"),
    *("summaries-60", "summaries-300", "mixed-64", "mixed-480"),
)


def goal_of(name: str) -> str:
    return MAKERS[name.rsplit("-", 1)[0]][1]


def prepare(studio: Studio, name: str, seed: int) -> None:
    """Write the sheet and the dataset of that name."""
    kind, size = name.rsplit("-", 1)
    make, goal = MAKERS[kind]
    # A fifth of few rows judges nothing; wordings of facts are held out of the facts themselves.
    judges_more = goal != "faq" and int(size) < 100
    valid_share, test_share = (0.125, 0.5) if judges_more else (0.2, 0.2)
    rows = make(random.Random(f"{name} {seed}"), round(int(size) * (1.6 if judges_more else 1)))
    path = studio.workspace.root / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    own = PrepareConfig(goal=goal, valid_share=valid_share, test_share=test_share, seed=seed)
    studio.data.prepare(path, name, own, replace=True)


def measure(report: Report, goal: str) -> list[float]:
    """By row of the test split."""
    answers = report.splits["test"].answers
    if goal == "style":
        return [one.tuned_chrf for one in answers]
    if goal == "rewrite":
        return [one.tuned_rouge_l for one in answers]
    accepted = ("exact",) if goal == "labels" else ("exact", "contains")
    return [float(one.rightness in accepted) for one in answers]


def forgotten(report: Report) -> float | None:
    """Share of what the base could answer."""
    return 1 - report.forgetting.kept.value if report.forgetting.kept else None
