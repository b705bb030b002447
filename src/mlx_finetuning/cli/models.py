"""`models list|show|download|delete`: base models."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import CommandResult, Session, command, group
from mlx_finetuning.models.wording_ja import FIT_JA, reach_ja, twin_ja

if TYPE_CHECKING:
    from mlx_finetuning.models import CatalogueEntry, InstalledModel

models = group("models", "ベースモデルの一覧・ダウンロード・削除")

NAME = click.argument("name", metavar="MODEL")
FOUND_HEADING = (
    *("このマシンで見つかったGGUF", "置いているもの", "大きさ"),
    *("種類", "量子化", "学習"),
)


@command(models, "list")
def list_(session: Session) -> CommandResult:
    """使えるモデルと、おすすめのモデルを表示する"""
    installed, catalogue = session.studio.models.list(), session.studio.models.catalogue()
    found = session.studio.models.found()
    data = {
        "installed": [dataclasses.asdict(model) for model in installed],
        "found": [dataclasses.asdict(file) for file in found],
        "catalogue": [_facts(session, entry) for entry in catalogue],
    }
    rows = (
        [model.name, text.size(model.size), "内蔵" if model.built_in else str(model.path)]
        for model in installed
    )
    usable = text.table(["使えるモデル", "大きさ", "場所"], rows)
    parts = [usable]
    if found:
        cells = (
            (
                *(file.name, file.source, text.size(file.size) if file.size else ""),
                *(file.family, file.quant, file.refusal or "できる"),
            )
            for file in found
        )
        parts.append(text.table(FOUND_HEADING, cells))
    parts.append(_recommended(session, catalogue))
    return CommandResult(data, "\n\n".join(parts))


@command(models)
@NAME
def show(session: Session, name: str) -> CommandResult:
    """モデルの大きさ、要るメモリー、書き出せる先、得意なこととライセンスを表示する"""
    entry, here = session.studio.models.show(name)
    data = {
        "installed": dataclasses.asdict(here) if here else None,
        "catalogue": _facts(session, entry) if entry else None,
    }
    return CommandResult(data, text.pairs(_described(session, name, entry, here)))


@command(models)
@NAME
def download(session: Session, name: str) -> CommandResult:
    """Hugging Faceからモデルをダウンロードする（途中からの再開もできる）"""
    with session.progress() as progress:
        downloaded = session.studio.models.download(name).follow(progress)
    return CommandResult(dataclasses.asdict(downloaded), f"ダウンロードしました: {downloaded.path}")


@command(models)
@NAME
def delete(session: Session, name: str) -> CommandResult:
    """ダウンロードしたモデルを消す（学習したアダプターは残る。元に戻せない）"""
    session.studio.models.delete(name)
    return CommandResult({"deleted": name}, f"{name} を消しました。もう一度ダウンロードできます。")


def _recommended(session: Session, entries: tuple[CatalogueEntry, ...]) -> str:
    heading = ["大きさ", "学習のメモリー", "このマシン", "書き出せる先", "ライセンス", ""]
    rows = []
    for title, members in itertools.groupby(entries, lambda entry: entry.group):
        rows.append([f"【{title}】", *heading])
        rows += [
            [
                entry.name,
                f"{entry.size_gb:g} GB",
                f"{entry.memory_gb:g} GB",
                FIT_JA[session.studio.models.fit(entry)],
                reach_ja(session.studio.models.reach(entry)),
                entry.licence,
                "申請が必要" if entry.gated else "",
            ]
            for entry in members
        ]
    ending = "詳しくは: mlx-finetuning models show モデル"
    return f"{text.table(['おすすめのモデル', *[''] * len(heading)], rows)}\n\n{ending}"


def _facts(session: Session, entry: CatalogueEntry) -> dict[str, object]:
    return {
        **dataclasses.asdict(entry),
        "reach": session.studio.models.reach(entry),
        "fit": session.studio.models.fit(entry),
    }


def _described(
    session: Session, name: str, entry: CatalogueEntry | None, here: InstalledModel | None
) -> Iterator[tuple[str, object]]:
    if entry:
        is_twin = name.lower() != entry.name.lower()
        fit = session.studio.models.fit(entry)
        memory_gb = entry.mlx_4bit.memory_gb if is_twin and entry.mlx_4bit else entry.memory_gb
        consent = f"huggingface.co/{entry.name} で同意し、環境変数 HF_TOKEN を設定してください"
        yield "モデル", f"{name}（{entry.title} の4ビット版）" if is_twin else name
        yield "パラメータ", entry.parameters
        yield "ダウンロード", "" if is_twin else f"{entry.size_gb:g} GB"
        yield "学習のメモリー", f"{memory_gb:g} GB から（rank 16、1例ずつ）"
        yield "このマシン", FIT_JA["fits" if is_twin and fit == "fits_4bit" else fit]
        yield "書き出せる先", reach_ja(session.studio.models.reach(entry))
        yield "得意なこと", entry.strong
        yield "苦手なこと", entry.weak
        yield "ライセンス", f"{entry.licence}（配布元で確かめてください）"
        yield "配布元の同意", consent if entry.gated and not is_twin else ""
        yield "4ビット版", "" if is_twin else twin_ja(entry)
    else:
        yield "モデル", name
    yield "場所", here.path if here else ""
    yield "ディスク上の大きさ", text.size(here.size) if here else ""
