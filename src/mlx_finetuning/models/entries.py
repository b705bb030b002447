"""The catalogue of recommended base models, read from `config/models.yaml`.

Sizes, licences and memory are what was known when the file was written; the hub is not asked.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import cast

from mlx_finetuning.config import read_yaml
from mlx_finetuning.errors import RecordDamaged
from mlx_finetuning.files import ASSETS, JsonObject

# A link to config/models.yaml, so that a built wheel carries the file.
_FILE = ASSETS / "models.yaml"


@dataclass(frozen=True)
class Twin:
    """The same model in MLX's 4-bit format, mostly converted by the community."""

    name: str
    memory_gb: float
    """Like that of the entry; training on it is QLoRA."""


@dataclass(frozen=True)
class CatalogueEntry:
    """One recommended model. `name` is what `--model` takes: a built-in name or a hub id.

    What people read of it is Japanese, as the file has it, and shown with `_`.
    """

    name: str
    title: str
    """How the model is called in the interface."""
    group: str
    """The heading under which it is listed."""
    architecture: str
    """The first of `architectures` in its config.json."""
    tokenizer: str
    """`unigram`, which Ollama reads within its vocabulary only, or empty."""
    parameters: str
    licence: str
    size_gb: float
    """Bytes to download, in 10**9."""
    memory_gb: float
    """What LoRA at rank 16 takes in bfloat16, one example of 512 tokens at a time; 10**9 bytes."""
    mlx_4bit: Twin | None
    gated: bool
    built_in: bool
    tasks: tuple[str, ...]
    strong: str
    weak: str


@functools.cache
def catalogue() -> tuple[CatalogueEntry, ...]:
    """All entries, recommended ones first. Raises ConfigFileUnreadable, RecordDamaged."""
    entries = []
    try:
        for item in cast(list[JsonObject], read_yaml(_FILE)["models"]):
            values = {"tokenizer": "", "gated": False, "built_in": False, **item}
            values["mlx_4bit"] = Twin(**item["mlx_4bit"]) if "mlx_4bit" in item else None
            values["tasks"] = tuple(item["tasks"])
            entries.append(CatalogueEntry(**values))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordDamaged(path=str(_FILE)) from error
    return tuple(entries)


def find(name: str) -> CatalogueEntry | None:
    """The entry called `name`, or whose 4-bit twin is; hub ids are compared without regard to case."""
    wanted = name.lower()
    for entry in catalogue():
        twin = entry.mlx_4bit.name if entry.mlx_4bit else entry.name
        if wanted in (entry.name.lower(), twin.lower()):
            return entry
    return None
