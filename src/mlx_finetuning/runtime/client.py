"""Talks to an OpenAI-compatible server: of ours on loopback, or of others where the user names it.
Starts nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlx_finetuning.config import SamplingConfig
from mlx_finetuning.errors import PromptTooLong, RuntimeNotAnswering, StudioError
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import _
from mlx_finetuning.runtime.answers import Message, collect
from mlx_finetuning.tokenization.answer import Answer, AnswerChunk, AnswerChunks
from mlx_finetuning.tokenization.likelihood import Likelihood
from mlx_finetuning.utils import encryption

if TYPE_CHECKING:
    import httpx2

LARGEST = 2**31 - 1
"""llama.cpp's numbers have 32 bits."""


class Client:
    """A running server. All methods raise RuntimeNotAnswering, and what an endpoint of ours raised."""

    def __init__(
        self,
        address: str,
        key: str,
        timeout_s: float = 300.0,
        transport: httpx2.BaseTransport | None = None,
        *,
        is_ours: bool = True,
    ) -> None:
        """timeout_s: the longest silence; transport: in place of the network, for tests; is_ours: on
        loopback, started by us."""
        # Imported here: the server process imports this package too, and needs no client.
        import httpx2

        self.address = address
        self.key = key
        self._http = httpx2.Client(
            base_url=address,
            headers=httpx2.Headers(
                {
                    "Content-Type": "application/json",
                    **({"Authorization": f"Bearer {key}"} if key or is_ours else {}),
                },
                encoding="latin-1",
            ),
            timeout=timeout_s,
            transport=transport,
            # A proxy from the environment must not see traffic to this machine.
            trust_env=not is_ours,
            verify=encryption.of(address),
            # The servers close a connection after each answer.
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    def chat(
        self, messages: Sequence[Message], max_tokens: int = 128, temperature: float = 0.0
    ) -> Answer:
        """One answer; temperature 0 always takes the likeliest token."""
        return collect(self.stream(messages, max_tokens, temperature))

    def stream(
        self,
        messages: Sequence[Message],
        max_tokens: int = 128,
        temperature: float = 0.0,
        model: str | None = None,
        seed: int | None = None,
    ) -> AnswerChunks:
        """The answer's chunks as they are generated; the last one, without text, has the counts.

        Closing the generator closes the connection, and with it the server's work.
        """
        body = {
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({"model": model} if model else {}),
            **({"seed": seed} if seed is not None else {}),
        }
        reason = ""
        usage: dict[str, int] = {}
        with self._open("/v1/chat/completions", body) as response:
            for event in _events(response):
                usage = event.get("usage") or usage
                for choice in event.get("choices", []):
                    reason = choice.get("finish_reason") or reason
                    delta = choice.get("delta") or {}
                    text, thought = delta.get("content"), delta.get("reasoning_content")
                    if text or thought:
                        yield AnswerChunk(text or "", reasoning=thought or "")
        if not reason:
            raise RuntimeNotAnswering(reason=_("答えの途中で、サーバーとの接続が切れました。"))
        yield AnswerChunk(
            "", usage.get("completion_tokens", 0), reason == "stop", usage.get("prompt_tokens", 0)
        )

    def answer_ids(
        self,
        tokens: Sequence[int],
        max_tokens: int = 128,
        temperature: float = 0.0,
        signs: Sequence[str] = (),
    ) -> Answer:
        """`chat` for a prompt that is rendered and cut already."""
        return collect(self.stream_ids(tokens, max_tokens, temperature, signs))

    def stream_ids(
        self,
        tokens: Sequence[int],
        max_tokens: int = 128,
        temperature: float = 0.0,
        signs: Sequence[str] = (),
        sampling: SamplingConfig | None = None,
        grammar: str = "",
        others: int | None = None,
    ) -> AnswerChunks:
        """`stream` for a prompt that is rendered and cut already; llama.cpp's server only.

        The server adds no token to it, so a model is asked as it was trained even where llama.cpp
        cuts texts otherwise than its tokenizer. signs: control tokens that the text has to show;
        grammar: of the texts that may be generated, in GBNF; others: of how many tokens to tell the
        likelihood beside the chosen one's, None: of none at all.
        """
        body = {
            "prompt": list(tokens),
            "n_predict": min(max_tokens, LARGEST),
            "preserved_tokens": list(signs),
            "temperature": temperature,
            "stream": True,
            **_sampling(sampling or SamplingConfig()),
            **({"grammar": grammar} if grammar else {}),
            # Without one, it tells of the chosen token neither.
            **({} if others is None else {"n_probs": max(1, others)}),
        }
        with self._open("/completion", body) as response:
            for event in _events(response):
                count = event.get("tokens_predicted", 0)
                asked = event.get("tokens_evaluated", 0)
                likely = tuple(
                    _likelihood(told, others or 0)
                    for told in event.get("completion_probabilities", ())
                    if told["bytes"]  # none: of the end
                )
                text = event.get("content") or ""
                if text or likely:
                    yield AnswerChunk(text, count, False, asked, likelihoods=likely)
                if event.get("stop"):
                    yield AnswerChunk("", count, event.get("stop_type") != "limit", asked)
                    return
        raise RuntimeNotAnswering(reason=_("答えの途中で、サーバーとの接続が切れました。"))

    def tokenize(
        self, text: str, add_special: bool = False, parse_special: bool = True
    ) -> list[int]:
        """Token ids; special tokens in the text count as such, or as letters. llama.cpp's server only."""
        body = {"content": text, "add_special": add_special, "parse_special": parse_special}
        return list(self._read("/tokenize", body)["tokens"])

    def apply_template(self, messages: Sequence[Message]) -> str:
        """The prompt that `chat` would feed. llama.cpp's server only."""
        return str(self._read("/apply-template", {"messages": list(messages)})["prompt"])

    def is_healthy(self) -> bool:
        """Whether it answers now."""
        try:
            return bool(self._read("/health", None).get("status") == "ok")
        except RuntimeNotAnswering:
            return False

    def _read(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        with self._open(path, body) as response:
            value: dict[str, Any] = json.loads(response.read())
        return value

    @contextlib.contextmanager
    def _open(self, path: str, body: dict[str, Any] | None) -> Iterator[httpx2.Response]:
        """The answer to a request, not yet read; without a body the request is a GET."""
        import httpx2

        method, data = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
        try:
            with self._http.stream(method, path, content=data) as response:
                if response.is_error:
                    response.read()
                    raise _error(response)
                yield response
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            reason = str(error) or type(error).__name__  # silence has no words
            raise RuntimeNotAnswering(reason=reason) from error


def _sampling(config: SamplingConfig) -> Mapping[str, object]:
    """llama.cpp's words for it; all of them, since it has defaults of its own."""
    return {
        "samplers": ["penalties", "top_p", "min_p", "top_k", "temperature"],
        "top_p": config.top_p,
        "min_p": config.min_p,
        "top_k": min(config.top_k, LARGEST),
        "seed": config.seed if config.seed < 0 else config.seed % LARGEST,
        "presence_penalty": config.presence_penalty,
        "frequency_penalty": config.frequency_penalty,
        "repeat_penalty": config.repetition_penalty,
    }


def _likelihood(told: Mapping[str, Any], others: int) -> Likelihood:
    """As llama.cpp tells of a token, with at most so many others."""
    rest = tuple(_likelihood(other, 0) for other in told.get("top_logprobs", ())[:others])
    return Likelihood(told["token"], bytes(told["bytes"]), float(told["logprob"]), rest)


def _events(response: httpx2.Response) -> Iterator[JsonObject]:
    """The JSON events of a server-sent stream, up to its end. Raises RuntimeNotAnswering for the
    event of an error, and ValueError."""
    for line in _lines(response):
        # llama.cpp has also sent errors in a field of their own, which the standard does not know.
        name, __, value = line.decode("utf-8").strip().partition(": ")
        if value == "[DONE]":
            return
        if name in ("data", "error") and value:
            event = json.loads(value)
            if not isinstance(event, dict) or not _are_objects(event.get("choices", [])):
                raise ValueError(_("サーバーの応答の形が違います。"))
            if event.get("error"):
                raise _raised(event["error"])
            yield event


def _are_objects(choices: object) -> bool:
    return isinstance(choices, list) and all(
        isinstance(choice, dict) and isinstance(choice.get("delta") or {}, dict)
        for choice in choices
    )


def _lines(response: httpx2.Response) -> Iterator[bytes]:
    """Not `iter_lines`, which also divides at U+2028 and its like, and JSON may hold those."""
    rest = b""
    for block in response.iter_bytes():
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest


def _error(response: httpx2.Response) -> StudioError:
    try:
        return _raised(response.json()["error"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return RuntimeNotAnswering(reason=f"HTTP {response.status_code}")


def _raised(error: Any) -> StudioError:
    """The error that a server tells of: one of ours as it was raised there."""
    if not isinstance(error, dict):
        return RuntimeNotAnswering(reason=str(error))
    if error.get("code") in StudioError.registry:
        return StudioError.from_json(error)
    if error.get("type") == "exceed_context_size_error":  # of llama.cpp
        return PromptTooLong(tokens=error["n_prompt_tokens"], limit=error["n_ctx"])
    return RuntimeNotAnswering(reason=str(error.get("message", error)))
