"""Runs of a benchmark, several at a time: a line of JSON each, then a table of all. One that breaks does
not end the others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
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
        try:
            found.append(one.result())
        except Exception as error:
            failed += 1
            print(repr(error), file=sys.stderr, flush=True)
            continue
        print(json.dumps(asdict(found[-1]), ensure_ascii=False), flush=True)
    print("\n".join(lines(found)), flush=True)
    if failed:
        sys.exit(f"{failed} runs failed and are not in the table")


def _ended(
    run: Callable[..., Measured], calls: Iterable[tuple[Any, ...]], jobs: int
) -> Iterator[Future[Measured]]:
    """Each call as it ends; one at a time in the main thread, where MLX may be used."""
    if jobs > 1:
        with ThreadPoolExecutor(jobs) as pool:
            yield from as_completed([pool.submit(run, *call) for call in calls])
        return
    for call in calls:
        one: Future[Measured] = Future()
        try:
            one.set_result(run(*call))
        except Exception as error:
            one.set_exception(error)
        yield one
