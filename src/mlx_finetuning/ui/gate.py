"""Who may talk to the server: browser tabs that this server itself has filled, and no other page.

An ASGI middleware over HTTP and websocket. Refuses foreign Host headers (DNS rebinding) and
foreign or `null` origins (pages of other sites and ports), and forbids framing and loading from
other hosts. Streamlit's own checks let any origin on localhost in, and look up the machine's
public address on the internet before they refuse one.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
POLICY = "; ".join(
    (
        "default-src 'self'",
        # Streamlit's page starts inline; charts compile their expressions.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_ENCODED = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


class Gate:
    """Wraps the server's application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        hosts, origins = _header_values(scope, b"host"), _header_values(scope, b"origin")
        status = refusal(hosts, origins, bound_address())
        if status is not None:
            await _refuse(scope, send, status)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_ENCODED]}
            await send(message)

        await self._app(scope, receive, send_guarded)


def refusal(hosts: list[str], origins: list[str], address: str) -> int | None:
    """The HTTP status to refuse a request with, or None; `address` is where the server listens."""
    if len(hosts) != 1 or not is_own_host(hosts[0], address):
        return 400
    if any(urlsplit(origin).netloc.lower() != hosts[0].lower() for origin in origins):
        return 403
    return None


def is_own_host(host: str, address: str) -> bool:
    """Whether a Host header names this server. Beyond loopback any address does: only names can
    be rebound."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in LOOPBACK or is_loopback(address):
        return name in LOOPBACK
    machine = socket.gethostname().lower()
    return name in (machine, f"{machine}.local") or _is_address(name)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a server that listens on `address`."""
    if address == "localhost":
        return True
    return _is_address(address) and ipaddress.ip_address(address).is_loopback


def bound_address() -> str:
    """Where the server listens; without the setting Streamlit would listen everywhere."""
    from streamlit import config

    return config.get_option("server.address") or "0.0.0.0"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _header_values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


async def _refuse(scope: Scope, send: Send, status: int) -> None:
    if scope["type"] == "websocket":
        # Closing before accepting is answered with 403.
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_ENCODED]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": "このアドレスからは使えません。".encode()})
