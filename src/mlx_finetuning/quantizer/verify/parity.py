"""How far a GGUF file is from the model it was made from: logits and tokens compared.

The reference comes as NumPy arrays, so that this knows nothing of MLX. Gives figures; `verify`
judges them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.progress import Progress, Step, silent
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaModel, LlamaVocabulary
from mlx_finetuning.quantizer.verify import scripts
from mlx_finetuning.quantizer.vocabulary.tokenizer import TokenizerMetadata

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
    """The texts that are cut differently, for no reason that is counted below."""
    foreign: tuple[str, ...] = ()
    """Built-in texts likewise, but in scripts that do not occur in the user's texts."""
    unsayable: int = 0
    """Texts with characters outside the vocabulary that the file can have."""
    named: int = 0
    """Texts with the name of an ordinary token that llama.cpp takes for a control token; left out."""
    reordered: int = 0
    """Texts of which the same pieces come in another order, as likely as the original's."""

    @property
    def equal(self) -> bool:
        return not self.differing


class Cut(StrEnum):
    """How llama.cpp cuts a text, beside the original."""

    ALIKE = "alike"
    NAMED = "named"
    UNSAYABLE = "unsayable"
    REORDERED = "reordered"
    DIFFERENTLY = "differently"


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


def compare_tokens(
    model: LlamaVocabulary,
    encode: Encode,
    texts: Sequence[str],
    original: TokenizerMetadata | None = None,
    builtin: Sequence[str] = (),
    *,
    known: Sequence[str] = (),
    prompts: Sequence[str] = (),
) -> TokenParity:
    """Cut every text with both tokenizers, with and without bos and eos.

    original: what is known of the file's tokenizer, for the reasons of differences; builtin: texts
    that the user did not write, which only count in the scripts of `texts`, of `known` and of Japan;
    prompts: rendered conversations.
    """
    cuts = [(text, cut(model, encode, text, original)) for text in texts]
    cuts += [(text, cut(model, encode, text, original, is_prompt=True)) for text in prompts]
    used = scripts.EVERYWHERE.union(*map(scripts.of, (*texts, *known)))
    foreign = []
    for text in builtin:
        found = cut(model, encode, text, original)
        if found == Cut.DIFFERENTLY and not scripts.of(text) <= used:
            foreign.append(text)
        else:
            cuts.append((text, found))
    counts = Counter(found for _, found in cuts)
    return TokenParity(
        texts=len(cuts) + len(foreign),
        differing=tuple(text for text, found in cuts if found == Cut.DIFFERENTLY),
        foreign=tuple(foreign),
        unsayable=counts[Cut.UNSAYABLE],
        named=counts[Cut.NAMED],
        reordered=counts[Cut.REORDERED],
    )


def cut(
    model: LlamaVocabulary,
    encode: Encode,
    text: str,
    original: TokenizerMetadata | None,
    *,
    is_prompt: bool = False,
) -> Cut:
    """Compare one text, in the form in which llama.cpp can be held to it."""
    compared = text
    if original is not None:
        compared = original.as_prompt(text) if is_prompt else original.comparable(text)
    for added in (False, True):
        expected, found = encode(compared, added), model.tokenize(compared, added)
        if expected != found:
            return difference(compared, expected, found, original)
    return Cut.ALIKE


def difference(
    text: str, expected: list[int], found: list[int], original: TokenizerMetadata | None
) -> Cut:
    """Why the file's ids of a text are not those expected."""
    if original is None:
        return Cut.DIFFERENTLY
    if original.named_controls(text):
        return Cut.NAMED
    if not original.can_express(text, expected):
        return Cut.UNSAYABLE
    # Of a Unigram model they are a tie, which each engine breaks by its own order of search.
    if original.model in ("plamo2", "t5") and sorted(expected) == sorted(found):
        return Cut.REORDERED
    return Cut.DIFFERENTLY


def problem(tokens: TokenParity) -> str:
    """In Japanese, that texts are cut differently."""
    return (
        f"文のトークンへの分け方が、{tokens.texts}文中{len(tokens.differing)}文で違います"
        f"（例: {tokens.differing[0][:80]!r}）。"
    )


def warnings(tokens: TokenParity) -> list[str]:
    """In Japanese, what is different without speaking against the file."""
    found = []
    if tokens.foreign:
        found.append(
            f"データにない種類の文字を含む{len(tokens.foreign)}文で、トークンへの分け方が違います"
            f"（例: {tokens.foreign[0][:80]!r}）。"
        )
    if tokens.unsayable:
        found.append(
            f"語彙にない文字を含む{tokens.unsayable}文は、llama.cppに文字で渡すと <unk> になります。"
        )
    if tokens.named:
        found.append(
            f"llama.cppが制御記号として扱う文字列を含む{tokens.named}文は、比較から除きました。"
        )
    if tokens.reordered:
        found.append(
            f"同じ部品を切る順だけが違う文が{tokens.reordered}文あります（どちらも同じ確からしさです）。"
        )
    return found
