"""A small Hugging Face hub on loopback: what download and upload need, and their ways to fail.

Speaks `GET /api/models/ID` and `GET|HEAD /ID/resolve/COMMIT/FILE` with the headers of the real
hub: ranges, hashes, redirects of large files to a second host, gated repositories, rejected
tokens, and connections that break off. Takes new repositories and commits, whose large files come
by LFS. Every request is recorded with its headers.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD_TOKEN = "hf_canaryGoodTokenDoNotStore0001"
KNOWN_TOKEN_WITHOUT_ACCESS = "hf_canaryNoAccessDoNotStore0002"
LARGE = ".safetensors"
"""Files with this suffix are stored as LFS: a SHA-256, and a redirect to the file host."""


@dataclass
class Repository:
    files: dict[str, bytes]
    commit: str = "0" * 40
    gated: bool = False
    private: bool = False
    commits: list[str] = field(default_factory=list)
    """Messages of those that came by upload."""


@dataclass
class Hub:
    """The state of the server; tests change it while it runs."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes after which a large file's connection is dropped, each time."""
    ignore_ranges: bool = False
    corrupt: bool = False
    """Large files arrive with a wrong byte, at the right length."""
    status: int | None = None
    """Answer everything with this status."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files that were uploaded, by SHA-256."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, `hub` or `files` and path, headers in lower case."""
    url: str = ""
    file_host: str = ""

    def ranges(self, name: str) -> list[str | None]:
        """The Range headers with which the file host was asked for `name`."""
        return [
            headers.get("range")
            for _, path, headers in self.requests
            if path.startswith("files") and path.endswith(name)
        ]


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub and its file host on free ports, stopped when the block ends."""
    hub = Hub()
    main, files = _server(hub, _HubHandler), _server(hub, _FileHandler)
    hub.url = f"http://127.0.0.1:{main.server_port}"
    hub.file_host = f"http://127.0.0.1:{files.server_port}"
    try:
        yield hub
    finally:
        for server in (main, files):
            server.shutdown()
            server.server_close()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is part of the tests."""


def _server(hub: Hub, handler: type[BaseHTTPRequestHandler]) -> _Server:
    server = _Server(("127.0.0.1", 0), handler)
    server.hub = hub
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    label = ""

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.hub.requests.append((self.command, f"{self.label}{self.path}", headers))
        self.answer(self.server.hub)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, hub: Hub) -> None:
        raise NotImplementedError

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self.reply(status, json.dumps({"error": message}).encode(), headers)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class _HubHandler(_Handler):
    label = "hub"

    def answer(self, hub: Hub) -> None:
        if hub.status is not None:
            self.refuse(hub.status, "", "Server error")
            return
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in ("", GOOD_TOKEN, KNOWN_TOKEN_WITHOUT_ACCESS):
            self.reply(
                401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"}
            )
            return
        if self.command == "POST":
            self.take(hub, token)
            return
        info = re.fullmatch(r"/api/models/([^/]+/[^/?]+)(/revision/[^?]+)?(\?.*)?", self.path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)", self.path)
        found = info or file
        repository = hub.repositories.get(found[1]) if found else None
        if repository is None:
            # The real hub does not tell a stranger whether a repository exists.
            status = 404 if token else 401
            self.refuse(status, "RepoNotFound", "Repository not found")
        elif info:
            self.reply(200, json.dumps(_info(info[1], repository)).encode())
        elif repository.gated and token != GOOD_TOKEN:
            self.refuse(403 if token else 401, "GatedRepo", "Access to model is restricted.")
        elif file:
            self.send_file(hub, repository, file[1], file[3])

    def take(self, hub: Hub, token: str) -> None:
        body = self.body()
        if token != GOOD_TOKEN:
            self.refuse(401, "", "Unauthorized")
        elif self.path == "/api/validate-yaml":
            self.reply(200, b'{"errors": [], "warnings": []}')
        elif self.path == "/api/repos/create":
            wanted = json.loads(body)
            repo_id = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
            is_new = repo_id not in hub.repositories
            private = wanted.get("private") or wanted.get("visibility") == "private"
            hub.repositories.setdefault(repo_id, Repository({}, private=bool(private)))
            answer = {"url": f"{hub.url}/{repo_id}", "id": repo_id}
            self.reply(200 if is_new else 409, json.dumps(answer).encode())
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main.*", self.path):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith((LARGE, ".gguf")) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self.reply(200, json.dumps({"files": files}).encode())
        elif re.fullmatch(r"/[^/]+/[^/]+\.git/info/lfs/objects/batch", self.path):
            objects = [
                {**one, "actions": {"upload": {"href": f"{hub.file_host}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self.reply(200, json.dumps({"transfer": "basic", "objects": objects}).encode())
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main.*", self.path):
            self.commit(hub, match[1], body)

    def commit(self, hub: Hub, repo_id: str, body: bytes) -> None:
        repository = hub.repositories[repo_id]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repository.commits.append(value["summary"])
            elif line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = hub.objects[value["oid"]]
        answer = {"commitUrl": f"{hub.url}/{repo_id}/commit/1", "commitOid": "1" * 40}
        self.reply(200, json.dumps(answer).encode())

    def send_file(self, hub: Hub, repository: Repository, repo_id: str, name: str) -> None:
        content = repository.files.get(name)
        if content is None:
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": repository.commit}
        if not name.endswith(LARGE):
            self.reply(200, content, headers | {"ETag": f'"{git_hash(content)}"'})
            return
        headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        headers["X-Linked-Size"] = str(len(content))
        headers["Location"] = f"{hub.file_host}/{repo_id}/{name}"
        self.reply(302, b"", headers)


class _FileHandler(_Handler):
    label = "files"

    def answer(self, hub: Hub) -> None:
        if self.command == "PUT":
            content = self.body()
            hub.objects[self.path.rpartition("/")[2]] = content
            self.reply(200, b"")
            return
        owner, name, file = self.path.strip("/").split("/")
        content = hub.repositories[f"{owner}/{name}"].files[file]
        if hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(wanted[1]) if wanted and not hub.ignore_ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = len(content) if hub.cut_after is None else start + hub.cut_after
        self.wfile.write(content[start:end])
        if end < len(content):
            self.close_connection = True


def _info(repo_id: str, repository: Repository) -> dict[str, object]:
    return {
        "id": repo_id,
        "sha": repository.commit,
        "gated": "manual" if repository.gated else False,
        "private": repository.private,
        "tags": [],
        "downloads": 0,
        "siblings": [_sibling(name, content) for name, content in repository.files.items()],
    }


def _sibling(name: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {
        "rfilename": name,
        "size": len(content),
        "blobId": git_hash(content),
    }
    if name.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
    return entry
