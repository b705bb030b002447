"""Share: what a run made, with a card that says what it is, for other people and programs.

A folder, a ZIP file, or a repository on the hub. Neither the rows of the dataset nor the report,
which quotes them, are among it.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mlx_finetuning import bases, config, files, models
from mlx_finetuning.config import DeployConfig, TrainConfig
from mlx_finetuning.errors import (
    AdapterMustBeFused,
    ExpertsNotInPeft,
    ModelNotFound,
)
from mlx_finetuning.experiment_tracker.evaluation.results import Report
from mlx_finetuning.experiment_tracker.records import model_card, sharing
from mlx_finetuning.experiment_tracker.records.model_card import Base, Card, WrittenFile
from mlx_finetuning.experiment_tracker.records.sharing import SharedFile
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import Certificate, Shared
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.language import _
from mlx_finetuning.messages import describe
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.models import hub
from mlx_finetuning.progress import Step
from mlx_finetuning.quantizer.verify import written
from mlx_finetuning.quantizer.verify.written import WrittenModel
from mlx_finetuning.quantizer.write import adapter_files, export
from mlx_finetuning.tasks import deploy, reference
from mlx_finetuning.tokenization.chat import TEMPLATE, THINKS
from mlx_finetuning.tokenization.rows import read_rows
from mlx_finetuning.workspace import AdapterPaths

ADAPTER_SETTINGS = ("fine_tune_type", "num_layers", "lora_parameters", THINKS)
"""What mlx-lm reads of `adapter_config.json`; it writes there where things lie on this machine, too."""
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Gathered:
    """What is shared."""

    files: tuple[SharedFile, ...]
    notes: tuple[str, ...]
    """In Japanese, what is missing and why."""


def run(context: TaskContext) -> Shared:
    """config: `out`, a path, or `repository` on the hub with `public`.

    Raises RunError, ModelError, DiskFull, NotEnoughSpace, Interrupted.
    """
    run = runs.require_trained(context.workspace, context.run_id)
    repository, out = context.config["repository"], context.config["out"]
    context.progress(Step(_(sharing.STAGE), 0, 0))
    with tempfile.TemporaryDirectory(dir=context.paths.folder) as scratch:
        gathered = _gather(context, run, Path(scratch))
        size = sum(file.size for file in gathered.files)
        if repository:
            contents = {file.name: file.content for file in gathered.files}
            is_public = bool(context.config["public"])
            place = hub.publish(repository, contents, context.progress, is_public=is_public)
        else:
            export.require_space(files.make_folder(Path(out).parent), size)
            sharing.write(gathered.files, Path(out), context.progress)
            place = str(out)
    names = tuple(file.name for file in gathered.files)
    return Shared(place=place, files=names, size_bytes=size, notes=gathered.notes)


def _gather(context: TaskContext, run: Run, scratch: Path) -> Gathered:
    """scratch: for what is made only to be shared."""
    folder = bases.of_run(run, context.workspace)
    adapter = context.workspace.adapter(run.run_id)
    base = _base(context, run, folder)
    shared = _adapter_files(adapter)
    notes = []
    try:
        adapter_files.write_peft(folder, adapter.folder, scratch, base.repository or base.name)
        adapter_files.check_peft(folder, adapter.folder, scratch)
        peft = (adapter_files.PEFT_WEIGHTS, adapter_files.PEFT_CONFIG)
        shared += [SharedFile(f"peft/{name}", scratch / name) for name in peft]
        has_peft = True
    except (AdapterMustBeFused, ExpertsNotInPeft) as error:
        notes.append(
            _("peft の形のアダプターは入れません。{what}").format(what=describe(error).what)
        )
        has_peft = False
    ggufs = _current_ggufs(context, adapter)
    if not ggufs:
        notes.append(_("GGUFファイルは入れません。確かめて書き出したものが、まだありません。"))
    shared += [SharedFile(f"gguf/{model.path.name}", model.path) for model in ggufs]
    shared += (modelfile := _modelfile(context, run, folder, ggufs))
    if licence := deploy.licence_of(run.model, folder):
        shared.append(SharedFile("LICENSE-base.txt", licence.encode()))
    card = _card(context, run, base, ggufs, has_peft=has_peft)
    card = replace(card, has_modelfile=bool(modelfile))
    shared.append(SharedFile("README.md", card.text().encode()))
    return Gathered(tuple(shared), tuple(notes))


def _base(context: TaskContext, run: Run, folder: Path) -> Base:
    try:
        entry, installed = models.search(run.model, context.workspace)
    except ModelNotFound:  # a GGUF file
        entry, installed = None, None
    repository = installed.repo_id if installed and installed.repo_id else ""
    licence = entry.licence if entry else ""
    return Base(model_card.shown_name(run.model), licence, repository)


def _adapter_files(adapter: AdapterPaths) -> list[SharedFile]:
    """The adapter as mlx-lm reads it."""
    stored = json.loads(adapter.config.read_text(encoding="utf-8"))
    kept = {key: stored[key] for key in ADAPTER_SETTINGS if key in stored}
    settings = json.dumps(kept, ensure_ascii=False, indent=2) + "\n"
    shared = [
        SharedFile("mlx/adapters.safetensors", adapter.weights),
        SharedFile("mlx/adapter_config.json", settings.encode()),
    ]
    template = adapter.folder / TEMPLATE
    return [*shared, SharedFile(f"mlx/{TEMPLATE}", template)] if template.exists() else shared


def _current_ggufs(context: TaskContext, adapter: AdapterPaths) -> list[WrittenModel]:
    """The run's files that are proven, and are of the adapter as it is now."""
    trained_s = adapter.weights.stat().st_mtime
    found = written.read_all(context.workspace.gguf_folder(context.run_id))
    return [model for model in found if model.proven and model.made_s >= trained_s]


def _modelfile(
    context: TaskContext, run: Run, folder: Path, ggufs: Sequence[WrittenModel]
) -> list[SharedFile]:
    """For Ollama, of the smallest file; none for a model that does not converse."""
    if not ggufs:
        return []
    loaded = load(folder, context.workspace.adapter(run.run_id).folder, lazy=True)
    if loaded.chat.template is None:
        return []
    smallest = min(ggufs, key=lambda model: model.size_bytes).path
    conversations = reference.conversations(context, run.dataset)
    definition = deploy.definition_of("model", smallest, loaded, conversations, DeployConfig())
    text = deploy.modelfile_of(definition, "Modelfile")
    return [SharedFile("gguf/Modelfile", text.encode())]


def _card(
    context: TaskContext, run: Run, base: Base, ggufs: Sequence[WrittenModel], *, has_peft: bool
) -> Card:
    paths = context.workspace.run(run.run_id)
    settings = config.load(TrainConfig, config.read_yaml(paths.config))
    splits = {
        name: context.workspace.dataset(run.dataset).split(name)
        for name in (SPLITS if run.dataset else ())
    }
    report = certificate = None
    with contextlib.suppress(FileNotFoundError):
        report = files.read_record(paths.report, Report)
    with contextlib.suppress(FileNotFoundError):
        certificate = files.read_record(paths.certificate, Certificate)
    return Card(
        run=run,
        base=base,
        settings=asdict(settings),
        rows={name: len(read_rows(path)) for name, path in splits.items() if path.exists()},
        files=tuple(
            WrittenFile(model.path.name, model.quant, model.size_bytes, model.agreement)
            for model in ggufs
        ),
        has_peft=has_peft,
        has_modelfile=False,
        report=report,
        certificate=certificate,
    )
