"""Whether tuning finds better settings than the usual ones: ten invented data sets, each trained both ways.

    python benchmarks/tuning.py FOLDER [--model tiny-ja] [--sets faq-20 labels-300] [--times 3] [--jobs 2]

For each data set the usual run is trained and timed with its evaluation, then `tune` gets `--times` its
time. Both are evaluated on the test split, which no trial has seen. A line of JSON a data set, then a
table. Data sets differ in manner and size; rows are made of a seed.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from mlx_finetuning.config import EvaluateConfig, PrepareConfig, TrainConfig
from mlx_finetuning.experiment_tracker.evaluation.results import Report
from mlx_finetuning.experiment_tracker.evaluation.statistics import ratio
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

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


def style(random_: random.Random, count: int) -> Rows:
    """Answers of one manner of speaking."""
    places = ("駅", "学校", "公園", "家", "海", "山", "町", "店")
    asked = [
        f"{place}での{noun}は{mood}と思いますか？"
        for noun in NOUNS
        for mood in MOODS
        for place in places
    ]
    random_.shuffle(asked)
    return [
        {
            "question": question,
            "answer": f"{question.split('は')[0]}でござるな。拙者は{question.split('は')[1].split('と')[0]}と思うでござる。",
        }
        for question in (asked * 3)[:count]
    ]


LABELS = {
    "返金": ("代金を返して", "お金を戻して", "返金を", "払い戻しを"),
    "配送": ("荷物が届かない", "配達を早めて", "届け先を変えて", "いつ届くか"),
    "故障": ("電源が入らない", "画面が割れた", "音が出ない", "動かなくなった"),
    "契約": ("解約を", "契約を更新", "名義を変えて", "プランを変えて"),
}


def labels(random_: random.Random, count: int) -> Rows:
    """Requests with their kind."""
    goods = [
        f"{noun}の{kind}" for noun in NOUNS for kind in ("本", "道具", "機械", "券", "袋", "箱")
    ]
    ends = (
        "ほしいです。",
        "困っています。",
        "お願いします。",
        "どうすればよいですか。",
        "急いでいます。",
    )
    rows = []
    for at in range(count):
        label = list(LABELS)[at % 4]
        text = f"{random_.choice(goods)}の件で、{random_.choice(LABELS[label])}{random_.choice(ends)}（{at}）"
        rows.append({"question": text, "answer": label})
    return rows


def summaries(random_: random.Random, count: int) -> Rows:
    """Short reports and their one-line tellings."""
    rows = []
    for at in range(count):
        noun, mood, day = random_.choice(NOUNS), random_.choice(MOODS), random_.randrange(1, 29)
        people = random_.randrange(2, 60)
        text = (
            f"次の文章を要約してください。{day}日に{noun}の会を開きました。集まったのは{people}人で、"
            f"準備には思ったより時間がかかりましたが、終わったあとの感想では{mood}という声が多く聞かれました。"
            f"次の会は来月の予定です。（記録{at}）"
        )
        rows.append(
            {"question": text, "answer": f"{day}日の{noun}の会は{people}人で、{mood}と好評。"}
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


@dataclass(frozen=True)
class Compared:
    """A line of the table."""

    name: str
    usual: float
    """The goal's measure on the test split, 0 to 1."""
    tuned: float
    low: float
    """95% interval of the difference, paired by question."""
    high: float
    usual_forgotten: float | None
    tuned_forgotten: float | None
    usual_s: float
    asked_s: float
    took_s: float
    choice: str


def prepared(studio: Studio, name: str) -> None:
    """Write the sheet and the dataset of that name."""
    kind, size = name.rsplit("-", 1)
    make, goal = MAKERS[kind]
    rows = make(random.Random(name), int(size))
    path = studio.workspace.root / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    own = PrepareConfig(goal=goal, valid_share=0.2, test_share=0.2)
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
    return 1 - report.forgetting.kept.value if report.forgetting.kept else None


def compare(folder: Path, model: str, name: str, times: float) -> Compared:
    """Both ways on one data set, in a workspace of its own."""
    studio = Studio(Workspace(folder / name))
    prepared(studio, name)
    goal = MAKERS[name.rsplit("-", 1)[0]][1]
    usual = studio.training.preset(TrainConfig(model=model, dataset=name), "usual")
    began_s = time.monotonic()
    run_id = studio.training.start(usual)
    studio.runs.follow(run_id, lambda _: None)
    usual_s = time.monotonic() - began_s
    before = studio.evaluation.start(run_id, EVALUATED).follow()
    handle = studio.tuning.follow(studio.tuning.start(usual, times * usual_s / 60))
    tuned = handle.follow()
    after = studio.evaluation.start(tuned.run_id, EVALUATED).follow()
    first, second = measure(before, goal), measure(after, goal)
    gap = ratio([b - a for a, b in zip(first, second, strict=True)])
    assert gap is not None
    return Compared(
        name,
        sum(first) / len(first),
        sum(second) / len(second),
        gap.low,
        gap.high,
        forgotten(before),
        forgotten(after),
        round(usual_s, 1),
        round(times * usual_s, 1),
        tuned.seconds,
        tuned.reason.split("。")[0],
    )


def lines(found: list[Compared]) -> Iterator[str]:
    """The table."""
    yield "| data set | usual | tuned | difference, 95% | forgotten: usual, tuned | s asked, taken | choice |"
    yield "|---|---|---|---|---|---|---|"
    for one in found:
        lost = [
            ("–" if x is None else f"{x:.0%}") for x in (one.usual_forgotten, one.tuned_forgotten)
        ]
        yield (
            f"| {one.name} | {one.usual:.1%} | {one.tuned:.1%} | {one.low:+.1%} to {one.high:+.1%} | "
            f"{', '.join(lost)} | {one.asked_s:.0f}, {one.took_s:.0f} | {one.choice} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="tiny-ja")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--times", type=float, default=3.0)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    found = []
    with ThreadPoolExecutor(options.jobs) as pool:
        work = [
            pool.submit(compare, options.folder, options.model, name, options.times)
            for name in options.sets
        ]
        for one in work:
            found.append(one.result())
            print(json.dumps(asdict(found[-1]), ensure_ascii=False), flush=True)
    print("\n".join(lines(found)))


if __name__ == "__main__":
    main()
