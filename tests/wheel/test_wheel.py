"""The wheel alone: built, installed where nothing else is, and used without the checkout.

Takes packages from uv's cache, or from the registry; `make test-wheel` runs this.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.pins import ROOT
from support.ui_server import free_port, get

pytestmark = pytest.mark.wheel
UV = Path(sys.executable).with_name("uv")
OPENING_HOURS = "ミナモ精機の営業時間は午前9時から午後6時までです。"
MOST_MB = 900
"""What an installation takes at most; README names 0.7 GB."""


def uv(*words: str, **environment: str) -> None:
    subprocess.run([UV, *words], check=True, env={**os.environ, **environment}, cwd=ROOT)


@dataclass(frozen=True)
class Installed:
    """The program in its own environment, run in a folder that has nothing to do with the project."""

    program: Path
    folder: Path

    def __call__(self, *words: str) -> dict[str, Any]:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [self.program, *words, "--json"],
            cwd=self.folder,
            env={**kept, "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr[-3000:]
        return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--quiet", "--out-dir", str(folder), str(ROOT))
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    home = tmp_path_factory.mktemp("新しい 環境")
    environment = home / "env"
    uv("venv", "--quiet", "--python", sys.executable, str(environment))
    pins = str(ROOT / "requirements.txt")
    python = str(environment / "bin" / "python")
    uv("pip", "install", "--quiet", "--python", python, "--constraint", pins, str(wheel))
    folder = home / "作業"
    folder.mkdir()
    return Installed(environment / "bin" / "mlx-finetuning", folder)


def test_it_is_as_large_as_documented(installed: Installed) -> None:
    files = [path for path in installed.program.parents[1].rglob("*") if path.is_file()]
    taken = sum(path.stat().st_size for path in files if not path.is_symlink()) / 1e6
    print(f"\ninstalled: {taken:.0f} MB, {len(files)} files")  # noqa: T201
    assert taken < MOST_MB


def test_doctor_finds_all_that_training_needs(installed: Installed) -> None:
    report = installed("doctor")
    assert report["can_train"]
    advice = "".join(item["advice"] for item in report["items"])
    assert "setup.sh" not in advice


def test_demo_learns_writes_and_answers(installed: Installed) -> None:
    shown = installed("demo")
    assert shown["tuned_accuracy"] >= 0.9
    assert shown["base_accuracy"] <= 0.1
    assert Path(shown["gguf_path"]).is_relative_to(installed.folder)
    assert shown["runtime_answer"]["answer"]


def test_the_page_of_the_python_api_runs_from_top_to_bottom(installed: Installed) -> None:
    """And with it the notebook, which is made of the page."""
    page = (ROOT / "docs" / "site" / "ja" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [installed.program.with_name("python"), "-c", "".join(blocks)],
        cwd=installed.folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "80行のうち80行を使います" in done.stdout
    assert "データセット「no-such-data」が見つかりません" in done.stdout
    answers = [line for line in done.stdout.splitlines() if line == OPENING_HOURS]
    assert len(answers) == 2, done.stdout  # by MLX and by llama.cpp


@pytest.fixture
def port(installed: Installed) -> Iterator[int]:
    chosen = free_port()
    installed("serve", "--background", "--port", str(chosen))
    yield chosen
    installed("serve", "--stop")


def test_serve_answers_on_loopback(port: int) -> None:
    status, headers = get(port)
    assert status == 200 and "text/html" in headers["content-type"]
    assert get(port, path="/_stcore/health")[0] == 200


def test_uv_tool_installs_a_program_that_starts(wheel: Path, tmp_path: Path) -> None:
    places = {name: str(tmp_path / name) for name in ("UV_TOOL_DIR", "UV_TOOL_BIN_DIR")}
    uv("tool", "install", "--quiet", "--python", sys.executable, str(wheel), **places)
    folder = tmp_path / "w"
    folder.mkdir()
    program = Installed(tmp_path / "UV_TOOL_BIN_DIR" / "mlxft", folder)
    assert program("doctor")["can_train"]
