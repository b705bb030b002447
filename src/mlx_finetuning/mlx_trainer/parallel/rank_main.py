"""`python -m mlx_finetuning.mlx_trainer.parallel.rank_main`: a rank of a distributed run other than the first.

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
from mlx_finetuning.mlx_trainer.parallel import gradient_team
from mlx_finetuning.mlx_trainer.parallel.worker_main import answer, answers_apart
from mlx_finetuning.utils import blas


def main() -> None:
    source = sys.stdin.buffer
    answers = answers_apart()
    # Before anything imports MLX, and reading a message may.
    blas.preload()
    for_training()
    folder, config, seat = pickle.load(source)
    try:
        with tempfile.TemporaryDirectory() as place:
            serve(Path(folder), config, seat, Path(place), source, answers)
    except (RuntimeError, BrokenPipeError) as error:
        sys.exit(f"rank {seat.rank}: {error}")


def serve(
    folder: Path, config: Any, seat: Any, place: Path, source: IO[bytes], answers: IO[bytes]
) -> None:
    from mlx_finetuning.mlx_trainer.gradient import backward
    from mlx_finetuning.mlx_trainer.kernels import cpu
    from mlx_finetuning.mlx_trainer.model import adapters
    from mlx_finetuning.mlx_trainer.model.load import load
    from mlx_finetuning.mlx_trainer.parallel import ranks, workload

    cpu.keep_freed_memory()
    loaded = load(folder)
    model = loaded.model
    adapters.attach(model, config)
    make = workload.arrangement(model, len(loaded.tokenizer.vocab), config)
    team = gradient_team.GradientTeam(model, make, [], None, backward.gradient_for(model, config))
    answer(answers, gradient_team.fingerprint(model))
    ring = ranks.RingGroup(seat, place)
    while True:
        try:
            asked = pickle.load(source)
        except EOFError:
            return
        ring.spread(model)
        if asked is None:
            answer(answers, gradient_team.digest(model))
            continue
        examples, seed = asked
        model.train()
        own = team.sums(examples, seed) if examples else ranks.nothing(model, config)
        ring.total(own)


if __name__ == "__main__":
    main()
