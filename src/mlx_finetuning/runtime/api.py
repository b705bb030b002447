"""The HTTP side of `endpoint`, as a starlette application: who may ask, what a request means, how an
answer is written."""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from mlx_finetuning import config
from mlx_finetuning.config import GenerateConfig
from mlx_finetuning.errors import (
    InvalidSettings,
    ModelError,
    StudioError,
    UsageProblem,
)
from mlx_finetuning.messages_ja import describe
from mlx_finetuning.runtime.answers import Message, Question
from mlx_finetuning.tokenization.answer import AnswerChunk
from mlx_finetuning.tokenization.reasoning import answer_of
from mlx_finetuning.utils.host_guard import HostGuard
from mlx_finetuning.utils.plain_text import require_text
from mlx_finetuning.utils.redaction import recorded

if TYPE_CHECKING:
    from mlx_finetuning.runtime.endpoint import Endpoint

MOST_BYTES = 8_000_000
DEFAULT_MAX_TOKENS = 1024
ASSISTANT = "assistant"
ROLES = {
    **{role: role for role in ("system", "user", ASSISTANT, "tool", "function")},
    "developer": "system",
}
"""Who may speak, and as whom templates know him. Others could bring control tokens along."""
LOG = "worker.log"
"""Where the job that serves writes."""


class Refused(Exception):
    """A request that is not answered: status, code and a Japanese sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def application(endpoint: Endpoint) -> Starlette:
    """What an endpoint's server runs."""

    def forbidden(status: int) -> Response:
        return _error(403, "forbidden", "Webページからの要求には答えません。")

    app = Starlette(
        routes=[
            Route("/health", _health),
            Route("/v1/models", _models),
            Route("/v1/chat/completions", _complete, methods=["POST"]),
        ],
        middleware=[Middleware(HostGuard, lambda: endpoint.host, forbidden, has_pages=False)],
        exception_handlers=dict.fromkeys(
            (HTTPException, Refused, StudioError, Exception), _show_error
        ),
    )
    app.router.redirect_slashes = False
    app.state.endpoint = endpoint
    return app


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _models(request: Request) -> Response:
    _require_key(request)
    listed = [
        {"id": name, "object": "model", "created": 0, "owned_by": "mlx-finetuning"}
        for name in request.app.state.endpoint.models
    ]
    return JSONResponse({"object": "list", "data": listed})


async def _complete(request: Request) -> Response:
    _require_key(request)
    endpoint: Endpoint = request.app.state.endpoint
    body = await _body(request)
    question = _question(body, list(endpoint.models))

    async def is_over() -> bool:
        return endpoint.closed or await request.is_disconnected()

    chunks = endpoint.ask(question).chunks(is_over)
    if not body.get("stream"):
        return JSONResponse(_completion(question, [chunk async for chunk in chunks]))
    first = await anext(
        chunks, AnswerChunk("")
    )  # an error before it still gets a status of its own
    options = body.get("stream_options")
    wants_usage = isinstance(options, dict) and bool(options.get("include_usage"))
    return StreamingResponse(
        _events(question, first, chunks, wants_usage),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


def _require_key(request: Request) -> None:
    key = request.app.state.endpoint.key
    sent = request.headers.get("Authorization", "").encode("latin-1")
    if key and not hmac.compare_digest(sent, f"Bearer {key}".encode()):
        raise Refused(401, "invalid_api_key", "APIキーが違います。")


async def _body(request: Request) -> dict[str, Any]:
    too_large = Refused(413, "too_large", f"要求の長さは {MOST_BYTES} バイトまでです。")
    if int(request.headers.get("Content-Length", 0)) > MOST_BYTES:
        raise too_large
    if (
        request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        != "application/json"
    ):
        raise Refused(415, "not_json", "Content-Type は application/json にしてください。")
    try:
        data = b""
        async for block in request.stream():  # of no announced length, too
            data += block
            if len(data) > MOST_BYTES:
                raise too_large
        body = json.loads(data)
        require_text(body, "要求")
    except (ValueError, RecursionError, ClientDisconnect) as error:
        raise Refused(400, "invalid_json", "JSONとして読めません。") from error
    if not isinstance(body, dict):
        raise Refused(400, "invalid_json", "JSONのオブジェクトではありません。")
    return body


# --- what goes wrong ---------------------------------------------------------------------


def _error(status: int, code: str, message: str, **data: Any) -> JSONResponse:
    error = {"message": message, "type": code.lower(), "code": code, **data}
    return JSONResponse({"error": error}, status)


async def _show_error(request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        return _error(error.status, error.code, error.message)
    if isinstance(error, HTTPException):
        message = f"{request.method} {request.url.path} はありません。"
        return _error(error.status_code, "not_found", message)
    if not isinstance(error, StudioError):
        error = recorded(error, LOG)
    status = 400 if isinstance(error, UsageProblem | ModelError) else 500
    return _error(status, error.code, describe(error).text, data=error.data)


# --- what is asked and answered ----------------------------------------------------------


def _question(body: dict[str, Any], models: list[str]) -> Question:
    given = {key: value for key, value in body.items() if value is not None}  # null: the default
    model = given.get("model") or models[0]
    if model not in models:
        available = "、".join(models)
        raise Refused(
            404, "model_not_found", f"モデル「{model}」はありません。あるのは: {available}"
        )
    if given.get("n", 1) != 1:
        raise Refused(400, "unsupported", "n は 1 だけです。")
    limit = given.get("max_completion_tokens", given.get("max_tokens", DEFAULT_MAX_TOKENS))
    chosen = {"max_tokens": limit, "temperature": given.get("temperature", 0.0)}
    settings = config.load(GenerateConfig, chosen)
    stops = given.get("stop", [])
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise InvalidSettings(problems=["stop: 空でない文字か、その一覧にしてください。"])
    messages = tuple(_messages(given.get("messages")))
    return Question(messages, settings, str(model), tuple(stops))


def _messages(value: Any) -> Iterator[Message]:
    if not isinstance(value, list) or not value:
        raise InvalidSettings(problems=["messages: 1つ以上の発言が必要です。"])
    for number, message in enumerate(value, 1):
        given = message if isinstance(message, dict) else {}
        role, text = given.get("role"), _text(given.get("content"))
        if role not in ROLES:
            raise InvalidSettings(
                problems=[f"messages: {number}番目の role は、{'・'.join(ROLES)}のどれかです。"]
            )
        calls = given.get("tool_calls") if role == ASSISTANT else None
        if text is None and (calls or (role == ASSISTANT and given.get("reasoning_content"))):
            text = ""  # it called a tool, or was cut while it was thinking
        if text is None or not isinstance(calls or [], list):
            raise InvalidSettings(
                problems=[f"messages: {number}番目に、文字の content がありません。"]
            )
        # Thinking is no part of what was said: no engine is shown it again.
        said = answer_of({"content": text}) if role == ASSISTANT else text
        turn = {"role": ROLES[role], "content": said}
        yield {**turn, "tool_calls": calls} if calls else turn


def _text(content: Any) -> str | None:
    """The text of a message; of several parts, joined. None where it is not all text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
        return None
    return "".join(str(text) for text in texts)


def _completion(question: Question, chunks: list[AnswerChunk]) -> dict[str, Any]:
    last = chunks[-1] if chunks else AnswerChunk("")
    message = {"role": ASSISTANT, "content": "".join(chunk.text for chunk in chunks)}
    if thought := "".join(chunk.reasoning for chunk in chunks):
        message["reasoning_content"] = thought
    choice = {"index": 0, "message": message, "finish_reason": _reason(last)}
    return {**_head("chat.completion", question), "choices": [choice], "usage": _usage(last)}


async def _events(
    question: Question, first: AnswerChunk, rest: AsyncIterator[AnswerChunk], wants_usage: bool
) -> AsyncIterator[str]:
    head = _head("chat.completion.chunk", question)

    def event(value: dict[str, Any]) -> str:
        return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"

    def chunk(delta: dict[str, str], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return event({**head, "choices": [choice]})

    yield chunk({"role": ASSISTANT, "content": first.text} | _thought(first))
    last = first
    try:
        async for last in rest:
            delta = ({"content": last.text} if last.text else {}) | _thought(last)
            if delta:
                yield chunk(delta)
        yield chunk({}, _reason(last))
        if wants_usage:
            yield event({**head, "choices": [], "usage": _usage(last)})
    except StudioError as error:
        yield event({"error": {"message": describe(error).text, **error.to_json()}})
    yield "data: [DONE]\n\n"


def _thought(chunk: AnswerChunk) -> dict[str, str]:
    return {"reasoning_content": chunk.reasoning} if chunk.reasoning else {}


def _head(kind: str, question: Question) -> dict[str, Any]:
    number = f"chatcmpl-{secrets.token_hex(12)}"
    return {"id": number, "object": kind, "created": int(time.time()), "model": question.model}


def _reason(last: AnswerChunk) -> str:
    return "stop" if last.ended else "length"


def _usage(last: AnswerChunk) -> dict[str, int]:
    return {
        "prompt_tokens": last.prompt_tokens,
        "completion_tokens": last.tokens,
        "total_tokens": last.prompt_tokens + last.tokens,
    }
