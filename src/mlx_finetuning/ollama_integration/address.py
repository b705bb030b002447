"""Where Ollama is, by the value of OLLAMA_HOST, read as Ollama reads it. Connects to nothing."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlx_finetuning.errors import OllamaHostInvalid

DEFAULT_PORT = 11434
SCHEME_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    scheme: str
    host: str
    port: int
    path: str = ""
    """In front of `/api`, where a proxy has it there."""
    is_exposed: bool = False
    """OLLAMA_HOST makes a server on this machine listen to the whole network."""

    @property
    def place(self) -> str:
        """For people: `127.0.0.1:11434`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.place}{self.path}"

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"


def read(text: str | None = None) -> Address:
    """The address in `text`, else in OLLAMA_HOST, else the default. Raises OllamaHostInvalid."""
    given = (os.environ.get("OLLAMA_HOST", "") if text is None else text).strip()
    try:
        return _parsed(given)
    except ValueError as error:
        raise OllamaHostInvalid(host=given) from error


def _parsed(text: str) -> Address:
    parts = urlsplit(text if "://" in text else f"http://{_bracketed(text)}")
    if parts.scheme not in SCHEME_PORTS:
        raise ValueError(text)
    default = SCHEME_PORTS[parts.scheme] if "://" in text else DEFAULT_PORT
    host = parts.hostname or "127.0.0.1"
    port = default if parts.port is None else parts.port
    path = parts.path.rstrip("/")
    # A server listens to these addresses; nobody can be called by them.
    connectable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return Address(parts.scheme, connectable, port, path, is_exposed=connectable != host)


def _bracketed(text: str) -> str:
    """A bare IPv6 address in brackets, as URLs want it."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(text).version == 6:
            return f"[{text}]"
    return text
