"""`serve`: the web interface, on this machine only."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import click

from mlx_finetuning.cli.session import Answer, Session, command
from mlx_finetuning.errors import ServerFailed

ADDRESS = "127.0.0.1"
APP = Path(__file__).resolve().parents[1] / "ui" / "entry" / "app.py"


@command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8501, metavar="PORT", help="ポート番号"
)
def serve(session: Session, port: int) -> Answer:
    """Webの画面をこのマシンで開く（Ctrl-Cで終わる）"""
    root = session.studio.workspace.root
    url = f"http://{ADDRESS}:{port}"
    click.echo(f"画面: {url}（終わるには Ctrl-C）", err=True)
    environment = {**os.environ, "MLX_FINETUNING_HOME": str(root)}
    with contextlib.suppress(KeyboardInterrupt):
        # Standard output is for the command's answer.
        ended = subprocess.run(
            serve_command(APP, port), env=environment, stdout=sys.__stderr__, check=False
        )
        if ended.returncode > 0:
            raise ServerFailed(exit_code=ended.returncode, port=port)
    return Answer({"url": url}, "画面を閉じました。")


def serve_command(app: Path, port: int) -> list[str]:
    """Streamlit, bound to loopback, without its questions and statistics."""
    return [
        *(sys.executable, "-m", "streamlit", "run", str(app)),
        f"--server.address={ADDRESS}",
        f"--server.port={port}",
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
    ]
