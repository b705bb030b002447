"""Questions of evaluation sets among the rows: training on them makes the evaluation worthless.

An evaluation question is known by its digest and by a few of its 5-grams, so that it is found
inside a longer question too. Those of JMT-Bench and ELYZA-tasks-100 come with the package, as
hashes; other sets are read from files.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.data_processor.checks.grams import chunks, hashed
from mlx_finetuning.data_processor.watching import Tick, still
from mlx_finetuning.files import ASSETS
from mlx_finetuning.utils.japanese_utils import comparison_key

SKETCH = 32
"""Grams kept of a question."""
FOUND = 0.85
"""Share of them that a row must have."""
_FEWEST = 8
"""Grams without which only the whole question counts."""
_SHARED_BY = 20
"""Questions from which a gram is no mark of any of them."""
_KNOWN = ASSETS / "evaluation_sets.json"


@dataclass(frozen=True)
class EvaluationSet:
    name: str
    digests: frozenset[str]
    """Of whole questions."""
    sketches: tuple[tuple[int, ...], ...]
    """Per question, hashes of 5-grams."""


def sketched(name: str, questions: Iterable[str]) -> EvaluationSet:
    """A set from its questions."""
    keys = sorted({key for text in questions if (key := comparison_key(text))})
    grams = [set(hashed([key])[0].tolist()) for key in keys]
    shared = Counter(gram for one in grams for gram in one)
    marks = [sorted(g for g in one if shared[g] < _SHARED_BY)[:SKETCH] for one in grams]
    sketches = tuple(tuple(one) for one in marks if len(one) >= _FEWEST)
    return EvaluationSet(name, frozenset(map(_digest, keys)), sketches)


@functools.cache
def known() -> tuple[EvaluationSet, ...]:
    """The sets that come with the package."""
    records = json.loads(_KNOWN.read_text(encoding="utf-8"))
    return tuple(
        EvaluationSet(
            record["name"],
            frozenset(record["digests"]),
            tuple(tuple(sketch) for sketch in record["sketches"]),
        )
        for record in records["sets"]
    )


def rows_of(evaluation: EvaluationSet, questions: Sequence[str], tick: Tick = still) -> list[int]:
    """Indices of the questions (comparison keys) that ask what the set asks."""
    marks = _Marks(evaluation.sketches)
    found: set[int] = set()
    for start, chunk in chunks(questions):
        tick(start, len(questions))
        found.update(start + at for at in marks.rows_in(chunk))
        found.update(
            start + at for at, key in enumerate(chunk) if _digest(key) in evaluation.digests
        )
    return sorted(found)


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


class _Marks:
    """All sketches of a set, to be looked up in many texts at once."""

    def __init__(self, sketches: Sequence[Sequence[int]]) -> None:
        self._needed = np.array([np.ceil(FOUND * len(one)) for one in sketches], np.int64)
        of_gram: defaultdict[int, list[int]] = defaultdict(list)
        for number, sketch in enumerate(sketches):
            for gram in sketch:
                of_gram[gram].append(number)
        self._of_gram = of_gram
        self._grams: NDArray[np.uint32] = np.array(sorted(of_gram), np.uint32)

    def rows_in(self, texts: Sequence[str]) -> Iterator[int]:
        """Indices of the texts that have enough marks of one question."""
        if not len(self._grams):
            return
        hashes, owners = hashed(texts)
        place = np.searchsorted(self._grams, hashes)
        place[place == len(self._grams)] = 0
        hit = self._grams[place] == hashes
        seen = set(zip(owners[hit].tolist(), hashes[hit].tolist(), strict=True))
        counts = Counter((row, number) for row, gram in seen for number in self._of_gram[gram])
        for (row, number), count in counts.items():
            if count >= self._needed[number]:
                yield row
