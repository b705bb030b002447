"""Base models of a workspace: find one by name, download, list, delete.

Names come from users and files and are never joined to paths unchecked. A download grows in a
hidden folder beside its final place and appears there in one rename, whole and checked.
"""

from __future__ import annotations

import contextlib
import datetime
import difflib
import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import (
    DownloadRunning,
    ModelBuiltIn,
    ModelIncomplete,
    ModelNotDownloaded,
    ModelNotFound,
    ModelRefused,
    NewerSchema,
    NotEnoughSpace,
    RecordDamaged,
)
from mlx_finetuning.files import ASSETS
from mlx_finetuning.models import hub
from mlx_finetuning.models.entries import CatalogueEntry, catalogue, find
from mlx_finetuning.models.folder import check_configuration, check_folder
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.workspace import NAME, Workspace

BUILT_IN = "tiny-ja"
SOURCE = "source.json"
_BUILT_IN_FOLDER = ASSETS / BUILT_IN
_SPARE_BYTES = 500_000_000
"""Free space that a download leaves for everything else."""


@dataclass(frozen=True)
class InstalledModel:
    """A base model that needs no download. `name` is what `--model` takes."""

    name: str
    path: Path
    size: int
    """Bytes."""
    repo_id: str | None
    """Where it was downloaded from."""
    built_in: bool


def resolve(name: str, workspace: Workspace) -> Path:
    """The checked folder of `name`: built-in, a local folder, or a downloaded model.

    Raises ModelNotFound, ModelNotDownloaded and the refusals of `check_folder`.
    """
    path = _located(name, workspace)
    if path is not None:
        return check_folder(path)
    if hub.REPO_ID.fullmatch(name):
        entry = find(name)
        is_known = entry is not None and entry.name.lower() == name.lower()
        size = f"約{entry.size_gb:g} GB" if entry and is_known else "不明"
        raise ModelNotDownloaded(repo_id=name, size=size)
    raise ModelNotFound(name=_printable(name), near=_near(name, workspace))


def installed(workspace: Workspace) -> list[InstalledModel]:
    """All models that can be used now, by name; damaged folders are listed too."""
    found = [_described(folder) for folder in _folders(workspace)]
    if all(model.name != BUILT_IN for model in found) and _BUILT_IN_FOLDER.is_dir():
        found.append(_described(_BUILT_IN_FOLDER))
    return sorted(found, key=lambda model: (not model.built_in, model.name))


def search(name: str, workspace: Workspace) -> tuple[CatalogueEntry | None, InstalledModel | None]:
    """What the catalogue says of `name`, and what is here.

    Raises ModelNotFound if neither knows it, ModelIncomplete for a folder without a model.
    """
    entry, path = find(name), _located(name, workspace)
    if entry is None and path is None:
        raise ModelNotFound(name=_printable(name), near=_near(name, workspace))
    if path is not None and not (path / "config.json").is_file():
        check_folder(path)  # says what is missing
    return entry, None if path is None else _described(path)


def delete(name: str, workspace: Workspace) -> None:
    """Remove a downloaded or built model from the workspace. Raises ModelNotFound, ModelBuiltIn."""
    folder = _downloaded(name, workspace)
    if folder is None:
        if name == BUILT_IN:
            raise ModelBuiltIn(name=name)
        raise ModelNotFound(name=_printable(name), near=_near(name, workspace))
    files.remove_folder(folder)


def download(repo_id: str, workspace: Workspace, progress: Progress) -> Path:
    """Fetch a hub model into the workspace, or continue a download that broke off.

    A model that is already there is returned as it is. Raises ModelNotFound, ModelGated,
    HubUnreachable, HubTokenRejected, DownloadCut, DownloadDamaged, DownloadRunning,
    NotEnoughSpace and the refusals of `check_folder`.
    """
    if not hub.REPO_ID.fullmatch(repo_id):
        raise ModelNotFound(name=_printable(repo_id), near=_near(repo_id, workspace))
    present = _downloaded(repo_id, workspace)
    if present is not None:
        return check_folder(present)
    try:
        remote = hub.describe(repo_id)
    except ModelNotFound as error:
        raise ModelNotFound(name=repo_id, near=_near(repo_id, workspace)) from error
    target = workspace.base_model(_free_slug(repo_id, workspace))
    with _only_download(repo_id, workspace.logs / f"download-{target.name}.lock"):
        return _fetch_all(remote, target, progress)


def _fetch_all(remote: hub.RemoteModel, target: Path, progress: Progress) -> Path:
    growing = _growing_folder(target, remote.commit)
    done = sum(_size_of(growing, file) for file in remote.files)
    _require_space(growing, remote.size - done)
    if not any(file.name.endswith(".safetensors") for file in remote.files):
        raise ModelIncomplete(path=remote.repo_id, missing=["*.safetensors"])
    try:
        _fetch_missing(remote, growing, progress)
        check_folder(growing)
    except ModelRefused:
        shutil.rmtree(growing)
        raise
    files.write_json(growing / SOURCE, _source(remote))
    growing.rename(target)
    return target


def _fetch_missing(remote: hub.RemoteModel, growing: Path, progress: Progress) -> None:
    done = 0
    judged = False
    for file in remote.files:
        if file.name.endswith(".safetensors") and not judged:
            check_configuration(growing)
            judged = True
        if not (growing / file.name).is_file():

            def received(size: int, before: int = done, name: str = file.name) -> None:
                progress(Step("ダウンロード", before + size, remote.size, name))

            hub.fetch(remote, file, growing, received)
        done += file.size
        progress(Step("ダウンロード", done, remote.size, file.name))


def _growing_folder(target: Path, commit: str) -> Path:
    """The hidden folder of a download; parts of another commit are of no use and go."""
    growing = target.with_name(f".download-{target.name}-{commit[:12]}")
    for other in target.parent.glob(f".download-{target.name}-*"):
        if other.is_dir() and other != growing:
            shutil.rmtree(other)
    return files.make_folder(growing)


def _size_of(folder: Path, file: hub.RemoteFile) -> int:
    for path in (folder / file.name, folder / f"{file.name}.part"):
        if path.is_file():
            return path.stat().st_size
    return 0


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + _SPARE_BYTES > free:
        raise NotEnoughSpace(
            path=str(folder.parent),
            needed_gb=round((needed + _SPARE_BYTES) / 1e9, 1),
            available_gb=round(free / 1e9, 1),
        )


@contextlib.contextmanager
def _only_download(repo_id: str, lock_file: Path) -> Iterator[None]:
    lock = files.FileLock(lock_file)
    if not lock.acquire():
        raise DownloadRunning(repo_id=repo_id)
    try:
        yield
    finally:
        lock.release()


def _source(remote: hub.RemoteModel) -> dict[str, object]:
    return {
        "repo_id": remote.repo_id,
        "commit": remote.commit,
        "downloaded_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "files": [
            {"name": file.name, "size": file.size, "sha256": file.sha256} for file in remote.files
        ],
    }


def _located(name: str, workspace: Workspace) -> Path | None:
    rebuilt = workspace.base_model(BUILT_IN)
    if name == BUILT_IN:
        return rebuilt if rebuilt.is_dir() else _BUILT_IN_FOLDER
    return _local_folder(name) or _downloaded(name, workspace)


def _local_folder(name: str) -> Path | None:
    """A folder meant by its path: written like one, or holding a model."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        path = Path(name).expanduser()
        if name.startswith((".", "/", "~")) and path.is_dir():
            return path.resolve()
        if name and (path / "config.json").is_file():
            return path.resolve()
    return None


def _downloaded(name: str, workspace: Workspace) -> Path | None:
    """A folder of `models/base/`, by its own name or by the hub id it came from."""
    for folder in _folders(workspace):
        repo_id = _repo_id(folder)
        if name == folder.name or (repo_id and name.lower() == repo_id.lower()):
            return folder
    return None


def _folders(workspace: Workspace) -> list[Path]:
    if not workspace.base_models.is_dir():
        return []
    return sorted(
        folder
        for folder in workspace.base_models.iterdir()
        if NAME.fullmatch(folder.name) and folder.is_dir()
    )


def _repo_id(folder: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError, RecordDamaged, NewerSchema):
        value = files.read_json(folder / SOURCE).get("repo_id")
        return value if isinstance(value, str) else None
    return None


def _described(folder: Path) -> InstalledModel:
    repo_id = _repo_id(folder)
    return InstalledModel(
        name=repo_id or folder.name,
        path=folder,
        size=sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
        repo_id=repo_id,
        built_in=folder.name == BUILT_IN,
    )


def _free_slug(repo_id: str, workspace: Workspace) -> str:
    """A folder name for `repo_id`; a hash tells apart ids that would share one."""
    slug = re.sub(r"[^a-z0-9]+", "-", repo_id.lower()).strip("-")
    if len(slug) <= 64 and not workspace.base_model(slug).exists():
        return slug
    return f"{slug[:55]}-{hashlib.sha256(repo_id.encode()).hexdigest()[:8]}"


def _near(name: str, workspace: Workspace) -> list[str]:
    """Names that may have been meant: similar ones first, else what is installed."""
    here = [model.name for model in installed(workspace)]
    known = {item.lower(): item for item in [*here, *(entry.name for entry in catalogue())]}
    for item in list(known.values()):
        known.setdefault(item.rsplit("/", 1)[-1].lower(), item)
    found = difflib.get_close_matches(name.lower()[:200], known, n=3, cutoff=0.5)
    return list(dict.fromkeys(known[item] for item in found)) or here


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in name[:100])
