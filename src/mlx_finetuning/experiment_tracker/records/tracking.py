"""Tells trackers of a run while it trains, from a process of its own that reads the run's metrics.

    python -m mlx_finetuning.experiment_tracker.records.tracking WORKSPACE RUN_ID NAME…

Training itself does nothing for it: libraries that take seconds to import, write to databases or hang
cost it no time. The process ends when its standard input does; a line there says that the run failed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.experiment_tracker.records import content, trackers
from mlx_finetuning.experiment_tracker.records.content import RunRecords, Scalars
from mlx_finetuning.experiment_tracker.records.trackers import TRACKERS
from mlx_finetuning.language import _
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

    def lacks(self, point: Scalars) -> bool:
        """Whether it is new; a run that goes on writes lines anew that it had written before."""
        return point.step > (self.validated if "valid_loss" in point.values else self.trained)

    def beside(self, point: Scalars) -> Told:
        """With this point told, too."""
        is_valid = "valid_loss" in point.values
        return replace(self, **{"validated" if is_valid else "trained": point.step})


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
    command = [sys.executable, "-P", "-m", module, str(workspace.root), run_id, *names]
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
            titles = _("、").join(TRACKERS[name].title for name in names)
            warn(
                _("{titles} への記録が、途中で失敗しました。学習には影響ありません。").format(
                    titles=titles
                )
            )


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
        ready, __, __ = select.select([sys.stdin.buffer], [], [], LOOK_S)
        words = sys.stdin.buffer.read() if ready else None
        points, offset = _new_points(records, paths.metrics, offset)
        points = [point for point in points if told.lacks(point)]
        if points:
            for tracker in opened:
                tracker.log(points)
            told = functools.reduce(Told.beside, points, told)
            files.write_json(paths.tracked, asdict(told))
    for tracker in opened:
        tracker.finish(failed=words == FAILED)


def _new_points(records: RunRecords, path: Path, offset: int) -> tuple[list[Scalars], int]:
    """Of whole lines behind `offset`, and where those end; of all lines, if the log was cut since."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return [], 0
    with path.open("rb") as stream:
        stream.seek(offset if size >= offset else 0)
        start, text = stream.tell(), stream.read()
    end = text.rfind(b"\n") + 1
    return list(records.scalars(map(json.loads, text[:end].splitlines()))), start + end


if __name__ == "__main__":
    main(sys.argv[1:])
