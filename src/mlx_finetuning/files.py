"""Files that survive a crash: whole files replaced atomically, logs appended a line per write.

Readers accept half a last line; locks are the operating system's and free themselves however
their holder dies. Knows nothing of what the files mean.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from mlx_finetuning.errors import DiskFull, NewerSchema, RecordDamaged

if TYPE_CHECKING:
    from pydantic import TypeAdapter

JsonObject = dict[str, Any]
"""A JSON object with others' keys (`config.json` of a model, an answer of Ollama), or not decoded yet."""
Record = TypeVar("Record")

ASSETS = Path(__file__).resolve().parent / "assets"
"""What ships with the package."""
SCHEMA_VERSION = 1
TEMPORARY_PREFIX = ".tmp-"
FORMER_PREFIX = ".former-"
"""Begins the name of a folder that waits aside while another takes its place."""
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


def sync(descriptor: int) -> None:
    """Flush a file to the drive itself; macOS's fsync stops at the drive's cache."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> Path:
    """Create `folder` and its missing parents, private to the user."""
    # mkdir(parents=True) would give the parents the default mode.
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with disk_errors(folder):
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn 'no space', 'too large' and 'quota' into `DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(path=str(path)) from error
        raise


@contextlib.contextmanager
def replacing_path(path: Path) -> Iterator[Path]:
    """A temporary path, with `path`'s suffix, that takes the place of `path` when the block ends
    well, and only then.

    Temp file in the same folder, fsync, rename, folder fsync. On any exception the temp file is
    removed and `path` stays as it was. Raises DiskFull.
    """
    make_folder(path.parent)
    with disk_errors(path):
        descriptor, name = tempfile.mkstemp(
            prefix=TEMPORARY_PREFIX, suffix=path.suffix, dir=path.parent
        )
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as stream:
                sync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `path` when the block ends well, and only then.

    Its files must be synced by whoever writes them. Raises DiskFull.
    """
    make_folder(path.parent)
    former = path.with_name(f"{FORMER_PREFIX}{path.name}")
    _put_back(former)
    with disk_errors(path):
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
        try:
            yield temporary
            if path.exists():
                path.rename(former)
            temporary.rename(path)
            _sync_folder(path.parent)
            shutil.rmtree(former, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            _put_back(former)
            raise


def _put_back(former: Path) -> None:
    """Undo what a kill between two renames left: a folder is never without its old or new self."""
    path = former.with_name(former.name.removeprefix(FORMER_PREFIX))
    if former.is_dir() and path.exists():
        shutil.rmtree(former, ignore_errors=True)
    elif former.is_dir():
        former.rename(path)


def remove_folder(path: Path) -> None:
    """Remove a folder; whoever is killed over it leaves it whole or gone, and a rest to sweep."""
    doomed = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Like `replacing_path`, for writers that want an open binary file."""
    with replacing_path(path) as temporary, temporary.open("wb") as stream:
        yield stream


def write_text(path: Path, text: str) -> None:
    with replacing(path) as stream:
        stream.write(text.encode("utf-8"))


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Replace `path` by `value` with `schema_version`; keys keep their order.

    Raises NewerSchema rather than replace a record that a newer version wrote.
    """
    with contextlib.suppress(FileNotFoundError, RecordDamaged):
        read_json(path)
    record = {"schema_version": SCHEMA_VERSION, **value}
    write_text(path, json.dumps(record, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> JsonObject:
    """A record written by `write_json`. Raises FileNotFoundError, RecordDamaged, NewerSchema."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number without end
        raise RecordDamaged(path=str(path)) from error
    if not isinstance(value, dict):
        raise RecordDamaged(path=str(path))
    found = value.get("schema_version", SCHEMA_VERSION)
    if not isinstance(found, int):
        raise RecordDamaged(path=str(path))
    if found > SCHEMA_VERSION:
        raise NewerSchema(path=str(path), found=found, supported=SCHEMA_VERSION)
    return value


def read_record(path: Path, kind: type[Record]) -> Record:
    """`read_json` as the dataclass `kind`. Raises FileNotFoundError, RecordDamaged, NewerSchema."""
    return decode(read_json(path), kind, path)


def decode(value: object, kind: type[Record], path: Path) -> Record:
    """JSON read from `path` as the dataclass `kind`, nested ones and all: a missing key takes its
    field's default, unknown ones are passed over. Raises RecordDamaged."""
    from pydantic import ValidationError

    try:
        record: Record = _adapter(kind).validate_python(value)  # type: ignore[arg-type] # hashable
    except ValidationError as error:
        raise RecordDamaged(path=str(path)) from error
    return record


@functools.cache
def _adapter(kind: type[Record]) -> TypeAdapter[Record]:
    from pydantic import TypeAdapter  # loads in 60 ms, which most commands need not wait for

    return TypeAdapter(kind)


class LineLog:
    """Appends JSON lines, one write each, to a file with a single writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        make_folder(path.parent)
        with disk_errors(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            # A killed writer may have left half a line; the next one must not be glued to it.
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                text = os.pread(self._descriptor, size, 0)
                os.ftruncate(self._descriptor, text.rfind(b"\n") + 1)

    def append(self, value: Mapping[str, object]) -> None:
        line = json.dumps(value, ensure_ascii=False).encode("utf-8") + b"\n"
        with disk_errors(self._path):
            written = os.write(self._descriptor, line)
        if written < len(line):
            # A disk that fills up, or a size limit, cuts the line short without an error.
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise DiskFull(path=str(self._path))

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> LineLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_lines(path: Path) -> Iterator[JsonObject]:
    """The whole JSON lines of a log; damaged lines and half a last line are passed over."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                return
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


def read_records(path: Path, kind: type[Record]) -> Iterator[Record]:
    """The lines of a log that can be read as `kind`, by `decode`; the others are passed over."""
    for line in read_lines(path):
        with contextlib.suppress(RecordDamaged):
            yield decode(line, kind, path)


def read_tail(path: Path, size: int) -> str:
    """The last whole lines of a text file, at most `size` bytes; empty where there is no file."""
    try:
        with path.open("rb") as stream:
            length = stream.seek(0, os.SEEK_END)
            stream.seek(max(length - size, 0))
            text = stream.read()
    except FileNotFoundError:
        return ""
    if length > size:
        text = text.partition(b"\n")[2]
    return text.decode("utf-8", errors="replace")


def cut_lines(path: Path, belongs: Callable[[JsonObject], bool]) -> None:
    """Shorten a log to its leading lines that belong; nothing happens where there is none."""
    if not path.exists():
        return
    kept = 0
    with path.open("rb+") as stream:
        for line in stream:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not (line.endswith(b"\n") and isinstance(value, dict) and belongs(value)):
                break
            kept += len(line)
        stream.truncate(kept)
        sync(stream.fileno())


class FileLock:
    """An exclusive `flock`. Held until `release` or until every process with the descriptor ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock now or return False; never waits."""
        make_folder(self.path.parent)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self.descriptor = descriptor
        return True

    def adopt(self, descriptor: int) -> None:
        """Take over a locked descriptor inherited from the process that started this one."""
        os.set_inheritable(descriptor, False)
        self.descriptor = descriptor

    def release(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """The right to rename and rewrite what lies in `folder`, by a lock of the folder itself; frees
    itself when its holder dies, and nobody holds it for long."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether some living process holds the lock at `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two processes that look at once don't take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def sweep_temporaries(folder: Path, older_than_s: float = 3600) -> int:
    """Remove temp files and folders that a killed writer left, put back folders that it had moved
    aside; returns how many were removed. For the workspace's only writer."""
    removed = 0
    for former in list(folder.rglob(f"{FORMER_PREFIX}*")):
        _put_back(former)
    for path in list(folder.rglob(f"{TEMPORARY_PREFIX}*")):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.lstat().st_mtime <= older_than_s:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed += 1
    return removed
