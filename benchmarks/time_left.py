"""Estimated against real time, through the command line as users start it: a run's before it starts, and
what is left of the run and of its evaluation while they work.

Time left is read from the job's record five times a second; its factor is what was said over what was
then needed. What is left in the last two seconds is no time that anybody waits for.

    python benchmarks/time_left.py [--facts 10 40 120] [--model FOLDER] [--log FILE]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import asking, command

LOOK_S, SHORTEST_S = 0.2, 2.0
SHOPS = ("みどり", "青葉", "若竹", "さくら", "高砂", "千歳")
FACTS = (
    ("{shop}の営業時間を教えてください。", "{shop}は何時から開いていますか？", "{n}時からです。"),
    ("{shop}の電話番号は？", "{shop}に電話をかけたいのですが。", "03-55{n:02}-12{n:02}です。"),
    ("{shop}の担当者は誰ですか？", "{shop}では誰に相談できますか？", "{n}番窓口の佐々木です。"),
)
"""Two questions and their answer."""


@dataclass(frozen=True)
class Said:
    """What a job's record said of the time left."""

    at_s: float
    stage: str
    done: int
    left_s: float


@dataclass(frozen=True)
class Followed:
    """A job from its start to its end."""

    said: list[Said]
    took_s: float

    @property
    def told(self) -> str:
        """The first thing that was said and the range of all, as factors of the truth."""
        told = [
            one.left_s / left for one in self.said if (left := self.took_s - one.at_s) > SHORTEST_S
        ]
        if not told:
            return "—"
        return f"{told[0]:.2f} at {self.said[0].at_s:.1f} s; {min(told):.2f} to {max(told):.2f}"


def sheet(path: Path, facts: int) -> None:
    """Facts about shops in two wordings each."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("質問", "回答", "グループ"))
        for number in range(facts):
            shop = f"{SHOPS[number // 3 % len(SHOPS)]}{number // 18 + 1}号店"
            texts = (text.format(shop=shop, n=number % 24) for text in FACTS[number % len(FACTS)])
            *asked, answer = texts
            writer.writerows((question, answer, f"{shop}{number}") for question in asked)


def follow(folder: Path) -> Followed:
    """What a job's record says until the job ends."""
    began_s, said = time.monotonic(), []
    while True:
        record, at_s = read(folder / "status.json"), time.monotonic() - began_s
        if record.get("state") not in (None, "queued", "running"):
            break
        if record.get("remaining_s") is not None:
            said.append(Said(at_s, record["stage"], record["done"], record["remaining_s"]))
        time.sleep(LOOK_S)
    if record["state"] != "done":
        raise SystemExit(f"{record['state']}: {record.get('error')}")
    return Followed(said, at_s)


def read(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return record


def measure(model: str, facts: int, log: Path | None) -> str:
    """A line of the table."""
    with tempfile.TemporaryDirectory() as name:
        workspace, load = Path(name), os.getloadavg()[0]
        path = workspace / "facts.csv"
        if model == "tiny-ja":
            sheet(path, facts)
        else:
            asking.write_sheet(path)
        command.result(workspace, "data", "prepare", str(path), "--name", "facts", "--goal", "faq")
        chosen = ("train", "--model", model, "--dataset", "facts")
        estimate_s = command.result(workspace, *chosen, "--dry-run", limit_s=1200)["total_s"]
        run_id = command.result(workspace, *chosen, "--detach")["run_id"]
        folder = workspace / "experiments" / run_id
        trained = follow(folder)
        words = [command.COMMAND, "evaluate", run_id, "--workspace", name, "--json"]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            while not (jobs := list(folder.glob("jobs/evaluate*"))):
                time.sleep(LOOK_S / 10)
            evaluated = follow(jobs[0])
    if log is not None:
        write_log(log, trained, evaluated)
    return (
        f"| {model.rsplit('/', 1)[-1]}, {facts} | {load:.0f} | {estimate_s:.0f} | {trained.took_s:.0f} "
        f"| {estimate_s / trained.took_s:.2f} | {trained.told} | {evaluated.took_s:.0f} | {evaluated.told} |"
    )


def write_log(path: Path, *jobs: Followed) -> None:
    """All that was said, with the truth."""
    with path.open("a", encoding="utf-8") as out:
        for job in jobs:
            for one in job.said:
                really_s = job.took_s - one.at_s
                out.write(
                    f"{one.at_s:7.1f} {one.stage} {one.done} {one.left_s:.1f} {really_s:.1f}\n"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, nargs="+", default=[10, 40, 120])
    parser.add_argument(
        "--model", default="tiny-ja", help="another one learns sixty facts in English"
    )
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    print(
        "| model, facts | load | estimate, s | took, s | factor | time left | evaluation, s | time left |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for facts in options.facts:
        print(measure(options.model, facts, options.log), flush=True)


if __name__ == "__main__":
    main()
