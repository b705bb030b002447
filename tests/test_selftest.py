"""`doctor --full`: what it measures is right, a failure stops nothing, and its text names nobody."""

from __future__ import annotations

import getpass
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import psutil
import pytest

from mlx_finetuning import selftest
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.doctor import Diagnosis, DiagnosisItem
from mlx_finetuning.errors import DatasetNotFound, Interrupted
from mlx_finetuning.mlx_trainer.training import layout_trial
from mlx_finetuning.progress import Step, silent
from mlx_finetuning.selftest import Finding, SelfTest
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support import command
from support.helpers import wait_until

PASSED = Finding("journey", "学習", True, ("正答率 0% → 100%",), 60.0)


def test_every_layout_gives_the_gradient_of_padded_rows_and_is_timed(
    workspace: Workspace, facts: str
) -> None:
    settings = TrainConfig(dataset=facts, batch_size=4, rank=4)
    found = Studio(workspace).training.try_layouts(settings).follow()
    assert [trial.layout for trial in found.trials] == ["padded", "packed", "concatenated"]
    assert found.device == "cpu"
    for trial in found.trials:
        assert trial.agrees and trial.difference < 1e-4
        assert 0 < trial.seconds < 10
    assert [trial.layout for trial in found.trials if trial.is_chosen] == ["concatenated"]


def test_a_wrong_gradient_is_told_from_rounding() -> None:
    right = {"a": mx.array([3.0, 4.0]), "b": mx.zeros(2)}
    assert layout_trial.relative_difference(right, right) == 0
    wrong = right | {"b": mx.array([0.0, 0.5])}
    assert layout_trial.relative_difference(wrong, right) == pytest.approx(0.1)


def test_a_check_that_fails_does_not_stop_the_others(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(trial: object) -> tuple[bool, list[str]]:
        raise DatasetNotFound(name="x", available=[])

    def sound(trial: selftest.Trial) -> tuple[bool, list[str]]:
        trial.progress(Step("学習", 1, 2))
        return True, ["よい"]

    steps: list[Step] = []
    checks = {"a": ("だめ", failing), "b": ("よし", sound)}
    monkeypatch.setattr(selftest, "CHECKS", checks)
    test = selftest.run(Studio(workspace), "tiny-ja", steps.append)
    assert [finding.passed for finding in test.findings] == [False, True]
    assert test.findings[0].lines[0].startswith("DATASET_NOT_FOUND: ")
    assert steps == [Step("[2/2] 学習", 1, 2)]
    assert not test.passed
    assert "通らなかったもの: だめ" in selftest.as_text(test, workspace)
    assert not workspace.experiments.exists()


def test_a_stop_is_not_taken_for_a_failure(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(trial: object) -> tuple[bool, list[str]]:
        raise Interrupted

    monkeypatch.setattr(selftest, "CHECKS", {"a": ("止める", stopped)})
    with pytest.raises(Interrupted):
        selftest.run(Studio(workspace), "tiny-ja", silent)


def test_being_ended_leaves_no_worker_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would ever find them: the workspace is one that is thrown away."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def workers() -> list[psutil.Process]:
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(str(tmp_path) in word for word in process.info["cmdline"] or [])
        ]

    words = [command.COMMAND, "doctor", "--full", "--workspace", "workspace"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL) as doctor:
        try:
            wait_until(lambda: bool(workers()), 300)
            doctor.terminate()
            assert doctor.wait(300) == 130
            wait_until(lambda: not workers(), 60)  # one that has ended its job is still unloading
            assert list(tmp_path.glob("mlx-finetuning-*")) == []
        finally:
            doctor.kill()
            for process in workers():
                process.kill()


def test_the_text_has_no_path_of_the_user_and_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/Users/hanako")
    monkeypatch.setattr(getpass, "getuser", lambda: "hanako")
    monkeypatch.setattr(platform, "node", lambda: "HanakoMac.local")
    workspace = Workspace(tmp_path / "田中の資料")
    values = {
        "disk": f"空き 9 GB（{workspace.root}）",
        "python": f"3.12（{sys.executable}）",
        "host": "HanakoMac で動いています",
        "home": "/Users/hanako/Library と hanako",
        "plain": "python 3.12、mlx 0.32.4",
    }
    items = tuple(DiagnosisItem(key, key, "ok", value) for key, value in values.items())
    text = selftest.as_text(SelfTest(Diagnosis(items), "tiny-ja", (PASSED,)), workspace)
    for secret in ("hanako", "Hanako", "田中", str(tmp_path), str(Path(sys.executable).parent)):
        assert secret not in text
    assert "python 3.12、mlx 0.32.4" in text
    assert "全て通りました" in text


def test_the_verdict_asks_for_every_check() -> None:
    test = SelfTest(Diagnosis(()), "tiny-ja", (PASSED,))
    assert test.passed
    assert not replace(test, findings=(PASSED, replace(PASSED, passed=False))).passed


@pytest.mark.long
def test_this_machine_passes_and_nothing_is_left(tmp_path: Path) -> None:
    shown = command.result(tmp_path, "doctor", "--full")
    assert shown["passed"]
    assert [finding["key"] for finding in shown["findings"]] == list(selftest.CHECKS)
    assert str(tmp_path) not in shown["text"] and "倍" in shown["text"]
    assert list(tmp_path.iterdir()) == []
