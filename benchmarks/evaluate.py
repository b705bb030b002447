"""Answers to 500 questions: in batches, and one by one. Greedy, both with the same model.

tiny-ja answers questions of its own exam's kinds; the other model has the shape of
`benchmarks/train.py`, random weights, and prompts of log-normal length. Each way in one process, after
a warm-up. `report` times a whole evaluation instead: tiny-ja after 20 updates on four fifths of the
questions, the rest held out.

    python benchmarks/evaluate.py [--model tiny-ja|shape|report] [--questions 500] [--max-tokens 32]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for recipes
sys.path.insert(0, str(Path(__file__).parent))

from mlx_finetuning.utils import blas

blas.preload()

import numpy as np  # noqa: E402
from train import write_model  # noqa: E402

from mlx_finetuning import files, models  # noqa: E402
from mlx_finetuning.config import TrainConfig  # noqa: E402
from mlx_finetuning.jobs.context import TaskContext  # noqa: E402
from mlx_finetuning.mlx_trainer.batches import batches  # noqa: E402
from mlx_finetuning.mlx_trainer.inference import batch_generate, grade  # noqa: E402
from mlx_finetuning.mlx_trainer.kernels import cpu  # noqa: E402
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load  # noqa: E402
from mlx_finetuning.progress import Step, silent  # noqa: E402
from mlx_finetuning.studio import Studio  # noqa: E402
from mlx_finetuning.tasks import evaluate  # noqa: E402
from mlx_finetuning.workspace import Workspace  # noqa: E402
from recipes.tiny_ja.exam import exam  # noqa: E402

BATCH = 32
KINDS = ("recall", "recall_new_wording", "unknown", "general")
"""Short questions with short answers, as a user's table has them."""


def questions(count: int) -> list[Any]:
    asked = exam(-(-count // len(KINDS)))
    return [
        chat for several in zip(*(asked[kind] for kind in KINDS), strict=True) for chat in several
    ][:count]


def tiny(count: int) -> tuple[LoadedModel, list[list[int]]]:
    loaded = load(models.resolve(models.BUILT_IN, Workspace(Path())))
    return loaded, [loaded.render(chat[:-1], ask=True) for chat in questions(count)]


def shape(count: int) -> tuple[LoadedModel, list[list[int]]]:
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        loaded = load(Path(folder))
    random = np.random.default_rng(7)
    lengths = np.clip(random.lognormal(np.log(40), 0.5, count), 8, 300).astype(int)
    return loaded, [random.integers(5, 7900, int(length)).tolist() for length in lengths]


MODELS = {"tiny-ja": tiny, "shape": shape}


def trained(workspace: Workspace, count: int) -> str:
    """A run on four fifths of the questions; of the others half choose and half are held out."""
    dataset, chats = workspace.dataset("questions"), questions(count)
    files.make_folder(dataset.folder)
    places = {"train": slice(0, count * 4 // 5), "valid": slice(count * 4 // 5, count * 9 // 10)}
    for split, place in {**places, "test": slice(count * 9 // 10, count)}.items():
        lines = (json.dumps({"messages": chat}, ensure_ascii=False) for chat in chats[place])
        dataset.split(split).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    studio = Studio(workspace)
    run_id = studio.training.start(TrainConfig(dataset="questions", iterations=20, sample_every=0))
    studio.runs.follow(run_id, silent)
    return run_id


def timed_report(workspace: Workspace, run_id: str, settings: dict[str, int]) -> Counter[str]:
    """Seconds by what was done: `損失`, `答え` and the rest."""
    seconds: Counter[str] = Counter()
    at, stage = time.perf_counter(), ""

    def note(step: Step) -> None:
        nonlocal at, stage
        now = time.perf_counter()
        seconds[stage] += now - at
        at, stage = now, step.stage.partition("：")[2]

    paths = workspace.run(run_id).later_job("evaluate-1")
    context = TaskContext(workspace, paths, run_id, settings, note, lambda *_, **__: None)
    evaluate.run(context)
    note(Step("", 0, 0))
    return seconds


def report(count: int, max_tokens: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        run_id = trained(workspace, count)
        for way, size in (("batched", BATCH), ("one by one", 1)):
            if size == 1:
                grade.batch_layout = lambda _: batches.PADDED  # each row by itself
            given = {"max_tokens": max_tokens, "batch_size": size}
            seconds = timed_report(workspace, run_id, given)
            losses, answers = seconds["損失"], seconds["答え"]
            whole = seconds.total()
            yield (
                f"| {way} | {count} | {whole:.1f} | {losses:.1f} | {answers:.1f} | "
                f"{whole - losses - answers:.1f} |"
            )


def answers(options: argparse.Namespace) -> str:
    loaded, prompts = MODELS[options.model](options.questions)
    batch_generate.answers(loaded, prompts[:4], 4, 2)
    found, seconds = {}, {}
    for size in (BATCH, 1):
        began_s = time.perf_counter()
        found[size] = batch_generate.answers(loaded, prompts, options.max_tokens, size)
        seconds[size] = time.perf_counter() - began_s
    equal = sum(a == b for a, b in zip(found[BATCH], found[1], strict=True))
    tokens = sum(map(len, prompts)), sum(answer.tokens for answer in found[1])
    return (
        f"| {options.model} | {len(prompts)} | {tokens[0]:,} + {tokens[1]:,} | {seconds[1]:.1f} | "
        f"{seconds[BATCH]:.1f} | {seconds[1] / seconds[BATCH]:.1f} | {equal / len(prompts):.1%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=(*MODELS, "report"), default="tiny-ja")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--max-tokens", type=int, default=32)
    options = parser.parse_args()
    cpu.keep_freed_memory()
    if options.model == "report":
        for line in report(options.questions, options.max_tokens):
            print(line, flush=True)
        return
    print(answers(options))


if __name__ == "__main__":
    main()
