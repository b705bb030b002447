"""Training speed on a GPU: our engine, Hugging Face transformers with peft, and plain mlx-lm.

A random model of Gemma 2 2B's shape in bfloat16, rank 8 on all linear layers, four examples of
log-normal length an update, answers supervised only. Every engine runs in a process of its own.
Needs a GPU that MLX and torch can use; peers are measured where torch and peft are installed.

    python benchmarks/gpu.py [--updates 40] [--engines ours,peft-eager,peft-sdpa]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = {
    "model_type": "gemma2",
    "hidden_size": 2304,
    "num_hidden_layers": 26,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "rms_norm_eps": 1e-6,
    "vocab_size": 256_000,
    "query_pre_attn_scalar": 256,
    "max_position_embeddings": 8192,
    "sliding_window": 4096,
}
ROWS, BATCH, RANK = 160, 4, 8
ENGINES = ("ours", "peft-eager", "peft-sdpa")


def rows() -> list[tuple[list[int], int]]:
    """Token ids and where the answer begins; 200 tokens on average, 58% of them answers."""
    random = np.random.default_rng(7)
    lengths = np.clip(random.lognormal(np.log(170), 0.58, ROWS), 24, 900)
    lengths = np.maximum(24, lengths * 32_000 / lengths.sum()).astype(int)
    return [(random.integers(5, 255_000, n).tolist(), int(0.42 * n)) for n in lengths]


def run_ours(updates: int) -> dict[str, Any]:
    from mlx_finetuning import mlx_trainer

    mlx_trainer.for_training()
    import mlx.core as mx
    import train
    from mlx.utils import tree_map
    from mlx_lm.models import gemma2

    from mlx_finetuning.config import TrainConfig
    from mlx_finetuning.mlx_trainer.model.load import load_tokenizer
    from mlx_finetuning.mlx_trainer.training import loop
    from mlx_finetuning.workspace import AdapterPaths

    mx.random.seed(0)
    model = gemma2.Model(gemma2.ModelArgs.from_dict(SHAPE))
    model.update(tree_map(lambda value: (0.5 * value).astype(mx.bfloat16), model.parameters()))
    mx.eval(model.parameters())
    config = TrainConfig(
        iterations=updates,
        batch_size=BATCH,
        rank=RANK,
        alpha=16.0,
        learning_rate=1e-4,
        checkpoint_every=10**6,
        max_length=2048,
    )
    lines: list[dict[str, Any]] = []
    hooks = loop.Hooks(lines.append, lambda name, **_: None, lambda step: None)
    with tempfile.TemporaryDirectory() as folder:
        # One token a word, as many as `rows` has; only the tokenizer is read.
        train.write_model(Path(folder), {**train.SHAPE, "num_hidden_layers": 1})
        loaded = replace(
            load_tokenizer(Path(folder)), model=model.eval(), config=SHAPE, folder=None
        )
        paths = AdapterPaths(Path(folder) / "adapter")
        loop.train(loaded, train.chats(), [], config, paths, hooks)
    seconds = [line["supervised_tokens"] / line["tokens_per_second"] for line in lines]
    return {
        "seconds": seconds,
        "peak_gb": mx.get_peak_memory() / 1e9,
        "card_gb": max(line.get("card_memory_gb", 0.0) for line in lines),
        "losses": [line["loss"] for line in lines],
    }


def run_peft(updates: int, attention: str) -> dict[str, Any]:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from mlx_finetuning.config import TrainConfig
    from mlx_finetuning.mlx_trainer.batches import batches

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    config = Gemma2Config(**{k: v for k, v in SHAPE.items() if k != "model_type"})
    config._attn_implementation = attention
    with torch.device("cuda"):
        model = Gemma2ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.config.use_cache = False
    linears = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=16, target_modules=linears))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    data, order = rows(), batches.endless(ROWS, BATCH, TrainConfig.seed)
    seconds, losses = [], []
    for _ in range(updates):
        began_s = time.perf_counter()
        chosen = [data[index] for index in next(order)]
        length = max(len(tokens) for tokens, _ in chosen)
        ids = torch.zeros(BATCH, length, dtype=torch.long)
        labels = torch.full((BATCH, length), -100)
        seen = torch.zeros(BATCH, length, dtype=torch.long)
        for row, (tokens, begin) in enumerate(chosen):
            ids[row, : len(tokens)] = seen.new_tensor(tokens)
            labels[row, begin : len(tokens)] = seen.new_tensor(tokens[begin:])
            seen[row, : len(tokens)] = 1
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(
                input_ids=ids.cuda(), attention_mask=seen.cuda(), labels=labels.cuda()
            ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began_s)
    return {
        "seconds": seconds,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
        "card_gb": torch.cuda.max_memory_reserved() / 1e9,
        "losses": losses,
    }


def child(engine: str, updates: int) -> dict[str, Any]:
    if engine == "ours":
        return run_ours(updates)
    return run_peft(updates, engine.removeprefix("peft-"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--child", default="")
    options = parser.parse_args()
    if options.child:
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        answers.write(json.dumps(child(options.child, options.updates)))
        answers.close()
        return
    mean = sum(len(tokens) for tokens, _ in rows()) / ROWS * BATCH
    print(
        "| engine | tokens/s after 8 updates | start included | peak GB | held GB "
        "| first loss | last |"
    )
    print("|---|---|---|---|---|---|---|")
    for engine in options.engines.split(","):
        words = [sys.executable, __file__, "--child", engine, "--updates", str(options.updates)]
        began_s = time.perf_counter()
        result = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
        wall_s = time.perf_counter() - began_s
        middle = mean / statistics.median(result["seconds"][8:] or result["seconds"])
        whole = mean * options.updates / wall_s
        losses = result["losses"]
        print(
            f"| {engine} | {middle:.0f} | {whole:.0f} | {result['peak_gb']:.1f} "
            f"| {result['card_gb']:.1f} "
            f"| {losses[0]:.3f} | {losses[-1]:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
