"""What every command shares: its options, its way to the Studio, its answer.

A command is a function `(session, …) -> CommandResult`. It prints nothing itself; `cli.main` shows the
answer's text, or with `--json` its data as the one object on standard output.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mlx_finetuning.cli.progress_line import ProgressLine
from mlx_finetuning.language import _
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class CommandResult:
    """What a command found out, for programs and for people."""

    data: Mapping[str, object]
    text: str
    exit_code: int = 0
    """1 where the question was answered, and the answer is bad news."""


@dataclass(frozen=True)
class Session:
    """One command's surroundings."""

    studio: Studio
    speaks_json: bool

    @contextlib.contextmanager
    def progress(self) -> Iterator[ProgressLine]:
        """A progress line on standard error for the block."""
        line = ProgressLine(sys.stderr)
        try:
            yield line
        finally:
            line.close()


Body = Callable[..., CommandResult]


def command(group: click.Group | None = None, name: str | None = None) -> Callable[[Body], Any]:
    """A click command with `--workspace`, `--json` and `--help`; its docstring is its help."""

    def decorate(body: Body) -> click.Command:
        @functools.wraps(body)
        def run(workspace: Path | None, speaks_json: bool, **options: Any) -> CommandResult:
            session = Session(Studio(Workspace.locate(workspace)), speaks_json)
            click.get_current_context().find_root().obj = session
            return body(session, **options)

        make = click.command if group is None else group.command
        told = _(inspect.cleandoc(body.__doc__ or ""))
        decorated = make(
            name or body.__name__,
            help=told,
            short_help=told.split("\n\n")[0],  # click's own is cut in the middle
            options_metavar=_("[オプション]"),
        )(run)
        workspace_option = click.Option(
            ["--workspace"],
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            help=_("作業フォルダ。省略時は環境変数 MLX_FINETUNING_HOME、なければ今のフォルダ"),
        )
        json_option = click.Option(
            ["--json", "speaks_json"], is_flag=True, help=_("結果を1つのJSONで標準出力に書く")
        )
        decorated.params += [workspace_option, json_option]
        return decorated

    return decorate


def group(name: str, help_text: str) -> click.Group:
    """A group of commands."""
    return click.Group(
        name,
        help=help_text,
        short_help=help_text,
        options_metavar=_("[オプション]"),
        subcommand_metavar=_("コマンド [引数]..."),
        no_args_is_help=True,
    )
