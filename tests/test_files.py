"""Files that survive: truncation, full disks, killed writers, two readers at once."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import pytest

from mlx_finetuning import files
from mlx_finetuning.errors import DiskFull, NewerSchema, RecordDamaged
from support.helpers import file_size_limit, wait_until


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    files.write_json(path, {"name": "日本語", "count": 3})
    assert files.read_json(path) == {"schema_version": 1, "name": "日本語", "count": 3}
    assert "日本語" in path.read_text(encoding="utf-8")


def test_truncation_at_any_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    files.write_json(path, {"state": "実行中", "error": None})
    content = path.read_bytes()
    for length in range(len(content.rstrip())):
        path.write_bytes(content[:length])
        with pytest.raises(RecordDamaged):
            files.read_json(path)


@pytest.mark.parametrize(
    "content", [b"[1]", b'"text"', b"\xff\xfe", b'{"schema_version": "1"}', b"[" * 100_000]
)
def test_foreign_content_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(RecordDamaged):
        files.read_json(path)


def test_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"schema_version": 2}')
    with pytest.raises(NewerSchema) as caught:
        files.read_json(path)
    assert caught.value.data["found"] == 2
    assert path.read_text() == '{"schema_version": 2}'


@dataclass(frozen=True)
class Part:
    name: str
    share: float | None = None


@dataclass(frozen=True)
class Whole:
    count: int
    parts: tuple[Part, ...] = ()
    by_name: Mapping[str, Part] = field(default_factory=dict)


def test_record_becomes_nested_dataclasses(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    whole = Whole(2, (Part("a", 0.5), Part("b")), {"c": Part("c", 1.0)})
    files.write_json(path, asdict(whole))
    assert files.read_record(path, Whole) == whole


def test_record_of_another_version_gets_defaults_and_may_say_more(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    files.write_json(path, {"count": 1, "parts": [{"name": "a", "later": 3}], "later": {}})
    assert files.read_record(path, Whole) == Whole(1, (Part("a"),))


@pytest.mark.parametrize("value", [{}, {"count": "many"}, {"count": 1, "parts": [{}]}, [], None])
def test_record_of_another_shape_is_damaged(tmp_path: Path, value: object) -> None:
    with pytest.raises(RecordDamaged):
        files.decode(value, Whole, tmp_path / "record.json")


def test_lines_of_another_shape_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"name": "a"}\n{"name": 3}\n[]\n{"name": "b"}\n{"name": "half', "utf-8")
    assert list(files.read_records(path, Part)) == [Part("a"), Part("b")]


def test_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    files.write_json(path, {"kept": True})
    with pytest.raises(ValueError, match="stop"), files.replacing(path) as stream:
        stream.write(b"half")
        raise ValueError("stop")
    assert files.read_json(path)["kept"] is True
    assert list(tmp_path.iterdir()) == [path]


def test_file_size_limit_is_disk_full_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DiskFull), file_size_limit(64):
        files.write_json(tmp_path / "record.json", {"text": "x" * 200})
    assert list(tmp_path.iterdir()) == []


def test_log_line_cut_by_a_size_limit_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with files.LineLog(path) as log:
        log.append({"update": 1, "text": "x" * 20})
        with pytest.raises(DiskFull), file_size_limit(64):
            log.append({"update": 2, "text": "x" * 20})
    assert [line["update"] for line in files.read_lines(path)] == [1]
    assert path.read_bytes().endswith(b"\n")


def test_full_device_is_disk_full() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(DiskFull), files.disk_errors(Path("/dev/full")):
        Path("/dev/full").write_bytes(b"x" * 10_000)


def test_half_a_last_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"update": 1}\nnot json\n[]\n{"update": 2}\n{"update": 3')
    assert [line["update"] for line in files.read_lines(path)] == [1, 2]


def test_reopened_log_drops_half_a_last_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"update": 1}\n{"upd')
    with files.LineLog(path) as log:
        log.append({"update": 2})
    assert [json.loads(line)["update"] for line in path.read_text().splitlines()] == [1, 2]


def test_missing_log_has_no_lines(tmp_path: Path) -> None:
    assert list(files.read_lines(tmp_path / "none.jsonl")) == []


def test_new_folders_and_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "record.json"
    files.write_json(path, {})
    modes = [oct(place.stat().st_mode & 0o777) for place in (path, path.parent, tmp_path / "a")]
    assert modes == ["0o600", "0o700", "0o700"]


HOLDER = """
import sys, time
from pathlib import Path
from mlx_finetuning.files import FileLock
assert FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_lock_frees_itself_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not files.is_locked(path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert files.is_locked(path)
    assert not files.FileLock(path).acquire()
    holder.kill()
    holder.wait()
    assert not files.is_locked(path)


def test_looking_at_a_lock_does_not_look_like_holding_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = files.FileLock(path)
    lock.acquire()
    lock.release()
    looking = os.open(path, os.O_RDONLY)
    try:
        import fcntl

        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not files.is_locked(path)
    finally:
        os.close(looking)


WRITER = """
import sys
from pathlib import Path
from mlx_finetuning import files
number = 0
while True:
    number += 1
    files.write_json(Path(sys.argv[1]), {"number": number, "text": "x" * 5000})
"""


def test_killed_writer_never_leaves_a_torn_file(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for delay_ms in (3, 11, 17, 29):
        path.unlink(missing_ok=True)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        wait_until(path.exists)
        time.sleep(delay_ms / 1000)
        writer.kill()
        writer.wait()
        assert len(files.read_json(path)["text"]) == 5000


def test_only_old_temporary_files_are_swept(tmp_path: Path) -> None:
    old, fresh, other = (tmp_path / name for name in (".tmp-old", ".tmp-fresh", "data"))
    folder, link = tmp_path / ".tmp-folder", tmp_path / "sub" / ".tmp-link"
    for path in (old, fresh, other, folder / "inside"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    link.parent.mkdir()
    link.symlink_to(other)
    for path in (old, other, folder, link):
        os.utime(path, (0, 0), follow_symlinks=False)
    assert files.sweep_temporaries(tmp_path) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp-fresh", "data", "sub"]


KILLED_BETWEEN_RENAMES = """
import os, signal, sys
from pathlib import Path
from mlx_finetuning import files
def rename(self, target, renamed=Path.rename):
    renamed(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename = rename
with files.replacing_folder(Path(sys.argv[1])) as folder:
    (folder / "new").write_text("new")
"""


@pytest.mark.parametrize("how", ["swept", "replaced"])
def test_folder_moved_aside_by_a_killed_writer_comes_back(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "old").write_text("old")
    command = [sys.executable, "-c", KILLED_BETWEEN_RENAMES, str(folder)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not folder.exists()
    if how == "swept":
        files.sweep_temporaries(tmp_path)
    else:
        with pytest.raises(ZeroDivisionError), files.replacing_folder(folder):
            raise ZeroDivisionError
    assert (folder / "old").read_text() == "old"


def killed_at(step: int, act: Callable[[], None]) -> bool:
    """`act` in a process that is killed at its `step`th call that touches files; False if it had
    fewer."""
    child = os.fork()
    if child == 0:
        steps = itertools.count()

        def kill(event: str, arguments: object) -> None:
            if event.startswith(("os.", "open", "tempfile.")) and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill)
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def write_content(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in "ab":
        (folder / name).write_text(text)


def replace_content(folder: Path) -> None:
    with files.replacing_folder(folder) as draft:
        write_content(draft, "new")


@pytest.mark.parametrize(
    ("act", "after"), [(replace_content, "new"), (files.remove_folder, "nothing")]
)
def test_kill_at_any_step_leaves_a_folder_whole_or_gone(
    tmp_path: Path, act: Callable[[Path], None], after: str
) -> None:
    folder, seen = tmp_path / "0000001", set()
    for step in itertools.count():
        write_content(folder, "old")
        was_killed = killed_at(step, partial(act, folder))
        files.sweep_temporaries(tmp_path, older_than_s=-1)
        assert not list(tmp_path.glob(".*")), step
        found = [path.read_text() for path in sorted(folder.glob("*"))]
        assert found in (["old"] * 2, ["new"] * 2, []), step
        seen.add(found[0] if found else "nothing")
        if not was_killed:
            break
    assert step > 5 and seen == {"old", after}


@pytest.mark.parametrize("line", [b"9" * 5000, b"[" * 100_000, b"\xff", b"1"])
def test_line_that_is_no_record_is_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(line + b'\n{"a": 1}\n')
    assert list(files.read_lines(path)) == [{"a": 1}]


def test_record_of_a_newer_version_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"schema_version": 99}')
    with pytest.raises(NewerSchema):
        files.write_json(path, {"a": 1})
    assert path.read_text() == '{"schema_version": 99}'
