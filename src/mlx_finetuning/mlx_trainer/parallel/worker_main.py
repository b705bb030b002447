"""`python -m mlx_finetuning.mlx_trainer.parallel.worker_main`: computes gradients for the process that started it.

Reads pickles from standard input and answers on standard output; both are private pipes of its
parent. Ends when standard input does, so it never outlives its parent.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import IO, Any

from mlx_finetuning.mlx_trainer.parallel import gradient_team
from mlx_finetuning.utils import blas


def main() -> None:
    source = sys.stdin.buffer
    answers = answers_apart()
    # Before anything imports MLX, and reading a message may.
    blas.preload()
    folder, config, room = pickle.load(source)
    serve(Path(folder), config, room, source, answers)


def serve(folder: Path, config: Any, room: Any, source: IO[bytes], answers: IO[bytes]) -> None:
    import numpy as np

    from mlx_finetuning.mlx_trainer.batches import batches
    from mlx_finetuning.mlx_trainer.gradient import backward, preference
    from mlx_finetuning.mlx_trainer.kernels import cpu
    from mlx_finetuning.mlx_trainer.model import adapters
    from mlx_finetuning.mlx_trainer.model.load import load

    cpu.keep_freed_memory()
    model = load(folder).model
    adapters.attach(model, config)
    model.train()
    kept = None if room is None else room.open(model)
    answer(answers, gradient_team.fingerprint(model))
    gradient = backward.gradient_for(model, config)
    make = preference.arrangement(config, batches.concatenated)
    while True:
        try:
            trained, examples, seed = pickle.load(source)
        except EOFError:
            return
        gradient_team.load_trained(model, trained)
        sums = backward.by_rows(gradient, make, kept, examples, seed)
        gradients = {name: np.array(value) for name, value in sums.gradients.items()}
        answer(answers, (np.array(sums.loss), gradients))


def answers_apart() -> IO[bytes]:
    """Standard output for answers alone: what libraries print must not get between them."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def answer(answers: IO[bytes], value: Any) -> None:
    pickle.dump(value, answers, protocol=5)
    answers.flush()


if __name__ == "__main__":
    main()
