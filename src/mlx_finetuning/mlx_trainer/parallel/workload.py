"""Who computes a run's updates: how examples share rows, in how many processes, and what they keep.

Puts the team together and hands it over; what it computes is the loop's business.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.examples import CacheSlot
from mlx_finetuning.mlx_trainer.gradient import (
    backward,
    concatenated_attention,
    packed_attention,
    preference,
    skipped_work,
)
from mlx_finetuning.mlx_trainer.gradient.preference import Item
from mlx_finetuning.mlx_trainer.model import split_head
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.parallel import gradient_team, ranks


@dataclass(frozen=True)
class Workload:
    """What a run learns, encoded, and the model that learns it."""

    loaded: LoadedModel
    examples: Sequence[Item]
    make: backward.Make
    config: TrainConfig

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [0, *itertools.accumulate(len(item.tokens) for item in self.examples)]

    @property
    def tokens(self) -> int:
        return self._starts[-1]

    def placed(self, index: int, is_known: bool = False) -> Any:
        """An example with its place in the file of kept outputs."""
        place = CacheSlot(self._starts[index], is_known)
        return dataclasses.replace(self.examples[index], place=place)

    @functools.cached_property
    def by_length(self) -> list[Any]:
        """The examples, placed, the longest first."""
        order = sorted(
            range(len(self.examples)), key=lambda index: -len(self.examples[index].tokens)
        )
        return [self.placed(index) for index in order]

    def longest(self, count: int) -> list[Any]:
        """The worst case of an update."""
        return self.by_length[:count]

    @property
    def at_once(self) -> int:
        """Examples of a whole update."""
        return min(self.config.batch_size, len(self.examples))


AnyTeam = gradient_team.GradientTeam | ranks.DistributedTeam
"""Whoever computes an update's sums."""


def arrangement(model: nn.Module, vocabulary: int, config: TrainConfig) -> backward.Make:
    """How examples share rows on this device; in rows of their own where the class needs it."""
    return preference.arrangement(config, _of_device(model, vocabulary))


def _of_device(model: nn.Module, vocabulary: int) -> backward.Make:
    if mx.default_device() == mx.cpu:
        fits, make = concatenated_attention.is_exact(model, vocabulary), batches.concatenated
    else:
        fits, make = packed_attention.is_exact(model, vocabulary), batches.packed
    return make if fits else batches.batch_of


def processes(work: Workload) -> int:
    """How many processes share an update: what the settings ask for, or what pays."""
    if work.make not in (batches.concatenated, preference.concatenated):
        return 1
    if work.loaded.folder is None:
        return 1
    config = work.config
    if config.ranks > 1 and not config.processes:
        return 1  # the ranks are on this machine's cores already
    mean = work.tokens / len(work.examples)
    pays = gradient_team.recommended(
        work.loaded.model, int(mean * config.batch_size), config.iterations, config.batch_size
    )
    return min(config.processes or pays, work.at_once)


def gather(work: Workload, folder: Path) -> AnyTeam:
    """The team of `processes(work)`, and of the other ranks that the settings ask for. To be closed.

    folder: for what the processes share, while they work. Raises RankLost, ModelsDiffer.
    """
    team = _here(work, folder)
    count = ranks.ranks(work.config)
    home = work.loaded.folder
    if count == 1 or home is None:
        return team
    return ranks.DistributedTeam(team, work.loaded.model, home, work.config, folder)


def _here(work: Workload, folder: Path) -> gradient_team.GradientTeam:
    """Less than `processes(work)`, if a helper's weights are not ours."""
    model, room = work.loaded.model, _room(work, folder)
    count = processes(work) - 1
    home = work.loaded.folder
    helpers = [
        gradient_team.GradientWorker(home, work.config, room)
        for _ in range(count)
        if home is not None
    ]
    kept = None if room is None else room.open(model)
    gradient = backward.gradient_for(model, work.config)
    team = gradient_team.GradientTeam(model, work.make, helpers, kept, gradient)
    if team.holds_the_same_weights():
        return team
    return gradient_team.GradientTeam(model, work.make, [], kept, gradient)


def _room(work: Workload, folder: Path) -> gradient_team.ActivationCacheFile | None:
    """A file for the outputs of the untrained lower blocks, where keeping them pays."""
    width = int(work.loaded.config.get("hidden_size", 0))
    if not width or cache_bytes(work) == 0:
        return None
    path = folder / "lower_outputs"
    with path.open("wb") as stream:
        stream.truncate(4 * work.tokens * width)
    return gradient_team.ActivationCacheFile(str(path), work.tokens, width)


def cache_bytes(work: Workload) -> int:
    """Size of the kept outputs of untrained lower blocks; 0 where they are not kept."""
    config, model = work.config, work.loaded.model
    size = 4 * work.tokens * int(work.loaded.config.get("hidden_size", 0))
    again = config.iterations * config.batch_size > len(work.examples)
    # Noise on the embeddings makes every pass through the lower blocks another one.
    if not (config.keep_lower and again) or config.neftune_alpha:
        return 0
    shares_rows = work.make in (batches.concatenated, batches.packed)
    if (
        not shares_rows
        or not skipped_work.lowest_trained(model)
        or not skipped_work.can_keep(model)
    ):
        return 0
    is_half_precision = split_head.norm(model).weight.dtype != mx.float32
    return 0 if is_half_precision or size > skipped_work.LARGEST_CACHE else size
