"""Several ranks over the ring backend on one machine: the same run, and clean ends."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, cast

import mlx.core as mx
import mlx.nn as nn
import psutil
import pytest

from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.errors import InvalidSettings
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.gradient.backward import Sums
from mlx_finetuning.mlx_trainer.model import card_memory, trainable
from mlx_finetuning.mlx_trainer.model.flat_arrays import ALL
from mlx_finetuning.mlx_trainer.parallel import distributed
from mlx_finetuning.mlx_trainer.parallel.distributed import Rank, RankGroup
from mlx_finetuning.mlx_trainer.parallel.gradient_team import GradientTeam
from mlx_finetuning.mlx_trainer.training import checkpoints
from mlx_finetuning.utils.memory_monitor import Memory
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


# --- ranks on the GPUs of one machine, which an MLX stands for that says that it has them ---------


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two, and NCCL."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(card_memory, "read", lambda: Memory(80, 80))
    monkeypatch.setattr(mx, "device_count", lambda kind: 2)
    monkeypatch.setattr(mx.distributed, "is_available", lambda backend: backend in ("nccl", "ring"))


@pytest.mark.usefixtures("cards")
def test_ranks_are_joined_by_nccl_where_each_has_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(cards: list[str], **changes: Any) -> str:
        return distributed.backend_for(TrainConfig(**changes), cards)

    assert distributed.visible_cards() == ["0", "1"]
    assert backend(["0", "1"], ranks=2) == "nccl"
    assert backend(["0", "1"], ranks=3) == "ring"
    assert backend([], ranks=2) == "ring"
    assert backend(["0", "1"], hosts=("a", "b")) == "ring"  # whose cards nobody knows
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5a")
    assert distributed.visible_cards() == ["3", "GPU-5a"]
    monkeypatch.setattr(mx.distributed, "is_available", lambda backend: backend == "ring")
    assert backend(["0", "1"], ranks=2) == "ring"


def test_without_an_nvidia_gpu_there_are_no_cards() -> None:
    assert distributed.visible_cards() == []


class Peer:
    """Stands for another rank's process."""

    started: ClassVar[list[tuple[Rank, str]]] = []

    def __init__(self, rank: Rank, host: str | None, threads: int, card: str) -> None:
        self.rank, self.host = rank, host
        self.heard: list[Any] = []
        self.started.append((rank, card))

    def join(self, folder: Path, config: TrainConfig, batch_tokens: int | None) -> None:
        self.heard.append(batch_tokens)

    def fingerprint(self) -> float:
        return 1.0

    def wait_until_there(self) -> None:
        self.heard.append("waited for")

    def let_in(self) -> None:
        self.heard.append("let in")

    def close(self) -> None:
        pass


@pytest.mark.usefixtures("cards")
@pytest.mark.parametrize("ranks", [2, 3])
def test_each_rank_has_a_card_of_its_own_as_far_as_they_go(
    ranks: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Peer, "started", [])
    monkeypatch.setattr(distributed, "RankProcess", Peer)
    monkeypatch.setattr(distributed, "RankGroup", lambda rank, folder, meet: meet())
    monkeypatch.setattr(trainable, "frozen_fingerprint", lambda model: 1.0)
    local = GradientTeam(nn.Linear(2, 2), batches.PACKED, lambda batch: (mx.zeros(1), {}))
    config = TrainConfig(ranks=ranks)
    with distributed.DistributedTeam(local, nn.Linear(2, 2), tmp_path, config, tmp_path) as team:
        # Rank 0 computes on the first.
        assert [card for _, card in Peer.started] == ["1", "0"][: ranks - 1]
        assert {rank.backend for rank, _ in Peer.started} == {"nccl" if ranks == 2 else "ring"}
        for peer in team._others:
            assert cast(Any, peer).heard == [batches.PACKED_TOKENS, "waited for", "let in"]


def test_by_nccl_ranks_meet_before_they_sum(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done: list[str] = []

    def init(*, strict: bool, backend: str) -> str:
        done.append(backend)
        return "group"

    def all_sum(vector: mx.array, *, group: str, stream: Any) -> mx.array:
        done.append(f"sum on {stream}")
        return vector

    monkeypatch.setattr(mx.distributed, "init", init)
    monkeypatch.setattr(mx.distributed, "all_sum", all_sum)
    for name in ("MLX_RANK", "MLX_WORLD_SIZE", "MLX_HOSTFILE", "NCCL_HOST_IP", "NCCL_PORT"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "lo")
    model = nn.Linear(3, 2)
    gradients = {"bias": mx.ones(2), "weight": 2 * mx.ones((2, 3))}
    vector = trainable.of(model).vector(gradients)
    places = ("127.0.0.1:7", "127.0.0.1:8")
    for backend, expected in (
        ("nccl", ["meet", "nccl", "meet", f"sum on {mx.gpu}", "meet", f"sum on {mx.gpu}"]),
        ("ring", ["ring", f"sum on {mx.cpu}", f"sum on {mx.cpu}"]),
    ):
        done.clear()
        rank = Rank(0, places, cast(Any, backend))
        group = RankGroup(rank, tmp_path, lambda: done.append("meet"))
        # By name or as the vector that kernels give, and as much of one that had no example.
        for given in (gradients, {ALL: vector}):
            total = group.total(model, Sums(mx.array(5.0), given))
            assert float(total.loss) == 5.0 and {*total.gradients} == {*given}
            for name, value in given.items():
                assert mx.array_equal(total.gradients[name], value)
        assert done == expected
    none = distributed.zero_sums(model, TrainConfig())
    assert none.gradients[ALL].size == vector.size and not none.gradients[ALL].any()


def test_process_that_is_stuck_in_a_sum_ends() -> None:
    text = (
        "import time\nfrom mlx_finetuning.mlx_trainer.parallel.distributed import Deadline\n"
        "with Deadline(60.0):\n    pass\n"
        "with Deadline(0.1):\n    time.sleep(60)\n"
    )
    words = [sys.executable, "-c", text]
    ended = subprocess.run(words, check=False, capture_output=True, text=True, timeout=50)
    assert ended.returncode == distributed.GROUP_BROKEN
    assert "no sum within" in ended.stderr


@pytest.mark.parametrize(
    "changes", [{"hosts": ("-oProxyCommand=x", "b")}, {"hosts": ("a", "b"), "ranks": 2}]
)
def test_unusable_hosts_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings):
        distributed.rank_count(TrainConfig(**changes))
