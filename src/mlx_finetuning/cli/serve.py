"""`serve`: the web interface, on this machine only unless asked otherwise."""

from __future__ import annotations

import ipaddress
import webbrowser

import click
from click.core import ParameterSource

from mlx_finetuning.cli import server_process
from mlx_finetuning.cli.server_process import ServerAddress
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.errors import StudioError
from mlx_finetuning.jobs import notices
from mlx_finetuning.language import _
from mlx_finetuning.messages import describe
from mlx_finetuning.workspace import Workspace

LOOPBACK = "127.0.0.1"
PORT = 8501
EXPOSED = _(
    "注意: {address} で待ち受けると、同じネットワークのほかの機器からも開けます。"
    "パスワードはありません。必要がなければ --address を外してください。"
)


@command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=PORT,
    metavar="PORT",
    help=_("ポート番号。省略時は8501（--open では、使われていればその次に空いているもの）"),
)
@click.option(
    "--address",
    default=LOOPBACK,
    metavar="ADDRESS",
    help=_("待ち受けるアドレス。省略時はこのマシンからだけ開ける"),
)
@click.option("--background", is_flag=True, help=_("裏で動かし、すぐに戻る"))
@click.option(
    "--open", "opens", is_flag=True, help=_("ブラウザーで開く。動いていなければ、裏で動かしてから")
)
@click.option("--stop", "stops", is_flag=True, help=_("動いている画面を終わらせる"))
@click.option("--status", "asks", is_flag=True, help=_("動いているかどうかを表示する"))
def serve(
    session: Session,
    port: int,
    address: str,
    background: bool,
    opens: bool,
    stops: bool,
    asks: bool,
) -> CommandResult:
    """Webの画面をこのマシンで開く（Ctrl-Cで終わる）"""
    if background + opens + stops + asks > 1:
        raise click.UsageError(
            _("--background、--open、--stop、--status は、どれか1つだけ書いてください。")
        )
    workspace = session.studio.workspace
    if stops:
        ended = server_process.stop(workspace)
        if ended is None:
            return CommandResult({"running": False}, _("動いている画面はありません。"))
        return CommandResult(
            {"running": False, "url": ended.url},
            _("画面を終わらせました（{url}）。").format(url=ended.url),
        )
    if asks:
        running = server_process.running(workspace)
        if running is None:
            return CommandResult(
                {"running": False}, _("動いていません。mlx-finetuning serve で開けます。")
            )
        data = {"running": True, "url": running.url, "pid": running.pid}
        return CommandResult(
            data,
            _("動いています: {url}（プロセス {pid}）").format(url=running.url, pid=running.pid),
        )
    try:
        host = str(ipaddress.ip_address(LOOPBACK if address == "localhost" else address))
    except ValueError as error:
        raise click.BadParameter(
            _("「{address}」はアドレスではありません（例: 127.0.0.1、0.0.0.0）。").format(
                address=address
            ),
            param_hint="--address",
        ) from error
    listening = ServerAddress(host, port)
    if not ipaddress.ip_address(listening.host).is_loopback:
        click.echo(EXPOSED.format(address=listening.host), err=True)
    if opens:
        is_chosen = (
            click.get_current_context().get_parameter_source("port") != ParameterSource.DEFAULT
        )
        return _opened(workspace, listening if is_chosen else server_process.free(listening))
    if not background:
        click.echo(_("画面: {url}（終わるには Ctrl-C）").format(url=listening.url), err=True)
        server_process.run(workspace, listening)
        return CommandResult({"url": listening.url}, _("画面を閉じました。"))
    started = server_process.start_in_background(workspace, listening)
    log = server_process.log_of(workspace)
    shown = _("画面: {url}\n記録: {log}\n終わるには mlx-finetuning serve --stop").format(
        url=started.url, log=log
    )
    return CommandResult({"url": started.url, "pid": started.pid, "log": str(log)}, shown)


def _opened(workspace: Workspace, listening: ServerAddress) -> CommandResult:
    try:
        running = server_process.running(workspace)
        running = running or server_process.start_in_background(workspace, listening)
    except StudioError as problem:
        # Whoever double-clicked sees no terminal.
        notices.tell(notices.PRODUCT, describe(problem).text)
        raise
    webbrowser.open(running.url)
    shown = _("画面: {url}\n終わるには mlx-finetuning serve --stop").format(url=running.url)
    return CommandResult({"url": running.url, "pid": running.pid}, shown)
