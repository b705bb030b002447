"""What the user prefers, in one file: settings of new runs that differ from the product's, whether the
system tells of ends, which columns the list of runs shows, and the language.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from mlx_finetuning import config, files
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.errors import StudioError
from mlx_finetuning.files import JsonObject
from mlx_finetuning.workspace import Workspace


def read(workspace: Workspace) -> TrainConfig:
    """What a new run starts from. Raises RecordDamaged, NewerSchema, InvalidSettings."""
    stored = _record(workspace).get("train")
    return config.load(TrainConfig, stored if isinstance(stored, dict) else {})


def save(workspace: Workspace, changes: Mapping[str, Any]) -> TrainConfig:
    """Keep these settings for new runs; one that equals the product's default is forgotten.

    Raises InvalidSettings, DiskFull; then nothing has changed.
    """
    settings = config.load(TrainConfig, {**as_dict(read(workspace)), **changes})
    defaults = as_dict(TrainConfig())
    own = {key: value for key, value in as_dict(settings).items() if value != defaults[key]}
    _write(workspace, {"train": own})
    return settings


def notifies(workspace: Workspace) -> bool:
    """Whether the system is to tell of jobs that end. Raises RecordDamaged, NewerSchema."""
    return _record(workspace).get("notify") is True


def save_notifies(workspace: Workspace, wanted: bool) -> None:
    """Raises RecordDamaged, NewerSchema, DiskFull."""
    _write(workspace, {"notify": wanted})


def columns(workspace: Workspace) -> tuple[str, ...] | None:
    """Those of the list of runs; None where nothing was chosen. Raises RecordDamaged, NewerSchema."""
    chosen = _record(workspace).get("columns")
    return tuple(map(str, chosen)) if isinstance(chosen, list) else None


def save_columns(workspace: Workspace, names: Sequence[str]) -> None:
    """Raises RecordDamaged, NewerSchema, DiskFull."""
    _write(workspace, {"columns": list(names)})


def language(workspace: Workspace) -> str | None:
    """`ja` or `en`; None where nothing was chosen, or what was chosen cannot be read: all that is
    shown needs a language, the telling of what is wrong too."""
    with contextlib.suppress(StudioError, OSError):
        chosen = _record(workspace).get("language")
        return chosen if isinstance(chosen, str) else None
    return None


def save_language(workspace: Workspace, code: str) -> None:
    """Raises RecordDamaged, NewerSchema, DiskFull."""
    _write(workspace, {"language": code})


def _record(workspace: Workspace) -> JsonObject:
    with contextlib.suppress(FileNotFoundError):
        return files.read_json(workspace.preferences)
    return {}


def _write(workspace: Workspace, changes: Mapping[str, object]) -> None:
    files.write_json(workspace.preferences, {**_record(workspace), **changes})
