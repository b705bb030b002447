"""What a new run starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_finetuning import preferences
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
