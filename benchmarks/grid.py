"""Runs of a benchmark, several at a time, each in a process of its own: a line of JSON each, then a table
of all. One that breaks does not end the others.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Measured = TypeVar("Measured", bound="DataclassInstance")


def parser(document: str) -> argparse.ArgumentParser:
    """With what every grid asks: a folder of workspaces, a model, seeds, and how many runs at a time."""
    made = argparse.ArgumentParser(description=document.splitlines()[0])
    made.add_argument("folder", type=Path)
    made.add_argument("--model", default="tiny-ja")
    made.add_argument("--seeds", type=int, nargs="+", default=[42])
    made.add_argument("--jobs", type=int, default=1)
    return made


def measure(
    run: Callable[..., Measured],
    calls: Iterable[tuple[Any, ...]],
    jobs: int,
    lines: Callable[[list[Measured]], Iterator[str]],
) -> None:
    """Call `run` with each of `calls`; lines: the table. Exits with 1 where one of them failed."""
    found, failed = [], 0
    for one in _ended(run, calls, jobs):
        if isinstance(one, str):
            failed += 1
            print(one, file=sys.stderr, flush=True)
            continue
        found.append(one)
        print(json.dumps(asdict(one), ensure_ascii=False), flush=True)
    print("\n".join(lines(found)), flush=True)
    if failed:
        sys.exit(f"{failed} runs failed and are not in the table")


def _ended(
    run: Callable[..., Measured], calls: Iterable[tuple[Any, ...]], jobs: int
) -> Iterator[Measured | str]:
    """Each call as it ends, or why it failed; one at a time in this process."""
    if jobs == 1:
        yield from (_outcome(run, call) for call in calls)
        return
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=fresh, max_tasks_per_child=1) as pool:
        yield from (
            one.result()
            for one in as_completed([pool.submit(_outcome, run, call) for call in calls])
        )


def _outcome(run: Callable[..., Measured], call: tuple[Any, ...]) -> Measured | str:
    """Errors as text: not all of ours can be sent from process to process."""
    try:
        return run(*call)
    except Exception as error:
        return repr(error)
