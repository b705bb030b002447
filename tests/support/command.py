"""The command line as a user runs it: the installed program, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = str(Path(sys.executable).with_name("mlx-finetuning"))


@dataclass(frozen=True)
class Done:
    code: int
    result: dict[str, Any]
    """The one JSON object of standard output."""
    errors: str


def run(workspace: Path, *words: str, limit_s: float = 600) -> Done:
    """One command with `--json`; nothing else may be on its standard output."""
    done = subprocess.run(
        [COMMAND, *words, "--workspace", str(workspace), "--json"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=limit_s,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return Done(done.returncode, json.loads(done.stdout), done.stderr)


def result(workspace: Path, *words: str, limit_s: float = 600) -> dict[str, Any]:
    """What a command that must go well says."""
    done = run(workspace, *words, limit_s=limit_s)
    assert done.code == 0, f"{' '.join(words)}: {done.result}\n{done.errors[-2000:]}"
    return done.result
