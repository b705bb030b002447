"""What base models make of rows, kept in the workspace: a second evaluation need not ask again.

A file for each set of rows under the digest of all that its grades follow from: the model's files, the
chat template it is asked with, the rows and settings, the versions that compute. A file that cannot be
read counts as absent. Nothing but time is lost with the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import mlx.core as mx

from mlx_finetuning import __version__, files
from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.errors import NewerSchema, RecordDamaged
from mlx_finetuning.jobs import runs
from mlx_finetuning.mlx_trainer.inference.grade import Grade
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class _Kept:
    grades: tuple[Grade, ...]


class BaseGrades:
    """The kept grades of one base model, asked with one chat template."""

    def __init__(
        self, workspace: Workspace, folder: Path, base: LoadedModel, settings: EvaluateConfig
    ) -> None:
        """folder: the base model's."""
        self._folder = workspace.base_grades
        self._origin = {
            "versions": [__version__, *map(importlib.metadata.version, ("mlx", "mlx-lm"))],
            "device": str(mx.default_device()),
            "model": runs.model_fingerprint(folder),
            "template": base.chat.template and base.chat.template.text,
            "max_tokens": settings.max_tokens,
        }

    def of(
        self, rows: Sequence[Row], compute: Callable[[], list[Grade]], *, ask: bool
    ) -> list[Grade]:
        """The grades of `rows`, kept or computed now; ask: with answers. Raises DiskFull."""
        origin = json.dumps({**self._origin, "ask": ask, "rows": rows}, sort_keys=True)
        path = self._folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.json"
        with contextlib.suppress(FileNotFoundError, RecordDamaged, NewerSchema):
            kept = files.read_record(path, _Kept).grades
            if len(kept) == len(rows):
                return list(kept)
        grades = compute()
        files.make_folder(self._folder)
        files.write_json(path, asdict(_Kept(tuple(grades))))
        return grades
