"""Names that are paths, options, commands or nothing: refused or made harmless, everywhere.

Nothing may appear outside the workspace, and no shell may see them.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_finetuning import cli, models
from mlx_finetuning.data_processor import uploads
from mlx_finetuning.errors import StudioError
from mlx_finetuning.ollama_integration import modelfile, names
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

NAMES = (
    *("", " ", ".", "..", "...", "../x", "../../x", "..\\x", "..%2fx", "..%252fx", "%2e%2e%2fx"),
    *("/", "//", "/etc/passwd", "/tmp/x", "\\\\host\\share", "C:\\x", "file:///etc/passwd", "~"),
    *("~root", "~/x", "a/b", "a/../b", "a/./b", "a//b", "./a", "a/", ".hidden", ".tmp-x", ".old-x"),
    *(
        "a\0b",
        "\0",
        "a\nb",
        "a\r\nb",
        "name\n",
        "a\tb",
        "\x1b[31mred",
        "a\x7fb",
        "\u202ecba",
        "a\u200bb",
    ),
    *(";touch PWNED", "$(touch PWNED)", "`touch PWNED`", "| touch PWNED", "&& touch PWNED"),
    *("a;touch PWNED #", "'; touch PWNED; '", '"; touch PWNED; "', "> PWNED", "${IFS}PWNED"),
    *("-rf", "--help", "--workspace", "-", "--", "-o/tmp/x", "@file", "{a,b}", "*", "?", "[a]"),
    *("CON", "nul.txt", "a:b", "a" * 65, "a" * 300, "あ" * 200, "Ａ", "é", "e\u0301"),
    "bytes\udcff",
    *("{{7*7}}", "{0.__class__}", "%s%s%n", "<script>alert(1)</script>", "=cmd|' /C x'!A0"),
)
Attack = Callable[[Studio, Path, str], object]


def prepare(studio: Studio, source: Path, name: str) -> object:
    return studio.data.prepare(source, name)


def upload(studio: Studio, source: Path, name: str) -> object:
    kept = studio.data.keep_upload(name, source.read_bytes())
    assert kept.parent.parent == studio.workspace.uploads
    assert kept.resolve().is_relative_to(studio.workspace.uploads.resolve())
    return uploads.safe_name(name)


def use_model(studio: Studio, source: Path, name: str) -> object:
    return models.resolve(name, studio.workspace)


def delete_model(studio: Studio, source: Path, name: str) -> object:
    return models.delete(name, studio.workspace)


def write_modelfile(studio: Studio, source: Path, name: str) -> object:
    text = modelfile.text(names.checked(name), "x.gguf", "n.Modelfile", name, {}, name)
    assert sum(line.startswith("FROM ") for line in text.splitlines()) == 1
    return text


def on_runs(studio: Studio, source: Path, name: str) -> object:
    for look in (
        studio.runs.show,
        studio.runs.stop,
        studio.training.resume,
        studio.runs.events,
        studio.runs.log_tail,
    ):
        with contextlib.suppress(StudioError):
            look(name)
    with contextlib.suppress(StudioError):
        studio.runs.delete(name)
    return studio.exports.start(name).follow()


def on_trash(studio: Studio, source: Path, name: str) -> object:
    with contextlib.suppress(StudioError):
        studio.data.delete(name)
    with contextlib.suppress(StudioError):
        studio.data.restore("faq", name)
    with contextlib.suppress(StudioError):
        studio.runs.restore(name)
    return studio.data.restore(name)


def on_parts_of_runs(studio: Studio, source: Path, name: str) -> object:
    for run_id in ("", "20260101-000000-tiny-ja-0000"):
        for look in (
            studio.jobs.stop,
            studio.jobs.status,
            studio.jobs.settings,
            studio.chat.delete,
        ):
            with contextlib.suppress(StudioError, FileNotFoundError):
                look(run_id, name)
    return studio.machine.clean(name)


ATTACKS: tuple[Attack, ...] = (
    *(prepare, upload, use_model, delete_model, write_modelfile),
    *(on_runs, on_trash, on_parts_of_runs),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bystander, where everything happens; the workspace lies in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bystander.txt").write_text("untouched")
    (tmp_path / "source.csv").write_text("質問,回答\n" + "問い,答え\n問い2,答え2\n" * 3)
    return tmp_path


def require_untouched(place: Path) -> None:
    found = sorted(path.name for path in place.iterdir() if path.name != "workspace")
    assert found == ["bystander.txt", "source.csv"]
    assert (place / "bystander.txt").read_text() == "untouched"


def test_there_are_enough_names() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 50


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_hostile_names_do_nothing_outside_the_workspace(place: Path, attack: Attack) -> None:
    studio = Studio(Workspace(place / "workspace"))
    for name in NAMES:
        with contextlib.suppress(StudioError):
            attack(studio, place / "source.csv", name)
        require_untouched(place)
    for path in (place / "workspace").rglob("*"):
        assert path.resolve().is_relative_to(place / "workspace")
        assert path.name != "PWNED"


def test_hostile_names_on_the_command_line_end_with_an_error(place: Path) -> None:
    for name in NAMES:
        for words in (
            ["runs", "show", "--", name],
            ["data", "prepare", "source.csv", f"--name={name}"],
            ["train", f"--dataset={name}", "--engine=simulation", "--detach"],
            ["models", "show", "--", name],
        ):
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()) as said,
            ):
                code = cli.main(
                    [*words, "--workspace", "workspace"]
                    if "--" not in words
                    else [*words[:2], "--workspace", "workspace", *words[2:]]
                )
            assert code in (1, 2), (words, said.getvalue())
            assert "予期しない" not in said.getvalue(), (words, said.getvalue())
        require_untouched(place)
    assert not (place / "workspace" / "experiments").exists()
