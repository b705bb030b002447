"""Who computes an update's gradient: this process and local worker processes that share its examples.

MLX's CPU backend works on one thread per process apart from matrix products, so on the CPU each
core gets a process of its own with one BLAS thread. Workers are stateless: per update they get the
trained arrays and their examples, and give back sums of losses and gradients. All state (optimizer,
schedule, position in the data) stays here, so a worker can be lost without losing anything.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import GradientWorkerLost
from mlx_finetuning.mlx_trainer.gradient.backward import (
    Arrays,
    Gradient,
    Make,
    Sums,
    added,
    by_rows,
    gradient_of,
)
from mlx_finetuning.mlx_trainer.gradient.preference import Item
from mlx_finetuning.mlx_trainer.gradient.skipped_work import ActivationCache
from mlx_finetuning.mlx_trainer.model import trainable
from mlx_finetuning.utils import cores
from mlx_finetuning.utils.memory_monitor import peak_memory

WORTH_OPERATIONS = 5e11
"""Below this many floating-point operations a run ends before helpers have paid for their start."""


LARGEST_MODEL = 4e9
"""Bytes of parameters above which a second copy of the model is not made by itself."""


def divide(examples: Sequence[Item], count: int) -> list[list[Item]]:
    """At most `count` shares of nearly equal work, none empty: the longest first, each to the
    share that has least."""
    shares: list[list[Item]] = [[] for _ in range(min(count, len(examples)))]
    work = [0.0] * len(shares)
    for example in sorted(examples, key=lambda item: (-len(item.tokens), item.row)):
        least = work.index(min(work))
        shares[least].append(example)
        work[least] += _work(example)
    return shares


def _work(example: Item) -> float:
    # Attention's share grows with the square; it is half of the rest at about 2,000 tokens.
    return len(example.tokens) * (1 + len(example.tokens) / 4000)


@dataclass(frozen=True)
class ActivationCacheFile:
    """The file of kept outputs, as a helper is told of it."""

    path: str
    tokens: int
    width: int

    def open(self, model: nn.Module) -> ActivationCache:
        return ActivationCache(model, Path(self.path), self.tokens, self.width)


class GradientTeam:
    """This process and its helpers. A context manager: the helpers end with the block."""

    def __init__(
        self,
        model: nn.Module,
        make: Make,
        helpers: Sequence[GradientWorker],
        kept: ActivationCache | None = None,
        gradient: Gradient | None = None,
    ) -> None:
        self._model = model
        self._gradient = gradient or gradient_of(model)
        self._make = make
        self._helpers = tuple(helpers)
        self._kept = kept

    def __enter__(self) -> GradientTeam:
        return self

    def __exit__(self, *_: object) -> None:
        for helper in self._helpers:
            helper.close()

    def holds_the_same_weights(self) -> bool:
        """Waits until every helper has loaded its copy, and compares. If not, all are closed."""
        own = fingerprint(self._model) if self._helpers else 0.0
        same = all(helper.fingerprint() == own for helper in self._helpers)
        if not same:
            self.__exit__()
        return same

    @property
    def processes(self) -> int:
        return 1 + len(self._helpers)

    def peak_memory(self) -> int:
        """Bytes: what each process has held at most, added up; on a GPU, what its arrays took."""
        if mx.default_device() != mx.cpu:
            return mx.get_peak_memory()
        return peak_memory() + sum(helper.peak_memory() for helper in self._helpers)

    def agree(self) -> bool | None:
        """Whether other ranks hold the same trained arrays; None without any."""
        return None

    def sums(self, examples: Sequence[Item], seed: Sequence[int]) -> Sums:
        """Sums over all `examples`, always added in the same order. Raises GradientWorkerLost."""
        shares = divide(examples, self.processes)
        busy = self._helpers[: len(shares) - 1]
        if busy:
            arrays = _to_numpy(trainable.of(self._model).arrays())
        for number, helper in enumerate(busy, 1):
            helper.ask(arrays, shares[number], (*seed, number))
        with blas_threads(1 if busy else None):
            total = self._own(shares[0], (*seed, 0))
        for helper in busy:
            total = added(total, helper.answer())
        return total

    def _own(self, examples: Sequence[Item], seed: Sequence[int]) -> Sums:
        return by_rows(self._gradient, self._make, self._kept, examples, seed)


def _to_numpy(arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {name: np.array(value) for name, value in arrays.items()}


class WorkerProcess:
    """A process with a copy of the model, that reads and answers pickles; it ends when its standard
    input does."""

    def __init__(self, command: Sequence[str], threads: int) -> None:
        # Large pages save a twelfth of an update; glibc reads this at a process's start only.
        pages = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        environment = {**pages, **os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    @property
    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        return cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)

    def peak_memory(self) -> int:
        return peak_memory(self._process.pid)

    def fingerprint(self) -> float:
        """Of its frozen weights, once they are loaded."""
        return float(self._receive())

    def has_ended(self) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        return self._process.poll() is not None

    def lost(self) -> GradientWorkerLost:
        return GradientWorkerLost(exit_code=self._process.poll())

    def _send(self, message: Any) -> None:
        try:
            pickle.dump(message, self._pipes[0], protocol=5)
            self._pipes[0].flush()
        except OSError as error:
            raise self.lost() from error

    def _receive(self) -> Any:
        try:
            return pickle.load(self._pipes[1])
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self.lost() from error

    def close(self) -> None:
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class GradientWorker(WorkerProcess):
    """Computes gradients for one update after the other; `mlx_trainer.parallel.worker_main`."""

    def __init__(self, folder: Path, config: TrainConfig, room: ActivationCacheFile | None) -> None:
        super().__init__(
            [sys.executable, "-P", "-m", "mlx_finetuning.mlx_trainer.parallel.worker_main"], 1
        )
        self._send((str(folder), config, room))

    def ask(
        self, arrays: dict[str, NDArray[Any]], examples: Sequence[Item], seed: Sequence[int]
    ) -> None:
        self._send((arrays, list(examples), tuple(seed)))

    def answer(self) -> Sums:
        value, gradients = self._receive()
        return Sums(mx.array(value), {name: mx.array(item) for name, item in gradients.items()})


def digest(model: nn.Module) -> str:
    """Of the trained arrays, to the last bit."""
    found = hashlib.sha256()
    for name, value in sorted(trainable.of(model).arrays().items()):
        found.update(name.encode() + np.array(value.astype(mx.float32)).tobytes())
    return found.hexdigest()


def fingerprint(model: nn.Module) -> float:
    """Changes when a weight that is not trained does."""
    own = trainable.of(model).arrays()
    frozen = [v for k, v in tree_flatten(model.parameters()) if k not in own]
    sums = [float(cast(float, value.astype(mx.float32).sum().item())) for value in frozen]
    return float(sum(sums))


def recommended(model: nn.Module, tokens: int, updates: int, batch_size: int) -> int:
    """How many processes pay off here for a run of `updates` of about `tokens` tokens each."""
    if mx.default_device() != mx.cpu:
        return 1
    parameters = [value for _, value in tree_flatten(model.parameters())]
    size = sum(value.nbytes for value in parameters)
    operations = 4.0 * sum(value.size for value in parameters) * tokens * updates
    if operations < WORTH_OPERATIONS or size > LARGEST_MODEL:
        return 1
    return min(cores.usable(), batch_size)


def load_trained(model: nn.Module, arrays: dict[str, NDArray[Any]]) -> None:
    trainable.of(model).put({name: mx.array(value) for name, value in arrays.items()})


@contextlib.contextmanager
def blas_threads(count: int | None) -> Iterator[None]:
    """OpenBLAS works with `count` threads inside; other libraries are left as they are."""
    functions = _openblas() if count is not None else None
    if functions is None:
        yield
        return
    get, put = functions
    before = get()
    put(count)
    try:
        yield
    finally:
        put(before)


def _openblas() -> tuple[Callable[[], int], Callable[[int | None], None]] | None:
    library = ctypes.CDLL(None)
    try:
        return library.openblas_get_num_threads, library.openblas_set_num_threads
    except AttributeError:
        return None
