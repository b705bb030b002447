"""Answers about the trash, the same for runs and datasets."""

from __future__ import annotations

from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import Answer


def moved(name: str, group: str) -> Answer:
    """`group` is the command that brings it back: `runs` or `data`."""
    back = f"mlx-finetuning {group} delete {name} --restore"
    shown = f"{name} をゴミ箱に移しました。\n→ 元に戻すには {back}"
    return Answer({"deleted": name}, shown)


def restored(name: str) -> Answer:
    """`name` is back."""
    return Answer({"restored": name}, f"{name} を元に戻しました。")


def emptied(freed: int) -> Answer:
    """`freed`: bytes."""
    return Answer({"freed_bytes": freed}, f"{text.size(freed)} を片付けました。")
