"""Pre-training batches: generated conversations, tokenized and packed into rows of one length.

A stream depends on the seed alone: not on the number of processes, not on where it was resumed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recipes.tiny_ja.conversations import conversations, settling_conversations
from recipes.tiny_ja.tokenizer import PAD, ConversationEncoder, pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONVERSATIONS_PER_SHARD = 4000


@dataclass(frozen=True)
class TokenRows:
    tokens: NDArray[np.uint16]
    """[rows, length]; unused ends hold the pad token."""
    written: NDArray[np.bool_]
    """[rows, length]: the assistant wrote this token."""


def pack(encoded: list[tuple[list[int], list[bool]]], length: int) -> TokenRows:
    """Whole conversations into rows of `length` tokens, in order, a new row where one won't fit."""
    ids: list[list[int]] = [[]]
    written: list[list[bool]] = [[]]
    for tokens, spoken in encoded:
        if len(tokens) > length:
            continue
        if len(ids[-1]) + len(tokens) > length:
            ids.append([])
            written.append([])
        ids[-1] += tokens
        written[-1] += spoken
    rows = TokenRows(
        np.full((len(ids), length), PAD, np.uint16), np.zeros((len(ids), length), np.bool_)
    )
    for row, (tokens, spoken) in enumerate(zip(ids, written, strict=True)):
        rows.tokens[row, : len(tokens)] = tokens
        rows.written[row, : len(spoken)] = spoken
    return rows


def shard(tokenizer_json: str, seed: int, index: int, length: int, settling: bool) -> TokenRows:
    """The `index`-th piece of the stream of `seed`. The last, short row is dropped."""
    from tokenizers import Tokenizer

    encoder = ConversationEncoder(Tokenizer.from_str(tokenizer_json))
    number = seed * 1_000_003 + index
    if settling:
        words = pieces(encoder.tokenizer)
        made = settling_conversations(number, CONVERSATIONS_PER_SHARD, words)
    else:
        made = conversations(number, CONVERSATIONS_PER_SHARD)
    rows = pack(encoder.encode(made), length)
    return TokenRows(rows.tokens[:-1], rows.written[:-1])


def stream(
    tokenizer: Tokenizer,
    seed: int,
    rows: int,
    length: int,
    skip: int = 0,
    *,
    settling: bool = False,
) -> Generator[TokenRows, None, None]:
    """Batches of `rows` rows without end, the first `skip` left out; made in other processes."""
    left = TokenRows(np.empty((0, length), np.uint16), np.empty((0, length), np.bool_))
    for made in _shards(tokenizer.to_str(), seed, length, settling):
        piece = TokenRows(
            np.concatenate([left.tokens, made.tokens]),
            np.concatenate([left.written, made.written]),
        )
        full = len(piece.tokens) // rows * rows
        for start in range(0, full, rows):
            if skip:
                skip -= 1
                continue
            yield TokenRows(piece.tokens[start : start + rows], piece.written[start : start + rows])
        left = TokenRows(piece.tokens[full:], piece.written[full:])


def _shards(tokenizer_json: str, seed: int, length: int, settling: bool) -> Iterator[TokenRows]:
    # Spawned, because a forked child of a process that runs MLX or OpenMP threads can hang.
    workers = max(1, min(14, (os.cpu_count() or 2) - 1))
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        waiting: deque[Future[TokenRows]] = deque()
        index = 0
        try:
            while True:
                while len(waiting) < 2 * workers:
                    waiting.append(
                        pool.submit(shard, tokenizer_json, seed, index, length, settling)
                    )
                    index += 1
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers, so each watches for its end."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()
