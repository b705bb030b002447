"""How long the command line takes to answer: medians over fresh processes, as a Markdown table.

python benchmarks/startup.py [--runs 15]
python benchmarks/startup.py --first-update [--model FOLDER] [--runs 3]

`--first-update` trains the model of `benchmarks/train.py`, or the one in FOLDER, on that benchmark's chats,
and times from the command to the first update: by the clock, and processor time of all processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import train

SCRIPT = str(Path(sys.executable).with_name("mlx-finetuning"))
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import mlx_finetuning.studio": [sys.executable, "-c", "import mlx_finetuning.studio"],
    "mlx-finetuning --help": [SCRIPT, "--help"],
    "mlx-finetuning train --help": [SCRIPT, "train", "--help"],
    "mlx-finetuning runs list": [SCRIPT, "runs", "list"],
    "mlx-finetuning models list": [SCRIPT, "models", "list"],
    "mlx-finetuning doctor": [SCRIPT, "doctor"],
}


def seconds(command: list[str], runs: int, workspace: str) -> list[float]:
    """Wall-clock seconds of each run, sorted; the first, which fills the disk cache, is dropped."""
    environment = {**os.environ, "MLX_FINETUNING_HOME": workspace}
    taken = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, env=environment, capture_output=True, check=True)
        taken.append(time.perf_counter() - start)
    return sorted(taken[1:])


def first_update(workspace: Path, model: Path) -> tuple[float, float]:
    """Seconds by the clock and of processors from `mlx-finetuning train` to its first update."""
    options = ["--set", "iterations=40", "--set", "batch_size=4", "--set", "replay=0"]
    command = [SCRIPT, "train", "--model", str(model), "--dataset", "chats", *options]
    environment = {**os.environ, "MLX_FINETUNING_HOME": str(workspace)}
    before, began_s = runs_of(workspace), time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    spent: dict[int, float] = {}
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            command_line = psutil.Process(process.pid)
            for one in (command_line, *command_line.children(recursive=True)):
                times = one.cpu_times()
                spent[one.pid] = times.user + times.system
        for run in runs_of(workspace) - before:
            log = run / "metrics.jsonl"
            if log.exists() and '"loss"' in log.read_text(encoding="utf-8"):
                taken = time.perf_counter() - began_s, sum(spent.values())
                (run / "stop.request").touch()
                process.wait()
                return taken
        time.sleep(0.02)
    raise SystemExit(f"{command} ended without an update")


def runs_of(workspace: Path) -> set[Path]:
    return set((workspace / "experiments").glob("*"))


def first_updates(runs: int, model: Path | None) -> None:
    print("| model | seconds, median | slowest | processor seconds, median |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        workspace, chats = Path(folder) / "workspace", Path(folder) / "chats.jsonl"
        if model is None:
            model = Path(folder) / "model"
            model.mkdir()
            train.write_model(model)
        rows = [json.dumps({"messages": chat["messages"]}) for chat in train.chats()]
        chats.write_text("\n".join(rows), encoding="utf-8")
        environment = {**os.environ, "MLX_FINETUNING_HOME": str(workspace)}
        prepare = [SCRIPT, "data", "prepare", str(chats), "--name", "chats"]
        subprocess.run(prepare, env=environment, capture_output=True, check=True)
        taken = [first_update(workspace, model) for _ in range(runs)]
    clock, spent = ([one[at] for one in taken] for at in (0, 1))
    print(
        f"| {model.name} | {statistics.median(clock):.1f} | {max(clock):.1f} "
        f"| {statistics.median(spent):.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--first-update", action="store_true")
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    runs: int = options.runs
    if options.first_update:
        first_updates(runs, options.model)
        return
    print("| command | median s | slowest s |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as workspace:
        for name, command in COMMANDS.items():
            taken = seconds(command, runs, workspace)
            print(f"| `{name}` | {statistics.median(taken):.2f} | {taken[-1]:.2f} |")


if __name__ == "__main__":
    main()
