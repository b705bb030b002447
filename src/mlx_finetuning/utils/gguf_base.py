"""A GGUF file as a base model: how its tensors are the weights of a model's folder.

Such a folder holds settings, tokenizer and chat template, written out of the file's metadata, and
`gguf_base.json` instead of weights: where the file lies, what it is known by, and which tensor is
which weight. Whoever needs weights reads them from the file itself, which is never written to.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import BaseFileChanged
from mlx_finetuning.language import _

NAME = "gguf_base.json"
TRAINABLE = ("gemma2", "gemma3", "llama", "phi3", "qwen2", "qwen3")
"""llama.cpp's architectures that can be trained out of a file."""


@dataclass(frozen=True)
class StoredAs:
    """A weight of the model, as the file has it."""

    tensor: str
    order: int = -1
    """Which of `GgufBase.orders` its rows have there; -1: the weight's own."""
    added: float = 0.0
    """By how much the file's values are larger (norms of Gemma: one)."""


@dataclass(frozen=True)
class GgufBase:
    """The record in `gguf_base.json`."""

    path: str
    size: int
    """Bytes."""
    modified_ns: int
    sha256: str
    orders: tuple[tuple[int, ...], ...]
    """Row i of a tensor is row `order[i]` of the weight."""
    weights: dict[str, StoredAs]
    """By the names of the weights in a Hugging Face folder."""

    @property
    def file(self) -> Path:
        return Path(self.path)

    def require_in_place(self) -> None:
        """That the file still lies there, with its size and time, or else with its content: Ollama
        renews the time of a file whenever it makes a model of it. Raises BaseFileChanged."""
        try:
            stat = self.file.stat()
            if (stat.st_size, stat.st_mtime_ns) == (self.size, self.modified_ns):
                return
            found = _sha256_at(self.file, stat.st_mtime_ns) if stat.st_size == self.size else ""
        except OSError as error:
            raise BaseFileChanged(path=self.path, reason=_("ファイルがありません。")) from error
        if found != self.sha256:
            raise BaseFileChanged(path=self.path, reason=_("大きさか更新日時が違います。"))

    def require_same_bytes(self) -> None:
        """The same by reading every byte. Raises BaseFileChanged."""
        self.require_in_place()
        if sha256(self.file) != self.sha256:
            raise BaseFileChanged(path=self.path, reason=_("中身（SHA-256）が違います。"))


def read(folder: Path) -> GgufBase | None:
    """The record of a model's folder; None for one with weights of its own. Raises RecordDamaged."""
    path = folder / NAME
    return files.read_record(path, GgufBase) if path.is_file() else None


def write(folder: Path, base: GgufBase) -> None:
    """Raises DiskFull."""
    files.write_json(folder / NAME, asdict(base))


def sha256(path: Path) -> str:
    """Of the whole file, in hexadecimal. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@functools.lru_cache(maxsize=8)
def _sha256_at(path: Path, modified_ns: int) -> str:
    """Once per process and time of the file. Raises OSError."""
    return sha256(path)
