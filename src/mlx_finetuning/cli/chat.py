"""`chat`: talk to a tuned model, or to its base."""

from __future__ import annotations

import sys
from typing import Any

import click

from mlx_finetuning import config
from mlx_finetuning.cli.runs import RUN_ID
from mlx_finetuning.cli.session import Answer, Session, command
from mlx_finetuning.config import GenerateConfig
from mlx_finetuning.studio import ANSWER_ENGINES

END = ("/exit", "/bye", "終了")


@command()
@RUN_ID
@click.option("--prompt", metavar="QUESTION", help="1つだけ質問して終わる")
@click.option("--base", is_flag=True, help="学習前のモデルに聞く")
@click.option("--engine", type=click.Choice(ANSWER_ENGINES), default="mlx", help="動かすエンジン")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="設定を1つ変える")
def chat(
    session: Session,
    run_id: str,
    prompt: str | None,
    base: bool,
    engine: str,
    assignments: tuple[str, ...],
) -> Answer:
    """学習したモデルと会話する"""
    settings = config.load(GenerateConfig, config.parse_assignments(list(assignments)))
    talk = _Talk(session, run_id, settings, base, engine)
    if prompt is not None:
        answer = talk.ask(prompt)
        return Answer({"run_id": run_id, **answer}, str(answer["text"]))
    session.studio.run(run_id)
    _converse(talk)
    return Answer({"run_id": run_id, "messages": talk.messages}, "")


class _Talk:
    """A conversation so far."""

    def __init__(
        self, session: Session, run_id: str, settings: GenerateConfig, base: bool, engine: str
    ) -> None:
        self.messages: list[dict[str, str]] = []
        self._session = session
        self._run_id = run_id
        self._settings = settings
        self._base = base
        self._engine = engine

    def ask(self, question: str) -> dict[str, Any]:
        self.messages.append({"role": "user", "content": question})
        with self._session.progress() as progress:
            answer = self._session.studio.answer(
                self._run_id,
                self.messages,
                self._settings,
                base=self._base,
                engine=self._engine,
                progress=progress,
            )
        self.messages.append({"role": "assistant", "content": str(answer["text"])})
        return answer


def _converse(talk: _Talk) -> None:
    click.echo(f"質問を入力してください（終わるには {END[0]}）。", err=True)
    for line in sys.stdin:
        question = line.strip()
        if question in END:
            return
        if question:
            click.echo(talk.ask(question)["text"])
