"""How long the dataset stage takes, and how much memory, beside the same work in pandas and datasets.

python benchmarks/data.py [--rows 10000 100000] [--ending .xlsx] [--peers PYTHON]

Each measurement is a process of its own. `--peers` names an interpreter that has pandas and
datasets. They read, normalise, drop what is empty or double, group near-duplicates (MinHash in
NumPy), split by group and write; encodings, row checks, findings and manifest are ours only.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROWS = (10_000, 100_000)
CHARACTERS = 125
"""Of question and answer together: 40 MB of UTF-8 for 100,000 rows."""

_KANJI = "日本営業時間価格商品返品配送料金予約変更申込確認方法場所電話番号会員登録支払口座名義住所氏連絡先担当者資料請求見積書類提出期限延長理由説明対応相談窓受付平休定週末祝年月曜午前後開始終了温度湿調整部材検査工程管理品質保証修理交換点安全作注意事項機械油圧弁軸歯車溶接塗装"
_KANA = "かきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろ"
_PARTICLES = ("は", "が", "を", "に", "で", "の", "と", "から", "まで", "より", "について", "では")
_ENDINGS = ("ます。", "です。", "ください。", "ありません。", "でしょう。", "できます。")
_ASKING = (
    "はいくらですか？",
    "を教えてください。",
    "はできますか？",
    "はどこですか？",
    "について知りたいです。",
)

OURS = """
import sys, json, time, resource
from pathlib import Path
from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import prepare
from mlx_finetuning.workspace import DatasetPaths
steps, gaps, last = [], [0.0], [time.perf_counter()]
def progress(step):
    now = time.perf_counter()
    gaps[0] = max(gaps[0], now - last[0])
    last[0] = now
    if not steps or steps[-1][0] != step.stage:
        steps.append((step.stage, now))
start = time.perf_counter()
summary = prepare(Path(sys.argv[1]), "bench", DatasetPaths(Path(sys.argv[2])), PrepareConfig(), None, progress)
end = time.perf_counter()
ends = [at for _, at in steps[1:]] + [end]
print(json.dumps({
    "seconds": end - start,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    "longest_gap": gaps[0],
    "stages": [[name, done - begun] for (name, begun), done in zip(steps, ends)],
    "counts": summary.counts,
    "findings": {item.code: len(item.rows) for item in summary.findings},
}))
"""

PEERS = """
import sys, json, time, resource, unicodedata, zlib
start = time.perf_counter()
import numpy as np
import pandas as pd
from datasets import Dataset
frame = pd.read_csv(sys.argv[1], encoding="utf-8")
for name in ("質問", "回答"):
    frame[name] = frame[name].map(lambda text: unicodedata.normalize("NFC", text.replace("\\r\\n", "\\n")))
frame = frame[(frame["質問"].str.strip() != "") & (frame["回答"].str.strip() != "")]
keys = frame[["質問", "回答"]].map(lambda text: " ".join(unicodedata.normalize("NFKC", text).split()).casefold())
fresh = ~keys.duplicated()
frame, questions = frame[fresh].reset_index(drop=True), keys["質問"][fresh].tolist()
before = time.perf_counter()

# Near-duplicates by MinHash, 32 bands of 4; candidates are compared with the first of their bucket.
rng = np.random.default_rng(0)
factors = rng.integers(1, 1 << 31, 128, np.uint64)
shifts = rng.integers(0, 1 << 31, 128, np.uint64)
grams, labels, buckets = [], list(range(len(questions))), {}
def root(at):
    while labels[at] != at:
        at = labels[at]
    return at
for at, text in enumerate(questions):
    own = {text[i : i + 5] for i in range(max(len(text) - 4, 1))}
    grams.append(own)
    hashes = np.array([zlib.crc32(gram.encode()) for gram in own], np.uint64)
    signature = ((hashes[:, None] * factors + shifts) % np.uint64(2147483647)).min(0)
    for band in range(32):
        other = buckets.setdefault((band, signature[band * 4 : band * 4 + 4].tobytes()), at)
        if root(other) != root(at) and len(own & grams[other]) >= 0.7 * len(own | grams[other]):
            labels[root(at)] = root(other)
near = time.perf_counter() - before

group = pd.Series([root(at) for at in range(len(questions))])
drawn = group.map(dict(zip(group.unique(), rng.random(group.nunique()))))
frame["messages"] = [
    [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
    for q, a in zip(frame["質問"], frame["回答"])
]
for name, low, high in (("train", 0.2, 1.0), ("valid", 0.1, 0.2), ("test", 0.0, 0.1)):
    part = frame[(drawn >= low) & (drawn < high)][["messages"]]
    Dataset.from_pandas(part, preserve_index=False).to_json(f"{sys.argv[2]}-{name}.jsonl", force_ascii=False)
seconds = time.perf_counter() - start
print(json.dumps({
    "seconds": seconds,
    "without_near": seconds - near,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
}))
"""


def _word(rng: random.Random) -> str:
    size = rng.choice((1, 2, 2, 3, 4))
    return "".join(rng.choice(_KANJI if rng.random() < 0.7 else _KANA) for _ in range(size))


def rows(count: int, seed: int = 1) -> Iterator[tuple[str, str, str]]:
    """Question, answer, category: a twentieth repeats an earlier row, a fifth rewords one."""
    rng = random.Random(seed)
    words = [_word(rng) for _ in range(20_000)]
    made: list[tuple[str, str, str]] = []
    for _ in range(count):
        draw = rng.random()
        if made and draw < 0.05:
            yield rng.choice(made)
        elif made and draw < 0.25:
            question, answer, category = rng.choice(made)
            yield question[:-1] + "のでしょうか？", answer, category
        else:
            made.append(_row(rng, words))
            yield made[-1]


def _row(rng: random.Random, words: list[str]) -> tuple[str, str, str]:
    def phrase() -> str:
        return rng.choice(words) + rng.choice(_PARTICLES)

    question = "".join(phrase() for _ in range(7))[:-1] + rng.choice(_ASKING)
    answer = ""
    while len(question) + len(answer) < CHARACTERS:
        answer += "".join(phrase() for _ in range(5)) + rng.choice(words) + rng.choice(_ENDINGS)
    return question, answer, rng.choice(("営業", "技術", "総務", "製造"))


def write(path: Path, count: int) -> None:
    if path.suffix == ".xlsx":
        import xlsxwriter

        with xlsxwriter.Workbook(path, {"constant_memory": True}) as book:
            sheet = book.add_worksheet()
            for number, row in enumerate((("質問", "回答", "カテゴリ"), *rows(count))):
                sheet.write_row(number, 0, row)
        return
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("質問", "回答", "カテゴリ"))
        writer.writerows(rows(count))


def measured(python: str, script: str, source: Path, out: Path) -> dict[str, object]:
    command = [python, "-c", script, str(source), str(out)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--ending", choices=(".csv", ".xlsx"), default=".csv")
    parser.add_argument("--peers", help="an interpreter that has pandas and datasets")
    parser.add_argument(
        "--details", action="store_true", help="seconds by stage, on standard error"
    )
    options = parser.parse_args()
    print("| rows | MB | this project: s | peak GB | longest silence s |", end="")
    print(" pandas and datasets: s | without near-duplicates: s | peak GB |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for count in options.rows:
            source = Path(folder) / f"source{options.ending}"
            write(source, count)
            ours = measured(sys.executable, OURS, source, Path(folder) / f"ours-{count}")
            peers = (
                measured(options.peers, PEERS, source, Path(folder) / f"peers-{count}")
                if options.peers
                else {}
            )
            print(_line(count, source, ours, peers), flush=True)
            if options.details:
                print(json.dumps(ours, ensure_ascii=False, indent=1), file=sys.stderr)


def _line(count: int, source: Path, ours: dict[str, object], peers: dict[str, object]) -> str:
    def number(values: dict[str, object], key: str, scale: float = 1) -> str:
        value = values.get(key)
        return f"{value / scale:.2f}" if isinstance(value, int | float) else ""

    size = f"{source.stat().st_size / 1e6:.0f}"
    cells = [f"{count:,}", size, number(ours, "seconds"), number(ours, "peak", 1e9)]
    cells += [number(ours, "longest_gap"), number(peers, "seconds")]
    cells += [number(peers, "without_near"), number(peers, "peak", 1e9)]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
