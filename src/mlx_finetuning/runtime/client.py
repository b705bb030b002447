"""Talks to an OpenAI-compatible server on loopback, with the standard library. Starts nothing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

from mlx_finetuning.errors import RuntimeNotAnswering
from mlx_finetuning.runtime.answers import Answer, Message, Piece, Pieces, collect


@dataclass(frozen=True)
class Client:
    """A running server. All methods raise RuntimeNotAnswering."""

    address: str
    key: str
    timeout_s: float = 300.0
    """Longest silence."""

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
    ) -> Pieces:
        """The answer's pieces as they are generated; the last one, without text, has the counts.

        Closing the generator closes the connection, and with it the server's work.
        """
        body = {
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({"model": model} if model else {}),
        }
        reason = ""
        usage: dict[str, int] = {}
        with self._open("/v1/chat/completions", body) as response:
            for event in _events(response):
                if "error" in event:
                    raise RuntimeNotAnswering(reason=str(event["error"].get("message", "")))
                usage = event.get("usage") or usage
                for choice in event.get("choices", []):
                    reason = choice.get("finish_reason") or reason
                    if text := choice["delta"].get("content"):
                        yield Piece(text)
        if not reason:
            raise RuntimeNotAnswering(reason="答えの途中で、サーバーとの接続が切れました。")
        yield Piece(
            "", usage.get("completion_tokens", 0), reason == "stop", usage.get("prompt_tokens", 0)
        )

    def answer_ids(
        self, tokens: Sequence[int], max_tokens: int = 128, temperature: float = 0.0
    ) -> Answer:
        """`chat` for a prompt that is rendered and cut already."""
        return collect(self.stream_ids(tokens, max_tokens, temperature))

    def stream_ids(
        self, tokens: Sequence[int], max_tokens: int = 128, temperature: float = 0.0
    ) -> Pieces:
        """`stream` for a prompt that is rendered and cut already; llama.cpp's server only.

        The server adds no token to it, so a model is asked as it was trained even where llama.cpp
        cuts texts otherwise than its tokenizer.
        """
        body = {
            "prompt": list(tokens),
            "n_predict": max_tokens,
            "temperature": temperature,
            "stream": True,
        }
        with self._open("/completion", body) as response:
            for event in _events(response):
                if "error" in event:
                    raise RuntimeNotAnswering(reason=str(event["error"].get("message", "")))
                if text := event.get("content"):
                    yield Piece(text)
                if event.get("stop"):
                    ended = event.get("stop_type") != "limit"
                    counts = event.get("tokens_predicted", 0), event.get("tokens_evaluated", 0)
                    yield Piece("", counts[0], ended, counts[1])
                    return
        raise RuntimeNotAnswering(reason="答えの途中で、サーバーとの接続が切れました。")

    def tokenize(self, text: str, add_special: bool = False) -> list[int]:
        """Token ids; special tokens in the text count as such. llama.cpp's server only."""
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return list(self._read("/tokenize", body)["tokens"])

    def apply_template(self, messages: Sequence[Message]) -> str:
        """The prompt that `chat` would feed. llama.cpp's server only."""
        return str(self._read("/apply-template", {"messages": list(messages)})["prompt"])

    def is_healthy(self) -> bool:
        try:
            return bool(self._read("/health", None).get("status") == "ok")
        except RuntimeNotAnswering:
            return False

    def _read(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        with self._open(path, body) as response:
            try:
                value: dict[str, Any] = json.load(response)
            except (OSError, ValueError, HTTPException) as error:
                raise RuntimeNotAnswering(reason=str(error)) from error
        return value

    def _open(self, path: str, body: dict[str, Any] | None) -> HTTPResponse:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, headers)
        # A proxy from the environment must not see traffic to this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            response: HTTPResponse = opener.open(request, timeout=self.timeout_s)
        except urllib.error.HTTPError as error:
            raise RuntimeNotAnswering(reason=_complaint(error)) from error
        except (OSError, HTTPException) as error:
            raise RuntimeNotAnswering(reason=str(error)) from error
        return response


def _events(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON events of a server-sent stream, up to its end."""
    try:
        for line in response:
            name, _, value = line.decode("utf-8").strip().partition(": ")
            if value == "[DONE]":
                return
            if name in ("data", "error") and value:
                yield json.loads(value)
    except (OSError, ValueError, HTTPException) as error:
        raise RuntimeNotAnswering(reason=str(error)) from error


def _complaint(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"
