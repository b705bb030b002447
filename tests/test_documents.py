"""Documents for developers name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlx_finetuning.jobs.kinds import KINDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mlx_finetuning"
DOCUMENTS = ("CONTRIBUTING.md", "docs/architecture.md", "tests/README.md")
NAME = re.compile(r"`([\w./-]+)`")
NAME_IN_FILE = re.compile(r"`([\w/]+\.py)` の `([A-Za-z_.]+)`")


def named_files(document: str) -> set[str]:
    """Names in code marks that are of source files, or of what lies in a package or in the tests."""
    names = NAME.findall((ROOT / document).read_text(encoding="utf-8"))
    packages = {path.name for path in (*PACKAGE.iterdir(), ROOT / "tests", ROOT / "recipes")}
    return {
        name
        for name in names
        if name.endswith((".py", ".yaml", ".toml"))
        or ("/" in name and name.split("/")[0] in packages)
    }


def is_there(name: str) -> bool:
    """From the checkout, or as the end of a path in the code: documents say what they are in before."""
    wanted = f"/{name.rstrip('/')}"
    folders = (ROOT / name for name in ("src", "tests", "recipes", "config"))
    paths = (str(path) for folder in folders for path in folder.rglob("*"))
    of_function = wanted.rpartition(".")[0] or wanted
    ends = (wanted, f"{wanted}.py", f"{of_function}.py")
    return (ROOT / name).exists() or any(path.endswith(ends) for path in paths)


OF_WORKSPACES = {"config.yaml", "models/base/tiny-ja"}
"""Not of the code."""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_files_that_are_there(document: str) -> None:
    names = named_files(document) - OF_WORKSPACES
    assert len(names) >= 5
    assert sorted(name for name in names if not is_there(name)) == []


def test_what_is_said_to_be_in_a_file_is_in_it() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    pairs = NAME_IN_FILE.findall(text)
    assert len(pairs) >= 20
    missing = []
    for file, name in pairs:
        found = [*ROOT.glob(f"src/**/{file}"), *ROOT.glob(f"tests/**/{file}"), ROOT / file]
        sources = [path.read_text(encoding="utf-8") for path in found if path.is_file()]
        word = re.compile(rf"\b{name.rpartition('.')[2]}\b")
        if not any(word.search(source) for source in sources):
            missing.append(f"{file}: {name}")
    assert missing == []


def test_public_faces_are_functions_of_their_modules() -> None:
    """`module.name(` in the listing of `architecture.md`."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    listing = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    faces = re.findall(r"^([a-z_.0-9]+)\.([A-Za-z_]+)(?:\(| / )", listing, re.MULTILINE)
    assert len(faces) >= 30
    missing = []
    for module, name in faces:
        ends = (f"/{module.replace('.', '/')}.py", f"/{module.replace('.', '/')}/__init__.py")
        files = [path for path in PACKAGE.rglob("*.py") if str(path).endswith(ends)]
        is_defined = re.compile(
            rf"^ *(?:def|class) {name}\b|^from .* import .*\b{name}\b", re.MULTILINE
        )
        if not any(is_defined.search(path.read_text(encoding="utf-8")) for path in files):
            missing.append(f"{module}.{name}")
    assert missing == []


def test_each_kind_of_job_is_a_module() -> None:
    for name, kind in KINDS.items():
        assert (PACKAGE / "tasks" / f"{name}.py").is_file() == kind.has_task, name
