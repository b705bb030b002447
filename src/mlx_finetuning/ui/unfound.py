"""Addresses that are no page, answered in words: an ASGI middleware.

Streamlit would show its first page there, behind a note.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse

from mlx_finetuning.language import _, language
from mlx_finetuning.ui.sitemap import ENTRIES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_NAME = re.compile(r"/([^/.]+)/?")
"""Of a page; files have a dot, and what Streamlit serves itself lies in folders."""
_PAGE = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} | mlx-finetuning</title>
<style>
:root {{ color-scheme: light dark; background: light-dark(#fff, #12181a); color: light-dark(#1d2827, #e3eae9); }}
a {{ color: light-dark(#0f766e, #5ccfc2); }}
body {{ margin: 0 auto; max-width: 40rem; padding: 15vh 20px;
  font: 16px/1.8 "Hiragino Sans", "Noto Sans CJK JP", "Yu Gothic", Meiryo, sans-serif; }}
h1 {{ font-size: 1.5rem; }} p {{ white-space: pre-line; overflow-wrap: anywhere; }}
li {{ margin: .3rem 0; }}
</style></head>
<body><main><h1>{heading}</h1>
<p>{reason}</p>
<ul>{links}</ul></main></body></html>"""


def page(reason: str = "") -> HTMLResponse:
    """What stands there instead, with the way to every page."""
    links = "".join(
        f'<li><a href="/{"" if name == "home" else name}">{entry.title}</a></li>'
        for name, entry in ENTRIES.items()
    )
    reason = reason or _("アドレスが正しいか確かめるか、次のページから選んでください。")
    shown = _PAGE.format(
        language=language(),
        title=_("見つかりません"),
        heading=_("このページは見つかりません"),
        reason=html.escape(reason),
        links=links,
    )
    return HTMLResponse(shown, 404)


class Unfound:
    """Wraps the server's application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (found := _NAME.fullmatch(scope["path"])):
            wants_page = any(
                name == b"accept" and b"text/html" in value for name, value in scope["headers"]
            )
            if wants_page and found[1] not in ENTRIES and not found[1].startswith("_"):
                await page()(scope, receive, send)
                return
        await self._app(scope, receive, send)
