"""A dataset made again from its `dataset.json`: same sources, settings and columns, same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning import config, files
from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor.corrections import Correction
from mlx_finetuning.data_processor.edits import Edit
from mlx_finetuning.data_processor.prepare import DatasetSummary, Decided, prepare
from mlx_finetuning.data_processor.readers.source import check_source
from mlx_finetuning.errors import RecordDamaged, SourceChanged, SourceNotFound
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress, silent
from mlx_finetuning.workspace import DatasetPaths


@dataclass(frozen=True)
class Manifest:
    """What a manifest says about how its dataset was made."""

    name: str
    sources: tuple[Path, ...]
    sha256: tuple[str, ...]
    settings: PrepareConfig
    mapping: dict[str, str]
    """Role → column, as it was requested."""
    files: dict[str, str]
    """SHA-256 of each split."""
    edits: tuple[Edit, ...] = ()
    corrections: tuple[Correction, ...] = ()
    decided: Decided | None = None

    def require_sources(self) -> None:
        """Raises SourceChanged, or what `check_source` raises, unless all are there as recorded."""
        if len(self.sources) != len(self.sha256):
            raise SourceChanged(path=_("、").join(map(str, self.sources)))
        for path, expected in zip(self.sources, self.sha256, strict=True):
            check_source(path)
            with path.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
                    raise SourceChanged(path=str(path))


def read_manifest(manifest: Path, sources: Sequence[Path] = ()) -> Manifest:
    """`sources` stand in for the recorded paths, in the same order, where the files have moved.

    Raises SourceNotFound, RecordDamaged, NewerSchema, InvalidSettings.
    """
    try:
        record = files.read_json(manifest)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise SourceNotFound(path=str(manifest)) from error
    try:
        recorded = record["sources"]
        settings = dict(record["config"])
        if settings.get("goal", "auto") == "auto" and record.get("goal"):
            settings["goal"] = record["goal"]  # as earlier versions guessed it
        return Manifest(
            name=str(record["name"]),
            sources=tuple(sources) or tuple(Path(source["path"]) for source in recorded),
            sha256=tuple(str(source["sha256"]) for source in recorded),
            settings=config.load(PrepareConfig, settings),
            mapping=dict(record["requested_mapping"]),
            files=dict(record["files"]),
            edits=files.decode(record.get("edits", []), tuple[Edit, ...], manifest),
            corrections=files.decode(
                record.get("corrections", []), tuple[Correction, ...], manifest
            ),
            decided=Decided(
                str(record.get("kind", "")),
                tuple(dict(source.get("mapping", {})) for source in recorded),
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordDamaged(path=str(manifest)) from error


def reproduce(
    recorded: Manifest,
    name: str,
    paths: DatasetPaths,
    progress: Progress = silent,
    replace: bool = False,
    trash: Path | None = None,
) -> DatasetSummary:
    """Make the dataset again, or nothing; what is replaced goes to `trash`, where that is given. Raises SourceChanged, DatasetNotReproduced if another
    version of the program makes something else of the same files, and what `prepare` raises."""
    recorded.require_sources()
    return prepare(
        recorded.sources,
        name,
        paths,
        recorded.settings,
        recorded.mapping,
        progress,
        replace,
        expected=recorded.files,
        edits=recorded.edits,
        trash=trash,
        corrections=recorded.corrections,
        decided=recorded.decided,
    )
