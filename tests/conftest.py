"""Fixtures of several parts."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlx_finetuning.utils import blas
from mlx_finetuning.workspace import Workspace
from support import helpers, kernel_header
from support.helpers import stop_jobs, write_facts

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

    from mlx_finetuning.mlx_trainer.model.load import LoadedModel

LONG_IN_BROWSER = ("test_endings.py", "test_journeys.py", "test_layout.py")
"""Half of what all files there take."""

# Tests start hundreds of processes. Where Python may not keep what it compiled, as in many containers,
# each of them would spend more time on compiling transformers than on its work.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Tests run side by side: threads of matrix products would only wait for each other, spinning.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
blas.preload()  # before any test module imports MLX
os.environ.pop("MLXFT_LANG", None)  # what a page shows and a command says is compared in Japanese
# A shell's background job ignores Ctrl+C, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # once, before xdist's workers start
        kernel_header.compile_once()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """Two processes share the browser's tests: each that has one starts a browser and a server of its own, and
    reads the interface's code into a tab.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            scope: str = super()._split_scope(nodeid)
            folder, __, name = scope.rpartition("/")
            return f"{folder}/{name in LONG_IN_BROWSER}" if folder == "tests/browser" else scope

    return ByFile(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_finish() -> None:
    """What was collected and imported stays to the end. Streamlit looks for garbage after each drawing
    of a page, and would look through all of it: a fifth of a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def imports_are_no_garbage() -> Iterator[None]:
    """The same of what a file's tests have imported, once they are done."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def tiny() -> LoadedModel:
    """The built-in base model, loaded anew: tests change it."""
    from mlx_finetuning import models
    from mlx_finetuning.mlx_trainer.model.load import load

    return load(models.resolve("tiny-ja", Workspace(Path("/nonexistent"))))


@pytest.fixture
def often(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """How often to attack: the whole count in `make test-long`, a tenth in `make test`."""
    return lambda count: max(1, count // 10) if is_short(request) else count


@pytest.fixture
def rarely(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """The same for what takes long each time: a twentieth."""
    return lambda count: max(1, count // 20) if is_short(request) else count


def is_short(request: pytest.FixtureRequest) -> bool:
    return "not long" in request.config.option.markexpr


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """An empty workspace; whatever still works in it when the test ends is stopped."""
    workspace = Workspace(tmp_path / "workspace")
    yield workspace
    stop_jobs(workspace)


@pytest.fixture(scope="module")
def jobs_in_process() -> Iterator[None]:
    """For files about what jobs do, not about workers: see `helpers.jobs_in_process`."""
    with helpers.jobs_in_process():
        yield


@pytest.fixture
def facts(workspace: Workspace) -> str:
    """The name of a small dataset of the workspace: prices of six goods."""
    return write_facts(workspace)


@pytest.fixture
def few_general(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixth of the general questions, in this process: enough to judge by."""
    from mlx_finetuning.experiment_tracker.evaluation import general_questions

    every = general_questions.questions
    monkeypatch.setattr(general_questions, "questions", lambda name="ja": every(name)[::6])
