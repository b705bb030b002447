"""Tells trackers of a run while it trains, from a process of its own that reads the run's metrics.

    python -m mlx_finetuning.experiment_tracker.records.tracking WORKSPACE RUN_ID NAME…

Training itself does nothing for it: libraries that take seconds to import, write to databases or hang
cost it no time. The process ends when its standard input does; a line there says that the run failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.experiment_tracker.records import content, trackers
from mlx_finetuning.experiment_tracker.records.content import RunRecords, Scalars
from mlx_finetuning.experiment_tracker.records.trackers import TRACKERS, Tracker
from mlx_finetuning.files import JsonObject
from mlx_finetuning.utils import processes
from mlx_finetuning.workspace import Workspace

LOOK_S = 2.0
LAST_S = 300.0
"""For what is left to be written when a run ends."""
FAILED = b"failed\n"
NICER = 10


@dataclass(frozen=True)
class Told:
    """`tracked.json`: the updates up to which trackers know a run's metrics."""

    trained: int = -1
    validated: int = -1


@contextlib.contextmanager
def tracked(
    workspace: Workspace, run_id: str, names: Sequence[str], warn: Callable[[str], None]
) -> Iterator[None]:
    """Inside, the run's metrics go to these trackers, too. What goes wrong there is told to `warn`, and
    ends no training. Raises TrackerNotInstalled at once."""
    trackers.require_installed(names)
    if not names:
        yield
        return
    module = "mlx_finetuning.experiment_tracker.records.tracking"
    command = [sys.executable, "-m", module, str(workspace.root), run_id, *names]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.stderr)
    assert process.stdin is not None
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            process.stdin.write(FAILED)
        raise
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        processes.end(process, LAST_S)
        if process.returncode:
            titles = "、".join(TRACKERS[name].title for name in names)
            warn(f"{titles} への記録が、途中で失敗しました。学習には影響ありません。")


def main(arguments: Sequence[str]) -> None:
    """Follow a run's metrics until standard input ends."""
    os.nice(NICER)
    root, run_id, *names = arguments
    workspace = Workspace(Path(root))
    paths = workspace.run(run_id)
    told = Told()
    with contextlib.suppress(FileNotFoundError):
        told = files.read_record(paths.tracked, Told)
    records = content.content(workspace, run_id)
    resumed = told != Told()
    opened = [
        trackers.open_tracker(name, records, workspace.tracking / name, resumed=resumed)
        for name in names
    ]
    words, offset = None, 0
    while words is None:
        ready, _, _ = select.select([sys.stdin.buffer], [], [], LOOK_S)
        words = sys.stdin.buffer.read() if ready else None
        lines, offset = _new_lines(paths.metrics, offset)
        told = _tell(opened, records, lines, told)
        files.write_json(paths.tracked, asdict(told))
    for tracker in opened:
        tracker.finish(failed=words == FAILED)


def _new_lines(path: Path, offset: int) -> tuple[list[JsonObject], int]:
    """Whole lines behind `offset`, and where they end; all of them, if the log was cut since."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return [], 0
    with path.open("rb") as stream:
        stream.seek(offset if size >= offset else 0)
        start, text = stream.tell(), stream.read()
    end = text.rfind(b"\n") + 1
    return [json.loads(line) for line in text[:end].splitlines()], start + end


def _tell(
    opened: Sequence[Tracker], records: RunRecords, lines: Sequence[JsonObject], told: Told
) -> Told:
    """Hand on which of these lines go beyond what was told; what is told then."""
    fresh: list[Scalars] = []
    trained, validated = told.trained, told.validated
    for line in lines:
        update, is_valid = line.get("update"), "valid_loss" in line
        # A run that goes on writes lines anew that it had written before.
        if isinstance(update, int) and update > (told.validated if is_valid else told.trained):
            fresh += records.scalars([line])
            trained = trained if is_valid else update
            validated = update if is_valid else validated
    if fresh:
        for tracker in opened:
            tracker.log(fresh)
    return Told(trained, validated)


if __name__ == "__main__":
    main(sys.argv[1:])
