"""GGUF files that other programs keep on this machine: Ollama, LM Studio, llama.cpp, the hub's cache.

Looks at names, manifests and the head of each file; writes nothing and copies nothing. What cannot be
read or trained is listed too, with the reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.errors import BaseFileUnusable, GgufUnreadable, ModelNotFound
from mlx_finetuning.language import _
from mlx_finetuning.models import fitting, ollama_store
from mlx_finetuning.models.ollama_store import UNREADABLE
from mlx_finetuning.utils.gguf_base import TRAINABLE

ENDING = ".gguf"
PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
"""The name of one of several files that are one model."""


@dataclass(frozen=True)
class FoundFile:
    """A GGUF file, or a place that could not be looked into."""

    name: str
    """What `--model` takes."""
    source: str
    """The program that keeps it."""
    path: Path
    size: int = 0
    """Bytes."""
    family: str = ""
    """llama.cpp's name of the architecture."""
    quant: str = ""
    refusal: str = ""
    """In Japanese, why it cannot be trained; empty where nothing speaks against it so far."""


def found() -> list[FoundFile]:
    """All files in the places where programs keep them; trainable ones first."""
    of_ollama = [
        FoundFile(model.name, "Ollama", model.path, refusal=model.refusal)
        if model.refusal
        else described(model.path, model.name, "Ollama")
        for model in ollama_store.models()
    ]
    seen = {file.path.resolve() for file in of_ollama}
    others = []
    for path, source in in_folders():
        # A file may be linked from several folders.
        if (target := path.resolve()) not in seen:
            others.append(described(path, str(path), source))
            seen.add(target)
    files = (*of_ollama, *others)
    return sorted(files, key=lambda file: (bool(file.refusal), file.source, file.name))


def find(name: str) -> FoundFile | None:
    """The file that a model's name means, wherever it lies; None for a name of another kind.

    Raises ModelNotFound, BaseFileUnusable.
    """
    path = gguf_file(name)
    if path is None:
        return None
    return described(path, name, "Ollama" if name.startswith(ollama_store.PREFIX) else "")


def names_gguf_file(name: str) -> bool:
    """Whether a model's name means a GGUF file, wherever it lies and if it is there."""
    return name.startswith(ollama_store.PREFIX) or name.lower().endswith(ENDING)


def gguf_file(name: str) -> Path | None:
    """The file that a model's name means; None for a name of another kind.

    Raises ModelNotFound, BaseFileUnusable.
    """
    if name.startswith(ollama_store.PREFIX):
        wanted = ollama_store.whole_name(name)
        listed = {model.name: model for model in ollama_store.models()}
        if wanted not in listed:
            raise ModelNotFound(name=name, near=sorted(listed)[:5])
        if refusal := listed[wanted].refusal:
            raise BaseFileUnusable(path=name, reason=refusal)
        return listed[wanted].path.resolve()
    if not names_gguf_file(name):
        return None
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModelNotFound(name=name, near=[])
    return path.resolve()


def described(path: Path, name: str, source: str) -> FoundFile:
    """What the head of a file says."""
    from gguf import LlamaFileType

    from mlx_finetuning.utils import gguf_reader

    try:
        size = path.stat().st_size
        fields = gguf_reader.read_before_vocabulary(path)
    except FileNotFoundError:
        return FoundFile(name, source, path, refusal=_("ファイルがありません。"))
    except (OSError, GgufUnreadable) as error:
        is_denied = isinstance(error.__cause__ or error, PermissionError)
        reason = _(UNREADABLE) if is_denied else _("GGUFファイルとして読めません（壊れています）。")
        return FoundFile(name, source, path, refusal=reason)
    family = str(fields.get("general.architecture", ""))
    quants = {kind.value: kind.name.removeprefix("MOSTLY_") for kind in LlamaFileType}
    file_type = fields.get("general.file_type")
    quant = quants.get(file_type, "") if isinstance(file_type, int) else ""
    part = PART.search(path.name)
    refusal = ""
    if fields.get("general.type", "model") != "model":
        refusal = _("モデルではなく、モデルに足すファイルです。")
    elif part and int(part[1]) > 1:
        refusal = _("いくつものファイルに分かれたモデルには対応していません。")
    elif family not in TRAINABLE:
        refusal = _("モデルの種類（{family}）に対応していません。").format(family=family)
    elif size > fitting.capacity():
        refusal = _("このマシンのメモリーに入りません。")
    return FoundFile(name, source, path, size, family, quant, refusal)


def in_folders() -> Iterator[tuple[Path, str]]:
    """GGUF files in the folders of other programs, with the program's name; what cannot be read is
    passed over, links to folders too."""
    home, environment = Path.home(), os.environ
    hub = Path(environment.get("HF_HOME") or home / ".cache/huggingface") / "hub"
    places = (
        ("LM Studio", home / ".lmstudio/models"),
        ("LM Studio", home / ".cache/lm-studio/models"),
        ("llama.cpp", Path(environment.get("LLAMA_CACHE") or home / ".cache/llama.cpp")),
        ("llama.cpp", home / "Library/Caches/llama.cpp"),
        ("Hugging Face", Path(environment.get("HF_HUB_CACHE") or hub)),
    )
    for source, folder in places:
        for parent, names, files in os.walk(folder):
            names.sort()
            for file in sorted(files):
                if file.lower().endswith(ENDING) and not file.startswith("."):
                    yield Path(parent) / file, source
