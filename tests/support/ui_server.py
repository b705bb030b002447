"""The web UI's server, started as users start it, and asked over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
