"""Export: writes the tuned model to GGUF files and hands over only what is proven.

A file without quantization is always written along, proven by its logits, and removed again if
nobody asked for it: the quantized files come from the same pass over the same weights.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mlx_finetuning import config, files
from mlx_finetuning.config import ExportConfig
from mlx_finetuning.errors import InvalidSettings
from mlx_finetuning.quantizer import verify
from mlx_finetuning.quantizer.export import ExportResult, export_gguf
from mlx_finetuning.tasks import reference
from mlx_finetuning.tasks.context import TaskContext
from mlx_finetuning.tasks.reference import Trained

PROOF = "F16"


def run(context: TaskContext) -> dict[str, Any]:
    """config: ExportConfig, where `quant` may be a list, and `out`: a file, or a folder for a list.

    Raises RunError, ModelError, ExportError, NotEnoughSpace, DiskFull, Interrupted.
    """
    settings, quants = _settings(context.config)
    trained = reference.of_run(context, max(settings.verify_tokens, verify.MIN_TOKENS))
    wanted = _targets(context, trained, quants)
    folder = next(iter(wanted.values())).parent
    proof = folder / f"{files.TEMPORARY_PREFIX}proof-{PROOF}.gguf"
    reports: dict[str, verify.Report] = {}

    def accept(parts: dict[str, Path]) -> None:
        # One template serves all: that every file holds it is part of its own examination.
        template = reference.template_problems(trained, next(iter(parts.values())))
        for quant, part in parts.items():
            reports[quant] = _examine(context, trained, part, template)
            verify.require_proven(reports[quant], wanted.get(quant, proof))

    try:
        written = export_gguf(
            trained.model,
            trained.adapter,
            {**wanted, PROOF: wanted.get(PROOF, proof)},
            context.progress,
            name=trained.name,
            accept=accept,
        )
    finally:
        proof.unlink(missing_ok=True)
    return _result(wanted, written, reports)


def _settings(values: dict[str, Any]) -> tuple[ExportConfig, list[str]]:
    given = {key: value for key, value in values.items() if key != "out"}
    quant = given.pop("quant", ExportConfig.quant)
    quants = quant if isinstance(quant, list) else [quant]
    if not quants:
        raise InvalidSettings(problems=["quant: 量子化の種類を1つ以上選んでください。"])
    loaded = [config.load(ExportConfig, {**given, "quant": kind}) for kind in quants]
    return loaded[0], [settings.quant for settings in loaded]


def _targets(context: TaskContext, trained: Trained, quants: list[str]) -> dict[str, Path]:
    out = context.config.get("out")
    if out and len(quants) == 1 and Path(out).suffix == ".gguf":
        return {quants[0]: Path(out)}
    folder = Path(out) if out else context.workspace.gguf_folder(context.run_id)
    return {quant: folder / f"{trained.name}-{quant}.gguf" for quant in quants}


def _examine(
    context: TaskContext, trained: Trained, part: Path, template: list[str]
) -> verify.Report:
    report = reference.examine(trained, part, context.progress)
    report = verify.with_problems(report, template)
    context.event(
        "verified", quant=report.structure.quant, proven=report.proven, verdict=report.verdict
    )
    return report


def _result(
    wanted: dict[str, Path], written: ExportResult, reports: dict[str, verify.Report]
) -> dict[str, Any]:
    summaries = {}
    for quant, path in wanted.items():
        report = replace(reports[quant], path=str(path))
        kept = verify.write(report, path)
        summaries[quant] = {
            "path": str(path),
            "report_path": str(kept),
            "size_bytes": report.size_bytes,
            "verdict": report.verdict,
            "parity": asdict(report.logits),
        }
    first = summaries[next(iter(wanted))]
    return {
        "path": first["path"],
        "verdict": first["verdict"],
        "elapsed_s": round(written.elapsed_s, 2),
        "files": summaries,
        "proof": {"quant": PROOF, "parity": asdict(reports[PROOF].logits)},
    }
