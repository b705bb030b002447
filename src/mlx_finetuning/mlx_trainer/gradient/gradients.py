"""The gradient of an update: computed here, or by local processes that share its examples.

MLX's CPU backend works on one thread per process apart from matrix products, so on the CPU each
core gets a process of its own with one BLAS thread. Helpers are stateless: per update they get the
trained arrays and their examples, and give back sums of losses and gradients. All state (optimizer,
schedule, position in the data) stays here, so a helper can be lost without losing anything.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import math
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
from mlx_finetuning.errors import HelperLost
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.batches import Batch
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.gradient import loss, preference
from mlx_finetuning.mlx_trainer.gradient.preference import Item
from mlx_finetuning.mlx_trainer.gradient.skipped_work import Kept
from mlx_finetuning.mlx_trainer.model import flat_arrays, lora, split_head, trainable
from mlx_finetuning.utils.memory_monitor import peak_memory

Arrays = dict[str, mx.array]
Make = Callable[[Sequence[Any]], Any]

WORTH_OPERATIONS = 5e11
"""Below this many floating-point operations a run ends before helpers have paid for their start."""
LARGEST_MODEL = 4e9
"""Bytes of parameters above which a second copy of the model is not made by itself."""


@dataclass(frozen=True)
class Sums:
    loss: mx.array
    """Nats over all supervised targets; of pairs [1 + preference.MARKS], the loss first."""
    gradients: Arrays


Gradient = Callable[[Any], tuple[mx.array, Any]]


def gradient_for(model: nn.Module, config: TrainConfig) -> Gradient:
    """Of the loss that `config` asks for."""
    treatment = loss.Treatment.of(model, config)
    if config.objective in preference.KINDS:
        return preference.gradient_of(model, config, treatment)
    return gradient_of(model, treatment)


def sums_of(model: nn.Module, batch: Any, config: TrainConfig) -> list[float]:
    """The loss of `config` over a batch, without gradients; of pairs, the marks too."""
    if config.objective in preference.KINDS:
        return numbers(preference.summed(model, batch, config))
    return numbers(loss.summed(model, batch))


def numbers(sums: mx.array) -> list[float]:
    return cast(list[float], sums.reshape(-1).tolist())


def gradient_of(model: nn.Module, treatment: loss.Treatment = loss.PLAIN) -> Gradient:
    """Loss and gradients of a batch; compiled on a GPU, where shapes are few.

    On the CPU each new shape would start the C++ compiler, and nothing would be gained.
    """
    value = summed_over(model, treatment)
    if mx.default_device() != mx.cpu:
        return compiled(model, value)
    gradient = nn.value_and_grad(model, value)
    return lambda batch: gradient(*batch.arrays, batch.segments, batch.lengths)


def summed_over(
    model: nn.Module, treatment: loss.Treatment = loss.PLAIN
) -> Callable[..., mx.array]:
    """The summed loss as a function of a batch's arrays."""

    def value(
        tokens: mx.array,
        positions: mx.array,
        targets: mx.array,
        weights: mx.array,
        segments: mx.array | None = None,
        lengths: tuple[int, ...] | None = None,
    ) -> mx.array:
        batch = Batch(tokens, positions, targets, weights, 0, (), lengths, segments)
        return loss.summed(model, batch, treatment)

    return value


def compiled(model: nn.Module, value: Callable[..., mx.array]) -> Gradient:
    """Loss and gradients by kernels that MLX fuses once per shape of a batch.

    Where only LoRA factors are trained, their gradients come as one vector (`flat.ALL`), and they
    are cast to the type of the model's weights and scaled at once, each by the scale's root.
    """
    arrays = trainable.of(model)
    scale = lora.common_scale(model)
    at_once = lora.are_factors(arrays.arrays()) and scale
    dtype = split_head.norm(model).weight.dtype

    def of_arrays(given: dict[str, mx.array], *batch: Any) -> mx.array:
        arrays.put(given)
        return value(*batch)

    def step(given: Any, *batch: Any) -> tuple[mx.array, Any]:
        if not at_once:
            return mx.value_and_grad(of_arrays)(given, *batch)
        root = math.sqrt(at_once)
        # Not differentiated: the derivative of cutting a vector into n parts is n vectors.
        scaled = arrays.parts((given * root).astype(dtype), dtype)
        with lora.unscaled(model):
            summed, gradients = mx.value_and_grad(of_arrays)(scaled, *batch)
        return summed, {flat_arrays.ALL: arrays.vector(gradients).astype(mx.float32) * root}

    # Loss and gradients only: compile fails where a result does not depend on the parameters.
    drawn = [mx.random.state]
    compiled_step = mx.compile(step, inputs=drawn, outputs=drawn)

    def gradient(batch: Batch) -> tuple[mx.array, Any]:
        before = arrays.arrays()
        try:
            return compiled_step(
                arrays.vector() if at_once else before, *batch.arrays, batch.segments
            )
        finally:
            arrays.put(before)  # tracing leaves its stand-ins in the model

    return gradient


def here(gradient: Gradient, batch: Batch, seed: Sequence[int]) -> Sums:
    """Sums over `batch`. `seed` fixes dropout's draws, whatever was drawn before."""
    mx.random.seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    value, gradients = gradient(batch)
    sums = Sums(value, dict(tree_flatten(gradients)))
    mx.eval(sums.loss, sums.gradients)
    return sums


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
class Room:
    """The file of kept outputs, as a helper is told of it."""

    path: str
    tokens: int
    width: int

    def open(self, model: nn.Module) -> Kept:
        return Kept(model, Path(self.path), self.tokens, self.width)


class Team:
    """This process and its helpers. A context manager: the helpers end with the block."""

    def __init__(
        self,
        model: nn.Module,
        make: Make,
        helpers: Sequence[Helper],
        kept: Kept | None = None,
        gradient: Gradient | None = None,
    ) -> None:
        self._model = model
        self._gradient = gradient or gradient_of(model)
        self._make = make
        self._helpers = tuple(helpers)
        self._kept = kept

    def __enter__(self) -> Team:
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
        """Sums over all `examples`, always added in the same order. Raises HelperLost."""
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


def by_rows(
    gradient: Gradient,
    make: Make,
    kept: Kept | None,
    examples: Sequence[Item],
    seed: Sequence[int],
) -> Sums:
    """Sums over `examples`, a row of them at a time, so that memory grows with a row only."""
    parts = batches.rows(examples, preference.room_of(make))
    total: Sums | None = None
    for number, part in enumerate(parts):
        with in_place(kept, part):
            sums = here(gradient, make(part), (*seed, number))
        total = sums if total is None else added(total, sums)
    assert total is not None
    return total


def in_place(
    kept: Kept | None, examples: Sequence[Item]
) -> contextlib.AbstractContextManager[None]:
    return (
        contextlib.nullcontext()
        if kept is None
        else kept.in_place(cast(Sequence[Example], examples))
    )


def added(left: Sums, right: Sums) -> Sums:
    gradients = {name: value + right.gradients[name] for name, value in left.gradients.items()}
    return Sums(left.loss + right.loss, gradients)


def _to_numpy(arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {name: np.array(value) for name, value in arrays.items()}


class Colleague:
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

    def lost(self) -> HelperLost:
        return HelperLost(exit_code=self._process.poll())

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


class Helper(Colleague):
    """Computes gradients for one update after the other; `mlx_trainer.parallel.worker_main`."""

    def __init__(self, folder: Path, config: TrainConfig, room: Room | None) -> None:
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
    return min(cores(), batch_size)


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
