"""A folder as Ollama keeps its models in, with files that have a head and no weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from gguf import GGUFWriter

MODEL = "application/vnd.ollama.image.model"
PARAMETERS = "application/vnd.ollama.image.params"


def write_gguf(path: Path, architecture: str = "llama", **texts: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, architecture)
    writer.add_file_type(15)
    for key, text in texts.items():
        writer.add_string(key.replace("__", "."), text)
    writer.add_token_list([f"token{number}" for number in range(60_000)])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def put(store: Path, name: str, blob: Path | None, kind: str = MODEL, parameters: str = "") -> Path:
    """A manifest as Ollama writes it; the blob moves into the store. parameters: JSON, of a layer of
    its own."""
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"" if blob is None else blob.read_bytes()).hexdigest()
    if blob is not None:
        blob.rename(store / "blobs" / f"sha256-{digest}")
    manifest = store / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": f"sha256:{'0' * 64}"},
        {"mediaType": kind, "digest": f"sha256:{digest}", "size": 1},
    ]
    if parameters:
        digest = hashlib.sha256(parameters.encode()).hexdigest()
        (store / "blobs" / f"sha256-{digest}").write_text(parameters, encoding="utf-8")
        layers.append({"mediaType": PARAMETERS, "digest": f"sha256:{digest}", "size": 1})
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}), encoding="utf-8")
    return manifest
