"""How the next token is drawn, by mlx-lm's own penalties and cuts, and how likely it was."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import (
    apply_min_p,
    apply_top_k,
    apply_top_p,
    greedy_sampler,
    make_logits_processors,
)

from mlx_finetuning.config import SamplingConfig
from mlx_finetuning.mlx_trainer.batches.token_text import token_bytes
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.tokenization.likelihood import Likelihood

PENALIZED = 64
"""Of how many last tokens penalties take note, as in llama.cpp."""
LEAST_TOP_P = 1e-6
"""Leaves the likeliest token; mlx-lm takes 0 for no cut."""

Sampler = Callable[[mx.array], mx.array]


def sampler(temperature: float, config: SamplingConfig, vocabulary: int) -> Sampler:
    """Draws from log-probabilities [sequences, vocabulary]: greedily at temperature 0, else by a random
    state of its own, so that nobody else's question changes the answer."""
    if temperature == 0:
        return cast(Sampler, greedy_sampler)  # one and the same, so that they are drawn together
    key = mx.random.key(secrets.randbits(63) if config.seed < 0 else config.seed)

    def draw(logprobs: mx.array) -> mx.array:
        nonlocal key
        key, now = mx.random.split(key)
        if config.top_p < 1:
            logprobs = apply_top_p(logprobs, max(config.top_p, LEAST_TOP_P))
        if config.min_p > 0:
            logprobs = apply_min_p(logprobs, config.min_p)
        if 0 < config.top_k < vocabulary:
            logprobs = apply_top_k(logprobs, config.top_k)
        return mx.random.categorical(logprobs / temperature, key=now)

    return draw


def penalties(config: SamplingConfig) -> list[Callable[..., mx.array]]:
    """What changes logits by the tokens before them."""
    repeated = config.repetition_penalty
    processors: list[Any] = make_logits_processors(
        repetition_penalty=None if repeated == 1 else repeated,
        repetition_context_size=PENALIZED,
        presence_penalty=config.presence_penalty,
        presence_context_size=PENALIZED,
        frequency_penalty=config.frequency_penalty,
        frequency_context_size=PENALIZED,
    )
    return processors


def likelihood(loaded: LoadedModel, logprobs: mx.array, token: int, others: int) -> Likelihood:
    """Of a token by the log-probabilities [vocabulary] of its place, with the likeliest `others`."""
    values = np.array(logprobs.astype(mx.float32))
    best = np.argpartition(-values, min(others, len(values) - 1))[:others]
    ids = [token, *(int(number) for number in best[np.argsort(-values[best])])]
    own, *rest = (
        Likelihood(data.decode("utf-8", errors="replace"), data, float(values[number]))
        for data, number in zip(token_bytes(loaded, ids), ids, strict=True)
    )
    return Likelihood(own.text, own.data, own.logprob, tuple(rest))
