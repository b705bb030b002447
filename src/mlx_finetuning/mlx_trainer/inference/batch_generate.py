"""Answers to many prompts at once: the greedy ones that `generate.answer` gives one by one, sooner.

Prompts of similar length share a batch, padded for the prompt only; sequences whose answer has ended
leave it. Built on mlx-lm's batched caches. A model without them is asked one prompt at a time.

Sums are added in another order than for one prompt, so where two tokens are equally likely to the
last digits, another one can win.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, cast

import mlx.core as mx
from mlx_lm.generate import generate_step, wired_limit
from mlx_lm.models.cache import make_prompt_cache

from mlx_finetuning.mlx_trainer.inference.beginning import Beginning
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.tokenization.answer import Answer

POSITIONS = 8192
"""Most positions of one batch, padding and the longest answers included: bounds caches and scores."""
SHRINK_AT = 0.75
"""A batch is cut down when this share of its sequences is left: every cut copies the caches."""

TRIED = "takes_padded_batches"
"""Attribute of a model that has been tried: an evaluation asks it eleven times."""

Finished = Callable[[int], None]
Choose = Callable[[mx.array], mx.array]
"""[sequences, vocabulary] logits to the [sequences] tokens that follow."""


def likeliest(logits: mx.array) -> mx.array:
    """The greedy choice."""
    return mx.argmax(logits, axis=-1)


def answers(
    loaded: LoadedModel,
    prompts: Sequence[list[int]],
    max_tokens: int,
    batch_size: int,
    finished: Finished = lambda count: None,
    shared: Beginning | None = None,
) -> list[Answer]:
    """An answer to each prompt (token ids, none empty and each shorter than the context length).

    `finished` hears after every step how many answers are done, and may raise to cancel; shared: a
    beginning of all prompts, shorter than each, that is read already.
    """
    ends = set(loaded.tokenizer.eos_token_ids)
    written = continuations(
        *(loaded, prompts, max_tokens, batch_size, ends), finished=finished, shared=shared
    )
    given = []
    for prompt, tokens in zip(prompts, written, strict=True):
        ended = tokens[-1] in ends
        detokenizer = loaded.tokenizer.detokenizer
        detokenizer.reset()
        for token in tokens[:-1] if ended else tokens:
            detokenizer.add_token(token)
        detokenizer.finalize()
        reasoning, text = loaded.chat.split(detokenizer.text)
        given.append(Answer(text, len(tokens), ended, len(prompt), reasoning))
    return given


def continuations(
    loaded: LoadedModel,
    prompts: Sequence[list[int]],
    max_tokens: int,
    batch_size: int,
    ends: Set[int],
    choose: Choose = likeliest,
    finished: Finished = lambda count: None,
    shared: Beginning | None = None,
) -> list[list[int]]:
    """What follows each prompt, up to and with the first token of `ends`; prompts, `finished` and `shared`
    as for `answers`."""
    by_prompt: dict[int, list[int]] = {}
    with wired_limit(loaded.model):
        for batch in _batches(loaded, prompts, max_tokens, batch_size):
            limits = [min(max_tokens, loaded.context_length - len(prompts[at])) for at in batch]
            taken = [prompts[at] for at in batch]
            for index, tokens in _decode(loaded, taken, limits, ends, choose, shared):
                if index is not None:
                    by_prompt[batch[index]] = tokens
                finished(len(by_prompt))
    return [by_prompt[at] for at in range(len(prompts))]


def _batches(
    loaded: LoadedModel, prompts: Sequence[list[int]], max_tokens: int, batch_size: int
) -> Iterator[list[int]]:
    """Indices of prompts, the shortest first."""
    if not is_batchable(loaded.model):
        batch_size = 1
    batch: list[int] = []
    for at in sorted(range(len(prompts)), key=lambda at: len(prompts[at])):
        positions = (len(batch) + 1) * (len(prompts[at]) + max_tokens)
        if batch and (len(batch) == batch_size or positions > POSITIONS):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def is_batchable(model: Any) -> bool:
    """Whether the model's class takes batches with padding, tried once with each model on a few tokens.

    Gemma 2, for one, cannot broadcast the mask that mlx-lm's batched caches make, unless there are
    as many sequences as heads: hence seven.
    """
    if not hasattr(model, TRIED):
        try:
            _Sequences(model, [[0] * length for length in range(1, 8)], likeliest).step()
        except (AttributeError, TypeError, ValueError):
            setattr(model, TRIED, False)
        else:
            setattr(model, TRIED, True)
    return bool(getattr(model, TRIED))


Outcome = tuple[int | None, list[int]]


def _decode(
    loaded: LoadedModel,
    prompts: list[list[int]],
    limits: list[int],
    ends: Set[int],
    choose: Choose,
    shared: Beginning | None,
) -> Iterator[Outcome]:
    """Pairs of a prompt's index and its answer's tokens, as they end; (None, []) between steps."""
    written: list[list[int]] = [[] for _ in prompts]
    if shared is not None:
        prompts = [shared.rest(prompt) for prompt in prompts]
    if len(prompts) == 1:
        alone = generate_step(
            mx.array(prompts[0]),
            loaded.model,
            max_tokens=limits[0],
            sampler=choose,
            prompt_cache=None if shared is None else shared.copied(),
        )
        for token, _ in alone:
            written[0].append(token)
            if token in ends:
                break
            yield None, []
        yield 0, written[0]
        return
    sequences = _Sequences(loaded.model, prompts, choose, shared)
    while sequences.unfinished:
        ended = []
        for index, token in sequences.step():
            written[index].append(token)
            if token in ends or len(written[index]) == limits[index]:
                ended.append(index)
                yield index, written[index]
        sequences.drop(ended)
        yield None, []


class _Sequences:
    """The prompts of one batch while they are answered."""

    def __init__(
        self,
        model: Any,
        prompts: list[list[int]],
        choose: Choose,
        shared: Beginning | None = None,
    ) -> None:
        """prompts: without what is read already."""
        self.unfinished = list(range(len(prompts)))
        """Indices of the prompts that are still answered."""
        self._model = model
        self._choose = choose
        self._cached = list(self.unfinished)
        """The prompt of every sequence in the caches; some may have ended."""
        single = make_prompt_cache(model) if shared is None else shared.caches
        self._caches = [type(cache).merge([cache] * len(prompts)) for cache in single]
        self._read([prompt[:-1] for prompt in prompts])
        self._next = self._predict(mx.array([prompt[-1] for prompt in prompts]))

    def _read(self, prompts: list[list[int]]) -> None:
        lengths = [len(prompt) for prompt in prompts]
        longest = max(lengths)
        if not longest:
            return
        padding = [longest - length for length in lengths]
        if any(padding):
            # Padded to the right, then rolled: so every kind of cache of mlx-lm takes it.
            for cache in self._caches:
                cache.prepare(lengths=lengths, right_padding=padding)
        padded = [prompt + [0] * extra for prompt, extra in zip(prompts, padding, strict=True)]
        self._model(mx.array(padded), cache=self._caches)
        mx.eval([cache.state for cache in self._caches])
        if any(padding):
            for cache in self._caches:
                cache.finalize()

    def _predict(self, tokens: mx.array) -> mx.array:
        logits = self._model(tokens[:, None], cache=self._caches)[:, -1]
        following = self._choose(logits)
        mx.async_eval(following)  # type: ignore[no-untyped-call]
        return following

    def step(self) -> list[tuple[int, int]]:
        """The next token of every prompt that is still answered, by its index."""
        current = self._next
        # The one after is computed while this one is looked at.
        self._next = self._predict(current)
        living = set(self.unfinished)
        tokens = cast(list[int], current.tolist())
        pairs = zip(self._cached, tokens, strict=True)
        return [(index, token) for index, token in pairs if index in living]

    def drop(self, indices: Sequence[int]) -> None:
        """Prompts whose answers have ended."""
        self.unfinished = [index for index in self.unfinished if index not in indices]
        if not self.unfinished or len(self.unfinished) > SHRINK_AT * len(self._cached):
            return
        kept = [at for at, index in enumerate(self._cached) if index in set(self.unfinished)]
        for cache in self._caches:
            cache.filter(kept)
        self._next = self._next[mx.array(kept)]
        self._cached = list(self.unfinished)
