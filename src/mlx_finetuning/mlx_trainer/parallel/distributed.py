"""One run on several ranks: processes of this machine or of others, joined by `mx.distributed`.

Rank 0 is the run. It decides, optimizes, validates and writes; the other ranks (`rank_main`) compute
gradients. What is small (examples, seeds) goes through their standard input, on other machines
through ssh; arrays go round MLX's ring: the trained ones from rank 0 to
all, the sums of losses and gradients from all to all. A rank therefore holds nothing that could be
lost, and ends when rank 0 does.

RingGroup only: neither JACCL nor NCCL. Its connections are not encrypted, and trust the network.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_finetuning import files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import (
    InvalidSettings,
    ModelsDiffer,
    RankFailed,
    RankLost,
    StudioError,
)
from mlx_finetuning.language import N_, _
from mlx_finetuning.messages import describe
from mlx_finetuning.mlx_trainer.gradient import objectives
from mlx_finetuning.mlx_trainer.gradient.backward import Sums
from mlx_finetuning.mlx_trainer.gradient.objectives import Item
from mlx_finetuning.mlx_trainer.kernels import cpu
from mlx_finetuning.mlx_trainer.model import trainable
from mlx_finetuning.mlx_trainer.model.flat_arrays import Layout
from mlx_finetuning.mlx_trainer.parallel.gradient_team import GradientTeam, WorkerProcess, divide
from mlx_finetuning.utils import cores

HERE = N_("この機械")
PORT = 32323
"""Of rank 0 among several machines; the following ranks take the following ones."""


@dataclass(frozen=True)
class Rank:
    """One rank of a run, and where all of them listen."""

    number: int
    addresses: tuple[str, ...]
    """`host:port` of every rank."""


def hosts(config: TrainConfig) -> tuple[str, ...]:
    """The machines of a run; empty if it stays on this one. Raises InvalidSettings."""
    problems = [
        _("hosts: 「{name}」は機械の名前ではありません。").format(name=name)
        for name in config.hosts
        if name.startswith("-")
    ]
    if config.hosts and config.ranks > 1:
        problems.append(_("ranks と hosts は、どちらか1つにしてください。"))
    if problems:
        raise InvalidSettings(problems=problems)
    return config.hosts


def rank_count(config: TrainConfig) -> int:
    """How many ranks a run has, this process included."""
    return max(config.ranks, len(hosts(config)))


def addresses(config: TrainConfig) -> tuple[str, ...]:
    """Where each rank listens: free ports of this machine, or fixed ones of several."""
    named = hosts(config)
    if named:
        return tuple(f"{name.split('@')[-1]}:{PORT + rank}" for rank, name in enumerate(named))
    sockets = [socket.create_server(("127.0.0.1", 0)) for __ in range(config.ranks)]
    free = tuple(f"127.0.0.1:{listener.getsockname()[1]}" for listener in sockets)
    for listener in sockets:
        listener.close()
    return free


def rank_command(host: str | None) -> list[str]:
    """What starts another rank; on another machine by ssh, with the same path to Python."""
    command = [sys.executable, "-P", "-m", "mlx_finetuning.mlx_trainer.parallel.rank_main"]
    return command if host is None else ["ssh", "-o", "BatchMode=yes", host, shlex.join(command)]


class RingBroken(Exception):
    """A rank is gone, or cannot be reached."""


RING_BROKEN = 3
"""Exit status of a rank that met no error of its own, but a broken ring."""


class RingGroup:
    """The collective sums of all ranks. Raises RingBroken when one of them is gone."""

    def __init__(self, rank: Rank, folder: Path) -> None:
        path = folder / f"ring-{rank.number}.json"
        files.write_text(path, json.dumps([[address] for address in rank.addresses]))
        os.environ.update(MLX_RANK=str(rank.number), MLX_HOSTFILE=str(path))
        try:
            self._group = mx.distributed.init(strict=True, backend="ring")
        except RuntimeError as error:
            raise RingBroken() from error
        self._number = rank.number

    def _sum(self, vector: mx.array) -> mx.array:
        mx.eval(vector)  # an error of what is to be summed is not the ring's
        total = mx.distributed.all_sum(vector, group=self._group, stream=mx.cpu)
        try:
            mx.eval(total)
        except RuntimeError as error:
            raise RingBroken() from error
        return total

    def broadcast(self, model: nn.Module) -> None:
        """Give every rank the trained arrays of rank 0, to the last bit: x + 0 is x."""
        arrays = trainable.of(model)
        vector = arrays.vector()
        if self._number == 0:
            self._sum(vector)
        else:
            arrays.put_vector(self._sum(mx.zeros_like(vector)))

    def total(self, sums: Sums) -> Sums:
        """The sums of all ranks, the same on each."""
        arrays = {"loss": sums.loss, "gradients": dict(sorted(sums.gradients.items()))}
        layout = Layout(arrays)
        total = layout.tree(self._sum(layout.vector(arrays)))
        return Sums(total["loss"], dict(tree_flatten(total["gradients"])))


def zero_sums(model: nn.Module, config: TrainConfig) -> Sums:
    """The sums of a rank that had no example."""
    marks = len(objectives.MARKS) if objectives.of(config).is_per_item else 0
    arrays = trainable.of(model).arrays()
    gradients = {name: mx.zeros_like(value) for name, value in arrays.items()}
    return Sums(mx.zeros(1 + marks if marks else ()), gradients)


class RankProcess(WorkerProcess):
    """Another rank, as rank 0 knows it."""

    def __init__(self, rank: Rank, host: str | None, threads: int) -> None:
        super().__init__(rank_command(host), threads)
        self.rank, self.host = rank, host or _(HERE)

    def join(self, folder: Path, config: TrainConfig) -> None:
        """Let it load the model in `folder` and take its place in the ring."""
        self._send((str(folder), config, self.rank))

    def ask(self, examples: Sequence[Item], seed: Sequence[int]) -> None:
        """Let it compute its share of an update."""
        self._send((list(examples), tuple(seed)))

    def digest(self) -> str:
        """Of the trained arrays it holds, after rank 0 has sent them once more."""
        return str(self._receive())

    def ask_digest(self) -> None:
        """Let it take the trained arrays once more and say their digest."""
        self._send(None)

    def lost(self) -> StudioError:
        """Why it is gone: the error it sent last, or else its exit code."""
        said = self.last_error() if self.has_ended() else None
        if said is not None:
            return self.told(said)
        return RankLost(rank=self.rank.number, host=self.host, exit_code=self._process.poll())

    def told(self, error: StudioError) -> RankFailed:
        """The error, with where it was met."""
        text = describe(error)
        reason = f"{text.what}{text.why}"
        return RankFailed(rank=self.rank.number, host=self.host, reason=reason)


class DistributedTeam:
    """This process with its team, and the other ranks. A context manager: they end with the block."""

    def __init__(
        self, team: GradientTeam, model: nn.Module, home: Path, config: TrainConfig, folder: Path
    ) -> None:
        self._team = team
        self._model = model
        listening = addresses(config)
        others: list[str | None] = [*hosts(config)[1:]] or [None] * (len(listening) - 1)
        self._threads = None if config.hosts else max(1, cores.usable() // len(listening))
        self._others = [
            RankProcess(Rank(number, listening), host, self._threads or cores.usable())
            for number, host in enumerate(others, 1)
        ]
        try:
            for process in self._others:
                process.join(home, config)
            own = trainable.frozen_fingerprint(model)
            for process in self._others:
                if process.fingerprint() != own:
                    number, host = process.rank.number, process.host
                    raise ModelsDiffer(rank=number, host=host, folder=str(home))
            self._ring = RingGroup(Rank(0, listening), folder)
        except RingBroken as error:
            lost = self._lost()
            self.__exit__()
            raise lost from error
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> DistributedTeam:
        return self

    def __exit__(self, *__: object) -> None:
        self._team.__exit__()
        for process in self._others:
            process.close()

    @property
    def processes(self) -> int:
        """Of this machine's team."""
        return self._team.processes

    def peak_memory(self) -> int:
        """Bytes, of this machine's team."""
        return self._team.peak_memory()

    def sums(self, examples: Sequence[Item], seed: Sequence[int]) -> Sums:
        """Sums over all `examples`, always added in the same order. Raises SharedWorkLost."""
        own, *others = divide(examples, 1 + len(self._others))
        others += [[] for __ in self._others[len(others) :]]
        for process, share in zip(self._others, others, strict=True):
            process.ask(share, (*seed, process.rank.number))
        try:
            self._ring.broadcast(self._model)
            with cpu.blas_threads(self._threads):
                sums = self._team.sums(own, (*seed, 0))
            return self._ring.total(sums)
        except RingBroken as error:
            raise self._lost() from error

    def agree(self) -> bool:
        """Whether every rank holds the trained arrays of rank 0. Raises SharedWorkLost."""
        for process in self._others:
            process.ask_digest()
        try:
            self._ring.broadcast(self._model)
        except RingBroken as error:
            raise self._lost() from error
        held = {process.digest() for process in self._others}
        return held == {trainable.digest(self._model)}

    def _lost(self) -> StudioError:
        """Of the rank that ended first, as far as can be told; of rank 1 if it is the network that is
        gone."""
        ended = [process for process in self._others if process.has_ended()]
        errors = [process.lost() for process in ended or self._others[:1]]
        follow = [error.data.get("exit_code") == RING_BROKEN for error in errors]
        return errors[follow.index(False) if False in follow else 0]
