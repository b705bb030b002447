"""How near an answer is to the expected one."""

from __future__ import annotations

from dataclasses import dataclass

from mlx_finetuning.utils.japanese_utils import chrf, contains, exact_match, rouge_l


@dataclass(frozen=True)
class Scores:
    """All from 0 to 1."""

    exact: float
    """Equal after NFKC and whitespace folding."""
    contains: float
    """The expected text occurs in the answer."""
    chrf: float
    rouge_l: float
    """Over characters."""


NAMES = tuple(Scores.__annotations__)


def score(answer: str, expected: str) -> Scores:
    """All scores of one answer."""
    return Scores(
        float(exact_match(answer, expected)),
        float(contains(answer, expected)),
        chrf(answer, expected),
        rouge_l(answer, expected),
    )
