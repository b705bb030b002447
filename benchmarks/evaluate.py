"""Answers to 500 questions: in batches, and one by one. Greedy, both with the same model.

tiny-ja answers questions of its own exam's kinds; the other model has the shape of
`benchmarks/train.py`, random weights, and prompts of log-normal length. Each way in one process, after
a warm-up.

    python benchmarks/evaluate.py [--model tiny-ja|shape] [--questions 500] [--max-tokens 32]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mlx_finetuning.utils import blas

blas.preload()

import numpy as np  # noqa: E402
from train import write_model  # noqa: E402

from mlx_finetuning import models  # noqa: E402
from mlx_finetuning.mlx_trainer import batched, cpu_math  # noqa: E402
from mlx_finetuning.mlx_trainer.load import LoadedModel, load  # noqa: E402
from mlx_finetuning.tiny_ja.exam import exam  # noqa: E402
from mlx_finetuning.workspace import Workspace  # noqa: E402

BATCH = 32
KINDS = ("recall", "recall_new_wording", "unknown", "general")
"""Short questions with short answers, as a user's table has them."""


def tiny(count: int) -> tuple[LoadedModel, list[list[int]]]:
    loaded = load(models.resolve(models.BUILT_IN, Workspace(Path())))
    chats = [chat for kind in KINDS for chat in exam(-(-count // len(KINDS)))[kind]]
    return loaded, [loaded.render(chat[:-1], ask=True) for chat in chats[:count]]


def shape(count: int) -> tuple[LoadedModel, list[list[int]]]:
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        loaded = load(Path(folder))
    random = np.random.default_rng(7)
    lengths = np.clip(random.lognormal(np.log(40), 0.5, count), 8, 300).astype(int)
    return loaded, [random.integers(5, 7900, int(length)).tolist() for length in lengths]


MODELS = {"tiny-ja": tiny, "shape": shape}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="tiny-ja")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--max-tokens", type=int, default=32)
    options = parser.parse_args()
    cpu_math.keep_freed_memory()
    loaded, prompts = MODELS[options.model](options.questions)
    batched.answers(loaded, prompts[:4], 4, 2)
    found, seconds = {}, {}
    for size in (BATCH, 1):
        began_s = time.perf_counter()
        found[size] = batched.answers(loaded, prompts, options.max_tokens, size)
        seconds[size] = time.perf_counter() - began_s
    equal = sum(a == b for a, b in zip(found[BATCH], found[1], strict=True))
    tokens = sum(map(len, prompts)), sum(answer.tokens for answer in found[1])
    print(
        f"| {options.model} | {len(prompts)} | {tokens[0]:,} + {tokens[1]:,} | {seconds[1]:.1f} | "
        f"{seconds[BATCH]:.1f} | {seconds[1] / seconds[BATCH]:.1f} | {equal / len(prompts):.1%} |"
    )


if __name__ == "__main__":
    main()
