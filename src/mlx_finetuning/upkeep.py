"""The workspace's disk use, and cleaning what can be made again or is of no more use.

Nothing that a run, a dataset or a model needs is ever offered. Knows only names and ages of files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import StudioError
from mlx_finetuning.language import N_, _
from mlx_finetuning.workspace import Workspace

_HOUR_S = 3600.0
_DAY_S = 24 * _HOUR_S


@dataclass(frozen=True)
class Usage:
    """How much one part of the workspace takes."""

    name: str
    """Japanese."""
    path: Path
    size: int
    """Bytes on disk."""


@dataclass(frozen=True)
class Waste:
    """One kind of things that may go."""

    key: str
    name: str
    explanation: str
    """For people: what is lost with them."""
    paths: tuple[Path, ...]
    size: int


def disk_usage(workspace: Workspace) -> list[Usage]:
    """The parts of the workspace, whether they exist or not."""
    root = workspace.root
    parts = {
        _("データセット", "page"): workspace.datasets,
        _("アップロードしたファイル"): workspace.uploads,
        _("実験の記録"): workspace.experiments,
        _("ベースモデル"): workspace.base_models,
        _("学習したアダプター"): root / "models" / "finetuned",
        _("書き出したモデル"): root / "models" / "gguf",
        _("元のモデルの答え"): workspace.base_grades,
        _("ゴミ箱"): workspace.trash,
        _("ログ"): workspace.logs,
    }
    return [Usage(name, path, size_of(path)) for name, path in parts.items()]


def find_waste(workspace: Workspace) -> list[Waste]:
    """What may go, by kind; kinds of which there is nothing are left out."""
    waste = []
    for key, (name, explanation, find) in _KINDS.items():
        paths = tuple(sorted(find(workspace)))
        if paths:
            waste.append(Waste(key, _(name), _(explanation), paths, sum(map(size_of, paths))))
    return waste


def clean(workspace: Workspace, key: str) -> int:
    """Remove one kind of waste as it is found now; returns the bytes given back."""
    removed = 0
    for path in (
        path for waste in find_waste(workspace) if waste.key == key for path in waste.paths
    ):
        size = size_of(path)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        removed += size - (size_of(path) if path.exists() else 0)
    return removed


def size_of(path: Path) -> int:
    """Bytes of a file or of all files below a folder; links count as nothing."""
    if path.is_symlink() or not path.is_dir():
        return _file_size(path)
    return sum(
        _file_size(Path(folder, name)) for folder, __, names in os.walk(path) for name in names
    )


def _file_size(path: Path) -> int:
    with contextlib.suppress(OSError):
        entry = path.lstat()
        return 0 if path.is_symlink() else entry.st_blocks * 512
    return 0


def _is_older(path: Path, age_s: float) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - path.lstat().st_mtime > age_s
    return False


def _checkpoints(workspace: Workspace) -> Iterator[Path]:
    """Of runs that are done: their adapter is written, and they are not resumed."""
    for folder in (workspace.root / "models" / "finetuned").glob("*/checkpoints"):
        with contextlib.suppress(StudioError, OSError):
            status = workspace.experiments / folder.parent.name / "status.json"
            if files.read_json(status).get("state") == "done":
                yield folder


def _unused_uploads(workspace: Workspace) -> Iterator[Path]:
    # Those in the trash count too: they may come back.
    deleted = workspace.deleted_datasets.glob("*/*/dataset.json")
    manifests = (*workspace.datasets.glob("*/dataset.json"), *deleted)
    try:
        used = {
            Path(str(source["path"]))
            for manifest in manifests
            for source in files.read_json(manifest).get("sources", ())
        }
    except (StudioError, OSError, KeyError, TypeError):
        return  # a dataset that cannot be read may need any of them
    for folder in workspace.uploads.glob("*/"):
        kept = [*folder.iterdir()]  # a file with the edits of it, which may be younger
        if not used & {*kept} and all(_is_older(path, _DAY_S) for path in kept):
            yield from kept


_KINDS: dict[str, tuple[str, str, Callable[[Workspace], Iterator[Path]]]] = {
    "trash": (
        N_("ゴミ箱の実験"),
        N_("削除した実験の、記録・学習したアダプター・書き出したモデルです。"),
        lambda workspace: (
            path for path in workspace.trash.glob("*/") if path != workspace.deleted_datasets
        ),
    ),
    "deleted_datasets": (
        N_("ゴミ箱のデータセット"),
        N_("削除したデータセットです。元のファイルはそのままです。"),
        lambda workspace: iter(workspace.deleted_datasets.glob("*/")),
    ),
    "checkpoints": (
        N_("完了した学習の途中保存"),
        N_("学習の結果（アダプター）は残ります。途中からやり直すことはできなくなります。"),
        _checkpoints,
    ),
    "uploads": (
        N_("使っていないアップロード"),
        N_(
            "どのデータセットにも使われていない、1日以上前のファイルです。手元の元のファイルはそのままです。"
        ),
        _unused_uploads,
    ),
    "downloads": (
        N_("途中で止まったダウンロード"),
        N_("1日以上進んでいないものです。もう一度ダウンロードすると、最初からになります。"),
        lambda workspace: (
            path for path in workspace.base_models.glob(".download-*") if _is_older(path, _DAY_S)
        ),
    ),
    "jobs": (
        N_("終わった確認作業の記録"),
        N_("1日以上前の、トークンの確認やダウンロードなどの記録です。"),
        lambda workspace: (  # without a run: previews and builds, of which only the record is left
            folder
            for folder in workspace.jobs.glob("*")
            if _is_older(folder, _DAY_S) and not files.is_locked(folder / "worker.lock")
        ),
    ),
    "base_grades": (
        N_("元のモデルの答え"),
        N_("学習の成果を調べたときの記録です。次に調べるとき、元のモデルにもう一度質問します。"),
        lambda workspace: iter(workspace.base_grades.glob("*.json")),
    ),
    "temporaries": (
        N_("書きかけのファイル"),
        N_("強制終了などで残った、使われないファイルです。"),
        lambda workspace: (  # of killed processes; a living writer's are younger than an hour
            path
            for folder in (workspace.datasets, workspace.experiments, workspace.root / "models")
            for path in folder.rglob(f"{files.TEMPORARY_PREFIX}*")
            if _is_older(path, _HOUR_S)
        ),
    ),
}
