"""How answers are written by OpenAI's protocol: at once, or as events while they are generated."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from mlx_finetuning.errors import StudioError
from mlx_finetuning.messages import describe
from mlx_finetuning.runtime.answers import Question
from mlx_finetuning.tokenization.answer import AnswerChunk
from mlx_finetuning.tokenization.likelihood import Likelihood
from mlx_finetuning.tokenization.tool_calls import Call

LEAST_LOGPROB = -9999.0
"""For what cannot be: JSON has no infinity."""
Json = Mapping[str, object]


class ReplyForm(Protocol):
    """How one kind of answer is written. `likelihoods` are null where none were asked for."""

    kind: str
    part_kind: str
    prefix: str
    """Of an answer's id."""

    def whole(self, answer: AnswerChunk, likelihoods: bool) -> Json:
        """What a choice says."""

    def part(
        self, chunk: AnswerChunk, before: AnswerChunk | None, likelihoods: bool
    ) -> Json | None:
        """What a streamed chunk adds to what was said before; None: nothing."""

    def end(self) -> Json:
        """What the last part of a choice says beside its reason."""


class Reply:
    """The answer to one request, which may consist of several choices."""

    def __init__(self, form: ReplyForm, question: Question) -> None:
        """question: one of the request's; all are of one kind."""
        self._form = form
        self._likelihoods = question.likelihoods is not None
        number = f"{form.prefix}-{secrets.token_hex(12)}"
        self._head = {"id": number, "created": int(time.time()), "model": question.model}

    def whole(self, chunks: Sequence[tuple[int, AnswerChunk]]) -> Json:
        """The answer as one JSON object; chunks: each with its choice's number."""
        answers: dict[int, AnswerChunk] = {0: AnswerChunk("")}
        for index, chunk in chunks:
            answers[index] = _joined(answers.get(index, AnswerChunk("")), chunk)
        choices = [
            {
                "index": index,
                **self._form.whole(answer, self._likelihoods),
                "finish_reason": _reason(answer),
            }
            for index, answer in answers.items()
        ]
        head = {**self._head, "object": self._form.kind}
        return {**head, "choices": choices, "usage": _usage(answers)}

    async def events(
        self,
        first: tuple[int, AnswerChunk],
        rest: AsyncIterator[tuple[int, AnswerChunk]],
        wants_usage: bool,
    ) -> AsyncIterator[str]:
        """The same as server-sent events, choice by choice. An error is an event, too."""
        answers: dict[int, AnswerChunk] = {}
        try:
            async for index, chunk in _chained(first, rest):
                if answers and index not in answers:
                    yield self._last_event(answers)
                part = self._form.part(chunk, answers.get(index), self._likelihoods)
                answers[index] = _joined(
                    answers.get(index, AnswerChunk("")), replace(chunk, text="")
                )
                if part is not None:
                    yield self._event([{"index": index, **part, "finish_reason": None}])
            yield self._last_event(answers)
            if wants_usage:
                yield self._event([], usage=_usage(answers))
        except StudioError as error:
            yield _event({"error": {"message": describe(error).text, **error.to_json()}})
        yield "data: [DONE]\n\n"

    def _last_event(self, answers: Mapping[int, AnswerChunk]) -> str:
        index, answer = list(answers.items())[-1]
        return self._event([{"index": index, **self._form.end(), "finish_reason": _reason(answer)}])

    def _event(self, choices: list[Json], **more: object) -> str:
        return _event({**self._head, "object": self._form.part_kind, "choices": choices, **more})


class ChatForm:
    """Of chat completions."""

    kind = "chat.completion"
    part_kind = "chat.completion.chunk"
    prefix = "chatcmpl"

    def whole(self, answer: AnswerChunk, likelihoods: bool) -> Json:
        """A message."""
        message: dict[str, object] = {"role": "assistant", "content": answer.text}
        if answer.calls:
            message["content"] = answer.text or None
            message["tool_calls"] = [_call(call) for call in answer.calls]
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        return {"message": message, **self._logprobs(answer, likelihoods)}

    def part(
        self, chunk: AnswerChunk, before: AnswerChunk | None, likelihoods: bool
    ) -> Json | None:
        """What is new of it. The first part names the speaker."""
        delta: dict[str, object] = {}
        if before is None:
            delta = {"role": "assistant", "content": ""}
        if chunk.text:
            delta["content"] = chunk.text
        if chunk.reasoning:
            delta["reasoning_content"] = chunk.reasoning
        if chunk.calls:
            start = len(before.calls) if before else 0
            delta["tool_calls"] = [
                {"index": index, **_call(call)} for index, call in enumerate(chunk.calls, start)
            ]
        if not delta and not chunk.likelihoods:
            return None
        return {"delta": delta, **self._logprobs(chunk, likelihoods)}

    def end(self) -> Json:
        """Nothing more."""
        return {"delta": {}}

    def _logprobs(self, chunk: AnswerChunk, likelihoods: bool) -> Json:
        if not likelihoods:
            return {"logprobs": None}
        content = [
            {**_token(token), "top_logprobs": [_token(other) for other in token.others]}
            for token in chunk.likelihoods
        ]
        return {"logprobs": {"content": content, "refusal": None}}


class TextForm:
    """Of completions."""

    kind = part_kind = "text_completion"
    prefix = "cmpl"

    def whole(self, answer: AnswerChunk, likelihoods: bool) -> Json:
        """A text."""
        return {"text": answer.text, **self._logprobs(answer, 0, likelihoods)}

    def part(
        self, chunk: AnswerChunk, before: AnswerChunk | None, likelihoods: bool
    ) -> Json | None:
        """What is new of it."""
        if not chunk.text and not chunk.likelihoods:
            return None
        said = sum(len(token.text) for token in before.likelihoods) if before else 0
        return {"text": chunk.text, **self._logprobs(chunk, said, likelihoods)}

    def end(self) -> Json:
        """Nothing more."""
        return {"text": "", "logprobs": None}

    def _logprobs(self, chunk: AnswerChunk, start: int, likelihoods: bool) -> Json:
        """start: letters before the chunk."""
        if not likelihoods:
            return {"logprobs": None}
        tokens = chunk.likelihoods
        offsets = [
            start + sum(len(token.text) for token in tokens[:at]) for at in range(len(tokens))
        ]
        lists = {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [_finite(token.logprob) for token in tokens],
            "top_logprobs": [
                {other.text: _finite(other.logprob) for other in (*token.others[::-1], token)}
                for token in tokens
            ],
            "text_offset": offsets,
        }
        return {"logprobs": lists}


async def _chained(
    first: tuple[int, AnswerChunk], rest: AsyncIterator[tuple[int, AnswerChunk]]
) -> AsyncIterator[tuple[int, AnswerChunk]]:
    yield first
    async for item in rest:
        yield item


def _joined(answer: AnswerChunk, chunk: AnswerChunk) -> AnswerChunk:
    """What was said with what is said next; counts and end are the latter's."""
    return replace(
        chunk,
        text=answer.text + chunk.text,
        reasoning=answer.reasoning + chunk.reasoning,
        calls=answer.calls + chunk.calls,
        likelihoods=answer.likelihoods + chunk.likelihoods,
    )


def _event(value: Json) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _call(call: Call) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def _token(token: Likelihood) -> Json:
    logprob = _finite(token.logprob)
    return {"token": token.text, "logprob": logprob, "bytes": list(token.data)}


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)


def _reason(answer: AnswerChunk) -> str:
    if answer.calls and answer.ended:
        return "tool_calls"
    return "stop" if answer.ended else "length"


def _usage(answers: Mapping[int, AnswerChunk]) -> Json:
    """Of all choices together; their common prompt counts once."""
    asked = answers[0].prompt_tokens
    generated = sum(answer.tokens for answer in answers.values())
    return {
        "prompt_tokens": asked,
        "completion_tokens": generated,
        "total_tokens": asked + generated,
    }
