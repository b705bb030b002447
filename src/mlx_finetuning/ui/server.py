"""How the interface is served: the script that draws it, behind a guard that lets only the pages in
that this server itself has filled.

Streamlit's own checks let any origin on localhost in, and look up the machine's public address on
the internet before they refuse one.
"""

from __future__ import annotations

from pathlib import Path

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from mlx_finetuning.errors import StudioError
from mlx_finetuning.language import _
from mlx_finetuning.ui import unfound
from mlx_finetuning.ui.language import InItsLanguage
from mlx_finetuning.utils.host_guard import HostGuard

SCRIPT = Path(__file__).parent / "entry" / "main.py"
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


def bound_address() -> str:
    """Where the server listens; without the setting Streamlit would listen everywhere."""
    from streamlit import config

    return config.get_option("server.address") or "0.0.0.0"


def refused(status: int) -> PlainTextResponse:
    """The answer to foreign pages."""
    return PlainTextResponse(_("このアドレスからは使えません。"), status)


def report(request: Request) -> Response:
    """A run's report, or its summary on one A4 page, as a document of its own to be printed."""
    from mlx_finetuning.ui.components.errors import described
    from mlx_finetuning.ui.frame import studio

    run_id, kind = (request.path_params[name] for name in ("run_id", "kind"))
    pages = {"summary": studio().evaluation.summary, "full": studio().evaluation.page}
    try:
        if kind in pages:
            return HTMLResponse(pages[kind](run_id))
    except StudioError as error:
        return unfound.page(described(error).text)
    return unfound.page()


ROUTES = (Route("/report/{run_id}/{kind}", report),)
MIDDLEWARE = (
    Middleware(HostGuard, bound_address, refused, HEADERS),
    Middleware(InItsLanguage),
    Middleware(unfound.Unfound),
)


def show_uncaught(error: Exception) -> bool:
    """Show in words what no page has caught: trouble in a callback or in the frame itself."""
    from mlx_finetuning.ui.frame import show_unexpected

    show_unexpected(error)
    return True
