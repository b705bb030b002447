"""Question-answer pairs from documents: read, cut into chunks, asked about, checked, made a dataset.

What is done is a line of `pairs.jsonl` for each chunk, so that whoever is stopped or killed goes on with
the next chunk and comes to the same pairs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mlx_finetuning import document_files, files
from mlx_finetuning.data_processor import uploads
from mlx_finetuning.data_processor.examine import source_names
from mlx_finetuning.documents import answerable, generate, source
from mlx_finetuning.documents.checks import Checker
from mlx_finetuning.documents.chunks import Chunk, chunks_of
from mlx_finetuning.documents.document import Document
from mlx_finetuning.documents.generate import ChunkPairs
from mlx_finetuning.documents.plan import Generated, GenerateSettings, Plan
from mlx_finetuning.errors import (
    GenerationDiffers,
    NoPairsGenerated,
    NoUsableRows,
    PromptTooLong,
    RecordDamaged,
)
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.language import N_, _
from mlx_finetuning.progress import Step
from mlx_finetuning.tasks import text_generators
from mlx_finetuning.utils.text_generator import TextGenerator
from mlx_finetuning.workspace import GeneratedPaths

STAGE = N_("質問と回答を作る")


def run(context: TaskContext) -> Generated:
    """config: those of `GenerateSettings`.

    Raises DataError (GenerationDiffers, NoPairsGenerated, …), and what opening and asking the model raise.
    """
    settings = files.decode(context.config, GenerateSettings, context.paths.job)
    paths = context.workspace.generated(settings.name)
    _begin(settings, paths)
    sources = [Path(path) for path in settings.documents]
    documents = [
        dataclasses.replace(document_files.read(path, context.progress), name=name or path.name)
        for path, name in zip(sources, source_names(sources), strict=True)
    ]
    chunks = [chunk for document in documents for chunk in chunks_of(document)]
    done = list(files.read_records(paths.pairs, ChunkPairs))
    is_new = len(done) < len(chunks)
    if is_new:
        with text_generators.opened(settings.generator, context.workspace) as generator:
            done += _generate(context, settings, generator, chunks, done)
    return _finish(context, settings, documents, done, is_new=is_new)


def _begin(settings: GenerateSettings, paths: GeneratedPaths) -> None:
    """Note what the pairs are made with. Raises GenerationDiffers if others were begun here."""
    chosen = settings.generator
    plan = Plan(
        documents=tuple(
            f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
            for path in map(Path, settings.documents)
        ),
        model=chosen.model,
        engine=chosen.settled_engine,
        address=chosen.address,
        seed=settings.seed,
        share=settings.share,
        asks_model=settings.asks_model,
    )
    if settings.replaces and paths.folder.is_dir():
        begun = _plan_of(paths)
        if begun is None or begun.changed_ja(plan):
            files.remove_folder(paths.folder)
    begun = _plan_of(paths)
    if begun is not None and (changed := begun.changed_ja(plan)):
        raise GenerationDiffers(name=settings.name, changed=_("、").join(changed))
    if begun is None:
        files.write_json(paths.plan, dataclasses.asdict(plan))


def _plan_of(paths: GeneratedPaths) -> Plan | None:
    with contextlib.suppress(FileNotFoundError, RecordDamaged):
        return files.read_record(paths.plan, Plan)
    return None


def _generate(
    context: TaskContext,
    settings: GenerateSettings,
    generator: TextGenerator,
    chunks: Sequence[Chunk],
    done: Sequence[ChunkPairs],
) -> list[ChunkPairs]:
    """The pairs of the chunks that are left, each written as soon as it is there."""
    checker = Checker()
    for pair in (pair for made in done for pair in made.pairs):
        checker.take(pair)
    new: list[ChunkPairs] = []
    pairs = sum(len(made.pairs) for made in done)
    with files.LineLog(context.workspace.generated(settings.name).pairs) as log:
        for at, chunk in enumerate(chunks[len(done) :], len(done)):
            step = Step(
                _(STAGE),
                at,
                len(chunks),
                _("{document}　{pairs}組").format(document=chunk.document, pairs=pairs),
            )

            def tick(step: Step = step) -> None:
                context.progress(step)

            tick()
            try:
                made = generate.generate(
                    generator, chunk, checker, settings.seed + at, tick, settings.share
                )
                if settings.asks_model:
                    made = answerable.tested(generator, made, chunk, settings.seed + at, tick)
            except PromptTooLong as error:
                made = ChunkPairs(chunk.document, chunk.number, (), (str(error),))
            log.append(dataclasses.asdict(made))
            new.append(made)
            pairs += len(made.pairs)
    return new


def _finish(
    context: TaskContext,
    settings: GenerateSettings,
    documents: Sequence[Document],
    done: Sequence[ChunkPairs],
    *,
    is_new: bool,
) -> Generated:
    """The file of all pairs, and the dataset of the sound ones."""
    pairs = [pair for made in done for pair in made.pairs]
    if not pairs:
        raise NoPairsGenerated(name=settings.name, chunks=len(done))
    kept = uploads.keep(
        f"{settings.name}.jsonl", source.source_of(pairs), context.workspace.uploads
    )
    sound = {row for row, pair in enumerate(pairs, 1) if pair.is_sound}
    manifest = context.workspace.dataset(settings.name).manifest
    # What was chosen by hand among the same pairs stays.
    is_made = manifest.is_file() and not (is_new or settings.replaces)
    if not is_made:
        with contextlib.suppress(NoUsableRows):  # all are there to be looked at
            document_files.prepare_pairs(
                context.workspace, settings.name, kept, sound, context.progress
            )
            is_made = True
    return Generated(
        name=settings.name,
        pairs=len(pairs),
        sound=len(sound),
        source=str(kept),
        found=dict(Counter(problem.code for pair in pairs for problem in pair.problems)),
        failures=tuple(
            _("{document}の{chunk}か所目：{failure}").format(
                document=made.document, chunk=made.chunk, failure=failure
            )
            for made in done
            for failure in made.failures
        ),
        scanned=tuple(
            _("{name}の{page}ページ").format(name=document.name, page=page)
            for document in documents
            for page in document.scanned_pages
        ),
        dataset=is_made,
    )
