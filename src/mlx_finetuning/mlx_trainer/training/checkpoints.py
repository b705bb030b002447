"""Checkpoints: all that an update depends on, in folders that appear whole or not at all.

The order of the data and dropout's draws follow from seed and update number, so the update number
is the whole state of both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from mlx_finetuning import files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import CheckpointForeign, RecordDamaged
from mlx_finetuning.files import JsonObject
from mlx_finetuning.mlx_trainer.model import adapters
from mlx_finetuning.tokenization.chat import Chat
from mlx_finetuning.utils import fingerprint

LAST_KEPT = 3
STATE = "state.json"


@dataclass
class TrainingState:
    """Where a run stands after `update` updates."""

    update: int = 0
    supervised: int = 0
    """Supervised tokens so far."""
    processes: int = 1
    """Sums are added per process: another number gives other last digits."""
    micro_batch_size: int = 0
    """Examples computed at once, for the same reason."""
    recompute: str = "off"
    first_loss: float | None = None
    last_loss: float | None = None
    validated: int = -1
    """The update of the last validation."""
    sampled: int = -1
    """The update of the last sample answers."""
    first_valid: float | None = None
    last_valid: float | None = None
    best_valid: float | None = None
    best_update: int = 0
    without_gain: int = 0
    """Validations since the best one."""
    elapsed_s: float = 0.0
    """Of all sittings up to the last checkpoint."""


def identity(
    config: TrainConfig, examples: Sequence[Any], held_out: Sequence[Any], base: Path | None
) -> dict[str, str]:
    """Of what may not change between two sittings of one run: settings, examples and base weights,
    and beside them the held-out examples, which former versions did not look at."""
    settings = repr(sorted(dataclasses.asdict(config).items()))
    digest, held = hashlib.sha256(settings.encode()), hashlib.sha256()
    for rows, into in ((examples, digest), (held_out, held)):
        for example in rows:
            into.update(repr((example.tokens, example.supervised)).encode())
    for path in sorted(base.glob("*.safetensors")) if base is not None else ():
        for chunk in fingerprint.chunks(path):
            digest.update(chunk)
    return {"identity": digest.hexdigest(), "held_out": held.hexdigest()}


def save(
    folder: Path,
    model: nn.Module,
    adapter_config: JsonObject,
    chat: Chat,
    optimizer: optim.Optimizer,
    state: TrainingState,
    identity: dict[str, str],
) -> Path:
    """Write `folder/<update>`; the oldest go beyond the last three. Raises DiskFull."""
    final = folder / f"{state.update:07d}"
    with files.replacing_folder(final) as draft:
        adapters.save(model, adapter_config, draft, chat)
        adapters.write_arrays(draft / "optimizer.safetensors", dict(tree_flatten(optimizer.state)))
        record = {**identity, "course": dataclasses.asdict(state)}
        files.write_json(draft / STATE, record)
    for old in whole(folder)[:-LAST_KEPT]:
        files.remove_folder(old)
    return final


def whole(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, the oldest first."""
    folders = folder.glob("[0-9]*") if folder.is_dir() else ()
    return sorted(path for path in folders if (path / STATE).is_file())


def latest(folder: Path) -> Path | None:
    """The newest checkpoint that can be read."""
    for path in reversed(whole(folder)):
        with contextlib.suppress(RecordDamaged):
            files.read_json(path / STATE)
            return path
    return None


def restore(
    path: Path, model: nn.Module, optimizer: optim.Optimizer, identity: dict[str, str]
) -> TrainingState:
    """Set adapter and optimizer to the checkpoint's. Raises CheckpointForeign, RecordDamaged."""
    record = files.read_json(path / STATE)
    kept = {**identity, "identity": "", **record}
    if any(kept[part] != value for part, value in identity.items()):
        raise CheckpointForeign(path=str(path))
    try:
        state = TrainingState(**record["course"])
    except (KeyError, TypeError) as error:
        raise RecordDamaged(path=str(path / STATE)) from error
    model.update(_tree(path / "adapters.safetensors"))
    optimizer.state = _tree(path / "optimizer.safetensors")
    mx.eval(model.parameters(), optimizer.state)
    return state


def _tree(path: Path) -> Any:
    try:
        arrays = cast(dict[str, mx.array], mx.load(str(path)))
    except (OSError, RuntimeError, ValueError) as error:
        raise RecordDamaged(path=str(path)) from error
    return tree_unflatten(list(arrays.items()))
