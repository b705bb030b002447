"""The HTTP side of `endpoint`, as a starlette application: who may ask, and what goes wrong. What a
request means is read by `requests`, how an answer is written is in `replies`."""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from mlx_finetuning.errors import ModelError, StudioError, UsageProblem
from mlx_finetuning.language import _
from mlx_finetuning.messages import describe
from mlx_finetuning.runtime import requests
from mlx_finetuning.runtime.answers import Question
from mlx_finetuning.runtime.replies import ChatForm, Reply, ReplyForm, TextForm
from mlx_finetuning.tokenization.answer import AnswerChunk
from mlx_finetuning.utils.host_guard import HostGuard
from mlx_finetuning.utils.plain_text import require_text
from mlx_finetuning.utils.redaction import recorded

MOST_BYTES = 8_000_000
LOG = "worker.log"
"""Where the job that serves writes."""


class Refused(Exception):
    """A request that is not answered: status, code and a Japanese sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class PendingAnswer(Protocol):
    """A question that is being answered."""

    cancelled: bool

    def chunks(self, is_over: Callable[[], Awaitable[bool]]) -> AsyncIterator[AnswerChunk]: ...


class Answering(Protocol):
    """What answers the requests: `endpoint.Endpoint`."""

    models: dict[str, str]
    key: str
    host: str
    closed: bool

    def ask(self, question: Question) -> PendingAnswer: ...


def application(endpoint: Answering) -> Starlette:
    """What an endpoint's server runs."""

    def forbidden(status: int) -> Response:
        return _error(403, "forbidden", _("Webページからの要求には答えません。"))

    app = Starlette(
        routes=[
            Route("/health", _health),
            Route("/v1/models", _models),
            Route("/v1/models/{name:path}", _model),
            Route("/v1/chat/completions", _answering(requests.chat, ChatForm()), methods=["POST"]),
            Route("/v1/completions", _answering(requests.completion, TextForm()), methods=["POST"]),
        ],
        middleware=[Middleware(HostGuard, lambda: endpoint.host, forbidden, has_pages=False)],
        exception_handlers=dict.fromkeys(
            (HTTPException, Refused, requests.UnknownModel, StudioError, Exception), _show_error
        ),
    )
    app.router.redirect_slashes = False
    app.state.endpoint = endpoint
    return app


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _models(request: Request) -> Response:
    _require_key(request)
    listed = [_shown(name) for name in request.app.state.endpoint.models]
    return JSONResponse({"object": "list", "data": listed})


async def _model(request: Request) -> Response:
    _require_key(request)
    name = request.path_params["name"]
    if name not in request.app.state.endpoint.models:
        raise requests.UnknownModel(name)
    return JSONResponse(_shown(name))


def _shown(model: str) -> dict[str, object]:
    return {"id": model, "object": "model", "created": 0, "owned_by": "mlx-finetuning"}


Read = Callable[[requests.Given, list[str]], requests.Request]


def _answering(read: Read, form: ReplyForm) -> Callable[[Request], Awaitable[Response]]:
    """The handler of one kind of requests."""

    async def answer(request: Request) -> Response:
        _require_key(request)
        endpoint: Answering = request.app.state.endpoint
        asked = read(await _body(request), list(endpoint.models))
        pending = [endpoint.ask(question) for question in asked.questions]
        reply = Reply(form, asked.questions[0])

        async def is_over() -> bool:
            return endpoint.closed or await request.is_disconnected()

        async def chunks() -> AsyncIterator[tuple[int, AnswerChunk]]:
            """Of all answers, one after the other; meanwhile the others are generated as well."""
            try:
                for index, one in enumerate(pending):
                    async for chunk in one.chunks(is_over):
                        yield index, chunk
            finally:
                for one in pending:
                    one.cancelled = True

        coming = chunks()
        if not asked.streams:
            return JSONResponse(reply.whole([item async for item in coming]))
        first = await anext(coming, (0, AnswerChunk("")))  # an error before it still gets a status
        return StreamingResponse(
            reply.events(first, coming, asked.wants_usage),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    return answer


def _require_key(request: Request) -> None:
    key = request.app.state.endpoint.key
    sent = request.headers.get("Authorization", "").encode("latin-1")
    if key and not hmac.compare_digest(sent, f"Bearer {key}".encode()):
        raise Refused(401, "invalid_api_key", _("APIキーが違います。"))


async def _body(request: Request) -> dict[str, Any]:
    too_large = Refused(
        413,
        "too_large",
        _("要求の長さは {most} バイトまでです。").format(most=MOST_BYTES),
    )
    if int(request.headers.get("Content-Length", 0)) > MOST_BYTES:
        raise too_large
    if (
        request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        != "application/json"
    ):
        raise Refused(415, "not_json", _("Content-Type は application/json にしてください。"))
    try:
        data = b""
        async for block in request.stream():  # of no announced length, too
            data += block
            if len(data) > MOST_BYTES:
                raise too_large
        body = json.loads(data)
        require_text(body, _("要求"))
    except (ValueError, RecursionError, ClientDisconnect) as error:
        raise Refused(400, "invalid_json", _("JSONとして読めません。")) from error
    if not isinstance(body, dict):
        raise Refused(400, "invalid_json", _("JSONのオブジェクトではありません。"))
    return body


# --- what goes wrong ---------------------------------------------------------------------


def _error(status: int, code: str, message: str, **data: Any) -> JSONResponse:
    error = {"message": message, "type": code.lower(), "code": code, **data}
    return JSONResponse({"error": error}, status)


async def _show_error(request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        return _error(error.status, error.code, error.message)
    if isinstance(error, requests.UnknownModel):
        available = _("、").join(request.app.state.endpoint.models)
        message = _("モデル「{name}」はありません。あるのは: {available}").format(
            name=error.args[0], available=available
        )
        return _error(404, "model_not_found", message)
    if isinstance(error, HTTPException):
        message = _("{method} {path} はありません。").format(
            method=request.method, path=request.url.path
        )
        return _error(error.status_code, "not_found", message)
    if not isinstance(error, StudioError):
        error = recorded(error, LOG)
    status = 400 if isinstance(error, UsageProblem | ModelError) else 500
    return _error(status, error.code, describe(error).text, data=error.data)
