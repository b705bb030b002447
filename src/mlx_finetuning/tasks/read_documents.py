"""Read documents, in a process of its own: what is in them must not hang or fill the interface's."""

from __future__ import annotations

from pathlib import Path

from mlx_finetuning import document_files
from mlx_finetuning.documents.plan import ReadDocuments
from mlx_finetuning.jobs.context import TaskContext


def run(context: TaskContext) -> ReadDocuments:
    """config: `documents`, paths. Raises DataError."""
    paths = map(Path, context.config["documents"])
    return ReadDocuments(tuple(document_files.read(path, context.progress) for path in paths))
