"""A disk that is full at any write of a training or an export: an error in Japanese, and what was
there before stays whole and usable.

Two kinds: no file may grow beyond a size (RLIMIT_FSIZE, so each size stops at another write), and
in the long form a real small disk that has less and less space left.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from mlx_finetuning import files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import DiskFull, Interrupted
from mlx_finetuning.jobs import runs
from mlx_finetuning.mlx_trainer.model import adapters
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.training import checkpoints, optimizer
from mlx_finetuning.mlx_trainer.training.checkpoints import TrainingState
from mlx_finetuning.progress import Step, silent
from mlx_finetuning.quantizer.write import export
from mlx_finetuning.studio import Studio
from mlx_finetuning.utils import gguf_reader
from mlx_finetuning.workspace import Workspace
from support import finished_run, intact, small_models
from support.helpers import wait_until

COMMAND = str(Path(sys.executable).with_name("mlx-finetuning"))
SIZES = [int(100 * 1.55**step) for step in range(24)]
"""Bytes, from below the smallest record to above the optimizer's state."""
UPDATES = 12
PAGE = 4096
LEAST = 1 << 10
"""Bytes of a file below which a worker may end without its reason: no record is that small."""


def spread(sizes: Sequence[int], count: int) -> list[int]:
    """`count` of them, from all over."""
    return [sizes[(2 * n + 1) * len(sizes) // (2 * count)] for n in range(count)]


def limited(workspace: Workspace, size: int, *words: str) -> subprocess.CompletedProcess[str]:
    """A command, and the workers that it starts, whose files may not grow beyond `size` bytes."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
    command = [COMMAND, *words, "--workspace", str(workspace.root), "--json"]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, preexec_fn=limit
    )


def require_told(done: subprocess.CompletedProcess[str], where: object) -> None:
    """Exit 0, where the limit was no hindrance, or the error, in Japanese, with a next step."""
    if done.returncode == 0:
        return
    assert done.returncode == 1, (where, done.stderr)
    error = json.loads(done.stdout)["error"]
    if isinstance(where, int) and where < LEAST and error["code"] == "JOB_INTERRUPTED":
        return
    assert error["code"] == "DISK_FULL", (where, done.stdout)
    assert "空き" in done.stderr or "容量" in done.stderr, done.stderr


def begun(workspace: Workspace, facts: str) -> str:
    """A run that was stopped half-way and left checkpoints."""
    studio = Studio(workspace)
    settings = TrainConfig(
        dataset=facts, rank=4, iterations=UPDATES, checkpoint_every=2, validate_every=4, processes=1
    )
    run_id = studio.training.start(settings)

    def stop_half_way(step: Step) -> None:
        if step.stage == "学習" and step.done >= UPDATES // 2:
            raise Interrupted()

    with contextlib.suppress(Interrupted):
        studio.runs.follow(run_id, stop_half_way, stops=True)
    assert studio.runs.show(run_id).resumable
    return run_id


def test_training_fails_clearly_and_goes_on_from_the_earlier_checkpoint(
    workspace: Workspace, facts: str, rarely: Callable[[int], int]
) -> None:
    run_id = begun(workspace, facts)
    saved = workspace.adapter(run_id).checkpoints
    for size in spread(SIZES, rarely(24)):
        before = content(saved)
        done = limited(workspace, size, "train", "--resume", run_id)
        require_told(done, size)
        if done.returncode == 0:
            break
        intact.require_whole(workspace)
        assert before.items() <= content(saved).items() or newer(saved, before), size
        assert Studio(workspace).runs.show(run_id).resumable, size
    studio = Studio(workspace)
    if studio.runs.show(run_id).status.state != "done":
        studio.training.resume(run_id)
        studio.runs.follow(run_id, silent)
    updates = [line.update for line in studio.runs.metrics(run_id) if line.loss is not None]
    assert updates == list(range(1, UPDATES + 1))
    assert not list(workspace.root.rglob(f"{files.TEMPORARY_PREFIX}*"))


def content(folder: Path) -> dict[str, str]:
    """Digest by file, for everything below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
    }


def newer(saved: Path, before: dict[str, str]) -> bool:
    """Whether old checkpoints went because there are whole newer ones."""
    last = max(name.split("/")[0] for name in before)
    return max(path.name for path in saved.iterdir()) >= last


def test_export_fails_clearly_and_leaves_the_earlier_file(
    workspace: Workspace, rarely: Callable[[int], int]
) -> None:
    run_id = finished_run.make(workspace)
    first = Path(exported(workspace, run_id, "Q8_0"))
    before = hashlib.sha256(first.read_bytes()).hexdigest()
    largest = first.stat().st_size
    for size in spread([largest * share // 20 for share in range(1, 19)], rarely(18)):
        done = limited(workspace, size, "export", run_id, "--quant", "Q8_0")
        assert done.returncode == 1, size
        require_told(done, size)
        assert hashlib.sha256(first.read_bytes()).hexdigest() == before
        assert gguf_reader.read(first).tensors
        assert not list(workspace.root.rglob(f"{files.TEMPORARY_PREFIX}*")), size
        intact.require_whole(workspace)


def exported(workspace: Workspace, run_id: str, quant: str) -> str:
    return str(Studio(workspace).exports.start(run_id, quants=[quant]).follow().path)


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    path.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    done = subprocess.run(mounting, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(folder: Path, left: int) -> None:
    """Leave `left` bytes of the disk free."""
    (folder / "filler").unlink(missing_ok=True)
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    (folder / "filler").write_bytes(b"x" * max(free - left, 0))


needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs root"
)


@pytest.fixture
def tight(tmp_path: Path) -> Iterator[Path]:
    """A small disk where the workspace will be; to be named before what writes there."""
    with small_disk(tmp_path / "workspace", "1m") as disk:
        yield disk


@needs_root
def test_reason_is_told_however_little_is_left(
    tight: Path, workspace: Workspace, facts: str, often: Callable[[int], int]
) -> None:
    """A run that writes until the disk is full, with 4 to 60 KB of room for it."""
    endless = TrainConfig(dataset=facts, engine="simulation", iterations=10**6, validate_every=1)
    studio = Studio(workspace)
    for left in spread(range(PAGE, 1 << 16, PAGE), max(often(15), 5)):
        fill(tight, left)
        with pytest.raises(DiskFull):
            studio.runs.follow(studio.training.start(endless), silent)
        assert {run.status.state for run in studio.runs.list()} <= {"failed"}, left
        assert not list(workspace.root.rglob(".reserve")), left


@needs_root
def test_checkpoint_fails_clearly_at_every_page_it_is_short_of(
    tmp_path: Path, tiny: LoadedModel, often: Callable[[int], int]
) -> None:
    config = adapters.attach(tiny.model, TrainConfig(rank=1, num_layers=2))
    rule = optimizer.build(TrainConfig())
    rule.init(tiny.model.trainable_parameters())
    with small_disk(tmp_path / "disk", "2m") as disk:
        folder, made_for = disk / "checkpoints", checkpoints.Identity("run")

        def save(update: int) -> Path:
            return checkpoints.save(
                folder, tiny.model, config, tiny.chat, rule, TrainingState(update), made_for
            )

        earlier = save(1)
        before = content(folder)
        size = sum(path.stat().st_size for path in earlier.iterdir())
        for left in range(0, size, PAGE * (10 // often(10))):
            fill(disk, left)
            with pytest.raises(DiskFull):
                save(2)
            assert content(folder) == before, left
        fill(disk, size + 8 * PAGE)
        assert save(2) == checkpoints.latest(folder)
        checkpoints.restore(earlier, tiny.model, rule, made_for)


@needs_root
def test_export_fails_clearly_whenever_the_disk_fills_up(tmp_path: Path) -> None:
    """Another program takes the space after it was found sufficient, before every tensor."""
    small_models.write_model(tmp_path / "model")
    with small_disk(tmp_path / "disk", "8m") as disk:
        made = disk / "made" / "model.gguf"
        export.export_gguf(tmp_path / "model", None, {"Q8_0": made})
        before = content(made.parent)
        for nth in itertools.count():
            reports = itertools.count()

            def fill_up(step: Step, nth: int = nth, reports: Iterator[int] = reports) -> None:
                if next(reports) == nth:
                    fill(disk, 0)

            try:
                export.export_gguf(tmp_path / "model", None, {"Q8_0": made}, fill_up)
            except DiskFull:
                assert content(made.parent) == before, nth
                (disk / "filler").unlink()
            else:
                break
        assert nth > 10 and gguf_reader.read(made).tensors


@pytest.mark.long
@needs_root
def test_real_disk_that_fills_up_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64m") as disk:
        workspace = Workspace(disk / "workspace")
        run_id = finished_run.make(workspace)
        first = Path(exported(workspace, run_id, "Q8_0"))
        before = hashlib.sha256(first.read_bytes()).hexdigest()
        other = begun(workspace, finished_run.DATASET)
        for step in range(16):
            fill(disk, 4096 * 2**step)
            for words in (("export", run_id, "--quant", "Q8_0"), ("train", "--resume", other)):
                done = run_command(workspace, *words)
                assert done.returncode in (0, 1), (words, step, done.stderr)
                code = json.loads(done.stdout).get("error", {}).get("code", "")
                assert code in ("", "DISK_FULL", "NOT_ENOUGH_SPACE", "RUN_NOT_RESUMABLE"), (
                    words,
                    step,
                    done.stdout,
                )
                wait_until(lambda: not files.is_locked(workspace.device_lock))
                intact.require_whole(workspace)
                if code:
                    assert hashlib.sha256(first.read_bytes()).hexdigest() == before
        (disk / "filler").unlink()
        assert runs.show(workspace, other).status.state in ("done", "failed", "interrupted")
        assert exported(workspace, run_id, "Q8_0") == str(first)


def run_command(workspace: Workspace, *words: str) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, *words, "--workspace", str(workspace.root), "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
