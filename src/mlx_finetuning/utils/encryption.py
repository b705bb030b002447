"""What an HTTP client gets to encrypt with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


def of(address: str) -> ssl.SSLContext | bool:
    """httpx2's `verify` for a server at `address`: the system's certificates where something is encrypted.

    Loading them takes 20 ms, also for requests to this machine. Without any, nobody is trusted.
    """
    if not address.lower().startswith("http:"):
        return True
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
