"""`chat`: talk to a tuned model, to its base, or to both side by side."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.runs import RUN_ID
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.config import MLX_STRENGTH_JA, GenerateConfig, as_dict
from mlx_finetuning.language import _
from mlx_finetuning.runtime.chats import Conversation
from mlx_finetuning.studio.chat import ANSWER_ENGINES
from mlx_finetuning.tokenization.answer import Answer

END = ("/exit", "/bye", "終了")
MARKS = {"/good": True, "/bad": False}
FIX = "/fix "
SIDES = {"tuned": _("学習後", "side"), "base": _("元のモデル", "side")}


@command()
@RUN_ID
@click.option("--prompt", metavar="QUESTION", help=_("1つだけ質問して終わる（履歴には残さない）"))
@click.option("--base", is_flag=True, help=_("学習前のモデルに聞く"))
@click.option("--side-by-side", is_flag=True, help=_("学習後と学習前のモデルに、同じ質問をする"))
@click.option(
    "--engine", type=click.Choice(ANSWER_ENGINES), default="mlx", help=_("動かすエンジン")
)
@click.option("--system", metavar="SENTENCE", help=_("システム文"))
@click.option("--temperature", metavar="NUMBER", help=_("温度。0なら毎回同じ答え"))
@click.option("--strength", metavar="NUMBER", help=_(MLX_STRENGTH_JA))
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help=_("設定を1つ変える"))
def chat(
    session: Session,
    run_id: str,
    prompt: str | None,
    base: bool,
    side_by_side: bool,
    engine: str,
    system: str | None,
    temperature: str | None,
    strength: str | None,
    assignments: tuple[str, ...],
) -> CommandResult:
    """学習したモデルと会話する（答えの途中の Ctrl-C は、その答えだけを止める）"""
    options: dict[str, object] = dict(config.parse_assignments(list(assignments)))
    options |= {} if system is None else {"system": system}
    options |= {} if temperature is None else {"temperature": temperature}
    options |= {} if strength is None else {"strength": strength}
    settings = config.load(GenerateConfig, options)
    sides = ("tuned", "base") if side_by_side else ("base",) if base else ("tuned",)
    session.studio.runs.show(run_id)
    talk = _Talk(session, run_id, settings, engine, sides)
    was_loaded = bool(session.studio.chat.servers(run_id))
    try:
        return talk.ask_once(prompt) if prompt is not None else talk.converse()
    finally:
        if not was_loaded:
            session.studio.chat.stop_servers(run_id)


@dataclass
class _Talk:
    """A conversation so far."""

    session: Session
    run_id: str
    settings: GenerateConfig
    engine: str
    sides: Sequence[str]
    chat: Conversation = field(init=False)

    def __post_init__(self) -> None:
        self.chat = Conversation(self.engine, as_dict(self.settings))

    def ask_once(self, question: str) -> CommandResult:
        """One question, whose answers are not kept."""
        self._warn_if_busy()
        said = {}
        for side in self.sides:
            with self.session.progress() as progress:
                said[side] = self.session.studio.chat.answer(
                    self.run_id, self._asked(side, question), self.settings,
                    base=side == "base", engine=self._engine(side), progress=progress,
                )  # fmt: skip
        answers = {
            side: {**as_dict(answer), "engine": self._engine(side)} for side, answer in said.items()
        }
        first = answers.pop(self.sides[0])
        shown = {
            side: text.with_reasoning(answer.text, answer.reasoning)
            for side, answer in said.items()
        }
        lines = (
            words if len(shown) == 1 else f"{SIDES[side]}: {words}" for side, words in shown.items()
        )
        return CommandResult({"run_id": self.run_id, **first, **answers}, "\n".join(lines))

    def converse(self) -> CommandResult:
        """Questions from standard input until its end; every turn is saved."""
        usage = _(
            "質問を入力してください（{marks}で今の答えに○×、{fix}正しい答え で直す、終わるには {end}）。"
        ).format(marks=_("、").join(MARKS), fix=FIX, end=END[0])
        click.echo(usage, err=True)
        self._warn_if_busy()
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # refused as a question, not as a file
        for line in sys.stdin:
            question = line.strip()
            if question in END:
                break
            if not question or self._is_mark(question):
                continue
            said = {side: self._streamed(side, question) for side in self.sides}
            self.chat = self.chat.with_turn(
                question,
                {side: answer.text for side, answer in said.items()},
                {side: answer.reasoning for side, answer in said.items()},
            )
            self.session.studio.chat.save(self.run_id, self.chat)
        data = {"run_id": self.run_id, "chat_id": self.chat.chat_id, "talks": self.chat.talks}
        return CommandResult(
            data,
            _("会話を保存しました（{chat_id}）。").format(chat_id=self.chat.chat_id)
            if self.chat.talks
            else "",
        )

    def _is_mark(self, line: str) -> bool:
        """Whether the line says something of the tuned model's last answer; keeps what it says."""
        if line not in MARKS and not line.startswith(FIX):
            return False
        said = [turn["content"] for turn in self.chat.talks.get("tuned", ())]
        if not said:
            click.echo(_("印を付ける答えが、まだありません。"), err=True)
        elif line in MARKS:
            self.session.studio.marks.mark(self.run_id, said[:-1], said[-1], MARKS[line])
            click.echo(_("○を付けました。") if MARKS[line] else _("×を付けました。"), err=True)
        else:
            right = line.removeprefix(FIX)
            self.session.studio.marks.correct(self.run_id, said[:-1], said[-1], right)
            click.echo(
                _("直しました。学習し直すには: mlx-finetuning answers retrain {run_id}").format(
                    run_id=self.run_id
                ),
                err=True,
            )
        return True

    def _streamed(self, side: str, question: str) -> Answer:
        """Show an answer as it comes; Ctrl-C ends it, and not the conversation.

        Reasoning before it is marked, and dim where the terminal can.
        """
        if len(self.sides) > 1:
            click.echo(f"{SIDES[side]}: ", nl=False)
        with self.session.progress() as progress:
            stream = self.session.studio.chat.stream(
                self.run_id, self._asked(side, question), self.settings,
                base=side == "base", engine=self._engine(side), progress=progress,
            )  # fmt: skip
        is_thinking = False
        with contextlib.closing(stream):
            try:
                for chunk in stream.parts():
                    if chunk.reasoning:
                        if not is_thinking:
                            click.echo(_(text.THINKING))
                        click.secho(chunk.reasoning, nl=False, dim=True)
                    if chunk.text:
                        if is_thinking or chunk.reasoning:
                            click.echo(f"\n{_(text.ANSWERING)}")
                        click.echo(chunk.text, nl=False)
                    is_thinking = bool(chunk.reasoning or is_thinking) and not chunk.text
                cut = "" if stream.answer.ended else _("（最大トークン数で切れました）")
            except KeyboardInterrupt:
                cut = _("（止めました）")
        click.echo(cut)
        return stream.answer

    def _asked(self, side: str, question: str) -> list[Mapping[str, str]]:
        return [*self.chat.talks.get(side, []), {"role": "user", "content": question}]

    def _engine(self, side: str) -> str:
        # Beside a written file, the base still comes from MLX.
        return "mlx" if len(self.sides) > 1 and side == "base" else self.engine

    def _warn_if_busy(self) -> None:
        if self.engine != "ollama" and self.session.studio.jobs.is_device_busy():
            click.echo(
                _("学習などの作業が実行中です。待たずに答えますが、いつもより遅くなります。"),
                err=True,
            )
