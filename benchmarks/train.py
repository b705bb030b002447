"""Training speed: our engine, mlx-lm as installed, and mlx-lm with its sort by length repaired.

The same random Llama-shaped model, the same 160 Japanese-like chats of log-normal length, the same
examples per update, rank 8 on all linear layers, answers supervised only, float32. Every engine
runs in a process of its own, in alternation; its first update is timed from that process's start.
Supervised tokens are counted the same way for all. "ours-python" is ours without its C++ kernels, "peft"
(only where asked for) transformers and peft without padding, by the Python of their environment.

    python benchmarks/train.py [--rounds 3] [--updates 40] [--layers 8] [--reference-blas]
                               [--engines ours,ours-python,peft --peft PYTHON] [--weights FOLDER]
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

SHAPE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 384,
    "num_hidden_layers": 8,
    "intermediate_size": 1024,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "head_dim": 64,
    "rms_norm_eps": 1e-5,
    "vocab_size": 8000,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}
ROWS, BATCH, RANK = 160, 4, 8
TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {{ m['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
ENGINES = ("ours", "mlx-lm", "mlx-lm-sorted")
WORDS = tuple(f"語{number}" for number in range(7900))
ENGLISH = tuple(
    "the of and to in is that for it as was with be by on not he his but at are this have from or "
    "had an they which one you were all her she there would their we him been has when who will no "
    "more if out so said what up its about than into them can only other time new some could these".split()
)
"""Words of one token, for real models (`--weights`)."""


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """One token per word, so that lengths are exact."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "user", "assistant"]
    words += [f"語{number}" for number in range(vocabulary - len(words))]
    table = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(words[:3])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_model(folder: Path, shape: dict[str, Any] = SHAPE) -> None:
    """Random weights, and a tokenizer."""
    write_tokenizer(folder, shape["vocab_size"])
    (folder / "config.json").write_text(json.dumps(shape))
    import mlx.core as mx
    from mlx.utils import tree_flatten

    mx.random.seed(0)
    module = importlib.import_module(f"mlx_lm.models.{shape['model_type']}")
    model = module.Model(module.ModelArgs.from_dict(shape))
    weights = {name: 0.5 * value for name, value in tree_flatten(model.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})


def chats(words: Sequence[str] = WORDS, tokens: int = 32_000) -> list[dict[str, Any]]:
    """160 chats of so many tokens together, 58% of them answers."""
    random = np.random.default_rng(7)
    lengths = np.clip(random.lognormal(np.log(170), 0.58, ROWS), 24, 900)
    lengths = np.maximum(24, lengths * tokens / lengths.sum()).astype(int)
    return [_chat(random, words, int(length), number) for number, length in enumerate(lengths)]


def _chat(
    random: np.random.Generator, taken: Sequence[str], length: int, row: int
) -> dict[str, Any]:
    words = [taken[number] for number in random.integers(0, len(taken), length - 6)]
    cut = int(0.42 * len(words))
    question = {"role": "user", "content": " ".join(words[:cut])}
    return {
        "messages": [question, {"role": "assistant", "content": " ".join(words[cut:])}],
        "row": row + 2,
    }


def run_ours(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from mlx_finetuning.config import TrainConfig
    from mlx_finetuning.mlx_trainer.batches import batches
    from mlx_finetuning.mlx_trainer.model.load import load
    from mlx_finetuning.mlx_trainer.training import loop
    from mlx_finetuning.workspace import AdapterPaths

    config = TrainConfig(
        iterations=options.updates,
        batch_size=BATCH,
        rank=RANK,
        alpha=16.0,
        learning_rate=1e-4,
        num_layers=options.layers,
        gradient_clip=0.0,
        checkpoint_every=10**6,
        processes=options.processes,
        max_length=2048,
    )
    data = chats(ENGLISH if options.weights else WORDS)
    lines: list[dict[str, Any]] = []
    first_update_s: list[float] = []

    def record(line: Mapping[str, float]) -> None:
        lines.append(dict(line))
        first_update_s.append(since_start_s())

    hooks = loop.Hooks(record, lambda name, **_: None, lambda step: None)
    began_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        loaded = load(folder)
        result = loop.train(loaded, data, [], config, AdapterPaths(Path(out)), hooks)
    wall_s = time.perf_counter() - began_s
    lengths = [len(loaded.render(chat["messages"], ask=False)) for chat in data]
    order = itertools.islice(batches.endless(ROWS, BATCH, config.seed), options.updates)
    first_s = lines[0]["elapsed_s"] - lines[0]["supervised_tokens"] / lines[0]["tokens_per_second"]
    tokens = result.supervised_tokens
    return {
        "train_s": lines[-1]["elapsed_s"] - first_s,
        "wall_s": wall_s,
        "first_update_s": first_update_s[0],
        "supervised": tokens,
        "real": sum(lengths[index] for taken in order for index in taken),
        "losses": [line["loss"] for line in lines],
        "padded": 0.0 if not result.padded else None,
        "processes": result.processes,
    }


def updates_as_json(folder: Path, options: argparse.Namespace) -> list[list[Any]]:
    """Of every update its examples, as tokens and the first supervised one's number."""
    from mlx_finetuning.config import TrainConfig
    from mlx_finetuning.mlx_trainer.batches import batches, examples
    from mlx_finetuning.mlx_trainer.model.load import load

    data = chats(ENGLISH if options.weights else WORDS)
    encoded = examples.encode_rows(load(folder), data, 2048)
    order = itertools.islice(batches.endless(ROWS, BATCH, TrainConfig.seed), options.updates)
    return [
        [[encoded[index].tokens, encoded[index].supervised.index(True)] for index in taken]
        for taken in order
    ]


def run_mlx_lm(folder: Path, options: argparse.Namespace, *, repaired: bool) -> dict[str, Any]:
    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx_lm.tuner import datasets, trainer
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load

    if repaired:
        datasets.CacheDataset.itemlen = lambda self, index: len(self[index][0])
    began_s = time.perf_counter()
    model, tokenizer = load(str(folder))
    mx.random.seed(0)
    model.freeze()
    linear_to_lora_layers(model, options.layers, {"rank": RANK, "scale": 2.0, "dropout": 0.0})
    rows = datasets.CacheDataset(datasets.ChatDataset(chats(), tokenizer, mask_prompt=True))
    counts = {"supervised": 0, "real": 0, "grid": 0}

    def batches(**settings: Any) -> Any:
        for batch, spans in trainer.iterate_batches(**settings):
            ends = np.array(spans)
            counts["supervised"] += int((ends[:, 1] - ends[:, 0]).sum())
            counts["real"] += int(ends[:, 1].sum())
            counts["grid"] += batch.size
            yield batch, spans

    losses: list[float] = []
    first_update_s: list[float] = []

    class Callback(trainer.TrainingCallback):
        def on_train_loss_report(self, info: dict[str, Any]) -> None:
            losses.append(info["train_loss"])
            first_update_s.append(since_start_s())

    with tempfile.TemporaryDirectory() as out:
        arguments = trainer.TrainingArgs(
            batch_size=BATCH,
            iters=options.updates,
            steps_per_report=1,
            steps_per_save=10**6,
            adapter_file=str(Path(out) / "adapters.safetensors"),
        )
        train_s = time.perf_counter()
        trainer.train(
            model,
            optim.AdamW(1e-4, weight_decay=0.0),
            rows,
            args=arguments,
            iterate_batches=batches,
            training_callback=Callback(),
        )
    ended_s = time.perf_counter()
    return {
        "train_s": ended_s - train_s,
        "wall_s": ended_s - began_s,
        "first_update_s": first_update_s[0],
        "supervised": counts["supervised"],
        "real": counts["real"],
        "losses": losses,
        "padded": 1 - counts["real"] / counts["grid"],
        "processes": 1,
    }


def since_start_s() -> float:
    """Seconds since this process was started, imports and all."""
    return time.time() - psutil.Process().create_time()


def child(options: argparse.Namespace) -> None:
    from mlx_finetuning.jobs import scheduling
    from mlx_finetuning.utils import blas

    blas.preload()
    if options.child.startswith("ours"):  # as the worker does
        scheduling.as_batch_work()
    folder = Path(options.model)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    result: Any
    if options.child == "examples":
        result = updates_as_json(folder, options)
    elif options.child.startswith("ours"):
        result = run_ours(folder, options)
    else:
        result = run_mlx_lm(folder, options, repaired=options.child == "mlx-lm-sorted")
    answers.write(json.dumps(result))
    answers.close()


def measured(engine: str, model: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One run in a fresh process, with the peak of its and its children's memory together."""
    changed = {"MLX_FINETUNING_BLAS": "off"} if options.reference_blas else {}
    if engine == "ours-python":
        changed["MLX_FINETUNING_KERNELS"] = "off"
    words = command(engine, model, options)
    before_s = _processor_s()
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=None if options.verbose else subprocess.DEVNULL,
        env={**os.environ, **changed},
    )
    peak, ended = [0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, ended))
    watcher.start()
    output, _ = process.communicate()
    ended.set()
    watcher.join()
    processor_s = _processor_s() - before_s
    return {**json.loads(output), "peak_gb": peak[0] / 1e9, "processor_s": processor_s}


def command(engine: str, model: Path, options: argparse.Namespace) -> list[str]:
    """What runs an engine; for peft the examples are written down first."""
    words = [sys.executable, __file__, "--model", str(model), "--weights", options.weights]
    words += ["--updates", str(options.updates), "--layers", str(options.layers)]
    words += ["--processes", str(options.processes)]
    if engine != "peft":
        return [*words, "--child", engine]
    made = subprocess.run([*words, "--child", "examples"], check=True, stdout=subprocess.PIPE)
    updates = model.parent / f"{model.name}-updates.json"
    updates.write_bytes(made.stdout)
    return [options.peft, str(Path(__file__).with_name("peft_cpu.py")), str(model), str(updates)]


def _processor_s() -> float:
    """Seconds of both cores that ended children took, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(pid: int, peak: list[int], ended: threading.Event) -> None:
    while not ended.wait(0.1):
        try:
            parent = psutil.Process(pid)
            family = [parent, *parent.children(recursive=True)]
            used = sum(item.memory_full_info().pss for item in family)
        except psutil.Error:
            continue
        peak[0] = max(peak[0], used)


def gemm_gflops() -> float:
    from mlx_finetuning.utils import blas

    found = blas.measure()
    return 0.0 if found is None else found.gflops


def floor_s(options: argparse.Namespace) -> float:
    """Seconds of the matrix products alone that an update's tokens cannot do without."""
    hidden, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    block = 4 * hidden**2 + 3 * hidden * inner
    tokens, supervised = 32_000 / ROWS * BATCH, 18_600 / ROWS * BATCH
    forward = 2 * block * SHAPE["num_hidden_layers"] * tokens
    backward = 2 * block * options.layers * tokens
    head = 4 * hidden * SHAPE["vocab_size"] * supervised
    return options.updates * (forward + backward + head) / (gemm_gflops() * 1e9)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--reference-blas", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--peft", default=sys.executable)
    parser.add_argument("--weights", default="")
    parser.add_argument("--child", default="")
    parser.add_argument("--model", default="")
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        if options.weights:
            model.symlink_to(Path(options.weights).absolute())
        else:
            model.mkdir()
            write_model(model)
        table(model, options)


def table(model: Path, options: argparse.Namespace) -> None:
    engines = options.engines.split(",")
    results: dict[str, list[dict[str, Any]]] = {engine: [] for engine in engines}
    for _ in range(options.rounds):
        for engine in engines:
            result = measured(engine, model, options)
            results[engine].append(result)
            rate = round(result["supervised"] / result["train_s"])
            cost = 1e3 * result["processor_s"] / result["supervised"]
            print(f"{engine} {rate} tokens/s, {cost:.2f} ms each", file=sys.stderr)
    least_s = 0.0 if options.weights else floor_s(options)
    print(
        "| engine | supervised tokens/s | real tokens/s | processor ms a supervised token | padded "
        "| peak GB | wall s | first update s | first loss | last | floor |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for engine, runs in results.items():
        rates = [run["supervised"] / run["train_s"] for run in runs]
        middle = statistics.median(rates)
        real = statistics.median(run["real"] / run["train_s"] for run in runs)
        share = statistics.median(least_s / run["train_s"] for run in runs)
        peak = max(run["peak_gb"] for run in runs)
        wall = statistics.median(run["wall_s"] for run in runs)
        first = statistics.median(run["first_update_s"] for run in runs)
        losses = runs[0]["losses"]
        cost = statistics.median(1e3 * run["processor_s"] / run["supervised"] for run in runs)
        print(
            f"| {engine} | {middle:.0f} ({min(rates):.0f} to {max(rates):.0f}) | {real:.0f} "
            f"| {cost:.2f} | {runs[0]['padded']:.0%} | {peak:.2f} | {wall:.1f} | {first:.1f} "
            f"| {losses[0]:.3f} | {losses[-1]:.3f} | {share:.0%} |"
        )


if __name__ == "__main__":
    main()
