"""The user's own defaults for new runs: settings that differ from the product's, in one file."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from mlx_finetuning import config, files
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.files import JsonObject
from mlx_finetuning.workspace import Workspace


def read(workspace: Workspace) -> TrainConfig:
    """What a new run starts from. Raises RecordDamaged, NewerSchema, InvalidSettings."""
    return config.load(TrainConfig, _stored(workspace))


def save(workspace: Workspace, changes: Mapping[str, Any]) -> TrainConfig:
    """Keep these settings for new runs; one that equals the product's default is forgotten.

    Raises InvalidSettings, DiskFull; then nothing has changed.
    """
    settings = config.load(TrainConfig, {**_stored(workspace), **changes})
    defaults = as_dict(TrainConfig())
    own = {key: value for key, value in as_dict(settings).items() if value != defaults[key]}
    files.write_json(workspace.preferences, {"train": own})
    return settings


def _stored(workspace: Workspace) -> JsonObject:
    with contextlib.suppress(FileNotFoundError):
        stored = files.read_json(workspace.preferences).get("train")
        return stored if isinstance(stored, dict) else {}
    return {}
