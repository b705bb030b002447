"""`bench train|export|data`: runs the scripts of a source checkout that print tables.

The scripts are not part of the installed package; they compare with programs that few people have.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from mlx_finetuning.cli.session import Answer, Session, command, group
from mlx_finetuning.errors import BenchmarksMissing

FOLDER = Path(__file__).parents[3] / "benchmarks"

bench = group("bench", "速度とメモリーを測る（ソースコード一式が必要）")

WORDS = click.argument("words", metavar="[-- 測定の引数]", nargs=-1, type=click.UNPROCESSED)


@command(bench)
@WORDS
def train(session: Session, words: tuple[str, ...]) -> Answer:
    """学習の速さを mlx-lm と交互に測る（引数の例: -- --rounds 1 --layers 4）"""
    return run("train", words)


@command(bench)
@WORDS
def export(session: Session, words: tuple[str, ...]) -> Answer:
    """書き出しの速さとメモリーを測る（引数の例: -- --shape 0.25B）"""
    return run("export", words)


@command(bench)
@WORDS
def data(session: Session, words: tuple[str, ...]) -> Answer:
    """データの取り込みの速さとメモリーを測る（引数の例: -- --rows 10000）"""
    return run("data", words)


def run(name: str, words: tuple[str, ...], folder: Path = FOLDER) -> Answer:
    """The script's table; what it says meanwhile goes to standard error as it comes.

    Raises BenchmarksMissing.
    """
    script = folder / f"{name}.py"
    if not script.is_file():
        raise BenchmarksMissing(path=str(script))
    done = subprocess.run(
        [sys.executable, str(script), *words],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=False,
    )
    data = {"benchmark": name, "table": done.stdout, "exit_code": done.returncode}
    return Answer(data, done.stdout.rstrip(), int(done.returncode != 0))
