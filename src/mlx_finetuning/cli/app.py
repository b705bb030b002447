"""The command tree. A command's module is imported when it is used, or listed in the help."""

from __future__ import annotations

import importlib
from typing import cast

import click

from mlx_finetuning.cli import japanese
from mlx_finetuning.language import _

COMMANDS = {
    "doctor": "doctor",
    "demo": "demo",
    "auto": "auto",
    "data": "data",
    "train": "train",
    "tune": "tune",
    "runs": "runs",
    "evaluate": "evaluate",
    "export": "export",
    "verify": "verify",
    "certify": "certify",
    "deploy": "deploy",
    "ollama": "ollama",
    "chat": "chat",
    "answers": "answers",
    "models": "models",
    "serve": "serve",
    "install-shortcut": "install_shortcut",
    "serve-model": "serve_model",
}
"""Command → module of this package, in the order of the work; the module's object has the name."""


class LazyGroup(click.Group):
    """A group whose members are named by `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"mlx_finetuning.cli.{COMMANDS[cmd_name]}")
        return cast(click.Command, getattr(module, COMMANDS[cmd_name]))


def build() -> click.Group:
    """The whole application."""
    from mlx_finetuning import __version__

    japanese.install()
    app = LazyGroup(
        "mlx-finetuning",
        help=_("自分のマシンで、CSVから言語モデルをファインチューニングします（Apple MLX）。"),
        epilog=_("はじめての方は mlx-finetuning demo をお試しください。"),
        options_metavar=_("[オプション]"),
        subcommand_metavar=_("コマンド [引数]..."),
        no_args_is_help=True,
    )
    return click.version_option(__version__, prog_name="mlx-finetuning")(app)
