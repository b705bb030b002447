"""Which quantization type to take, from measured sizes and losses. Measures nothing itself."""

from __future__ import annotations

from collections.abc import Mapping

from mlx_finetuning.quantizer.verify.results import Candidate, Verification

CANDIDATES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M")
MOST_KL = 0.1
"""Nats; up to here the difference is called small (`verification.BANDS`)."""
MOST_PERPLEXITY_CHANGE = 0.05
LEAST_TOP1 = 0.95
"""One other word in twenty; averages alone let Q2_K pass with one in ten."""


def candidates(reports: Mapping[str, Verification]) -> list[Candidate]:
    """The measured types, the largest first."""
    measured = [
        Candidate(
            quant,
            report.size_bytes,
            report.logits.mean_kl,
            report.logits.top1_agreement,
            report.logits.perplexity_change,
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
