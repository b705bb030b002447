"""`data inspect|prepare`: source files and datasets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import Answer, Session, command, group
from mlx_finetuning.config import HOLD_OUT, PrepareConfig

if TYPE_CHECKING:
    from mlx_finetuning.data_processor import DatasetSummary, Inspection
    from mlx_finetuning.data_processor.findings import Finding

KINDS = {"chat": "質問と回答（会話）", "text": "文章", "preference": "好みの比較"}
SEVERITIES = {"error": "使えない", "warning": "注意", "info": "参考"}
SHOWN_ROWS = 10

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
    return Answer(dataclasses.asdict(found), _described(found))


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
    return Answer(dataclasses.asdict(summary), _written(summary))


def _described(found: Inspection) -> str:
    kind = KINDS.get(found.kind or "", "学習に使えない形")
    facts = text.pairs(
        [
            ("ファイル", f"{found.path}（{found.format}、{text.size(found.size_bytes)}）"),
            ("文字コード", f"{found.encoding}（{found.encoding_reason}）"),
            ("種類", kind),
            ("行", f"{found.source_rows}（使える行 {found.usable_rows}）"),
            ("列", "、".join(found.columns)),
            *(
                (f"  {choice.role}", f"{choice.column}（{choice.reason}）")
                for choice in found.mapping
            ),
        ]
    )
    return "\n".join([facts, *_findings(found.findings)])


def _written(summary: DatasetSummary) -> str:
    counts = summary.counts
    facts = text.pairs(
        [
            ("データセット", f"{summary.name}（{summary.folder}）"),
            ("種類", KINDS.get(summary.kind, summary.kind)),
            ("行", f"{summary.source_rows} 行のうち {summary.usable_rows} 行を使用"),
            ("学習・検証・テスト", f"{counts['train']}・{counts['valid']}・{counts['test']} 行"),
            ("列の役割", "、".join(f"{role}={name}" for role, name in summary.mapping.items())),
        ]
    )
    return "\n".join([facts, *_findings(summary.findings)])


def _findings(found: Iterable[Finding]) -> list[str]:
    lines: list[str] = []
    for item in found:
        rows = "、".join(str(row) for row in item.rows[:SHOWN_ROWS])
        more = " ほか" if len(item.rows) > SHOWN_ROWS else ""
        where = f"（行 {rows}{more}）" if rows else ""
        lines.append(f"[{SEVERITIES[item.severity]}] {item.message}{where}")
        lines += [f"    → {item.fix}"] if item.fix else []
    return lines
