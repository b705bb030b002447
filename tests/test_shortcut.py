"""The double-click start: its files run the command they were given, whatever the paths look like."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_finetuning import shortcut
from mlx_finetuning.errors import ShortcutUnwritable
from mlx_finetuning.workspace import Workspace
from support.helpers import wait_until

ODD = "田中 の\"会社\" 50% $HOME `id` \\ 'x' & ; #"
NEEDS = {"gio": "GLib's launcher", "desktop-file-validate": "desktop-file-utils"}


def needs(program: str) -> pytest.MarkDecorator:
    reason = f"{NEEDS[program]}, which setup.sh --dev installs where it may"
    return pytest.mark.skipif(shutil.which(program) is None, reason=reason)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / ODD
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return folder


@pytest.fixture
def program(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for `mlx-finetuning`, beside an interpreter in an odd folder: notes its arguments."""
    path = home / "bin" / shortcut.NAME
    path.parent.mkdir()
    note = 'printf "%s\\n" "$@" > "$(dirname "$0")/draft" && mv "$(dirname "$0")"/draft "$0.args"'
    path.write_text(f"#!/bin/sh\n{note}\n", encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path.with_name("python")))
    return path


def arguments(program: Path) -> list[str]:
    noted = program.with_name(f"{program.name}.args")
    wait_until(noted.exists)
    return noted.read_text(encoding="utf-8").splitlines()


def expected(workspace: Workspace) -> list[str]:
    return ["serve", "--open", "--workspace", str(workspace.root)]


def test_a_mac_gets_a_command_on_the_desktop_that_runs(home: Path, program: Path) -> None:
    workspace = Workspace(home / "作業 フォルダ")
    path = shortcut.install(workspace, "darwin")
    assert path == home / "Desktop" / "mlx-finetuning.command"
    assert os.access(path, os.X_OK)
    subprocess.run([str(path)], check=True)
    assert arguments(program) == expected(workspace)


@needs("gio")
def test_linux_launches_the_entry_with_the_very_arguments(home: Path, program: Path) -> None:
    workspace = Workspace(home / "作業 フォルダ")
    path = shortcut.install(workspace, "linux")
    subprocess.run(["gio", "launch", str(path)], check=True, capture_output=True)
    assert arguments(program) == expected(workspace)


@needs("desktop-file-validate")
@pytest.mark.usefixtures("program")
def test_the_entry_is_valid_and_its_icon_is_there(home: Path) -> None:
    path = shortcut.install(Workspace(home / "作業 フォルダ"), "linux")
    done = subprocess.run(
        ["desktop-file-validate", str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert path.parent == home / ".local" / "share" / "applications"
    [icon] = home.rglob("mlx-finetuning.svg")
    assert "<svg" in icon.read_text(encoding="utf-8")


@pytest.mark.parametrize("system", ["darwin", "linux"])
def test_it_is_written_again_and_removed_without_a_rest(home: Path, system: str) -> None:
    shortcut.install(Workspace(home / "a"), system)
    path = shortcut.install(Workspace(home / "b"), system)
    assert "/b" in path.read_text(encoding="utf-8")
    assert path in shortcut.remove(system)
    assert [left for left in home.rglob("*") if left.is_file()] == []
    assert shortcut.remove(system) == []


def test_the_data_folder_of_the_user_is_respected(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert shortcut.install(Workspace(home), "linux").is_relative_to(tmp_path / "data")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert shortcut.install(Workspace(home), "linux").is_relative_to(home)


def test_a_place_that_cannot_be_written_is_an_error_with_its_path(home: Path) -> None:
    (home / "Desktop").write_text("a file, not a folder", encoding="utf-8")
    with pytest.raises(ShortcutUnwritable) as raised:
        shortcut.install(Workspace(home), "darwin")
    assert raised.value.data["path"] == str(home / "Desktop" / "mlx-finetuning.command")
