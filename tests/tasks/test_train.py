"""Training jobs with real workers: estimates, pauses, and what they write for people to watch."""

from __future__ import annotations

import dataclasses
import json
import signal
from dataclasses import dataclass
from typing import Any

import pytest

from mlx_finetuning import files, models
from mlx_finetuning.cli import main
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import Interrupted, InvalidSettings
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.mlx_trainer.training import replay
from mlx_finetuning.progress import Step, silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support.helpers import jobs_in_process, wait_until, worker_process, write_facts

SMALL = TrainConfig(
    dataset="facts", iterations=20, batch_size=4, rank=4, validate_every=10, sample_every=10
)


@pytest.fixture
def studio(workspace: Workspace, facts: str) -> Studio:
    return Studio(workspace)


@dataclass(frozen=True)
class TrainedRun:
    studio: Studio
    run_id: str
    result: dict[str, Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run that nothing disturbed, in a workspace of its own."""
    studio = Studio(Workspace(tmp_path_factory.mktemp("trained")))
    write_facts(studio.workspace)
    run_id = studio.training.start(SMALL)
    return TrainedRun(studio, run_id, studio.runs.follow(run_id, silent))


def test_estimate_is_a_job_that_leaves_no_run_and_no_adapter(studio: Studio) -> None:
    steps: list[Step] = []
    found = studio.training.estimate(SMALL).follow(steps.append)
    assert found.fits is True
    assert 0.1 < found.peak_memory_gb < found.available_gb
    assert (found.updates, found.rows, found.batch_size) == (20, 12, 4)
    assert found.largest_batch_size == 12
    assert any("ぁ" <= letter <= "ん" for letter in found.reason_ja)
    assert any("見積もり" in step.stage for step in steps)
    assert studio.runs.list() == [] and not (studio.workspace.root / "models").exists()


def test_estimate_of_what_cannot_fit_says_so_with_figures(studio: Studio) -> None:
    found = studio.training.estimate(TrainConfig(dataset="facts", memory_limit_gb=0.01)).follow()
    assert found.fits is False
    assert found.peak_memory_gb > found.available_gb == 0.01
    assert "0.01 GB" in found.reason_ja


def test_other_engines_have_no_estimate(studio: Studio) -> None:
    with pytest.raises(InvalidSettings):
        studio.training.estimate(TrainConfig(dataset="facts", engine="simulation")).follow()


def test_terminated_worker_pauses_the_run_which_then_goes_on_to_the_same_end(
    studio: Studio, trained: TrainedRun
) -> None:
    # Without the samples, which change nothing of what is trained.
    paused = studio.training.start(dataclasses.replace(SMALL, sample_every=0))
    wait_until(lambda: len(studio.runs.metrics(paused)) > 2, limit_s=60)
    worker_process(studio.workspace.run(paused)).send_signal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        studio.runs.follow(paused, silent)
    run = studio.runs.show(paused)
    assert (run.status.state, run.resumable, run.state_label) == ("cancelled", True, "一時停止")
    done = studio.runs.metrics(paused)[-1].update
    studio.training.resume(paused)
    result = studio.runs.follow(paused, silent)
    assert result.resumed_from == done
    assert studio.runs.show(paused).resumable is False
    both = ((trained.studio, trained.run_id), (studio, paused))
    losses = [
        [(line.loss, line.valid_loss) for line in where.runs.metrics(run_id)]
        for where, run_id in both
    ]
    assert losses[0] == losses[1]
    weights = [where.workspace.adapter(run_id).weights.read_bytes() for where, run_id in both]
    assert weights[0] == weights[1]


def test_run_writes_samples_and_checks_for_people(trained: TrainedRun) -> None:
    paths = trained.studio.workspace.run(trained.run_id)
    samples = list(files.read_lines(paths.samples))
    assert [line["update"] for line in samples] == [0, 0, 0, 10, 10, 10, 20, 20, 20]
    questions = [line["question"] for line in samples]
    assert questions[:3] == questions[3:6] == [f"商品{n}の値段は？" for n in range(3)]
    valid = files.read_lines(trained.studio.workspace.dataset("facts").valid)
    held_out = {row["messages"][0]["content"] for row in valid}
    assert [line["taught"] for line in samples] == [asked not in held_out for asked in questions]
    events = [line for line in files.read_lines(paths.events) if line["event"] == "check"]
    assert [line["kind"] for line in events] == [check.kind for check in trained.result.checks]
    assert len(events) == 3 and all(line["passed"] for line in events)


def test_command_shows_the_estimate(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--dataset", "facts", "--dry-run", "--workspace", str(studio.workspace.root)]
    sets = ["--set", "iterations=5", "--set", "batch_size=2"]
    with jobs_in_process():
        assert main([*words, *sets]) == 0
    shown = capsys.readouterr().out
    for word in ("メモリー", "全体の時間", "おすすめの数", "理由"):
        assert word in shown
    assert main([*words, *sets, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] is True


def test_a_run_replays_what_its_base_has_said_and_keeps_it(trained: TrainedRun) -> None:
    studio, workspace = trained.studio, trained.studio.workspace
    base = load(models.resolve("tiny-ja", workspace))
    turns = [
        {"role": "user", "content": "空は何色ですか？"},
        {"role": "assistant", "content": "青です。"},
    ]
    prompt, [whole] = base.render(turns[:1], ask=True), base.chat.sequences(turns)
    said = {"question": "空は何色ですか？", "answer": "青です。", "tokens": whole.tokens}
    cache = workspace.self_answers / f"{replay.base_of(base)}.jsonl"
    line = json.dumps({**said, "prompt": len(prompt)}, ensure_ascii=False)
    files.write_text(cache, f"{line}\n" * replay.LEAST)

    run_id = studio.training.start(dataclasses.replace(SMALL, iterations=4, replay=2))
    result = studio.runs.follow(run_id, silent)
    assert (result.replayed, result.not_replayed) == (replay.LEAST, "")
    assert workspace.run(run_id).replay.read_bytes() == cache.read_bytes()
    losses = [line for line in studio.runs.metrics(run_id) if line.loss is not None]
    assert len(losses) == 4
    # The same rows in the same order, whatever is replayed beside them.
    plain = [line for line in studio.runs.metrics(trained.run_id) if line.loss is not None]
    assert losses[0].loss == plain[0].loss
    assert trained.result.replayed == 0 and "小さく" in trained.result.not_replayed
