"""The interface as a process, for tests that start and stop it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mlx_finetuning.workspace import Workspace


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

    def _serve(self, *options: str) -> None:
        command = [str(Path(sys.executable).with_name("mlx-finetuning")), "serve", *options]
        subprocess.run([*command, "--workspace", str(self.workspace.root)], check=True)
