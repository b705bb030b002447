"""The tree of errors. Codes and data live here, the Japanese wording in `assets/messages_ja.yaml`.

    StudioError
    ├── UsageProblem       the request itself: names, settings
    ├── DataError          source files and datasets
    ├── ModelError         base models and the hub
    ├── RunError           runs, jobs, training
    ├── ExportError        export, verification, runtime
    ├── OllamaError        Ollama and the models in it
    └── SystemProblem      disk, memory, missing parts, the unexpected

Every leaf has one `code`, its name in capitals unless older records have another, and one catalogue entry (a test compares them).
`data` holds plain JSON values only: an error crosses process boundaries through `to_json` and
`from_json`.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from mlx_finetuning.messages import describe

_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class StudioError(Exception):
    """What happened, as a code and plain data; the wording is looked up where it is shown."""

    code: ClassVar[str] = ""
    registry: ClassVar[dict[str, type[StudioError]]] = {}

    def __init_subclass__(cls, code: str | None = None) -> None:
        """`code` is made of the class's name where none is given; a group of errors has ""."""
        cls.code = _WORD_STARTS.sub("_", cls.__name__).upper() if code is None else code
        if cls.code:
            StudioError.registry[cls.code] = cls

    def __init__(self, **data: Any) -> None:
        super().__init__(self.code, data)
        self.data = data

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "data": self.data}

    @staticmethod
    def from_json(value: dict[str, Any]) -> StudioError:
        kind = StudioError.registry.get(value.get("code", ""), UnexpectedError)
        return kind(**value.get("data", {}))

    def __str__(self) -> str:
        return describe(self).text

    def __reduce__(self) -> tuple[Any, ...]:
        return StudioError.from_json, (self.to_json(),)


# --- the request itself ------------------------------------------------------------------


class UsageProblem(StudioError, code=""):
    """The request cannot be carried out as it was made."""


class InvalidName(UsageProblem):
    """Data: kind, name."""


class InvalidSettings(UsageProblem):
    """All problems of a configuration at once, as Japanese lines. Data: problems."""


class AddressInvalid(UsageProblem):
    """Of a server that the user names. Data: reason."""


class RequestRefused(UsageProblem):
    """What another program sent cannot be answered as it was meant. Data: problems, Japanese lines
    that each name a field."""


class TextUndecodable(UsageProblem):
    """A text that has no form in UTF-8: bytes of another encoding, or half an emoji. Data: place."""


class ConfigFileUnreadable(UsageProblem):
    """Data: path, reason."""


class NewerSchema(UsageProblem):
    """Data: path, found, supported."""


class RecordDamaged(UsageProblem):
    """Data: path."""


# --- data --------------------------------------------------------------------------------


class DataError(StudioError, code=""):
    """A source file or a dataset cannot be used."""


class DatasetNotFound(DataError):
    """Data: name, available."""


class NothingToReword(DataError):
    """A dataset without questions that have one answer each. Data: name."""


class DatasetInTrash(DatasetNotFound):
    """Data: name."""


class DatasetExists(DataError):
    """Data: name."""


class DatasetInUse(DataError):
    """A job that lives works with it. Data: name, jobs."""


class DatasetNotInTrash(DataError):
    """Data: name, available."""


class DatasetInTheWay(DataError):
    """A dataset cannot come back from the trash: another one has its name. Data: name."""


class DatasetDamaged(DataError):
    """Data: path, line."""


class SourceNotFound(DataError):
    """Data: path."""


class SourceIsFolder(DataError):
    """Data: path."""


class SourceUnreadable(DataError):
    """Data: path, reason."""


class SourceEmpty(DataError):
    """Data: path."""


class SourceHeaderOnly(DataError):
    """Data: path, columns."""


class SourceTooLarge(DataError):
    """Data: path, size_mb, limit_mb."""


class SourceBinary(DataError):
    """Data: path, kind."""


class SourceUnsupported(DataError):
    """Data: path, ending, supported."""


class SourceMalformed(DataError):
    """Data: path, line, reason."""


class HeaderRowNotFound(DataError):
    """The rows that were asked to be the header are blank or not there. Data: path, row, rows."""


class SheetNotFound(DataError):
    """Data: path, sheet, sheets."""


class WorkbookUnreadable(DataError):
    """Data: path, reason."""


class WorkbookEncrypted(DataError):
    """Data: path."""


class DocumentUnreadable(DataError):
    """Data: path, reason."""


class DocumentEncrypted(DataError):
    """Data: path."""


class DocumentScanned(DataError):
    """Every page is an image. Data: path, pages."""


class DocumentEmpty(DataError):
    """Data: path."""


class GenerationDiffers(DataError):
    """Pairs were begun under this name from other documents or settings. Data: name, changed."""


class NoPairsGenerated(DataError):
    """The model has not written a single pair. Data: name, chunks."""


class CellTooLong(DataError):
    """Data: path, line, limit."""


class EditMismatch(DataError):
    """A step of editing is about something that is not there. Data: row, reason."""


class DraftChanged(DataError):
    """Somebody else has edited the same rows meanwhile. Data: none."""


class DatasetOfSeveralSources(DataError):
    """Which file is meant is not said. Data: name, files."""


class RowsUnfitForTable(DataError):
    """Rows that would not come back from a table's cells as they are. Data: rows."""


class TextTooLongForExcel(DataError):
    """Data: row, limit."""


class TooManyRowsForExcel(DataError):
    """Data: rows, limit."""


class EncodingUnsupported(DataError):
    """Data: encoding, supported."""


class EncodingMismatch(DataError):
    """Data: path, encoding, line, guess."""


class EncodingUnknown(DataError):
    """Data: path, line."""


class ColumnsNotFound(DataError):
    """Data: path, missing, columns."""


class HeaderMojibake(DataError):
    """Data: path, columns."""


class InvalidMapping(DataError):
    """All problems of a column mapping at once, as Japanese lines. Data: problems, columns."""


class NoUsableRows(DataError):
    """Data: path, reasons."""


class SourceKindsDiffer(DataError):
    """Several files to be merged hold different kinds of rows. Data: kinds."""


class SourceChanged(DataError):
    """A file is not the one that a manifest speaks of. Data: path."""


class DatasetNotOfChats(DataError):
    """Only answers to questions can be put right. Data: name."""


class DatasetNotReproduced(DataError):
    """Data: name, files."""


class RowNotFound(DataError):
    """Data: name, row, nearest."""


# --- models ------------------------------------------------------------------------------


class ModelError(StudioError, code=""):
    """A base model cannot be found, fetched or used."""


class ModelNotFound(ModelError):
    """Data: name, near."""


class ModelNotDownloaded(ModelError):
    """Data: repo_id, size."""


class ModelBuiltIn(ModelError):
    """Data: name."""


class ModelRefused(ModelError, code=""):
    """A model folder that must not, or cannot, be loaded."""


class ModelIncomplete(ModelRefused):
    """Data: path, missing."""


class ModelDamaged(ModelRefused):
    """Data: path, files."""


class BaseFileChanged(ModelRefused):
    """A GGUF base is not where, or not what, it was. Data: path, reason."""


class BaseFileUnusable(ModelRefused):
    """A GGUF file that cannot be trained. Data: path, reason."""


class ModelRunsCode(ModelRefused):
    """Data: path, file, key."""


class ModelUnsafeWeights(ModelRefused):
    """Data: path, files."""


class ModelLinksOutside(ModelRefused):
    """Data: path, files."""


class TemplateHostile(ModelRefused):
    """The chat template does what no template needs to. Data: folder, reason."""


class ModelGated(ModelError):
    """Data: repo_id, page, token_state."""


class HubTokenRejected(ModelError):
    """Data: endpoint."""


class HubTokenMissing(ModelError):
    """Data: endpoint."""


class RepositoryIsPublic(ModelError):
    """What was to be private would be seen by all. Data: repo_id."""


class HubUnreachable(ModelError):
    """Data: endpoint, reason."""


class DownloadCut(ModelError):
    """Data: repo_id, file."""


class DownloadDamaged(ModelError):
    """Data: repo_id, file."""


class DownloadRunning(ModelError):
    """Data: repo_id."""


class ModelUnloadable(ModelError):
    """The folder looked right, but the library could not load it. Data: folder, reason."""


class TokenizerUnreadable(ModelError):
    """The tokenizer's files are missing, damaged, or contradict each other.

    Data: folder, reason.
    """


class TokensDiffer(ModelError):
    """What would be trained on is not what the model's own file makes of the same text.

    Data: folder, file, texts, differing, example, expected, found.
    """


class ChatTemplateUnusable(ModelError):
    """The chat template fails, or leaves out what it is given. Data: reason."""


class ChatTemplateMissing(ModelError):
    """No data."""


class TargetsNotFound(ModelError):
    """No layer has the names that the adapter's settings ask for. Data: targets, available."""


class PromptTooLong(ModelError):
    """Data: tokens, limit."""


class ConversationRefused(ModelError):
    """The model's chat template does not take these messages in this order. Data: reason."""


# --- runs --------------------------------------------------------------------------------


class RunError(StudioError, code=""):
    """A run or one of its jobs cannot go on."""


class RunNotFound(RunError):
    """Data: run_id, recent."""


class JobInterrupted(RunError):
    """The worker died without a word: killed, out of memory, a restart. Data: log."""


class RunNotReady(RunError):
    """Something needs a finished training run. Data: run_id, state."""


class RunNotEvaluated(RunError):
    """A report is asked for before the first evaluation. Data: run_id."""


class RunIsSimulated(RunError):
    """A simulated run has no weights to evaluate, export or talk to. Data: run_id."""


class BatchTooLarge(RunError):
    """Data: batch_size, rows."""


class NoTrainingRows(RunError):
    """No data."""


class NothingToLearn(RunError):
    """Every row's answer was empty or cut away. Data: rows, max_length."""


class LossNotFinite(RunError):
    """Data: update, rows."""


class LossExploded(RunError):
    """The model became far worse than guessing. Data: update, rows, loss, first_loss."""


class DoraOfExperts(RunError):
    """DoRA was asked for where experts' weights are stacked. Data: layer."""


class FullNeedsPlainWeights(RunError):
    """Quantized weights cannot be trained themselves."""


class SharedWorkLost(RunError, code=""):
    """What shared the work of a run is gone: a process, or another machine."""


class GradientWorkerLost(SharedWorkLost, code="HELPER_LOST"):  # as in records of earlier versions
    """A local process that shared the work was ended from outside. Data: exit_code."""


class GradientWorkerFailed(SharedWorkLost):
    """A local process that shared the work met an error that nothing foresaw. Data: kind, reason."""


class RunDoesNotFit(RunError):
    """Found before the first update: memory is too small, whatever is done to save some.

    Data: needed_gb, available_gb, batch_size, largest.
    """


class RankLost(SharedWorkLost, code="PEER_LOST"):  # likewise
    """Another rank of a distributed run has ended, or cannot be reached.

    Data: rank, host, exit_code.
    """


class RankFailed(SharedWorkLost):
    """Another rank of a distributed run met an error, and said which. Data: rank, host, reason."""


class ModelsDiffer(RunError):
    """A rank's base model has other weights. Data: rank, host, folder."""


class MemoryRunsOut(RunError):
    """Data: used_gb, limit_gb, update."""


class CheckpointForeign(RunError):
    """Data, model or settings are not those of the checkpoint. Data: path."""


class RunNotResumable(RunError):
    """Data: run_id, state."""


class RunBusy(RunError):
    """The run, or one of its later jobs, is at work, and the run must stay where it is.

    Data: run_id, jobs.
    """


class RunNotInTrash(RunError):
    """Data: run_id, available."""


class RunExists(RunError):
    """A run cannot be restored, or deleted, over another of the same name. Data: run_id, path."""


class RerunSourceChanged(RunError):
    """Data or base are not what the run was made of. Data: run_id, changed."""


class ContinuationDiffers(RunError):
    """A run goes on from another one's adapter, whose form it has to keep. Data: run_id, changed."""


class AdapterNotImportable(RunError):
    """An adapter made elsewhere that is damaged, does not fit its base, or holds more than a LoRA of
    linear layers. Data: path, reason."""


class RunHasNoDataset(RunError):
    """An imported run without a dataset has nothing to be evaluated on. Data: run_id."""


class MergeImpossible(RunError):
    """Adapters that cannot become one, or be made stronger or weaker. Data: run_ids, reason."""


class MlxLmFailed(RunError):
    """The `mlx-lm` engine's process ended with an error. Data: exit_code, tail, log."""


# --- export ------------------------------------------------------------------------------


class ExportError(StudioError, code=""):
    """A model cannot be written, verified or served."""


class ArchitectureUnsupported(ExportError):
    """Data: architecture, supported."""


class ModelSettingUnsupported(ExportError):
    """A value of `config.json` that the file could only express wrongly.

    Data: setting, value, supported.
    """


class TokenizerUnsupported(ExportError):
    """Data: reason."""


class WeightsUnreadable(ExportError):
    """Data: path, reason."""


class WeightsIncomplete(ExportError):
    """Weights that are needed and absent, or present and of no known use.

    Data: missing, unknown.
    """


class NonFiniteWeights(ExportError):
    """Data: tensor."""


class AdapterUnusable(ExportError):
    """Data: path, reason."""


class AdapterMustBeFused(ExportError):
    """What was trained is not a LoRA of linear layers, and makes no adapter file.

    Data: kind, format.
    """


class ExpertsNotInPeft(ExportError):
    """Experts or routers were trained, which a peft folder is not written for. Data: layer."""


class QuantizerUnusable(ExportError):
    """The library with ggml and llama.cpp is absent, or is not what we know. Data: reason."""


class GgufNotMade(ExportError):
    """The run has not been exported yet. Data: run_id."""


class GgufUnreadable(ExportError):
    """Data: path, reason."""


class ExportNotProven(ExportError):
    """The written model differs from the trained one, and was not handed over.

    Data: path, problems.
    """


class JobNotFound(RunError):
    """Data: name."""


class NoQuestions(RunError):
    """The run's dataset has nothing to ask. Data: dataset."""


class NothingCorrected(RunError):
    """No answer of the run was put right yet. Data: run_id."""


class JourneyNotFound(RunError):
    """The run was started by hand, so there is no おまかせ to go on with. Data: run_id."""


class TuningNotFound(RunError):
    """No search for settings has this name. Data: name."""


class RunNotDeployed(ExportError):
    """The run's model was not brought into Ollama yet. Data: run_id."""


class RuntimeNotStarted(ExportError):
    """Data: path, reason."""


class RuntimeNotAnswering(ExportError):
    """Data: reason."""


class PortTaken(ExportError):
    """A model server cannot listen where it was asked to. Data: address, port, reason."""


# --- Ollama ------------------------------------------------------------------------------


class OllamaError(StudioError, code=""):
    """Ollama cannot be used, or does not do what it was asked for."""


class OllamaHostInvalid(OllamaError):
    """Data: host."""


class OllamaNameInvalid(OllamaError):
    """Data: name."""


class OllamaNotInstalled(OllamaError):
    """Data: place."""


class OllamaNotRunning(OllamaError):
    """Data: place."""


class NotOllama(OllamaError):
    """Somebody else listens where Ollama should be. Data: reason."""


class OllamaTooOld(OllamaError):
    """Data: reason."""


class OllamaConnectionLost(OllamaError):
    """The server stopped, or the network broke, half-way. Data: place, stage."""


class OllamaUploadDamaged(OllamaError):
    """Data: path."""


class OllamaOutOfSpace(OllamaError):
    """Data: reason."""


class OllamaArchitectureUnknown(OllamaError):
    """Data: reason."""


class OllamaModelNotFound(OllamaError):
    """Data: reason."""


class OllamaNameTaken(OllamaError):
    """Data: name."""


class OllamaAdaptersRefused(OllamaError):
    """The server makes no model of a base and an adapter. Data: reason."""


class OllamaRefused(OllamaError):
    """An error of Ollama's that we have no words for. Data: reason."""


class OllamaDiffers(OllamaError):
    """What Ollama runs is not what was trained; it was removed again. Data: name, problems."""


# --- system ------------------------------------------------------------------------------


class SystemProblem(StudioError, code=""):
    """The machine lacks something."""


class DiskFull(SystemProblem):
    """Data: path."""


class NotEnoughSpace(SystemProblem):
    """Data: path, needed_gb, available_gb."""


class NotEnoughMemory(SystemProblem):
    """A model does not fit beside what the machine is doing. Data: needed_gb, available_gb."""


class ServerRunning(SystemProblem):
    """The workspace has a server for the web interface already. Data: url."""


class ServerFailed(SystemProblem):
    """The web interface's server ended with an error. Data: exit_code, port."""


class ShortcutUnwritable(SystemProblem):
    """The file that starts the interface cannot be written or removed. Data: path, reason."""


class TrackerNotInstalled(SystemProblem):
    """The program that should keep a run's records is absent. Data: title, extra."""


class UnexpectedError(SystemProblem, code="UNEXPECTED"):
    """An exception that nothing foresaw. Data: kind, reason, log."""


class Interrupted(SystemProblem):
    """The user pressed Ctrl-C or asked a job to stop."""
