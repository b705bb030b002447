"""The catalogue of recommended base models, read from `config/models.yaml`.

Sizes, licences and memory are what was known when the file was written; the hub is not asked.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_finetuning.config import read_yaml
from mlx_finetuning.errors import RecordDamaged

# A link to config/models.yaml, so that a built wheel carries the file.
_FILE = Path(__file__).resolve().parents[1] / "assets" / "models.yaml"


@dataclass(frozen=True)
class CatalogueEntry:
    """One recommended model. `name` is what `--model` takes: a built-in name or a hub id."""

    name: str
    title: str
    """How the model is called in the interface."""
    architecture: str
    """`model_type` of its config.json."""
    parameters: str
    licence: str
    size_gb: float
    """Bytes to download, in 10**9."""
    memory_gb: float
    """Least memory for LoRA with the default settings, in 10**9 bytes."""
    gated: bool
    built_in: bool
    tasks: tuple[str, ...]
    note: str


@functools.cache
def catalogue() -> tuple[CatalogueEntry, ...]:
    """All entries, smallest first. Raises ConfigFileUnreadable, RecordDamaged."""
    try:
        entries = [_entry(item) for item in read_yaml(_FILE)["models"]]
    except (KeyError, TypeError, ValueError) as error:
        raise RecordDamaged(path=str(_FILE)) from error
    return tuple(sorted(entries, key=lambda entry: entry.size_gb))


def find(name: str) -> CatalogueEntry | None:
    """The entry called `name`; hub ids are compared without regard to case."""
    return next((entry for entry in catalogue() if entry.name.lower() == name.lower()), None)


def _entry(item: dict[str, Any]) -> CatalogueEntry:
    values = {"gated": False, "built_in": False, "note": "", **item}
    return CatalogueEntry(**{**values, "tasks": tuple(values["tasks"])})
