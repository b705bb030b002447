"""Pins, README, changelog and set-up script agree with the project they describe."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from mlx_finetuning import __version__
from mlx_finetuning.cli.app import COMMANDS
from support.pins import ROOT, pins, read

READMES = ("README.md", "README.en.md")


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dev.txt", "requirements-docs.txt"]
)
def test_requirements_are_pins_and_nothing_else(name: str) -> None:
    assert len(pins(name)) > 40
    assert "://" not in read(name)


def test_development_pins_extend_the_applications() -> None:
    for name in ("requirements-dev.txt", "requirements-docs.txt"):
        assert pins("requirements.txt").items() <= pins(name).items()


def test_requirements_hold_every_dependency_of_the_project_at_its_version() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = pins("requirements-dev.txt")
    for line in wanted:
        match = re.match(r"([\w-]+)(?:\[\w+\])?==([\w.]+)", line)
        assert match, line
        assert pinned[match[1].lower()] == match[2]


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    table = read("docs/decisions.md")
    for line in project["dependencies"]:
        name = re.split(r"[=\[]", line)[0]
        assert re.search(rf"^\|[^|]*\b{name}\b", table, re.MULTILINE), name


def test_changelog_begins_with_this_version() -> None:
    heading = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert heading
    assert heading[1] == __version__


@pytest.mark.parametrize("name", READMES)
def test_readme_starts_with_the_two_commands(name: str) -> None:
    first_block = read(name).split("```")[1]
    commands = [line.split("#")[0].strip() for line in first_block.strip().splitlines()]
    assert commands == ["make demo", "make test"]


@pytest.mark.parametrize("name", READMES)
def test_readme_names_only_commands_that_exist(name: str) -> None:
    text = read(name)
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", "\n".join(text.split("`")[1::2]))) <= targets
    used = re.findall(r"^mlx-finetuning ([a-z-]+)", text, re.MULTILINE)
    cells = re.findall(r"^\| (`[a-z][^|]+)\|", text, re.MULTILINE)
    listed = {word for cell in cells for word in re.findall(r"`([a-z-]+)", cell)}
    subcommands = set("list show watch stop download build prepare preview".split())
    subcommands |= set("compare note rerun delete trash mark correct undo".split())
    assert set(used) <= set(COMMANDS)
    assert listed - subcommands == set(COMMANDS)


@pytest.mark.parametrize("name", READMES)
def test_readme_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", read(name)):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_ci_runs_the_readmes_commands() -> None:
    script = read(".ci/run")
    assert "for target in check test test-models test-wheel docs" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert os.access(ROOT / "setup.sh", os.X_OK)


def test_make_demo_is_the_program_that_tests_run() -> None:
    told = subprocess.run(
        ["make", "--dry-run", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [line.strip() for line in told.stdout.splitlines() if not line.startswith("make")] == [
        "./setup.sh --quiet",
        ".venv/bin/mlx-finetuning demo",
    ]


def test_set_up_without_python_says_what_to_install(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "cat", "cksum", "dirname", "uname", "id"):
        found = shutil.which(tool)
        assert found
        (tools / tool).symlink_to(found)
    for name in ("setup.sh", "requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    done = set_up(tmp_path, {"PATH": str(tools)})
    assert done.returncode == 1
    assert "Python 3.11" in done.stderr
    assert "次にすること" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_set_up_leaves_a_foreign_environment_alone(tmp_path: Path) -> None:
    for name in ("setup.sh", "requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    python.chmod(0o755)
    done = set_up(tmp_path, dict(os.environ))
    assert done.returncode == 1
    assert ".venv フォルダを消してから" in done.stderr
    assert python.exists()


def test_set_up_refuses_unknown_options(tmp_path: Path) -> None:
    done = set_up(ROOT, dict(os.environ), "--devel")
    assert done.returncode == 2
    assert "使い方" in done.stderr


def set_up(
    folder: Path, environment: dict[str, str], *options: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(folder / "setup.sh"), *options],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
