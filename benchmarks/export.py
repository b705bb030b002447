"""Exports of random models with an adapter: time, speed against the kernels' own, memory, disk.

    python benchmarks/export.py [--shape 0.25B|2B|8B] [--quant Q4_K_M] [--folder DIR] [--verify]

Speed is counted in megabytes of float32 input per second of processor time, so that other work on
the machine changes it little. The kernels' own speed is that of `ggml_quantize_chunk` on one block
that lies in memory, for the types of the file in their shares. With `--verify` the whole task of a
run is measured, the comparison with MLX included, and no speed of kernels.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from gguf import GGMLQuantizationType

from mlx_finetuning import files
from mlx_finetuning.files import ASSETS
from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.progress import Step
from mlx_finetuning.quantizer.formats import safetensors
from mlx_finetuning.quantizer.formats.safetensors import Spec
from mlx_finetuning.quantizer.llama_cpp import ggml
from mlx_finetuning.quantizer.write import export
from mlx_finetuning.utils import blas, cores, gguf_reader
from mlx_finetuning.workspace import Workspace

SHAPES = {
    "0.25B": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 16},
    "2B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 28},
    "8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
}
HEADS = {"0.25B": (16, 8), "2B": (16, 8), "8B": (32, 8)}
VOCABULARY = {"0.25B": 65536, "2B": 128256, "8B": 128256}
RANK = 16
RUN = "20261123-000000-bench-0000"
stages = ["start"]
"""What the measured task has said that it does; the last one is being done."""
TINY_JA = ASSETS / "tiny-ja"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="0.25B")
    parser.add_argument("--quant", default="Q4_K_M")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--verify", action="store_true")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-export-", dir=chosen.folder))
    try:
        (measure_task if chosen.verify else measure)(chosen.shape, chosen.quant, folder)
    finally:
        shutil.rmtree(folder)


def measure(shape: str, quant: str, folder: Path) -> None:
    config = write_model(shape, folder / "model")
    write_adapter(config, folder / "adapter")
    base = sum(path.stat().st_size for path in (folder / "model").glob("*.safetensors"))
    target = folder / "out" / f"model-{quant}.gguf"
    with Watch(folder / "out") as watch:
        before = cpu_s()
        result = export.export_gguf(folder / "model", folder / "adapter", {quant: target})
        used = cpu_s() - before
    stored = gguf_reader.read(target)
    values = Counter[GGMLQuantizationType]()
    for tensor in stored.tensors.values():
        values[tensor.kind] += int(np.prod(tensor.shape))
    megabytes = 4 * values.total() / 1e6
    kernel = kernel_s(values)
    print(
        "| base, bf16 | type | file | time | float32 MB/s | per core | kernels alone | share |",
        end="",
    )
    print(" private memory | other files |\n|---|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {shape}, {base / 1e9:.2f} GB | {quant} | {target.stat().st_size / 1e9:.2f} GB "
        f"| {result.elapsed_s:.1f} s | {megabytes / result.elapsed_s:.0f} "
        f"| {megabytes / used:.1f} | {megabytes / kernel:.1f} | {kernel / used:.0%} "
        f"| {watch.private / 1e6:.0f} MB | {watch.others / 1e6:.0f} MB |"
    )
    print(f"{cores.usable()} cores, {used:.1f} s of processor time")


def measure_task(shape: str, quant: str, folder: Path) -> None:
    """The export of a run as users start it, in this process."""
    blas.preload()  # before anything imports MLX
    from mlx_finetuning.tasks import export as task

    context = write_run(shape, quant, Workspace(folder / "workspace"))
    base = context.workspace.base_model(slug(shape))
    before = cpu_s()
    began = time.monotonic()
    with Watch(context.workspace.gguf_folder(RUN)) as watch:
        result = task.run(context)
    elapsed, used = time.monotonic() - began, cpu_s() - before
    size = (base / "model.safetensors").stat().st_size
    (written,) = result.files.values()
    print("| base, bf16 | type | file | time, verified | processor time | private memory ", end="")
    print(
        "| other files | layers proven | KL of the proof |\n|---|---|---|---|---|---|---|---|---|"
    )
    print(
        f"| {shape}, {size / 1e9:.2f} GB | {quant} | {written.size_bytes / 1e9:.2f} GB "
        f"| {elapsed:.1f} s | {used:.1f} s | {watch.private / 1e9:.2f} GB "
        f"| {watch.others / 1e6:.1f} MB "
        f"| {result.proof.layers} of {result.proof.of_layers} "
        f"| {result.proof.parity.mean_kl:.1g} |"
    )
    print(f"most memory: {watch.highest_at}; without verification {result.elapsed_s} s")


def write_run(shape: str, quant: str, workspace: Workspace) -> TaskContext:
    """A workspace with a random model, a run that has ended, and rows to compare."""
    paths = workspace.run(RUN)
    files.make_folder(paths.folder)
    record = {"run_id": RUN, "model": slug(shape), "dataset": "rows", "engine": "mlx"}
    files.write_json(paths.experiment, record)
    jobs.write_status(paths, JobStatus("done"))
    files.make_folder(workspace.base_models)
    config = write_model(shape, workspace.base_model(slug(shape)))
    files.make_folder(workspace.adapter(RUN).folder.parent)
    write_adapter(config, workspace.adapter(RUN).folder)
    rows = workspace.dataset("rows")
    files.make_folder(rows.folder)
    lines = [json.dumps(row(number), ensure_ascii=False) for number in range(40)]
    rows.test.write_text("\n".join(lines) + "\n", encoding="utf-8")
    later = paths.later_job("export")

    def silent(step: Step) -> None:
        stages.append(step.stage)

    return TaskContext(workspace, later, RUN, {"quant": quant}, silent, lambda name, **data: None)


def slug(shape: str) -> str:
    return shape.lower().replace(".", "-")


def row(number: int) -> dict[str, object]:
    question = {
        "role": "user",
        "content": f"商品{number}の値段と、届くまでの日数を教えてください。",
    }
    answer = {"role": "assistant", "content": f"商品{number}は{number}00円で、3日で届きます。"}
    return {"messages": [question, answer], "row": number + 2}


def cpu_s() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)


def kernel_s(values: Counter[GGMLQuantizationType]) -> float:
    """Seconds of one core that the kernels alone need for so many values of each type."""
    block = np.random.default_rng(0).standard_normal((512, 4096)).astype(np.float32)
    needed = 0.0
    for kind, count in values.items():
        ggml.quantize(block[:32], kind)
        before = time.thread_time()
        for _ in range(3):
            ggml.kernel(block, kind)
        needed += (time.thread_time() - before) / 3 / block.size * count
    return needed


@dataclass
class Watch:
    """Highest private memory of this process and of files that lie in memory, and bytes on disk
    that are not the result."""

    folder: Path
    private: int = 0
    others: int = 0
    highest_at: str = ""
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        process = psutil.Process()
        shared_before = getattr(psutil.virtual_memory(), "shared", 0)
        while not self._done.wait(0.05):
            memory = process.memory_info()
            in_memory = getattr(psutil.virtual_memory(), "shared", 0) - shared_before
            private = memory.rss - getattr(memory, "shared", 0) + max(in_memory, 0)
            if private > self.private:
                self.private, self.highest_at = private, stages[-1]
            sizes = sorted(self._sizes())
            self.others = max(self.others, sum(sizes[:-1]))

    def _sizes(self) -> Iterator[int]:
        for path in self.folder.glob("*"):
            try:
                yield path.stat().st_size
            except FileNotFoundError:
                continue


# --- random models -----------------------------------------------------------------------


def write_model(shape: str, folder: Path) -> dict[str, int]:
    folder.mkdir()
    heads, key_heads = HEADS[shape]
    config = {
        **json.loads((TINY_JA / "config.json").read_text(encoding="utf-8")),
        **SHAPES[shape],
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": SHAPES[shape]["hidden_size"] // heads,
        "vocab_size": VOCABULARY[shape],
        "tie_word_embeddings": shape != "8B",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(TINY_JA / name, folder / name)
    specs = [Spec(name, "BF16", size) for name, size in weights(config).items()]
    noise = np.random.default_rng(1).standard_normal(1 << 22).astype(np.float32) * 0.02
    bits = (noise.view(np.uint32) >> 16).astype(np.uint16)
    with (folder / "model.safetensors").open("wb") as stream:
        safetensors.write(stream, specs, pieces(specs, bits), "pt")
    return config


def pieces(specs: list[Spec], bits: np.ndarray) -> Iterator[np.ndarray]:
    """Values of all tensors, the same noise from other starts."""
    random = np.random.default_rng(2)
    for spec in specs:
        left = spec.nbytes // 2
        while left:
            start = int(random.integers(0, bits.size // 2))
            part = bits[start : start + min(left, bits.size // 2)]
            left -= part.size
            yield part


def weights(config: dict[str, int]) -> dict[str, tuple[int, ...]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, rows in (("q", hidden), ("k", keys), ("v", keys), ("o", hidden)):
            found[f"{prefix}self_attn.{name}_proj.weight"] = (rows, hidden)
        for name, size in (
            ("gate", (inner, hidden)),
            ("up", (inner, hidden)),
            ("down", (hidden, inner)),
        ):
            found[f"{prefix}mlp.{name}_proj.weight"] = size
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{prefix}{name}.weight"] = (hidden,)
    return found


def write_adapter(config: dict[str, int], folder: Path) -> None:
    folder.mkdir()
    random = np.random.default_rng(3)
    arrays = {}
    for name, shape in weights(config).items():
        if "_proj" in name:
            module = name.removesuffix(".weight")
            arrays[f"{module}.lora_a"] = random.standard_normal((shape[1], RANK), np.float32) * 0.02
            arrays[f"{module}.lora_b"] = random.standard_normal((RANK, shape[0]), np.float32) * 0.02
    specs = [Spec(name, "F32", array.shape) for name, array in arrays.items()]
    with (folder / "adapters.safetensors").open("wb") as stream:
        safetensors.write(stream, specs, arrays.values(), "mlx")
    parts = {"self_attn": "qkvo", "mlp": ("gate", "up", "down")}
    keys = [f"{block}.{part}_proj" for block, names in parts.items() for part in names]
    parameters = {"rank": RANK, "scale": 2.0, "dropout": 0.0, "keys": keys}
    settings = {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")


if __name__ == "__main__":
    main()
