"""`ollama`: what is in Ollama, copied, deleted, or talked to."""

from __future__ import annotations

import click

from mlx_finetuning import config
from mlx_finetuning.cli import session, text
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.config import GenerateConfig
from mlx_finetuning.language import _
from mlx_finetuning.messages import describe

HOST = click.option(
    "--host",
    metavar="URL",
    help=_("Ollamaの場所。省略時は環境変数 OLLAMA_HOST、なければこのマシン"),
)
NAME = click.argument("name", metavar="NAME")

ollama = session.group("ollama", _("Ollamaの状態と、登録されているモデルを扱う"))


@command(ollama)
@HOST
def status(session: Session, host: str | None) -> CommandResult:
    """Ollamaが動いているか、版に問題がないかを調べる"""
    server = session.studio.ollama.status(host)
    problem = None if server.problem is None else server.problem.to_json()
    data = {
        "place": server.place,
        "version": server.version,
        "problem": problem,
        "warnings": list(server.warnings),
    }
    if server.problem is not None:
        return CommandResult(data, describe(server.problem).text, exit_code=1)
    return CommandResult(
        data,
        "\n".join(
            [
                _("Ollama {version}（{place}）").format(version=server.version, place=server.place),
                *server.warnings,
            ]
        ),
    )


@command(ollama, "list")
@HOST
def list_models(session: Session, host: str | None) -> CommandResult:
    """登録されているモデルの一覧"""
    models = session.studio.ollama.list(host)
    rows = [
        (model.name, text.size(model.size_bytes), model.quantization, model.modified_at[:16])
        for model in models
    ]
    shown = (
        text.table((_("名前"), _("大きさ"), _("量子化"), _("更新")), rows)
        if rows
        else _("モデルはありません。")
    )
    return CommandResult({"models": [config.as_dict(model) for model in models]}, shown)


@command(ollama)
@NAME
@HOST
def show(session: Session, name: str, host: str | None) -> CommandResult:
    """モデルの詳しい情報"""
    details = session.studio.ollama.show(name, host)
    shown = {"details": details.get("details", {}), "parameters": details.get("parameters", "")}
    return CommandResult(
        {"name": name, **details}, text.record({**shown, "system": details.get("system", "")})
    )


@command(ollama)
@click.argument("source", metavar="SOURCE")
@click.argument("destination", metavar="DESTINATION")
@click.option("--replace", is_flag=True, help=_("同じ名前のモデルを置き換える"))
@HOST
def copy(
    session: Session, source: str, destination: str, replace: bool, host: str | None
) -> CommandResult:
    """モデルに、もう1つ名前を付ける"""
    session.studio.ollama.copy(source, destination, host, replace=replace)
    data = {"source": source, "destination": destination}
    return CommandResult(
        data,
        _("{source} を {destination} としても使えるようにしました。").format(
            source=source, destination=destination
        ),
    )


@command(ollama)
@NAME
@HOST
def delete(session: Session, name: str, host: str | None) -> CommandResult:
    """モデルをOllamaから消す"""
    session.studio.ollama.delete(name, host)
    return CommandResult({"deleted": name}, _("{name} を消しました。").format(name=name))


@command(ollama)
@NAME
@click.option("--prompt", required=True, metavar="QUESTION", help=_("質問"))
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help=_("設定を1つ変える"))
@HOST
def ask(
    session: Session, name: str, prompt: str, assignments: tuple[str, ...], host: str | None
) -> CommandResult:
    """登録されているモデルに1つ質問する"""
    settings = config.load(GenerateConfig, config.parse_assignments(list(assignments)))
    question = [{"role": "user", "content": prompt}]
    stream = session.studio.ollama.stream(name, question, settings, host)
    for __ in stream:
        pass
    data = {"name": name, **config.as_dict(stream.answer)}
    return CommandResult(data, text.with_reasoning(stream.answer.text, stream.answer.reasoning))
