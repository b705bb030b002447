"""One run on several ranks: processes of this machine or of others, joined by `mx.distributed`.

Rank 0 is the run. It decides, optimizes, validates and writes; the other ranks (`rank_main`) compute
gradients. What is small (examples, seeds) goes through their standard input, on other machines
through ssh; arrays go through a `RankGroup`: the trained ones from rank 0 to
all, the sums of losses and gradients from all to all. A rank therefore holds nothing that could be
lost, and ends when rank 0 does.

Ranks of one machine with a GPU for each are joined by NCCL, all others by MLX's ring over the
network. Neither encrypts; both trust the network. JACCL is not used.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mlx.core as mx
import mlx.nn as nn

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
from mlx_finetuning.mlx_trainer.model import card_memory, trainable
from mlx_finetuning.mlx_trainer.model.flat_arrays import ALL, Layout
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
    backend: Literal["ring", "nccl"] = "ring"
    """What joins them."""


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


def visible_cards() -> list[str]:
    """The NVIDIA GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    if card_memory.read() is None:
        return []
    count = mx.device_count(mx.gpu)
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name.strip() for name in named.split(",") if name.strip()][:count] or [
        str(number) for number in range(count)
    ]


def backend_for(config: TrainConfig, cards: Sequence[str]) -> Literal["ring", "nccl"]:
    """What joins a run's ranks; cards: the GPUs of this machine."""
    has_cards = not config.hosts and len(cards) >= rank_count(config)
    return "nccl" if has_cards and mx.distributed.is_available("nccl") else "ring"


class GroupBroken(Exception):
    """A rank is gone, or cannot be reached."""


GROUP_BROKEN = 3
"""Exit status of a rank that met no error of its own, but that another one is gone."""
STUCK_S = 120.0
"""Seconds in which ranks that have all come to a sum must have it; NCCL itself waits for ever."""


class RankGroup:
    """The collective sums of all ranks. Raises GroupBroken when one of them is gone."""

    def __init__(self, rank: Rank, folder: Path, meet: Callable[[], None]) -> None:
        """meet: returns when all ranks have called it, and raises what one of them met. A ring notices
        by itself that one is gone, and does without."""
        self._number = rank.number
        self._meet = meet if rank.backend == "nccl" else None
        self._stream = mx.gpu if self._meet else mx.cpu
        path = folder / f"ring-{rank.number}.json"
        files.write_text(path, json.dumps([[address] for address in rank.addresses]))
        host, port = rank.addresses[0].rsplit(":", 1)
        os.environ.update(
            MLX_RANK=str(rank.number),
            MLX_WORLD_SIZE=str(len(rank.addresses)),
            MLX_HOSTFILE=str(path),
            NCCL_HOST_IP=host,
            NCCL_PORT=port,
        )
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")  # its ranks are on one machine
        if self._meet:
            self._meet()
        try:
            with Deadline(STUCK_S if self._meet else None):
                self._group = mx.distributed.init(strict=True, backend=rank.backend)
        except RuntimeError as error:
            raise GroupBroken() from error

    def _sum(self, vector: mx.array) -> mx.array:
        mx.eval(vector)  # an error of what is to be summed is not the group's
        if self._meet:
            self._meet()
        total = mx.distributed.all_sum(vector, group=self._group, stream=self._stream)
        try:
            with Deadline(STUCK_S if self._meet else None):
                mx.eval(total)
        except RuntimeError as error:
            raise GroupBroken() from error
        return total

    def broadcast(self, model: nn.Module) -> None:
        """Give every rank the trained arrays of rank 0, to the last bit: x + 0 is x."""
        arrays = trainable.of(model)
        vector = arrays.vector()
        if self._number == 0:
            self._sum(vector)
        else:
            arrays.put_vector(self._sum(mx.zeros_like(vector)))

    def total(self, model: nn.Module, sums: Sums) -> Sums:
        """The sums of all ranks, the same on each."""
        arrays = trainable.of(model)
        given = sums.gradients.get(ALL)
        vector = arrays.vector(sums.gradients) if given is None else given
        both = {"loss": sums.loss, "gradients": vector}
        layout = Layout(both)
        total = layout.arrays(self._sum(layout.vector(both)))
        if given is None:
            return Sums(total["loss"], arrays.parts(total["gradients"]))
        return Sums(total["loss"], {ALL: total["gradients"]})


class Deadline:
    """A block that must be left within some seconds, or this process ends: nothing else gets a process
    out of a sum of NCCL whose other ranks are gone. What was saved before can be resumed."""

    def __init__(self, seconds: float | None) -> None:
        self._timer = None if seconds is None else threading.Timer(seconds, self._end)

    def __enter__(self) -> None:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def __exit__(self, *__: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        logging.getLogger(__name__).error("a rank is gone: no sum within %s s", STUCK_S)
        logging.shutdown()
        os._exit(GROUP_BROKEN)


def zero_sums(model: nn.Module, config: TrainConfig) -> Sums:
    """The sums of a rank that had no example."""
    marks = len(objectives.MARKS) if objectives.of(config).is_per_item else 0
    gradients = {ALL: mx.zeros_like(trainable.of(model).vector())}
    return Sums(mx.zeros(1 + marks if marks else ()), gradients)


class RankProcess(WorkerProcess):
    """Another rank, as rank 0 knows it."""

    def __init__(self, rank: Rank, host: str | None, threads: int, card: str = "") -> None:
        """card: the GPU that it is to see alone; any without a name."""
        super().__init__(
            rank_command(host), threads, {"CUDA_VISIBLE_DEVICES": card} if card else {}
        )
        self.rank, self.host = rank, host or _(HERE)

    def join(self, folder: Path, config: TrainConfig, batch_tokens: int | None) -> None:
        """Let it load the model in `folder` and take its place among the ranks; batch_tokens: of examples that
        share a batch."""
        self._send((str(folder), config, self.rank, batch_tokens))

    def wait_until_there(self) -> None:
        """It has all that it brings to the next sum. Raises RankFailed, RankLost."""
        self._receive()

    def let_in(self) -> None:
        """All ranks are there."""
        self._send(None)

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
        listening, cards = addresses(config), [] if config.hosts else visible_cards()
        backend = backend_for(config, cards)
        others: list[str | None] = [*hosts(config)[1:]] or [None] * (len(listening) - 1)
        self._threads = None if config.hosts else max(1, cores.usable() // len(listening))
        self._others = [
            RankProcess(
                Rank(number, listening, backend),
                host,
                self._threads or cores.usable(),
                cards[number % len(cards)] if cards else "",
            )
            for number, host in enumerate(others, 1)
        ]
        try:
            for process in self._others:
                process.join(home, config, team.layout.batch_tokens)
            own = trainable.frozen_fingerprint(model)
            for process in self._others:
                if process.fingerprint() != own:
                    number, host = process.rank.number, process.host
                    raise ModelsDiffer(rank=number, host=host, folder=str(home))
            self._group = RankGroup(Rank(0, listening, backend), folder, self._meet)
        except GroupBroken as error:
            lost = self._lost()
            self.__exit__()
            raise lost from error
        except BaseException:
            self.__exit__()
            raise

    def _meet(self) -> None:
        """Wait for all ranks to come to a sum, and let them in."""
        for process in self._others:
            process.wait_until_there()
        for process in self._others:
            process.let_in()

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
            self._group.broadcast(self._model)
            with cpu.blas_threads(self._threads):
                sums = self._team.sums(own, (*seed, 0))
            return self._group.total(self._model, sums)
        except GroupBroken as error:
            raise self._lost() from error

    def agree(self) -> bool:
        """Whether every rank holds the trained arrays of rank 0. Raises SharedWorkLost."""
        for process in self._others:
            process.ask_digest()
        try:
            self._group.broadcast(self._model)
        except GroupBroken as error:
            raise self._lost() from error
        held = {process.digest() for process in self._others}
        return held == {trainable.digest(self._model)}

    def _lost(self) -> StudioError:
        """Of the rank that ended first, as far as can be told; of rank 1 if it is the network that is
        gone."""
        ended = [process for process in self._others if process.has_ended()]
        errors = [process.lost() for process in ended or self._others[:1]]
        follow = [error.data.get("exit_code") == GROUP_BROKEN for error in errors]
        return errors[follow.index(False) if False in follow else 0]
