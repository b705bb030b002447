"""`models list|download|build|delete`: base models."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from mlx_finetuning import config
from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import Answer, Session, command, group

if TYPE_CHECKING:
    from mlx_finetuning.models import CatalogueEntry, InstalledModel

models = group("models", "ベースモデルの一覧・ダウンロード・作成・削除")

NAME = click.argument("name", metavar="MODEL")


@command(models, "list")
def list_(session: Session) -> Answer:
    """使えるモデルと、おすすめのモデルを表示する"""
    installed, catalogue = session.studio.models(), session.studio.catalogue()
    data = {
        "installed": [dataclasses.asdict(model) for model in installed],
        "catalogue": [dataclasses.asdict(entry) for entry in catalogue],
    }
    return Answer(data, f"{_installed(installed)}\n\n{_recommended(catalogue)}")


@command(models)
@NAME
def download(session: Session, name: str) -> Answer:
    """Hugging Faceからモデルをダウンロードする（途中からの再開もできる）"""
    with session.progress() as progress:
        path = session.studio.download_model(name, progress)
    return Answer({"name": name, "path": str(path)}, f"ダウンロードしました: {path}")


@command(models)
@NAME
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="設定を1つ変える")
def build(session: Session, name: str, assignments: tuple[str, ...]) -> Answer:
    """内蔵モデル tiny-ja をはじめから作り直す（CPUでは1日ほどかかる）"""
    settings = config.parse_assignments(list(assignments))
    with session.progress() as progress:
        result = session.studio.build_model(name, settings, progress)
    return Answer({"name": name, **result}, text.record(result))


@command(models)
@NAME
def delete(session: Session, name: str) -> Answer:
    """ダウンロードしたモデルを消す（学習したアダプタは残る。元に戻せない）"""
    session.studio.delete_model(name)
    return Answer({"deleted": name}, f"{name} を消しました。もう一度ダウンロードできます。")


def _installed(found: list[InstalledModel]) -> str:
    rows = (
        [model.name, text.size(model.size), "内蔵" if model.built_in else str(model.path)]
        for model in found
    )
    return text.table(["使えるモデル", "大きさ", "場所"], rows)


def _recommended(entries: tuple[CatalogueEntry, ...]) -> str:
    rows = (
        [
            entry.name,
            f"{entry.size_gb:g} GB",
            f"{entry.memory_gb:g} GB",
            entry.licence,
            "申請が必要" if entry.gated else "",
        ]
        for entry in entries
    )
    return text.table(["おすすめのモデル", "大きさ", "必要なメモリー", "ライセンス", ""], rows)
