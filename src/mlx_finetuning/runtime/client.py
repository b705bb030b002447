"""Talks to a llama.cpp server on loopback, with the standard library. Starts nothing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

from mlx_finetuning.errors import RuntimeNotAnswering

Message = Mapping[str, str]
"""`role` and `content`."""


@dataclass(frozen=True)
class Answer:
    text: str
    tokens: int
    """Generated, with the one that ended the answer."""
    ended: bool
    """The model ended by itself; False: it was cut at `max_tokens`."""


@dataclass(frozen=True)
class Client:
    """A running server. All methods raise RuntimeNotAnswering."""

    address: str
    key: str
    timeout_s: float = 300.0

    def chat(
        self, messages: Sequence[Message], max_tokens: int = 128, temperature: float = 0.0
    ) -> Answer:
        """One answer; temperature 0 always takes the likeliest token."""
        body = self._post("/v1/chat/completions", _chat_body(messages, max_tokens, temperature))
        choice = body["choices"][0]
        return Answer(
            text=choice["message"]["content"] or "",
            tokens=body["usage"]["completion_tokens"],
            ended=choice["finish_reason"] == "stop",
        )

    def stream(
        self, messages: Sequence[Message], max_tokens: int = 128, temperature: float = 0.0
    ) -> Iterator[str]:
        """The answer's pieces as they are generated."""
        body = {**_chat_body(messages, max_tokens, temperature), "stream": True}
        with self._open("/v1/chat/completions", body) as response:
            for event in _events(response):
                if "error" in event:
                    raise RuntimeNotAnswering(reason=str(event["error"].get("message", "")))
                for choice in event.get("choices", []):
                    if piece := choice["delta"].get("content"):
                        yield piece

    def tokenize(self, text: str, add_special: bool = False) -> list[int]:
        """Token ids; special tokens in the text count as such."""
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return list(self._post("/tokenize", body)["tokens"])

    def apply_template(self, messages: Sequence[Message]) -> str:
        """The prompt that `chat` would feed, by the template in the file."""
        return str(self._post("/apply-template", {"messages": list(messages)})["prompt"])

    def is_healthy(self) -> bool:
        try:
            return bool(self._read("/health", None).get("status") == "ok")
        except RuntimeNotAnswering:
            return False

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._read(path, body)

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


def _chat_body(messages: Sequence[Message], max_tokens: int, temperature: float) -> dict[str, Any]:
    return {
        "messages": [dict(message) for message in messages],
        "max_tokens": max_tokens,
        "temperature": temperature,
    }


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
