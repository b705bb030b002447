"""What must be true of a workspace after any accident, however it came about."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil

from mlx_finetuning import files
from mlx_finetuning.jobs import queue, runs
from mlx_finetuning.models.folder import is_whole
from mlx_finetuning.runtime.process import SERVER
from mlx_finetuning.utils import gguf_reader
from mlx_finetuning.workspace import Workspace
from support.helpers import wait_until

WAIT_S = 15.0
MARK = "MLX_FINETUNING_ATTACKED"
RUNTIME = str(SERVER)
HOUR_S = 3600.0


def require_whole(workspace: Workspace) -> None:
    """No file under a final name is torn, but for the last line of a log."""
    for path in workspace.root.rglob("*"):
        if not path.is_file() or any(part.startswith(".") for part in _parts(workspace, path)):
            continue
        _CHECKS.get(path.suffix, lambda _: None)(path)
    for run in runs.list_runs(workspace):
        assert not run.problems, (run.run_id, run.problems)


def _parts(workspace: Workspace, path: Path) -> tuple[str, ...]:
    return path.relative_to(workspace.root).parts


def _json(path: Path) -> None:
    json.loads(path.read_bytes())


def _lines(path: Path) -> None:
    """Every line but one without an end is whole: a kill costs one line at most."""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            json.loads(line)


def _safetensors(path: Path) -> None:
    assert is_whole(path), path


def _gguf(path: Path) -> None:
    assert gguf_reader.read(path).tensors


_CHECKS = {".json": _json, ".jsonl": _lines, ".safetensors": _safetensors, ".gguf": _gguf}


def require_no_process(mark: str) -> None:
    """Nothing that was started under `mark` is left, helpers of workers included."""
    wait_until(lambda: not processes(mark), WAIT_S)


def processes(mark: str) -> list[psutil.Process]:
    """Those that have `mark` in their environment, which whatever they start inherits."""
    return [process for process in psutil.process_iter() if _has(process, mark)]


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE or process.environ().get(MARK) != mark:
            return False
        # The test's own server of the Ollama protocol answers with the runtime.
        is_own = process.ppid() == os.getpid() and RUNTIME in process.cmdline()
        return not is_own
    except psutil.Error:
        return False


def require_swept(workspace: Workspace) -> None:
    """What the accident left half-written goes at the next start, once it is surely nobody's."""
    queue.sweep(workspace, older_than_s=-HOUR_S)
    for kind in (f"{files.TEMPORARY_PREFIX}*", f"{files.FORMER_PREFIX}*", ".reserve"):
        assert not list(workspace.root.rglob(kind))


def require_nobody_works(workspace: Workspace) -> None:
    assert not list(queue.living_jobs(workspace))
    assert not files.is_locked(workspace.device_lock)
