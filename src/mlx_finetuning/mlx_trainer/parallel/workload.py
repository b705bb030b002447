"""What an update is computed from, and by whom: examples, processes, ranks, and what they cache.

Puts a team together and hands it over; what it computes is the loop's business.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.batches import BatchLayout
from mlx_finetuning.mlx_trainer.gradient import (
    backward,
    concatenated_attention,
    objectives,
    packed_attention,
    skipped_work,
)
from mlx_finetuning.mlx_trainer.gradient.objectives import Item
from mlx_finetuning.mlx_trainer.gradient.skipped_work import (
    ActivationCache,
    LowerOutputs,
)
from mlx_finetuning.mlx_trainer.model import split_head
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.parallel import distributed
from mlx_finetuning.mlx_trainer.parallel.distributed import DistributedTeam
from mlx_finetuning.mlx_trainer.parallel.gradient_team import GradientTeam, GradientWorker
from mlx_finetuning.utils import cores

WORTH_OPERATIONS = 5e11
"""Below this many floating-point operations a run ends before workers have paid for their start."""
REPLAYED = 4
"""Replayed examples of an update, where the settings leave it open."""
LARGEST_MODEL = 4e9
"""Bytes of parameters above which a second copy of the model is not made by itself."""

Team = GradientTeam | DistributedTeam
"""Whoever computes an update's sums."""


@dataclass(frozen=True)
class Workload:
    """What a run learns, encoded, and the model that learns it."""

    loaded: LoadedModel
    examples: Sequence[Item]
    layout: BatchLayout
    config: TrainConfig
    replayed: Sequence[Item] = ()
    """What the base says by itself; in indices they come behind the examples."""
    outputs: LowerOutputs = field(default_factory=LowerOutputs)
    """Of untrained lower blocks, where they are cached."""

    @functools.cached_property
    def _all(self) -> list[Item]:
        return [*self.examples, *self.replayed]

    @functools.cached_property
    def tokens(self) -> int:
        """Of all examples, without what is replayed."""
        return sum(len(item.tokens) for item in self.examples)

    @functools.cached_property
    def cached_tokens(self) -> int:
        """Of all that the activation cache has slots for."""
        return self.tokens + sum(len(item.tokens) for item in self.replayed)

    def with_slot(self, index: int) -> Item:
        """An example with its slot in the activation cache."""
        item = self._all[index]
        return dataclasses.replace(item, cache_slot=self.outputs.slot(item.tokens))

    def stored(self, indices: Iterable[int]) -> None:
        """Examples have gone through the lower blocks."""
        self.outputs.stored(self._all[index].tokens for index in indices)

    @functools.cached_property
    def _by_length(self) -> list[int]:
        lengths = [-len(item.tokens) for item in self._all]
        return sorted(range(len(lengths)), key=lengths.__getitem__)

    def longest(self, count: int) -> list[Item]:
        """The worst case of what is computed at once, replayed or not."""
        return [self.with_slot(index) for index in self._by_length[:count]]

    def worst_parts(self) -> list[list[Item]]:
        """Of an update: the longest of its examples, and of those that it replays."""
        own = [index for index in self._by_length if index < len(self.examples)]
        replayed = [index for index in self._by_length if index >= len(self.examples)]
        chosen = (own[: self.update_size], replayed[: self.replay_size])
        return [[self.with_slot(index) for index in some] for some in chosen if some]

    @property
    def update_size(self) -> int:
        """Examples of an update."""
        return min(self.config.batch_size, len(self.examples))

    @property
    def replay_size(self) -> int:
        """Replayed examples of an update."""
        wanted = REPLAYED if self.config.replay < 0 else self.config.replay
        return min(wanted, len(self.replayed))

    def replay_indices(self, update: int) -> list[int]:
        """Of what update `update` (the first is 0) replays beside its examples."""
        if not self.replay_size:
            return []
        count, size = len(self.replayed), self.replay_size
        order = batches.endless(count, size, self.config.seed, start=update)
        return [len(self.examples) + index for index in next(order)]


def batch_layout(model: nn.Module, vocabulary: int, config: TrainConfig) -> BatchLayout:
    """How examples stand in a batch on this device; padded where the class needs it."""
    if mx.default_device() == mx.cpu:
        is_exact, shared = concatenated_attention.is_exact(model, vocabulary), batches.CONCATENATED
    else:
        is_exact, shared = packed_attention.is_exact(model, vocabulary), batches.PACKED
    return objectives.of(config).layout(shared if is_exact else batches.PADDED)


def wider_batches(work: Workload) -> list[Workload]:
    """The same with batches that hold more tokens, the widest first: on a GPU whose attention does not
    grow with the sequence."""
    if work.layout.build is not batches.packed or not packed_attention.uses_kernels(
        work.loaded.model
    ):
        return []
    return [with_batch_tokens(work, tokens) for tokens in batches.WIDE_TOKENS]


def with_batch_tokens(work: Workload, tokens: int) -> Workload:
    """The same with batches that hold so many tokens."""
    return dataclasses.replace(work, layout=dataclasses.replace(work.layout, batch_tokens=tokens))


def processes(work: Workload) -> int:
    """How many processes share an update: what the settings ask for, or what pays."""
    config, model = work.config, work.loaded.model
    if (
        mx.default_device() != mx.cpu
        or not work.layout.shares_sequence
        or work.loaded.folder is None
    ):
        return 1
    if config.processes:
        return min(config.processes, work.update_size)
    if config.ranks > 1:
        return 1  # the ranks are on this machine's cores already
    parameters = [value for _, value in tree_flatten(model.parameters())]
    update_tokens = int(work.tokens / len(work.examples) * config.batch_size)
    # Two operations a parameter and token forward, two for the gradient of the activations.
    operations = 4.0 * sum(v.size for v in parameters) * update_tokens * config.iterations
    if operations < WORTH_OPERATIONS or sum(v.nbytes for v in parameters) > LARGEST_MODEL:
        return 1
    return min(cores.usable(), config.batch_size, work.update_size)


def start_team(work: Workload, folder: Path) -> Team:
    """The team of `processes(work)`, and of the other ranks that the settings ask for. To be closed.

    folder: for what the processes share, while they work. Raises SharedWorkLost, ModelsDiffer.
    """
    team = _local_team(work, folder)
    home = work.loaded.folder
    if distributed.rank_count(work.config) == 1 or home is None:
        return team
    return DistributedTeam(team, work.loaded.model, home, work.config, folder)


def _local_team(work: Workload, folder: Path) -> GradientTeam:
    """Its workers load their copies while this process goes on."""
    model, home = work.loaded.model, work.loaded.folder
    file = None
    if cache_bytes(work):
        for index in range(len(work.examples) + len(work.replayed)):
            work.with_slot(index)
        block = skipped_work.lowest_trained(model) - 1
        file = work.outputs.open(folder, block, int(work.loaded.config["hidden_size"]))
    else:
        work.outputs.unused()
    cache = None if file is None else ActivationCache(model, file)
    gradient = backward.gradient_for(model, work.config)
    count = 0 if home is None else processes(work) - 1
    workers = [GradientWorker(home, work.config, file) for _ in range(count) if home is not None]
    return GradientTeam(model, work.layout, gradient, workers, cache)


def cache_bytes(work: Workload) -> int:
    """Size of the cached outputs of untrained lower blocks; 0 where they are not cached."""
    config, model = work.config, work.loaded.model
    size = 4 * work.cached_tokens * int(work.loaded.config.get("hidden_size", 0))
    is_reused = config.iterations * config.batch_size > len(work.examples)
    # Noise on the embeddings makes every pass through the lower blocks another one.
    if not (config.keep_lower and is_reused) or config.neftune_alpha:
        return 0
    if objectives.of(config).is_per_item or not work.layout.shares_sequence:
        return 0
    if not skipped_work.lowest_trained(model) or not skipped_work.can_cache(model):
        return 0
    is_half_precision = split_head.norm(model).weight.dtype != mx.float32
    return 0 if is_half_precision or size > skipped_work.LARGEST_CACHE else size
