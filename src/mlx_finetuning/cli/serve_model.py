"""`serve-model`: the tuned model for other programs, over the OpenAI protocol."""

from __future__ import annotations

import contextlib

import click

from mlx_finetuning.cli.runs import RUN_ID
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.errors import Interrupted, InvalidSettings
from mlx_finetuning.language import _
from mlx_finetuning.studio.chat import SERVED_ENGINES

LOOPBACK = "127.0.0.1"
OFFERED = _("""学習したモデルを提供しています（終わるには Ctrl-C）。
  URL:    {url}
  APIキー: {shown_key}
  モデル: {run_id}（エンジン: {engine}）
ほかのプログラムには、OpenAI互換のAPIとして上の3つを設定してください。例:
  curl {url}/chat/completions -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' -d '{{"messages": [{{"role": "user", "content": "こんにちは"}}]}}'""")


@command(name="serve-model")
@RUN_ID
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    metavar="PORT",
    help=_("ポート番号。0なら空いている番号"),
)
@click.option(
    "--address",
    default=LOOPBACK,
    metavar="ADDRESS",
    help=_("待ち受けるアドレス。初期値はこのマシンだけ"),
)
@click.option(
    "--engine",
    type=click.Choice(SERVED_ENGINES),
    help=_("動かすエンジン。省略時は、GGUFがあれば gguf、なければ mlx"),
)
@click.option(
    "--beside",
    multiple=True,
    metavar="RUN_ID",
    help=_("同じベースモデルのほかの実験も、一緒に提供する（何度でも。mlx）"),
)
@click.option(
    "--api-key",
    envvar="MLX_FINETUNING_API_KEY",
    metavar="KEY",
    help=_("APIキー。省略時は環境変数 MLX_FINETUNING_API_KEY、なければ毎回新しく作る"),
)
@click.option("--no-api-key", is_flag=True, help=_("APIキーなしで答える（このマシンの中だけ）"))
def serve_model(
    session: Session,
    run_id: str,
    port: int,
    address: str,
    engine: str | None,
    beside: tuple[str, ...],
    api_key: str | None,
    no_api_key: bool,
) -> CommandResult:
    """学習したモデルを、OpenAI互換のAPIでほかのプログラムに使わせる（Ctrl-Cで終わる）"""
    if no_api_key and address != LOOPBACK:
        raise InvalidSettings(
            problems=[_("--no-api-key: ほかのマシンに開くときは、APIキーが必要です。")]
        )
    key = "" if no_api_key else api_key or None
    with contextlib.suppress(KeyboardInterrupt, Interrupted), session.progress() as progress:
        offer = session.studio.chat.serve(
            run_id,
            engine=engine,
            beside=beside,
            host=address,
            port=port,
            key=key,
            progress=progress,
        )
        with offer as server:
            progress.close()
            offered = OFFERED.format(
                url=f"{server.address}/v1",
                shown_key=server.key or _("（なし）"),
                run_id=_("、").join((run_id, *server.serving.beside)),
                engine=server.engine,
                key=server.key,
            )
            click.echo(offered, err=True)
            session.studio.chat.follow_server(server)
    return CommandResult({"run_id": run_id}, _("モデルの提供を終えました。"))
