"""Whether Ollama answers, which version, and what is wrong with it. Sends one GET and changes nothing.

A server that listens is not yet Ollama: its answer to `/api/version` decides.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_finetuning.errors import (
    NotOllama,
    OllamaError,
    OllamaNotInstalled,
    OllamaNotRunning,
    OllamaTooOld,
)
from mlx_finetuning.language import N_, _
from mlx_finetuning.ollama_integration import address
from mlx_finetuning.ollama_integration.address import Address
from mlx_finetuning.ollama_integration.client import Client
from mlx_finetuning.utils import encryption

if TYPE_CHECKING:
    import httpx2

TIMEOUT_S = 1.0
OLDEST = (0, 30, 0)
"""The first that runs a GGUF file's own chat template."""
UNKNOWN = (0, 0, 0)
"""What a server built from source says."""
WITH_HOLE = ((0, 34, 2), (0, 35, 0))
"""First and last version with a known hole."""
VERSION = re.compile(r"[\w.+-]{1,40}", re.ASCII)
MOST_BYTES = 10_000
MAC_APPLICATION = Path("/Applications/Ollama.app")

HOLE_JA = N_("既知の弱点のある版です。新しい版に更新してください。")
EXPOSED_JA = N_(
    "0.0.0.0 で待ち受けると、同じネットワークの誰でも使えます。"
    "必要がなければ OLLAMA_HOST を外してください。"
)


@dataclass(frozen=True)
class Status:
    """Whether Ollama can be used."""

    place: str
    """`127.0.0.1:11434`."""
    version: str = ""
    """Empty if nobody, or a stranger, answers."""
    problem: OllamaError | None = None
    """Why it cannot be used; None: it can."""
    warnings: tuple[str, ...] = ()
    """In Japanese."""


def status(host: str | None = None, transport: httpx2.BaseTransport | None = None) -> Status:
    """Who answers at `host`, else where OLLAMA_HOST points. Raises OllamaHostInvalid."""
    return _status(address.read(host), transport)


def connect(host: str | None = None, transport: httpx2.BaseTransport | None = None) -> Client:
    """A client of a server that can be used.

    Raises OllamaHostInvalid, OllamaNotInstalled, OllamaNotRunning, NotOllama, OllamaTooOld.
    """
    where = address.read(host)
    problem = _status(where, transport).problem
    if problem is not None:
        raise problem
    return Client(where, transport)


def _status(where: Address, transport: httpx2.BaseTransport | None) -> Status:
    try:
        version = _version(where, transport)
    except OllamaError as problem:
        return Status(where.place, problem=problem)
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if UNKNOWN < numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return Status(where.place, version, OllamaTooOld(reason=f"{version} < {oldest}"))
    warnings = [_(HOLE_JA)] if WITH_HOLE[0] <= numbers <= WITH_HOLE[1] else []
    warnings += [_(EXPOSED_JA)] if where.is_exposed else []
    return Status(where.place, version, warnings=tuple(warnings))


def _version(where: Address, transport: httpx2.BaseTransport | None) -> str:
    """Raises OllamaNotInstalled, OllamaNotRunning, NotOllama."""
    import httpx2

    verify = encryption.of(where.url)
    with httpx2.Client(
        transport=transport, timeout=TIMEOUT_S, trust_env=False, verify=verify
    ) as http:
        try:
            with http.stream("GET", f"{where.url}/api/version") as response:
                content = next(response.iter_bytes(MOST_BYTES), b"")
                status_code = response.status_code
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            on_mac = sys.platform == "darwin" and MAC_APPLICATION.exists()
            if not where.is_local or on_mac or shutil.which("ollama") is not None:
                raise OllamaNotRunning(place=where.place) from error
            raise OllamaNotInstalled(place=where.place) from error
        except httpx2.RequestError as error:
            # Somebody is there; silence or nonsense means it is not Ollama.
            raise NotOllama(
                reason=_("{place} の応答はOllamaのものではありません。").format(place=where.place)
            ) from error
    with contextlib.suppress(ValueError, RecursionError):
        answer = json.loads(content)
        version = answer.get("version") if isinstance(answer, dict) else None
        if status_code == 200 and isinstance(version, str) and VERSION.fullmatch(version):
            return version
    raise NotOllama(
        reason=_("{place} の応答はOllamaのものではありません。").format(place=where.place)
    )
