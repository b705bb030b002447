"""A rank of a distributed run other than the first, started by `python -m`.

Reads pickles from standard input, a private pipe of rank 0 (through ssh, from another machine), and
takes part in the ring's sums. Ends when standard input or the ring does.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from mlx_finetuning.mlx_trainer import for_training
from mlx_finetuning.mlx_trainer.parallel.worker_main import answer, answers_apart, telling_errors
from mlx_finetuning.utils import blas


def main() -> int:
    """Read what to do from standard input, and do it until that or the ring ends."""
    source = sys.stdin.buffer
    answers = answers_apart()
    # Before anything imports MLX, and reading a message may.
    blas.preload()
    for_training()
    # Imports MLX, which must not happen before the line above.
    from mlx_finetuning.mlx_trainer.parallel.distributed import RING_BROKEN, RingBroken

    def work() -> None:
        folder, config, rank = pickle.load(source)
        try:
            with tempfile.TemporaryDirectory() as scratch:
                serve(Path(folder), config, rank, Path(scratch), source, answers)
        except RingBroken:
            sys.exit(RING_BROKEN)

    return telling_errors(work, answers)


def serve(
    folder: Path, config: Any, rank: Any, scratch: Path, source: IO[bytes], answers: IO[bytes]
) -> None:
    """Take part until `source` ends; config: TrainConfig, rank: distributed.Rank."""
    from mlx_finetuning.mlx_trainer.gradient import backward
    from mlx_finetuning.mlx_trainer.kernels import cpu
    from mlx_finetuning.mlx_trainer.model import adapters, trainable
    from mlx_finetuning.mlx_trainer.model.load import load
    from mlx_finetuning.mlx_trainer.parallel import distributed, workload
    from mlx_finetuning.mlx_trainer.parallel.gradient_team import GradientTeam

    cpu.keep_freed_memory()
    loaded = load(folder)
    model = loaded.model
    adapters.attach(model, config)
    layout = workload.batch_layout(model, len(loaded.tokenizer.vocab), config)
    team = GradientTeam(model, layout, backward.gradient_for(model, config))
    answer(answers, trainable.frozen_fingerprint(model))
    group = distributed.RingGroup(rank, scratch)
    while True:
        try:
            request = pickle.load(source)
        except EOFError:
            return
        group.broadcast(model)
        if request is None:
            answer(answers, trainable.digest(model))
            continue
        examples, seed = request
        model.train()
        sums = team.sums(examples, seed) if examples else distributed.zero_sums(model, config)
        group.total(sums)


if __name__ == "__main__":
    sys.exit(main())
