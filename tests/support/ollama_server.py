"""Ollama's HTTP API on loopback, as far as the studio uses it, with its oddities.

Errors after the first line arrive inside 200; blobs answer 200, 201 and 400; connections break;
disks are slow or full; versions are old; the port may be a stranger's. Answers come from the
uploaded file itself, run by the embedded runtime. As Ollama does, a file whose chat template could
be taken for a known one is given another. Every request is recorded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mlx_finetuning.runtime import Client, serve
from mlx_finetuning.tokenization.reasoning import TAG, Format
from mlx_finetuning.utils import chat_template, gguf_reader

Json = dict[str, Any]
CREATE_STATES = (
    "parsing GGUF",
    "validating GGUF model",
    "verifying conversion",
    "writing manifest",
)


@dataclass
class Ollama:
    """The state of the server; tests change it while it runs."""

    folder: Path
    """Of blobs: one file per digest."""
    version: str = "0.36.1"
    version_body: bytes | None = None
    """A stranger's answer to the question for the version."""
    models: dict[str, Json] = field(default_factory=dict)
    """Name, with its tag → the request that made it."""
    cut_uploads: int = 0
    """So many uploads break off half-way."""
    damaged_uploads: int = 0
    """So many uploads arrive with a wrong byte: 400."""
    cut_creates: int = 0
    """So many answers to create end after the first line, as if the server was stopped."""
    cut_chats: int = 0
    answers_left: int | None = None
    """So many requests are answered before the server is gone; None: all."""
    breaks_copies: bool = False
    """Ends while it writes over a model: what had that name is lost."""
    disk_full: str = ""
    """`upload` or `create`."""
    create_error: str = ""
    """Said inside 200, after the first line."""
    slow_s: float = 0.0
    """Pause before each line of create."""
    doubles_bos: bool = False
    """Counts one token of the prompt too many."""
    never_ends: bool = False
    changes_answers: bool = False
    takes_adapters: bool | None = False
    """As versions before 0.34.1; later ones refuse, and None passes over the field."""
    splits_thinking: bool = False
    """Tells reasoning from the answer by itself, as newer versions do with models they know."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    received: int = 0
    """Bytes of blobs that came in, whole or not."""
    url: str = ""
    runtimes: dict[tuple[str, str], Client] = field(default_factory=dict)
    resources: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def blob(self, digest: str) -> Path:
        return self.folder / digest.replace(":", "-")

    def paths(self, method: str) -> list[str]:
        return [path for made, path in self.requests if made == method]

    def files(self, name: str) -> tuple[str, str]:
        """Digests of a model's weights, and of the adapter over them or nothing."""
        made = self.models[name]
        weights = (
            made["files"]["model.gguf"] if "files" in made else self.files(_full(made["from"]))[0]
        )
        return weights, (made.get("adapters") or {}).get("adapter.gguf", "")

    def runtime(self, name: str) -> Client:
        weights, adapter = digests = self.files(name)
        if digests not in self.runtimes:
            over = self.blob(adapter) if adapter else None
            self.runtimes[digests] = self.resources.enter_context(
                serve(self.blob(weights), adapter=over)
            )
        return self.runtimes[digests]

    def template_is_swapped(self, name: str) -> bool:
        path = self.blob(self.files(name)[0])
        template = gguf_reader.read(path).metadata.get("tokenizer.chat_template") or ""
        return not chat_template.is_protected(template)


@contextlib.contextmanager
def running_ollama(folder: Path) -> Iterator[Ollama]:
    """A server on a free port, stopped when the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    ollama = Ollama(folder)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.ollama = ollama
    ollama.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with ollama.resources:
            yield ollama
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    ollama: Ollama

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        ollama = self._noted()
        if self.path == "/api/version":
            version = json.dumps({"version": ollama.version}).encode()
            self._reply(200, ollama.version_body or version)
        elif self.path == "/api/tags":
            listed = [_listed(name, ollama) for name in reversed(ollama.models)]
            self._reply(200, {"models": listed})
        else:
            self._reply(404, b"404 page not found")

    def do_HEAD(self) -> None:
        exists = self._noted().blob(self.path.rsplit("/", 1)[1]).exists()
        self._reply(200 if exists else 404, b"")

    def do_DELETE(self) -> None:
        ollama, body = self._noted(), self._body()
        if ollama.models.pop(_full(body["model"]), None) is None:
            self._reply(404, {"error": f"model '{body['model']}' not found"})
        else:
            self._reply(200, b"")

    def do_POST(self) -> None:
        ollama = self._noted()
        if self.path.startswith("/api/blobs/"):
            self._receive(ollama, self.path.rsplit("/", 1)[1])
            return
        body = self._body()
        name = _full(body.get("model") or body.get("source") or "")
        if self.path == "/api/create":
            self._create(ollama, name, body)
        elif name not in ollama.models:
            self._reply(404, {"error": f"model '{name}' not found"})
        elif self.path == "/api/show":
            self._reply(200, _shown(name, ollama))
        elif self.path == "/api/copy":
            self._copy(ollama, name, _full(body["destination"]))
        elif self.path == "/api/chat":
            self._chat(ollama, name, body)
        else:
            self._reply(404, b"404 page not found")

    # --- blobs ---------------------------------------------------------------------------

    def _receive(self, ollama: Ollama, digest: str) -> None:
        if ollama.blob(digest).exists():
            self._reply(200, b"")
            return
        length = int(self.headers["Content-Length"])
        if ollama.cut_uploads:
            ollama.cut_uploads -= 1
            ollama.received += len(self.rfile.read(length // 2))
            self.connection.close()
            return
        content = self.rfile.read(length)
        ollama.received += length
        if ollama.disk_full == "upload":
            self._reply(500, {"error": f"write {digest}: no space left on device"})
        elif ollama.damaged_uploads or f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            ollama.damaged_uploads = max(ollama.damaged_uploads - 1, 0)
            error = f'digest mismatch, expected "{digest}", got "sha256:0"'
            self._reply(400, {"error": error})
        else:
            ollama.blob(digest).write_bytes(content)
            self._reply(201, b"")

    # --- models --------------------------------------------------------------------------

    def _create(self, ollama: Ollama, name: str, body: Json) -> None:
        if body.get("adapters") and ollama.takes_adapters is False:
            self._reply(400, {"error": "LoRA adapters are no longer supported"})
            return
        if ollama.takes_adapters is None:
            body.pop("adapters", None)
        base = _full(body.get("from") or "")
        if base in ollama.models and (kept := ollama.blob(ollama.files(base)[0])).exists():
            kept.touch()  # as Ollama does with the files of a model that another is made of
        self._start_stream()
        states = list(CREATE_STATES)
        sent = {**body.get("files", {}), **body.get("adapters", {})}
        if missing := [digest for digest in sent.values() if not ollama.blob(digest).exists()]:
            self._line({"error": f"open {ollama.blob(missing[0])}: no such file or directory"})
            return
        if ollama.cut_creates:
            ollama.cut_creates -= 1
            self._line({"status": states[0]})
            return
        full = "write blobs: no space left on device" if ollama.disk_full == "create" else ""
        error = ollama.create_error or full
        for state in states[:1] if error else states:
            time.sleep(ollama.slow_s)
            self._line({"status": state, "completed": 1, "total": 2})
        if error:
            self._line({"error": error})
            return
        ollama.models[name] = body
        self._line({"status": "success"})

    def _copy(self, ollama: Ollama, name: str, destination: str) -> None:
        if ollama.breaks_copies and destination in ollama.models:
            del ollama.models[destination]
            raise ConnectionAbortedError
        ollama.models[destination] = ollama.models[name]
        self._reply(200, b"")

    def _chat(self, ollama: Ollama, name: str, body: Json) -> None:
        messages = body["messages"]
        if "think" in body:
            self._reply(400, {"error": f'"{name}" does not support thinking'})
            return
        system = ollama.models[name].get("system")
        if system and messages and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        if body.get("_debug_render_only"):
            prompt = "\n".join(f"### {turn['role']}: {turn['content']}" for turn in messages)
            if not ollama.template_is_swapped(name):
                prompt = ollama.runtime(name).apply_template(messages)
            self._reply(200, {"_debug_info": {"rendered_template": prompt}})
            return
        self._start_stream()
        options = body.get("options", {})
        chunks = ollama.runtime(name).stream(
            messages, options.get("num_predict", 128), options.get("temperature", 0.8)
        )
        splitter = Format(TAG if ollama.splits_thinking else None).splitter()
        for chunk in chunks:
            thought, text = splitter.feed(chunk.text)
            if text or thought:
                message = {"role": "assistant", "content": text}
                message |= {"thinking": thought} if thought else {}
                self._line({"model": name, "message": message, "done": False})
                if ollama.cut_chats:
                    ollama.cut_chats -= 1
                    return
        if ollama.changes_answers:
            self._line({"message": {"role": "assistant", "content": "！"}, "done": False})
        reason = "stop" if chunk.ended and not ollama.never_ends else "length"
        last = {"done": True, "done_reason": reason, "eval_count": chunk.tokens}
        self._line({**last, "prompt_eval_count": chunk.prompt_tokens + ollama.doubles_bos})

    # --- the wire ------------------------------------------------------------------------

    def _noted(self) -> Ollama:
        ollama = self.server.ollama
        if ollama.answers_left == 0:
            raise ConnectionAbortedError
        if ollama.answers_left is not None:
            ollama.answers_left -= 1
        ollama.requests.append((self.command, self.path))
        return ollama

    def _body(self) -> Json:
        body: Json = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        return body

    def _start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()

    def _line(self, value: Json) -> None:
        self.wfile.write(json.dumps(value).encode() + b"\n")
        self.wfile.flush()

    def _reply(self, status: int, body: bytes | Json) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _listed(name: str, ollama: Ollama) -> Json:
    size = ollama.blob(ollama.files(name)[0]).stat().st_size
    details = {"family": "llama", "quantization_level": "Q8_0"}
    modified = "2026-11-01T09:30:00.123456789+09:00"
    return {"name": name, "size": size, "modified_at": modified, "details": details}


def _shown(name: str, ollama: Ollama) -> Json:
    system = ollama.models[name].get("system", "")
    weights, adapter = (str(ollama.blob(digest)) if digest else "" for digest in ollama.files(name))
    modelfile = f"# FROM {name}\n\nFROM {weights}\n" + (f"ADAPTER {adapter}\n" if adapter else "")
    details = {"family": "llama", "format": "gguf"}
    return {"system": system, "details": details, "modelfile": modelfile}
