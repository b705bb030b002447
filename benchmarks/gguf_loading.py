"""How long a GGUF base takes to load, beside reading its file.

    python benchmarks/gguf_loading.py FILE.gguf [--write SHAPE] [--quant Q4_K_M] [--layers N] [--rounds 9] [--ways]

FILE is any GGUF file, or, with `--write`, one that is made first: the shape of a real model, its real
tokenizer and template (fetched as for `make test-models`), llama.cpp's mixture of types, random weights.
Reading is by `read` into one buffer; loading goes from the base's folder to all weights in memory and the
tokenizer, packed, as float32 or as F16 is stored, as this machine has it, or with `--ways` packed and not.
Cold: the system has forgotten the file. Linux.
"""

# ruff: noqa: E402

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

from mlx_finetuning.utils import blas

blas.preload()

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from mlx_finetuning import bases
from mlx_finetuning.mlx_trainer.model import gguf_weights
from mlx_finetuning.mlx_trainer.model.load import load, load_module
from mlx_finetuning.models import found_files
from mlx_finetuning.quantizer.families import registry, tensor_types
from mlx_finetuning.quantizer.llama_cpp import ggml
from mlx_finetuning.quantizer.write import gguf_writer
from mlx_finetuning.quantizer.write.export import file_metadata, read_config
from mlx_finetuning.quantizer.write.gguf_writer import PlannedTensor
from mlx_finetuning.utils import gguf_base
from mlx_finetuning.workspace import Workspace
from support import real_folders
from support.small_models import edit_json

BUFFER_BYTES = 1 << 22
ROWS = 64
"""Rows of random weights that a tensor repeats: quantizing billions of them would take an hour."""


def shape(
    hidden: int, inner: int, layers: int, heads: int, key_heads: int, *, tied: bool = False
) -> dict[str, int]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": hidden // heads,
        "tie_word_embeddings": tied,
    }


SHAPES = {
    "llama2-7b": ("llama2", shape(4096, 11008, 32, 32, 32)),
    "llama3.1-8b": ("llama3.1", shape(4096, 14336, 32, 32, 8)),
    "llama3.2-3b": ("llama3.2", shape(3072, 8192, 28, 24, 8, tied=True)),
    "qwen2.5-7b": ("qwen2.5", shape(3584, 18944, 28, 28, 4)),
}
"""The name of `real_folders.MODELS` that brings all but the weights, and its shape."""


def write(file: Path, name: str, quant: str, layers: int | None) -> None:
    """A GGUF file of a real shape. layers: fewer than the model has, for a smaller file."""
    model, settings = SHAPES[name]
    settings = settings | ({} if layers is None else {"num_hidden_layers": layers})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        variant = real_folders.MODELS[model].variants[0]
        real_folders.write(folder, model, variant, layers=1)
        edit_json(folder / "config.json", **settings)
        config = read_config(folder)
        family = registry.of(config)
        widths = {
            "q_proj": config["num_attention_heads"] * config["head_dim"],
            "k_proj": config["num_key_value_heads"] * config["head_dim"],
            "v_proj": config["num_key_value_heads"] * config["head_dim"],
            "gate_proj": config["intermediate_size"],
            "up_proj": config["intermediate_size"],
            "embed_tokens": config["vocab_size"],
            "lm_head": config["vocab_size"],
        }
        mapped, __ = registry.mapping(family, config, sorted(family.required(config)))
        outline = registry.outline(config)
        shapes: dict[str, tuple[int, ...]] = {}
        for tensor in mapped:
            part = tensor.mlx_name.split(".")[-2]
            columns = config["intermediate_size" if part == "down_proj" else "hidden_size"]
            rows = widths.get(part, config["hidden_size"])
            is_vector = part.endswith("norm") or tensor.mlx_name.endswith("bias")
            shapes[tensor.name] = (
                (rows if part in widths else columns,) if is_vector else (rows, columns)
            )
        computed = family.computed_tensors(config)
        shapes |= {name: values.shape for name, values in computed.items()}
        planned = [
            PlannedTensor(name, shape, tensor_types.tensor_type(name, shape, quant, outline))
            for name, shape in shapes.items()
        ]
        metadata = file_metadata(folder, config, name)
    random = np.random.default_rng(0)
    with gguf_writer.create(file, metadata, quant, planned) as stream:
        for tensor in planned:
            if tensor.name in computed:
                stream.append(computed[tensor.name].astype(np.float32).view(np.uint8))
            else:
                rows, columns = (1, *tensor.shape)[-2:]
                values = random.normal(0, 0.02, (min(ROWS, rows), columns)).astype(np.float32)
                blocks = ggml.quantize(values, tensor.kind)
                for start in range(0, rows, ROWS):
                    stream.append(blocks[: rows - start])
            stream.end_tensor()


def read(file: Path) -> None:
    buffer = bytearray(BUFFER_BYTES)
    with file.open("rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


def forget(file: Path) -> None:
    with file.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(work: Callable[[], object], is_packed: bool | None = None) -> tuple[float, float]:
    """Seconds of the clock, and of the processor; is_packed: None as this machine has it."""
    chosen = patch.object(gguf_weights, "_stays_packed", lambda _: is_packed)
    with nullcontext() if is_packed is None else chosen:
        clock, processor = time.perf_counter(), time.process_time()
        work()
        return time.perf_counter() - clock, time.process_time() - processor


def measure(file: Path, folder: Path, rounds: int, ways: bool) -> None:
    kinds: dict[str, tuple[Callable[[], object], bool | None]] = {
        "list entry": (lambda: found_files.described(file, file.name, ""), None),
        "read": (lambda: read(file), None),
    }
    for name, is_packed in {"packed": True, "float32": False}.items() if ways else [("", None)]:
        kinds[f"{name} weights alone".strip()] = (lambda: load_module(folder), is_packed)
        kinds[f"{name} loaded".strip()] = (lambda: load(folder), is_packed)
    forget(file)
    first = timed(*kinds["packed loaded" if ways else "loaded"])[0]
    print(f"cold, the first load of this process: {first:.3f} s")
    for is_cold in (True, False):
        found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind, measured in kinds.items():
                if is_cold:
                    forget(file)
                found[kind].append(timed(*measured))
        for kind, taken in found.items():
            clock, processor = (statistics.median(of_one) for of_one in zip(*taken, strict=True))
            ratio = statistics.median(
                one[0] / other[0] for one, other in zip(taken, found["read"], strict=True)
            )
            worst = max(one[0] for one in taken)
            state = "cold" if is_cold else "warm"
            print(
                f"{state} {kind:21} {clock:.4f} s ({worst:.4f} at worst), {ratio:.2f} of read; "
                f"processor {processor:.2f} s",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--write", choices=SHAPES, help="make the file first")
    parser.add_argument("--quant", default="Q4_K_M", choices=tensor_types.BASE)
    parser.add_argument("--layers", type=int, help="fewer than the model has")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--ways", action="store_true", help="packed and as float32")
    chosen = parser.parse_args()
    if chosen.write:
        write(chosen.file, chosen.write, chosen.quant, chosen.layers)
    with tempfile.TemporaryDirectory() as scratch:
        folder = bases.resolve(str(chosen.file), Workspace(Path(scratch)))
        base = gguf_base.read(folder)
        assert base is not None
        tensors = gguf_weights._tensors(base)
        plain = "as stored" if any(map(gguf_weights._stays_half, tensors.values())) else "float32"
        form = "packed" if gguf_weights._stays_packed(tensors) else plain
        print(
            f"{base.size / 1e9:.2f} GB; {gguf_weights.loaded_bytes(base) / 1e9:.2f} GB in memory, {form}"
        )
        measure(base.file, folder, chosen.rounds, chosen.ways)


if __name__ == "__main__":
    main()
