"""Checkpoints: all that an update depends on, in folders that appear whole or not at all.

The order of the data and dropout's draws follow from seed and update number, so the update number
is the whole state of both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from mlx_finetuning import files
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.errors import CheckpointForeign, ContinuationDiffers, RecordDamaged
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.gradient import objectives
from mlx_finetuning.mlx_trainer.model import adapters, trainable
from mlx_finetuning.mlx_trainer.training import optimizer as optimizers
from mlx_finetuning.tokenization.chat import ChatTokenizer
from mlx_finetuning.utils import fingerprint
from mlx_finetuning.workspace import AdapterPaths

LAST_KEPT = 3
STATE = "state.json"
OPTIMIZER = "optimizer.safetensors"


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
    row_tokens: int = 0
    """A layout's `batch_tokens`, for the same reason; 0 as the device has them."""
    computed_by: str = ""
    """The libraries of the last sitting (`backend.libraries`): others round otherwise too."""
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


@dataclass(frozen=True)
class Identity:
    """SHA-256 of what may not change between two sittings of one run."""

    trained: str
    """Settings, examples and base weights."""
    held_out: str = ""
    """Held-out examples, which former versions did not look at."""
    spaced: str = ""
    """`trained` with spaces behind the commas of settings: former versions kept them as typed."""


def identity(
    config: TrainConfig,
    examples: Sequence[Any],
    held_out: Sequence[Any],
    base: Path | None,
    replayed: Sequence[Any] = (),
) -> Identity:
    """Of a run's settings, examples, what it replays, held-out examples, and the weights in its base's
    folder."""

    def counts(name: str) -> bool:
        # Versions that could not replay, or knew fewer objectives, had no settings for it.
        if name.startswith("replay"):
            return bool(replayed)
        if name == "continues":
            return bool(config.continues)
        if name in ("wordings", "trackers"):
            return False  # the examples tell; nothing is learned by
        return objectives.has_setting(config, name)

    # Where the objective has no beta of its own, former versions had DPO's.
    config = replace(config, beta=config.beta or objectives.DPO.beta)
    settings = [
        repr([entry for entry in sorted(as_dict(config, comma).items()) if counts(entry[0])])
        for comma in (",", ", ")
    ]
    trained, spaced = (hashlib.sha256(text.encode()) for text in settings)
    held = hashlib.sha256()
    learned = [*examples, *replayed]
    for some, digests in ((learned, (trained, spaced)), (held_out, (held,))):
        for example in some:
            content = repr(example.content).encode()
            for digest in digests:
                digest.update(content)
    for chunk in fingerprint.of_weights(base) if base is not None else ():
        trained.update(chunk)
        if settings[0] != settings[1]:
            spaced.update(chunk)
    return Identity(trained.hexdigest(), held.hexdigest(), spaced.hexdigest())


def save(
    folder: Path,
    model: nn.Module,
    adapter_config: JsonObject,
    chat: ChatTokenizer,
    optimizer: optim.Optimizer,
    state: TrainingState,
    identity: Identity,
) -> Path:
    """Write `folder/<update>`; the oldest go beyond the last three. Raises DiskFull."""
    final = folder / f"{state.update:07d}"
    with files.replacing_folder(final) as draft:
        adapters.save(model, adapter_config, draft, chat)
        save_optimizer(draft / OPTIMIZER, optimizer)
        made_of = {"identity": identity.trained, "held_out": identity.held_out}
        files.write_json(draft / STATE, {**made_of, "course": dataclasses.asdict(state)})
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
    path: Path, model: nn.Module, optimizer: optim.Optimizer, identity: Identity
) -> TrainingState:
    """Set adapter and optimizer to the checkpoint's. Raises CheckpointForeign, RecordDamaged."""
    record = files.read_json(path / STATE)
    is_same = record.get("identity") in (identity.trained, identity.spaced)
    if not is_same or record.get("held_out", identity.held_out) != identity.held_out:
        raise CheckpointForeign(path=str(path))
    try:
        state = TrainingState(**record["course"])
    except (KeyError, TypeError) as error:
        raise RecordDamaged(path=str(path / STATE)) from error
    model.update(_tree(path / "adapters.safetensors"))
    optimizers.put_state(optimizer, model, _tree(path / OPTIMIZER))
    mx.eval(model.parameters())
    return state


def save_optimizer(path: Path, optimizer: optim.Optimizer) -> None:
    """Its whole state. Raises DiskFull."""
    adapters.write_arrays(path, dict(tree_flatten(optimizer.state)))


def start_from(
    parent: AdapterPaths, model: nn.Module, optimizer: optim.Optimizer, *, same_optimizer: bool
) -> bool:
    """Set adapter and, where it was kept and is the same optimizer's, its state to those that a
    finished run left. Returns whether the state was. Raises RecordDamaged, ContinuationDiffers."""
    arrays = dict(tree_flatten(_tree(parent.weights)))
    own = trainable.of(model).arrays()
    if {name: value.shape for name, value in arrays.items()} != {
        name: value.shape for name, value in own.items()
    }:
        raise ContinuationDiffers(run_id=parent.folder.name, changed=[_("アダプターの形")])
    trainable.of(model).put(arrays)
    mx.eval(arrays)
    if not (same_optimizer and parent.optimizer.exists()):
        return False
    optimizers.put_state(optimizer, model, _tree(parent.optimizer))
    return True


def _tree(path: Path) -> Any:
    try:
        arrays = cast(dict[str, mx.array], mx.load(str(path)))
    except (OSError, RuntimeError, ValueError) as error:
        raise RecordDamaged(path=str(path)) from error
    return tree_unflatten(list(arrays.items()))
