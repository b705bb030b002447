"""Starts and stops the server process. Its life is tied to this process, however that ends."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import RuntimeNotStarted
from mlx_finetuning.runtime.client import Client
from mlx_finetuning.utils import cores

CONTEXT = 4096
ONE_THREAD_BYTES = 64 << 20
POLL_S = 0.02
STOP_S = 5.0
COMPLAINT = re.compile(r"[\d.]+ E (.*)")


@contextlib.contextmanager
def serve(
    gguf: Path, *, context: int = CONTEXT, threads: int | None = None, timeout_s: float = 120.0
) -> Iterator[Client]:
    """A llama.cpp server for `gguf`, ready to answer; it ends with the block or with this process.

    context: tokens of question and answer together; timeout_s: until the model is loaded.
    Raises RuntimeNotStarted.
    """
    key = secrets.token_urlsafe(24)
    settings = {
        "gguf": str(gguf.absolute()),
        "context": context,
        "threads": threads or _threads(gguf),
        "key": key,
    }
    with tempfile.TemporaryDirectory(prefix="mlx-finetuning-") as name, _run(Path(name)) as process:
        address = _address(process, settings, Path(name), gguf, timeout_s)
        yield Client(address, key)


def _threads(gguf: Path) -> int:
    """llama.cpp's threads wait by spinning: with little to compute, a busy machine makes that slow."""
    if gguf.is_file() and gguf.stat().st_size < ONE_THREAD_BYTES:
        return 1
    return cores.usable()


def _port_file(folder: Path) -> Path:
    return folder / "port.json"


def _log_file(folder: Path) -> Path:
    return folder / "server.log"


@contextlib.contextmanager
def _run(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "mlx_finetuning.runtime.server", str(_port_file(folder))]
    with _log_file(folder).open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _address(
    process: subprocess.Popen[bytes],
    settings: dict[str, object],
    folder: Path,
    gguf: Path,
    timeout_s: float,
) -> str:
    """Send the settings and wait for the published address. Raises RuntimeNotStarted."""
    if process.stdin:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(settings).encode() + b"\n")
            process.stdin.flush()
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if _port_file(folder).exists():
            return str(files.read_json(_port_file(folder))["address"])
        if process.poll() is not None:
            raise RuntimeNotStarted(path=str(gguf), reason=_reason(folder))
        time.sleep(POLL_S)
    raise RuntimeNotStarted(path=str(gguf), reason=f"{timeout_s:g}秒待っても準備ができません。")


def _reason(folder: Path) -> str:
    """The first complaint of llama.cpp's log, or else the log's last line."""
    lines = _log_file(folder).read_text(encoding="utf-8", errors="replace").splitlines()
    complaints = [found[1] for line in lines if (found := COMPLAINT.match(line))]
    return (complaints or lines[-1:] or ["理由は記録されていません。"])[0]
