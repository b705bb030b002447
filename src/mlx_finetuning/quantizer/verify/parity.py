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

from mlx_finetuning.language import N_, _
from mlx_finetuning.progress import Progress, Step, silent
from mlx_finetuning.quantizer.llama_cpp.inference import LlamaModel, LlamaVocabulary
from mlx_finetuning.quantizer.verify import scripts
from mlx_finetuning.quantizer.verify.results import LogitParity, TokenParity
from mlx_finetuning.quantizer.vocabulary.tokenizer import TokenizerMetadata

STAGE = N_("検証", "file")
ROWS = 16
"""Positions compared at once; bounds the memory of float64 log-probabilities."""

Tokenize = Callable[[str, bool], list[int]]
"""The original tokenizer: text, whether to add bos and eos → ids."""


@dataclass(frozen=True)
class Reference:
    """What the original model says about one sequence."""

    tokens: list[int]
    logits: NDArray[np.float32]
    """[tokens, vocabulary]: after each token."""


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
        pairs = ((reference, model.logits(reference.tokens)) for reference in references)
        return compare(pairs, progress)


def compare(
    pairs: Iterable[tuple[Reference, NDArray[np.float32]]], progress: Progress = silent
) -> LogitParity:
    """Average over references, each with the logits to compare: [tokens, vocabulary].

    ValueError when there are none.
    """
    divergences: list[NDArray[np.float64]] = []
    agreements: list[NDArray[np.bool_]] = []
    losses: list[NDArray[np.float64]] = []  # of the next token: [reference and file, positions]
    done = 0
    for reference, logits in pairs:
        for start in range(0, len(reference.tokens), ROWS):
            rows = slice(start, start + ROWS)
            expected, actual = _log_softmax(reference.logits[rows]), _log_softmax(logits[rows])
            divergences.append(np.sum(np.exp(expected) * (expected - actual), axis=-1))
            agreements.append(expected.argmax(axis=-1) == actual.argmax(axis=-1))
            following = np.array(reference.tokens[start + 1 : start + ROWS + 1], dtype=np.intp)
            positions = np.arange(len(following))
            losses.append(
                np.stack([-expected[positions, following], -actual[positions, following]])
            )
        done += len(reference.tokens)
        progress(Step(_(STAGE, "file"), done, 0, _("{done}トークンを比較").format(done=done)))
    kl, loss = np.concatenate(divergences), np.concatenate(losses, axis=1)
    return LogitParity(
        tokens=done,
        mean_kl=float(kl.mean()),
        max_kl=float(kl.max()),
        top1_agreement=float(np.concatenate(agreements).mean()),
        perplexity_reference=_perplexity(loss[0]),
        perplexity_gguf=_perplexity(loss[1]),
    )


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised


def _perplexity(losses: NDArray[np.float64]) -> float:
    return float(np.exp(losses.mean())) if losses.size else math.nan


def compare_tokens(
    model: LlamaVocabulary,
    encode: Tokenize,
    texts: Sequence[str],
    original: TokenizerMetadata | None = None,
    builtin: Sequence[str] = (),
    *,
    user_texts: Sequence[str] = (),
    prompts: Sequence[str] = (),
) -> TokenParity:
    """Cut every text with both tokenizers, with and without bos and eos.

    original: what is known of the file's tokenizer, for the reasons of differences; builtin: texts
    that the user did not write, which only count in the scripts of `texts`, of `user_texts` and of Japan;
    prompts: rendered conversations.
    """
    cuts = [(text, cut(model, encode, text, original)) for text in texts]
    cuts += [(text, cut(model, encode, text, original, is_prompt=True)) for text in prompts]
    used = scripts.EVERYWHERE.union(*map(scripts.of, (*texts, *user_texts)))
    foreign = []
    for text in builtin:
        result = cut(model, encode, text, original)
        if result == Cut.DIFFERENTLY and not scripts.of(text) <= used:
            foreign.append(text)
        else:
            cuts.append((text, result))
    counts = Counter(result for __, result in cuts)
    return TokenParity(
        texts=len(cuts) + len(foreign),
        differing=tuple(text for text, result in cuts if result == Cut.DIFFERENTLY),
        foreign=tuple(foreign),
        unsayable=counts[Cut.UNSAYABLE],
        named=counts[Cut.NAMED],
        reordered=counts[Cut.REORDERED],
    )


def cut(
    model: LlamaVocabulary,
    encode: Tokenize,
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
        expected, actual = encode(compared, added), model.tokenize(compared, added)
        if expected != actual:
            return difference(compared, expected, actual, original)
    return Cut.ALIKE


def difference(
    text: str, expected: list[int], actual: list[int], original: TokenizerMetadata | None
) -> Cut:
    """Why the file's ids of a text are not those expected."""
    if original is None:
        return Cut.DIFFERENTLY
    if original.named_controls(text):
        return Cut.NAMED
    if not original.can_express(text, expected):
        return Cut.UNSAYABLE
    # Of a Unigram model they are a tie, which each engine breaks by its own order of search.
    if original.model in ("plamo2", "t5") and sorted(expected) == sorted(actual):
        return Cut.REORDERED
    return Cut.DIFFERENTLY


def problem(tokens: TokenParity) -> str:
    """In Japanese, that texts are cut differently."""
    return _(
        "文のトークンへの分け方が、{total}文中{count}文で違います（例: {example!r}）。"
    ).format(
        total=tokens.texts,
        count=len(tokens.differing),
        example=tokens.differing[0][:80],
    )


def warnings(tokens: TokenParity) -> list[str]:
    """In Japanese, what is different without speaking against the file."""
    lines = []
    if tokens.foreign:
        lines.append(
            _(
                "データにない種類の文字を含む{count}文で、トークンへの分け方が違います（例: {example!r}）。"
            ).format(count=len(tokens.foreign), example=tokens.foreign[0][:80])
        )
    if tokens.unsayable:
        lines.append(
            _("語彙にない文字を含む{count}文は、llama.cppに文字で渡すと <unk> になります。").format(
                count=tokens.unsayable
            )
        )
    if tokens.named:
        lines.append(
            _("llama.cppが制御記号として扱う文字列を含む{count}文は、比較から除きました。").format(
                count=tokens.named
            )
        )
    if tokens.reordered:
        lines.append(
            _(
                "同じ部品を切る順だけが違う文が{count}文あります（どちらも同じ確からしさです）。"
            ).format(count=tokens.reordered)
        )
    return lines
