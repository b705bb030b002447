"""Tells browsers that the pages are Japanese: an ASGI middleware over Streamlit's one HTML page.

Streamlit says `en` and has no setting for it. Without this, browsers offer a translation, screen
readers speak English, and Chinese glyphs may be picked. Changes nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ENGLISH, JAPANESE = b'<html lang="en"', b'<html lang="ja"'
"""Of equal length, so that the announced length stays true."""


class InJapanese:
    """Wraps the server's application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _asks_for_page(scope):
            await self._app(scope, receive, send)
            return
        # What is compressed further in could not be marked here.
        kept = [header for header in scope["headers"] if header[0] != b"accept-encoding"]
        scope = {**scope, "headers": kept}
        is_page = False

        async def send_marked(message: Message) -> None:
            nonlocal is_page
            if message["type"] == "http.response.start":
                is_page = _is_html(message)
            elif is_page and message.get("body"):
                # The language stands in the first part of the page.
                message = {**message, "body": message["body"].replace(ENGLISH, JAPANESE, 1)}
                is_page = False
            await send(message)

        await self._app(scope, receive, send_marked)


def _asks_for_page(scope: Scope) -> bool:
    """As browsers do for what they show in a tab."""
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


def _is_html(start: Message) -> bool:
    headers = dict(start.get("headers", ()))
    return bytes(headers.get(b"content-type", b"")).startswith(b"text/html")
