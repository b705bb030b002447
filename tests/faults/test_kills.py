"""`kill -9` at random moments of training, saving, writing datasets, exporting, deploying, serving.

Nothing may be torn, nobody may be left behind, and every run goes on where it was or says clearly
that it did not. Moments are drawn from the attack's number, so a failure names how to repeat it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_finetuning import files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.jobs import runs, status
from mlx_finetuning.jobs.results import Deployment
from mlx_finetuning.progress import silent
from mlx_finetuning.quantizer.verify.results import Exported
from mlx_finetuning.studio import Studio
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.workspace import JobPaths, RunPaths, Workspace
from support import finished_run, intact
from support.helpers import wait_until, worker_process
from support.ollama_server import running_ollama
from support.ui_server import answers, free_port, serve

UPDATES = 20
CONFIG = {"iterations": UPDATES, "checkpoint_every": 2, "validate_every": 5, "sample_every": 0}
Often = Callable[[int], int]


@pytest.fixture(autouse=True)
def mark(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> str:
    """Known to every process that the test starts, and to what those start."""
    monkeypatch.setenv(intact.MARK, str(workspace.root))
    return str(workspace.root)


def kill(paths: JobPaths) -> None:
    """The job's worker, if it still lives; its helpers have to notice by themselves."""
    with contextlib.suppress(StopIteration):
        worker_process(paths).kill()
    wait_until(lambda: not files.is_locked(paths.lock))


def wait_for_stage(paths: JobPaths, stage: str) -> None:
    def reached() -> bool:
        current = status.read(paths)
        return current.stage == stage or not current.is_living

    wait_until(reached, limit_s=60)


def require_intact(workspace: Workspace, mark: str) -> None:
    intact.require_no_process(mark)
    intact.require_nobody_works(workspace)
    intact.require_whole(workspace)


def test_killed_training_goes_on_and_ends_complete(
    workspace: Workspace, facts: str, mark: str, rarely: Often
) -> None:
    studio = Studio(workspace)
    settings = TrainConfig(dataset=facts, rank=4, batch_size=4, processes=2, **CONFIG)
    run_id = studio.training.start(settings)
    for attack in range(rarely(40)):
        paths = workspace.run(run_id)
        draw = random.Random(attack)
        if attack % 4:
            wait_for_stage(paths, "学習")
        time.sleep(draw.uniform(0.0, 0.8))
        kill(paths)
        require_intact(workspace, mark)
        run_id = continued(studio, run_id, settings, attack)
    studio.runs.follow(run_id, silent)
    require_intact(workspace, mark)
    intact.require_swept(workspace)
    assert trained(studio, run_id) == list(range(1, UPDATES + 1))


def continued(studio: Studio, run_id: str, settings: TrainConfig, attack: int) -> str:
    """The run that goes on: this one, or a new one where it had ended before the kill."""
    run = studio.runs.show(run_id)
    updates = trained(studio, run_id)
    assert updates == list(range(1, len(updates) + 1)), attack
    assert run.status.state in ("interrupted", "done"), attack
    if run.status.state == "done":
        return studio.training.start(settings)
    # Updates are recorded before they are reported: at most the last line is lost.
    reported = run.status.done if run.status.stage == "学習" else 0
    assert len(updates) >= reported - 1, attack
    studio.training.resume(run_id)
    return run_id


def trained(studio: Studio, run_id: str) -> list[int]:
    return [line.update for line in studio.runs.metrics(run_id) if line.loss is not None]


def test_killed_simulation_is_interrupted_and_keeps_its_lines(
    workspace: Workspace, facts: str, mark: str, often: Often
) -> None:
    studio = Studio(workspace)
    settings = TrainConfig(dataset=facts, engine="simulation", iterations=100_000, validate_every=3)
    for attack in range(often(70)):
        run_id = studio.training.start(settings)
        paths = workspace.run(run_id)
        time.sleep(random.Random(attack).uniform(0.0, 0.6))
        kill(paths)
        assert studio.runs.show(run_id).status.state == "interrupted"
        updates = trained(studio, run_id)
        assert updates == list(range(1, len(updates) + 1))
        with files.LineLog(paths.metrics):  # mends a torn last line
            assert len(list(files.read_lines(paths.metrics))) >= len(updates)
    require_intact(workspace, mark)
    assert list(workspace.root.rglob(".reserve"))
    intact.require_swept(workspace)


REPLACE = """
import itertools, sys
from pathlib import Path
from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
studio = Studio(Workspace(Path(sys.argv[1])))
for source in itertools.cycle(sys.argv[2:]):
    studio.data.prepare(Path(source), "faq", replace=True)
    print(source, flush=True)
"""


def test_killed_dataset_writing_leaves_the_old_or_the_new_one(
    workspace: Workspace, tmp_path: Path, mark: str, often: Often
) -> None:
    sources = [write_source(tmp_path / f"{letter}.csv", letter) for letter in "AB"]
    command = [sys.executable, "-c", REPLACE, str(workspace.root), *map(str, sources)]
    for attack in range(often(40)):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None and writer.stdout.readline()
            time.sleep(random.Random(attack).uniform(0.0, 0.3))
            writer.send_signal(signal.SIGKILL)
        (entry,) = Studio(workspace).data.list()
        assert entry.name == "faq" and entry.manifest is not None, attack
        assert letters_of(workspace) in ({"A"}, {"B"}), attack
        require_intact(workspace, mark)
    intact.require_swept(workspace)


def write_source(path: Path, letter: str) -> Path:
    rows = "".join(f"{letter}の質問{n}は？,{letter}の答え{n}です。\n" for n in range(60))
    path.write_text(f"質問,回答\n{rows}", encoding="utf-8")
    return path


def letters_of(workspace: Workspace) -> set[str]:
    """Whose rows the dataset holds."""
    paths = workspace.dataset("faq")
    texts = [path.read_text(encoding="utf-8") for path in (paths.train, paths.valid)]
    rows = [json.loads(line) for text in texts for line in text.splitlines()]
    return {row["messages"][0]["content"][0] for row in rows}


@pytest.mark.parametrize(
    "form", [{"quant": "Q8_0"}, pytest.param({"format": "peft"}, marks=pytest.mark.long)]
)
def test_killed_export_leaves_the_earlier_files_whole(
    workspace: Workspace, mark: str, often: Often, form: dict[str, str]
) -> None:
    run_id = finished_run.make(workspace)
    studio = Studio(workspace)
    began_s = time.monotonic()
    first = Path(exported(studio, run_id, form))
    lasted_s = time.monotonic() - began_s
    states = set()
    for attack in range(often(10)):
        paths = runs.start_later_job(workspace, run_id, "export", form)
        wait_until(lambda paths=paths: bool(status.read(paths).started_at))
        time.sleep(random.Random(attack).uniform(0.05, 0.4) * lasted_s)
        kill(paths)
        states.add(status.read(paths).state)
        assert states <= {"interrupted", "done"}, attack
        files.sweep_temporaries(workspace.root)
        assert first.exists(), attack
        require_intact(workspace, mark)
    assert "interrupted" in states, "no export was killed while it ran"
    assert exported(studio, run_id, form) == str(first)
    intact.require_swept(workspace)


def exported(studio: Studio, run_id: str, form: dict[str, str]) -> str:
    paths = runs.start_later_job(studio.workspace, run_id, "export", form)
    return JobHandle(paths, Exported).follow().path


@pytest.mark.long
def test_killed_deployment_leaves_the_name_free_and_can_be_repeated(
    workspace: Workspace, tmp_path: Path, mark: str, often: Often
) -> None:
    run_id = finished_run.make(workspace)
    with running_ollama(tmp_path / "blobs") as ollama:
        form = {"name": "faq", "host": ollama.url, "replace": True, "quant": "Q8_0", "prompts": 1}
        for attack in range(often(10)):
            paths = runs.start_later_job(workspace, run_id, "deploy", form)
            wait_until(lambda paths=paths: bool(status.read(paths).started_at))
            time.sleep(random.Random(attack).uniform(0.5, 6.0))
            kill(paths)
            assert status.read(paths).state in ("interrupted", "done"), attack
            require_intact(workspace, mark)
        paths = runs.start_later_job(workspace, run_id, "deploy", form)
        assert JobHandle(paths, Deployment).follow().name == "faq"
        assert list(ollama.models) == ["faq:latest"]


@pytest.mark.long  # the short form is in test_ui_server
def test_killed_interface_harms_no_run_and_starts_again(
    workspace: Workspace, facts: str, mark: str, often: Often
) -> None:
    port = free_port()
    settings = TrainConfig(dataset=facts, engine="simulation", iterations=400, validate_every=50)
    for attack in range(often(10)):
        started = serve(workspace.root, "--background", "--port", str(port))
        assert started.returncode == 0, started.stderr
        run_id = Studio(workspace).training.start(settings)
        time.sleep(random.Random(attack).uniform(0.0, 1.0))
        os.kill(json.loads(started.stdout)["pid"], signal.SIGKILL)
        wait_until(lambda: not answers(port))
        assert json.loads(serve(workspace.root, "--status").stdout) == {"running": False}
        assert Studio(workspace).runs.follow(run_id, silent).updates == 400
        require_intact(workspace, mark)


def test_run_whose_launcher_is_killed_at_once_runs_on(
    workspace: Workspace, facts: str, mark: str, often: Often
) -> None:
    program = (
        "import os, sys; from pathlib import Path\n"
        "from mlx_finetuning.config import TrainConfig\n"
        "from mlx_finetuning.studio import Studio\n"
        "from mlx_finetuning.workspace import Workspace\n"
        "config = TrainConfig(dataset='facts', engine='simulation', iterations=5, warmup=0)\n"
        "print('ready', flush=True)\n"
        "Studio(Workspace(Path(sys.argv[1]))).training.start(config)\n"
    )
    command = [sys.executable, "-c", program, str(workspace.root)]
    for attack in range(often(20)):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
            assert launcher.stdout is not None and launcher.stdout.readline()
            time.sleep(random.Random(attack).uniform(0.0, 0.05))
            launcher.kill()
        wait_until(lambda: all(ended(run.run_id, workspace) for run in runs.list_runs(workspace)))
        require_intact(workspace, mark)
    intact.require_swept(workspace)


def ended(run_id: str, workspace: Workspace) -> bool:
    return status.read(RunPaths(workspace.run(run_id).folder)).state in ("done", "interrupted")
