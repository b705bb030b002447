"""The web UI's server, started as users start it, and asked over HTTP."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


# Below the ports that the system deals out, and apart for each test process, of this test run or of
# another one on this machine: a port that a server gives back while it starts again is nobody else's.
_PORTS = itertools.count(20_000 + 37 * os.getpid() % 12_000)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, another one at each call."""
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def serve(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).with_name("mlx-finetuning")),
        "serve",
        "--workspace",
        str(root),
        "--json",
    ]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def answers(port: int) -> bool:
    try:
        return get(port)[0] == 200
    except OSError:
        return False


def get(
    port: int, method: str = "GET", path: str = "/", **headers: str
) -> tuple[int, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}
