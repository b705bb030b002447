"""What an engine gives while it answers, and what is left when it has. Talks to nobody."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mlx_finetuning.config import GenerateConfig, SamplingConfig
from mlx_finetuning.tokenization.answer import Answer, AnswerChunk, AnswerChunks
from mlx_finetuning.tokenization.reasoning import Format
from mlx_finetuning.tokenization.tool_calls import ToolFormat, possible_start

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
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    prompt: str | None = None
    """A text to be gone on with as it is, in place of the messages."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """What the model may call, as JSON schemas."""
    one_call: bool = False
    """End the answer behind the first call."""
    schema: Mapping[str, Any] | None = None
    """The JSON schema that the answer has to fit."""
    likelihoods: int | None = None
    """How many of the likeliest tokens to tell of at each place; None: nothing of the kind."""


class AnswerStream(Iterator[str]):
    """An answer's text, chunk by chunk; `close` cancels. Raises what the engine raises."""

    def __init__(self, chunks: AnswerChunks) -> None:
        self._chunks = chunks
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._last = AnswerChunk("")

    def __next__(self) -> str:
        return next(chunk.text for chunk in self.parts() if chunk.text)

    def parts(self) -> Iterator[AnswerChunk]:
        """The chunks that say something, be it reasoning or answer."""
        for chunk in self._chunks:
            self._last = chunk
            self._texts.append(chunk.text)
            self._thoughts.append(chunk.reasoning)
            if chunk.text or chunk.reasoning:
                yield chunk

    @property
    def answer(self) -> Answer:
        """What came so far; the whole answer once the iteration has ended."""
        last = self._last
        text, thought = "".join(self._texts), "".join(self._thoughts)
        return Answer(text, last.tokens, last.ended, last.prompt_tokens, thought)

    def close(self) -> None:
        """Cancel the rest."""
        self._chunks.close()


def apart(chunks: AnswerChunks, form: Format) -> AnswerChunks:
    """The same answer with its reasoning in its own place.

    An engine that tells them apart by itself is left alone.
    """
    splitter = form.splitter()
    last = AnswerChunk("")
    is_apart = False
    with contextlib.closing(chunks):
        for last in chunks:
            is_apart = is_apart or bool(last.reasoning)
            if is_apart:
                yield last
                continue
            thought, text = splitter.feed(last.text)
            yield replace(last, text=text, reasoning=thought)
    if not is_apart:
        thought, text = splitter.feed("", last=True)
        if thought or text:
            yield replace(last, text=text, reasoning=thought, likelihoods=())


def calling(chunks: AnswerChunks, form: ToolFormat, *, once: bool = False) -> AnswerChunks:
    """The same answer with its calls of tools in their own place; `once`: it ends behind the first."""
    rest = ""
    is_behind_call = False
    last = AnswerChunk("")

    def read(text: str, is_last: bool) -> AnswerChunk:
        nonlocal rest, is_behind_call
        said, calls, rest = form.read(text, last=is_last)
        # Space around calls is nothing that was said.
        said = said.lstrip() if is_behind_call or (calls and not said.strip()) else said
        is_behind_call = bool(calls) or (is_behind_call and not said)
        return replace(last, text=said, calls=tuple(calls))

    with contextlib.closing(chunks):
        for last in chunks:
            chunk = read(rest + last.text, False)
            if once and chunk.calls:
                yield replace(chunk, calls=chunk.calls[:1], ended=True)
                return
            yield chunk
    chunk = replace(read(rest, True), reasoning="", likelihoods=())
    if chunk.text or chunk.calls:
        yield replace(chunk, calls=chunk.calls[:1] if once else chunk.calls)


def until(chunks: AnswerChunks, stops: tuple[str, ...]) -> AnswerChunks:
    """The same answer up to the first of `stops`, at which the model is taken to have ended."""
    held = ""
    last = AnswerChunk("")
    with contextlib.closing(chunks):
        for last in chunks:
            held += last.text
            found = [held.index(stop) for stop in stops if stop in held]
            if found:
                yield replace(last, text=held[: min(found)], ended=True)
                return
            # An end that may be the beginning of a stop is held back.
            keep = possible_start(held, stops)
            text, held = held[: len(held) - keep], held[len(held) - keep :]
            yield replace(last, text=text)
    if held:
        yield replace(last, text=held, reasoning="", calls=(), likelihoods=())


def collect(chunks: AnswerChunks) -> Answer:
    """The whole answer."""
    stream = AnswerStream(chunks)
    for _ in stream:
        pass
    return stream.answer
