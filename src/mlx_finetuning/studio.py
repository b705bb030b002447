"""The application as CLI and UI see it: every action on a workspace, and no presentation.

What loads MLX or takes long becomes a job in a worker process; the methods here follow it and
return its result, or raise the error it ended with. Importing this module loads nothing heavy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_finetuning import config, files
from mlx_finetuning.config import (
    QUANTIZATIONS,
    CertifyConfig,
    DeployConfig,
    EvaluateConfig,
    ExportConfig,
    GenerateConfig,
    PrepareConfig,
    TrainConfig,
    as_dict,
)
from mlx_finetuning.errors import (
    DatasetInUse,
    DatasetNotFound,
    GgufNotMade,
    InvalidSettings,
    RunNotDeployed,
    StudioError,
)
from mlx_finetuning.jobs import jobs, metrics, queue, runs, status
from mlx_finetuning.jobs import model_servers as servers
from mlx_finetuning.jobs.metrics import Metrics
from mlx_finetuning.jobs.model_servers import ModelServer
from mlx_finetuning.jobs.queue import LivingJob
from mlx_finetuning.jobs.runs import LaterJob, Run
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.progress import Progress, silent
from mlx_finetuning.workspace import DatasetPaths, JobPaths, Workspace

if TYPE_CHECKING:
    from mlx_finetuning.data_processor import DatasetSummary, Inspection
    from mlx_finetuning.data_processor.trash import DeletedDataset
    from mlx_finetuning.doctor import Report
    from mlx_finetuning.experiment_tracker.records.differences import Comparison
    from mlx_finetuning.experiment_tracker.records.notes import Note
    from mlx_finetuning.experiment_tracker.records.rerun import Reproduction
    from mlx_finetuning.experiment_tracker.records.trash import Deleted
    from mlx_finetuning.models import CatalogueEntry, Fit, InstalledModel
    from mlx_finetuning.ollama_integration import Client as OllamaClient
    from mlx_finetuning.ollama_integration import Model as OllamaModel
    from mlx_finetuning.ollama_integration import Status as OllamaStatus
    from mlx_finetuning.presets import Preset
    from mlx_finetuning.quantizer.verify.written import WrittenModel
    from mlx_finetuning.runtime import AnswerStream, Pieces
    from mlx_finetuning.runtime.chats import Chat
    from mlx_finetuning.upkeep import Usage, Waste

ANSWER_ENGINES = ("mlx", "gguf", "ollama")
SERVED_ENGINES = ("mlx", "gguf")
"""Those that run in a process of ours."""
BASE = "base"
"""The name by which a model server knows the untrained model."""


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset of the workspace."""

    name: str
    manifest: dict[str, Any] | None
    """`dataset.json`; None where it cannot be read."""


class Studio:
    """All actions on one workspace. Holds no state of its own: everything is on disk."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    # --- data ----------------------------------------------------------------------------

    def inspect_data(
        self,
        source: Path,
        encoding: str = "auto",
        mapping: Mapping[str, str] | None = None,
        settings: PrepareConfig | None = None,
        progress: Progress = silent,
    ) -> Inspection:
        """What a source file holds, without writing anything; `settings`, where given, include the
        encoding and preview other cleaning steps. Raises DataError, InvalidSettings."""
        from mlx_finetuning import data_processor

        checked = config.load(PrepareConfig, as_dict(settings)) if settings else None
        return data_processor.inspect(source, encoding, mapping, checked, progress)

    def prepare_data(
        self,
        source: Path | Sequence[Path],
        name: str,
        settings: PrepareConfig | None = None,
        mapping: Mapping[str, str] | None = None,
        *,
        replace: bool = False,
        progress: Progress = silent,
    ) -> DatasetSummary:
        """Write the dataset `name` from a source file or several.

        Raises DataError, InvalidName, InvalidSettings, DiskFull.
        """
        from mlx_finetuning import data_processor

        paths = self.workspace.dataset(name)
        checked = config.load(PrepareConfig, as_dict(settings or PrepareConfig()))
        return data_processor.prepare(
            source, name, paths, checked, mapping, progress, replace=replace
        )

    def reproduce_data(
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

        recipe = data_processor.read_recipe(manifest, sources)
        paths = self.workspace.dataset(name or recipe.name)
        return data_processor.reproduce(recipe, paths.folder.name, paths, progress, replace)

    def preview_data(
        self,
        name: str,
        model: str,
        row: int | None = None,
        max_length: int | None = None,
        supervise: str | None = None,
        progress: Progress = silent,
    ) -> dict[str, Any]:
        """What training will see: one source row (the first unless given) token by token with its
        loss mask, and figures over the whole dataset; of a preference row both answers.

        Raises DataError, ModelError, InvalidSettings, Interrupted.
        """
        from mlx_finetuning import models

        self._require_dataset(name)
        models.resolve(model, self.workspace)
        given = {"max_length": max_length, "supervise": supervise}
        chosen = {key: value for key, value in given.items() if value is not None}
        config.load(TrainConfig, chosen)
        details = {"model": model, "dataset": name, "row": row, **chosen}
        paths = self.workspace.job(jobs.new_name("preview"))
        jobs.launch(paths, jobs.Job("preview", str(self.workspace.root), "", details))
        return jobs.follow(paths, progress)

    def keep_upload(self, name: str, content: bytes) -> Path:
        """A copy in the workspace of a file that the browser handed in. Raises DiskFull."""
        from mlx_finetuning.data_processor import uploads

        return uploads.keep(name, content, self.workspace.uploads)

    def source_rows(
        self, source: Path, encoding: str, numbers: Iterable[int]
    ) -> list[dict[str, str]]:
        """The rows of a source file with these numbers, as they are read. Raises DataError."""
        from mlx_finetuning.data_processor import uploads

        return uploads.rows_at(source, encoding, numbers)

    def datasets(self) -> list[DatasetEntry]:
        """All datasets by name; one with a damaged manifest is listed too."""
        self._recover_datasets()
        folder = self.workspace.datasets
        found = folder.iterdir() if folder.is_dir() else ()
        names = (path.name for path in found if path.is_dir() and not path.name.startswith("."))
        return [self._dataset_entry(name) for name in sorted(names)]

    def _dataset_entry(self, name: str) -> DatasetEntry:
        paths = DatasetPaths(self.workspace.datasets / name)
        try:
            return DatasetEntry(name, files.read_json(paths.manifest))
        except (StudioError, FileNotFoundError):
            return DatasetEntry(name, None)

    def delete_dataset(self, name: str) -> None:
        """Move a dataset to the trash. Raises DatasetNotFound, DatasetInUse, DiskFull."""
        from mlx_finetuning.data_processor import trash

        paths, available = self.workspace.dataset(name), [one.name for one in self.datasets()]
        if name not in available:
            raise DatasetNotFound(name=name, available=available)
        using = [job.paths.folder.name for job in self.living_jobs() if self._uses(job, name)]
        if using:
            raise DatasetInUse(name=name, jobs=using)
        trash.delete(paths, self.workspace.deleted_datasets)

    def _uses(self, job: LivingJob, dataset: str) -> bool:
        if job.kind == "serve_model":
            return False
        if job.run_id:
            return self.run(job.run_id).dataset == dataset
        return jobs.read_job(job.paths).config.get("dataset") == dataset

    def restore_dataset(self, name: str, deleted_at: str = "") -> None:
        """Bring back the dataset of this name that was deleted last, or then.

        Raises DatasetNotInTrash, DatasetInTheWay.
        """
        from mlx_finetuning.data_processor import trash

        trash.restore(self.workspace.dataset(name), self.workspace.deleted_datasets, deleted_at)

    def deleted_datasets(self) -> list[DeletedDataset]:
        """Those in the trash, what was deleted last first; `clean("deleted_datasets")` empties it."""
        from mlx_finetuning.data_processor import trash

        return trash.list_deleted(self.workspace.deleted_datasets)

    def _recover_datasets(self) -> None:
        """Put back what a kill between two renames left aside."""
        if any(self.workspace.datasets.glob(".old-*")):
            from mlx_finetuning import data_processor

            data_processor.recover(self.workspace.datasets)

    # --- training ------------------------------------------------------------------------

    def start_training(self, settings: TrainConfig) -> str:
        """Start a run in the background and return its id; it queues if the device is busy.

        Everything is checked before anything is written. Raises InvalidSettings,
        DatasetNotFound, ModelError, DiskFull.
        """
        checked = config.load(TrainConfig, as_dict(settings))
        self._require_dataset(checked.dataset)
        if checked.engine == "simulation":
            return runs.start(self.workspace, checked, model_folder=None)
        from mlx_finetuning import models

        return runs.start(self.workspace, checked, models.resolve(checked.model, self.workspace))

    def estimate_training(
        self, settings: TrainConfig, progress: Progress = silent
    ) -> dict[str, Any]:
        """What a run would take: memory, time, and the batch sizes that fit and that are advised.

        Does the first few updates in a worker, so it waits for the device. Keys are those of
        `mlx_trainer.training.estimate.Estimate`. Raises InvalidSettings, DatasetNotFound, ModelError,
        RunError, Interrupted.
        """
        checked = config.load(TrainConfig, as_dict(settings))
        self._require_dataset(checked.dataset)
        if checked.engine != "mlx":
            problem = f"engine: 見積もりができるのは mlx だけです（今の設定: {checked.engine}）。"
            raise InvalidSettings(problems=[problem])
        from mlx_finetuning import models

        models.resolve(checked.model, self.workspace)
        paths = self.workspace.job(jobs.new_name("dry_run"))
        jobs.launch(paths, jobs.Job("dry_run", str(self.workspace.root), "", as_dict(checked)))
        return jobs.follow(paths, progress)

    def rerun(self, run_id: str) -> str:
        """Start a run with another one's settings, data and base, and return its id.

        On the CPU the same losses come out, to the last bit. Raises RunNotFound,
        RerunSourceChanged, ModelError, DiskFull.
        """
        from mlx_finetuning import models
        from mlx_finetuning.experiment_tracker.records import rerun

        run = self.run(run_id)
        self._require_dataset(run.dataset)
        folder = None if run.simulated else models.resolve(run.model, self.workspace)
        return self.start_training(rerun.settings(self.workspace, run_id, folder))

    def compare_losses(self, run_id: str, other_id: str) -> Reproduction:
        """How far the losses of two runs are the same. Raises RunNotFound."""
        from mlx_finetuning.experiment_tracker.records import rerun

        return rerun.compare(self.metrics(run_id), self.metrics(other_id))

    def resume_training(self, run_id: str) -> None:
        """Let a stopped run go on exactly where its last checkpoint was made.

        Raises RunNotFound, RunNotResumable, DiskFull.
        """
        runs.resume(self.workspace, run_id)

    def _require_dataset(self, name: str) -> None:
        if not name:
            raise InvalidSettings(problems=["dataset: データセットの名前を指定してください。"])
        self._recover_datasets()
        if not self.workspace.dataset(name).train.is_file():
            available = [entry.name for entry in self.datasets()]
            raise DatasetNotFound(name=name, available=available)

    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        return runs.list_runs(self.workspace)

    def trained_runs(self) -> list[Run]:
        """Those that left something to export or to talk to, the newest first."""
        return [run for run in self.runs() if self.is_trained(run)]

    def is_trained(self, run: Run) -> bool:
        """Whether the run has ended and left something to export or to talk to."""
        return runs.is_trained(self.workspace, run)

    def run(self, run_id: str) -> Run:
        """Raises RunNotFound, InvalidName."""
        return runs.show(self.workspace, run_id)

    def metrics(self, run_id: str) -> list[dict[str, Any]]:
        """The run's metrics so far, one dictionary per line. Raises RunNotFound."""
        return runs.metrics(self.workspace, run_id)

    def metrics_reader(self, run_id: str) -> Metrics:
        """The run's metrics for repeated looks, which read only what is new. Raises RunNotFound."""
        runs.show(self.workspace, run_id)
        return Metrics(self.workspace.run(run_id).metrics)

    def samples(self, run_id: str) -> list[dict[str, Any]]:
        """Sample answers during training: update, row, question, expected, answer."""
        return list(files.read_lines(self.workspace.run(run_id).samples))

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """What happened to the run: states, stages, checkpoints, warnings."""
        return list(files.read_lines(self.workspace.run(run_id).events))

    def log_tail(self, run_id: str, size: int = 8000) -> str:
        """The end of the worker's log, whole lines, at most `size` bytes; empty without a log."""
        return files.read_tail(self.workspace.run(run_id).log, size)

    def run_settings(self, run_id: str) -> dict[str, Any]:
        """The settings the run was started with. Raises ConfigFileUnreadable."""
        return config.read_yaml(self.workspace.run(run_id).config)

    def later_jobs(self, run_id: str) -> list[LaterJob]:
        """The run's evaluations, exports and conversations, the newest first.

        Here and below an empty `run_id` stands for the jobs that belong to no run.
        """
        return runs.later_jobs(self.workspace, run_id)

    def job_status(self, run_id: str, name: str) -> JobStatus:
        """Of one of the run's later jobs. Raises FileNotFoundError, RecordDamaged, NewerSchema."""
        return status.read(self._later_job(run_id, name))

    def job_result(self, run_id: str, name: str) -> dict[str, Any]:
        """What a later job that is done came to. Raises RecordDamaged, NewerSchema."""
        return jobs.result(self._later_job(run_id, name))

    def job_settings(self, run_id: str, name: str) -> dict[str, Any]:
        """What a later job was asked for. Raises FileNotFoundError, RecordDamaged, NewerSchema."""
        return jobs.read_job(self._later_job(run_id, name)).config

    def stop_job(self, run_id: str, name: str) -> None:
        """Ask one of the run's later jobs to stop; returns at once."""
        jobs.request_stop(self._later_job(run_id, name))

    def _later_job(self, run_id: str, name: str) -> JobPaths:
        return self.workspace.run(run_id).later_job(name) if run_id else self.workspace.job(name)

    def report(self, run_id: str) -> dict[str, Any] | None:
        """The latest evaluation's report, or None. Raises RecordDamaged, NewerSchema."""
        with contextlib.suppress(FileNotFoundError):
            return files.read_json(self.workspace.run(run_id).report)
        return None

    def watch(self, run_id: str, progress: Progress, *, stops: bool = False) -> dict[str, Any]:
        """Follow a run until it ends; returns its result or raises the error it ended with.

        With `stops`, Ctrl-C (or Interrupted from `progress`) stops the run cleanly; without, it
        only ends the watching.
        """
        self.run(run_id)
        return jobs.follow(self.workspace.run(run_id), progress, stops=stops)

    def stop(self, run_id: str, *, force: bool = False) -> Run:
        """Ask a run to stop and return at once; a run that has ended stays as it is.

        With `force`, the run's worker and those of its later jobs are ended, whether they answer
        or not; what was saved up to then remains.
        """
        run = self.run(run_id)
        if force:
            for job in queue.living_jobs(self.workspace):
                if job.run_id == run_id:
                    self.end_job(job)
        elif run.status.is_living:
            jobs.request_stop(self.workspace.run(run_id))
        return self.run(run_id)

    # --- what is kept of runs ------------------------------------------------------------

    def compare_runs(self, run_ids: Sequence[str]) -> Comparison:
        """Settings that differ, and what the curves came to. Raises RunNotFound."""
        from mlx_finetuning.experiment_tracker.records import differences

        return differences.compare(self.workspace, run_ids)

    def best_loss(self, run_id: str) -> float | None:
        """The lowest validation loss so far, or None."""
        return metrics.best_valid(self.workspace.run(run_id).metrics)

    def note(self, run_id: str) -> Note:
        """What was noted of a run; empty where that cannot be read."""
        from mlx_finetuning.experiment_tracker.records import notes

        return notes.read_or_empty(self.workspace.run(run_id))

    def save_note(self, run_id: str, text: str, tags: Iterable[str] = ()) -> Note:
        """Replace a run's note and tags. Raises RunNotFound, NewerSchema, DiskFull."""
        from mlx_finetuning.experiment_tracker.records import notes

        runs.show(self.workspace, run_id)
        note = notes.Note(text.strip(), notes.tags_of(tags))
        notes.write(self.workspace.run(run_id), note)
        return note

    def delete_run(self, run_id: str) -> None:
        """Move a run and all that was made of it to the trash.

        Raises RunNotFound, RunBusy, RunExists, DiskFull.
        """
        from mlx_finetuning.experiment_tracker.records import trash

        trash.delete(self.workspace, run_id)

    def restore_run(self, run_id: str) -> None:
        """Raises RunNotInTrash, RunExists."""
        from mlx_finetuning.experiment_tracker.records import trash

        trash.restore(self.workspace, run_id)

    def deleted_runs(self) -> list[Deleted]:
        """The trash, what was deleted last first; `clean("trash")` empties it."""
        from mlx_finetuning.experiment_tracker.records import trash

        return trash.list_deleted(self.workspace)

    def export_records(self, run_id: str, form: str, folder: Path) -> list[Path]:
        """Write settings and metrics for other programs: csv, tensorboard or mlflow.

        Raises RunNotFound, MlflowNotInstalled, DiskFull.
        """
        from mlx_finetuning.experiment_tracker.records import export

        return export.write(export.content(self.workspace, run_id), form, folder)

    def records_as_csv(self, run_id: str) -> bytes:
        """The CSV files of `export_records` as one ZIP file. Raises RunNotFound."""
        from mlx_finetuning.experiment_tracker.records import export

        return export.archive(export.content(self.workspace, run_id))

    def records_as_events(self, run_id: str) -> bytes:
        """TensorBoard's event file of `export_records`. Raises RunNotFound."""
        from mlx_finetuning.experiment_tracker.records import export

        return export.events(export.content(self.workspace, run_id))

    def event_file_name(self, run_id: str) -> str:
        """TensorBoard knows its files by their names. Raises RunNotFound."""
        from mlx_finetuning.experiment_tracker.records import export

        return export.event_file_name(self.run(run_id))

    def record_formats(self) -> tuple[str, ...]:
        """Those of `export_records` that can be written here."""
        from mlx_finetuning.experiment_tracker.records import export

        return tuple(form for form in export.FORMATS if form != "mlflow" or export.has_mlflow())

    # --- what a run trained --------------------------------------------------------------

    def evaluate(
        self, run_id: str, settings: EvaluateConfig | None = None, progress: Progress = silent
    ) -> dict[str, Any]:
        """Compare base and tuned model on held-out rows. Raises RunError, Interrupted."""
        return jobs.follow(self.start_evaluation(run_id, settings), progress)

    def start_evaluation(self, run_id: str, settings: EvaluateConfig | None = None) -> JobPaths:
        """Like `evaluate`, without waiting. Raises RunError, InvalidSettings, DiskFull."""
        checked = config.load(EvaluateConfig, as_dict(settings or EvaluateConfig()))
        return runs.start_later_job(self.workspace, run_id, "evaluate", as_dict(checked))

    def export(
        self,
        run_id: str,
        settings: ExportConfig | None = None,
        quants: Sequence[str] = (),
        out: Path | None = None,
        progress: Progress = silent,
        *,
        advise: bool = False,
    ) -> dict[str, Any]:
        """Write the tuned model and verify it; `quants` for several files from one pass.

        `out` is a file, or a folder for several. With `advise`, types are measured and none is
        kept. Raises RunError, ExportError, Interrupted.
        """
        started = self.start_export(run_id, settings, quants, out, advise=advise)
        return jobs.follow(started, progress)

    def start_export(
        self,
        run_id: str,
        settings: ExportConfig | None = None,
        quants: Sequence[str] = (),
        out: Path | None = None,
        *,
        advise: bool = False,
    ) -> JobPaths:
        """Like `export`, without waiting. Raises RunError, InvalidSettings, DiskFull."""
        chosen = as_dict(settings or ExportConfig())
        for quant in quants or (chosen["quant"],):
            config.load(ExportConfig, {**chosen, "quant": quant})
        details = {
            **chosen,
            "quant": list(quants) or (None if advise else chosen["quant"]),
            "advise": advise,
            "out": None if out is None else str(out.absolute()),
        }
        return runs.start_later_job(self.workspace, run_id, "export", details)

    def predicted_sizes(self, run_id: str) -> dict[str, int]:
        """Bytes that a GGUF file of each type would take, without reading a weight.

        Raises RunError, ModelError, ExportError.
        """
        from mlx_finetuning import models
        from mlx_finetuning.quantizer.write import export

        run = runs.require_trained(self.workspace, run_id)
        return export.predicted_sizes(models.resolve(run.model, self.workspace), QUANTIZATIONS)

    def written_models(self, run_id: str) -> list[WrittenModel]:
        """The files and folders made of the run so far, the newest first."""
        from mlx_finetuning.quantizer.verify import written

        return written.read_all(self.workspace.gguf_folder(run_id))

    def verify(
        self,
        path: Path,
        run_id: str,
        settings: ExportConfig | None = None,
        progress: Progress = silent,
    ) -> dict[str, Any]:
        """Compare a written model with what the run trained. Raises RunError, ExportError."""
        return jobs.follow(self.start_verification(path, run_id, settings), progress)

    def start_verification(
        self, path: Path, run_id: str, settings: ExportConfig | None = None
    ) -> JobPaths:
        """Like `verify`, without waiting. Raises RunError, DiskFull."""
        tokens = (settings or ExportConfig()).verify_tokens
        details = {"path": str(path.absolute()), "verify_tokens": tokens}
        return runs.start_later_job(self.workspace, run_id, "verify", details)

    def certify(
        self, run_id: str, settings: CertifyConfig | None = None, progress: Progress = silent
    ) -> dict[str, Any]:
        """Compare every written model of the run with the trained one, answer by answer.

        Returns what `certificate` reads later. Raises RunError, ModelError, Interrupted.
        """
        return jobs.follow(self.start_certification(run_id, settings), progress)

    def start_certification(self, run_id: str, settings: CertifyConfig | None = None) -> JobPaths:
        """Like `certify`, without waiting. Raises RunError, InvalidSettings, DiskFull."""
        checked = config.load(CertifyConfig, as_dict(settings or CertifyConfig()))
        return runs.start_later_job(self.workspace, run_id, "certify", as_dict(checked))

    def certificate(self, run_id: str) -> dict[str, Any] | None:
        """The latest certificate, or None. Raises RecordDamaged, NewerSchema."""
        with contextlib.suppress(FileNotFoundError):
            return files.read_json(self.workspace.run(run_id).certificate)
        return None

    # --- Ollama --------------------------------------------------------------------------

    def ollama_status(self, host: str | None = None) -> OllamaStatus:
        """Who answers at `host`, else at OLLAMA_HOST; never takes longer than a few seconds.

        Raises OllamaHostInvalid.
        """
        from mlx_finetuning import ollama_integration

        return ollama_integration.status(host)

    def ollama_models(self, host: str | None = None) -> list[OllamaModel]:
        """The models in Ollama, the newest first. Raises OllamaError."""
        from mlx_finetuning import ollama_integration

        with ollama_integration.connect(host) as client:
            return client.models()

    def show_ollama_model(self, name: str, host: str | None = None) -> dict[str, Any]:
        """What Ollama knows of a model. Raises OllamaError."""
        from mlx_finetuning import ollama_integration

        with ollama_integration.connect(host) as client:
            return client.show(name)

    def copy_ollama_model(
        self, source: str, destination: str, host: str | None = None, *, replace: bool = False
    ) -> None:
        """Give a model a second name. Raises OllamaError, OllamaNameTaken unless `replace`."""
        from mlx_finetuning import ollama_integration

        with ollama_integration.connect(host) as client:
            ollama_integration.copy(client, source, destination, replace=replace)

    def delete_ollama_model(self, name: str, host: str | None = None) -> None:
        """Raises OllamaError."""
        from mlx_finetuning import ollama_integration

        with ollama_integration.connect(host) as client:
            client.delete(name)

    def deploy(
        self,
        run_id: str,
        name: str = "",
        settings: DeployConfig | None = None,
        host: str | None = None,
        *,
        replace: bool = False,
        progress: Progress = silent,
    ) -> dict[str, Any]:
        """Bring the tuned model into Ollama, and keep it there only if it does what was trained.

        name: made from model and run if empty; a GGUF file is made where there is none.
        Raises OllamaError, RunError, ModelError, ExportError, Interrupted.
        """
        started = self.start_deployment(run_id, name, settings, host, replace=replace)
        return jobs.follow(started, progress)

    def start_deployment(
        self,
        run_id: str,
        name: str = "",
        settings: DeployConfig | None = None,
        host: str | None = None,
        *,
        replace: bool = False,
    ) -> JobPaths:
        """Like `deploy`, without waiting. Raises OllamaError, RunError, InvalidSettings, DiskFull."""
        from mlx_finetuning import ollama_integration

        checked = config.load(DeployConfig, as_dict(settings or DeployConfig()))
        with ollama_integration.connect(host) as client:  # before the job waits for its turn
            ollama_integration.check_name(client, name, replace=replace)
            address = client.address.url
        details = {**as_dict(checked), "name": name, "host": address, "replace": replace}
        return runs.start_later_job(self.workspace, run_id, "deploy", details)

    def deployments(self, run_id: str) -> list[dict[str, Any]]:
        """What the run's registrations in Ollama came to, the newest first."""
        return runs.deployments(self.workspace, run_id)

    def stream_ollama_answer(
        self,
        name: str,
        messages: Sequence[Mapping[str, str]],
        settings: GenerateConfig | None = None,
        host: str | None = None,
    ) -> AnswerStream:
        """An answer of a model in Ollama as it is generated; `close` stops it. Raises OllamaError."""
        checked = config.load(GenerateConfig, as_dict(settings or GenerateConfig()))
        return self._ollama_stream(name, messages, checked, host)

    def _ollama_stream(
        self,
        name: str,
        messages: Sequence[Mapping[str, str]],
        settings: GenerateConfig,
        host: str | None,
        adapter: Path | None = None,
    ) -> AnswerStream:
        """adapter: what the model was made of, if that is known."""
        from mlx_finetuning import ollama_integration
        from mlx_finetuning.runtime import AnswerStream

        client = ollama_integration.connect(host)
        turns = _turns(messages, settings)
        return AnswerStream(self._ollama_pieces(client, name, turns, settings, adapter))

    def _ollama_pieces(
        self,
        client: OllamaClient,
        name: str,
        turns: list[dict[str, str]],
        settings: GenerateConfig,
        adapter: Path | None,
    ) -> Pieces:
        from mlx_finetuning.runtime import Piece, apart
        from mlx_finetuning.tokenization.chat import kept_form
        from mlx_finetuning.tokenization.reasoning import TAG, Format

        def written() -> Pieces:
            found = client.chat(name, turns, settings.max_tokens, settings.temperature)
            with contextlib.closing(found):
                for one in found:
                    yield Piece(one.text, one.tokens, one.ended, one.prompt_tokens, one.reasoning)

        with client:
            form = Format(TAG)
            if adapter is not None:
                form = kept_form(adapter, lambda: client.render(name, turns))
            yield from apart(written(), form)

    # --- conversations -------------------------------------------------------------------

    def stream_answer(
        self,
        run_id: str,
        messages: Sequence[Mapping[str, str]],
        settings: GenerateConfig | None = None,
        *,
        engine: str = "mlx",
        base: bool = False,
        progress: Progress = silent,
    ) -> AnswerStream:
        """An answer's text as it is generated, by the tuned model or its base.

        The model is loaded by the first question, in a process of its own, and kept for ten
        minutes after the last; `progress` hears while it loads. Training does not hold it up: both
        then share the machine (`is_device_busy`). `close` cancels; `answer` has the counts.
        engine: `mlx`, `gguf` (the newest file, in llama.cpp) or `ollama` (what was deployed last).
        Raises InvalidSettings, RunError, ModelError, ExportError, OllamaError, NotEnoughMemory.
        """
        from mlx_finetuning.runtime import AnswerStream, Client

        checked = config.load(GenerateConfig, as_dict(settings or GenerateConfig()))
        _require_engine(engine, ANSWER_ENGINES, base)
        if engine == "ollama":
            return self._ollama_answer(run_id, messages, checked)
        turns = _turns(messages, checked)
        wanted = self._serving(run_id, engine)
        server = servers.join_or_start(self.workspace, run_id, wanted, progress)
        client = Client(server.address, server.key)
        model = BASE if base else run_id
        return AnswerStream(client.stream(turns, checked.max_tokens, checked.temperature, model))

    def _ollama_answer(
        self, run_id: str, messages: Sequence[Mapping[str, str]], settings: GenerateConfig
    ) -> AnswerStream:
        """By the model that was deployed last. Raises RunNotDeployed."""
        runs.require_trained(self.workspace, run_id)
        deployed = runs.deployments(self.workspace, run_id)
        if not deployed:
            raise RunNotDeployed(run_id=run_id)
        newest = deployed[0]
        adapter = self.workspace.adapter(run_id).folder
        return self._ollama_stream(newest["name"], messages, settings, newest["host"], adapter)

    def answer(
        self,
        run_id: str,
        messages: Sequence[Mapping[str, str]],
        settings: GenerateConfig | None = None,
        *,
        base: bool = False,
        engine: str = "mlx",
        progress: Progress = silent,
    ) -> dict[str, Any]:
        """One whole answer, like `stream_answer`: `text`, `reasoning`, `tokens`, `ended`, `engine`."""
        stream = self.stream_answer(
            run_id, messages, settings, engine=engine, base=base, progress=progress
        )
        for _ in stream:
            pass
        return {**as_dict(stream.answer), "engine": engine}

    def is_device_busy(self) -> bool:
        """Whether a training or another long job computes now, so that answers take longer."""
        return files.is_locked(self.workspace.device_lock)

    def model_servers(self, run_id: str) -> list[ModelServer]:
        """The run's models that are loaded and answer now."""
        return servers.living(self.workspace, run_id)

    def stop_model_servers(self, run_id: str) -> None:
        """Let the run's loaded models go, but for those that `serve_model` offers."""
        servers.stop(self.workspace, run_id)

    @contextlib.contextmanager
    def serve_model(
        self,
        run_id: str,
        *,
        engine: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str | None = None,
        progress: Progress = silent,
    ) -> Iterator[ModelServer]:
        """Offer the tuned model to other programs while the block, and this process, lasts.

        engine: llama.cpp where a GGUF file was made, else MLX; port: 0 takes a free one; key: None
        for a fresh one, empty for none.
        Raises InvalidSettings, RunError, ModelError, ExportError, NotEnoughMemory, PortTaken.
        """
        runs.require_trained(self.workspace, run_id)
        chosen = engine or ("gguf" if self._newest_gguf(run_id) else "mlx")
        _require_engine(chosen, SERVED_ENGINES, base=False)
        place = {"host": host, "port": port, "key": key}
        wanted = {**self._serving(run_id, chosen), **place}
        with servers.offered(self.workspace, run_id, wanted, progress) as server:
            yield server

    def watch_server(self, server: ModelServer, progress: Progress = silent) -> None:
        """Follow an offered model until it ends; Ctrl-C ends it. Raises what it ended with."""
        jobs.follow(server.paths, progress)

    def _serving(self, run_id: str, engine: str) -> dict[str, Any]:
        """What a model server is to load. Raises GgufNotMade, RunError."""
        runs.require_trained(self.workspace, run_id)
        if engine == "mlx":
            weights = self.workspace.adapter(run_id).weights
            return {"engine": engine, "gguf": "", "made": weights.stat().st_mtime_ns}
        path = self._newest_gguf(run_id)
        if path is None:
            raise GgufNotMade(run_id=run_id)
        return {"engine": engine, "gguf": str(path), "made": path.stat().st_mtime_ns}

    def _newest_gguf(self, run_id: str) -> Path | None:
        made = self.workspace.gguf_folder(run_id).glob("[!.]*.gguf")
        models = (path for path in made if not path.stem.endswith("-adapter"))
        return max(models, key=lambda path: path.stat().st_mtime_ns, default=None)

    def chats(self, run_id: str) -> list[Chat]:
        """The run's saved conversations, the newest first. Raises RunNotFound."""
        from mlx_finetuning.runtime import chats

        runs.show(self.workspace, run_id)
        return chats.read_all(self._chats(run_id))

    def save_chat(self, run_id: str, chat: Chat) -> None:
        """Write or replace a conversation. Raises RunNotFound, DiskFull."""
        from mlx_finetuning.runtime import chats

        runs.show(self.workspace, run_id)
        chats.save(self._chats(run_id), chat)

    def delete_chat(self, run_id: str, chat_id: str) -> None:
        """Forget a conversation; one that is not there is no error."""
        from mlx_finetuning.runtime import chats

        chats.delete(self._chats(run_id), chat_id)

    def _chats(self, run_id: str) -> Path:
        return self.workspace.run(run_id).chats

    # --- the machine ---------------------------------------------------------------------

    def doctor(self) -> Report:
        """What the machine has, what it lacks and what to do; takes about two seconds."""
        from mlx_finetuning.doctor import diagnose

        return diagnose(self.workspace)

    def presets(self, base: TrainConfig) -> list[Preset]:
        """Three ways to train `base`'s model on its dataset. Raises DatasetNotFound."""
        from mlx_finetuning import presets

        self._require_dataset(base.dataset)
        with self.workspace.dataset(base.dataset).train.open("rb") as stream:
            rows = sum(1 for _ in stream)
        return presets.presets(base, rows, self._width(base.model))

    def _width(self, model: str) -> int:
        """Size of a model's hidden states; 0 where it cannot be read."""
        from mlx_finetuning import models
        from mlx_finetuning.errors import ModelError

        try:
            return models.width(models.resolve(model, self.workspace))
        except ModelError:
            return 0

    def living_jobs(self) -> list[LivingJob]:
        """What works or waits now, the oldest first."""
        found = queue.living_jobs(self.workspace)
        return sorted(found, key=lambda job: job.status.created_at)

    def end_job(self, job: LivingJob) -> bool:
        """End a job at once, whatever it hangs in; True once nobody works on it any more."""
        return jobs.end(job.paths)

    def preferences(self) -> TrainConfig:
        """What a new run starts from. Raises RecordDamaged, NewerSchema, InvalidSettings."""
        from mlx_finetuning import preferences

        return preferences.read(self.workspace)

    def save_preferences(self, changes: Mapping[str, Any]) -> TrainConfig:
        """Keep settings for new runs. Raises InvalidSettings, DiskFull."""
        from mlx_finetuning import preferences

        return preferences.save(self.workspace, changes)

    def disk_usage(self) -> list[Usage]:
        """How much each part of the workspace takes."""
        from mlx_finetuning import upkeep

        return upkeep.disk_usage(self.workspace)

    def waste(self) -> list[Waste]:
        """What can be removed without losing a dataset, a run or a model, by kind."""
        from mlx_finetuning import upkeep

        return upkeep.find_waste(self.workspace)

    def clean(self, kind: str) -> int:
        """Remove one kind of waste; returns the bytes given back."""
        from mlx_finetuning import upkeep

        return upkeep.clean(self.workspace, kind)

    def diagnostics(self) -> str:
        """The machine's and the workspace's state as text to hand on; no secret is in it."""
        from mlx_finetuning import diagnostics

        return diagnostics.as_text(self.workspace, self.doctor())

    # --- base models ---------------------------------------------------------------------

    def models(self) -> list[InstalledModel]:
        """Base models that can be used now."""
        from mlx_finetuning import models

        return models.installed(self.workspace)

    def catalogue(self) -> tuple[CatalogueEntry, ...]:
        """Recommended base models, installed or not."""
        from mlx_finetuning import models

        return models.catalogue()

    def model(self, name: str) -> tuple[CatalogueEntry | None, InstalledModel | None]:
        """What the catalogue says of a model, and what is here. Raises ModelNotFound."""
        from mlx_finetuning import models

        return models.search(name, self.workspace)

    def reach(self, entry: CatalogueEntry) -> tuple[str, ...]:
        """Where a model can be used after training: `mlx`, `gguf` (the runtime within), `ollama`,
        or `ollama_vocabulary` where Ollama reads only what is in its vocabulary as trained."""
        from mlx_finetuning.quantizer.families import registry

        if not registry.is_known(entry.architecture):
            return ("mlx",)
        is_unigram = entry.tokenizer == "unigram"
        return ("mlx", "gguf", "ollama_vocabulary" if is_unigram else "ollama")

    def fit(self, entry: CatalogueEntry) -> Fit:
        """Whether a model of the catalogue can be trained here, judged by its figures."""
        from mlx_finetuning import models

        return models.fit(entry)

    def download_model(self, name: str, progress: Progress = silent) -> Path:
        """Fetch a model from the hub, or go on with a cut download. Raises ModelError, Interrupted."""
        return Path(jobs.follow(self.start_download(name), progress)["path"])

    def start_download(self, name: str) -> JobPaths:
        """Like `download_model`, without waiting. Raises DiskFull."""
        paths = self.workspace.job(jobs.new_name("download_model"))
        job = jobs.Job("download_model", str(self.workspace.root), "", {"name": name})
        jobs.launch(paths, job)
        return paths

    def delete_model(self, name: str) -> None:
        """Remove a downloaded or built model for good. Raises ModelNotFound, ModelBuiltIn."""
        from mlx_finetuning import models

        models.delete(name, self.workspace)


def _turns(messages: Sequence[Mapping[str, str]], settings: GenerateConfig) -> list[dict[str, str]]:
    """What is sent: the system text first, and of earlier answers only what was said."""
    system = [{"role": "system", "content": settings.system}] if settings.system else []
    said = ({"role": one["role"], "content": one["content"]} for one in messages)
    return [*system, *said]


def _require_engine(engine: str, choices: Sequence[str], base: bool) -> None:
    """Raises InvalidSettings."""
    if engine not in choices:
        known = ", ".join(choices)
        raise InvalidSettings(problems=[f"engine: 「{engine}」は選べません（{known}）。"])
    if base and engine != "mlx":
        raise InvalidSettings(
            problems=[
                f"engine: {engine} は学習後のモデルだけです。元のモデルには mlx を使ってください。"
            ]
        )
