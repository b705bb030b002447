"""A rank of a distributed run other than the first, started by `python -m`.

Reads pickles from standard input, a private pipe of rank 0 (through ssh, from another machine), and
takes part in the sums of all ranks. Ends when standard input does, or when another rank is gone.
"""

from __future__ import annotations

import dataclasses
import pickle
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from mlx_finetuning.mlx_trainer import for_training
from mlx_finetuning.mlx_trainer.parallel.worker_main import answer, answers_apart, telling_errors
from mlx_finetuning.utils import blas


def main() -> int:
    """Read what to do from standard input, and do it until that or another rank ends."""
    source = sys.stdin.buffer
    answers = answers_apart()
    # Before anything imports MLX, and reading a message may.
    blas.preload()
    for_training()
    # Imports MLX, which must not happen before the line above.
    from mlx_finetuning.mlx_trainer.parallel.distributed import GROUP_BROKEN, GroupBroken

    def work() -> None:
        folder, config, rank, batch_tokens = pickle.load(source)
        try:
            with tempfile.TemporaryDirectory() as scratch:
                serve(Path(folder), config, rank, batch_tokens, Path(scratch), source, answers)
        except GroupBroken:
            sys.exit(GROUP_BROKEN)

    return telling_errors(work, answers)


def serve(
    folder: Path,
    config: Any,
    rank: Any,
    batch_tokens: int | None,
    scratch: Path,
    source: IO[bytes],
    answers: IO[bytes],
) -> None:
    """Take part until `source` ends; config: TrainConfig, rank: distributed.Rank."""
    from mlx_finetuning.mlx_trainer.gradient import backward
    from mlx_finetuning.mlx_trainer.kernels import cpu
    from mlx_finetuning.mlx_trainer.model import adapters, card_memory, trainable
    from mlx_finetuning.mlx_trainer.model.load import load
    from mlx_finetuning.mlx_trainer.parallel import distributed, workload
    from mlx_finetuning.mlx_trainer.parallel.gradient_team import GradientTeam

    cpu.keep_freed_memory()
    loaded = load(folder)
    model = loaded.model
    adapters.attach(model, config)
    layout = workload.batch_layout(model, len(loaded.tokenizer.vocab), config)
    layout = dataclasses.replace(layout, batch_tokens=batch_tokens)
    card = card_memory.read()
    if card is not None:
        limit = card_memory.allowed(card)
        card_memory.hold_to(limit, limit)
    team = GradientTeam(model, layout, backward.gradient_for(model, config))
    answer(answers, trainable.frozen_fingerprint(model))

    def meet() -> None:
        answer(answers, True)
        try:
            pickle.load(source)
        except EOFError as error:  # rank 0 is gone
            raise distributed.GroupBroken() from error

    group = distributed.RankGroup(rank, scratch, meet)
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
        group.total(model, sums)


if __name__ == "__main__":
    sys.exit(main())
