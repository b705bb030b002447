"""The machine's state, and the disk space that the workspace takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning import diagnostics, doctor, shortcut, upkeep
from mlx_finetuning.doctor import Diagnosis
from mlx_finetuning.jobs import notices
from mlx_finetuning.upkeep import Usage, Waste
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Machine:
    """`studio.machine`."""

    workspace: Workspace

    def doctor(self) -> Diagnosis:
        """What the machine has, what it lacks and what to do; takes about two seconds."""
        return doctor.diagnose(self.workspace)

    def diagnostics(self) -> str:
        """The machine's and the workspace's state as text to hand on; no secret is in it."""
        return diagnostics.as_text(self.workspace, self.doctor())

    def can_notify(self) -> bool:
        """Whether this system can tell of jobs that end."""
        return notices.is_possible()

    def install_shortcut(self) -> Path:
        """A file to double-click that opens the interface on this workspace. Raises
        ShortcutUnwritable, DiskFull."""
        return shortcut.install(self.workspace)

    def remove_shortcut(self) -> list[Path]:
        """Remove it; the files that there were. Raises ShortcutUnwritable."""
        return shortcut.remove()

    def disk_usage(self) -> list[Usage]:
        """How much each part of the workspace takes."""
        return upkeep.disk_usage(self.workspace)

    def waste(self) -> list[Waste]:
        """What can be removed without losing a dataset, a run or a model, by kind."""
        return upkeep.find_waste(self.workspace)

    def clean(self, kind: str) -> int:
        """Remove one kind of waste; returns the bytes given back."""
        return upkeep.clean(self.workspace, kind)
