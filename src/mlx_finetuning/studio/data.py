"""Source files and the datasets made of them."""

from __future__ import annotations

import builtins
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_finetuning import bases, config, files
from mlx_finetuning.config import PrepareConfig, TrainConfig, as_dict
from mlx_finetuning.errors import (
    DatasetInTrash,
    DatasetInUse,
    DatasetNotFound,
    DatasetNotOfChats,
    DatasetOfSeveralSources,
    InvalidSettings,
    StudioError,
)
from mlx_finetuning.jobs import jobs, queue, runs
from mlx_finetuning.jobs.preview import Preview
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress, silent
from mlx_finetuning.studio import handle
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.workspace import DatasetPaths, Workspace

if TYPE_CHECKING:
    from mlx_finetuning.data_processor import DatasetSummary, Inspection, Manifest
    from mlx_finetuning.data_processor.corrections import Correction
    from mlx_finetuning.data_processor.edits import Edit, EditedTable
    from mlx_finetuning.data_processor.readers.read import Reading
    from mlx_finetuning.data_processor.trash import DeletedDataset

_VERSION = re.compile(r"(.+)-v([1-9][0-9]{0,5})")
_STEM = 50
"""Characters of a name that leave room for a version."""


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset of the workspace."""

    name: str
    manifest: dict[str, Any] | None
    """`dataset.json`; None where it cannot be read."""


@dataclass(frozen=True)
class Data:
    """`studio.data`. Its imports of `data_processor`, which loads NumPy, stand in the methods."""

    workspace: Workspace

    def inspect(
        self,
        source: Path | Reading,
        encoding: str = "auto",
        mapping: Mapping[str, str] | None = None,
        settings: PrepareConfig | None = None,
        progress: Progress = silent,
        edits: Sequence[Edit] = (),
    ) -> Inspection:
        """What a source file, or one that was opened, holds after `edits`, without writing anything;
        `settings`, where given, include the encoding and preview other cleaning steps.

        Raises DataError, InvalidSettings.
        """
        from mlx_finetuning import data_processor

        checked = config.load(PrepareConfig, as_dict(settings)) if settings else None
        return data_processor.inspect(source, encoding, mapping, checked, progress, edits)

    def prepare(
        self,
        source: Path | Sequence[Path],
        name: str,
        settings: PrepareConfig | None = None,
        mapping: Mapping[str, str] | None = None,
        *,
        replace: bool = False,
        progress: Progress = silent,
        edits: Sequence[Edit] = (),
    ) -> DatasetSummary:
        """Write the dataset `name` from a source file or several, after `edits` of their rows. One that
        it replaces goes to the trash.

        Raises DataError, InvalidName, InvalidSettings, DiskFull.
        """
        from mlx_finetuning import data_processor

        paths = self.workspace.dataset(name)
        checked = config.load(PrepareConfig, as_dict(settings or PrepareConfig()))
        return data_processor.prepare(
            source,
            name,
            paths,
            checked,
            mapping,
            progress,
            replace=replace,
            edits=edits,
            trash=self.workspace.deleted_datasets,
        )

    def reproduce(
        self,
        manifest: Path,
        name: str | None = None,
        sources: Sequence[Path] = (),
        *,
        replace: bool = False,
        progress: Progress = silent,
    ) -> DatasetSummary:
        """Make a dataset again from its `dataset.json`, the same bytes or nothing.

        `name` is the recorded one unless given; `sources` stand in for files that have moved.
        Raises DataError, UsageProblem, DiskFull.
        """
        from mlx_finetuning import data_processor

        recorded = data_processor.read_manifest(manifest, sources)
        paths = self.workspace.dataset(name or recorded.name)
        trash = self.workspace.deleted_datasets
        return data_processor.reproduce(
            recorded, paths.folder.name, paths, progress, replace, trash
        )

    def preview(
        self,
        name: str,
        model: str,
        row: int | None = None,
        max_length: int | None = None,
        supervise: str | None = None,
    ) -> JobHandle[Preview]:
        """What training will see: one source row (the first unless given) token by token with its
        loss mask, and figures over the whole dataset; of a preference row both answers.

        Raises DataError, ModelError, InvalidSettings, DiskFull.
        """
        self.require(name)
        bases.resolve(model, self.workspace)
        options = {"max_length": max_length, "supervise": supervise}
        chosen = {key: value for key, value in options.items() if value is not None}
        config.load(TrainConfig, chosen)
        details = {"model": model, "dataset": name, "row": row, **chosen}
        return JobHandle(handle.start(self.workspace, "preview", details), Preview)

    def keep_upload(self, name: str, content: bytes) -> Path:
        """A copy in the workspace of a file that the browser handed in. Raises DiskFull."""
        from mlx_finetuning.data_processor import uploads

        return uploads.keep(name, content, self.workspace.uploads)

    def keep_pasted(self, content: bytes) -> Path:
        """A copy in the workspace of a table or of records that came without a name: pasted, or on
        standard input. Raises DiskFull."""
        first = content.lstrip()[:1]
        name = {b"{": "pasted.jsonl", b"[": "pasted.json"}.get(first, "pasted.tsv")
        return self.keep_upload(name, content)

    def open(self, source: Path, settings: PrepareConfig, progress: Progress = silent) -> Reading:
        """A source file, read as these settings ask for. Raises DataError, InvalidSettings."""
        from mlx_finetuning.data_processor import examine

        return examine.open_source(source, settings, progress)

    def draft(self, of: Path | str) -> tuple[Edit, ...] | None:
        """The unsaved edits of a file that was handed in, or of the dataset of this name; None
        where there are none. Raises RecordDamaged, NewerSchema, InvalidName."""
        from mlx_finetuning.data_processor import drafts

        return drafts.read(self._draft(of))

    def keep_draft(
        self, of: Path | str, edits: Sequence[Edit], seen: tuple[Edit, ...] | None
    ) -> None:
        """Replace the unsaved edits that were `seen`. Raises DraftChanged if they are others by now,
        DiskFull."""
        from mlx_finetuning.data_processor import drafts

        drafts.write(self._draft(of), edits, seen)

    def discard_draft(self, of: Path | str) -> None:
        """Forget the unsaved edits."""
        from mlx_finetuning.data_processor import drafts

        drafts.discard(self._draft(of))

    def _draft(self, of: Path | str) -> Path:
        from mlx_finetuning.data_processor import drafts

        if isinstance(of, str):
            return self.workspace.dataset(of).draft
        return of.with_name(drafts.OF_UPLOAD)

    def download(self, name: str, form: str) -> bytes:
        """A whole dataset as a file for spreadsheets, `csv` or `xlsx`, that can be handed in again.

        Raises DatasetNotFound, DatasetDamaged, RowsUnfitForTable, TextTooLongForExcel,
        TooManyRowsForExcel.
        """
        from mlx_finetuning.data_processor import downloads, examine, read_rows

        sources = examine.source_names(self.manifest(name).sources)
        paths = self.workspace.dataset(name)
        splits = {split: read_rows(paths.split(split)) for split in downloads.SPLITS_JA}
        return downloads.WRITERS[form](downloads.sheet_of(splits, sources))

    def export(self, name: str, form: str, out: Path) -> Path:
        """`download` as a file. Raises DiskFull too."""
        content = self.download(name, form)
        with files.replacing(out) as stream:
            stream.write(content)
        return out

    def manifest(self, name: str) -> Manifest:
        """How a dataset was made. Raises DatasetNotFound, RecordDamaged, NewerSchema."""
        from mlx_finetuning import data_processor

        self.require(name)
        return data_processor.read_manifest(self.workspace.dataset(name).manifest)

    def edited(self, name: str, file: str = "") -> EditedTable:
        """The rows of a dataset's source after its edits, to be edited further; `file` names one of
        several. Raises DataError."""
        from mlx_finetuning.data_processor import edits, examine

        recorded = self.manifest(name)
        recorded.require_sources()
        sources = dict(zip(examine.source_names(recorded.sources), recorded.sources, strict=True))
        if file not in sources:
            raise DatasetOfSeveralSources(name=name, files=[path.name for path in recorded.sources])
        table = self.open(sources[file], recorded.settings).table
        return edits.EditedTable(table, recorded.edits, file)

    def edit(
        self,
        name: str,
        edits: Sequence[Edit],
        new_name: str = "",
        *,
        progress: Progress = silent,
    ) -> DatasetSummary:
        """Make a dataset again from its source files with these edits, all that there are: in its
        place, and the one before goes to the trash, or under a new name beside it.

        Raises DataError (EditMismatch, SourceChanged, DatasetInUse, …), InvalidName, DiskFull.
        """
        from mlx_finetuning import data_processor

        recorded = self.manifest(name)
        recorded.require_sources()
        is_new = new_name not in ("", name)
        if not is_new:
            self.require_unused(name)
        summary = data_processor.prepare(
            recorded.sources,
            new_name or name,
            self.workspace.dataset(new_name or name),
            recorded.settings,
            recorded.mapping,
            progress,
            replace=not is_new,
            edits=edits,
            trash=self.workspace.deleted_datasets,
            corrections=recorded.corrections,
            decided=recorded.decided,
        )
        self.discard_draft(name)
        return summary

    def correct(
        self, name: str, corrections: Sequence[Correction], progress: Progress = silent
    ) -> DatasetSummary:
        """The next version of a dataset of conversations, `faq-v2` of `faq`: made again from its source
        files, with these answers beside its own steps.

        Raises DataError (DatasetNotOfChats, SourceChanged, …), DiskFull.
        """
        from mlx_finetuning import data_processor

        entry = next((one for one in self.list() if one.name == name), None)
        recorded = self.manifest(name)
        if entry is None or (entry.manifest or {}).get("kind") != "chat":
            raise DatasetNotOfChats(name=name)
        recorded.require_sources()
        found = _VERSION.fullmatch(name)
        stem, number = (found[1], int(found[2]) + 1) if found else (name, 2)
        taken = {one.name for one in self.list()} | {one.name for one in self.deleted()}
        versions = (f"{stem[:_STEM].rstrip('-')}-v{n}" for n in itertools.count(number))
        new_name = next(version for version in versions if version not in taken)
        return data_processor.prepare(
            recorded.sources,
            new_name,
            self.workspace.dataset(new_name),
            recorded.settings,
            recorded.mapping,
            progress,
            edits=recorded.edits,
            corrections=(*recorded.corrections, *corrections),
            decided=recorded.decided,
        )

    def list(self) -> builtins.list[DatasetEntry]:
        """All datasets by name; one with a damaged manifest is listed too."""
        self._recover()
        folder = self.workspace.datasets
        paths = folder.iterdir() if folder.is_dir() else ()
        names = (path.name for path in paths if path.is_dir() and not path.name.startswith("."))
        entries = []
        for name in sorted(names):
            try:
                manifest = files.read_json(DatasetPaths(folder / name).manifest)
            except (StudioError, FileNotFoundError):
                manifest = None
            entries.append(DatasetEntry(name, manifest))
        return entries

    def suggested_name(self, source: Path) -> str:
        """A valid name for a dataset, from the file's; files with Japanese names get a plain one."""
        slug = re.sub(r"[^a-z0-9]+", "-", source.stem.lower()).strip("-")[:40].strip("-")
        return slug or "my-data"

    def goal(self, name: str) -> str:
        """What a dataset is for, a key of `utils.goals`; empty where its record does not say."""
        manifest = next((one.manifest for one in self.list() if one.name == name), None)
        return str((manifest or {}).get("goal", ""))

    def require(self, name: str) -> None:
        """Raises InvalidSettings without a name, DatasetNotFound, DatasetInTrash."""
        if not name:
            raise InvalidSettings(problems=[_("dataset: データセットの名前を指定してください。")])
        self._recover()
        if not self.workspace.dataset(name).train.is_file():
            if any(dataset.name == name for dataset in self.deleted()):
                raise DatasetInTrash(name=name)
            raise DatasetNotFound(name=name, available=[entry.name for entry in self.list()])

    def delete(self, name: str) -> None:
        """Move a dataset to the trash. Raises DatasetNotFound, DatasetInUse, DiskFull."""
        from mlx_finetuning.data_processor import trash

        paths, available = self.workspace.dataset(name), [entry.name for entry in self.list()]
        if name not in available:
            raise DatasetNotFound(name=name, available=available)
        self.require_unused(name)
        trash.delete(paths, self.workspace.deleted_datasets)

    def require_unused(self, name: str) -> None:
        """Raises DatasetInUse."""
        using = [
            job.paths.folder.name
            for job in queue.living_jobs(self.workspace)
            if self._uses(job, name)
        ]
        if using:
            raise DatasetInUse(name=name, jobs=using)

    def _uses(self, job: queue.LivingJob, dataset: str) -> bool:
        if job.kind == "serve_model":
            return False
        if job.run_id:
            return runs.show(self.workspace, job.run_id).dataset == dataset
        return jobs.read_job(job.paths).config.get("dataset") == dataset

    def restore(self, name: str, deleted_at: str = "") -> None:
        """Bring back the dataset of this name that was deleted last, or then.

        Raises DatasetNotInTrash, DatasetInTheWay.
        """
        from mlx_finetuning.data_processor import trash

        trash.restore(self.workspace.dataset(name), self.workspace.deleted_datasets, deleted_at)

    def deleted(self) -> builtins.list[DeletedDataset]:
        """Those in the trash, what was deleted last first; `machine.clean("deleted_datasets")`
        empties it."""
        from mlx_finetuning.data_processor import trash

        return trash.list_deleted(self.workspace.deleted_datasets)

    def _recover(self) -> None:
        """Put back what a kill between two renames left aside."""
        if any(self.workspace.datasets.glob(".old-*")):
            from mlx_finetuning import data_processor

            data_processor.recover(self.workspace.datasets)
