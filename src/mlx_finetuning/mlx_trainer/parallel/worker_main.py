"""A gradient worker: computes gradients for the process that started it by `python -m`.

Reads pickles from standard input and answers on standard output; both are private pipes of its
parent. Ends when standard input does, so it never outlives its parent.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from mlx_finetuning.errors import GradientWorkerFailed, StudioError
from mlx_finetuning.utils import blas
from mlx_finetuning.utils.redaction import log_traceback, without_secrets


def main() -> int:
    """Read what to do from standard input, and do it until that ends."""
    source = sys.stdin.buffer
    answers = answers_apart()
    # Before anything imports MLX, and reading a message may.
    blas.preload()

    def work() -> None:
        folder, config, cache_file = pickle.load(source)
        serve(Path(folder), config, cache_file, source, answers)

    return telling_errors(work, answers)


def telling_errors(work: Callable[[], None], answers: IO[bytes]) -> int:
    """Exit status of a process that does `work`: 1 after an error, which is sent to the parent; its
    traceback is in the log."""
    try:
        work()
    except BrokenPipeError:  # the parent has gone on, or is gone
        return 0
    except StudioError as error:
        log_traceback(error)
        answer(answers, error)
        return 1
    except Exception as error:
        log_traceback(error)
        reason = without_secrets(str(error))
        answer(answers, GradientWorkerFailed(kind=type(error).__name__, reason=reason))
        return 1
    return 0


def serve(
    folder: Path, config: Any, cache_file: Any, source: IO[bytes], answers: IO[bytes]
) -> None:
    """Answer until `source` ends; config: TrainConfig, cache_file: ActivationCacheFile or None."""
    import mlx.core as mx
    import numpy as np

    from mlx_finetuning.mlx_trainer.batches import batches
    from mlx_finetuning.mlx_trainer.gradient import backward, objectives
    from mlx_finetuning.mlx_trainer.gradient.skipped_work import ActivationCache
    from mlx_finetuning.mlx_trainer.kernels import cpu
    from mlx_finetuning.mlx_trainer.model import adapters, trainable
    from mlx_finetuning.mlx_trainer.model.load import load_module

    cpu.keep_freed_memory()
    model, _ = load_module(folder)
    adapters.attach(model, config)
    model.train()
    cache = None if cache_file is None else ActivationCache(model, cache_file)
    answer(answers, trainable.frozen_fingerprint(model))
    gradient = backward.gradient_for(model, config)
    layout = objectives.of(config).layout(batches.CONCATENATED)
    while True:
        try:
            trained, examples, seed = pickle.load(source)
        except EOFError:
            return
        arrays = trainable.of(model)
        arrays.put({name: mx.array(value) for name, value in trained.items()})
        sums = backward.sums_of_examples(gradient, layout, cache, examples, seed).joined(arrays)
        gradients = {name: np.array(value) for name, value in sums.gradients.items()}
        answer(answers, (np.array(sums.loss), gradients))


def answers_apart() -> IO[bytes]:
    """Standard output for answers alone: what libraries print must not get between them."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def answer(answers: IO[bytes], value: Any) -> None:
    """Send one message to the parent."""
    pickle.dump(value, answers, protocol=5)
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
