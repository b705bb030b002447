"""The Hugging Face hub: what a repository holds, and its files, verified and resumable; and the way there.

Listing and headers come from `huggingface_hub`; the transfer is done here because its own
downloads start over after a cut. Every file is checked against the hash the hub announced.
HF_ENDPOINT and HF_TOKEN are read from the environment at each call. The token goes into one
request header and nowhere else; redirects to other hosts drop it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_finetuning.errors import (
    DownloadCut,
    DownloadDamaged,
    HubTokenMissing,
    HubTokenRejected,
    HubUnreachable,
    ModelGated,
    ModelNotFound,
    RepositoryIsPublic,
)
from mlx_finetuning.files import disk_errors, sync
from mlx_finetuning.language import N_, _
from mlx_finetuning.progress import Progress, Step

TOKEN = "HF_TOKEN"
"""The environment's variable."""
DEFAULT_ENDPOINT = "https://huggingface.co"
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
WANTED = re.compile(
    r"(?!consolidated)[\w.-]+\.safetensors|[\w.-]+\.safetensors\.index\.json"
    r"|(generation_|tokenizer_)?config\.json|tokenizer\.(json|model)|special_tokens_map\.json"
    r"|added_tokens\.json|vocab\.(json|txt)|merges\.txt|chat_template\.(jinja|json)|LICENSE[\w.-]*",
    re.ASCII,
)
"""Top-level files that are fetched; the rest of a repository is left alone."""
TIMEOUT_S = 20.0
ATTEMPTS = 3
"""Tries in a row without a new byte before a transfer is given up."""
RETRY_PAUSE_S = 1.0
UPLOAD = N_("Hugging Face への送信")
COMMIT_MESSAGE = "Upload a model tuned with mlx-finetuning"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository."""

    name: str
    size: int
    """Bytes."""
    sha256: str | None
    """Of the content, for large files; None where the hub only knows git's hash."""
    git_sha1: str | None


@dataclass(frozen=True)
class RemoteModel:
    """A repository at one commit."""

    repo_id: str
    commit: str
    files: tuple[RemoteFile, ...]
    """Small files first: a configuration is judged before gigabytes follow."""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files)


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, else Hugging Face."""
    return os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or DEFAULT_ENDPOINT


def describe(repo_id: str) -> RemoteModel:
    """What the hub has under `repo_id` now.

    Raises HubUnreachable, HubTokenRejected, ModelGated, ModelNotFound.
    """
    import httpx2

    hub = _library()
    try:
        with _refusals(repo_id):
            api = hub.HfApi(endpoint=endpoint(), token=_token())
            info = api.model_info(repo_id, files_metadata=True, timeout=TIMEOUT_S)
            files = [
                RemoteFile(
                    name=item.rfilename,
                    size=item.size or 0,
                    sha256=item.lfs.sha256 if item.lfs else None,
                    git_sha1=item.blob_id,
                )
                for item in info.siblings
                if WANTED.fullmatch(item.rfilename)
            ]
    except (httpx2.RequestError, httpx2.InvalidURL, hub.errors.OfflineModeIsEnabled) as error:
        raise _unreachable(type(error).__name__) from error
    except (ValueError, TypeError, KeyError) as error:
        # Not the hub's JSON: a proxy's sign-in page, for one.
        raise _unreachable(_("Hugging Faceのものではない応答が返りました")) from error
    return RemoteModel(
        repo_id, str(info.sha), tuple(sorted(files, key=lambda file: (file.size, file.name)))
    )


def fetch(
    model: RemoteModel, file: RemoteFile, folder: Path, received: Callable[[int], None]
) -> None:
    """Bring one file into `folder`; `received` is told the file's bytes on disk so far.

    A `.part` file stays when the transfer breaks off and is continued by the next call.
    Raises DownloadCut, DownloadDamaged, ModelGated, HubTokenRejected, HubUnreachable, DiskFull.
    """
    import httpx2

    part = folder / f"{file.name}.part"
    tries = 0
    while (before := _size(part)) < file.size or not part.exists():
        cause: Exception | None = None
        try:
            _transfer(model, file, part, received)
        except httpx2.RequestError as error:
            cause = error  # a connection that breaks is tried again
        tries = tries + 1 if _size(part) <= before else 0
        if tries >= ATTEMPTS:
            raise DownloadCut(repo_id=model.repo_id, file=file.name) from cause
        if cause:
            time.sleep(RETRY_PAUSE_S)
    if not _has_announced_hash(part, file):
        part.unlink()
        raise DownloadDamaged(repo_id=model.repo_id, file=file.name)
    part.replace(folder / file.name)


def require_token() -> None:
    """Raises HubTokenMissing."""
    if not _token():
        raise HubTokenMissing(endpoint=endpoint())


def publish(
    repo_id: str, contents: Mapping[str, Path | bytes], progress: Progress, *, is_public: bool
) -> str:
    """Bring files into the user's repository, made if there is none; returns its address.

    contents: by their path in the repository. They appear in one commit, after the last has
    arrived. Raises HubTokenMissing, HubTokenRejected, RepositoryIsPublic, HubUnreachable,
    ModelNotFound, Interrupted.
    """
    import httpx2

    require_token()
    hub = _library()
    api = hub.HfApi(endpoint=endpoint(), token=_token())
    try:
        with _refusals(repo_id):
            api.create_repo(repo_id, private=not is_public, exist_ok=True)
            if not is_public and not api.model_info(repo_id, timeout=TIMEOUT_S).private:
                raise RepositoryIsPublic(repo_id=repo_id)
            additions = []
            for done, (name, content) in enumerate(contents.items()):
                progress(Step(_(UPLOAD), done, len(contents), name))
                addition = hub.CommitOperationAdd(name, content)
                api.preupload_lfs_files(repo_id, [addition])
                additions.append(addition)
            progress(Step(_(UPLOAD), len(contents), len(contents)))
            api.create_commit(repo_id, additions, commit_message=COMMIT_MESSAGE)
    except (httpx2.RequestError, httpx2.InvalidURL, hub.errors.OfflineModeIsEnabled) as error:
        raise _unreachable(type(error).__name__) from error
    return f"{endpoint()}/{repo_id}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _transfer(
    model: RemoteModel, file: RemoteFile, part: Path, received: Callable[[int], None]
) -> None:
    """Receive what is missing of `part` in one request."""
    hub = _library()
    url = hub.hf_hub_url(model.repo_id, file.name, revision=model.commit, endpoint=endpoint())
    start = _size(part)
    headers = hub.utils.build_hf_headers(token=_token()) | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    session = hub.utils.get_session()
    with session.stream("GET", url, headers=headers, timeout=TIMEOUT_S) as response:
        with _refusals(model.repo_id):
            hub.utils.hf_raise_for_status(response)
        # A server that ignores Range sends the whole file again.
        mode = "ab" if response.status_code == 206 else "wb"
        with disk_errors(part), part.open(mode) as stream:
            for chunk in response.iter_bytes():
                if stream.tell() + len(chunk) > file.size:
                    raise DownloadDamaged(repo_id=model.repo_id, file=file.name)
                stream.write(chunk)
                received(stream.tell())
            stream.flush()
            sync(stream.fileno())


def _has_announced_hash(path: Path, file: RemoteFile) -> bool:
    if file.sha256:
        digest, expected = hashlib.sha256(), file.sha256
    elif file.git_sha1:
        # Git hashes a header in front of the content.
        digest, expected = hashlib.sha1(b"blob %d\0" % file.size), file.git_sha1
    else:
        return path.stat().st_size == file.size
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: digest).hexdigest() == expected


def has_token() -> bool:
    """Whether the environment holds one."""
    return bool(_token())


def use_token(token: str) -> None:
    """Hold a token for this process and the workers that it starts; it is written nowhere."""
    os.environ[TOKEN] = token.strip()


def _token() -> str | bool:
    """The environment's token; False keeps the library from looking for one elsewhere."""
    return os.environ.get(TOKEN, "").strip() or False


def _library() -> Any:
    # Its telemetry asks the public hub for a list of tools, whatever HF_ENDPOINT says.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub
    import huggingface_hub.errors
    import huggingface_hub.utils

    return huggingface_hub


@contextlib.contextmanager
def _refusals(repo_id: str) -> Iterator[None]:
    """Turn the hub's answers of refusal into ours."""
    errors = _library().errors
    try:
        yield
    except errors.GatedRepoError as error:
        raise _gated(repo_id) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelNotFound(name=repo_id, near=[]) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise HubTokenRejected(endpoint=endpoint()) from error
        if status == 403:
            raise _gated(repo_id) from error
        if status == 404:
            raise ModelNotFound(name=repo_id, near=[]) from error
        raise _unreachable(f"HTTP {status}") from error


def _gated(repo_id: str) -> ModelGated:
    token_state = _("設定済み") if _token() else _("未設定")
    return ModelGated(repo_id=repo_id, page=f"{endpoint()}/{repo_id}", token_state=token_state)


def _unreachable(reason: str) -> HubUnreachable:
    return HubUnreachable(endpoint=endpoint(), reason=reason)
