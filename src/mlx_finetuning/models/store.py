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
from mlx_finetuning.language import _
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
    path = _find_folder(name, workspace)
    if path is not None:
        return check_folder(path)
    if hub.REPO_ID.fullmatch(name):
        entry = find(name)
        is_known = entry is not None and entry.name.lower() == name.lower()
        size = _("約{size:g} GB").format(size=entry.size_gb) if entry and is_known else _("不明")
        raise ModelNotDownloaded(repo_id=name, size=size)
    raise ModelNotFound(name=_printable(name), near=_near(name, workspace))


def installed(workspace: Workspace) -> list[InstalledModel]:
    """All models that can be used now, by name; damaged folders are listed too."""
    models = [_described(folder) for folder in _folders(workspace)]
    if all(model.name != BUILT_IN for model in models) and _BUILT_IN_FOLDER.is_dir():
        models.append(_described(_BUILT_IN_FOLDER))
    return sorted(models, key=lambda model: (not model.built_in, model.name))


def search(name: str, workspace: Workspace) -> tuple[CatalogueEntry | None, InstalledModel | None]:
    """What the catalogue says of `name`, and what is here.

    Raises ModelNotFound if neither knows it, ModelIncomplete for a folder without a model.
    """
    entry, path = find(name), _find_folder(name, workspace)
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
    slug = re.sub(r"[^a-z0-9]+", "-", repo_id.lower()).strip("-")
    if len(slug) > 64 or workspace.base_model(slug).exists():
        # A hash tells apart ids that would share a name.
        slug = f"{slug[:55]}-{hashlib.sha256(repo_id.encode()).hexdigest()[:8]}"
    target = workspace.base_model(slug)
    lock = files.FileLock(workspace.logs / f"download-{target.name}.lock")
    if not lock.acquire():
        raise DownloadRunning(repo_id=repo_id)
    try:
        return _fetch_all(remote, target, progress)
    finally:
        lock.release()


def _fetch_all(remote: hub.RemoteModel, target: Path, progress: Progress) -> Path:
    """Fetch into a hidden folder that becomes `target` once it is whole and checked."""
    partial = target.with_name(f".download-{target.name}-{remote.commit[:12]}")
    for other in target.parent.glob(f".download-{target.name}-*"):
        if other.is_dir() and other != partial:
            shutil.rmtree(other)  # parts of another commit are of no use
    files.make_folder(partial)
    _require_space(remote, partial)
    if not any(file.name.endswith(".safetensors") for file in remote.files):
        raise ModelIncomplete(path=remote.repo_id, missing=["*.safetensors"])
    try:
        _fetch_missing(remote, partial, progress)
        check_folder(partial)
    except ModelRefused:
        shutil.rmtree(partial)
        raise
    source = {
        "repo_id": remote.repo_id,
        "commit": remote.commit,
        "downloaded_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "files": [
            {"name": file.name, "size": file.size, "sha256": file.sha256} for file in remote.files
        ],
    }
    files.write_json(partial / SOURCE, source)
    partial.rename(target)
    return target


def _fetch_missing(remote: hub.RemoteModel, folder: Path, progress: Progress) -> None:
    done = 0
    is_judged = False
    for file in remote.files:
        if file.name.endswith(".safetensors") and not is_judged:
            check_configuration(folder)
            is_judged = True
        if not (folder / file.name).is_file():

            def received(size: int, before: int = done, name: str = file.name) -> None:
                progress(Step(_("ダウンロード"), before + size, remote.size, name))

            hub.fetch(remote, file, folder, received)
        done += file.size
        progress(Step(_("ダウンロード"), done, remote.size, file.name))


def _require_space(remote: hub.RemoteModel, folder: Path) -> None:
    """Raises NotEnoughSpace, unless what is missing in the folder fits on its disk."""
    needed = remote.size + _SPARE_BYTES
    for file in remote.files:
        for path in (folder / file.name, folder / f"{file.name}.part"):
            if path.is_file():
                needed -= path.stat().st_size
                break
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NotEnoughSpace(
            path=str(folder.parent),
            needed_gb=round(needed / 1e9, 1),
            available_gb=round(free / 1e9, 1),
        )


def _find_folder(name: str, workspace: Workspace) -> Path | None:
    """The folder of the built-in model, of a path that looks like one or holds a model, or of a
    downloaded model."""
    if name == BUILT_IN:
        rebuilt = workspace.base_model(BUILT_IN)
        return rebuilt if rebuilt.is_dir() else _BUILT_IN_FOLDER
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        path = Path(name).expanduser()
        if name.startswith((".", "/", "~")) and path.is_dir():
            return path.resolve()
        if name and (path / "config.json").is_file():
            return path.resolve()
    return _downloaded(name, workspace)


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


def _near(name: str, workspace: Workspace) -> list[str]:
    """Names that may have been meant: similar ones first, else what is installed."""
    here = [model.name for model in installed(workspace)]
    names = {each.lower(): each for each in [*here, *(entry.name for entry in catalogue())]}
    for each in list(names.values()):
        names.setdefault(each.rsplit("/", 1)[-1].lower(), each)
    matches = difflib.get_close_matches(name.lower()[:200], names, n=3, cutoff=0.5)
    return list(dict.fromkeys(names[match] for match in matches)) or here


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in name[:100])
