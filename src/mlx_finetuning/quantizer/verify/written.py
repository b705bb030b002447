"""The models made of a run, as their folder shows them: which, how large, and what was proven of each.

Reads names, sizes and reports only, and loads nothing; damaged reports count as none.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_finetuning import files
from mlx_finetuning.errors import NewerSchema, RecordDamaged
from mlx_finetuning.quantizer.verify.results import Verification

FOLDERS = ("peft", "mlx", "safetensors")
"""Formats that are folders, whose names end so."""
ADAPTER = "-adapter"


@dataclass(frozen=True)
class WrittenModel:
    """One model made of a run."""

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
    """Where the report of an export lies, beside its file."""
    return gguf.with_suffix(".export_report.json")


def read_all(folder: Path) -> list[WrittenModel]:
    """What lies in a run's folder, the newest first."""
    models = [model for path in folder.glob("[!.]*") if (model := _read(path)) is not None]
    return sorted(models, key=lambda model: (-model.made_s, model.path.name))


def _read(path: Path) -> WrittenModel | None:
    """None for what is no model."""
    if path.is_dir():
        form = path.name.rpartition("-")[2]
        if form not in FOLDERS:
            return None
        size = sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
        return WrittenModel(path, form, "", size, path.stat().st_mtime)
    if path.suffix != ".gguf":
        return None
    file = path.stat()
    if path.stem.endswith(ADAPTER):
        return WrittenModel(path, "gguf-lora", "", file.st_size, file.st_mtime)
    model = WrittenModel(path, "gguf", path.stem.rpartition("-")[2], file.st_size, file.st_mtime)
    with contextlib.suppress(FileNotFoundError, RecordDamaged, NewerSchema):
        report = files.read_record(report_path(path), Verification)
        agreement = report.logits.top1_agreement
        return replace(model, agreement=agreement, proven=report.proven, verdict=report.verdict)
    return model
