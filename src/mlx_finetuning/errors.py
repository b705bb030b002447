"""The tree of errors. Codes and data live here, the Japanese wording in `messages_ja`.

    StudioError
    ├── UsageProblem       the request itself: names, settings
    ├── DataError          source files and datasets
    ├── ModelError         base models and the hub
    ├── RunError           runs, jobs, training
    ├── ExportError        export, verification, runtime
    ├── OllamaError        Ollama and the models in it
    └── SystemProblem      disk, memory, missing parts, the unexpected

Every leaf has one `code` and one catalogue entry (a test compares them). `data` holds plain
JSON values only: an error crosses process boundaries through `to_json` and `from_json`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class StudioError(Exception):
    """What happened, as a code and plain data; the wording is looked up where it is shown."""

    code: ClassVar[str] = ""
    registry: ClassVar[dict[str, type[StudioError]]] = {}

    def __init_subclass__(cls) -> None:
        if "code" in cls.__dict__:
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
        from mlx_finetuning.messages_ja import describe

        return describe(self).text

    def __reduce__(self) -> tuple[Any, ...]:
        return StudioError.from_json, (self.to_json(),)


# --- the request itself ------------------------------------------------------------------


class UsageProblem(StudioError):
    """The request cannot be carried out as it was made."""


class InvalidName(UsageProblem):
    code = "INVALID_NAME"  # kind, name


class InvalidSettings(UsageProblem):
    """All problems of a configuration at once; `problems` is a list of Japanese lines."""

    code = "INVALID_SETTINGS"  # problems


class ConfigFileUnreadable(UsageProblem):
    code = "CONFIG_FILE_UNREADABLE"  # path, reason


class NewerSchema(UsageProblem):
    code = "NEWER_SCHEMA"  # path, found, supported


class RecordDamaged(UsageProblem):
    code = "RECORD_DAMAGED"  # path


# --- data --------------------------------------------------------------------------------


class DataError(StudioError):
    """A source file or a dataset cannot be used."""


class DatasetNotFound(DataError):
    code = "DATASET_NOT_FOUND"  # name, available


class DatasetExists(DataError):
    code = "DATASET_EXISTS"  # name


class DatasetInUse(DataError):
    """A job that lives works with it."""

    code = "DATASET_IN_USE"  # name, jobs


class DatasetNotInTrash(DataError):
    code = "DATASET_NOT_IN_TRASH"  # name, available


class DatasetInTheWay(DataError):
    """A dataset cannot come back from the trash: another one has its name."""

    code = "DATASET_IN_THE_WAY"  # name


class DatasetDamaged(DataError):
    code = "DATASET_DAMAGED"  # path, line


class SourceNotFound(DataError):
    code = "SOURCE_NOT_FOUND"  # path


class SourceIsFolder(DataError):
    code = "SOURCE_IS_FOLDER"  # path


class SourceUnreadable(DataError):
    code = "SOURCE_UNREADABLE"  # path, reason


class SourceEmpty(DataError):
    code = "SOURCE_EMPTY"  # path


class SourceHeaderOnly(DataError):
    code = "SOURCE_HEADER_ONLY"  # path, columns


class SourceTooLarge(DataError):
    code = "SOURCE_TOO_LARGE"  # path, size_mb, limit_mb


class SourceBinary(DataError):
    code = "SOURCE_BINARY"  # path, kind


class SourceUnsupported(DataError):
    code = "SOURCE_UNSUPPORTED"  # path, ending, supported


class SourceMalformed(DataError):
    code = "SOURCE_MALFORMED"  # path, line, reason


class CellTooLong(DataError):
    code = "CELL_TOO_LONG"  # path, line, limit


class EncodingUnsupported(DataError):
    code = "ENCODING_UNSUPPORTED"  # encoding, supported


class EncodingMismatch(DataError):
    code = "ENCODING_MISMATCH"  # path, encoding, line, guess


class EncodingUnknown(DataError):
    code = "ENCODING_UNKNOWN"  # path, line


class ColumnsNotFound(DataError):
    code = "COLUMNS_NOT_FOUND"  # path, missing, columns


class InvalidMapping(DataError):
    """All problems of a column mapping at once; `problems` is a list of Japanese lines."""

    code = "INVALID_MAPPING"  # problems, columns


class NoUsableRows(DataError):
    code = "NO_USABLE_ROWS"  # path, reasons


class SourceKindsDiffer(DataError):
    """Several files to be merged hold different kinds of rows."""

    code = "SOURCE_KINDS_DIFFER"  # kinds


class SourceChanged(DataError):
    """A file is not the one that a manifest speaks of."""

    code = "SOURCE_CHANGED"  # path


class DatasetNotReproduced(DataError):
    code = "DATASET_NOT_REPRODUCED"  # name, files


class RowNotFound(DataError):
    code = "ROW_NOT_FOUND"  # name, row, nearest


# --- models ------------------------------------------------------------------------------


class ModelError(StudioError):
    """A base model cannot be found, fetched or used."""


class ModelNotFound(ModelError):
    code = "MODEL_NOT_FOUND"  # name, near


class ModelNotDownloaded(ModelError):
    code = "MODEL_NOT_DOWNLOADED"  # repo_id, size


class ModelBuiltIn(ModelError):
    code = "MODEL_BUILT_IN"  # name


class ModelRefused(ModelError):
    """A model folder that must not, or cannot, be loaded."""


class ModelIncomplete(ModelRefused):
    code = "MODEL_INCOMPLETE"  # path, missing


class ModelDamaged(ModelRefused):
    code = "MODEL_DAMAGED"  # path, files


class ModelRunsCode(ModelRefused):
    code = "MODEL_RUNS_CODE"  # path, file, key


class ModelUnsafeWeights(ModelRefused):
    code = "MODEL_UNSAFE_WEIGHTS"  # path, files


class ModelLinksOutside(ModelRefused):
    code = "MODEL_LINKS_OUTSIDE"  # path, files


class TemplateHostile(ModelRefused):
    """The chat template does what no template needs to."""

    code = "TEMPLATE_HOSTILE"  # folder, reason


class ModelGated(ModelError):
    code = "MODEL_GATED"  # repo_id, page, token_state


class HubTokenRejected(ModelError):
    code = "HUB_TOKEN_REJECTED"  # endpoint


class HubUnreachable(ModelError):
    code = "HUB_UNREACHABLE"  # endpoint, reason


class DownloadCut(ModelError):
    code = "DOWNLOAD_CUT"  # repo_id, file


class DownloadDamaged(ModelError):
    code = "DOWNLOAD_DAMAGED"  # repo_id, file


class DownloadRunning(ModelError):
    code = "DOWNLOAD_RUNNING"  # repo_id


class ModelUnloadable(ModelError):
    """The folder looked right, but the library could not load it."""

    code = "MODEL_UNLOADABLE"  # folder, reason


class TokenizerUnreadable(ModelError):
    """The tokenizer's files are missing, damaged, or contradict each other."""

    code = "TOKENIZER_UNREADABLE"  # folder, reason


class TokensDiffer(ModelError):
    """What would be trained on is not what the model's own file makes of the same text."""

    code = "TOKENS_DIFFER"  # folder, file, texts, differing, example, expected, found


class ChatTemplateUnusable(ModelError):
    """The chat template fails, or leaves out what it is given."""

    code = "CHAT_TEMPLATE_UNUSABLE"  # reason


class ChatTemplateMissing(ModelError):
    code = "CHAT_TEMPLATE_MISSING"


class TargetsNotFound(ModelError):
    """No layer has the names that the adapter's settings ask for."""

    code = "TARGETS_NOT_FOUND"  # targets, available


class PromptTooLong(ModelError):
    code = "PROMPT_TOO_LONG"  # tokens, limit


class ConversationRefused(ModelError):
    """The model's chat template does not take these messages in this order."""

    code = "CONVERSATION_REFUSED"  # reason


# --- runs --------------------------------------------------------------------------------


class RunError(StudioError):
    """A run or one of its jobs cannot go on."""


class RunNotFound(RunError):
    code = "RUN_NOT_FOUND"  # run_id, recent


class JobInterrupted(RunError):
    """The worker died without a word: killed, out of memory, a restart."""

    code = "JOB_INTERRUPTED"  # log


class RunNotReady(RunError):
    """Something needs a finished training run."""

    code = "RUN_NOT_READY"  # run_id, state


class RunIsSimulated(RunError):
    """A simulated run has no weights to evaluate, export or talk to."""

    code = "RUN_IS_SIMULATED"  # run_id


class BatchTooLarge(RunError):
    code = "BATCH_TOO_LARGE"  # batch_size, rows


class NoTrainingRows(RunError):
    code = "NO_TRAINING_ROWS"


class NothingToLearn(RunError):
    """Every row's answer was empty or cut away."""

    code = "NOTHING_TO_LEARN"  # rows, max_length


class LossNotFinite(RunError):
    code = "LOSS_NOT_FINITE"  # update, rows


class LossExploded(RunError):
    """The model became far worse than guessing."""

    code = "LOSS_EXPLODED"  # update, rows, loss, first_loss


class DoraOfExperts(RunError):
    """DoRA was asked for where experts' weights are stacked."""

    code = "DORA_OF_EXPERTS"  # layer


class FullNeedsPlainWeights(RunError):
    """Quantized weights cannot be trained themselves."""

    code = "FULL_NEEDS_PLAIN_WEIGHTS"


class GradientWorkerLost(RunError):
    """A local process that shared the work has ended."""

    code = "HELPER_LOST"  # exit_code; records of earlier versions have this code


class RunDoesNotFit(RunError):
    """Found before the first update: memory is too small, whatever is done to save some."""

    code = "RUN_DOES_NOT_FIT"  # needed_gb, available_gb, batch_size, largest


class RankLost(GradientWorkerLost):
    """Another rank of a distributed run has ended, or cannot be reached."""

    code = "PEER_LOST"  # rank, host, exit_code; likewise


class ModelsDiffer(RunError):
    """A rank's base model has other weights."""

    code = "MODELS_DIFFER"  # rank, host, folder


class MemoryRunsOut(RunError):
    code = "MEMORY_RUNS_OUT"  # used_gb, limit_gb, update


class CheckpointForeign(RunError):
    """Data, model or settings are not those of the checkpoint."""

    code = "CHECKPOINT_FOREIGN"  # path


class RunNotResumable(RunError):
    code = "RUN_NOT_RESUMABLE"  # run_id, state


class RunBusy(RunError):
    """The run, or one of its later jobs, is at work, and the run must stay where it is."""

    code = "RUN_BUSY"  # run_id, jobs


class RunNotInTrash(RunError):
    code = "RUN_NOT_IN_TRASH"  # run_id, available


class RunExists(RunError):
    """A run cannot be restored, or deleted, over another of the same name."""

    code = "RUN_EXISTS"  # run_id, path


class RerunSourceChanged(RunError):
    """Data or base are not what the run was made of."""

    code = "RERUN_SOURCE_CHANGED"  # run_id, changed


class MlxLmFailed(RunError):
    """The `mlx-lm` engine's process ended with an error."""

    code = "MLX_LM_FAILED"  # exit_code, tail, log


# --- export ------------------------------------------------------------------------------


class ExportError(StudioError):
    """A model cannot be written, verified or served."""


class ArchitectureUnsupported(ExportError):
    code = "ARCHITECTURE_UNSUPPORTED"  # architecture, supported


class ModelSettingUnsupported(ExportError):
    """A value of `config.json` that the file could only express wrongly."""

    code = "MODEL_SETTING_UNSUPPORTED"  # setting, value, supported


class TokenizerUnsupported(ExportError):
    code = "TOKENIZER_UNSUPPORTED"  # reason


class WeightsUnreadable(ExportError):
    code = "WEIGHTS_UNREADABLE"  # path, reason


class WeightsIncomplete(ExportError):
    """Weights that are needed and absent, or present and of no known use."""

    code = "WEIGHTS_INCOMPLETE"  # missing, unknown


class NonFiniteWeights(ExportError):
    code = "NON_FINITE_WEIGHTS"  # tensor


class AdapterUnusable(ExportError):
    code = "ADAPTER_UNUSABLE"  # path, reason


class AdapterMustBeFused(ExportError):
    """What was trained is not a LoRA of linear layers, and makes no adapter file."""

    code = "ADAPTER_MUST_BE_FUSED"  # kind, format


class ExpertsNotInPeft(ExportError):
    """Experts or routers were trained, which a peft folder is not written for."""

    code = "EXPERTS_NOT_IN_PEFT"  # layer


class QuantizerUnusable(ExportError):
    """The library with ggml and llama.cpp is absent, or is not what we know."""

    code = "QUANTIZER_UNUSABLE"  # reason


class GgufNotMade(ExportError):
    """The run has not been exported yet."""

    code = "GGUF_NOT_MADE"  # run_id


class GgufUnreadable(ExportError):
    code = "GGUF_UNREADABLE"  # path, reason


class ExportNotProven(ExportError):
    """The written model differs from the trained one, and was not handed over."""

    code = "EXPORT_NOT_PROVEN"  # path, problems


class RunNotDeployed(ExportError):
    """The run's model was not brought into Ollama yet."""

    code = "RUN_NOT_DEPLOYED"  # run_id


class RuntimeNotStarted(ExportError):
    code = "RUNTIME_NOT_STARTED"  # path, reason


class RuntimeNotAnswering(ExportError):
    code = "RUNTIME_NOT_ANSWERING"  # reason


class PortTaken(ExportError):
    """A model server cannot listen where it was asked to."""

    code = "PORT_TAKEN"  # address, port, reason


# --- Ollama ------------------------------------------------------------------------------


class OllamaError(StudioError):
    """Ollama cannot be used, or does not do what it was asked for."""


class OllamaHostInvalid(OllamaError):
    code = "OLLAMA_HOST_INVALID"  # host


class OllamaNameInvalid(OllamaError):
    code = "OLLAMA_NAME_INVALID"  # name


class OllamaNotInstalled(OllamaError):
    code = "OLLAMA_NOT_INSTALLED"  # place


class OllamaNotRunning(OllamaError):
    code = "OLLAMA_NOT_RUNNING"  # place


class NotOllama(OllamaError):
    """Somebody else listens where Ollama should be."""

    code = "NOT_OLLAMA"  # reason


class OllamaTooOld(OllamaError):
    code = "OLLAMA_TOO_OLD"  # reason


class OllamaConnectionLost(OllamaError):
    """The server stopped, or the network broke, half-way."""

    code = "OLLAMA_CONNECTION_LOST"  # place, stage


class OllamaUploadDamaged(OllamaError):
    code = "OLLAMA_UPLOAD_DAMAGED"  # path


class OllamaOutOfSpace(OllamaError):
    code = "OLLAMA_OUT_OF_SPACE"  # reason


class OllamaArchitectureUnknown(OllamaError):
    code = "OLLAMA_ARCHITECTURE_UNKNOWN"  # reason


class OllamaModelNotFound(OllamaError):
    code = "OLLAMA_MODEL_NOT_FOUND"  # reason


class OllamaNameTaken(OllamaError):
    code = "OLLAMA_NAME_TAKEN"  # name


class OllamaRefused(OllamaError):
    """An error of Ollama's that we have no words for."""

    code = "OLLAMA_REFUSED"  # reason


class OllamaDiffers(OllamaError):
    """What Ollama runs is not what was trained; it was removed again."""

    code = "OLLAMA_DIFFERS"  # name, problems


# --- system ------------------------------------------------------------------------------


class SystemProblem(StudioError):
    """The machine lacks something."""


class DiskFull(SystemProblem):
    code = "DISK_FULL"  # path


class NotEnoughSpace(SystemProblem):
    code = "NOT_ENOUGH_SPACE"  # path, needed_gb, available_gb


class NotEnoughMemory(SystemProblem):
    """A model does not fit beside what the machine is doing."""

    code = "NOT_ENOUGH_MEMORY"  # needed_gb, available_gb


class ServerRunning(SystemProblem):
    """The workspace has a server for the web interface already."""

    code = "SERVER_RUNNING"  # url


class ServerFailed(SystemProblem):
    """The web interface's server ended with an error."""

    code = "SERVER_FAILED"  # exit_code, port


class MlflowNotInstalled(SystemProblem):
    code = "MLFLOW_NOT_INSTALLED"


class UnexpectedError(SystemProblem):
    code = "UNEXPECTED"  # kind, reason, log


class Interrupted(SystemProblem):
    """The user pressed Ctrl-C or asked a job to stop."""

    code = "INTERRUPTED"
