"""Questions of evaluation sets among the examples: training on them makes the evaluation worthless.

An evaluation question is matched by its digest and by a few of its 5-grams, so that it is found
inside a longer question too. Those of JMT-Bench and ELYZA-tasks-100 come with the package, as
hashes; other sets are read from files.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.data_processor.checks.grams import GramSets, hashed
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.files import ASSETS
from mlx_finetuning.utils.japanese_utils import comparison_key

SKETCH = 32
"""Grams kept of a question."""
FOUND = 0.85
"""Share of them that a question must have."""
_FEWEST = 8
"""Grams without which only the whole question counts."""
_SHARED_BY = 20
"""Questions from which a gram is no mark of any of them."""
_FIRST_BITS = 16
_BLOCK = 1 << 22
"""Grams looked up at once."""
_BUNDLED = ASSETS / "evaluation_sets.json"


@dataclass(frozen=True)
class EvaluationSet:
    """A set of questions, as what identifies them."""

    name: str
    digests: frozenset[str]
    """Of whole questions."""
    sketches: tuple[tuple[int, ...], ...]
    """Per question, hashes of 5-grams."""


def sketched(name: str, questions: Iterable[str]) -> EvaluationSet:
    """A set from its questions."""
    keys = sorted({key for text in questions if (key := comparison_key(text))})
    gram_sets = [set(hashed([key])[0].tolist()) for key in keys]
    questions_with = Counter(gram for grams in gram_sets for gram in grams)
    rare = (
        sorted(gram for gram in grams if questions_with[gram] < _SHARED_BY) for grams in gram_sets
    )
    sketches = tuple(tuple(grams[:SKETCH]) for grams in rare if len(grams) >= _FEWEST)
    return EvaluationSet(name, frozenset(map(_digest, keys)), sketches)


@functools.cache
def bundled() -> tuple[EvaluationSet, ...]:
    """The sets that come with the package."""
    records = json.loads(_BUNDLED.read_text(encoding="utf-8"))
    return tuple(
        EvaluationSet(
            record["name"],
            frozenset(record["digests"]),
            tuple(tuple(sketch) for sketch in record["sketches"]),
        )
        for record in records["sets"]
    )


def digests(questions: Iterable[str]) -> list[str]:
    """Of whole questions (comparison keys), what a set knows them by."""
    return [_digest(key) for key in questions]


def matches(
    evaluation: EvaluationSet,
    digests: Sequence[str],
    questions: GramSets,
    progress: StageProgress = SILENT,
) -> list[int]:
    """Indices of the questions, given by their digests and grams, that ask what the set asks."""
    needed = [math.ceil(FOUND * len(sketch)) for sketch in evaluation.sketches]
    sketches_with: defaultdict[int, list[int]] = defaultdict(list)
    for number, sketch in enumerate(evaluation.sketches):
        for gram in sketch:
            sketches_with[gram].append(number)
    grams: NDArray[np.uint32] = np.array(sorted(sketches_with), np.uint32)
    matching = {at for at, digest in enumerate(digests) if digest in evaluation.digests}
    if not len(grams):
        return sorted(matching)
    # Nearly all grams are ruled out by their first bits, which a table tells faster than a search.
    may_match = np.zeros(1 << _FIRST_BITS, bool)
    may_match[grams >> (32 - _FIRST_BITS)] = True
    hits: list[tuple[int, int]] = []
    for start in range(0, len(questions.hashes), _BLOCK):
        progress.update(start, len(questions.hashes))
        hashes = questions.hashes[start : start + _BLOCK]
        places = np.flatnonzero(may_match[hashes >> (32 - _FIRST_BITS)])
        positions = np.searchsorted(grams, hashes[places])
        positions[positions == len(grams)] = 0
        places = places[grams[positions] == hashes[places]]
        hits += zip((places + start).tolist(), hashes[places].tolist(), strict=True)
    owners = np.searchsorted(questions.starts, [place for place, _ in hits], "right") - 1
    counts = Counter(
        (at, number)
        for at, (_, gram) in zip(owners.tolist(), hits, strict=True)
        for number in sketches_with[gram]
    )
    matching.update(at for (at, number), n in counts.items() if n >= needed[number])
    return sorted(matching)


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
