"""Nothing is lost: runs that are killed, stopped or go wrong, and what they leave."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import psutil
import pytest

from mlx_finetuning import files
from mlx_finetuning.config import GenerateConfig, TrainConfig, as_dict
from mlx_finetuning.config import load as load_settings
from mlx_finetuning.errors import (
    CheckpointForeign,
    GradientWorkerLost,
    Interrupted,
    LossExploded,
    LossNotFinite,
    MemoryRunsOut,
    RunDoesNotFit,
)
from mlx_finetuning.mlx_trainer.batches.examples import encode_rows
from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.kernels import backend
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.mlx_trainer.training import checkpoints, loop, memory_watch, samples
from mlx_finetuning.progress import Step
from mlx_finetuning.utils import fingerprint
from mlx_finetuning.utils.memory_monitor import Memory
from mlx_finetuning.workspace import AdapterPaths
from support.cut_models import short_folder
from support.recorded_run import rows
from support.resumed_run import CONFIG, former, lines, stop_at, train

CHILD = """
import json, sys, time
from pathlib import Path
from mlx_finetuning.config import TrainConfig, load
from mlx_finetuning.utils import blas
blas.preload()
from mlx_finetuning.mlx_trainer.kernels import backend
assert backend.chosen().name == sys.argv[3], "kernels were built or removed since the test began"
from support import resumed_run as test
config = json.loads(sys.argv[2])
test.train(Path(sys.argv[1]), load(TrainConfig, config), test.marked)
"""


def same(left: Path, right: Path) -> None:
    assert lines(left) == lines(right)
    for name in ("adapters.safetensors", "best/adapters.safetensors"):
        ours, theirs = mx.load(str(left / name)), mx.load(str(right / name))
        assert ours.keys() == theirs.keys()
        assert all((np.array(ours[key]) == np.array(theirs[key])).all() for key in ours)
    for name in ("adapters", "optimizer"):
        ours, theirs = (
            mx.load(str(folder / "checkpoints" / "0000009" / f"{name}.safetensors"))
            for folder in (left, right)
        )
        assert all((np.array(ours[key]) == np.array(theirs[key])).all() for key in ours)


def started(folder: Path, config: TrainConfig) -> subprocess.Popen[str]:
    # Other kernels round otherwise: losses that differ by 5e-6 would say nothing of checkpoints.
    kernels = backend.chosen().name
    words = [sys.executable, "-c", CHILD, str(folder), json.dumps(as_dict(config)), kernels]
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)


def killed_at(update: int, folder: Path, config: TrainConfig) -> None:
    with started(folder, config) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= update:
                child.send_signal(signal.SIGKILL)
                break
        child.stdout.read()
    assert child.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def test_run_killed_at_random_updates_ends_bit_identical(whole: Path, tmp_path: Path) -> None:
    for update in sorted(random.Random(5).sample(range(1, 12), 3)):
        killed_at(update, tmp_path, CONFIG)
    result = train(tmp_path)
    assert result.resumed_from
    same(tmp_path, whole)


@pytest.mark.parametrize("targets", ["q_proj,v_proj", "q_proj, v_proj"])
def test_run_stopped_by_a_former_version_goes_on(tmp_path: Path, targets: str) -> None:
    """Version 0.1.0 kept lists as the text that was typed, and its checkpoints the hash of that."""
    config = load_settings(TrainConfig, {**as_dict(CONFIG), "targets": targets})
    with pytest.raises(Interrupted):
        train(tmp_path, config, stop_at(4))
    settings = {**dataclasses.asdict(config), "targets": targets, "hosts": "", "objective": "sft"}
    digest = hashlib.sha256(repr(sorted(former(settings).items())).encode())
    base = load(short_folder())
    for example in encode_rows(base, rows(8), config.max_length, config.supervise):
        digest.update(repr((example.tokens, example.supervised)).encode())
    for chunk in fingerprint.chunks(short_folder() / "model.safetensors"):
        digest.update(chunk)
    newest = checkpoints.latest(tmp_path / "checkpoints")
    assert newest is not None
    state = files.read_json(newest / "state.json")
    files.write_json(newest / "state.json", {**state, "identity": digest.hexdigest()})
    assert train(tmp_path, config).resumed_from == 4


def test_run_with_a_worker_process_resumes_bit_identical(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, processes=2)
    alone = tmp_path / "whole"
    assert train(alone, config).processes == 2
    killed_at(7, tmp_path / "cut", config)
    train(tmp_path / "cut", config)
    same(tmp_path / "cut", alone)


@pytest.mark.long
def test_run_killed_ten_times_ends_bit_identical(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, processes=2, neftune_alpha=5.0, optimizer="adamw8bit")
    train(tmp_path / "whole", config)
    for update in sorted(random.Random(6).sample(range(1, 12), 10)):
        killed_at(update, tmp_path / "cut", config)
    train(tmp_path / "cut", config)
    same(tmp_path / "cut", tmp_path / "whole")


def test_noise_and_eight_bit_state_resume_bit_identical(tmp_path: Path) -> None:
    config = dataclasses.replace(
        CONFIG,
        neftune_alpha=5.0,
        optimizer="adamw8bit",
        micro_batch_size=2,
        recompute="on",
        sample_every=8,
    )
    train(tmp_path / "whole", config)
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", config, stop_at(7))
    train(tmp_path / "cut", config)
    same(tmp_path / "cut", tmp_path / "whole")


def test_lost_worker_ends_the_run_with_a_checkpoint_it_goes_on_from(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, processes=2)
    train(tmp_path / "whole", config)

    def kill_worker(step: Step) -> None:
        if step.stage == loop.STAGE and step.done == 5:
            worker = next(
                p for p in psutil.Process().children() if "worker_main" in p.cmdline()[-1]
            )
            worker.kill()

    with pytest.raises(GradientWorkerLost) as lost:
        train(tmp_path / "cut", config, kill_worker)
    assert lost.value.data["exit_code"] == -signal.SIGKILL
    assert train(tmp_path / "cut", config).resumed_from == 5
    same(tmp_path / "cut", tmp_path / "whole")


def test_minutes_between_checkpoints_count_too(tmp_path: Path) -> None:
    train(tmp_path, dataclasses.replace(CONFIG, checkpoint_every=1000, checkpoint_minutes=1e-9))
    kept = [path.name for path in checkpoints.whole(tmp_path / "checkpoints")]
    assert kept == ["0000009", "0000010", "0000011"]


def test_other_base_weights_do_not_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(short_folder(), base)
    config = dataclasses.replace(CONFIG, iterations=4)
    train(tmp_path / "run", config, loaded=load(base))
    weights = mx.load(str(base / "model.safetensors"))
    mx.eval(weights)
    changed = {name: value + 0.01 for name, value in weights.items()}
    mx.save_safetensors(str(base / "model.safetensors"), changed, {"format": "mlx"})
    with pytest.raises(CheckpointForeign):
        train(tmp_path / "run", config, loaded=load(base))


def test_other_rows_trained_or_held_out_do_not_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, iterations=4)
    train(tmp_path, config)
    for changed in ((rows(9), rows(2)), (rows(8), rows(3)), (rows(8), [])):
        with pytest.raises(CheckpointForeign):
            train(tmp_path, config, data=changed)
    assert train(tmp_path, config).resumed_from == 3


def test_checkpoint_of_a_version_that_did_not_look_at_held_out_rows_goes_on(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, iterations=4)
    train(tmp_path, config)
    for path in (tmp_path / "checkpoints").glob(f"*/{checkpoints.STATE}"):
        record = files.read_json(path)
        del record["held_out"]
        files.write_json(path, record)
    assert train(tmp_path, config).resumed_from == 3


def test_time_left_counts_all_sittings(tmp_path: Path) -> None:
    steps: list[Step] = []

    def slowly(step: Step) -> None:
        if step.stage == loop.STAGE:
            steps.append(step)
            time.sleep(0.1)
            if step.done == 6 and len(steps) == 6:
                raise Interrupted()

    with pytest.raises(Interrupted):
        train(tmp_path, progress=slowly)
    train(tmp_path, progress=slowly)
    assert [step.done for step in steps] == list(range(1, 13))
    elapsed = {line["update"]: line["elapsed_s"] for line in files.read_lines(tmp_path / "metrics.jsonl") if "loss" in line}  # fmt: skip
    assert list(elapsed.values()) == sorted(elapsed.values())
    # Of an update's 0.1 s of sleep, and what it computes, only the latter is the update's own. A machine
    # with other work stumbles at single updates.
    told = [(step.remaining_s, elapsed[12] - elapsed[step.done]) for step in steps[:-1]]
    shares = [said / really for said, really in told if said is not None]
    assert len(shares) == 9  # nothing is said behind the first update of each sitting
    assert 1 / 20 <= statistics.median(shares) <= 2
    assert steps[-1].remaining_s < 0.5  # what is done after the last update
    assert steps[7].remaining_s == pytest.approx(steps[5].remaining_s, abs=3)


def test_samples_are_asked_once_an_interval_across_sittings(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, sample_every=4)
    with pytest.raises(Interrupted):
        train(tmp_path, config, stop_at(8))
    train(tmp_path, config)
    found = list(files.read_lines(tmp_path / "samples.jsonl"))
    assert [line["update"] for line in found] == [n for n in (0, 4, 8, 12) for _ in range(3)]
    assert {line["row"] for line in found} == {2, 3}
    assert all(line["question"] and line["expected"] for line in found)


def test_untrained_model_is_asked_behind_the_first_update(tmp_path: Path) -> None:
    base, asked = load(short_folder()), rows(3)
    settings = GenerateConfig(max_tokens=samples.TOKENS)
    expected = [generate.answer(base, row["messages"][:-1], settings).text for row in asked]
    seen: list[Any] = []
    hooks = loop.Hooks(
        lambda line: seen.append(line["update"]),
        lambda name, **_: None,
        lambda step: None,
        sample=lambda line: seen.append(line["answer"]),
    )
    config = dataclasses.replace(CONFIG, iterations=1, sample_every=1, warmup=0, learning_rate=0.5)
    loop.train(base, asked, [], config, AdapterPaths(tmp_path), hooks)
    assert seen[:4] == [1, *expected]
    # And at the end the trained one, with its own weights again.
    assert len(seen) == 7 and seen[4:] != expected


@pytest.mark.parametrize("update", [1, 4, 11])
def test_stopped_run_goes_on_bit_identical(whole: Path, tmp_path: Path, update: int) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, progress=stop_at(update))
    assert train(tmp_path).resumed_from == update
    same(tmp_path, whole)


def test_figures_read_when_the_next_update_is_queued_are_the_same(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: across stops, validations and checkpoints none is lost or written twice."""
    monkeypatch.setattr(loop, "reads_later", lambda config: True)
    for update in (1, 6):
        with pytest.raises(Interrupted):
            train(tmp_path, progress=stop_at(update))
    train(tmp_path)
    same(tmp_path, whole)


def test_sitting_with_other_libraries_says_that_the_last_digits_may_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []

    def event(name: str, **data: Any) -> None:
        if name == "warning":
            warnings.append(data["text"])

    with pytest.raises(Interrupted):
        train(tmp_path, progress=stop_at(4), event=event)
    with pytest.raises(Interrupted):
        train(tmp_path, progress=stop_at(5), event=event)
    assert warnings == []

    monkeypatch.setattr(backend, "libraries", lambda: "MLX 9.9.9 cpu")
    with pytest.raises(Interrupted):
        train(tmp_path, progress=stop_at(6), event=event)
    train(tmp_path, event=event)
    assert len(warnings) == 1
    assert "MLX 9.9.9" in warnings[0] and "最後の桁" in warnings[0]


def test_stop_during_validation_leaves_it_to_the_next_sitting(whole: Path, tmp_path: Path) -> None:
    seen: list[Step] = []

    def stop(step: Step) -> None:
        seen.append(step)
        if step.stage == loop.VALIDATION and any(item.done == 8 for item in seen):
            raise Interrupted()

    with pytest.raises(Interrupted):
        train(tmp_path, progress=stop)
    train(tmp_path)
    same(tmp_path, whole)


def test_half_written_checkpoint_is_passed_over(whole: Path, tmp_path: Path) -> None:
    killed_at(8, tmp_path, CONFIG)
    newest = checkpoints.latest(tmp_path / "checkpoints")
    assert newest is not None
    (newest / "state.json").write_text('{"cour', encoding="utf-8")
    assert train(tmp_path).resumed_from == 3
    same(tmp_path, whole)


def test_kept_lower_outputs_change_nothing(whole: Path, tmp_path: Path) -> None:
    train(tmp_path, dataclasses.replace(CONFIG, keep_lower=False))
    ours, plain = ([line["loss"] for line in lines(f) if "loss" in line] for f in (whole, tmp_path))
    assert ours == pytest.approx(plain, rel=1e-5)


def test_helpers_change_no_loss(whole: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, dropout=0.0, iterations=4)
    train(tmp_path / "one", config)
    train(tmp_path / "three", dataclasses.replace(config, processes=3))
    one, three = (
        [line["loss"] for line in lines(tmp_path / name) if "loss" in line]
        for name in ("one", "three")
    )
    assert one == pytest.approx(three, rel=1e-4)


def test_other_settings_do_not_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, iterations=4)
    train(tmp_path, config)
    with pytest.raises(CheckpointForeign):
        train(tmp_path, dataclasses.replace(config, learning_rate=5e-4))


def test_patience_ends_a_run_that_gains_nothing(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, learning_rate=0.0, patience=2, validate_every=1)
    result = train(tmp_path, config)
    assert result.stopped_early
    assert result.updates == 2


def test_run_stops_with_a_checkpoint_when_others_take_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's memory itself cannot be filled in a test."""
    little = iter([Memory(10**11, 10**10)] * 3)
    monkeypatch.setattr(memory_watch, "read_memory", lambda: next(little, Memory(10**11, 10**9)))
    with pytest.raises(MemoryRunsOut) as caught:
        train(tmp_path)
    assert caught.value.data["update"] == 4
    newest = checkpoints.latest(tmp_path / "checkpoints")
    assert newest is not None and newest.name == "0000004"


def test_run_that_cannot_fit_is_refused_with_figures_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(RunDoesNotFit) as caught:
        train(tmp_path, dataclasses.replace(CONFIG, memory_limit_gb=0.001))
    data = caught.value.data
    assert data["needed_gb"] > data["available_gb"] == 0.001
    assert lines(tmp_path) == []
    assert checkpoints.latest(tmp_path / "checkpoints") is None


@pytest.mark.parametrize("is_read_later", [False, True])
@pytest.mark.parametrize("factor", [float("nan"), 1e4])
def test_ruined_weights_stop_the_run_and_the_last_sound_adapter_stays(
    tmp_path: Path, factor: float, is_read_later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "reads_later", lambda config: is_read_later)
    loaded = load(short_folder())

    def ruin(step: Step) -> None:
        if step.stage == loop.STAGE and step.done == 5:
            norm = loaded.model.model.norm
            norm.weight = norm.weight * factor

    with pytest.raises((LossNotFinite, LossExploded)) as caught:
        train(tmp_path, progress=ruin, loaded=loaded)
    assert caught.value.data["update"] == 6
    assert set(caught.value.data["rows"]) <= {row["row"] for row in rows(8)}
    expected = tmp_path / "expected"
    with pytest.raises(Interrupted):
        train(expected, progress=stop_at(4))
    ours, theirs = (
        mx.load(str(path))
        for path in (
            tmp_path / "adapters.safetensors",
            expected / "checkpoints" / "0000004" / "adapters.safetensors",
        )
    )
    assert all((np.array(ours[key]) == np.array(theirs[key])).all() for key in ours)
