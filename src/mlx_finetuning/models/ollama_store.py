"""The folder in which Ollama keeps its models: manifests with names, blobs with contents. Read only.

`manifests/<registry>/<namespace>/<model>/<tag>` is JSON that names layers by their SHA-256; a layer
lies in `blobs/sha256-<hex>`, in older stores `sha256:<hex>`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.language import N_, _

PREFIX = "ollama:"
"""What the name of a model in the store begins with."""
REGISTRY, NAMESPACE = "registry.ollama.ai", "library"
"""What Ollama takes for granted."""
MODEL, ADAPTER, PARAMETERS = (
    f"application/vnd.ollama.image.{kind}" for kind in ("model", "adapter", "params")
)
Parameter = int | float | str | list[str]
PARAMETER_TYPES = (int, float, str, list)
UNREADABLE = N_("読む権限がありません。")
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_LARGEST_RECORD = 1 << 20


@dataclass(frozen=True)
class StoredModel:
    """A model of a store, or a store that could not be looked into."""

    name: str
    path: Path
    """Its GGUF file; where there is a refusal, what could not be used."""
    refusal: str = ""
    """In Japanese."""


def stores() -> list[Path]:
    """The folder that OLLAMA_MODELS names, or else the default ones: the user's and the service's."""
    if named := os.environ.get("OLLAMA_MODELS"):
        return [Path(named).expanduser()]
    service = [Path("/usr/share/ollama/.ollama/models")] if sys.platform == "linux" else []
    return [Path.home() / ".ollama" / "models", *service]


def models() -> Iterator[StoredModel]:
    """All models of all stores."""
    for store in stores():
        manifests = store / "manifests"
        try:
            if manifests.is_dir():
                next(manifests.iterdir(), None)
        except PermissionError:
            yield StoredModel(str(store), store, _(UNREADABLE))
            continue
        for path in sorted(manifests.glob("*/*/*/*")):
            if not path.name.startswith("."):
                name = name_of(*path.relative_to(manifests).parts)
                file, refusal = model_file(store, path)
                yield StoredModel(name, file, refusal)


def parameters(name: str) -> dict[str, Parameter]:
    """What Ollama runs a model of a store with (`stop`, `top_k`, …); nothing where it does not say, or
    nobody can read it, or `name` is of another kind."""
    if not name.startswith(PREFIX):
        return {}
    for store in stores():
        for path in (store / "manifests").glob("*/*/*/*"):
            if name_of(*path.parts[-4:]) == whole_name(name):
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                    return _parameters(store, path)
    return {}


def _parameters(store: Path, manifest: Path) -> dict[str, Parameter]:
    """Raises OSError, ValueError, KeyError, TypeError, RecursionError."""
    path = _blob(store, read_layers(manifest)[PARAMETERS])
    if path is None or path.stat().st_size > _LARGEST_RECORD:
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, PARAMETER_TYPES)}


def name_of(registry: str, namespace: str, model: str, tag: str) -> str:
    """As Ollama writes it, without what it takes for granted."""
    shown = f"{namespace}/{model}"
    if registry != REGISTRY:
        shown = f"{registry}/{shown}"
    elif namespace == NAMESPACE:
        shown = model
    return f"{PREFIX}{shown}:{tag}"


def model_file(store: Path, manifest: Path) -> tuple[Path, str]:
    """The file that a manifest names, or the manifest with the reason why there is none."""
    try:
        layers = read_layers(manifest)
        blob = _blob(store, layers.get(MODEL, ""))
    except PermissionError:
        return manifest, _(UNREADABLE)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return manifest, _("Ollamaの記録（manifest）が壊れています。")
    if ADAPTER in layers:
        return manifest, _("アダプターを足したモデルです。元のモデルのほうを選んでください。")
    if MODEL not in layers:
        return manifest, _("GGUF形式のモデルではありません。")
    if blob is None:
        return manifest, _(
            "モデルのファイル（blob）がありません。ollama pull で取り直してください。"
        )
    return blob, ""


def whole_name(name: str) -> str:
    """A name that begins with `PREFIX`, with the tag that Ollama takes for granted."""
    return name if ":" in name.removeprefix(PREFIX) else f"{name}:latest"


def _blob(store: Path, sha256: str) -> Path | None:
    blobs = (store / "blobs" / f"sha256{sign}{sha256}" for sign in "-:")
    return next((blob for blob in blobs if blob.is_file()), None)


def read_layers(manifest: Path) -> dict[str, str]:
    """Kinds of layers → SHA-256 of the first of each. Raises OSError, ValueError, KeyError, TypeError."""
    if not manifest.is_file() or manifest.stat().st_size > _LARGEST_RECORD:
        raise ValueError("no manifest")
    layers: dict[str, str] = {}
    for layer in json.loads(manifest.read_text(encoding="utf-8"))["layers"]:
        digest = _DIGEST.fullmatch(layer["digest"])
        if digest is None:
            raise ValueError(layer["digest"])
        layers.setdefault(layer["mediaType"], digest[1])
    return layers
