"""What an engine gives while it answers, and what is left when it has. Talks to nobody."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

from mlx_finetuning.config import GenerateConfig

Message = Mapping[str, str]
"""`role` and `content`."""


@dataclass(frozen=True)
class Question:
    """One request, checked."""

    messages: tuple[dict[str, str], ...]
    """With the system text, if there is one."""
    settings: GenerateConfig
    """Without a system text."""
    model: str
    """One of the names that the endpoint goes by."""


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


Pieces = Generator[Piece, None, None]
"""An answer as it is generated; closing it cancels the rest."""


@dataclass(frozen=True)
class Answer:
    text: str
    tokens: int
    """Generated, with the one that ended the answer."""
    ended: bool
    """The model ended by itself; False: it was cut at `max_tokens`, or cancelled."""
    prompt_tokens: int = 0


class AnswerStream(Iterator[str]):
    """An answer's text, piece by piece; `close` cancels. Raises what the engine raises."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._texts: list[str] = []
        self._last = Piece("")

    def __next__(self) -> str:
        for piece in self._pieces:
            self._last = piece
            if piece.text:
                self._texts.append(piece.text)
                return piece.text
        raise StopIteration

    @property
    def answer(self) -> Answer:
        """What came so far; the whole answer once the iteration has ended."""
        last = self._last
        return Answer("".join(self._texts), last.tokens, last.ended, last.prompt_tokens)

    def close(self) -> None:
        self._pieces.close()


def collect(pieces: Pieces) -> Answer:
    """The whole answer."""
    stream = AnswerStream(pieces)
    for _ in stream:
        pass
    return stream.answer
