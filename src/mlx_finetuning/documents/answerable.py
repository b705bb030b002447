"""Whether a model answers a question with its chunk, and not without: the one check that needs a model.

What the model says counts as the same answer where it has the answer's numbers and names, or for an
answer without any, most of its words.
"""

from __future__ import annotations

from dataclasses import replace

from mlx_finetuning.documents.chunks import Chunk
from mlx_finetuning.documents.generate import ChunkPairs, prompt
from mlx_finetuning.documents.pairs import Pair, Problem
from mlx_finetuning.utils import facts
from mlx_finetuning.utils.japanese_utils import contains, rouge_l
from mlx_finetuning.utils.text_generator import TextGenerator, TextRequest, Tick

MAX_TOKENS = 120
SAME = 0.5
"""ROUGE-L of two answers without numbers and names."""


def tested(
    generator: TextGenerator, made: ChunkPairs, chunk: Chunk, seed: int, tick: Tick
) -> ChunkPairs:
    """The chunk's pairs with what asking the model found; only sound ones are asked about."""
    asked = [pair for pair in made.pairs if pair.is_sound and pair.kind != "absent"]
    requests = [
        TextRequest(({"role": "user", "content": content},), MAX_TOKENS, seed=seed)
        for way in ("answer_with", "answer_without")
        for pair in asked
        for content in (prompt(way, question=pair.question, text=chunk.whole),)
    ]
    told = generator.generate(requests, tick)
    found: dict[Pair, tuple[Problem, ...]] = {}
    for pair, with_chunk, without in zip(asked, told, told[len(asked) :], strict=False):
        if not is_same_answer(pair.answer, with_chunk):
            found[pair] = (Problem("not_answerable", with_chunk[:80]),)
        elif is_same_answer(pair.answer, without):
            found[pair] = (Problem("answerable_without", without[:80]),)
    pairs = tuple(replace(pair, problems=found.get(pair, pair.problems)) for pair in made.pairs)
    return replace(made, pairs=pairs)


def is_same_answer(expected: str, told: str) -> bool:
    """Whether `told` says what `expected` says."""
    numbers, names = facts.numbers(expected), set(facts.names(expected))
    if numbers or names:
        place, known = facts.folded(told), facts.numbers(told)
        return all(number.stands_in(known) for number in numbers) and all(
            facts.folded(name) in place for name in names
        )
    return contains(told, expected) or rouge_l(told, expected) >= SAME
