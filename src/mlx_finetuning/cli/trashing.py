"""Answers about the trash, the same for runs and datasets."""

from __future__ import annotations

from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import CommandResult
from mlx_finetuning.language import _


def moved(name: str, group: str) -> CommandResult:
    """`group` is the command that brings it back: `runs` or `data`."""
    back = f"mlx-finetuning {group} delete {name} --restore"
    shown = _("{name} をゴミ箱に移しました。\n→ 元に戻すには {back}").format(name=name, back=back)
    return CommandResult({"deleted": name}, shown)


def restored(name: str) -> CommandResult:
    """`name` is back."""
    return CommandResult({"restored": name}, _("{name} を元に戻しました。").format(name=name))


def emptied(freed: int) -> CommandResult:
    """`freed`: bytes."""
    return CommandResult(
        {"freed_bytes": freed}, _("{freed} を片付けました。").format(freed=text.size(freed))
    )
