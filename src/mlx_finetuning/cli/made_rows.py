"""`data reword` and `data refuse`: rows made of a dataset's own, shown with what speaks against them."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.config import as_dict
from mlx_finetuning.language import _
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.utils.text_generator import ENGINES_JA, GeneratorChoice

if TYPE_CHECKING:
    from mlx_finetuning.data_processor.wordings.made import MadeRow, MadeRows

SHOWN = 20
"""Rows of each kind, passed and not, that a terminal shows; `--json` has all."""
NAME = click.argument("name", metavar="NAME")
MODEL = click.option(
    "--model",
    default="",
    metavar="NAME",
    help=_("作るモデル（ベースモデルの名前、GGUFファイル、ollama:名前）。省略時は規則だけで作る"),
)
ENGINE = click.option(
    "--engine",
    default="auto",
    type=click.Choice([*ENGINES_JA]),
    help=_("モデルを動かすもの。省略時はモデルの名前で決める"),
)
ADDRESS = click.option(
    "--address",
    default="",
    metavar="URL",
    help=_(
        "OpenAI互換のサーバーの住所。データがそこに送られる。鍵は環境変数 MLX_FINETUNING_API_KEY"
    ),
)
NEW_NAME = click.option(
    "--name",
    "new_name",
    default="",
    metavar="NEW",
    help=_("検査に通った行を足した、新しいデータセットの名前。省略時は見るだけ"),
)
NO_RULES = click.option("--no-rules", is_flag=True, help=_("規則では作らず、モデルだけで作る"))
SEED = click.option("--seed", default=0, metavar="N", help=_("乱数の種。同じなら同じ結果"))
RESUME = click.option(
    "--resume",
    default="",
    metavar="JOB",
    help=_("止まった作業の続きから始める（名前は始めたときに表示）"),
)


@dataclass(frozen=True)
class Options:
    """What both commands take."""

    name: str
    generator: GeneratorChoice
    new_name: str
    rules: bool
    seed: int
    resume: str


def _options(body: Callable[..., CommandResult]) -> Callable[..., CommandResult]:
    """Hands the common options over as one."""

    @functools.wraps(body)
    def run(
        session: Session,
        name: str,
        model: str,
        engine: str,
        address: str,
        new_name: str,
        no_rules: bool,
        seed: int,
        resume: str,
        **own: object,
    ) -> CommandResult:
        choice = GeneratorChoice(model, engine, address)
        return body(session, Options(name, choice, new_name, not no_rules, seed, resume), **own)

    for option in (RESUME, SEED, NO_RULES, NEW_NAME, ADDRESS, ENGINE, MODEL, NAME):
        run = option(run)
    return run


def add_commands(data: click.Group) -> None:
    """Put both into the group."""

    @command(data)
    @_options
    @click.option("--kinds", metavar="KINDS", help=_("言い換え方（コンマ区切り）。省略時は全て"))
    @click.option("--per-kind", default=1, metavar="N", help=_("1つの質問の、言い換え方ごとの数"))
    @click.option(
        "--check", is_flag=True, help=_("元の答えを見せたモデルが、同じに答えるかも確かめる")
    )
    def reword(
        session: Session, options: Options, kinds: str | None, per_kind: int, check: bool
    ) -> CommandResult:
        """質問の別の聞き方（丁寧、くだけた、キーワード、誤字など）を作る

        名前や数が変わっていないか、答えが入っていないかなどを検査し、通らなかったものは理由と一緒に
        示します。元の質問と同じ組になるので、学習とテストに分かれて混ざることはありません。
        """
        from mlx_finetuning.data_processor.wordings.kinds import KINDS_JA
        from mlx_finetuning.data_processor.wordings.made import RewordConfig

        settings = RewordConfig(
            options.name,
            tuple(kinds.split(",")) if kinds else tuple(KINDS_JA),
            per_kind,
            options.rules,
            options.generator,
            check,
            options.seed,
        )
        return _made(session, options, lambda: session.studio.wordings.reword(settings))

    @command(data)
    @_options
    @click.option(
        "--share",
        default=0.3,
        metavar="SHARE",
        help=_(
            "断る質問の割合（足した後の全体に対して）。大きいほどよく断り、教えていない聞き方まで断ることも増える"
        ),
    )
    @click.option(
        "--refusal",
        default="",
        metavar="SENTENCE",
        help=_("断る文。省略時はデータの口調に合わせる"),
    )
    def refuse(session: Session, options: Options, share: float, refusal: str) -> CommandResult:
        """データに答えのない、よく似た質問と、断る答え（わかりません）を作る

        ほかの項目、ほかのもの、ほかの年を聞く質問です。データの行が答えているものは除きます。
        4分の1は教えず、評価で、知らないことを断るかを調べるのに使います。
        """
        from mlx_finetuning.data_processor.wordings.made import RefuseConfig

        settings = RefuseConfig(
            options.name, share, refusal, options.rules, options.generator, options.seed
        )
        return _made(session, options, lambda: session.studio.wordings.refuse(settings))


def _made(
    session: Session, options: Options, start: Callable[[], JobHandle[MadeRows]]
) -> CommandResult:
    wordings = session.studio.wordings
    with session.progress() as progress:
        if options.resume:
            handle = wordings.resume(options.resume)
        else:
            if warning := wordings.leaves_machine(options.generator):
                click.echo(_("[注意] {warning}").format(warning=warning), err=True)
            handle = start()
        job = handle.paths.folder.name
        click.echo(
            _("作業 {job}（止まったら --resume {job} で続けられます）").format(job=job), err=True
        )
        made = handle.follow(progress)
        data: dict[str, object] = {"job": job, **as_dict(made)}
        lines = [_shown(made.rows)]
        if options.new_name:
            summary = wordings.add(made, made.passed, options.new_name, progress)
            data["dataset"] = as_dict(summary)
            counts = summary.counts
            lines.append(
                _(
                    "データセット {name} を作りました（教える行 {train}、検証 {valid}、テスト {test}）。"
                ).format(
                    name=summary.name,
                    train=counts["train"],
                    valid=counts["valid"],
                    test=counts["test"],
                )
            )
    return CommandResult(data, "\n\n".join(lines))


def _shown(rows: Sequence[MadeRow]) -> str:
    passed = [row for row in rows if not row.problems]
    failed = [row for row in rows if row.problems]
    kinds = Counter(row.kind_ja for row in passed)
    lines = [
        _("作った行 {made}、検査に通った行 {passed}（{kinds}）").format(
            made=len(rows),
            passed=len(passed),
            kinds=_("、").join(f"{kind} {count}" for kind, count in kinds.items()),
        ),
        text.table(
            (_("元の行"), _("種類"), _("質問")),
            [(str(row.row), row.kind_ja, row.question) for row in passed[:SHOWN]],
        ),
    ]
    if len(passed) > SHOWN:
        lines.append(_("ほか {rows} 行（--json で全て）").format(rows=len(passed) - SHOWN))
    if failed:
        lines += [
            _("検査に通らなかった行 {rows}").format(rows=len(failed)),
            text.table(
                (_("元の行"), _("種類"), _("質問"), _("理由")),
                [
                    (str(row.row), row.kind_ja, row.question, _("。").join(row.problems))
                    for row in failed[:SHOWN]
                ],
            ),
        ]
    return "\n".join(lines)
