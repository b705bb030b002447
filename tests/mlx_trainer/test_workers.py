"""A process that shares the work says what it met, and is not taken for one that was killed."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path

import pytest

from mlx_finetuning.errors import (
    GradientWorkerFailed,
    GradientWorkerLost,
    ModelUnloadable,
    RankFailed,
    RankLost,
    StudioError,
)
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.parallel.distributed import Rank, RankProcess
from mlx_finetuning.mlx_trainer.parallel.gradient_team import (
    GradientWorker,
    WorkerProcess,
    cost,
    divide,
)
from support.recorded_run import tiny_folder
from support.resumed_run import CONFIG


def ended(statement: str) -> StudioError:
    """What is said of a process that ends by `statement`."""
    code = f"import os, signal, sys; {statement}"
    process = WorkerProcess([sys.executable, "-c", code], threads=1)
    with contextlib.closing(process), pytest.raises(StudioError) as error:
        process.fingerprint()
    return error.value


def test_work_is_shared_nearly_equally_and_whoever_divides_it_has_the_least() -> None:
    lengths = (700, 40, 320, 330, 90, 60, 500, 410)
    examples = [Example([0] * length, [True] * length, row) for row, length in enumerate(lengths)]
    for count in (1, 2, 3, 8, 20):
        shares = divide(examples, count)
        assert sorted(one.row for share in shares for one in share) == [*range(len(lengths))]
        work = [sum(cost(len(one.tokens)) for one in share) for share in shares]
        assert len(shares) == min(count, len(lengths)) and work[0] == min(work)
        assert max(work) - min(work) <= cost(max(lengths))
        assert shares == divide(examples[::-1], count)


def test_error_in_a_worker_is_raised_by_the_process_that_it_works_for() -> None:
    with contextlib.closing(GradientWorker(tiny_folder(), CONFIG, None)) as worker:
        worker.fingerprint()
        worker.ask({}, [], (1,))
        with pytest.raises(GradientWorkerFailed) as failed:
            worker.answer()
    assert failed.value.data["kind"] == "KeyError"
    assert "lora" in failed.value.data["reason"]


def test_error_that_came_before_the_question_is_told_and_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(GradientWorker(tmp_path, CONFIG, None)) as worker:
        while not worker.has_ended():
            pass
        with pytest.raises(ModelUnloadable):
            worker.ask({}, [], (1,))
    assert "ModelUnloadable" in capfd.readouterr().err  # which is the run's log


def test_killed_process_is_told_from_one_that_crashed() -> None:
    killed = ended("os.kill(os.getpid(), signal.SIGKILL)")
    assert type(killed) is GradientWorkerLost
    assert killed.data["exit_code"] == -signal.SIGKILL
    for crash, code in (
        ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
        ("sys.exit('no message')", 1),
    ):
        failed = ended(crash)
        assert isinstance(failed, GradientWorkerFailed)
        assert str(int(code)) in failed.data["kind"]


def test_rank_without_the_model_says_so_and_where(tmp_path: Path) -> None:
    rank = RankProcess(Rank(1, ("127.0.0.1:1", "127.0.0.1:2")), None, threads=1)
    with contextlib.closing(rank):
        rank.join(tmp_path / "absent", CONFIG, None)
        with pytest.raises(RankFailed) as failed:
            rank.fingerprint()
        assert failed.value.data["rank"] == 1
        assert "absent" in failed.value.data["reason"]
        assert rank.has_ended()


def test_killed_rank_is_told_from_one_that_failed() -> None:
    rank = RankProcess(Rank(1, ("127.0.0.1:1", "127.0.0.1:2")), None, threads=1)
    with contextlib.closing(rank):
        rank._process.kill()
        assert rank.has_ended()
        lost = rank.lost()
    assert type(lost) is RankLost
    assert lost.data["exit_code"] == -signal.SIGKILL
