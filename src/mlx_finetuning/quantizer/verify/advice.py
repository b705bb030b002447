"""Which quantization type to take, from measured sizes and losses. Measures nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlx_finetuning.quantizer.verify.verify import Report

CANDIDATES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M")
MOST_KL = 0.1
"""Nats; up to here the difference is called small (`verify.BANDS`)."""
MOST_PERPLEXITY_CHANGE = 0.05
LEAST_TOP1 = 0.95
"""One other word in twenty; averages alone let Q2_K pass with one in ten."""


@dataclass(frozen=True)
class Candidate:
    """A file of one quantization type, measured."""

    quant: str
    size_bytes: int
    mean_kl: float
    top1_agreement: float
    perplexity_change: float
    """Relative: 0.02 is two percent worse than the tuned model."""


def candidates(reports: Mapping[str, Report]) -> list[Candidate]:
    """The measured types, the largest first."""
    measured = [
        Candidate(
            quant,
            report.size_bytes,
            report.logits.mean_kl,
            report.logits.top1_agreement,
            report.logits.perplexity_gguf / report.logits.perplexity_reference - 1,
        )
        for quant, report in reports.items()
    ]
    return sorted(measured, key=lambda candidate: -candidate.size_bytes)


def recommended(measured: list[Candidate]) -> Candidate:
    """The smallest whose loss is small, else the one with the least loss."""
    good = [
        candidate
        for candidate in measured
        if candidate.mean_kl <= MOST_KL
        and candidate.perplexity_change <= MOST_PERPLEXITY_CHANGE
        and candidate.top1_agreement >= LEAST_TOP1
    ]
    if good:
        return min(good, key=lambda candidate: candidate.size_bytes)
    return min(measured, key=lambda candidate: candidate.mean_kl)
