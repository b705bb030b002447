"""Several ranks over the ring backend on one machine: the same run, and clean ends."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.errors import InvalidSettings
from mlx_finetuning.mlx_trainer.parallel import distributed
from mlx_finetuning.mlx_trainer.training import checkpoints
from support.helpers import wait_until
from support.resumed_run import CONFIG, lines, train

TWO = dataclasses.replace(CONFIG, ranks=2, iterations=6, dropout=0.0, num_layers=-1)
# A ring is joined once in a process's life: every run has its own.
CHILD = """
import json, sys
from pathlib import Path
from mlx_finetuning.utils import blas
blas.preload()
from mlx_finetuning.config import TrainConfig, load
from mlx_finetuning.errors import StudioError
from support.resumed_run import marked, train
try:
    result = train(Path(sys.argv[1]), load(TrainConfig, json.loads(sys.argv[2])), marked)
    checks = [[check.kind, check.passed] for check in result.checks]
    print(json.dumps({"checks": checks, "resumed_from": result.resumed_from}))
except StudioError as error:
    print(json.dumps(error.to_json()))
"""


def started(folder: Path, config: TrainConfig) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", CHILD, str(folder), json.dumps(as_dict(config))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)


def finished(child: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = child.communicate(timeout=60)
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def peer_of(child: subprocess.Popen[str]) -> psutil.Process:
    """The other rank, once an update is done."""
    assert child.stdout is not None
    while int(child.stdout.readline() or 99) < 2:
        pass
    [peer] = psutil.Process(child.pid).children()
    return peer


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in lines(folder) if "loss" in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An uninterrupted run of two ranks."""
    folder = tmp_path_factory.mktemp("two")
    return folder, finished(started(folder, TWO))


def test_two_ranks_have_the_losses_of_one_and_hold_the_same_adapter(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, result = whole
    train(tmp_path, dataclasses.replace(TWO, ranks=1))
    assert losses(folder) == pytest.approx(losses(tmp_path), rel=1e-4)
    assert ["ranks_agree", True] in result["checks"]


def test_killed_peer_ends_the_run_with_a_checkpoint_that_can_be_resumed(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    child = started(tmp_path, TWO)
    peer_of(child).kill()
    assert finished(child)["code"] == "PEER_LOST"
    newest = checkpoints.latest(tmp_path / "checkpoints")
    assert newest is not None
    assert int(newest.name) >= 2
    assert finished(started(tmp_path, TWO))["resumed_from"] == int(newest.name)
    assert lines(tmp_path) == lines(whole[0])


def test_killed_first_rank_takes_its_peer_along(tmp_path: Path) -> None:
    config = dataclasses.replace(TWO, checkpoint_every=1)
    child = started(tmp_path, config)
    peer = peer_of(child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    wait_until(lambda: not peer.is_running() or peer.status() == psutil.STATUS_ZOMBIE)
    newest = checkpoints.latest(tmp_path / "checkpoints")
    assert newest is not None
    assert finished(started(tmp_path, config))["resumed_from"] == int(newest.name)


def test_machines_are_named_by_hosts() -> None:
    config = TrainConfig(hosts=("mac1.local", "taro@mac2.local"))
    assert distributed.rank_count(config) == 2
    assert distributed.addresses(config) == ("mac1.local:32323", "mac2.local:32324")
    assert distributed.rank_command("taro@mac2.local")[:4] == [
        *("ssh", "-o", "BatchMode=yes", "taro@mac2.local")
    ]


@pytest.mark.parametrize(
    "changes", [{"hosts": ("-oProxyCommand=x", "b")}, {"hosts": ("a", "b"), "ranks": 2}]
)
def test_unusable_hosts_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings):
        distributed.rank_count(TrainConfig(**changes))
