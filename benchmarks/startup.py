"""How long the command line takes to answer: medians over fresh processes, as a Markdown table.

python benchmarks/startup.py [--runs 15]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    print("| command | median s | slowest s |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as workspace:
        for name, command in COMMANDS.items():
            taken = seconds(command, runs, workspace)
            print(f"| `{name}` | {statistics.median(taken):.2f} | {taken[-1]:.2f} |")


if __name__ == "__main__":
    main()
