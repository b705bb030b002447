"""Every reader of foreign files, and of records, against mutated ones: `fuzzing.py` in short and long.

The long form takes 20 minutes a target and a fresh seed, which it names; MLX_FINETUNING_FUZZ_S sets
other seconds. What it finds belongs into the reader's own tests.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning.quantizer.base import folder
from support import fuzzing

SHORT_S, LONG_S = 0.1, 1200.0


def fuzzed(seconds: float, seed: int, *targets: str) -> dict[str, Any]:
    script = Path(fuzzing.__file__)
    command = [sys.executable, str(script), str(seconds), str(seed), *targets]
    environment = {**os.environ, "PYTHONPATH": str(script.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_mutated_files_are_read_or_refused() -> None:
    found = fuzzed(SHORT_S, 1)
    assert not found["findings"], json.dumps(found, indent=1)
    assert set(found["cases"]) == set(fuzzing.TARGETS)


@pytest.mark.long
@pytest.mark.parametrize("target", fuzzing.TARGETS)
def test_mutated_files_are_read_or_refused_for_long(target: str) -> None:
    seconds = float(os.environ.get("MLX_FINETUNING_FUZZ_S", LONG_S))
    found = fuzzed(seconds, secrets.randbits(32), target)
    assert not found["findings"], json.dumps(found, indent=1)


def test_base_that_is_mutated_is_one(tmp_path: Path) -> None:
    """Else every mutation of it would be refused for the same reason."""
    (tmp_path / "base.gguf").write_bytes(fuzzing.base_gguf())
    folder.write(tmp_path / "base.gguf", tmp_path / "made")


def test_harness_finds_planted_faults() -> None:
    """A crash and a hang, so that silence means something."""

    def crash(path: Path) -> object:
        return 1 // (b"7" not in path.read_bytes())

    target = fuzzing.Target("x.bin", (b"1234567",), crash)
    tried, found = fuzzing.fuzz(target, 0.2, 1)
    assert tried > 10 and "ZeroDivisionError" in found[0]["error"]
