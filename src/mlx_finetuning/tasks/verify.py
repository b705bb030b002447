"""Verify: compares a GGUF file on disk with what a run trained, and keeps the report beside it."""

from __future__ import annotations

from pathlib import Path

from mlx_finetuning import config
from mlx_finetuning.config import ExportConfig
from mlx_finetuning.errors import GgufUnreadable
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.verify import verification
from mlx_finetuning.quantizer.verify.results import Verification
from mlx_finetuning.tasks import reference


def run(context: TaskContext) -> Verification:
    """config: `path`, `verify_tokens`. A file that differs is a result with `proven` false.

    Raises RunError, ModelError, GgufUnreadable, QuantizerUnusable, DiskFull, Interrupted.
    """
    values = dict(context.config)
    path = Path(values.pop("path"))
    settings = config.load(ExportConfig, values)
    if not path.is_file():
        raise GgufUnreadable(path=str(path), reason=_("ファイルがありません。"))
    trained = reference.of_run(context, max(settings.verify_tokens, verification.MIN_TOKENS))
    report = reference.examine(trained, path, context.progress)
    report = verification.with_problems(report, reference.template_problems(trained, path))
    return verification.write(report, path)
