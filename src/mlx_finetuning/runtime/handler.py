"""The HTTP side of `endpoint`: who may ask, what a request means, how an answer is written."""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import select
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any

from mlx_finetuning import config
from mlx_finetuning.config import GenerateConfig
from mlx_finetuning.errors import InvalidSettings, ModelError, StudioError, UsageProblem
from mlx_finetuning.messages_ja import describe
from mlx_finetuning.runtime.answers import Piece, Question
from mlx_finetuning.tokenization.reasoning import answer_of

if TYPE_CHECKING:
    from mlx_finetuning.runtime.endpoint import Endpoint

MOST_BYTES = 8_000_000
DEFAULT_MAX_TOKENS = 1024
SLOW_S = 60.0
ASSISTANT = "assistant"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Refused(Exception):
    """A request that is not answered: status, code and a Japanese sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Server(ThreadingHTTPServer):
    """One thread a connection; none holds up the end."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, endpoint: Endpoint, host: str, port: int) -> None:
        self.endpoint = endpoint
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks for the host's full name, which may take seconds.
        TCPServer.server_bind(self)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SLOW_S
    server: Server

    def do_GET(self) -> None:
        self._answered({"/health": self._health, "/v1/models": self._models})

    def do_POST(self) -> None:
        self._answered({"/v1/chat/completions": self._complete})

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: a path or a header may hold what a log must not."""

    def _answered(self, routes: dict[str, Any]) -> None:
        # A reader who leaves is no error.
        with contextlib.suppress(ConnectionError, TimeoutError):
            try:
                self._require_local_program()
                if self.path not in routes:
                    raise Refused(404, "not_found", f"{self.path} はありません。")
                routes[self.path]()
            except Refused as refused:
                self._send_error(refused.status, refused.code, refused.message)
            except StudioError as error:
                status = 400 if isinstance(error, UsageProblem | ModelError) else 500
                self._send_error(status, error.code, describe(error).text)

    # --- who may ask ---------------------------------------------------------------------

    def _require_local_program(self) -> None:
        """Turn web pages away: by the origin they must name, or the host they were lured with."""
        host = self.headers.get("Host", "").rsplit(":", 1)[0].strip("[]")
        bound = str(self.server.server_address[0])
        if "Origin" in self.headers or (bound in LOOPBACK and host not in LOOPBACK):
            raise Refused(403, "forbidden", "Webページからの要求には答えません。")

    def _require_key(self) -> None:
        expected = f"Bearer {self.server.endpoint.key}".encode()
        sent = self.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if self.server.endpoint.key and not hmac.compare_digest(sent, expected):
            raise Refused(401, "invalid_api_key", "APIキーが違います。")

    # --- what is asked -------------------------------------------------------------------

    def _health(self) -> None:
        self._send(200, {"status": "ok"})

    def _models(self) -> None:
        self._require_key()
        listed = [
            {"id": name, "object": "model", "created": 0, "owned_by": "mlx-finetuning"}
            for name in self.server.endpoint.models
        ]
        self._send(200, {"object": "list", "data": listed})

    def _complete(self) -> None:
        self._require_key()
        body = self._body()
        question = _question(body, list(self.server.endpoint.models))
        exchange = self.server.endpoint.ask(question)
        pieces = exchange.pieces(self._is_over)
        with contextlib.closing(pieces):  # type: ignore[type-var]
            if body.get("stream"):
                options = body.get("stream_options")
                wants_usage = isinstance(options, dict) and bool(options.get("include_usage"))
                self._send_stream(question, pieces, wants_usage)
            else:
                self._send(200, _completion(question, list(pieces)))

    def _is_over(self) -> bool:
        """Whether the reader has left or the endpoint has closed."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        has_left = bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        return has_left or self.server.endpoint.closed

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            raise Refused(413, "too_large", f"要求の長さは {MOST_BYTES} バイトまでです。")
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "not_json", "Content-Type は application/json にしてください。")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise Refused(400, "invalid_json", "JSONとして読めません。") from error
        if not isinstance(body, dict):
            raise Refused(400, "invalid_json", "JSONのオブジェクトではありません。")
        return body

    # --- how it is answered --------------------------------------------------------------

    def _send(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        # What is left unread of a refused request must not be taken for the next one.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def _send_error(self, status: int, code: str, message: str) -> None:
        self._send(status, {"error": {"message": message, "type": code.lower(), "code": code}})

    def _send_stream(self, question: Question, pieces: Iterator[Piece], wants_usage: bool) -> None:
        first = next(pieces, Piece(""))  # an error before it still gets a status of its own
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for event in _events(question, first, pieces, wants_usage):
            self.wfile.write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")


def _question(body: dict[str, Any], models: list[str]) -> Question:
    model = body.get("model") or models[0]
    if model not in models:
        available = "、".join(models)
        raise Refused(
            404, "model_not_found", f"モデル「{model}」はありません。あるのは: {available}"
        )
    if body.get("n", 1) != 1:
        raise Refused(400, "unsupported", "n は 1 だけです。")
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_MAX_TOKENS
    temperature = body.get("temperature")
    settings = config.load(GenerateConfig, {"max_tokens": limit, "temperature": temperature or 0.0})
    return Question(tuple(_messages(body.get("messages"))), settings, str(model))


def _messages(value: Any) -> Iterator[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise InvalidSettings(problems=["messages: 1つ以上の発言が必要です。"])
    for number, message in enumerate(value, 1):
        role = message.get("role") if isinstance(message, dict) else None
        text = _text(message.get("content")) if isinstance(message, dict) else None
        if text is None and role == ASSISTANT and message.get("reasoning_content"):
            text = ""  # it was cut while it was thinking
        if not isinstance(role, str) or text is None:
            raise InvalidSettings(
                problems=[f"messages: {number}番目に、文字の role と content がありません。"]
            )
        # Thinking is no part of what was said: no engine is shown it again.
        yield {"role": role, "content": answer_of({"content": text}) if role == ASSISTANT else text}


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


def _completion(question: Question, pieces: list[Piece]) -> dict[str, Any]:
    last = pieces[-1] if pieces else Piece("")
    message = {"role": ASSISTANT, "content": "".join(piece.text for piece in pieces)}
    if thought := "".join(piece.reasoning for piece in pieces):
        message["reasoning_content"] = thought
    choice = {"index": 0, "message": message, "finish_reason": _reason(last)}
    return {**_head("chat.completion", question), "choices": [choice], "usage": _usage(last)}


def _events(
    question: Question, first: Piece, rest: Iterator[Piece], wants_usage: bool
) -> Iterator[dict[str, Any]]:
    head = _head("chat.completion.chunk", question)

    def chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    yield chunk({"role": ASSISTANT, "content": first.text} | _thought(first))
    last = first
    try:
        for last in rest:
            delta = ({"content": last.text} if last.text else {}) | _thought(last)
            if delta:
                yield chunk(delta)
    except StudioError as error:
        yield {"error": {"message": describe(error).text, "code": error.code}}
        return
    yield chunk({}, _reason(last))
    if wants_usage:
        yield {**head, "choices": [], "usage": _usage(last)}


def _thought(piece: Piece) -> dict[str, str]:
    return {"reasoning_content": piece.reasoning} if piece.reasoning else {}


def _head(kind: str, question: Question) -> dict[str, Any]:
    number = f"chatcmpl-{secrets.token_hex(12)}"
    return {"id": number, "object": kind, "created": int(time.time()), "model": question.model}


def _reason(last: Piece) -> str:
    return "stop" if last.ended else "length"


def _usage(last: Piece) -> dict[str, int]:
    return {
        "prompt_tokens": last.prompt_tokens,
        "completion_tokens": last.tokens,
        "total_tokens": last.prompt_tokens + last.tokens,
    }
