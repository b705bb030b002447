"""Documents, and the question-answer pairs made of them."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_finetuning import files
from mlx_finetuning.documents.pairs import Pair
from mlx_finetuning.documents.plan import Generated, GenerateSettings, ReadDocuments
from mlx_finetuning.errors import DatasetExists, InvalidSettings, SourceNotFound
from mlx_finetuning.jobs import jobs, runs
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress, silent
from mlx_finetuning.studio import handle
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.workspace import Workspace

if TYPE_CHECKING:
    from mlx_finetuning.data_processor import DatasetSummary


@dataclass(frozen=True)
class Documents:
    """`studio.documents`."""

    workspace: Workspace

    def read(self, paths: Sequence[Path]) -> JobHandle[ReadDocuments]:
        """What stands in documents. Following it raises DataError. Raises SourceNotFound, DiskFull."""
        settings = {"documents": self._existing(paths)}
        return JobHandle(handle.start(self.workspace, "read_documents", settings), ReadDocuments)

    def generate(self, settings: GenerateSettings) -> JobHandle[Generated]:
        """Make pairs from documents, or go on where making them was stopped.

        Following it raises DataError, ModelError, RunError. Raises InvalidName, InvalidSettings,
        SourceNotFound, DatasetExists, DiskFull.
        """
        if not settings.generator.model:
            raise InvalidSettings(problems=[_("model: 質問を作るモデルを指定してください。")])
        paths = self._existing(map(Path, settings.documents))
        is_ours = self.workspace.generated(settings.name).plan.is_file()
        if self.workspace.dataset(settings.name).manifest.is_file() and not (
            is_ours or settings.replaces
        ):
            raise DatasetExists(name=settings.name)
        job = handle.start(self.workspace, "generate", asdict(replace(settings, documents=paths)))
        return JobHandle(job, Generated)

    def list(self) -> builtins.list[str]:
        """Names under which pairs were generated."""
        folder = self.workspace.generated_pairs
        return sorted(path.parent.name for path in folder.glob("*/plan.json"))

    def latest(self, name: str) -> Generated | None:
        """What generating under a name came to when it was last done."""
        for job in runs.later_jobs(self.workspace, ""):
            paths = self.workspace.job(job.name)
            if job.kind == "generate" and job.status.state == JobState.DONE:
                found = jobs.result(paths, Generated)
                if found.name == name:
                    return found
        return None

    def pairs(self, name: str) -> builtins.list[Pair]:
        """All pairs that were generated under a name so far; a pair's row is its position, from 1."""
        from mlx_finetuning.documents.generate import ChunkPairs

        made = files.read_records(self.workspace.generated(name).pairs, ChunkPairs)
        return [pair for chunk in made for pair in chunk.pairs]

    def used(self, name: str) -> set[int]:
        """The rows that the dataset is made of; the sound ones where it is made of other rows, or not
        made. Raises DataError."""
        from mlx_finetuning.studio.data import Data

        pairs, data = self.pairs(name), Data(self.workspace)
        if self.workspace.dataset(name).manifest.is_file():
            recorded = data.manifest(name)
            if [path.resolve() for path in recorded.sources] == [self._source(name).resolve()]:
                return set(data.edited(name).values)
        return {row for row, pair in enumerate(pairs, 1) if pair.is_sound}

    def use(self, name: str, rows: Collection[int], progress: Progress = silent) -> DatasetSummary:
        """Make the dataset of these pairs, in the place of the one before.

        Raises DataError, DiskFull.
        """
        from mlx_finetuning import document_files
        from mlx_finetuning.studio.data import Data

        Data(self.workspace).require_unused(name)
        source = self._source(name)
        return document_files.prepare_pairs(self.workspace, name, source, rows, progress)

    def _source(self, name: str) -> Path:
        """The file of all pairs, as datasets are made of it."""
        from mlx_finetuning.data_processor import uploads
        from mlx_finetuning.documents.source import source_of

        content = source_of(self.pairs(name))
        return uploads.keep(f"{name}.jsonl", content, self.workspace.uploads)

    def _existing(self, paths: Collection[Path] | map[Path]) -> tuple[str, ...]:
        found = tuple(path.absolute() for path in paths)
        if not found:
            raise InvalidSettings(problems=[_("documents: 文書を1つ以上指定してください。")])
        for path in found:
            if not path.exists():
                raise SourceNotFound(path=str(path))
        return tuple(map(str, found))
