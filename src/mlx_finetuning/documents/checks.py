"""What is checked of each pair without a model.

A check sees wording, not meaning: an answer that denies its quote in quite other words (休みです for
受け付けます) passes. Nothing is dropped here; whoever calls decides what becomes of a pair with problems.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mlx_finetuning.documents.chunks import Chunk, sentences
from mlx_finetuning.documents.form_checks import of_form
from mlx_finetuning.documents.pairs import BY_MODEL, Pair, Problem
from mlx_finetuning.documents.support_checks import of_support
from mlx_finetuning.utils import facts
from mlx_finetuning.utils.japanese_utils import comparison_key, rouge_l

ALIKE = 0.8
"""ROUGE-L from which two questions about the same things are one."""


@dataclass
class Checker:
    """Checks pairs one after the other; each is compared with those that came before it."""

    _asked: list[tuple[str, str, frozenset[str]]] = field(default_factory=list)
    """Of each sound pair so far: comparison key, question, what it is about."""

    def check(self, pair: Pair, chunk: Chunk) -> Pair:
        """The pair with its problems."""
        problems = (*of_form(pair, chunk), *of_support(pair, chunk), *self._of_others(pair))
        checked = replace(pair, problems=problems)
        self.take(checked)
        return checked

    def take(self, pair: Pair) -> None:
        """Remember a pair that was checked before, if these checks found nothing."""
        if all(problem.code in BY_MODEL for problem in pair.problems):
            key = comparison_key(pair.question)
            self._asked.append((key, pair.question, _subject(pair.question)))

    def _of_others(self, pair: Pair) -> Iterator[Problem]:
        """Whether the same was asked before: in the same words, or in nearly the same about the same
        things. Character 5-grams, by which datasets are searched, see little in so short texts."""
        key, subject = comparison_key(pair.question), _subject(pair.question)
        for other_key, other, other_subject in self._asked:
            alike = other_subject == subject and rouge_l(other, pair.question) >= ALIKE
            if key == other_key or alike:
                yield Problem("duplicate", other)
                return


def _subject(question: str) -> frozenset[str]:
    numbers = (str(number) for number in facts.numbers(question))
    return frozenset((*facts.terms(question), *numbers))


def page_of(quote: str, chunk: Chunk) -> int:
    """The page on which a quote stands; the chunk's first if it is on none."""
    wanted = facts.folded(sentences(quote)[0]) if quote.strip() else ""
    for block in chunk.blocks:
        if wanted and wanted in facts.folded(block.text):
            return block.page
    return chunk.pages[0]
