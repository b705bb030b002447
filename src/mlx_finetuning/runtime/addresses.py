"""An OpenAI-compatible server that the user names. Nothing is asked of one that was not named."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlx_finetuning.errors import AddressInvalid
from mlx_finetuning.language import _

KEY_VARIABLE = "MLX_FINETUNING_API_KEY"
"""Our own: a key that is there for another service must not go to an address somebody typed."""


@dataclass(frozen=True)
class ServerAddress:
    """Where requests go."""

    url: str
    """Before `/v1`."""
    host: str

    @property
    def is_local(self) -> bool:
        """Whether what is sent stays on this machine."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"


def read(text: str) -> ServerAddress:
    """An address with or without `/v1` behind it. Raises AddressInvalid."""
    try:
        parts = urlsplit(text.strip())
        host = parts.hostname or ""
        __ = parts.port
    except ValueError as error:
        raise AddressInvalid(reason=_("形がURLではありません。")) from error
    if parts.scheme not in ("http", "https") or not host:
        raise AddressInvalid(
            reason=_("http:// か https:// で始まる、サーバーの住所ではありません。")
        )
    if parts.username is not None or parts.password is not None or parts.query:
        # It would stand in files and be shown.
        raise AddressInvalid(
            reason=_("鍵やパスワードは書けません。鍵は環境変数 {variable} で渡します。").format(
                variable=KEY_VARIABLE
            )
        )
    path = parts.path.rstrip("/").removesuffix("/v1")
    address = ServerAddress(f"{parts.scheme}://{parts.netloc}{path}", host)
    if parts.scheme == "http" and not address.is_local and os.environ.get(KEY_VARIABLE):
        raise AddressInvalid(
            reason=_(
                "暗号化されない http:// では、ほかの機械に鍵を送れません。https:// を使ってください。"
            )
        )
    return address


def key() -> str:
    """The user's key for the address; empty where none is set."""
    return os.environ.get(KEY_VARIABLE, "")
