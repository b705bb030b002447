"""The Dockerfile: judged by hadolint, and its context holds what it copies and no more."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_finetuning.cli.app import COMMANDS
from support.pins import ROOT, read

HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.mark.skipif(
    not HADOLINT.exists(), reason="hadolint, which setup.sh --dev installs on Linux"
)
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [HADOLINT, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_context_is_what_is_copied() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+)$", read("Dockerfile"), re.MULTILINE)
    sources = {word for line in copied for word in line.split()[:-1]}
    allowed = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    assert sources == allowed
    assert all((ROOT / name).exists() for name in sources)
    assert "*" in read(".dockerignore").splitlines()


def test_it_starts_a_command_that_exists_as_somebody_without_rights() -> None:
    text = read("Dockerfile")
    [command] = re.findall(r'^CMD \["([\w-]+)"', text, re.MULTILINE)
    assert command in COMMANDS
    assert re.findall(r"^USER (\d+)", text, re.MULTILINE) == ["1000"]
