"""The interface's server as a process: started for the terminal or in the background, one per
workspace. Whether it lives is judged by a lock that it inherits, never by its process id.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import psutil

from mlx_finetuning import files
from mlx_finetuning.errors import RecordDamaged, ServerFailed, ServerRunning
from mlx_finetuning.utils import processes
from mlx_finetuning.workspace import Workspace

APP = Path(__file__).resolve().parents[1] / "ui" / "entry" / "app.py"
START_S, STOP_S, POLL_S = 60.0, 20.0, 0.1


@dataclass(frozen=True)
class ServerAddress:
    """Where the server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}"


@dataclass(frozen=True)
class Running:
    """A server that lives."""

    pid: int
    url: str


def free(address: ServerAddress) -> ServerAddress:
    """`address`, or where its port is taken the next one that nobody listens on; itself if none of
    the next hundred is free."""
    for port in range(address.port, min(address.port + 100, 65536)):
        with socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET) as probe:
            # As the server will: what an ended one left in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((address.host, port))
                return replace(address, port=port)
    return address


def serve_command(app: Path, address: ServerAddress) -> list[str]:
    """Streamlit; what is not named here is in the configuration beside `app`."""
    return [
        *(sys.executable, "-P", "-m", "streamlit", "run", str(app)),
        f"--server.address={address.host}",
        f"--server.port={address.port}",
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
    ]


def run(workspace: Workspace, address: ServerAddress) -> None:
    """Serve until Ctrl-C. Raises ServerRunning, ServerFailed."""
    with _only_one(workspace) as lock, contextlib.suppress(KeyboardInterrupt):
        # Standard output is for the command's answer.
        process = _start(workspace, address, lock, sys.__stderr__)
        try:
            exit_code = process.wait()
        except KeyboardInterrupt:
            _end(process)
            raise
        if exit_code > 0:
            raise ServerFailed(exit_code=exit_code, port=address.port)


def start_in_background(workspace: Workspace, address: ServerAddress) -> Running:
    """Returns once the server answers. Raises ServerRunning, ServerFailed."""
    log = log_of(workspace)
    with _only_one(workspace) as lock, log.open("ab") as stream:
        process = _start(workspace, address, lock, stream)
        end_s = time.monotonic() + START_S
        while not _is_up(process.pid, address):
            if process.poll() is not None or time.monotonic() > end_s:
                _end(process)
                raise ServerFailed(exit_code=process.returncode, port=address.port)
            time.sleep(POLL_S)
    return Running(process.pid, address.url)


def running(workspace: Workspace) -> Running | None:
    """The workspace's server, if it lives."""
    if not files.is_locked(_lock(workspace)):
        return None
    try:
        record = files.read_json(_record(workspace))
        return Running(int(record["pid"]), str(record["url"]))
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise RecordDamaged(path=str(_record(workspace))) from error


def stop(workspace: Workspace) -> Running | None:
    """End the workspace's server; returns what ran, or None."""
    server = running(workspace)
    if server is None:
        return None
    # The lock says that the writer of the record lives, so the number is still its own.
    os.kill(server.pid, signal.SIGTERM)
    end_s = time.monotonic() + STOP_S
    while files.is_locked(_lock(workspace)):
        if time.monotonic() > end_s:
            os.kill(server.pid, signal.SIGKILL)
        time.sleep(POLL_S)
    _record(workspace).unlink(missing_ok=True)
    return server


def log_of(workspace: Workspace) -> Path:
    """What a server in the background prints."""
    return workspace.logs / "serve.log"


def _record(workspace: Workspace) -> Path:
    return workspace.logs / "serve.json"


def _lock(workspace: Workspace) -> Path:
    return workspace.logs / "serve.lock"


@contextlib.contextmanager
def _only_one(workspace: Workspace) -> Iterator[files.FileLock]:
    """The lock, which the server goes on holding when the block has ended."""
    lock = files.FileLock(_lock(workspace))
    if not lock.acquire():
        url = ""
        with contextlib.suppress(RecordDamaged):  # it is only just starting
            url = getattr(running(workspace), "url", "")
        raise ServerRunning(url=url)
    # What an earlier server left must not be taken for this one's.
    _record(workspace).unlink(missing_ok=True)
    try:
        yield lock
    finally:
        lock.release()


def _start(
    workspace: Workspace, address: ServerAddress, lock: files.FileLock, output: IO[Any] | None
) -> subprocess.Popen[bytes]:
    assert lock.descriptor is not None
    is_background = output is not sys.__stderr__
    process = subprocess.Popen(
        serve_command(APP, address),
        env={**os.environ, "MLX_FINETUNING_HOME": str(workspace.root)},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=is_background,
        pass_fds=[lock.descriptor],
    )
    files.write_json(_record(workspace), {"pid": process.pid, "url": address.url})
    return process


def _is_up(pid: int, address: ServerAddress) -> bool:
    """Whether it is this process that answers: another program's server may have the port."""
    try:
        sockets = psutil.Process(pid).net_connections("tcp")
        if not any(
            it.status == psutil.CONN_LISTEN and it.laddr.port == address.port for it in sockets
        ):
            return False
        with urllib.request.urlopen(f"{address.url}/_stcore/health", timeout=2) as response:
            return bool(response.status == 200)
    except (psutil.NoSuchProcess, OSError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    processes.end(process, STOP_S)
