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
    """Where a server can be called."""

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
        """What requests begin with."""
        return f"{self.scheme}://{self.place}{self.path}"

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"


def read(text: str | None = None) -> Address:
    """The address in `text`, else in OLLAMA_HOST, else the default. Raises OllamaHostInvalid."""
    text = (os.environ.get("OLLAMA_HOST", "") if text is None else text).strip()
    url = text
    if "://" not in text:
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(text).version == 6:
                url = f"[{text}]"  # URLs want IPv6 addresses in brackets
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        default = SCHEME_PORTS[parts.scheme] if "://" in text else DEFAULT_PORT
        port = default if parts.port is None else parts.port
    except (KeyError, ValueError) as error:
        raise OllamaHostInvalid(host=text) from error
    host = parts.hostname or "127.0.0.1"
    path = parts.path.rstrip("/")
    # A server listens to these addresses; nobody can be called by them.
    connectable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return Address(parts.scheme, connectable, port, path, is_exposed=connectable != host)
