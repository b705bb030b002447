"""Writes the pages of the site that are made of the code, beside those that people wrote.

    python docs/site/generate.py FOLDER

copies `ja/` and `en/` and the images into FOLDER, and adds settings, commands, errors, glossary and
API to each language. mkdocs builds what is there (`make docs`).
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from mlx_finetuning import config
from mlx_finetuning.cli.app import build
from mlx_finetuning.errors import StudioError
from mlx_finetuning.messages import catalogue
from mlx_finetuning.studio import Studio
from mlx_finetuning.utils.glossary import TERMS_JA
from mlx_finetuning.utils.settings_ja import EXPLANATIONS_JA

HERE = Path(__file__).parent
LANGUAGES = ("ja", "en")
SETTINGS = {
    "データの用意": config.PrepareConfig,
    "学習": config.TrainConfig,
    "アダプターの合成": config.MergeConfig,
    "答え": config.GenerateConfig,
    "成果の確認": config.EvaluateConfig,
    "証明": config.CertifyConfig,
    "書き出し": config.ExportConfig,
    "Ollamaへの登録": config.DeployConfig,
}
"""By what they decide."""
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
    return {
        "reference/settings.md": settings(is_ja),
        "reference/commands.md": commands(is_ja),
        "reference/api.md": api(is_ja),
        "failures.md": failures(is_ja),
        "glossary.md": glossary(is_ja),
    }


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
            "Explanations are in Japanese, as in the program.",
        ]
    )
    heads = (
        ("名前", "初期値", "範囲", "説明")
        if is_ja
        else ("name", "default", "bounds", "explanation")
    )
    for title, kind in SETTINGS.items():
        lines += ["", f"## {title}（`{kind.__name__}`）", "", _row(heads), _row(["---"] * 4)]
        defaults = config.as_dict(kind())
        for item in dataclasses.fields(kind):
            if not item.metadata.get("help"):
                continue
            text = f"{item.metadata['help']}。{EXPLANATIONS_JA.get(item.name, '')}"
            bounds = config.bounds_ja(item.metadata)
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
        else ["# Commands", "", "As `--help` prints them, in Japanese."]
    )
    for path, command, context in _leaves(build(), ("mlx-finetuning",), None):
        name = " ".join(path[1:])
        lines += ["", f"## {name}", "", "```text", command.get_help(context).strip(), "```"]
    return "\n".join([*lines, ""])


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
    texts = catalogue()
    for group in StudioError.__subclasses__():
        title = (
            GROUPS_JA[group.__name__] if is_ja else (group.__doc__ or "").split("\n")[0].strip(".")
        )
        lines += ["", f"## {title}"]
        for kind in _codes(group):
            text = texts[kind.code]
            if not is_ja:
                lines += ["", f"### {kind.code}", "", inspect.cleandoc(kind.__doc__ or "")]
            else:
                lines += ["", f"### {_blanked(text.what)}", "", f"コード `{kind.code}`", ""]
                why = _blanked(text.why)
                lines += [f"**なぜか**：{why}", ""] if why.strip("…。 ") else []
                lines += [f"**次にすること**：{_blanked(text.next_step)}"]
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
    if is_ja:
        lines = [
            "# 用語集",
            "",
            "画面と報告書に出てくる言葉です。画面では、言葉の横の「？」でも読めます。",
            "",
        ]
        return "\n".join(
            [*lines, *(f"**{term}**\n:   {text}\n" for term, text in TERMS_JA.items())]
        )
    terms = yaml.safe_load((HERE / "terms_en.yaml").read_text(encoding="utf-8"))
    lines = [
        "# Glossary",
        "",
        "The words of pages and reports, in Japanese as they stand there.",
        "",
    ]
    return "\n".join(
        [*lines, *(f"**{name}** ({ja})\n:   {text}\n" for ja, (name, text) in terms.items())]
    )


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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    page = (HERE / "ja" / "python.md").read_text(encoding="utf-8")
    (HERE.parent / "notebooks" / "main_job.ipynb").write_text(notebook(page), encoding="utf-8")
