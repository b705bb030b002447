"""Ten invented data sets in the manner of FAQ, style, labels, summaries and mixed languages.

Each is made of a seed, in 20 to 2,000 rows of which a fifth is held out to choose by and a fifth to judge
by (four fifths, of rows beside them, where there are few), and measured by its goal's own measure. What
benchmarks of settings are run on. A set is named by kind and size, and if need be by how hard it is:
`faq-400`, `faq-400-1`.
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
FEW_ROWS = 100

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
THINGS = {
    "営業時間": ("営業時間", "開いている時間", "何時から何時までやっているか"),
    "定休日": ("定休日", "休みの曜日", "いつ閉まっているか"),
    "電話の受付": ("電話の受付", "電話での問い合わせ", "電話をかけるときの決まり"),
    "駐車場の台数": ("駐車場の台数", "車を停められる数", "何台まで駐車できるか"),
    "予約の期限": ("予約の期限", "予約の締め切り", "いつまでに予約するか"),
    "送料": ("送料", "届けてもらうときの料金", "配達にいくらかかるか"),
    "会員の年会費": ("会員の年会費", "会員が毎年払う額", "会員になると年にいくらか"),
    "最寄りの駅": ("最寄りの駅", "一番近い駅", "どの駅で降りればよいか"),
}
"""What is asked about, and how people call it."""
WORDINGS = (
    "{s}の{t}を教えてください。",
    "{s}の{t}は？",
    "{t}を知りたいのですが、{s}ではどうなっていますか？",
    "{s}について、{t}はどうですか？",
    "すみません、{s}のことで、{t}がわかりません。",
    "{t}なのですが、{s}の場合はどこを見ればよいですか？",
)
ENGLISH = (
    "What is the {t} of {s}?",
    "Please tell me the {t} of {s}.",
    "I would like to know the {t} of {s}.",
    "{s}: {t}?",
    "About {s}, can you say what the {t} is?",
    "Do you know the {t} that {s} has?",
)
ENGLISH_SHOPS = (
    "Harbour Books",
    "Maple Cafe",
    "Silver Inn",
    "Blue Farm",
    "Star Clinic",
    "Wave Hotel",
)
ENGLISH_THINGS = {
    "opening hour": ("opening hour", "time to open", "start of business"),
    "closing day": ("closing day", "day off", "weekly holiday"),
    "parking space": ("parking space", "place for cars", "car park"),
    "yearly fee": ("yearly fee", "price for a year", "annual charge"),
    "nearest station": ("nearest station", "closest stop", "station to get off at"),
}


def wordings_of(count: int) -> int:
    """How often a fact is asked for: of few rows half have to be held out."""
    return 2 if count < FEW_ROWS else 3


def _asked(
    random_: random.Random, count: int, wordings: tuple[str, ...], shop: str, names: tuple[str, ...]
) -> list[str]:
    """A fact in so many of the wordings, the thing called now so, now so."""
    chosen = random_.sample(wordings, count)
    return [wording.format(s=shop, t=random_.choice(names)) for wording in chosen]


def faq(random_: random.Random, count: int, hard: int) -> Rows:
    """Facts, each in some wordings; hard: how many names a thing goes by, 1 to 3."""
    each = wordings_of(count)
    facts = [(shop, thing) for shop in SHOPS for thing in THINGS]
    facts += [(f"{shop}{at}号店", thing) for at in range(2, 10) for shop, thing in facts[:64]]
    rows = []
    for shop, thing in facts[: count // each]:
        answer = f"{shop}の{thing}は{random_.randrange(2, 99)}番の案内にあります。"
        rows += [
            {"question": question, "answer": answer, "group": shop + thing}
            for question in _asked(random_, each, WORDINGS, shop, THINGS[thing][:hard])
        ]
    return rows


def mixed(random_: random.Random, count: int, hard: int) -> Rows:
    """Facts in Japanese and in English, in turn; hard: as for `faq`."""
    rows, each = faq(random_, count // 2, hard), wordings_of(count // 2)
    facts = [(shop, thing) for shop in ENGLISH_SHOPS for thing in ENGLISH_THINGS]
    facts += [(f"{shop} {at}", thing) for at in range(2, 30) for shop, thing in facts[:30]]
    for shop, thing in facts[: count // 2 // each]:
        answer = f"The {thing} of {shop} is number {random_.randrange(2, 99)}."
        rows += [
            {"question": question, "answer": answer, "group": shop + thing}
            for question in _asked(random_, each, ENGLISH, shop, ENGLISH_THINGS[thing][:hard])
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


CRIES = {
    **dict(
        zip(
            MOODS,
            ("おお", "むむ", "ほう", "これは", "いやはや", "なんと", "ふむ", "あいや"),
            strict=True,
        )
    ),
    "寒い": "ぶるる",
    "暑い": "ふうふう",
    "明るい": "はれやれ",
    "暗い": "しいっ",
    "速い": "ささっ",
    "遅い": "のらりくらり",
    "高い": "ひゃあ",
    "安い": "しめしめ",
    "古い": "さてさて",
    "若い": "えいや",
}
"""By mood."""
FAREWELLS = {
    "駅": "いざ出立",
    "学校": "精進あるのみ",
    "公園": "しばし休もう",
    "家": "ただいま戻った",
    "海": "波が呼ぶ",
    "山": "頂は近い",
    "町": "腹が減った",
    "店": "面白い",
    "川": "水は流れる",
    "寺": "心を静めよ",
    "城": "門を閉じよ",
    "畑": "実りを待とう",
    "橋": "渡るが勝ち",
    "森": "獣が見ている",
    "港": "船が出るぞ",
    "市場": "財布が軽い",
    "島": "雲が低い",
    "坂": "息が切れた",
}
"""By place."""
SAYINGS = {
    "天気": "雨のち晴れ",
    "料理": "塩は控えめ",
    "電車": "席は譲るもの",
    "映画": "涙は拭くもの",
    "散歩": "犬も歩く",
    "音楽": "笛に踊る",
    "野球": "球は丸い",
    "旅行": "荷は軽く",
    "読書": "文字は友",
    "買い物": "値札を見よ",
    "掃除": "隅から始めよ",
    "勉強": "一日一字",
}
"""By noun."""
FEW_KINDS = 8


def style(random_: random.Random, count: int, hard: int) -> Rows:
    """Answers of one manner of speaking, with a cry for each mood and a farewell for each place; in
    many rows with more of these, and with a saying for each noun, unless hard is 1."""
    kinds = FEW_KINDS if count < FEW_ROWS else len(CRIES)
    moods, places = list(CRIES)[:kinds], list(FAREWELLS)[:kinds]
    asked = [(noun, mood, place) for noun in NOUNS for mood in moods for place in places]
    random_.shuffle(asked)
    return [
        {
            "question": f"{place}での{noun}は{mood}と思いますか？",
            "answer": f"{CRIES[mood]}、{place}での{noun}でござるな。拙者は{mood}と思うでござる。"
            f"{'' if count < FEW_ROWS or hard < 2 else f'{SAYINGS[noun]}と申す。'}{FAREWELLS[place]}でござる。",
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


def labels(random_: random.Random, count: int, hard: int) -> Rows:
    """Requests among so many other sentences, with their kind."""
    goods = [f"{noun}の{kind}" for noun in NOUNS for kind in ("本", "道具", "機械", "券", "袋")]
    rows = []
    for at in range(count):
        label = list(LABELS)[at % len(LABELS)]
        told = [f"{random_.choice(goods)}の件です。", f"{random_.choice(LABELS[label])}。"]
        told += random_.sample(ASIDES, hard)
        random_.shuffle(told)
        rows.append({"question": random_.choice(GREETINGS) + "".join(told), "answer": label})
    return rows


DESKS = ("返品係", "修理係", "配送係", "会計係", "会員係", "店舗係", "広報係", "法務係")


def desks(random_: random.Random, count: int, hard: int) -> Rows:
    """Requests about one of many goods, and the desk that this one belongs to, whatever is asked; hard:
    how many of each name."""
    names = [f"{noun}の{kind}" for noun in NOUNS for kind in ("本", "道具", "機械", "券", "袋")]
    goods = [f"{name}{at}番" for name in names for at in range(1, hard + 1)]
    desk = {one: random_.choice(DESKS) for one in goods}
    requests = [text for texts in LABELS.values() for text in texts]
    rows = []
    for _ in range(count):
        one = random_.choice(goods)
        told = [f"{one}の件です。", f"{random_.choice(requests)}。"]
        random_.shuffle(told)
        rows.append({"question": "".join(told), "answer": desk[one]})
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
PLACES = ("公民館", "体育館", "図書館", "駅前の広場", "小学校", "川沿いの公園", "商店街", "市役所")
CLOSINGS = (
    "片付けは夕方に終わりました。",
    "忘れ物は事務所にあります。",
    "来年も続けたいと思います。",
)


def summaries(random_: random.Random, count: int, hard: int) -> Rows:
    """Reports whose sentences differ in kind and order, and their one-line tellings; figures and
    places of other days stand beside those that are to be told, if hard is 1 in one sentence alone."""
    rows = []
    for _ in range(count):
        noun = random_.choice(NOUNS)
        mood, other_mood = random_.sample(MOODS, 2)
        place, other_place = random_.sample(PLACES, 2)
        day, other_day = random_.sample(range(1, 29), 2)
        people, other_people = random_.sample(range(2, 60), 2)
        told = [
            random_.choice((f"{day}日に{noun}の会を開きました。", f"{noun}の会は{day}日でした。")),
            random_.choice((f"場所は{place}です。", f"{place}に集まりました。")),
            random_.choice((f"参加者は{people}人です。", f"今回は{people}人が来ました。")),
            random_.choice(
                (f"「{mood}」という声が多く聞かれました。", f"感想は「{mood}」が一番でした。")
            ),
            random_.choice((f"前回は{other_people}人でした。", f"次は{other_day}日の予定です。")),
            random_.choice(
                (f"「{other_mood}」という人も少しいました。", f"次は{other_place}を借ります。")
            ),
            random_.choice(EVENTS),
        ]
        told = told if hard > 1 else told[:5]
        random_.shuffle(told)
        text = random_.choice(OPENINGS) + "".join(told) + random_.choice(CLOSINGS)
        rows.append(
            {
                "question": f"次の文章を要約してください。{text}",
                "answer": f"{place}、{day}日、{people}人。{noun}は{mood}と好評。",
            }
        )
    return rows


MAKERS: dict[str, tuple[Callable[[random.Random, int, int], Rows], str]] = {
    "faq": (faq, "faq"),
    "style": (style, "style"),
    "labels": (labels, "labels"),
    "desks": (desks, "labels"),
    "summaries": (summaries, "rewrite"),
    "mixed": (mixed, "faq"),
}
HARD = {"faq": 3, "style": 2, "labels": 2, "desks": 2, "summaries": 2, "mixed": 3}
"""By kind, how hard a set is whose name does not say it."""
SETS = (
    *("faq-200", "faq-400", "style-20", "style-300-2", "style-600", "labels-40", "desks-2000-1"),
    *("summaries-30-2", "mixed-120-3", "mixed-480"),
)


def goal_of(name: str) -> str:
    return MAKERS[name.partition("-")[0]][1]


def prepare(studio: Studio, name: str, seed: int) -> None:
    """Write the sheet and the dataset of that name."""
    kind, size, *hard = name.split("-")
    make, goal = MAKERS[kind]
    # A fifth of few rows judges nothing; wordings of facts are held out of the facts themselves.
    judges_more = goal != "faq" and int(size) < 100
    valid_share, test_share = (0.125, 0.5) if judges_more else (0.2, 0.2)
    count = round(int(size) * (1.6 if judges_more else 1))
    rows = make(random.Random(f"{name} {seed}"), count, int(hard[0]) if hard else HARD[kind])
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
