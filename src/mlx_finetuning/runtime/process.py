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
from mlx_finetuning.language import _
from mlx_finetuning.runtime.client import Client
from mlx_finetuning.utils import cores, processes

SERVER = Path(__file__).with_name("server.py")
CONTEXT = 4096
ONE_THREAD_BYTES = 192 << 20
POLL_S = 0.02
STOP_S = 5.0
COMPLAINT = re.compile(r"[\d.]+ E (.*)")


@contextlib.contextmanager
def serve(
    gguf: Path,
    *,
    adapter: Path | None = None,
    context: int = CONTEXT,
    threads: int | None = None,
    timeout_s: float = 120.0,
) -> Iterator[Client]:
    """A llama.cpp server for `gguf`, ready to answer; it ends with the block or with this process.

    adapter: a GGUF adapter to apply; context: tokens of question and answer together; timeout_s: until the model is loaded.
    Raises RuntimeNotStarted.
    """
    if threads is None:
        # llama.cpp's threads wait by spinning: with little to compute, a busy machine makes that slow.
        is_small = gguf.is_file() and gguf.stat().st_size < ONE_THREAD_BYTES
        threads = 1 if is_small else cores.usable()
    key = secrets.token_urlsafe(24)
    settings = {
        "gguf": str(gguf.absolute()),
        "adapter": "" if adapter is None else str(adapter.absolute()),
        "context": context,
        "threads": threads,
        "key": key,
    }
    with tempfile.TemporaryDirectory(prefix="mlx-finetuning-") as folder:
        port_file, log_file = Path(folder) / "port.json", Path(folder) / "server.log"
        # By its path: as a module of this package it would import the client too, for nothing.
        command = [sys.executable, "-P", str(SERVER), str(port_file)]
        with log_file.open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            if process.stdin:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(json.dumps(settings).encode() + b"\n")
                    process.stdin.flush()
            end = time.monotonic() + timeout_s
            while not port_file.exists():
                if process.poll() is not None:
                    # The first complaint of llama.cpp's log, or else the log's last line.
                    lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
                    complaints = [found[1] for line in lines if (found := COMPLAINT.match(line))]
                    reasons = complaints or lines[-1:] or [_("理由は記録されていません。")]
                    raise RuntimeNotStarted(path=str(gguf), reason=reasons[0])
                if time.monotonic() >= end:
                    reason = _("{seconds:g}秒待っても準備ができません。").format(seconds=timeout_s)
                    raise RuntimeNotStarted(path=str(gguf), reason=reason)
                time.sleep(POLL_S)
            yield Client(str(files.read_json(port_file)["address"]), key)
        finally:
            if process.stdin:
                # The server ends when its standard input does.
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            processes.end(process, STOP_S)
