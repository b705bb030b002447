"""What the user prefers: what a new run starts from, notices, columns, the language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_finetuning import language, preferences
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Preferences:
    """`studio.preferences`."""

    workspace: Workspace

    def read(self) -> TrainConfig:
        """What a new run starts from. Raises RecordDamaged, NewerSchema, InvalidSettings."""
        return preferences.read(self.workspace)

    def save(self, changes: Mapping[str, Any]) -> TrainConfig:
        """Keep settings for new runs. Raises InvalidSettings, DiskFull."""
        return preferences.save(self.workspace, changes)

    def notifies(self) -> bool:
        """Whether the system tells of jobs that end. Raises RecordDamaged, NewerSchema."""
        return preferences.notifies(self.workspace)

    def save_notifies(self, wanted: bool) -> None:
        """Raises RecordDamaged, NewerSchema, DiskFull."""
        preferences.save_notifies(self.workspace, wanted)

    def columns(self) -> tuple[str, ...] | None:
        """Of the list of runs; None where none were chosen. Raises RecordDamaged, NewerSchema."""
        return preferences.columns(self.workspace)

    def save_columns(self, names: Sequence[str]) -> None:
        """Raises RecordDamaged, NewerSchema, DiskFull."""
        preferences.save_columns(self.workspace, names)

    def speak(self) -> None:
        """Have this process speak the user's language."""
        language.use(preferences.language(self.workspace))

    def save_language(self, code: str) -> None:
        """Keep the language, and speak it from now on. Raises RecordDamaged, NewerSchema, DiskFull."""
        preferences.save_language(self.workspace, code)
        language.use(code)
