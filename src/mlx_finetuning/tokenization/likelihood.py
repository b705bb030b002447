"""How likely a generated token was, as an engine tells it and an API shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Likelihood:
    """One token where another one could have stood."""

    text: str
    """Of a token that ends inside a letter, U+FFFD for what is not whole."""
    data: bytes
    """Its bytes, of which letters may begin or end in its neighbours."""
    logprob: float
    """The natural logarithm of its probability, before temperature and cuts of the sampler."""
    others: tuple[Likelihood, ...] = ()
    """The likeliest tokens of its place, itself perhaps among them; the likeliest first."""
