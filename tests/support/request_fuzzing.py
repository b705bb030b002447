"""Mutated requests to an endpoint: `python -m support.request_fuzzing ADDRESS KEY COUNT SEED`, from the
folder `tests`.

Each case is a request with a node of its JSON exchanged, a few mutations of its bytes, or both, sent
whole or in part; the reader may leave at any time. Whatever was sent, the answer is well-formed, and no
unforeseen error. Prints one JSON object: how the cases were answered, and the findings with what made
them. What is sent follows from the seed.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import socket
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from support.fuzzing import mutated, reshaped

AT_ONCE = 8
PATIENCE_S = 120
REFUSALS = {400, 401, 403, 404, 405, 413, 415}
HELLO = {"messages": [{"role": "user", "content": "こんにちは"}], "max_tokens": 3}
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}},
}
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, "x"]}}, "required": ["a"]}
CALLED: list[dict[str, Any]] = [
    {"role": "system", "content": [{"type": "text", "text": "短く"}]},
    {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "火曜"},
    {"role": "user", "content": "いつ？"},
]
CHATS = (
    HELLO,
    HELLO | {"stream": True, "stream_options": {"include_usage": True}, "stop": ["ん", "\n"]},
    HELLO | {"n": 2, "seed": 3, "temperature": 1.0, "top_p": 0.9, "top_k": 5, "min_p": 0.1},
    HELLO | {"logprobs": True, "top_logprobs": 2, "presence_penalty": 1, "stream": True},
    HELLO | {"messages": CALLED, "tools": [TOOL], "tool_choice": "auto"},
    HELLO
    | {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
    HELLO | {"frequency_penalty": 1, "repetition_penalty": 1.2, "user": "u", "metadata": {}},
)
TEXTS = (
    {"prompt": "むかし", "max_tokens": 3, "logprobs": 2},
    {"prompt": ["あ", "い"], "max_tokens": 3, "stream": True},
)
ODD = ("\ud800", "あ" * 200_000, "<|im_end|>", "\0", "\u2028", "🍣", "\u202e")


def body(draw: random.Random) -> tuple[str, bytes]:
    """The place and the bytes of a request."""
    path, seeds = draw.choice((("chat/completions", CHATS), ("completions", TEXTS)))
    seed = dict(draw.choice(seeds))
    if draw.random() < 0.2:
        seed[draw.choice((*seed, "model", "unknown"))] = draw.choice(ODD)
    data, way = json.dumps(seed).encode(), draw.randrange(4)
    if way:
        data = reshaped(data, draw)
    return f"/v1/{path}", mutated(data, draw) if way == 1 else data


class Malformed(Exception):
    """An answer that no client could read."""


def ask(host: str, key: str, draw: random.Random) -> str:
    """One case; how it was answered. Raises Malformed, OSError, HTTPException."""
    path, data = body(draw)
    manner = draw.choice(("whole", "whole", "whole", "whole", "leaves", "half"))
    connection = http.client.HTTPConnection(host, timeout=PATIENCE_S)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    odd_head = draw.random() < 0.05
    if odd_head:
        headers[draw.choice((*headers, "Origin", "Host", "Content-Length"))] = draw.choice(
            ("", "x", "-1", "9" * 30, "null")
        )
    if manner == "half":
        with socket.create_connection((connection.host, connection.port)) as raw:
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            length = f"Host: {host}\r\nContent-Length: {len(data)}\r\n"
            request = f"POST {path} HTTP/1.1\r\n{length}{head}\r\n".encode() + data
            raw.sendall(request[: draw.randrange(len(request))])
        return manner
    connection.request("POST", path, data, headers)
    if manner == "leaves":
        if draw.random() < 0.5:
            connection.getresponse().read(draw.randrange(200))
        connection.close()
        return manner
    try:
        answer = connection.getresponse()
    except ConnectionResetError:
        if odd_head:  # refused and closed with the body unread, which may overtake the refusal
            return "closed"
        raise
    text = answer.read()
    connection.close()
    if answer.getheader("Content-Type", "").startswith("text/event-stream"):
        require_events(text, path)
    elif answer.status == 200:
        model: type[BaseModel] = ChatCompletion if "chat" in path else Completion
        model.model_validate(parsed(text), strict=True)
    elif answer.status not in REFUSALS:
        raise Malformed(f"{answer.status}: {text[:300]!r}")
    elif answer.getheader("Content-Type") == "application/json":
        str(parsed(text)["error"]["message"])
    elif headers.get("Content-Length") is None:  # the server itself refuses heads that are none
        raise Malformed(f"{answer.status}: {text[:300]!r}")
    return str(answer.status)


def require_events(text: bytes, path: str) -> None:
    """Raises Malformed, and ValueError where the client's own classes do not take an event."""
    *events, last, end = text.decode().split("\n\n")
    if last != "data: [DONE]" or end:
        raise Malformed(f"{text[-300:]!r}")
    model: type[BaseModel] = ChatCompletionChunk if "chat" in path else Completion
    for event in events:
        value = parsed(event.removeprefix("data: ").encode())
        if "error" in value:
            raise Malformed(event)
        if "chat" in path or any(choice["finish_reason"] for choice in value["choices"]):
            model.model_validate(value)


def parsed(text: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise Malformed(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def fuzz(host: str, key: str, count: int, seed: int) -> tuple[Counter[str], list[dict[str, str]]]:
    """How the cases were answered, and what was found, each kind once."""

    def case(number: int) -> tuple[str, dict[str, str] | None]:
        try:
            return ask(host, key, random.Random(f"{seed}:{number}")), None
        except (Malformed, OSError, http.client.HTTPException, ValueError) as error:
            _, sent = body(random.Random(f"{seed}:{number}"))
            shown = base64.b64encode(sent[:2000]).decode()
            return "finding", {"number": str(number), "error": repr(error)[:500], "content": shown}

    found: dict[str, dict[str, str]] = {}
    answers: Counter[str] = Counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for answer, finding in pool.map(case, range(count)):
            answers[answer] += 1
            if finding:
                found.setdefault(finding["error"][:60], finding)
    return answers, list(found.values())


if __name__ == "__main__":
    answered, findings = fuzz(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    json.dump({"answers": answered, "findings": findings}, sys.stdout, indent=1)
    sys.exit(1 if findings else 0)
