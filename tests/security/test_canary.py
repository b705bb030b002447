"""A token in the environment turns up nowhere: no file, log, argument, answer, report or page."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from streamlit.testing.v1 import AppTest

from mlx_finetuning.ui import frame
from mlx_finetuning.workspace import Workspace
from support.hub_server import Hub, Repository, running_hub
from support.ui_pages import PAGES, SCRIPT

CANARY = "hf_cAnArYtHaTsInGsNoWhErE0123456789"
COMMAND = str(Path(sys.executable).with_name("mlx-finetuning"))
SHEET = "質問,回答\n" + "".join(f"商品{n}は？,{n}00円です。\n" for n in range(12))


class Watch:
    """Looks at the arguments of every process, over and over, while the block lasts."""

    def __init__(self) -> None:
        self.looks, self.seen = 0, set[str]()
        self._ended = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watch]:
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            self.looks += 1
            for process in psutil.process_iter(["cmdline"]):
                words = " ".join(process.info["cmdline"] or [])
                if CANARY in words:
                    self.seen.add(words)


@pytest.fixture
def failing_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        weights = b"\2\0\0\0\0\0\0\0{}"
        hub.repositories["Org/model"] = Repository({"config.json": b"{}", "m.safetensors": weights})
        hub.repositories["Org/gated"] = Repository({"config.json": b"{}"}, gated=True)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", CANARY)
        monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
        yield hub


def said(workspace: Path, *words: str) -> str:
    """Everything that a command prints."""
    command = [COMMAND, *words, "--workspace", str(workspace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return done.stdout + done.stderr


def require_nowhere(root: Path) -> None:
    holding = [
        path for path in root.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()
    ]
    assert not holding


def test_token_turns_up_nowhere_in_a_pipeline_whose_hub_fails(
    tmp_path: Path,
    failing_hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    often: Callable[[int], int],
) -> None:
    """The short form trains and looks; the long one does all that can be done with a run."""
    root = tmp_path / "workspace"
    (tmp_path / "faq.csv").write_text(SHEET, encoding="utf-8")
    watch = Watch()
    with watch.watching():
        text = said(root, "data", "prepare", str(tmp_path / "faq.csv"), "--name", "faq")
        for status in (None, 401, 500)[-often(3) :]:
            failing_hub.status = status
            text += said(root, "models", "download", "Org/gated", "--json")
            text += said(root, "models", "download", "Org/model")
        run_id = trained(root)
        for words in commands(run_id)[: often(30)]:
            text += said(root, *words)
    assert CANARY not in text
    assert watch.looks > 10 and not watch.seen
    assert any("authorization" in headers for _, _, headers in failing_hub.requests), "never used"
    require_no_page_shows_it(root, run_id, monkeypatch, often(20))
    require_nowhere(tmp_path)


def commands(run_id: str) -> list[list[str]]:
    """What is done with a run; what goes wrong comes first."""
    return [
        ["train", "--dataset", "faq", "--model", "Org/model"],
        ["deploy", run_id],
        ["runs", "show", run_id],
        ["doctor", "--json"],
        ["verify", "x.gguf", "--run", run_id],
        ["evaluate", run_id],
        ["export", run_id],
        ["certify", run_id],
        ["chat", run_id, "--prompt", "商品1は？"],
        ["runs", "export", run_id, "--format", "csv"],
    ]


def trained(root: Path) -> str:
    words = [
        "train",
        "--dataset",
        "faq",
        "--set",
        "iterations=2",
        "--set",
        "batch_size=2",
        "--set",
        "processes=1",
        "--json",
    ]
    done = subprocess.run(
        [COMMAND, *words, "--workspace", str(root)], capture_output=True, text=True, check=True
    )
    assert CANARY not in done.stdout + done.stderr
    return str(json.loads(done.stdout)["run_id"])


def require_no_page_shows_it(
    root: Path, run_id: str, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(root))
    # Settings come first: they show keys and the diagnosis.
    for path in sorted(PAGES.glob("[!_]*.py"), key=lambda page: page.stem != "settings")[:pages]:
        app = AppTest.from_file(str(SCRIPT), default_timeout=60)
        app.query_params["run"] = run_id
        page = app.switch_page(str(path)).run()
        assert not page.exception
        assert CANARY not in str(page), path.name


def test_token_in_an_unforeseen_error_is_masked_in_page_and_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a library may put a request's headers into its message."""
    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(tmp_path))
    shown: list[str] = []
    monkeypatch.setattr(
        frame, "show_error", lambda error, detail="": shown.append(f"{error}{detail}")
    )
    with frame.errors_shown():
        raise RuntimeError(f"Authorization: Bearer {CANARY}")
    assert "RuntimeError" in shown[0] and CANARY not in shown[0]
    assert "RuntimeError" in (tmp_path / "logs" / "ui.log").read_text(encoding="utf-8")
    require_nowhere(tmp_path)


PROGRAMS = {
    "command": "from mlx_finetuning import cli\n"
    "from mlx_finetuning.studio.runs import Runs\n"
    "def fail(self): raise RuntimeError('Bearer ' + os.environ['HF_TOKEN'])\n"
    "Runs.list = fail\n"
    "sys.exit(cli.main(['runs', 'list', '--json']))\n",
    "worker": "from pathlib import Path\n"
    "from mlx_finetuning import tasks, worker\n"
    "from mlx_finetuning.jobs import jobs\n"
    "from mlx_finetuning.workspace import Workspace\n"
    "def fail(kind): raise RuntimeError('Bearer ' + os.environ['HF_TOKEN'])\n"
    "tasks.load = fail\n"
    "workspace = Workspace.locate()\n"
    "jobs._start_worker = lambda paths, lock: sys.exit(\n"
    "    worker.main([str(paths.folder), '--lock-fd', str(os.dup(lock))]))\n"
    "jobs.launch(workspace.job('odd'), jobs.Job('preview', str(workspace.root), '', {}))\n",
}


@pytest.mark.parametrize("which", PROGRAMS)
def test_token_in_an_unforeseen_error_is_masked_in_every_process(
    which: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", "import os, sys\n" + PROGRAMS[which]]
    environment = {**os.environ, "HF_TOKEN": CANARY, "MLX_FINETUNING_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    time.sleep(0.1)
    assert CANARY not in done.stdout + done.stderr
    assert "RuntimeError" in done.stdout + done.stderr
    require_nowhere(tmp_path)


def test_workspace_of_the_test_is_not_empty(tmp_path: Path) -> None:
    """The search itself works."""
    (Workspace(tmp_path).root / "log").write_text(f"x{CANARY}x")
    with pytest.raises(AssertionError):
        require_nowhere(tmp_path)
