"""`data inspect|prepare`: source files and datasets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import Answer, Session, command, group
from mlx_finetuning.config import HOLD_OUT, PrepareConfig

data = group("data", "データの確認と、データセットの作成")

FILE = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
ENCODING = click.option("--encoding", metavar="NAME", help="文字コード。省略時は自動判定")
MAPPING = click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="ROLE=COLUMN",
    help="列の役割を指定する（何度でも）。例: --map question=質問",
)


@command(data)
@FILE
@ENCODING
@MAPPING
def inspect(session: Session, file: Path, encoding: str | None, mapping: tuple[str, ...]) -> Answer:
    """ファイルの文字コード・形式・列・気になる行を調べる（何も書かない）"""
    columns = config.parse_assignments(list(mapping))
    found = session.studio.inspect_data(file, encoding or "auto", columns or None)
    record = dataclasses.asdict(found)
    return Answer(record, text.record(record))


@command(data)
@FILE
@click.option("--name", required=True, metavar="NAME", help="データセットの名前")
@ENCODING
@MAPPING
@click.option("--hold-out", type=click.Choice(HOLD_OUT), help="検証・テスト行の選び方")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="設定を1つ変える")
@click.option("--replace", is_flag=True, help="同じ名前のデータセットを置き換える")
def prepare(
    session: Session,
    file: Path,
    name: str,
    mapping: tuple[str, ...],
    assignments: tuple[str, ...],
    replace: bool,
    **named: str | None,
) -> Answer:
    """行を整えて確かめ、学習・検証・テストに分けてデータセットを作る"""
    values = config.parse_assignments(list(assignments))
    values |= {key: value for key, value in named.items() if value is not None}
    columns = config.parse_assignments(list(mapping))
    with session.progress() as progress:
        summary = session.studio.prepare_data(
            file,
            name,
            config.load(PrepareConfig, values),
            columns or None,
            replace=replace,
            progress=progress,
        )
    record = dataclasses.asdict(summary)
    return Answer(record, text.record(record))
