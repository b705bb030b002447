"""Work on many items in threads, whose results come in the items' order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from mlx_finetuning.utils import cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def results(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """`work` of each item; a few are done ahead of who takes them."""
    ahead: deque[Future[Result]] = deque()
    for item in items:
        ahead.append(pool.submit(work, item))
        if len(ahead) > 2 * cores.usable():
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()
