"""Whether a model folder may be loaded: no code, no pickles, no links out, nothing missing.

Reads names, the JSON files and the headers of the weights, never the weights themselves, and
imports nothing that could run what the folder brings along.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mlx_finetuning.errors import (
    ModelDamaged,
    ModelIncomplete,
    ModelLinksOutside,
    ModelRunsCode,
    ModelUnsafeWeights,
)
from mlx_finetuning.files import JsonObject
from mlx_finetuning.utils import gguf_base, safetensors_header
from mlx_finetuning.utils.safetensors_header import HeaderDamaged

CODE_KEYS = ("model_file", "auto_map", "custom_generate", "custom_pipelines")
"""Keys by which a configuration names Python files for a loader to run."""
PICKLE_SUFFIXES = frozenset(
    ".bin .pt .pth .ckpt .pkl .pickle .joblib .npy .npz .h5 .msgpack".split()
)
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
TOKENIZER_CONFIG = "tokenizer_config.json"
_LARGEST_CONFIG = 10_000_000


def check_folder(path: Path) -> Path:
    """`path` itself, if a loader may open it.

    Raises ModelIncomplete, ModelRunsCode, ModelUnsafeWeights, ModelLinksOutside, ModelDamaged; of a
    GGUF base BaseFileChanged.
    """
    _require(path, "config.json")
    entries = [
        Path(folder) / name
        for folder, subfolders, names in os.walk(path)
        for name in (*subfolders, *names)
    ]
    root = path.resolve()
    outside = [
        str(entry.relative_to(path))
        for entry in entries
        if entry.is_symlink() and not entry.resolve().is_relative_to(root)
    ]
    if outside:
        raise ModelLinksOutside(path=str(path), files=sorted(outside)[:5])
    pickles = [
        str(entry.relative_to(path)) for entry in entries if entry.suffix.lower() in PICKLE_SUFFIXES
    ]
    if pickles:
        raise ModelUnsafeWeights(path=str(path), files=sorted(pickles)[:5])
    check_configuration(path)
    if not any((path / name).is_file() for name in TOKENIZERS):
        raise ModelIncomplete(path=str(path), missing=[" / ".join(TOKENIZERS)])
    base = gguf_base.read(path)
    if base is None:
        _check_weights(path)
    else:
        base.require_in_place()
    return path


def check_configuration(path: Path) -> None:
    """Refuse a folder whose JSON files name code. Raises ModelRunsCode, ModelDamaged."""
    for file in sorted(path.glob("*config*.json")):
        config = _read_object(file)
        named = config.get("auto_map")
        if (
            file.name == TOKENIZER_CONFIG
            and (path / TOKENIZERS[0]).is_file()
            and isinstance(named, dict)
            and set(named) <= {"AutoTokenizer"}
        ):
            # A class for the tokenizer alone is never asked for: `tokenization` reads
            # tokenizer.json itself. llm-jp-4 names one that cuts texts by the same file.
            del config["auto_map"]
        key = _code_key(config)
        if key:
            raise ModelRunsCode(path=str(path), file=file.name, key=key)
    if not isinstance(_read_object(path / "config.json").get("model_type"), str):
        raise ModelDamaged(path=str(path), files=["config.json"])


def width(path: Path) -> int:
    """Size of the hidden states of the model in a folder, or of its text part; 0 where the
    configuration does not say. Raises ModelDamaged.
    """
    settings = _read_object(path / "config.json")
    text = settings.get("text_config") or settings
    size = text.get("hidden_size") if isinstance(text, dict) else None
    return size if isinstance(size, int) and size > 0 else 0


def _require(path: Path, *names: str) -> None:
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise ModelIncomplete(path=str(path), missing=missing)


def _code_key(value: Any) -> str | None:
    """The first key, at any depth, that names code; an empty value names none."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            code_key = next((key for key in CODE_KEYS if item.get(key)), None)
            if code_key:
                return code_key
            pending += item.values()
        elif isinstance(item, list):
            pending += item
    return None


def _read_object(file: Path) -> JsonObject:
    try:
        if not file.is_file():  # reading a pipe would wait for ever
            raise ValueError("no file")
        if file.stat().st_size > _LARGEST_CONFIG:
            raise ValueError("larger than any configuration")
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelDamaged(path=str(file.parent), files=[file.name]) from error
    if not isinstance(value, dict):
        raise ModelDamaged(path=str(file.parent), files=[file.name])
    return value


def _check_weights(path: Path) -> None:
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise ModelIncomplete(path=str(path), missing=["model.safetensors"])
    index = path / "model.safetensors.index.json"
    if index.exists():
        names = _read_object(index).get("weight_map")
        if not isinstance(names, dict) or not all(
            isinstance(name, str) and Path(name).name == name for name in names.values()
        ):
            raise ModelDamaged(path=str(path), files=[index.name])
        _require(path, *sorted(set(names.values())))
    damaged = [file.name for file in weights if not is_whole(file)]
    if damaged:
        raise ModelDamaged(path=str(path), files=damaged)


def is_whole(weights: Path) -> bool:
    """Whether a safetensors file is as long as its header says; a Git LFS pointer is not."""
    if not weights.is_file():
        return False
    try:
        header = safetensors_header.read(weights)
    except HeaderDamaged:
        return False
    end = max((tensor.stop for tensor in header.tensors.values()), default=header.values_start)
    return end == weights.stat().st_size
