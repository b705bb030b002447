"""The models made of a run, as their folder shows them: which, how large, and what was proven of each.

Reads names, sizes and reports only, and loads nothing; damaged reports count as none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_finetuning import files
from mlx_finetuning.errors import NewerSchema, RecordDamaged

FOLDERS = ("peft", "mlx", "safetensors")
"""Formats that are folders, whose names end so."""
_ADAPTER = "-adapter"


@dataclass(frozen=True)
class WrittenModel:
    path: Path
    format: str
    """One of `config.FORMATS`."""
    quant: str
    """Empty for other formats than gguf."""
    size_bytes: int
    made_s: float
    """Seconds since 1970."""
    agreement: float | None = None
    """Share of tokens for which the file predicts the trained model's word; None: not known."""
    proven: bool | None = None
    """None: there is no report."""
    verdict: str = ""
    """In Japanese."""


def report_path(gguf: Path) -> Path:
    return gguf.with_suffix(".export_report.json")


def read_all(folder: Path) -> list[WrittenModel]:
    """What lies in a run's folder, the newest first."""
    found = [made for path in folder.glob("[!.]*") if (made := _read(path)) is not None]
    return sorted(found, key=lambda made: (-made.made_s, made.path.name))


def _read(path: Path) -> WrittenModel | None:
    if path.is_dir():
        form = path.name.rpartition("-")[2]
        return _model(path, form, "", {}) if form in FOLDERS else None
    if path.suffix != ".gguf":
        return None
    if path.stem.endswith(_ADAPTER):
        return _model(path, "gguf-lora", "", {})
    return _model(path, "gguf", path.stem.rpartition("-")[2], _report(path))


def _model(path: Path, form: str, quant: str, report: Mapping[str, Any]) -> WrittenModel:
    parts = [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
    logits = report.get("logits")
    agreement = logits.get("top1_agreement") if isinstance(logits, dict) else None
    return WrittenModel(
        path,
        form,
        quant,
        sum(part.stat().st_size for part in parts),
        path.stat().st_mtime,
        _share(agreement),
        bool(report["proven"]) if "proven" in report else None,
        str(report.get("verdict", "")),
    )


def _share(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def _report(gguf: Path) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError, RecordDamaged, NewerSchema):
        return files.read_json(report_path(gguf))
    return {}
