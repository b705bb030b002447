"""`data reword` and `data refuse`: rows made of a dataset's own, shown with what speaks against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.config import as_dict
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
    help="作るモデル（ベースモデルの名前、GGUFファイル、ollama:名前）。省略時は規則だけで作る",
)
ENGINE = click.option(
    "--engine",
    default="auto",
    type=click.Choice([*ENGINES_JA]),
    help="モデルを動かすもの。省略時はモデルの名前で決める",
)
ADDRESS = click.option(
    "--address",
    default="",
    metavar="URL",
    help="OpenAI互換のサーバーの住所。データがそこに送られる。鍵は環境変数 MLX_FINETUNING_API_KEY",
)
NEW_NAME = click.option(
    "--name",
    "new_name",
    default="",
    metavar="NEW",
    help="検査に通った行を足した、新しいデータセットの名前。省略時は見るだけ",
)
NO_RULES = click.option("--no-rules", is_flag=True, help="規則では作らず、モデルだけで作る")
SEED = click.option("--seed", default=0, metavar="N", help="乱数の種。同じなら同じ結果")
RESUME = click.option(
    "--resume", metavar="JOB", help="止まった作業の続きから始める（名前は始めたときに表示）"
)


def _options(body: Callable[..., CommandResult]) -> Callable[..., CommandResult]:
    for option in (RESUME, SEED, NO_RULES, NEW_NAME, ADDRESS, ENGINE, MODEL, NAME):
        body = option(body)
    return body


def add_commands(data: click.Group) -> None:
    """Put both into the group."""

    @command(data)
    @_options
    @click.option("--kinds", metavar="KINDS", help="言い換え方（コンマ区切り）。省略時は全て")
    @click.option("--per-kind", default=1, metavar="N", help="1つの質問の、言い換え方ごとの数")
    @click.option(
        "--check", is_flag=True, help="元の答えを見せたモデルが、同じに答えるかも確かめる"
    )
    def reword(
        session: Session, name: str, kinds: str | None, per_kind: int, check: bool, **given: Any
    ) -> CommandResult:
        """質問の別の聞き方（丁寧、くだけた、キーワード、誤字など）を作る

        名前や数が変わっていないか、答えが入っていないかなどを検査し、通らなかったものは理由と一緒に
        示します。元の質問と同じ組になるので、学習とテストに分かれて混ざることはありません。
        """
        from mlx_finetuning.data_processor.wordings.made import RewordConfig

        chosen = {"kinds": tuple(kinds.split(","))} if kinds else {}
        settings = RewordConfig(name, per_kind=per_kind, check=check, **chosen, **_common(given))
        return _made(session, given, lambda: session.studio.wordings.reword(settings))

    @command(data)
    @_options
    @click.option(
        "--share", default=0.2, metavar="SHARE", help="断る質問の割合（足した後の全体に対して）"
    )
    @click.option(
        "--refusal", default="", metavar="TEXT", help="断る文。省略時はデータの口調に合わせる"
    )
    def refuse(
        session: Session, name: str, share: float, refusal: str, **given: Any
    ) -> CommandResult:
        """データに答えのない、よく似た質問と、断る答え（わかりません）を作る

        ほかの項目、ほかのもの、ほかの年を聞く質問です。データの行が答えているものは除きます。
        4分の1は教えず、評価で、知らないことを断るかを調べるのに使います。
        """
        from mlx_finetuning.data_processor.wordings.made import RefuseConfig

        settings = RefuseConfig(name, share=share, refusal=refusal, **_common(given))
        return _made(session, given, lambda: session.studio.wordings.refuse(settings))


def _common(given: dict[str, Any]) -> dict[str, Any]:
    choice = GeneratorChoice(given["model"], given["engine"], given["address"])
    return {"rules": not given["no_rules"], "seed": given["seed"], "generator": choice}


def _made(
    session: Session, given: dict[str, Any], start: Callable[[], JobHandle[MadeRows]]
) -> CommandResult:
    wordings = session.studio.wordings
    choice = GeneratorChoice(given["model"], given["engine"], given["address"])
    with session.progress() as progress:
        if given["resume"]:
            handle = wordings.resume(given["resume"])
        else:
            if warning := wordings.leaves_machine(choice):
                click.echo(f"[注意] {warning}", err=True)
            handle = start()
        job = handle.paths.folder.name
        click.echo(f"作業 {job}（止まったら --resume {job} で続けられます）", err=True)
        made = handle.follow(progress)
        data: dict[str, object] = {"job": job, **as_dict(made)}
        lines = [_shown(made.rows)]
        if given["new_name"]:
            summary = wordings.add(made, made.passed, given["new_name"], progress)
            data["dataset"] = as_dict(summary)
            counts = summary.counts
            lines.append(
                f"データセット {summary.name} を作りました（教える行 {counts['train']}、"
                f"検証 {counts['valid']}、テスト {counts['test']}）。"
            )
    return CommandResult(data, "\n\n".join(lines))


def _shown(rows: Sequence[MadeRow]) -> str:
    passed = [row for row in rows if not row.problems]
    failed = [row for row in rows if row.problems]
    kinds = Counter(row.kind_ja for row in passed)
    lines = [
        f"作った行 {len(rows)}、検査に通った行 {len(passed)}"
        f"（{'、'.join(f'{kind} {count}' for kind, count in kinds.items())}）",
        text.table(
            ("元の行", "種類", "質問"),
            [(str(row.row), row.kind_ja, row.question) for row in passed[:SHOWN]],
        ),
    ]
    if len(passed) > SHOWN:
        lines.append(f"ほか {len(passed) - SHOWN} 行（--json で全て）")
    if failed:
        lines += [
            f"検査に通らなかった行 {len(failed)}",
            text.table(
                ("元の行", "種類", "質問", "理由"),
                [
                    (str(row.row), row.kind_ja, row.question, "。".join(row.problems))
                    for row in failed[:SHOWN]
                ],
            ),
        ]
    return "\n".join(lines)
