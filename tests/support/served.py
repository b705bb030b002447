"""The interface as a process, for tests that start and stop it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mlx_finetuning.workspace import Workspace

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SHELL = "chromium-headless-shell"
"""Chromium without windows: a page takes half of its processor time."""
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def find_chromium(*, whole: bool = False) -> str | None:
    """whole: as users have it, with windows."""
    names = NAMES if whole else (SHELL, *NAMES)
    named = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    return named or (str(MAC) if MAC.exists() else None)


@dataclass
class Served:
    """An interface on a workspace of its own; survives being stopped and started again."""

    workspace: Workspace
    port: int
    off_machine: list[str] = field(default_factory=list)
    """Requests that somebody tried to send elsewhere."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._serve("--background", "--port", str(self.port))

    def stop(self) -> None:
        self._serve("--stop")

    def log(self) -> str:
        """What the server printed."""
        return (self.workspace.logs / "serve.log").read_text(encoding="utf-8")

    def _serve(self, *options: str) -> None:
        command = [str(Path(sys.executable).with_name("mlx-finetuning")), "serve", *options]
        command += ["--workspace", str(self.workspace.root)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
