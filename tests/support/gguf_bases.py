"""Small GGUF files as bases, taught questions, and how alike llama.cpp answers beside MLX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.generate import generate_step

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.files import JsonObject
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.examples import encode_rows
from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.model import adapters
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.quantizer.base import folder as base_folder
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaModel
from mlx_finetuning.quantizer.write.adapter_files import write_gguf
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.utils import gguf_reader
from support import losses
from support.small_models import write_model

FAMILIES = ("llama 2", "llama 3", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "phi4")
QUANTS = ("F16", "Q8_0", "Q4_K_M")
GOODS = ("ink", "pen", "cup", "map", "key", "hat", "box", "egg")
MOST_TOKENS = 64
CONTEXT = 512


@dataclass(frozen=True)
class Agreement:
    """llama.cpp beside MLX, on MLX's answers."""

    prompts: float
    """Shares of prompts with equal ids, of answers' tokens with an equal top-1, of whole answers."""
    top1: float
    answers: float
    divergence: float
    """Nats a token of the answers, mean."""
    widest: float
    """By how many nats MLX preferred its own token of an answer where llama.cpp took another, at most."""
    all_top1: float
    all_divergence: float
    """Of all tokens, those of the questions too, which no training taught to predict."""


def rows(asked: str, unit: str) -> list[Row]:
    """Questions about goods; their answers depend on the arguments."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"{asked} {name}?"},
                {"role": "assistant", "content": f"{name} {(7 * at + len(asked)) % 9}{at} {unit}"},
            ],
            "row": at + 2,
        }
        for at, name in enumerate(GOODS)
    ]


def teach(loaded: LoadedModel, taught: list[Row], config: TrainConfig) -> tuple[JsonObject, float]:
    """The settings of the adapter, which the loaded model has then, and the last loss.

    A plain loop: how a run is made is not what is measured.
    """
    mx.random.seed(0)
    settings = adapters.attach(loaded.model, config)
    batch = batches.padded(encode_rows(loaded, taught, CONTEXT))
    step = nn.value_and_grad(loaded.model, lambda model: losses.of_batch(model, batch))
    optimizer = optim.Adam(config.learning_rate)
    for _ in range(config.iterations):
        loss, gradient = step(loaded.model)
        optimizer.update(loaded.model, gradient)
        mx.eval(loaded.model.parameters(), optimizer.state, loss)
    return settings, loss.item()


def pretrained(folder: Path, family: str, updates: int) -> None:
    """A model of the family that can say something."""
    layers = {} if family == "gemma3" else {"num_hidden_layers": 2}
    write_model(folder, family, dtype=mx.float32, intermediate_size=256, **layers)
    loaded = load(folder)
    config = TrainConfig(iterations=updates, learning_rate=1e-3, method="full")
    teach(loaded, rows("place of", "st"), config)
    weights = dict(tree_flatten(loaded.model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "pt"})


def greedy(loaded: LoadedModel, prompt: Sequence[int]) -> list[int]:
    """MLX's answer, with the token that ends it."""
    ends, answer = loaded.chat.end_ids, []
    steps = generate_step(mx.array(list(prompt)), loaded.model, max_tokens=MOST_TOKENS)
    for token, _ in steps:
        answer.append(int(token))
        if answer[-1] in ends:
            break
    return answer


@dataclass(frozen=True)
class Said:
    """A question with MLX's answer."""

    text: str
    """The rendered question."""
    prompt: list[int]
    tokens: list[int]
    """Prompt and answer."""
    logits: np.ndarray
    """After each token but the last: [tokens - 1, vocabulary]."""


def said(loaded: LoadedModel, row: Row) -> Said:
    question = row["messages"][:1]
    prompt = loaded.render(question, ask=True)
    tokens = [*prompt, *greedy(loaded, prompt)]
    logits = generate.logits(loaded, tokens)[:-1]
    return Said(loaded.render_text(question, ask=True), prompt, tokens, logits)


def compared(answers: list[Said], file: Path, adapter: Path | None) -> Agreement:
    prompts, answered, tops, divergences, margins = [], [], [], [], []
    with LlamaModel(file, CONTEXT, adapter) as model:
        for one in answers:
            prompts.append(model.tokenize(one.text, False) == one.prompt)
            ours, theirs = _log_softmax(one.logits), _log_softmax(model.logits(one.tokens)[:-1])
            answered.append(np.arange(len(ours)) >= len(one.prompt) - 1)
            tops.append(ours.argmax(-1) == theirs.argmax(-1))
            divergences.append((np.exp(ours) * (ours - theirs)).sum(-1))
            margins.append(np.diff(np.partition(ours, -2, axis=-1)[:, -2:])[:, 0])
    of_answers, top = np.concatenate(answered), np.concatenate(tops)
    divergence, margin = np.concatenate(divergences), np.concatenate(margins)
    whole = [equal[is_answer].all() for equal, is_answer in zip(tops, answered, strict=True)]
    return Agreement(
        prompts=float(np.mean(prompts)),
        top1=float(top[of_answers].mean()),
        answers=float(np.mean(whole)),
        divergence=float(divergence[of_answers].mean()),
        widest=float(margin[of_answers & ~top].max(initial=0.0)),
        all_top1=float(top.mean()),
        all_divergence=float(divergence.mean()),
    )


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def changed(before: Path, after: Path) -> set[str]:
    """The tensors of the base that have other bytes, or another type, in the new file."""
    old, new = (gguf_reader.read(path).tensors for path in (before, after))
    return {
        name
        for name, tensor in old.items()
        if tensor.kind != new[name].kind or tensor.data.tobytes() != new[name].data.tobytes()
    }


@dataclass(frozen=True)
class TaughtBase:
    """A file that an adapter was taught questions on, written both ways."""

    loss: float
    """The last one."""
    ways: dict[str, tuple[Path, Path | None]]
    """What answers: a file, with an adapter or without."""
    answers: dict[str, list[Said]]
    """MLX's, to the questions that were taught, and to those that the file had learned before."""


def taught_base(file: Path, updates: int) -> TaughtBase:
    """The file itself is only read."""
    made = file.with_suffix("")
    base_folder.write(file, made)
    taught = rows("price of", "yen")
    config = TrainConfig(iterations=updates, learning_rate=1e-3, rank=8)
    loaded = load(made)
    settings, loss = teach(loaded, taught, config)
    adapters.save(loaded.model, settings, made / "adapter", loaded.chat)
    trained = load(made, made / "adapter")
    adapter, new = made / "adapter.gguf", made / "new.gguf"
    write_gguf(made, made / "adapter", adapter, "adapter")
    export_gguf(made, made / "adapter", {"Q8_0": new})
    groups = {"taught": taught, "before": rows("place of", "st")}
    return TaughtBase(
        loss,
        {"adapter": (file, adapter), "new file": (new, None)},
        {name: [said(trained, row) for row in of_group] for name, of_group in groups.items()},
    )
