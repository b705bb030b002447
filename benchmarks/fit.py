"""Predicted against measured peak memory, over twelve kinds of runs.

Each prediction (`train --dry-run`) and each run has processes of its own. A run is measured from
outside: every 50 ms, the resident memory of its process and of the helpers it started.

    python benchmarks/fit.py [--updates 20] [--only N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from train import SHAPE, chats, write_model

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]},
    "gemma2": {
        "model_type": "gemma2",
        "architectures": ["Gemma2ForCausalLM"],
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "query_pre_attn_scalar": 64,
    },
    "gemma3_text": {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "sliding_window": 64,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 64,
    },
}
# Family, and what differs from 4 examples an update of at most 2,048 tokens at rank 8, one process.
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("llama", {}),
    ("llama", {"processes": 2}),
    ("llama", {"batch_size": 16}),
    ("llama", {"batch_size": 8, "max_length": 256}),
    ("llama", {"rank": 64, "batch_size": 2}),
    ("llama", {"num_layers": 4}),
    ("llama", {"recompute": "on", "batch_size": 8}),
    ("llama", {"micro_batch_size": 2, "batch_size": 8}),
    ("llama", {"method": "full"}),
    ("qwen3", {"processes": 2, "batch_size": 8}),
    ("gemma2", {}),
    ("gemma3_text", {"dropout": 0.1}),
)


def settings(changes: dict[str, Any], updates: int) -> dict[str, Any]:
    plain = {"rank": 8, "alpha": 16.0, "batch_size": 4, "max_length": 2048, "processes": 1}
    quiet = {"learning_rate": 1e-5, "iterations": updates, "validate_every": 10}
    return {**plain, **quiet, **changes}


def child(folder: Path, out: Path, what: str, values: dict[str, Any]) -> None:
    from mlx_finetuning.utils import blas

    blas.preload()
    from mlx_finetuning.config import TrainConfig
    from mlx_finetuning.mlx_trainer.model.load import load
    from mlx_finetuning.mlx_trainer.training import estimate, loop
    from mlx_finetuning.workspace import AdapterPaths

    config, rows, held_out = TrainConfig(**values), chats()[8:], chats()[:8]
    if what == "predict":
        found = estimate.estimate(load(folder), rows, held_out, config, lambda step: None)
        result = {
            "gb": found.peak_memory_gb,
            "s": found.total_s,
            "largest": found.largest_batch_size,
        }
    else:
        began_s = 0.0

        def event(name: str, **_: Any) -> None:
            nonlocal began_s
            began_s = time.monotonic() if name == "rehearsed" else began_s

        hooks = loop.Hooks(lambda line: None, event, lambda step: None)
        with tempfile.TemporaryDirectory() as target:
            loop.train(load(folder), rows, held_out, config, AdapterPaths(Path(target)), hooks)
        result = {"s": time.monotonic() - began_s}
    out.write_text(json.dumps(result))


def run(folder: Path, what: str, values: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """The child's result and its peak memory in GB, helpers included."""
    out = folder / "result.json"
    words = [sys.executable, __file__, "--child", what, str(folder), str(out), json.dumps(values)]
    process = subprocess.Popen(words)
    peaks: list[int] = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks), daemon=True)
    watcher.start()
    if process.wait() != 0:
        raise SystemExit(f"{what} failed: {values}")
    watcher.join()
    return json.loads(out.read_text()), peaks[0] / 1e9


def _watch(pid: int, peaks: list[int]) -> None:
    try:
        root = psutil.Process(pid)
        while root.is_running():
            family = [root, *root.children(recursive=True)]
            peaks[0] = max(peaks[0], sum(one.memory_info().rss for one in family))
            time.sleep(0.05)
    except psutil.Error:
        return


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        what, folder, out, values = sys.argv[2:]
        child(Path(folder), Path(out), what, json.loads(values))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--only", type=int, nargs="*", default=list(range(len(CASES))))
    options = parser.parse_args()
    print("| family | differs in | predicted GB | measured GB | error | predicted s | measured s |")
    print("|---|---|---|---|---|---|---|")
    for number in options.only:
        family, changes = CASES[number]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_model(folder, {**SHAPE, **FAMILIES[family]})
            values = settings(changes, options.updates)
            predicted, _ = run(folder, "predict", values)
            measured, peak_gb = run(folder, "train", values)
        shown = ", ".join(f"{key} {value}" for key, value in changes.items()) or "—"
        print(
            f"| {family} | {shown} | {predicted['gb']:.2f} | {peak_gb:.2f} "
            f"| {predicted['gb'] / peak_gb - 1:+.1%} | {predicted['s']:.0f} | {measured['s']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
