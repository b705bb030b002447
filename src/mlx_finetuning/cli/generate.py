"""`data generate`: questions and answers from documents, by a model, each of them checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import CommandResult, Session, command
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.documents.pairs import PROBLEMS_JA
from mlx_finetuning.documents.plan import GenerateSettings
from mlx_finetuning.language import _
from mlx_finetuning.utils.text_generator import ENGINES_JA, GeneratorChoice

SHOWN = 10


@command()
@click.argument(
    "documents", metavar="DOC...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--name", metavar="NAME", required=True, help=_("データセットの名前"))
@click.option(
    "--model",
    metavar="MODEL",
    default=TrainConfig.model,
    help=_(
        "質問を作るモデル：ベースモデルの名前、GGUFファイル、ollama:名前。省略時は内蔵の tiny-ja（試すためのもの）"
    ),
)
@click.option(
    "--engine", type=click.Choice(tuple(ENGINES_JA)), default="auto", help=_("モデルの動かし方")
)
@click.option(
    "--address",
    metavar="URL",
    default="",
    help=_("OpenAI互換のサーバーの住所。文書の文章がそこへ送られる"),
)
@click.option(
    "--seed", metavar="N", type=int, default=0, help=_("乱数の種。同じなら同じ結果になる")
)
@click.option(
    "--share",
    metavar="NUMBER",
    type=click.FloatRange(0.1, 5),
    default=1.0,
    help=_("作る数の割合。2なら、いつもの2倍"),
)
@click.option(
    "--ask-model",
    "asks_model",
    is_flag=True,
    help=_("それぞれの質問を、資料を見せてと見せずにモデルに聞いて確かめる（時間は2〜3倍）"),
)
@click.option("--replace", "replaces", is_flag=True, help=_("同じ名前のものを、始めから作り直す"))
def generate(
    session: Session,
    documents: tuple[Path, ...],
    name: str,
    model: str,
    engine: str,
    address: str,
    seed: int,
    share: float,
    asks_model: bool,
    replaces: bool,
) -> CommandResult:
    """文書（PDF、Word、PowerPoint、表計算、HTML、Markdown、テキスト）から、質問と回答を作る

    作った組は全て確かめ、根拠の文・数・名前などが合うものだけを学習に使う。合わないものも、理由とともに残る。
    Ctrl-Cで、途中までを残して止まる。同じコマンドで、止まった所から続く。
    """
    settings = GenerateSettings(
        tuple(map(str, documents)), name, GeneratorChoice(model, engine, address),
        seed, share, asks_model, replaces,
    )  # fmt: skip
    with session.progress() as progress:
        made = session.studio.documents.generate(settings).follow(progress)
    found = sorted(made.found.items(), key=lambda item: -item[1])
    counts = [
        (_("作った組"), made.pairs),
        (_("学習に使う組"), made.sound),
        (_("気になる組"), made.pairs - made.sound),
        *((f"  {_(PROBLEMS_JA[code])}", count) for code, count in found),
        (_("全ての組"), made.source),
    ]
    lines = [
        text.pairs(counts),
        *(
            _("[注意] 文字のないページ（画像）: {page}").format(page=page)
            for page in made.scanned[:SHOWN]
        ),
        *(
            _("[注意] 質問を作れませんでした: {failure}").format(failure=failure)
            for failure in made.failures[:SHOWN]
        ),
        _("データセット「{name}」を作りました。直すには: data edit {name}").format(name=made.name)
        if made.dataset
        else _("学習に使える組がないため、データセットは作りませんでした。"),
    ]
    return CommandResult(dataclasses.asdict(made), "\n".join(lines))
