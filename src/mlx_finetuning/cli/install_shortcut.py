"""`install-shortcut`: a file to double-click that opens the web interface."""

from __future__ import annotations

import click

from mlx_finetuning.cli.session import CommandResult, Session, command


@command(name="install-shortcut")
@click.option("--remove", "removes", is_flag=True, help="作ったものを消す")
def install_shortcut(session: Session, removes: bool) -> CommandResult:
    """ダブルクリックで画面を開けるようにする（Macはデスクトップ、Linuxはアプリの一覧に作る）"""
    machine = session.studio.machine
    if removes:
        removed = [str(path) for path in machine.remove_shortcut()]
        shown = "\n".join(["消しました。", *removed]) if removed else "消すものはありません。"
        return CommandResult({"removed": removed}, shown)
    path = machine.install_shortcut()
    root = session.studio.workspace.root.resolve()
    shown = (
        f"作りました: {path}\n"
        f"ダブルクリックすると、作業フォルダ {root} の画面がブラウザーで開きます。\n"
        "消すには mlx-finetuning install-shortcut --remove"
    )
    return CommandResult({"path": str(path), "workspace": str(root)}, shown)
