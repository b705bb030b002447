"""Who may talk to a server of ours: no web page of other sites, whatever it was lured with.

An ASGI middleware over HTTP and websocket. Refuses foreign Host headers (DNS rebinding) and
foreign or `null` origins (pages of other sites and ports), and adds headers to what is answered.
Starlette's TrustedHostMiddleware knows no origins.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HostGuard:
    """Wraps the server's application."""

    def __init__(
        self,
        app: ASGIApp,
        address: Callable[[], str],
        refused: Callable[[int], ASGIApp],
        headers: Mapping[str, str] | None = None,
        has_pages: bool = True,
    ) -> None:
        """address: where the server listens, known once it does; refused: what answers instead of
        `app`, with a status; headers: added to every answer; has_pages: `refusal` explains it."""
        self._app = app
        self._address = address
        self._refused = refused
        self._headers = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self._has_pages = has_pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
            await send(message)

        sent = Headers(scope=scope)
        hosts, origins = sent.getlist("host"), sent.getlist("origin")
        status = refusal(hosts, origins, self._address(), has_pages=self._has_pages)
        if status is None:
            await self._app(scope, receive, send_guarded)
        elif scope["type"] == "websocket":
            # Closing before accepting is answered with 403.
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._refused(status)(scope, receive, send_guarded)


def refusal(
    hosts: list[str], origins: list[str], address: str, *, has_pages: bool = True
) -> int | None:
    """The HTTP status to refuse a request with, or None; `address` is where the server listens.

    A server without pages of its own answers no page at all, and so needs to know the names it goes
    by only where it is reached without a key: on this machine.
    """
    if (has_pages or is_loopback(address)) and not (
        len(hosts) == 1 and is_own_host(hosts[0], address)
    ):
        return 400
    if any(
        not has_pages or urlsplit(origin).netloc.lower() != hosts[0].lower() for origin in origins
    ):
        return 403
    return None


def is_own_host(host: str, address: str) -> bool:
    """Whether a Host header names this server. Beyond loopback any address does: only names can
    be rebound."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if is_loopback(name) or is_loopback(address):
        return is_loopback(name)
    machine = socket.gethostname().lower()
    return name in (machine, f"{machine}.local") or _is_address(name)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a server that listens on `address`."""
    if address == "localhost":
        return True
    return _is_address(address) and ipaddress.ip_address(address).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
