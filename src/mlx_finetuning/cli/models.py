"""`models list|show|download|delete`: base models."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from mlx_finetuning.cli import text
from mlx_finetuning.cli.session import CommandResult, Session, command, group
from mlx_finetuning.language import _
from mlx_finetuning.models.wording_ja import FIT_JA, reach_ja, twin_ja

if TYPE_CHECKING:
    from mlx_finetuning.models import CatalogueEntry, FoundFile, InstalledModel

models = group("models", _("ベースモデルの一覧・ダウンロード・削除"))

NAME = click.argument("name", metavar="MODEL")
FOUND_HEADING = (
    *(_("このマシンで見つかったGGUF"), _("置いているもの"), _("大きさ")),
    *(_("種類"), _("量子化の種類"), _("学習", "possible")),
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
        [model.name, text.size(model.size), _("内蔵") if model.built_in else str(model.path)]
        for model in installed
    )
    usable = text.table([_("使えるモデル"), _("大きさ"), _("場所")], rows)
    parts = [usable]
    if found:
        cells = (
            (
                *(file.name, file.source, text.size(file.size) if file.size else ""),
                *(file.family, file.quant, file.refusal or _("できる", "training")),
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
    file = session.studio.models.file(name)
    if file is not None:
        return CommandResult({"found": dataclasses.asdict(file)}, text.pairs(_of_file(file)))
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
    return CommandResult(
        dataclasses.asdict(downloaded),
        _("ダウンロードしました: {path}").format(path=downloaded.path),
    )


@command(models)
@NAME
def delete(session: Session, name: str) -> CommandResult:
    """ダウンロードしたモデルを消す（学習したアダプターは残る。元に戻せない）"""
    session.studio.models.delete(name)
    return CommandResult(
        {"deleted": name},
        _("{name} を消しました。もう一度ダウンロードできます。").format(name=name),
    )


def _recommended(session: Session, entries: tuple[CatalogueEntry, ...]) -> str:
    heading = [
        _("大きさ"),
        _("学習のメモリー"),
        _("このマシン"),
        _("書き出せる先"),
        _("ライセンス"),
        "",
    ]
    rows = []
    for title, members in itertools.groupby(entries, lambda entry: entry.group):
        rows.append([_("【{title}】").format(title=_(title)), *heading])
        rows += [
            [
                entry.name,
                f"{entry.size_gb:g} GB",
                f"{entry.memory_gb:g} GB",
                _(FIT_JA[session.studio.models.fit(entry)]),
                reach_ja(session.studio.models.reach(entry)),
                _(entry.licence),
                _("申請が必要") if entry.gated else "",
            ]
            for entry in members
        ]
    ending = _("詳しくは: mlx-finetuning models show モデル")
    table = text.table([_("おすすめのモデル"), *[""] * len(heading)], rows)
    return f"{table}\n\n{ending}"


def _facts(session: Session, entry: CatalogueEntry) -> dict[str, object]:
    return {
        **dataclasses.asdict(entry),
        "reach": session.studio.models.reach(entry),
        "fit": session.studio.models.fit(entry),
    }


def _of_file(file: FoundFile) -> list[tuple[str, object]]:
    name = shlex.quote(file.name)
    return [
        (_("モデル", "one"), file.name),
        (_("場所"), file.path),
        (_("ディスク上の大きさ"), text.size(file.size) if file.size else ""),
        (_("種類"), file.family),
        (_("量子化の種類"), file.quant),
        (
            _("学習", "possible"),
            file.refusal
            or _(
                "できる（コピーせず、ファイルも変えない）: mlx-finetuning train --model {name}"
            ).format(name=name),
        ),
    ]


def _described(
    session: Session, name: str, entry: CatalogueEntry | None, here: InstalledModel | None
) -> Iterator[tuple[str, object]]:
    if entry:
        is_twin = name.lower() != entry.name.lower()
        fit = session.studio.models.fit(entry)
        memory_gb = entry.mlx_4bit.memory_gb if is_twin and entry.mlx_4bit else entry.memory_gb
        consent = _("huggingface.co/{name} で同意し、環境変数 HF_TOKEN を設定してください").format(
            name=entry.name
        )
        yield (
            _("モデル", "one"),
            _("{name}（{title} の4ビット版）").format(name=name, title=_(entry.title))
            if is_twin
            else name,
        )
        yield _("パラメータ"), _(entry.parameters)
        yield _("ダウンロード", "size"), "" if is_twin else f"{entry.size_gb:g} GB"
        yield (
            _("学習のメモリー"),
            _("{memory:g} GB から（rank 16、1例ずつ）").format(memory=memory_gb),
        )
        yield _("このマシン"), _(FIT_JA["fits" if is_twin and fit == "fits_4bit" else fit])
        yield _("書き出せる先"), reach_ja(session.studio.models.reach(entry))
        yield _("得意なこと"), _(entry.strong)
        yield _("苦手なこと"), _(entry.weak)
        yield (
            _("ライセンス"),
            _("{licence}（配布元で確かめてください）").format(licence=_(entry.licence)),
        )
        yield _("配布元の同意"), consent if entry.gated and not is_twin else ""
        yield _("4ビット版"), "" if is_twin else twin_ja(entry)
    else:
        yield _("モデル", "one"), name
    yield _("場所"), here.path if here else ""
    yield _("ディスク上の大きさ"), text.size(here.size) if here else ""
