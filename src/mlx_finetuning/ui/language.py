"""Tells browsers the language of the pages: an ASGI middleware over Streamlit's one HTML page.

Streamlit says `en` and has no setting for it. Without this, browsers offer a translation of Japanese
pages, screen readers speak English, and Chinese glyphs may be picked. Changes nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_finetuning.language import language

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

STREAMLITS = b'<html lang="en"'


class InItsLanguage:
    """Wraps the server's application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # As browsers ask for what they show in a tab.
        if scope["type"] != "http" or not any(
            name == b"accept" and b"text/html" in value for name, value in scope["headers"]
        ):
            await self._app(scope, receive, send)
            return
        from mlx_finetuning.ui.frame import studio  # late: the server has to be up soon

        studio().preferences.speak()
        # What is compressed further in could not be marked here.
        headers = [header for header in scope["headers"] if header[0] != b"accept-encoding"]
        scope = {**scope, "headers": headers}
        is_page = False

        async def send_marked(message: Message) -> None:
            nonlocal is_page
            if message["type"] == "http.response.start":
                content_type = dict(message.get("headers", ())).get(b"content-type", b"")
                is_page = bytes(content_type).startswith(b"text/html")
            elif is_page and message.get("body"):
                # It stands in the first part of the page. Codes are of equal length, so that the
                # announced length stays true.
                ours = f'<html lang="{language()}"'.encode()
                message = {**message, "body": message["body"].replace(STREAMLITS, ours, 1)}
                is_page = False
            await send(message)

        await self._app(scope, receive, send_marked)
