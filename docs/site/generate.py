"""Writes the pages of the site that are made of the code, beside those that people wrote.

    python docs/site/generate.py FOLDER

copies `ja/` and `en/` and the images into FOLDER, and adds settings, commands, errors, glossary and
API to each language. mkdocs builds what is there (`make docs`).
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from mlx_finetuning import config
from mlx_finetuning.cli.app import build
from mlx_finetuning.errors import StudioError
from mlx_finetuning.language import ENGLISH, JAPANESE, VARIABLE, _, use
from mlx_finetuning.messages import catalogue
from mlx_finetuning.studio import Studio
from mlx_finetuning.utils.glossary import TERMS_JA, explained
from mlx_finetuning.utils.settings_ja import EXPLANATIONS_JA

HERE = Path(__file__).parent
LANGUAGES = (JAPANESE, ENGLISH)
HELPS = "--helps"
SETTINGS = {
    ("データの用意", "Preparing data"): config.PrepareConfig,
    ("学習", "Training"): config.TrainConfig,
    ("アダプターの合成", "Merging adapters"): config.MergeConfig,
    ("答え", "Answers"): config.GenerateConfig,
    ("成果の確認", "Evaluation"): config.EvaluateConfig,
    ("証明", "Certificate"): config.CertifyConfig,
    ("書き出し", "Export"): config.ExportConfig,
    ("Ollamaへの登録", "Adding to Ollama"): config.DeployConfig,
}
"""By what they decide, in both languages."""
GROUPS_JA = {
    "UsageProblem": "頼み方（名前、設定）",
    "DataError": "データとファイル",
    "ModelError": "モデルとダウンロード",
    "RunError": "学習と実験",
    "ExportError": "書き出し、検証、対話",
    "OllamaError": "Ollama",
    "SystemProblem": "マシン（ディスク、メモリー、足りないもの）",
}
"""Of errors, by their class."""


def main(folder: Path) -> None:
    """Write the whole source of the site."""
    for language in LANGUAGES:
        shutil.copytree(HERE / language, folder / language, dirs_exist_ok=True)
        shutil.copytree(HERE.parent / "images", folder / language / "images", dirs_exist_ok=True)
        for name, text in pages(language).items():
            path = folder / language / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def pages(language: str) -> dict[str, str]:
    """The made pages of a language, by their paths."""
    is_ja = language == "ja"
    use(language)
    made = {
        "reference/settings.md": settings(is_ja),
        "reference/commands.md": commands(is_ja),
        "reference/api.md": api(is_ja),
        "failures.md": failures(is_ja),
        "glossary.md": glossary(is_ja),
    }
    use(JAPANESE)
    return made


# --- settings ----------------------------------------------------------------------------


def settings(is_ja: bool) -> str:
    """Every setting with its default, its bounds and what it is for."""
    lines = (
        [
            "# 設定の一覧",
            "",
            "コマンドでは `--set 名前=値`、YAMLでは `名前: 値`、Pythonでは引数で書きます。画面では、言葉で選べます。",
        ]
        if is_ja
        else [
            "# Settings",
            "",
            "As `--set NAME=VALUE` on the command line, `NAME: VALUE` in YAML, arguments in Python. "
            "On the pages they have names and explanations.",
        ]
    )
    heads = (
        ("名前", "初期値", "範囲", "説明")
        if is_ja
        else ("name", "default", "bounds", "explanation")
    )
    for titles, kind in SETTINGS.items():
        title = f"{titles[0]}（`{kind.__name__}`）" if is_ja else f"{titles[1]} (`{kind.__name__}`)"
        lines += ["", f"## {title}", "", _row(heads), _row(["---"] * 4)]
        defaults = config.as_dict(kind())
        for item in dataclasses.fields(kind):
            if not item.metadata.get("help"):
                continue
            end = "。" if is_ja else ". "
            text = _(item.metadata["help"]).removesuffix(end.strip()) + end
            text += _(EXPLANATIONS_JA.get(item.name, ""))
            bounds = config.bounds_in_words(item.metadata)
            lines.append(_row((f"`{item.name}`", _shown(defaults[item.name]), bounds, text)))
    return "\n".join([*lines, ""])


def _shown(value: Any) -> str:
    return f"`{value}`" if value not in ("", None) else "—"


def _row(cells: Any) -> str:
    escaped = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"


# --- commands ----------------------------------------------------------------------------


def commands(is_ja: bool) -> str:
    """The help of every command."""
    lines = (
        [
            "# コマンドの一覧",
            "",
            "どのコマンドにも `--help`、`--workspace フォルダ`、`--json` があります。",
        ]
        if is_ja
        else [
            "# Commands",
            "",
            "Every command has `--help`, `--workspace DIR` and `--json`.",
        ]
    )
    for name, text in helps().items() if is_ja else _english_helps().items():
        lines += ["", f"## {name}", "", "```text", text, "```"]
    return "\n".join([*lines, ""])


def helps() -> dict[str, str]:
    """What `--help` prints, by command."""
    leaves = _leaves(build(), ("mlx-finetuning",), None)
    return {
        " ".join(path[1:]): command.get_help(context).strip() for path, command, context in leaves
    }


def _english_helps() -> dict[str, str]:
    """Of another process: a command's help is put together once, as its module is imported."""
    told = subprocess.run(
        [sys.executable, __file__, HELPS],
        env={**os.environ, VARIABLE: ENGLISH},
        capture_output=True,
        check=True,
        timeout=120,
    )
    found: dict[str, str] = json.loads(told.stdout)
    return found


def _leaves(
    command: click.Command, path: tuple[str, ...], parent: click.Context | None
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    context = click.Context(command, info_name=path[-1], parent=parent, max_content_width=100)
    if not isinstance(command, click.Group):
        yield path, command, context
        return
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from _leaves(child, (*path, name), context)


# --- errors ------------------------------------------------------------------------------


def failures(is_ja: bool) -> str:
    """Every error: what happened, why, and what to do."""
    written = (HERE / ("ja" if is_ja else "en") / "failures.md").read_text(encoding="utf-8")
    lines = [written.rstrip()]
    texts = catalogue(JAPANESE if is_ja else ENGLISH)
    words = ("コード", "なぜか", "次にすること") if is_ja else ("Code", "Why", "What to do")
    of, why_is, next_is = words
    colon = "：" if is_ja else ": "
    for group in StudioError.__subclasses__():
        title = (
            GROUPS_JA[group.__name__] if is_ja else (group.__doc__ or "").split("\n")[0].strip(".")
        )
        lines += ["", f"## {title}"]
        for kind in _codes(group):
            text = texts[kind.code]
            lines += ["", f"### {_blanked(text.what)}", "", f"{of} `{kind.code}`", ""]
            why = _blanked(text.why)
            lines += [f"**{why_is}**{colon}{why}", ""] if why.strip("…。. ") else []
            lines += [f"**{next_is}**{colon}{_blanked(text.next_step)}"]
    return "\n".join([*lines, ""])


def _codes(group: type[StudioError]) -> Iterator[type[StudioError]]:
    for kind in group.__subclasses__():
        if kind.code:
            yield kind
        yield from _codes(kind)


def _blanked(template: str) -> str:
    """Without what is filled in when it happens; angle brackets of the text are no HTML."""
    text = re.sub(r"\{[\w.]+[^}]*\}", "…", template).replace("<", "&lt;")
    return " ".join(text.split()).replace("$", "\\$")


# --- words -------------------------------------------------------------------------------


def glossary(is_ja: bool) -> str:
    """The words of the pages and reports."""
    lines = (
        [
            "# 用語集",
            "",
            "画面と報告書に出てくる言葉です。画面では、言葉の横の「？」でも読めます。",
            "",
        ]
        if is_ja
        else [
            "# Glossary",
            "",
            "The words of pages and reports. On the pages, the “?” beside a word shows them too.",
            "",
        ]
    )
    told = zip(TERMS_JA, explained(TERMS_JA).items(), strict=True)
    for ja, (term, text) in told:
        twin = "" if is_ja or term == ja else f" ({ja})"
        lines.append(f"**{term}**{twin}\n:   {text}\n")
    return "\n".join(lines)


# --- the Python API ----------------------------------------------------------------------


def api(is_ja: bool) -> str:
    """Every public method of the studio, with its signature and docstring."""
    lines = (
        [
            "# APIの一覧",
            "",
            "`Studio` から使えるもの全てです（[使い方](../python.md)）。説明は、コードと同じ英語です。",
        ]
        if is_ja
        else ["# The API", "", "All that `Studio` has ([how it is used](../python.md))."]
    )
    studio = Studio.at(".")
    for noun in (name for name in vars(Studio) if not name.startswith("_")):
        value = getattr(studio, noun)
        if not dataclasses.is_dataclass(value):
            continue
        kind = type(value)
        lines += ["", f"## studio.{noun}"]
        for name, method in vars(kind).items():
            if name.startswith("_") or not inspect.isfunction(method):
                continue
            lines += [
                "",
                f"### {noun}.{name}",
                "",
                "```python",
                _signature(name, method),
                "```",
                "",
            ]
            lines += [inspect.cleandoc(method.__doc__ or "")]
    return "\n".join([*lines, ""])


def _signature(name: str, method: Any) -> str:
    """As it is written: annotations without quotes, and a function as a default by its name."""
    whole = inspect.signature(method)
    parameters = [
        one.replace(
            annotation=_Bare(one.annotation),
            default=_Bare(one.default.__name__)
            if callable(one.default) and not isinstance(one.default, type)
            else one.default,
        )
        for one in list(whole.parameters.values())[1:]
    ]
    return f"{name}{whole.replace(parameters=parameters, return_annotation=_Bare(whole.return_annotation))}"


class _Bare(str):
    """A text that is its own representation."""

    def __repr__(self) -> str:
        return str(self)


# --- the notebook ------------------------------------------------------------------------


def notebook(page: str) -> str:
    """A page of Markdown as a notebook: its Python blocks are the cells of code."""
    parts = re.split(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    cells = []
    for number, part in enumerate(parts):
        text = part.strip()
        if not text:
            continue
        cell: dict[str, object] = {"id": f"cell-{number}", "metadata": {}}
        if number % 2:
            cell |= {"cell_type": "code", "execution_count": None, "outputs": []}
        else:
            cell |= {"cell_type": "markdown"}
            # Links between pages lead nowhere from here.
            text = re.sub(r"\[([^]]+)\]\((?!https:)[^)]+\)", r"\1", text)
        cells.append({**cell, "source": text.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    record = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(record, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__" and sys.argv[1:] == [HELPS]:
    json.dump(helps(), sys.stdout)
elif __name__ == "__main__":
    main(Path(sys.argv[1]))
    page = (HERE / "ja" / "python.md").read_text(encoding="utf-8")
    (HERE.parent / "notebooks" / "main_job.ipynb").write_text(notebook(page), encoding="utf-8")
