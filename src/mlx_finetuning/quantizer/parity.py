"""How far a GGUF file is from the model it was made from: logits and tokens compared.

The reference comes as NumPy arrays, so that this knows nothing of MLX. Gives figures; `verify`
judges them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.progress import Progress, Step, silent
from mlx_finetuning.quantizer.llama import LlamaModel

STAGE = "検証"
ROWS = 16
"""Positions compared at once; bounds the memory of float64 log-probabilities."""

Encode = Callable[[str, bool], list[int]]
"""The original tokenizer: text, whether to add bos and eos → ids."""


@dataclass(frozen=True)
class Reference:
    """What the original model says about one sequence."""

    tokens: list[int]
    logits: NDArray[np.float32]
    """[tokens, vocabulary]: after each token."""


@dataclass(frozen=True)
class LogitParity:
    """Averages over all positions; divergences in nats, reference against file."""

    tokens: int
    mean_kl: float
    max_kl: float
    top1_agreement: float
    """Share of positions whose likeliest next token is the same."""
    perplexity_reference: float
    perplexity_gguf: float


@dataclass(frozen=True)
class TokenParity:
    texts: int
    differing: tuple[str, ...]
    """The texts that are cut differently."""

    @property
    def equal(self) -> bool:
        return not self.differing


def compare_logits(
    gguf: Path,
    references: Iterable[Reference],
    context: int,
    progress: Progress = silent,
    *,
    adapter: Path | None = None,
) -> LogitParity:
    """Feed every reference's tokens to the file and compare.

    context: longest sequence, tokens; adapter: a GGUF adapter to apply.

    Raises GgufUnreadable, QuantizerUnusable; ValueError when there are no references.
    """
    with LlamaModel(gguf, context, adapter) as model:
        return compare(((one, model.logits(one.tokens)) for one in references), progress)


def compare(
    pairs: Iterable[tuple[Reference, NDArray[np.float32]]], progress: Progress = silent
) -> LogitParity:
    """Average over references and what was found instead. ValueError when there are none."""
    divergences: list[NDArray[np.float64]] = []
    agreed: list[NDArray[np.bool_]] = []
    losses: list[NDArray[np.float64]] = []
    done = 0
    for reference, found in pairs:
        for start in range(0, len(reference.tokens), ROWS):
            kl, same, loss = _compare(reference, found, slice(start, start + ROWS))
            divergences.append(kl)
            agreed.append(same)
            losses.append(loss)
        done += len(reference.tokens)
        progress(Step(STAGE, done, 0, f"{done}トークンを比較"))
    kl, loss = np.concatenate(divergences), np.concatenate(losses, axis=1)
    return LogitParity(
        tokens=done,
        mean_kl=float(kl.mean()),
        max_kl=float(kl.max()),
        top1_agreement=float(np.concatenate(agreed).mean()),
        perplexity_reference=_perplexity(loss[0]),
        perplexity_gguf=_perplexity(loss[1]),
    )


def _compare(
    reference: Reference, found: NDArray[np.float32], rows: slice
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """For some positions: divergence, same likeliest token, and both losses of the next token."""
    expected, actual = _log_softmax(reference.logits[rows]), _log_softmax(found[rows])
    kl = np.sum(np.exp(expected) * (expected - actual), axis=-1)
    same = expected.argmax(axis=-1) == actual.argmax(axis=-1)
    following = np.array(reference.tokens[rows.start + 1 : rows.stop + 1], dtype=np.intp)
    positions = np.arange(len(following))
    losses = np.stack([-expected[positions, following], -actual[positions, following]])
    return kl, same, losses


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised


def _perplexity(losses: NDArray[np.float64]) -> float:
    return float(np.exp(losses.mean())) if losses.size else math.nan


def compare_tokens(model: LlamaModel, encode: Encode, texts: Sequence[str]) -> TokenParity:
    """Cut every text with both tokenizers, with and without bos and eos."""
    differing = [
        text
        for text in texts
        if any(model.tokenize(text, added) != encode(text, added) for added in (False, True))
    ]
    return TokenParity(len(texts), tuple(differing))
