"""Export: writes the tuned model in one of the formats and hands over only what is proven.

GGUF files are examined under temporary names, beside a small unquantized proof that lies in memory;
the other formats are written to a temporary folder or file, read back, and compared.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlx_finetuning import bases, config, files
from mlx_finetuning.config import ExportConfig
from mlx_finetuning.errors import ExportNotProven, InvalidSettings
from mlx_finetuning.files import JsonObject
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.inference import layerwise
from mlx_finetuning.quantizer.verify import advice, parity, proof, verification
from mlx_finetuning.quantizer.verify.results import (
    Exported,
    ExportedFile,
    FusedFolder,
    LogitParity,
    Verification,
)
from mlx_finetuning.quantizer.write import adapter_files, fused
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.tasks import reference
from mlx_finetuning.tasks.reference import TrainedModel


def run(context: TaskContext) -> Exported:
    """config: ExportConfig, where `quant` may be a list, and `out`: a file, or a folder.

    With `advise`, the types are measured and none is kept.
    Raises RunError, ModelError, ExportError, NotEnoughSpace, DiskFull, Interrupted.
    """
    settings, asked = _settings(context.config)
    model = runs.show(context.workspace, context.run_id).model
    quants = [bases.quant(name, model) for name in asked]
    for_gguf = settings.format in ("gguf", "gguf-lora")
    tokens = max(settings.verify_tokens, verification.MIN_TOKENS)
    trained = reference.of_run(context, tokens, for_gguf=for_gguf)
    if settings.importance and settings.format == "gguf":
        trained = replace(trained, importance=reference.importance(context, trained))
    if context.config.get("advise"):
        return _advise(context, trained, quants)
    return FORMATS[settings.format](context, trained, quants)


def _settings(values: JsonObject) -> tuple[ExportConfig, list[str]]:
    """The settings, and all quantization types that are asked for. Raises InvalidSettings."""
    values = dict(values)
    values.pop("out", None)
    default = list(advice.CANDIDATES) if values.pop("advise", False) else ExportConfig.quant
    quant = values.pop("quant", None)
    quant = default if quant is None else quant
    quants = quant if isinstance(quant, list) else [quant]
    if not quants:
        raise InvalidSettings(problems=[_("quant: 量子化の種類を1つ以上選んでください。")])
    checked = [config.load(ExportConfig, {**values, "quant": name}) for name in quants]
    return checked[0], [settings.quant for settings in checked]


# --- GGUF --------------------------------------------------------------------------------


def _gguf(context: TaskContext, trained: TrainedModel, quants: list[str]) -> Exported:
    part = reference.part_of(trained)
    with proof.written(trained.model, trained.adapter, part.extent, context.progress) as in_memory:
        proof_parity = reference.compare_proof(trained, part, in_memory)
    _require_exact(trained.name, proof_parity)
    proven = proof.as_record(part.extent, proof_parity)
    targets = _targets(context, trained, quants)
    reports: dict[str, Verification] = {}

    def accept(drafts: dict[str, Path]) -> None:
        # One template serves all: that every file holds it is part of its own examination.
        template_problems = reference.template_problems(trained, next(iter(drafts.values())))
        for quant, draft in drafts.items():
            examined = reference.examine(trained, draft, context.progress)
            report = reports[quant] = verification.with_problems(examined, template_problems)
            context.event("verified", quant=quant, proven=report.proven, verdict=report.verdict)
        for quant, path in targets.items():
            verification.require_proven(reports[quant], path)

    written = export_gguf(
        trained.model,
        trained.adapter,
        targets,
        context.progress,
        name=trained.name,
        importance=trained.importance,
        chat=trained.chat,
        accept=accept,
    )
    summaries = {}
    for quant, path in targets.items():
        report = verification.write(reports[quant], path, proven)
        summaries[quant] = ExportedFile(
            path=report.path,
            report_path=report.report_path,
            size_bytes=report.size_bytes,
            verdict=report.verdict,
            parity=report.logits,
        )
    first = summaries[quants[0]]
    return Exported(
        path=first.path,
        verdict=first.verdict,
        elapsed_s=round(written.elapsed_s, 2),
        files=summaries,
        proof=proven,
    )


def _require_exact(name: str, proof_parity: LogitParity) -> None:
    """Of an unquantized proof. Raises ExportNotProven."""
    problems = verification.proof_problems(proof_parity)
    if problems:
        raise ExportNotProven(path=name, problems=problems)


def _targets(context: TaskContext, trained: TrainedModel, quants: list[str]) -> dict[str, Path]:
    """The file of each quantization type."""
    out = context.config.get("out")
    if out and len(quants) == 1 and Path(out).suffix == ".gguf":
        return {quants[0]: Path(out)}
    folder = Path(out) if out else context.workspace.gguf_folder(context.run_id)
    return {quant: folder / f"{trained.name}-{quant}.gguf" for quant in quants}


# --- advice ------------------------------------------------------------------------------


def _advise(context: TaskContext, trained: TrainedModel, quants: list[str]) -> Exported:
    """Size and loss of the types on the run's own rows; one after another, none is kept."""
    reports: dict[str, Verification] = {}
    for quant, path in _targets(context, trained, quants).items():
        files.make_folder(path.parent)
        with tempfile.TemporaryDirectory(prefix=files.TEMPORARY_PREFIX, dir=path.parent) as scratch:
            draft = Path(scratch) / path.name
            export_gguf(
                trained.model,
                trained.adapter,
                {quant: draft},
                context.progress,
                importance=trained.importance,
                chat=trained.chat,
            )
            reports[quant] = reference.examine(trained, draft, context.progress)
    candidates = advice.candidates(reports)
    recommended = advice.recommended(candidates).quant
    return Exported(
        recommended=recommended,
        candidates=tuple(candidates),
        tokens=reports[recommended].logits.tokens,
        verdict=reports[recommended].verdict,
    )


# --- the other formats -------------------------------------------------------------------


def _gguf_lora(context: TaskContext, trained: TrainedModel, quants: list[str]) -> Exported:
    """Proven on an unquantized base that lies in memory, as the adapter of its layers does."""
    path = _target(context, trained, "adapter.gguf")
    part = reference.part_of(trained)
    with proof.in_memory() as adapter, proof.written(trained.model, None, part.extent) as base:
        adapter_files.write_gguf(
            trained.model,
            trained.adapter,
            adapter,
            trained.name,
            lambda name: proof.covers(part.extent, name),
        )
        proof_parity = reference.compare_proof(trained, part, base, adapter)
    _require_exact(str(path), proof_parity)
    with files.replacing_path(path) as temporary:
        adapter_files.write_gguf(trained.model, trained.adapter, temporary, trained.name)
        changed = adapter_files.check_gguf(trained.model, trained.adapter, temporary)
        on_base = reference.compare_on_base(trained, temporary, context.progress)
        if on_base is not None and (problems := verification.adapter_problems(on_base)):
            raise ExportNotProven(path=str(path), problems=problems)
    figures = _(
        "llama.cppでベースに適用すると、予測の差 {kl:.2g}、読み直した{changed}個の重みの変化が一致"
    ).format(kl=proof_parity.mean_kl, changed=changed)
    if on_base is not None:
        agreement = _("元のGGUFファイルに適用した予測の一致率 {share:.1%}")
        figures = _("、").join([figures, agreement.format(share=on_base.top1_agreement)])
    return _result(path, figures, ExportedFile, parity=on_base or proof_parity)


def _peft(context: TaskContext, trained: TrainedModel, quants: list[str]) -> Exported:
    folder = _target(context, trained, "peft")
    with files.replacing_folder(folder) as temporary:
        adapter_files.write_peft(trained.model, trained.adapter, temporary, trained.name)
        changed = adapter_files.check_peft(trained.model, trained.adapter, temporary)
    return _result(
        folder,
        _("読み直した{changed}個の重みの変化が一致").format(changed=changed),
        ExportedFile,
        changed=changed,
    )


def _fused_folder(
    context: TaskContext, trained: TrainedModel, quants: list[str], *, made_for: str, name: str
) -> Exported:
    """made_for: what `metadata.format` of the safetensors files says."""
    folder = _target(context, trained, name)
    with files.replacing_folder(folder) as temporary:
        fused.write(trained.model, trained.adapter, temporary, made_for, context.progress)
        sequences = [one.tokens for one in trained.references]
        logits = layerwise.logits(temporary, None, sequences)
        logit_parity = parity.compare(zip(trained.references, logits, strict=True))
        if not logit_parity.mean_kl < verification.FUSED_KL:
            problem = _("予測の差が {kl:.3g}").format(kl=logit_parity.mean_kl)
            raise ExportNotProven(path=str(folder), problems=[problem])
    figures = _("mlx-lmで読み直して、予測の差 {kl:.2g}").format(kl=logit_parity.mean_kl)
    return _result(folder, figures, FusedFolder, **vars(logit_parity))


def _target(context: TaskContext, trained: TrainedModel, name: str) -> Path:
    """The one file or folder of a format."""
    out = context.config.get("out")
    if out:
        return Path(out)
    return context.workspace.gguf_folder(context.run_id) / f"{trained.name}-{name}"


def _result(path: Path, figures: str, kind: type[ExportedFile], **details: Any) -> Exported:
    verdict = _("学習したモデルと同じ動きをします（{figures}）。").format(figures=figures)
    written = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in written)
    summary = kind(path=str(path), size_bytes=size, verdict=verdict, **details)
    return Exported(path=str(path), verdict=verdict, files={path.name: summary})


FORMATS: dict[str, Callable[[TaskContext, TrainedModel, list[str]], Exported]] = {
    "gguf": _gguf,
    "gguf-lora": _gguf_lora,
    "peft": _peft,
    "mlx": functools.partial(_fused_folder, made_for="mlx", name="mlx"),
    "safetensors": functools.partial(_fused_folder, made_for="pt", name="safetensors"),
}
