"""What an engine gives while it answers, and what is left when it has. Talks to nobody."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlx_finetuning.config import GenerateConfig
from mlx_finetuning.tokenization.reasoning import Format

Message = Mapping[str, Any]
"""`role` and `content`, and of a model's calls of tools `tool_calls`."""


@dataclass(frozen=True)
class Question:
    """One request, checked."""

    messages: tuple[Message, ...]
    """With the system text, if there is one. An assistant's last message is to be gone on with."""
    settings: GenerateConfig
    """Without a system text."""
    model: str
    """One of the names that the endpoint goes by."""
    stops: tuple[str, ...] = ()
    """Texts before which an answer ends."""


@dataclass(frozen=True)
class Piece:
    """A part of an answer."""

    text: str
    tokens: int = 0
    """Generated so far, with the one that ended the answer; an engine may tell only at the end."""
    ended: bool = False
    """The model has ended by itself; False in the last piece: it was cut."""
    prompt_tokens: int = 0
    """Of the whole conversation; an engine may tell only at the end."""
    reasoning: str = ""
    """A part of what the model thinks before it answers."""


Pieces = Generator[Piece, None, None]
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


class AnswerStream(Iterator[str]):
    """An answer's text, piece by piece; `close` cancels. Raises what the engine raises."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._last = Piece("")

    def __next__(self) -> str:
        return next(piece.text for piece in self.parts() if piece.text)

    def parts(self) -> Iterator[Piece]:
        """The pieces that say something, be it reasoning or answer."""
        for piece in self._pieces:
            self._last = piece
            self._texts.append(piece.text)
            self._thoughts.append(piece.reasoning)
            if piece.text or piece.reasoning:
                yield piece

    @property
    def answer(self) -> Answer:
        """What came so far; the whole answer once the iteration has ended."""
        last = self._last
        text, thought = "".join(self._texts), "".join(self._thoughts)
        return Answer(text, last.tokens, last.ended, last.prompt_tokens, thought)

    def close(self) -> None:
        """Cancel the rest."""
        self._pieces.close()


def apart(pieces: Pieces, form: Format) -> Pieces:
    """The same answer with its reasoning in its own place.

    An engine that tells them apart by itself is left alone.
    """
    splitter = form.splitter()
    last = Piece("")
    is_apart = False
    with contextlib.closing(pieces):
        for last in pieces:
            is_apart = is_apart or bool(last.reasoning)
            if is_apart:
                yield last
                continue
            thought, text = splitter.feed(last.text)
            yield replace(last, text=text, reasoning=thought)
    if not is_apart:
        thought, text = splitter.feed("", last=True)
        if thought or text:
            yield replace(last, text=text, reasoning=thought)


def until(pieces: Pieces, stops: tuple[str, ...]) -> Pieces:
    """The same answer up to the first of `stops`, at which the model is taken to have ended."""
    held = ""
    last = Piece("")
    with contextlib.closing(pieces):
        for last in pieces:
            held += last.text
            found = [held.index(stop) for stop in stops if stop in held]
            if found:
                yield replace(last, text=held[: min(found)], ended=True)
                return
            # An end that may be the beginning of a stop is held back.
            keep = max(
                (size for stop in stops for size in range(len(stop)) if held.endswith(stop[:size])),
                default=0,
            )
            text, held = held[: len(held) - keep], held[len(held) - keep :]
            yield replace(last, text=text)
    if held:
        yield replace(last, text=held, reasoning="")


def collect(pieces: Pieces) -> Answer:
    """The whole answer."""
    stream = AnswerStream(pieces)
    for _ in stream:
        pass
    return stream.answer
