"""Answers about the trash, the same for runs and datasets."""

from __future__ import annotations

from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import CommandResult


def moved(name: str, group: str) -> CommandResult:
    """`group` is the command that brings it back: `runs` or `data`."""
    back = f"mlx-finetuning {group} delete {name} --restore"
    shown = f"{name} をゴミ箱に移しました。\n→ 元に戻すには {back}"
    return CommandResult({"deleted": name}, shown)


def restored(name: str) -> CommandResult:
    """`name` is back."""
    return CommandResult({"restored": name}, f"{name} を元に戻しました。")


def emptied(freed: int) -> CommandResult:
    """`freed`: bytes."""
    return CommandResult({"freed_bytes": freed}, f"{text.size(freed)} を片付けました。")
