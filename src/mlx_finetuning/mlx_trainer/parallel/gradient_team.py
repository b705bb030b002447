"""Who computes an update's gradient: this process and workers that share its examples.

MLX's CPU backend works on one thread per process apart from matrix products, so on the CPU each
core gets a process of its own with one BLAS thread. Workers are stateless: per update they get the
trained arrays and their examples, and give back sums of losses and gradients. All state (optimizer,
schedule, position in the data) stays here: a lost worker ends the run behind a checkpoint, with nothing lost.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import GradientWorkerFailed, GradientWorkerLost, StudioError
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.batches.batches import BatchLayout
from mlx_finetuning.mlx_trainer.gradient import backward
from mlx_finetuning.mlx_trainer.gradient.backward import Gradient, Sums
from mlx_finetuning.mlx_trainer.gradient.objectives import Item
from mlx_finetuning.mlx_trainer.gradient.skipped_work import ActivationCache, ActivationCacheFile
from mlx_finetuning.mlx_trainer.kernels import cpu
from mlx_finetuning.mlx_trainer.model import trainable
from mlx_finetuning.utils import processes
from mlx_finetuning.utils.memory_monitor import peak_memory

SQUARE = 4000
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that somebody sends; others come of what a process does."""


def divide(examples: Sequence[Item], count: int) -> list[list[Item]]:
    """At most `count` shares of nearly equal work, none empty: the longest first, each to the
    share that has least. The lightest share comes first: whoever divides has other work besides."""
    shares: list[list[Item]] = [[] for __ in range(min(count, len(examples)))]
    work = [0.0] * len(shares)
    for example in sorted(examples, key=lambda item: (-len(item.tokens), item.row)):
        least = work.index(min(work))
        shares[least].append(example)
        work[least] += cost(len(example.tokens))
    return [shares[number] for number in sorted(range(len(shares)), key=work.__getitem__)]


def cost(tokens: int) -> float:
    """What an example takes of time and of memory, in tokens of a short one: attention's share grows
    with the square, and equals all the rest at `SQUARE` tokens."""
    return tokens * (1 + tokens / SQUARE)


class GradientTeam:
    """This process and its workers. A context manager: the workers end with the block."""

    def __init__(
        self,
        model: nn.Module,
        layout: BatchLayout,
        gradient: Gradient,
        workers: Sequence[GradientWorker] = (),
        cache: ActivationCache | None = None,
    ) -> None:
        self._model = model
        self.layout = layout
        self._gradient = gradient
        self._workers = tuple(workers)
        self._is_admitted = not workers
        """Whether the workers have loaded their copies, and these are ours."""
        self._cache = cache

    def __enter__(self) -> GradientTeam:
        return self

    def __exit__(self, *__: object) -> None:
        for worker in self._workers:
            worker.close()

    def _admit_workers(self) -> None:
        """Waits until every worker has loaded its copy; if one is not ours, all are closed."""
        ours = trainable.frozen_fingerprint(self._model)
        if not all(worker.fingerprint() == ours for worker in self._workers):
            self.__exit__()
            self._workers = ()
        self._is_admitted = True

    @property
    def processes(self) -> int:
        """This one included; one alone, once a worker's weights turned out not to be ours."""
        return 1 + len(self._workers)

    def peak_memory(self) -> int:
        """Bytes: what each process has held at most, added up; on a GPU, what its arrays took."""
        if mx.default_device() != mx.cpu:
            return mx.get_peak_memory()
        return peak_memory() + sum(worker.peak_memory() for worker in self._workers)

    def agree(self) -> bool | None:
        """Whether other ranks hold the same trained arrays; None without any."""
        return None

    def sums(self, examples: Sequence[Item], seed: Sequence[int]) -> Sums:
        """Sums over all `examples`, always added in the same order. Raises SharedWorkLost."""
        if not self._is_admitted:
            self._admit_workers()
        own, *others = divide(examples, self.processes)
        busy, arrays = self._workers[: len(others)], trainable.of(self._model)
        if busy:
            joined = arrays.joined(arrays.arrays())
            trained = {name: np.array(value) for name, value in joined.items()}
        for number, (worker, share) in enumerate(zip(busy, others, strict=True), 1):
            worker.ask(trained, share, (*seed, number))
        with cpu.blas_threads(1 if busy else None):
            total = backward.sums_of_examples(
                self._gradient, self.layout, self._cache, own, (*seed, 0)
            ).joined(arrays)
        for worker in busy:
            total = backward.added(total, worker.answer())
        return total


class WorkerProcess:
    """A process with a copy of the model, that reads and answers pickles; it ends when its standard
    input does."""

    def __init__(
        self,
        command: Sequence[str],
        threads: int,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """variables: of its environment, beside those of this process."""
        # Large pages save a twelfth of an update; glibc reads this at a process's start only.
        pages = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        environment = {**pages, **os.environ, "OPENBLAS_NUM_THREADS": str(threads), **variables}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._input = cast(IO[bytes], self._process.stdin)
        self._output = cast(IO[bytes], self._process.stdout)

    def peak_memory(self) -> int:
        """Bytes it has held at most."""
        return peak_memory(self._process.pid)

    def fingerprint(self) -> float:
        """Of its frozen weights, once they are loaded."""
        return float(self._receive())

    def has_ended(self) -> bool:
        """Whether it ends within a second."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        return self._process.poll() is not None

    def lost(self) -> StudioError:
        """Why it is gone: the error it sent last, or else what its exit code says."""
        if not self.has_ended():
            return GradientWorkerLost(exit_code=None)
        said = self.last_error()
        if said is not None:
            return self.told(said)
        code = self._process.returncode
        if -code in FROM_OUTSIDE:
            return GradientWorkerLost(exit_code=code)
        reason = _("何が起きたかは、実験のログの最後にあります。")
        return GradientWorkerFailed(kind=_("終了コード {code}").format(code=code), reason=reason)

    def last_error(self) -> StudioError | None:
        """What it sent before it ended, if that was an error."""
        with contextlib.suppress(EOFError, OSError, ValueError, pickle.UnpicklingError):
            while True:  # answers that nobody has read may come first
                message = pickle.load(self._output)
                if isinstance(message, StudioError):
                    return message
        return None

    def told(self, error: StudioError) -> StudioError:
        """The process's error as it is raised here."""
        return error

    def _send(self, message: Any) -> None:
        try:
            pickle.dump(message, self._input, protocol=5)
            self._input.flush()
        except OSError as error:
            raise self.lost() from error

    def _receive(self) -> Any:
        """The next answer. Raises the error that the process sent in its place, or `lost`."""
        try:
            message = pickle.load(self._output)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self.lost() from error
        if isinstance(message, StudioError):
            raise self.told(message)
        return message

    def close(self) -> None:
        """End it: at once if it reads its input, by force after 5 s."""
        for pipe in (self._input, self._output):
            with contextlib.suppress(OSError):
                pipe.close()
        processes.end(self._process, 5)


class GradientWorker(WorkerProcess):
    """Computes gradients for one update after the other; `parallel.worker_main`."""

    def __init__(
        self, folder: Path, config: TrainConfig, cache_file: ActivationCacheFile | None
    ) -> None:
        module = "mlx_finetuning.mlx_trainer.parallel.worker_main"
        super().__init__([sys.executable, "-P", "-m", module], threads=1)
        self._send((str(folder), config, cache_file))

    def ask(
        self, trained: dict[str, NDArray[Any]], examples: Sequence[Item], seed: Sequence[int]
    ) -> None:
        """Let it compute the sums over `examples`."""
        self._send((trained, list(examples), tuple(seed)))

    def answer(self) -> Sums:
        """Those sums. Raises SharedWorkLost, or what the worker met."""
        value, gradients = self._receive()
        return Sums(mx.array(value), {name: mx.array(item) for name, item in gradients.items()})
