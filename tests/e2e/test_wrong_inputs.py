"""Every wrong input of a newcomer: a Japanese error with a code, exit 1, nothing half-written."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_finetuning.data_processor import SAMPLE_DATA

COMMAND = str(Path(sys.executable).with_name("mlx-finetuning"))
SHEETS = {
    "empty.csv": b"",
    "header.csv": "質問,回答\n".encode(),
    "cp932.csv": "質問,回答\n営業時間は？,9時からです。\n定休日は？,水曜日です。\n".encode("cp932"),
    "binary.csv": b"PK\x03\x04\x00\x00\xff\xfe\x00\x01" * 50,
    "no-question.csv": "日付,天気\n4月1日,晴れ\n4月2日,雨\n".encode(),
}


def run(workspace: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *words, "--workspace", str(workspace), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def left_behind(workspace: Path) -> list[Path]:
    """Files of the workspace but for locks, which hold nothing."""
    return [path for path in workspace.rglob("*") if path.is_file() and path.suffix != ".lock"]


def assert_japanese_error(done: subprocess.CompletedProcess[str], code: str) -> None:
    assert done.returncode == 1, done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["code"] == code
    for part in ("message", "next"):
        assert any("ぁ" <= letter <= "ん" for letter in error[part]), error[part]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("sheet", "flags", "code"),
    [
        ("missing.csv", (), "SOURCE_NOT_FOUND"),
        ("empty.csv", (), "SOURCE_EMPTY"),
        ("header.csv", (), "SOURCE_HEADER_ONLY"),
        ("cp932.csv", ("--encoding", "utf-8"), "ENCODING_MISMATCH"),
        ("binary.csv", (), "SOURCE_BINARY"),
        ("no-question.csv", (), "COLUMNS_NOT_FOUND"),
    ],
)
def test_wrong_sheets(tmp_path: Path, sheet: str, flags: tuple[str, ...], code: str) -> None:
    for name, content in SHEETS.items():
        (tmp_path / name).write_bytes(content)
    workspace = tmp_path / "workspace"
    done = run(workspace, "data", "prepare", str(tmp_path / sheet), "--name", "facts", *flags)
    assert_japanese_error(done, code)
    assert left_behind(workspace) == []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("prepared")
    done = run(workspace, "data", "prepare", str(SAMPLE_DATA), "--name", "facts")
    assert done.returncode == 0, done.stderr
    return workspace


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--model", "tiny-jo", "--dataset", "facts"), "MODEL_NOT_FOUND"),
        (("--model", "tiny-ja", "--dataset", "fakts"), "DATASET_NOT_FOUND"),
        (("--dataset", "facts", "--set", "iters=3"), "INVALID_SETTINGS"),
        (("--dataset", "facts", "--set", "learning_rate=-1e-4"), "INVALID_SETTINGS"),
        (("--dataset", "facts", "--config", "missing.yaml"), "CONFIG_FILE_UNREADABLE"),
    ],
)
def test_wrong_trainings(prepared: Path, words: tuple[str, ...], code: str) -> None:
    before = sorted(left_behind(prepared))
    assert_japanese_error(run(prepared, "train", *words), code)
    assert sorted(left_behind(prepared)) == before


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


def test_a_full_disk_ends_the_run_and_keeps_whole_files(prepared: Path) -> None:
    """An adapter of rank 16 is larger than the limit; metrics and status are not."""
    words = ["train", "--dataset", "facts", "--set", "iterations=3", "--set", "checkpoint_every=1"]
    done = subprocess.run(
        [COMMAND, *words, "--workspace", str(prepared), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=limit_files,
    )
    assert_japanese_error(done, "DISK_FULL")
    models = prepared / "models"
    assert [path for path in models.rglob("*") if path.is_file()] == []
    runs = json.loads(run(prepared, "runs", "list").stdout)["runs"]
    assert runs[0]["state"] == "failed"
