"""Names are checked before they become paths; the root is found in the documented order."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_finetuning.errors import InvalidName
from mlx_finetuning.workspace import Workspace

HOSTILE = [
    "",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "..%2fx",
    "a\0b",
    "a\nb",
    "name\n",
    ";touch x",
    "-rf",
    "/etc/passwd",
    "Aaa",
    "データ",
    "a" * 65,
    "~",
    "a b",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_never_become_paths(tmp_path: Path, name: str) -> None:
    workspace = Workspace(tmp_path)
    for path_of in (
        workspace.dataset,
        workspace.run,
        workspace.adapter,
        workspace.base_model,
        workspace.gguf_folder,
        workspace.job,
        workspace.run("a").later_job,
    ):
        with pytest.raises(InvalidName):
            path_of(name)


@pytest.mark.parametrize("name", ["a", "0", "my-data-01", "a" * 64])
def test_plain_names_stay_inside_the_root(tmp_path: Path, name: str) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.dataset(name).train == tmp_path / "datasets" / name / "train.jsonl"
    assert workspace.run(name).metrics == tmp_path / "experiments" / name / "metrics.jsonl"
    assert workspace.adapter(name).weights.is_relative_to(tmp_path / "models" / "finetuned")


def test_root_is_the_argument_then_the_environment_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, home, given = (tmp_path / name for name in ("here", "home", "given"))
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("MLX_FINETUNING_HOME", raising=False)
    assert Workspace.locate().root == here
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(home))
    assert Workspace.locate().root == home
    assert Workspace.locate(given).root == given
