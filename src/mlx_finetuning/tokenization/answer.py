"""What an engine says to a question, chunk by chunk and in all."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from mlx_finetuning.tokenization.likelihood import Likelihood
from mlx_finetuning.tokenization.tool_calls import Call


@dataclass(frozen=True)
class AnswerChunk:
    """A part of an answer."""

    text: str
    tokens: int = 0
    """Generated so far, with the one that ended the answer; an engine may tell only at the end."""
    ended: bool = False
    """The model has ended by itself; False in the last chunk: it was cut."""
    prompt_tokens: int = 0
    """Of the whole conversation; an engine may tell only at the end."""
    reasoning: str = ""
    """A part of what the model thinks before it answers."""
    calls: tuple[Call, ...] = ()
    """Of tools."""
    likelihoods: tuple[Likelihood, ...] = ()
    """Of the tokens generated since the last chunk, without the one that ended the answer; empty
    where they were not asked for."""


AnswerChunks = Generator[AnswerChunk, None, None]
"""An answer as it is generated; closing it cancels the rest."""


@dataclass(frozen=True)
class Answer:
    """A whole answer, or what came of it."""

    text: str
    tokens: int
    """Generated, with the one that ended the answer."""
    ended: bool
    """The model ended by itself; False: it was cut at `max_tokens`, or cancelled."""
    prompt_tokens: int = 0
    reasoning: str = ""
    """What the model thought before; `text` is without it."""
