"""The command line. `main` is its one broad `except`: every way a command can end has its exit
code here (0 done, 1 an error, 2 wrong usage, 130 interrupted), and with `--json` its one object.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

import click

from mlx_finetuning import language, preferences
from mlx_finetuning.cli import text
from mlx_finetuning.cli.app import build
from mlx_finetuning.cli.session import CommandResult, Session
from mlx_finetuning.errors import Interrupted, StudioError, TextUndecodable
from mlx_finetuning.language import _
from mlx_finetuning.messages import describe
from mlx_finetuning.utils.redaction import appended
from mlx_finetuning.workspace import Workspace

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    chosen = list(sys.argv[1:] if arguments is None else arguments)
    speaks_json = "--json" in chosen
    out = sys.stdout
    try:
        # With --json, standard output holds the one object; whatever else is printed moves.
        with contextlib.redirect_stdout(sys.stderr) if speaks_json else contextlib.nullcontext():
            return _run(chosen, speaks_json, out)
    except BrokenPipeError:
        # The reader has left (`| head`); Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return FAILED


def _run(arguments: list[str], speaks_json: bool, out: TextIO) -> int:
    root: click.Context | None = None
    language.use(preferences.language(_workspace(arguments)))
    try:
        with build().make_context("mlx-finetuning", list(arguments)) as root:
            result = root.command.invoke(root)
            if not isinstance(result, CommandResult):
                return DONE
            print(_json(result.data) if speaks_json else result.text, file=out, flush=True)
            return result.exit_code
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as wrong:
        if speaks_json:
            _print_error(
                "USAGE", wrong.format_message(), "", _("--help で使い方を表示します。"), {}, out
            )
        wrong.show(sys.stderr)
        return WRONG_USAGE
    except (KeyboardInterrupt, click.Abort):
        return _failed(Interrupted(), speaks_json, out)
    except StudioError as error:
        return _failed(error, speaks_json, out)
    except BrokenPipeError:
        raise
    except Exception as error:
        # Only what was no text has no form in UTF-8.
        if isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8":
            return _failed(TextUndecodable(place=_("入力")), speaks_json, out)
        session = root.obj if root is not None else None
        workspace = session.studio.workspace if isinstance(session, Session) else Workspace.locate()
        unexpected = appended(error, workspace.logs / "cli.log")
        return _failed(unexpected, speaks_json, out)


def _workspace(arguments: Sequence[str]) -> Workspace:
    """The one that a command is for: its words are needed before the command line is understood."""
    for place, argument in enumerate(arguments):
        name, _equals, folder = argument.partition("=")
        if name == "--workspace":
            return Workspace.locate(folder or next(iter(arguments[place + 1 :]), None))
    return Workspace.locate()


def _failed(error: StudioError, speaks_json: bool, out: TextIO) -> int:
    message = describe(error)
    if speaks_json:
        _print_error(error.code, message.what, message.why, message.next_step, error.data, out)
    click.echo(text.error(error), err=True)
    return INTERRUPTED if isinstance(error, Interrupted) else FAILED


def _print_error(
    code: str, what: str, why: str, next_step: str, data: Mapping[str, object], out: TextIO
) -> None:
    record = {"code": code, "message": what, "why": why, "next": next_step, "data": data}
    print(_json({"error": record}), file=out, flush=True)


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)
