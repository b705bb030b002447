"""Talks to Ollama's HTTP API. Every line of an answer is read: Ollama reports errors inside 200.

Each method is one request, but `upload`, which goes on after a broken connection. Sends no
credentials, follows no redirects and uses no proxy. Judges neither versions nor models.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_finetuning.errors import (
    NotOllama,
    OllamaConnectionLost,
    OllamaNotRunning,
    OllamaRefused,
    OllamaUploadDamaged,
)
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import _
from mlx_finetuning.ollama_integration.address import Address
from mlx_finetuning.ollama_integration.error_texts import error_for
from mlx_finetuning.progress import Progress, Step, silent
from mlx_finetuning.tokenization.answer import AnswerChunk, AnswerChunks
from mlx_finetuning.utils import encryption

if TYPE_CHECKING:
    import httpx2

Message = Mapping[str, str]
"""`role` and `content`."""
CONNECT_S = 3.0
ANSWER_S = 10.0
SILENCE_S = 900.0
"""A slow disk may keep Ollama busy for minutes without a word."""
ATTEMPTS = 3
RETRY_PAUSE_S = 1.0
MOST_BYTES = 64 << 20
"""Of an answer that is read whole; `show` repeats a model's vocabulary."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Model:
    """A model in Ollama's list."""

    name: str
    size_bytes: int
    modified_at: str
    architecture: str
    quantization: str


class Client:
    """A server that is taken to be Ollama; `health.connect` makes sure of that.

    All methods raise OllamaNotRunning, OllamaConnectionLost, and OllamaError by what Ollama says.
    """

    def __init__(self, address: Address, transport: httpx2.BaseTransport | None = None) -> None:
        import httpx2

        self.address = address
        timeout = httpx2.Timeout(ANSWER_S, connect=CONNECT_S)
        self._http = httpx2.Client(
            base_url=address.url,
            timeout=timeout,
            transport=transport,
            trust_env=False,
            verify=encryption.of(address.url),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    # --- models --------------------------------------------------------------------------

    def models(self) -> list[Model]:
        """All models, the newest first."""
        models = []
        for entry in self._ask("GET", "/api/tags").get("models") or []:
            details = entry.get("details") or {}
            models.append(
                Model(
                    name=str(entry.get("name") or entry.get("model") or ""),
                    size_bytes=int(entry.get("size") or 0),
                    modified_at=str(entry.get("modified_at") or ""),
                    architecture=str(details.get("family") or ""),
                    quantization=str(details.get("quantization_level") or ""),
                )
            )
        return models

    def show(self, name: str) -> JsonObject:
        """What Ollama knows of a model. Raises OllamaModelNotFound."""
        return self._ask("POST", "/api/show", {"model": name})

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name; one of that name is replaced. Raises OllamaModelNotFound."""
        self._ask("POST", "/api/copy", {"source": source, "destination": destination})

    def delete(self, name: str) -> None:
        """Raises OllamaModelNotFound."""
        self._ask("DELETE", "/api/delete", {"model": name})

    def create(self, request: Mapping[str, Any], progress: Progress = silent) -> None:
        """Make a model from blobs; one of that name is replaced.

        Raises OllamaOutOfSpace, OllamaArchitectureUnknown, OllamaRefused.
        """
        status = ""
        for line in self._lines("/api/create", {**request, "stream": True}):
            status = str(line.get("status", ""))
            done, total = int(line.get("completed") or 0), int(line.get("total") or 0)
            progress(Step(_("Ollamaへの登録"), done, total, status))
        if status != "success":
            raise OllamaConnectionLost(place=self.address.place, stage=_("登録", "stage"))

    # --- blobs ---------------------------------------------------------------------------

    def has_blob(self, digest: str) -> bool:
        """Whether the server has the file with this `sha256:…`."""
        with self._connection(_("確認", "stage")):
            response = self._http.head(f"/api/blobs/{digest}")
        if response.status_code not in (200, 404):
            raise OllamaRefused(reason=f"HTTP {response.status_code}")
        return response.status_code == 200

    def upload(self, path: Path, digest: str, progress: Progress = silent) -> None:
        """Send a file unless Ollama has it; a broken connection is tried again.

        Raises OllamaUploadDamaged, OllamaOutOfSpace.
        """
        for attempt in range(ATTEMPTS):
            try:
                if not self.has_blob(digest):
                    self._send(path, digest, progress)
                return
            except (OllamaConnectionLost, OllamaNotRunning, OllamaUploadDamaged):
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(RETRY_PAUSE_S)

    def _send(self, path: Path, digest: str, progress: Progress) -> None:
        import httpx2

        with self._connection(_("送信", "stage")):
            response = self._http.post(
                f"/api/blobs/{digest}",
                content=_blocks(path, _("Ollamaへの送信"), progress),
                headers={"Content-Length": str(path.stat().st_size)},
                timeout=httpx2.Timeout(SILENCE_S, connect=CONNECT_S),
            )
        if response.status_code == 400:
            raise OllamaUploadDamaged(path=str(path))
        if response.status_code not in (200, 201):
            raise error_for(_error_text(response), response.status_code)

    # --- answers -------------------------------------------------------------------------

    def render(self, name: str, messages: Sequence[Message]) -> str:
        """The prompt that Ollama would feed to the model."""
        body = {"model": name, "messages": list(messages), "stream": False}
        answer = self._ask("POST", "/api/chat", {**body, "_debug_render_only": True}, SILENCE_S)
        rendered = (answer.get("_debug_info") or {}).get("rendered_template")
        if not isinstance(rendered, str):
            raise OllamaRefused(reason=_("組み立てたプロンプトを返しませんでした。"))
        return rendered

    def chat(
        self,
        name: str,
        messages: Sequence[Message],
        max_tokens: int = 128,
        temperature: float | None = None,
        seed: int | None = None,
        schema: Mapping[str, object] | None = None,
    ) -> AnswerChunks:
        """The answer as it is generated; closing the generator stops the server's work.

        temperature, seed: None for the model's own setting; schema: of the JSON that it answers with.
        `think` is not sent: the template of a tuned model says itself whether it thinks.
        """
        chosen = {"num_predict": max_tokens, "temperature": temperature, "seed": seed}
        body: dict[str, object] = {
            "model": name,
            "messages": list(messages),
            "options": {key: value for key, value in chosen.items() if value is not None},
            "stream": True,
            **({"format": schema} if schema is not None else {}),
        }
        last: JsonObject = {}
        for last in self._lines("/api/chat", body):
            message = last.get("message") or {}
            if not isinstance(message, dict):
                raise NotOllama(reason=_("形の違う応答が返りました。"))
            text, thought = str(message.get("content") or ""), str(message.get("thinking") or "")
            if text or thought:
                yield AnswerChunk(text, reasoning=thought)
        if not last.get("done"):
            raise OllamaConnectionLost(place=self.address.place, stage=_("会話", "stage"))
        yield AnswerChunk(
            "",
            int(last.get("eval_count") or 0),
            last.get("done_reason") == "stop",
            int(last.get("prompt_eval_count") or 0),
        )

    def load(self, name: str) -> None:
        """Bring a model into memory, so that the first answer comes at once."""
        self._ask("POST", "/api/chat", {"model": name, "messages": []}, SILENCE_S)

    # --- the wire ------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        wait_s: float = ANSWER_S,
    ) -> JsonObject:
        import httpx2

        timeout = httpx2.Timeout(wait_s, connect=CONNECT_S)
        with self._connection(_("問い合わせ", "stage")):
            response = self._http.request(method, path, json=body, timeout=timeout)
        if response.status_code >= 300:
            raise error_for(_error_text(response), response.status_code)
        return _object(response.content) if response.content else {}

    def _lines(self, path: str, body: Mapping[str, object]) -> Iterator[JsonObject]:
        """The lines of a streamed answer. Raises what the first `error` among them says."""
        import httpx2

        timeout = httpx2.Timeout(SILENCE_S, connect=CONNECT_S)
        with (
            self._connection(_("処理", "stage")),
            self._http.stream("POST", path, json=body, timeout=timeout) as response,
        ):
            if response.status_code >= 300:
                response.read()
                raise error_for(_error_text(response), response.status_code)
            for text in response.iter_lines():
                if text:
                    line = _object(text)
                    if "error" in line:
                        raise error_for(str(line["error"]))
                    yield line

    @contextlib.contextmanager
    def _connection(self, stage: str) -> Iterator[None]:
        import httpx2

        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise OllamaNotRunning(place=self.address.place) from error
        except httpx2.RequestError as error:
            raise OllamaConnectionLost(place=self.address.place, stage=stage) from error


def words(
    chunks: Sequence[AnswerChunk], split: Callable[[str], tuple[str, str]]
) -> tuple[str, str]:
    """Reasoning and answer of all chunks; `split` tells them apart where Ollama has not."""
    thought = "".join(chunk.reasoning for chunk in chunks)
    text = "".join(chunk.text for chunk in chunks)
    return (thought, text.lstrip()) if thought else split(text)


def digest_of(path: Path, progress: Progress = silent) -> str:
    """`sha256:…` of a file."""
    digest = hashlib.sha256()
    for block in _blocks(path, _("ファイルの確認"), progress):
        digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _blocks(path: Path, stage: str, progress: Progress) -> Iterator[bytes]:
    size, done = path.stat().st_size, 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block
            done += len(block)
            progress(Step(stage, done, size))


def _object(content: bytes | str) -> JsonObject:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NotOllama(reason=_("JSONではない応答が返りました。")) from error
    if not isinstance(value, dict):
        raise NotOllama(reason=_("形の違う応答が返りました。"))
    return value


def _error_text(response: httpx2.Response) -> str:
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(response.content)
        if isinstance(value, dict) and value.get("error"):
            return str(value["error"])
    return f"HTTP {response.status_code}"
