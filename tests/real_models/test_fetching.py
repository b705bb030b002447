"""Packages of the registries: nothing but what was pinned gets into the cache, and only whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from support import real_models

pytestmark = pytest.mark.models


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLX_FINETUNING_TEST_CACHE", str(tmp_path))
    return tmp_path


def folders(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


@pytest.mark.parametrize("name", ["oumi", "llama2"])
def test_an_empty_cache_is_filled_by_the_ordinary_clients(cache: Path, name: str) -> None:
    folder = real_models.fetch(name)
    assert folders(cache) == [folder]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix in (".jinja", ".json") for path in files)
    times = [path.stat().st_mtime_ns for path in files]
    assert real_models.fetch(name) == folder
    assert [path.stat().st_mtime_ns for path in files] == times


def test_other_content_under_a_pinned_version_is_thrown_away(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = dataclasses.replace(real_models.PACKAGES["oumi"], sha256="0" * 64)
    monkeypatch.setitem(real_models.PACKAGES, "oumi", foreign)
    with pytest.raises(real_models.NotFetched, match="SHA-256"):
        real_models.fetch("oumi")
    assert folders(cache) == []


def test_a_missing_client_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cache))
    with pytest.raises(real_models.NotFetched, match=r"npm .*setup\.sh --dev"):
        real_models.fetch("llama2")
    assert folders(cache) == []


def test_a_version_that_does_not_exist_says_what_was_tried(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = dataclasses.replace(real_models.PACKAGES["oumi"], version="0.0.0.dev999")
    monkeypatch.setitem(real_models.PACKAGES, "oumi", gone)
    with pytest.raises(real_models.NotFetched, match=r"oumi==0\.0\.0\.dev999"):
        real_models.fetch("oumi")
    assert folders(cache) == []
