"""What made rows are worth: other wordings by rules, and near misses to refuse, on the sample company.

tiny-ja, the usual training of a FAQ, one process a run. Each seed trains on another one of the five
wordings that people wrote of each of the 16 facts, and is asked the other four, which no run has seen:
what the rules make of a taught wording in any number is left out, for every way alike.
`one`: that wording alone. `reworded`: with wordings made of it by rules. `refusing`: with near misses
too; refusals are counted on near misses whose subjects were not taught, and on `BY_HAND`, which no rule
made. Right is what the evaluation calls so. It wants the answer's own word for what was asked, so that
「従業員数は142人です」 is wrong where 「社員数は142人です」 was taught; `fact right` lets any word pass that
people asked with.

    python benchmarks/wordings.py [--seeds 5] [--ways one,reworded,refusing] [--per-kind 1] [--share 0.3]
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from mlx_finetuning.utils import blas

blas.preload()

from mlx_finetuning import models, presets  # noqa: E402
from mlx_finetuning.config import TrainConfig  # noqa: E402
from mlx_finetuning.data_processor.wordings import near_misses, rules  # noqa: E402
from mlx_finetuning.data_processor.wordings.checks import Checker  # noqa: E402
from mlx_finetuning.data_processor.wordings.made import Known, RefuseConfig, RewordConfig  # noqa: E402
from mlx_finetuning.experiment_tracker.evaluation.rightness import (  # noqa: E402
    RIGHT,
    common_words,
    rightness,
)
from mlx_finetuning.studio.wordings import MOST_PER_KIND  # noqa: E402
from mlx_finetuning.utils.japanese_utils import comparison_key  # noqa: E402
from mlx_finetuning.workspace import AdapterPaths, Workspace  # noqa: E402

SAMPLE = Path(__file__).parents[1] / "data" / "sample_data.csv"
WAYS = {
    "one": (False, False, False),
    "one, reworded": (False, True, False),
    "one, refusing": (False, False, True),
    "one, reworded, refusing": (False, True, True),
    "four": (True, False, False),
    "four, refusing": (True, False, True),
    "four, reworded": (True, True, False),
    "four, reworded, refusing": (True, True, True),
}
"""Whether four wordings of people are taught or one, whether rules add others, and near misses."""
ASKED = 40
"""Near misses that every run is asked."""
BY_HAND = (
    "ミナモ精機の社長は何歳ですか？",
    "ミナモ精機の社長の出身地を教えてください。",
    "ミナモ精機は上場していますか？",
    "ミナモ精機の去年の売上はいくらでしたか？",
    "ミナモ精機にエレベーターはありますか？",
    "ミナモ精機のホームページのURLを教えてください。",
    "ミナモ精機の社員の平均給与はいくらですか？",
    "ミナモ精機でアルバイトは募集していますか？",
    "ミナモ精機の創業者は誰ですか？",
    "ミナモ精機の大阪支店の住所を教えてください。",
    "ミナモ精機の工場には機械が何台ありますか？",
    "ノギス「ハヤセ」の重さは何グラムですか？",
    "ノギス「ハヤセ」で測れる長さは何ミリまでですか？",
    "ノギス「ハヤセ」の色は何色がありますか？",
    "マイクロメーター「シオン」の価格はいくらですか？",
    "カワベ工業の営業時間を教えてください。",
    "カワベ工業の社長は誰ですか？",
    "ミズキ製作所の電話番号は何番ですか？",
    "ミナモ精機の隣にある会社はどこですか？",
    "ミナモ精機の社員旅行はどこに行きますか？",
    "ミナモ精機の工場見学は何分かかりますか？",
    "ミナモ精機の海外への送料はいくらですか？",
    "ミナモ精機の製品の修理代はいくらですか？",
    "ミナモ精機の食堂では何が食べられますか？",
)
"""Not answered in the sample data."""


@dataclass(frozen=True)
class Task:
    """What one run trains and is asked."""

    seed: int
    train: list[tuple[str, str]]
    known: list[tuple[str, str]]
    """Of them, those with a fact for an answer, as people wrote them."""
    others: list[tuple[str, str]]
    """The wordings that people wrote and no run was taught."""
    wordings: dict[str, str]
    """By answer, all that people wrote to ask for it."""
    near_misses: list[str]


def task(way: str, seed: int, per_kind: int, share: float) -> Task:
    facts: defaultdict[str, list[Known]] = defaultdict(list)
    with SAMPLE.open(encoding="utf-8-sig") as stream:
        for row, cells in enumerate(csv.DictReader(stream), 2):
            facts[cells["グループ"]].append(Known(row, cells["質問"], cells["回答"]))
    has_four, is_reworded, refuses = WAYS[way]
    chosen = [wordings[seed % len(wordings)] for wordings in facts.values()]
    rest = [one for wordings in facts.values() for one in wordings if one not in chosen]
    taught, others = (rest, chosen) if has_four else (chosen, rest)
    checker = Checker(taught)
    copied = {
        comparison_key(wording.text)
        for one in taught
        for wording in rules.wordings(one.question, per_kind=MOST_PER_KIND, seed=seed)
    }
    others = [one for one in others if comparison_key(one.question) not in copied]
    rows = [(one.question, one.answer) for one in taught]
    if is_reworded:
        rows += [
            (wording.text, one.answer)
            for one in taught
            for wording in rules.wordings(one.question, per_kind=per_kind, seed=seed)
            if not checker.problems_of_wording(wording, one)
        ]
    refusal = near_misses.refusal_text([one.answer for one in taught])
    missed = near_misses.near_misses(taught, 400, refusal, seed)
    if refuses:
        wanted = round(len(rows) * share / (1 - share))
        to_teach = [one for one in missed if one.split == "train"][:wanted]
        rows += [(one.question, one.answer) for one in to_teach]
    return Task(
        seed,
        rows,
        [(one.question, one.answer) for one in taught],
        [(one.question, one.answer) for one in others],
        {
            of_fact[0].answer: " ".join(one.question for one in of_fact)
            for of_fact in facts.values()
        },
        [one.question for one in missed if one.split == "test"][:ASKED],
    )


@dataclass(frozen=True)
class Shares:
    """Of some questions with an answer in the data."""

    right: float
    fact: float
    refused: float


def run(asked: Task) -> dict[str, float]:
    """Trains and asks in this process; shares of 1."""
    from mlx_finetuning.mlx_trainer.inference import batch_generate
    from mlx_finetuning.mlx_trainer.kernels import cpu
    from mlx_finetuning.mlx_trainer.model.load import load
    from mlx_finetuning.mlx_trainer.training import loop
    from mlx_finetuning.tokenization.rows import Row

    cpu.keep_freed_memory()
    model = models.resolve(models.BUILT_IN, Workspace(Path()))
    rows: list[Row] = [
        {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        }
        for question, answer in asked.train
    ]
    base = TrainConfig(seed=asked.seed, sample_every=0, replay=0, processes=1)
    usual = presets.presets(base, len(rows), goal="faq")
    settings = next(preset.settings for preset in usual if preset.key == "usual")
    hooks = loop.Hooks(lambda line: None, lambda name, **_: None, lambda step: None)
    with tempfile.TemporaryDirectory() as out:
        loaded = load(model)
        loop.train(loaded, rows, [], settings, AdapterPaths(Path(out)), hooks)
        tuned = load(model, Path(out))
    questions = [*(q for q, _ in (*asked.known, *asked.others)), *asked.near_misses, *BY_HAND]
    prompts = [tuned.render([{"role": "user", "content": text}], ask=True) for text in questions]
    answers = [one.text for one in batch_generate.answers(tuned, prompts, 64, 32)]
    refusals = {answer for _, answer in asked.train} - {answer for _, answer in asked.known}
    common = common_words(answer for _, answer in asked.others)

    def is_refusal(text: str) -> bool:
        return text in refusals or "わかりません" in text

    def share(pairs: list[tuple[str, str]], begin: int) -> Shares:
        said = list(zip(answers[begin:], pairs, strict=False))
        right = [rightness(given, wanted, text, common) in RIGHT for given, (text, wanted) in said]
        facts = [
            rightness(given, wanted, asked.wordings[wanted], common) in RIGHT
            for given, (_, wanted) in said
        ]
        refused = [is_refusal(given) for given, _ in said]
        for (given, (text, _)), is_right in zip(said, facts, strict=True):
            if not is_right:
                print(f"{asked.seed}: {text} → {given}", file=sys.stderr)
        return Shares(*(sum(marks) / len(pairs) for marks in (right, facts, refused)))

    known, others = share(asked.known, 0), share(asked.others, len(asked.known))
    missed = answers[len(asked.known) + len(asked.others) :]
    made, by_hand = missed[: len(asked.near_misses)], missed[len(asked.near_misses) :]
    return {
        "rows": len(rows),
        "updates": settings.iterations,
        "known": known.right,
        "others": others.right,
        "others_fact": others.fact,
        "refused_others": others.refused,
        "near_misses": sum(map(is_refusal, made)) / len(made),
        "by_hand": sum(map(is_refusal, by_hand)) / len(by_hand),
    }


def in_own_process(asked: Task) -> dict[str, float]:
    command = [sys.executable, __file__, "--run"]
    text = json.dumps(asdict(asked), ensure_ascii=False)
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({"seed": asked.seed, **found}), file=sys.stderr, flush=True)
    return found


FIGURES = {
    "known": "taught wordings right",
    "others": "other wordings right",
    "others_fact": "fact right",
    "refused_others": "of them refused",
    "near_misses": "near misses refused",
    "by_hand": "by hand refused",
}


T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t by the number of runs."""


def interval_of(values: list[float]) -> float:
    """Half of the interval in which the mean lies in 19 of 20 cases."""
    if len(values) not in T_95:
        return float("nan")
    return T_95[len(values)] * float(statistics.stdev(values)) / float(len(values) ** 0.5)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--ways", default="; ".join(WAYS))
    parser.add_argument(
        "--per-kind", type=int, default=RewordConfig.per_kind, help="wordings of each kind"
    )
    parser.add_argument(
        "--share", type=float, default=RefuseConfig.share, help="of near misses among all rows"
    )
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--run", action="store_true", help="one run, from standard input")
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run(Task(**json.load(sys.stdin)))))
        return
    ways = options.ways.split("; ")
    tasks = [
        (way, task(way, seed, options.per_kind, options.share))
        for way in ways
        for seed in range(options.first, options.first + options.seeds)
    ]
    with ThreadPoolExecutor(options.at_once) as pool:
        results = list(pool.map(lambda pair: in_own_process(pair[1]), tasks))
    print(f"| rows | taught | updates | {' | '.join(FIGURES.values())} |")
    print("|---" * (len(FIGURES) + 3) + "|")
    for way in ways:
        found = [result for (name, _), result in zip(tasks, results, strict=True) if name == way]
        cells = []
        for key in FIGURES:
            values = [100 * one[key] for one in found]
            each = ", ".join(f"{value:.0f}" for value in values)
            mean, interval = statistics.mean(values), interval_of(values)
            cells.append(f"{mean:.1f} ± {interval:.1f}% ({each})")
        sizes = [f"{statistics.mean(one[key] for one in found):.0f}" for key in ("rows", "updates")]
        print(f"| {way} | {' | '.join((*sizes, *cells))} |")


if __name__ == "__main__":
    main()
