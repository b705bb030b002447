"""GGUF files as bases: how alike llama.cpp answers after training, by family and type of the file.

    python benchmarks/gguf_bases.py [--families "llama 3" qwen3 …] [--updates 30]
    python benchmarks/gguf_bases.py --workspace FOLDER --run ID [--rows 60]

A small model of each family learns sentences with all its weights and is written as F16, Q8_0 and
Q4_K_M. Each file is a base of its own: it is taught questions through an adapter, and both ways out are
compared with MLX on MLX's own greedy answers: the base's file with the GGUF adapter, and a new file whose
touched weights are Q8_0. A whole answer is equal where every one of its tokens is the likeliest. The
questions that the adapter was taught are counted apart from those that the base had learned before: the
second are partly forgotten by then, and what is half forgotten is a close call.

With `--run`, a run on a real GGUF file instead: what was exported of it beside MLX, and, to compare with,
the file itself without training, which llama.cpp computes otherwise than MLX, too.
"""

# ruff: noqa: E402

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.utils import blas

blas.preload()  # before MLX: an update takes a ninth of the time

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.generate import generate_step

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from mlx_finetuning import bases
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.files import JsonObject
from mlx_finetuning.jobs import runs
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.examples import encode_rows
from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.model import adapters
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.quantizer.base import folder as base_folder
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaModel
from mlx_finetuning.quantizer.verify.written import ADAPTER
from mlx_finetuning.quantizer.write.adapter_files import write_gguf
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.tokenization.rows import Row, read_rows
from mlx_finetuning.utils import gguf_base, gguf_reader
from mlx_finetuning.workspace import Workspace
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


def told(found: Agreement) -> str:
    return (
        f"prompts {found.prompts:.3f}  top-1 {found.top1:.4f}  answers {found.answers:.3f}  "
        f"KL {found.divergence:.2g}  widest {found.widest:.2g}  "
        f"all tokens: top-1 {found.all_top1:.4f}  KL {found.all_divergence:.2g}"
    )


def untouched_share(before: Path, after: Path) -> float:
    """Share of the base's tensors that have the same bytes in the new file."""
    old, new = (gguf_reader.read(path).tensors for path in (before, after))
    same = [old[name].data.tobytes() == new[name].data.tobytes() for name in old]
    return sum(same) / len(same)


def measure(family: str, quant: str, file: Path, updates: int) -> None:
    sha256, made = gguf_base.sha256(file), file.with_suffix("")
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
    groups = {
        "taught": [said(trained, row) for row in taught],
        "before": [said(trained, row) for row in rows("place of", "st")],
    }
    for name, path, added in (("adapter", file, adapter), ("new file", new, None)):
        for group, answers in groups.items():
            found = compared(answers, path, added)
            print(
                f"{family:8} {quant:6} {name:8} {group}  loss {loss:.1e}  {told(found)}  "
                f"untouched {untouched_share(file, path):.2f}  "
                f"base {'unchanged' if gguf_base.sha256(file) == sha256 else 'CHANGED'}",
                flush=True,
            )


def measure_run(workspace: Workspace, run_id: str, most: int) -> None:
    """Every GGUF file that was exported of a run, and its base as it was before."""
    run = runs.show(workspace, run_id)
    folder = bases.of_run(run, workspace)
    base = gguf_base.read(folder)
    assert base is not None
    made = sorted(workspace.gguf_folder(run_id).glob("*.gguf"))
    data = workspace.dataset(run.dataset)
    rows = {"taught": list(read_rows(data.train)), "held out": list(read_rows(data.test))}
    for name, adapter in (("untrained", None), ("trained", workspace.adapter(run_id).folder)):
        loaded = load(folder, adapter)
        for group, of_group in rows.items():
            chosen = of_group[:: max(1, len(of_group) // most)][:most]
            answers = [said(loaded, row) for row in chosen]
            right = [
                loaded.tokenizer.decode(one.tokens[len(one.prompt) : -1])
                == row["messages"][-1]["content"]
                for one, row in zip(answers, chosen, strict=True)
            ]
            print(f"{name} {group}: MLX answers {sum(right)} of {len(right)} as written")
            for path in made if adapter else [base.file]:
                is_adapter = path.stem.endswith(ADAPTER)
                of_files = (base.file, path) if is_adapter else (path, None)
                kept = untouched_share(base.file, of_files[0])
                found = told(compared(answers, *of_files))
                size = f"{path.stat().st_size / 1e6:.1f} MB"
                print(f"  {path.name} ({size})  {found}  untouched {kept:.3f}", flush=True)


def main() -> None:
    # Compiling for the CPU takes longer than models of this size.
    mx.disable_compile()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--rows", type=int, default=60, help="asked of each split")
    chosen = parser.parse_args()
    if chosen.run:
        measure_run(Workspace(chosen.workspace), chosen.run, chosen.rows)
        return
    for family in chosen.families:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            pretrained(folder, family, chosen.updates)
            files = {quant: Path(scratch) / f"{quant}.gguf" for quant in QUANTS}
            export_gguf(folder, None, files)
            for quant, file in files.items():
                measure(family, quant, file, chosen.updates)


if __name__ == "__main__":
    main()
