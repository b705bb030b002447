"""What is installed is new enough to be safe, and can be had for both platforms."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.pins import ROOT, pins

FLOORS = {
    "mlx-lm": "0.32",  # before: `model_file` of a model folder is imported and run
    "mlx": "0.29.4",  # before: NPY and GGUF headers read out of bounds
    "transformers": "5.10",  # before: tokenizer files that read or write elsewhere
    "streamlit": "1.61",  # before: uploads from other origins
    "jinja2": "3.1.6",  # before: a sandbox escape through |attr
}
PLATFORMS = {
    "macOS 14, Apple Silicon": "aarch64-apple-darwin",
    "Linux x86-64, glibc 2.35": "x86_64-manylinux_2_35",
}


def parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


@pytest.mark.parametrize("name", FLOORS)
def test_no_version_below_its_floor_is_pinned_or_installed(name: str) -> None:
    floor = parts(FLOORS[name])
    assert parts(pins("requirements.txt")[name]) >= floor
    assert parts(importlib.metadata.version(name)) >= floor


@pytest.mark.long
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_pinned_package_has_a_wheel(platform: str, python: str, tmp_path: Path) -> None:
    """Asks the resolver, and so needs the package index; nothing is downloaded or installed."""
    command = [
        *(str(Path(sys.executable).with_name("uv")), "pip", "install", "--dry-run", "--quiet"),
        *("--only-binary", ":all:", "--no-deps", "--python-version", python),
        *("--python-platform", PLATFORMS[platform], "--target", str(tmp_path)),
        *("-r", str(ROOT / "requirements.txt")),
    ]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    offline = re.search(r"error sending request|dns error|Could not connect", done.stderr)
    assert not offline, f"the package index cannot be reached, so nothing was tested: {done.stderr}"
    assert done.returncode == 0, done.stderr
