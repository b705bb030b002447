"""A server with OpenAI's chat interface on loopback that answers as tests ask it to: well, garbage,
half an answer, slowly, never. Every request is recorded."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ChatServer:
    """The state of the server; tests change it while it runs."""

    reply: Callable[[dict[str, Any]], str] = lambda body: "はい。"
    """The text of the answer to a request's body."""
    raw: bytes | None = None
    """Sent as the whole response, in place of events."""
    status: int = 200
    cuts: int = 0
    """So many answers break off in the middle."""
    drip_s: float = 0.0
    """Pause before every character."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""
    is_over: bool = False


@contextlib.contextmanager
def chat_server() -> Iterator[ChatServer]:
    """Runs while the block lasts."""
    state = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None: ...

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.bodies.append(body)
            state.keys.append(self.headers.get("Authorization"))
            self.send_response(state.status)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            with contextlib.suppress(OSError):  # a client that has had enough
                if state.raw is not None:
                    self.wfile.write(state.raw)
                    return
                self._answer(state.reply(body))

        def _answer(self, text: str) -> None:
            is_cut = state.cuts > 0
            state.cuts -= is_cut
            for at, character in enumerate(text):
                if is_cut and at * 2 >= len(text):
                    return
                if state.drip_s:
                    time.sleep(state.drip_s)
                if state.is_over:
                    return
                self._event({"choices": [{"delta": {"content": character}}]})
            self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            self.wfile.write(b"data: [DONE]\n\n")

        def _event(self, value: dict[str, Any]) -> None:
            self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
            self.wfile.flush()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.is_over = True
        server.shutdown()
        server.server_close()
