"""Training speed on a GPU: our engine, Hugging Face transformers with peft, and Unsloth.

Random models of Gemma 2 2B's and Llama 3.1 8B's shape in bfloat16, rank 8 on all linear layers,
examples of log-normal length, answers supervised only. Every engine runs in a process of its own.
Needs a GPU that MLX and torch can use; peers are measured where torch and peft are installed.
`peft-eager` and `peft-sdpa` pad; `peft-varlen` puts an update's examples into one row without
padding, with torch's FlashAttention for rows of several lengths. `unsloth` is given such rows as its
own trainer gives them, `unsloth-padded` padded ones, which is all that Unsloth has for Gemma 2.

    python benchmarks/gpu.py [--model llama-3.1-8b] [--updates 40] [--engines ours,peft-varlen]
        [--profile 4] [--batch 16] [--cards 2]

With `--cards` the model is written to a folder (TMPDIR says where), and trained from there on one
card and on that many, by as many ranks.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

RANK, ROWS, WARM = 8, 160, 8
PEAK = 989e12
"""Operations a second of an H100 or H200, dense in bfloat16, by its data sheet."""


Rows = list[tuple[list[int], int]]
"""Token ids of each example, and where its answer begins."""


@dataclass(frozen=True)
class Case:
    """A shape of model, and an update's examples."""

    shape: dict[str, Any]
    batch: int
    tokens: int
    """Of all rows together."""
    hugging_face: tuple[str, str]
    """Names of the classes of settings and model in transformers."""

    def operations(self, tokens: float, supervised: float) -> float:
        """Floating-point operations of an update: products with frozen weights forward and backward,
        logits at supervised positions only; attention and factors are left out."""
        shape = self.shape
        head = shape.get("head_dim") or shape["hidden_size"] // shape["num_attention_heads"]
        heads = shape["num_attention_heads"] * 2 + shape["num_key_value_heads"] * 2
        block = shape["hidden_size"] * (head * heads + 3 * shape["intermediate_size"])
        vocabulary = shape["hidden_size"] * shape["vocab_size"]
        return 4.0 * (shape["num_hidden_layers"] * block * tokens + vocabulary * supervised)


CASES = {
    "gemma-2-2b": Case(
        {
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
        },
        batch=4,
        tokens=32_000,
        hugging_face=("Gemma2Config", "Gemma2ForCausalLM"),
    ),
    "llama-3.1-8b": Case(
        {
            "model_type": "llama",
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "intermediate_size": 14_336,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-5,
            "vocab_size": 128_256,
            "max_position_embeddings": 8192,
            "rope_theta": 500_000.0,
            "tie_word_embeddings": False,
        },
        batch=8,
        tokens=80_600,
        hugging_face=("LlamaConfig", "LlamaForCausalLM"),
    ),
}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def rows(case: Case) -> Rows:
    """Token ids and where the answer begins, of the lengths that `train.chats` gives."""
    random = np.random.default_rng(7)
    lengths = np.clip(random.lognormal(np.log(170), 0.58, ROWS), 24, 900)
    lengths = np.maximum(24, lengths * case.tokens / lengths.sum()).astype(int)
    return [(random.integers(5, 125_000, n).tolist(), int(0.42 * n)) for n in lengths]


@contextmanager
def profiled(is_wanted: bool) -> Iterator[None]:
    """Prints what the GPU computed inside: time and number of each kernel, and time in which it idled."""
    if not is_wanted:
        yield
        return
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        yield
    spans = sorted(
        (event.time_range.start, event.time_range.end, event.name)
        for event in found.events()
        if event.device_type.name == "CUDA"
    )
    total: dict[str, list[float]] = defaultdict(list)
    busy, until = 0.0, spans[0][0]
    for start, end, name in spans:
        total[name[:110]].append(end - start)
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    lasted = until - spans[0][0]
    print(
        f"profile: {lasted / 1e3:.1f} ms, busy {busy / 1e3:.1f} ms, {len(spans)} kernels",
        file=sys.stderr,
    )
    for name, times in sorted(total.items(), key=lambda item: -sum(item[1]))[:70]:
        print(f"{sum(times) / 1e3:9.2f} ms {len(times):6d} × {name}", file=sys.stderr)


def random_model(case: Case) -> Any:
    import mlx.core as mx
    from mlx.utils import tree_map

    mx.random.seed(0)
    family = importlib.import_module(f"mlx_lm.models.{case.shape['model_type']}")
    model = family.Model(family.ModelArgs.from_dict(case.shape))
    model.update(tree_map(lambda value: (0.5 * value).astype(mx.bfloat16), model.parameters()))
    mx.eval(model.parameters())
    return model


def write_tokenizer(folder: Path) -> None:
    """One token a word, as many as `rows` has; with a model of one block, which nobody reads."""
    import train

    train.write_model(folder, {**train.SHAPE, "num_hidden_layers": 1})


def write_model(case: Case, folder: Path) -> None:
    """What `random_model` gives, for all processes of a run to load."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    write_tokenizer(folder)
    weights = dict(tree_flatten(random_model(case).parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    settings = {"architectures": [case.hugging_face[1]], "eos_token_id": 2, **case.shape}
    (folder / "config.json").write_text(json.dumps(settings))


def run_ours(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    from mlx_finetuning import mlx_trainer

    mlx_trainer.for_training()
    import mlx.core as mx
    import train

    from mlx_finetuning.config import TrainConfig
    from mlx_finetuning.mlx_trainer.batches import batches
    from mlx_finetuning.mlx_trainer.model.load import load, load_tokenizer
    from mlx_finetuning.mlx_trainer.training import loop
    from mlx_finetuning.workspace import AdapterPaths

    if options.row_tokens:
        batches.PACKED = batches.BatchLayout(batches.packed, options.row_tokens)
        batches.WIDE_TOKENS = (options.row_tokens,)
    config = TrainConfig(
        ranks=options.ranks,
        iterations=options.updates + options.profile,
        batch_size=case.batch,
        rank=RANK,
        alpha=16.0,
        learning_rate=1e-4,
        checkpoint_every=10**6,
        max_length=4096,
    )
    lines: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    stack: list[Any] = []

    def record(line: Any) -> None:
        lines.append({**line, "at": time.perf_counter()})
        if options.profile and len(lines) == options.updates:
            stack.append(profiled(True))
            stack[0].__enter__()
        elif stack and len(lines) == options.updates + options.profile:
            stack.pop().__exit__(None, None, None)

    hooks = loop.Hooks(
        record, lambda name, **data: events.append({"name": name, **data}), lambda step: None
    )
    with tempfile.TemporaryDirectory() as folder:
        if options.folder:
            loaded = load(Path(options.folder))
        else:
            write_tokenizer(Path(folder))
            loaded = replace(
                load_tokenizer(Path(folder)),
                model=random_model(case).eval(),
                config=case.shape,
                folder=None,
            )
        paths = AdapterPaths(Path(folder) / "adapter")
        loop.train(loaded, train.chats(tokens=case.tokens), [], config, paths, hooks)
    for event in events:
        if event["name"] in ("fit", "warning"):
            print(event, file=sys.stderr)
    lines = lines[: options.updates]
    # An update's line is written when the next one is queued behind it (`loop._Run._update`), so what
    # lies between the lines of 2 and 3 is update 4. Of the first three nobody can say.
    between = [after["at"] - before["at"] for before, after in itertools.pairwise(lines)][1:-1]
    return {
        "seconds": between,
        "tokens": [line["tokens"] for line in lines[3:]],
        "supervised": [line["supervised_tokens"] for line in lines[3:]],
        "peak_gb": mx.get_peak_memory() / 1e9,
        "card_gb": max(line.get("card_memory_gb", 0.0) for line in lines),
        "losses": [line["loss"] for line in lines],
    }


def _varlen(module: Any, query: Any, key: Any, value: Any, mask: Any, **named: Any) -> Any:
    """Attention of one row of examples, for transformers: [1, heads, tokens, size]."""
    from torch.nn.attention.varlen import varlen_attn

    # Former versions of torch have the first name, later ones the second.
    has_flag = "is_causal" in inspect.signature(varlen_attn).parameters
    causal = {"is_causal": True} if has_flag else {"window_size": (-1, 0)}
    cuts, longest = _varlen.spans  # type: ignore[attr-defined]
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    o = varlen_attn(q, k, v, cuts, cuts, longest, longest, **causal)
    return o[None], None


def torch_model(case: Case, attention: str) -> Any:
    """Random weights, the same for all peers."""
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    settings, kind = (getattr(transformers, name) for name in case.hugging_face)
    config = settings(**{k: v for k, v in case.shape.items() if k != "model_type"})
    config._attn_implementation = attention
    with torch.device("cuda"):
        model = kind(config)
    torch.set_default_dtype(torch.float32)
    return model


def run_peft(case: Case, options: argparse.Namespace, attention: str) -> dict[str, Any]:
    from peft import LoraConfig, get_peft_model
    from transformers import AttentionInterface

    AttentionInterface.register("varlen", _varlen)
    model = torch_model(case, attention)
    model.config.use_cache = False
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=16, target_modules=LINEARS))
    model.train()
    if options.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return updates_of(model, case, options, _one_row if attention == "varlen" else _padded)


def run_unsloth(case: Case, options: argparse.Namespace, is_padded: bool) -> dict[str, Any]:
    from unsloth import FastLanguageModel  # isort: skip  # It replaces parts of torch and transformers.
    import torch
    import train

    checkpointing = "unsloth" if options.checkpointing else False
    with tempfile.TemporaryDirectory() as folder:
        train.write_tokenizer(Path(folder), len(train.WORDS))
        torch_model(case, "sdpa").save_pretrained(folder, max_shard_size="100GB")
        model, _ = FastLanguageModel.from_pretrained(
            folder,
            max_seq_length=4096,
            dtype=torch.bfloat16,
            load_in_4bit=False,
            use_gradient_checkpointing=checkpointing,
        )
        model = FastLanguageModel.get_peft_model(
            model,
            r=RANK,
            lora_alpha=16,
            target_modules=LINEARS,
            use_gradient_checkpointing=checkpointing,
        )
    FastLanguageModel.for_training(model)
    # Unsloth's attention for Gemma 2 knows no borders within a row.
    if is_padded or case.shape["model_type"] == "gemma2":
        return updates_of(model, case, options, _padded)
    return updates_of(model, case, options, _one_row_with_lengths)


def updates_of(
    model: Any, case: Case, options: argparse.Namespace, inputs_of: Callable[[Rows], dict[str, Any]]
) -> dict[str, Any]:
    """Trains a peer's model by AdamW, on the examples in the order in which we take them."""
    import torch

    from mlx_finetuning.config import TrainConfig
    from mlx_finetuning.mlx_trainer.batches import batches

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    data, order = rows(case), batches.endless(ROWS, case.batch, TrainConfig.seed)
    done: dict[str, list[float]] = defaultdict(list)
    profiler = profiled(bool(options.profile))
    for number in range(options.updates + options.profile):
        if number == options.updates:
            profiler.__enter__()
        began_s = time.perf_counter()
        chosen = [data[index] for index in next(order)]
        inputs = inputs_of(chosen)
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(**{name: value.cuda() for name, value in inputs.items()}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        done["losses"].append(loss.item())
        torch.cuda.synchronize()
        done["seconds"].append(time.perf_counter() - began_s)
        done["tokens"].append(sum(len(tokens) for tokens, _ in chosen))
        done["supervised"].append(sum(len(tokens) - begin for tokens, begin in chosen))
    if options.profile:
        profiler.__exit__(None, None, None)
    return {
        **{name: values[: options.updates] for name, values in done.items()},
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
        "card_gb": torch.cuda.max_memory_reserved() / 1e9,
    }


def _one_row(chosen: Rows) -> dict[str, Any]:
    """All examples behind one another, positions and labels beginning anew with each."""
    import torch

    ids = torch.tensor([[token for tokens, _ in chosen for token in tokens]])
    places = torch.cat([torch.arange(len(tokens)) for tokens, _ in chosen])[None]
    labels = torch.cat([torch.tensor([-100] * begin + tokens[begin:]) for tokens, begin in chosen])[
        None
    ]
    lengths = torch.tensor([0, *(len(tokens) for tokens, _ in chosen)])
    cuts = lengths.cumsum(0).to(torch.int32).cuda()
    _varlen.spans = cuts, int(lengths.max())  # type: ignore[attr-defined]
    return {"input_ids": ids, "position_ids": places, "labels": labels}


def _one_row_with_lengths(chosen: Rows) -> dict[str, Any]:
    """As Unsloth's trainer tells its attention and its loss where examples begin."""
    import torch

    lengths = torch.tensor([len(tokens) for tokens, _ in chosen], dtype=torch.int32)
    return {**_one_row(chosen), "packed_seq_lengths": lengths}


def _padded(chosen: Rows) -> dict[str, Any]:
    import torch

    length = max(len(tokens) for tokens, _ in chosen)
    ids = torch.zeros(len(chosen), length, dtype=torch.long)
    labels = torch.full((len(chosen), length), -100)
    seen = torch.zeros(len(chosen), length, dtype=torch.long)
    for row, (tokens, begin) in enumerate(chosen):
        ids[row, : len(tokens)] = seen.new_tensor(tokens)
        labels[row, begin : len(tokens)] = seen.new_tensor(tokens[begin:])
        seen[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": seen, "labels": labels}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=CASES, default="gemma-2-2b")
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--engines", default="ours,peft-eager,peft-sdpa")
    parser.add_argument("--row-tokens", type=int, default=0, help="of our rows; 0 as chosen")
    parser.add_argument("--checkpointing", action="store_true", help="of the peers")
    parser.add_argument("--profile", type=int, default=0, help="updates that are profiled after")
    parser.add_argument("--batch", type=int, default=0, help="examples an update; 0 as of the case")
    parser.add_argument("--cards", type=int, default=1, help="ours on one card and on this many")
    parser.add_argument("--child", default="")
    parser.add_argument("--folder", default="", help="of a child: where the model is")
    parser.add_argument("--ranks", type=int, default=1, help="of a child")
    options = parser.parse_args()
    case = CASES[options.model]
    if options.batch:
        case = replace(case, batch=options.batch)
    if options.child:
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        result: dict[str, Any] = {}
        if options.child == "write":
            write_model(case, Path(options.folder))
        elif options.child == "ours":
            result = run_ours(case, options)
        elif options.child.startswith("unsloth"):
            result = run_unsloth(case, options, options.child == "unsloth-padded")
        else:
            result = run_peft(case, options, options.child.removeprefix("peft-"))
        answers.write(json.dumps(result))
        answers.close()
        return
    print(
        "| engine | tokens/s | ms an update | of peak | peak GB | held GB | first loss | last | wall s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        runs = [(engine, ["--child", engine]) for engine in options.engines.split(",")]
        if options.cards > 1:
            ours = ["--child", "ours", "--folder", folder]
            child(["--child", "write", "--folder", folder])
            runs = [(f"ours, {n} cards", [*ours, "--ranks", str(n)]) for n in (1, options.cards)]
        for name, words in runs:
            began_s = time.perf_counter()
            result = child(words)
            wall_s = time.perf_counter() - began_s
            print(line_of(case, name, result, wall_s), flush=True)


def child(words: list[str]) -> dict[str, Any]:
    """What a process of this program with more arguments gives."""
    words = [sys.executable, __file__, *sys.argv[1:], *words]
    answer = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
    result: dict[str, Any] = json.loads(answer)
    return result


def line_of(case: Case, engine: str, result: dict[str, Any], wall_s: float) -> str:
    """Of the table: medians over all updates but the first ones."""
    seconds, tokens, supervised = (
        np.array(result[name][WARM:] or result[name])
        for name in ("seconds", "tokens", "supervised")
    )
    speed, update_s = float(np.median(tokens / seconds)), statistics.median(seconds)
    operations = [
        case.operations(*counts) / lasted
        for *counts, lasted in zip(tokens, supervised, seconds, strict=True)
    ]
    return (
        f"| {engine} | {speed:.0f} | {update_s * 1e3:.0f} | {np.median(operations) / PEAK:.1%} "
        f"| {result['peak_gb']:.1f} | {result['card_gb']:.1f} "
        f"| {result['losses'][0]:.3f} | {result['losses'][-1]:.3f} | {wall_s:.0f} |"
    )


if __name__ == "__main__":
    main()
