"""`install-shortcut`: a file to double-click that opens the web interface."""

from __future__ import annotations

import click

from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.language import _


@command(name="install-shortcut")
@click.option("--remove", "removes", is_flag=True, help=_("作ったものを消す"))
def install_shortcut(session: Session, removes: bool) -> CommandResult:
    """ダブルクリックで画面を開けるようにする（Macはデスクトップ、Linuxはアプリの一覧に作る）"""
    machine = session.studio.machine
    if removes:
        removed = [str(path) for path in machine.remove_shortcut()]
        shown = "\n".join([_("消しました。"), *removed]) if removed else _("消すものはありません。")
        return CommandResult({"removed": removed}, shown)
    path = machine.install_shortcut()
    root = session.studio.workspace.root.resolve()
    shown = _(
        "作りました: {path}\n"
        "ダブルクリックすると、作業フォルダ {root} の画面がブラウザーで開きます。"
        "\n"
        "消すには mlx-finetuning install-shortcut --remove"
    ).format(path=path, root=root)
    return CommandResult({"path": str(path), "workspace": str(root)}, shown)
