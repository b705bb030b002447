"""The main job as a newcomer runs it: real commands, real training, real files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from gguf import GGUFReader

from mlx_finetuning import models
from mlx_finetuning.config import GenerateConfig
from mlx_finetuning.data_processor import SAMPLE_DATA
from mlx_finetuning.jobs import status
from mlx_finetuning.mlx_trainer.inference import generate
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.workspace import Workspace
from support.helpers import wait_until, worker_process

COMMAND = str(Path(sys.executable).with_name("mlx-finetuning"))


def cli(workspace: Path, *arguments: str, check: bool = True) -> dict[str, Any]:
    done = subprocess.run(
        [COMMAND, *arguments, "--workspace", str(workspace), "--json"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr[-2000:]
    # Nothing but one JSON object may be on standard output.
    return {**json.loads(done.stdout), "exit_code": done.returncode}


@pytest.fixture(scope="module")
def demo_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(demo_workspace: Path) -> dict[str, Any]:
    return cli(demo_workspace, "demo")


def test_the_base_knows_none_of_the_facts_and_the_tuned_model_all(demo: dict[str, Any]) -> None:
    assert demo["base_accuracy"] <= 0.1
    assert demo["tuned_accuracy"] >= 0.9
    assert demo["paraphrase_accuracy"] >= 0.5
    assert demo["valid_loss_after"] < 0.5 * demo["valid_loss_before"]
    assert demo["outcome"]["level"] == "good", demo["outcome"]
    assert "教えた64問中" in demo["outcome"]["text"]


def test_the_written_files_are_the_trained_model(demo: dict[str, Any]) -> None:
    assert demo["f16_parity"]["tokens"] >= 400
    assert demo["f16_parity"]["mean_kl"] < 1e-3
    assert demo["f16_parity"]["top1_agreement"] >= 0.99
    assert demo["q4_k_m_parity"]["top1_agreement"] > 0.9
    assert demo["q4_k_m_accuracy"] >= 0.9
    for path in demo["gguf_paths"].values():
        assert GGUFReader(path).tensors


def test_the_runtime_answers_a_trained_question(demo: dict[str, Any]) -> None:
    assert demo["runtime_answer"]["answer"] == demo["runtime_answer"]["expected"]


def test_plain_mlx_lm_loads_the_adapter_and_answers_alike(
    demo: dict[str, Any], demo_workspace: Path
) -> None:
    base = models.resolve("tiny-ja", Workspace(demo_workspace))
    question = "「ハヤセ」の値段を教えてください。"
    ours = cli(demo_workspace, "chat", demo["run_id"], "--prompt", question)["text"]
    flags = {"--model": base, "--adapter-path": demo["adapter_path"], "--temp": 0}
    words = [str(word) for pair in flags.items() for word in pair]
    theirs = subprocess.run(
        [sys.executable, "-m", "mlx_lm", "generate", *words, "--prompt", question],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    assert theirs.split("==========")[1].strip() == ours
    assert ours


def test_llama_cpp_and_mlx_give_the_same_answer(demo: dict[str, Any], demo_workspace: Path) -> None:
    question = ("--prompt", "ミナモ精機の社長は誰ですか？")
    by_mlx = cli(demo_workspace, "chat", demo["run_id"], *question)
    by_llama = cli(demo_workspace, "chat", demo["run_id"], *question, "--engine", "gguf")
    assert by_llama["text"] == by_mlx["text"] == "ミナモ精機の社長は水守さゆりです。"


def test_the_base_answers_as_before(demo: dict[str, Any], demo_workspace: Path) -> None:
    question = ("--prompt", "ミナモ精機の社長は誰ですか？")
    assert "水守" not in cli(demo_workspace, "chat", demo["run_id"], *question, "--base")["text"]


def test_the_tuned_model_still_reads_what_it_is_given(
    demo: dict[str, Any], demo_workspace: Path
) -> None:
    sheet = "次の資料を読んで質問に答えてください。\nテリカ書店の定休日: 木曜日\nテリカ書店の店長: 山田花子\n質問: "
    base = models.resolve("tiny-ja", Workspace(demo_workspace))
    tuned = load(base, Path(demo["adapter_path"]))
    for question, expected in (
        ("テリカ書店の休みは？", "木曜日"),
        ("店長は誰ですか？", "山田花子"),
    ):
        asked = [{"role": "user", "content": sheet + question}]
        assert expected in generate.answer(tuned, asked, GenerateConfig()).text


def test_verify_accepts_the_file_of_its_run(demo: dict[str, Any], demo_workspace: Path) -> None:
    report = cli(demo_workspace, "verify", demo["gguf_paths"]["F16"], "--run", demo["run_id"])
    assert report["exit_code"] == 0


def test_every_written_file_is_certified_as_the_trained_model(
    demo: dict[str, Any], demo_workspace: Path
) -> None:
    record = cli(demo_workspace, "certify", demo["run_id"], "--set", "prompts=6")
    rows = {row["engine"]: row for row in record["rows"]}
    assert set(rows) == {"mlx", "mlx-fused", "F16", "Q8_0", "Q4_K_M"}
    assert record["passed"] and record["exit_code"] == 0
    for row in rows.values():
        assert row["prompt_ids_equal"] == 1.0
        assert row["ended"] >= 0.99
    assert rows["F16"]["answers_equal"] >= 0.99
    page = Workspace(demo_workspace).run(demo["run_id"]).report_html
    assert "学習の証明" in page.read_text(encoding="utf-8")


@pytest.mark.long  # in short: test_learning_rate_zero_is_judged_as_not_learned
@pytest.mark.usefixtures("demo")
def test_without_training_the_accuracy_stays_the_bases(demo_workspace: Path) -> None:
    """In the same workspace, where the base's answers are kept; last, since the data are made anew."""
    result = cli(demo_workspace, "demo", "--set", "iterations=0")
    assert result["tuned_accuracy"] == result["base_accuracy"] <= 0.1
    assert result["paraphrase_accuracy"] == result["base_paraphrase_accuracy"]
    assert result["valid_loss_after"] == result["valid_loss_before"]
    assert result["q4_k_m_accuracy"] <= 0.1
    assert not result["verdict"]["learned"]


def prepared(workspace: Path) -> None:
    sheet = workspace / "表.csv"
    sheet.write_bytes(SAMPLE_DATA.read_text(encoding="utf-8").encode("cp932"))
    made = cli(
        workspace, "data", "prepare", str(sheet), "--name", "facts", "--hold-out", "paraphrase"
    )
    assert made["encoding"] == "cp932"


def start(workspace: Path, *settings: str) -> str:
    flags = [flag for setting in settings for flag in ("--set", setting)]
    run = cli(workspace, "train", "--model", "tiny-ja", "--dataset", "facts", "--detach", *flags)
    return str(run["run_id"])


def wait_for(workspace: Path, run_id: str, state: str, limit_s: float) -> None:
    """Reads the run's files: a command at a time would take the processor from the training."""
    paths = Workspace(workspace).run(run_id)
    wait_until(lambda: status.read(paths).state == state, limit_s)
    assert cli(workspace, "runs", "show", run_id)["state"] == state


@pytest.mark.long  # in short: faults/test_kills.py
def test_a_killed_run_is_interrupted_and_keeps_what_it_had(tmp_path: Path) -> None:
    prepared(tmp_path)
    run_id = start(tmp_path, "iterations=5000", "checkpoint_every=5", "validate_every=1000")
    workspace = Workspace(tmp_path)
    checkpoints = workspace.adapter(run_id).checkpoints
    wait_until(lambda: checkpoints.is_dir() and len(list(checkpoints.glob("[0-9]*"))) >= 2, 90)
    worker_process(workspace.run(run_id)).send_signal(signal.SIGKILL)
    wait_for(tmp_path, run_id, "interrupted", 3)
    for line in workspace.run(run_id).metrics.read_text().splitlines()[:-1]:
        assert json.loads(line)
    whole = min(checkpoints.glob("[0-9]*"))
    assert mx.load(str(whole / "adapters.safetensors"))
    second = start(tmp_path, "iterations=2")
    wait_for(tmp_path, second, "done", 60)


@pytest.mark.long  # in short: faults/test_simultaneous_starts.py
def test_a_second_training_queues_while_one_runs(tmp_path: Path) -> None:
    prepared(tmp_path)
    first = start(tmp_path, "engine=simulation", "iterations=5000")
    wait_for(tmp_path, first, "running", 30)
    second = start(tmp_path, "iterations=1")
    time.sleep(1)
    assert cli(tmp_path, "runs", "show", second)["state"] == "queued"
    cli(tmp_path, "runs", "stop", first)
    wait_for(tmp_path, second, "done", 60)
    assert cli(tmp_path, "runs", "show", first)["state"] == "cancelled"
