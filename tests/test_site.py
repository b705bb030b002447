"""The site's pages: made ones hold all that the code has, and written ones lead somewhere."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from mlx_finetuning.cli.app import COMMANDS
from mlx_finetuning.errors import StudioError
from mlx_finetuning.utils.glossary import TERMS_JA
from support.pins import ROOT, read

SITE = ROOT / "docs" / "site"
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_generate", SITE / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = _generator()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's source, as mkdocs gets it."""
    path: Path = tmp_path_factory.mktemp("site")
    generate.main(path)
    return path


def named(nav: Any) -> list[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in named(part)]


def test_both_languages_have_the_same_pages_and_all_are_in_the_navigation(folder: Path) -> None:
    settings = yaml.safe_load(read("mkdocs.yml"))
    [i18n] = [item["i18n"] for item in settings["plugins"] if isinstance(item, dict)]
    for language in i18n["languages"]:
        home = folder / language["locale"]
        there = {str(path.relative_to(home)) for path in home.rglob("*.md")}
        assert set(named(language["nav"])) == there


def test_links_between_pages_lead_somewhere(folder: Path) -> None:
    for page in folder.rglob("*.md"):
        for link in LINK.findall(
            re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        ):
            assert link.startswith("https://") or (page.parent / link).exists(), (page.name, link)


def test_made_pages_hold_every_setting_command_error_and_word() -> None:
    for language in generate.LANGUAGES:
        pages = generate.pages(language)
        for kind in generate.SETTINGS.values():
            for item in dataclasses.fields(kind):
                assert f"| `{item.name}` |" in pages["reference/settings.md"]
        for name in COMMANDS:
            assert f"\n## {name}" in pages["reference/commands.md"], name
        for code, error in StudioError.registry.items():
            if error.__module__.startswith("mlx_finetuning"):
                assert code in pages["failures.md"], code
        for term in TERMS_JA:
            assert term in pages["glossary.md"]
        assert "### training.start" in pages["reference/api.md"]
        assert "object at 0x" not in pages["reference/api.md"]
        assert "{" not in re.sub(r"```.*?```", "", pages["failures.md"], flags=re.DOTALL)


def test_the_notebook_is_the_page() -> None:
    page = (SITE / "ja" / "python.md").read_text(encoding="utf-8")
    written = (ROOT / "docs" / "notebooks" / "main_job.ipynb").read_text(encoding="utf-8")
    assert written == generate.notebook(page), "make docs writes it anew"
