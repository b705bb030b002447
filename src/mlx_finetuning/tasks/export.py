"""Export: writes the tuned model in one of the formats and hands over only what is proven.

GGUF files are examined under temporary names, beside a small unquantized proof that lies in memory;
the other formats are written to a temporary folder or file, read back, and compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mlx_finetuning import config, files
from mlx_finetuning.config import ExportConfig
from mlx_finetuning.errors import ExportNotProven, InvalidSettings
from mlx_finetuning.mlx_trainer.inference import layerwise
from mlx_finetuning.quantizer.verify import advice, parity, proof, verify
from mlx_finetuning.quantizer.verify.parity import LogitParity
from mlx_finetuning.quantizer.write import adapter_files, fused
from mlx_finetuning.quantizer.write.export import ExportResult, export_gguf
from mlx_finetuning.tasks import reference
from mlx_finetuning.tasks.context import TaskContext
from mlx_finetuning.tasks.reference import Trained

FUSED_KL = 0.05
"""Nats: what rounding fused weights to the base's 16 bits may cost; far below any fault."""


def run(context: TaskContext) -> dict[str, Any]:
    """config: ExportConfig, where `quant` may be a list, and `out`: a file, or a folder.

    With `advise`, the types are measured and none is kept.
    Raises RunError, ModelError, ExportError, NotEnoughSpace, DiskFull, Interrupted.
    """
    settings, quants = _settings(context.config)
    for_gguf = settings.format in ("gguf", "gguf-lora")
    tokens = max(settings.verify_tokens, verify.MIN_TOKENS)
    trained = reference.of_run(context, tokens, for_gguf=for_gguf)
    if settings.importance and settings.format == "gguf":
        trained = replace(trained, importance=reference.importance(context, trained))
    if context.config.get("advise"):
        return _advise(context, trained, quants)
    return FORMATS[settings.format](context, trained, quants)


def _settings(values: dict[str, Any]) -> tuple[ExportConfig, list[str]]:
    given = {key: value for key, value in values.items() if key not in ("out", "advise")}
    default = list(advice.CANDIDATES) if values.get("advise") else ExportConfig.quant
    quant = given.pop("quant", None)
    quant = default if quant is None else quant
    quants = quant if isinstance(quant, list) else [quant]
    if not quants:
        raise InvalidSettings(problems=["quant: 量子化の種類を1つ以上選んでください。"])
    loaded = [config.load(ExportConfig, {**given, "quant": kind}) for kind in quants]
    return loaded[0], [settings.quant for settings in loaded]


# --- GGUF --------------------------------------------------------------------------------


def _gguf(context: TaskContext, trained: Trained, quants: list[str]) -> dict[str, Any]:
    proven = _prove(context, trained)
    wanted = _targets(context, trained, quants)
    reports: dict[str, verify.Report] = {}

    def accept(parts: dict[str, Path]) -> None:
        reports.update(_examined(context, trained, parts))
        for quant, path in wanted.items():
            verify.require_proven(reports[quant], path)

    written = export_gguf(
        trained.model,
        trained.adapter,
        wanted,
        context.progress,
        name=trained.name,
        importance=trained.importance,
        chat=trained.chat,
        accept=accept,
    )
    return _result(wanted, written, reports, proven)


def _prove(context: TaskContext, trained: Trained) -> dict[str, Any]:
    """What the mapping computes, without quantization. Raises ExportNotProven."""
    part = reference.part_of(trained)
    with proof.written(trained.model, trained.adapter, part.extent, context.progress) as path:
        found = reference.compare_proof(trained, part, path)
    _require_exact(trained.name, found)
    return {**proof.as_record(part.extent), "parity": asdict(found)}


def _require_exact(name: str, found: LogitParity) -> None:
    problems = verify.proof_problems(found)
    if problems:
        raise ExportNotProven(path=name, problems=problems)


def _examined(
    context: TaskContext, trained: Trained, parts: dict[str, Path]
) -> dict[str, verify.Report]:
    # One template serves all: that every file holds it is part of its own examination.
    template = reference.template_problems(trained, next(iter(parts.values())))
    reports = {}
    for quant, part in parts.items():
        report = reference.examine(trained, part, context.progress)
        reports[quant] = verify.with_problems(report, template)
        context.event(
            "verified",
            quant=quant,
            proven=reports[quant].proven,
            verdict=reports[quant].verdict,
        )
    return reports


def _targets(context: TaskContext, trained: Trained, quants: list[str]) -> dict[str, Path]:
    out = context.config.get("out")
    if out and len(quants) == 1 and Path(out).suffix == ".gguf":
        return {quants[0]: Path(out)}
    folder = Path(out) if out else context.workspace.gguf_folder(context.run_id)
    return {quant: folder / f"{trained.name}-{quant}.gguf" for quant in quants}


def _result(
    wanted: dict[str, Path],
    written: ExportResult,
    reports: dict[str, verify.Report],
    proven: dict[str, Any],
) -> dict[str, Any]:
    summaries = {}
    for quant, path in wanted.items():
        report = replace(reports[quant], path=str(path))
        kept = verify.write(report, path, proven)
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
        "proof": proven,
    }


# --- advice ------------------------------------------------------------------------------


class _Measured(Exception):
    """Keeps measured files from their final names."""


def _advise(context: TaskContext, trained: Trained, quants: list[str]) -> dict[str, Any]:
    """Size and loss of the types on the run's own rows; one after another, none is kept."""
    reports: dict[str, verify.Report] = {}

    def measure(parts: dict[str, Path]) -> None:
        for quant, part in parts.items():
            reports[quant] = reference.examine(trained, part, context.progress)
        raise _Measured

    for quant, path in _targets(context, trained, quants).items():
        try:
            export_gguf(
                trained.model,
                trained.adapter,
                {quant: path},
                context.progress,
                importance=trained.importance,
                chat=trained.chat,
                accept=measure,
            )
        except _Measured:
            continue
    found = advice.candidates(reports)
    chosen = advice.recommended(found)
    return {
        "recommended": chosen.quant,
        "candidates": [asdict(one) for one in found],
        "tokens": reports[chosen.quant].logits.tokens,
        "verdict": reports[chosen.quant].verdict,
        "files": {},
    }


# --- the other formats -------------------------------------------------------------------


def _gguf_lora(context: TaskContext, trained: Trained, quants: list[str]) -> dict[str, Any]:
    """Proven on an unquantized base that lies in memory, as the adapter of its layers does."""
    path = _single(context, trained, "adapter", ".gguf")
    part = reference.part_of(trained)
    with proof.in_memory() as adapter, proof.written(trained.model, None, part.extent) as base:
        adapter_files.write_gguf(
            trained.model,
            trained.adapter,
            adapter,
            trained.name,
            lambda name: proof.covers(part.extent, name),
        )
        found = reference.compare_proof(trained, part, base, adapter)
    _require_exact(str(path), found)
    with files.replacing_path(path) as temporary:
        adapter_files.write_gguf(trained.model, trained.adapter, temporary, trained.name)
    verdict = _same(f"llama.cppでベースに適用すると、KL {found.mean_kl:.2g}")
    return _one(path, verdict, {"parity": asdict(found)})


def _peft(context: TaskContext, trained: Trained, quants: list[str]) -> dict[str, Any]:
    folder = _single(context, trained, "peft")
    with files.replacing_folder(folder) as temporary:
        adapter_files.write_peft(trained.model, trained.adapter, temporary, trained.name)
        changed = adapter_files.check_peft(trained.model, trained.adapter, temporary)
    return _one(folder, _same(f"読み直した{changed}個の重みの変化が一致"), {"changed": changed})


def _folder(made_for: str, name: str) -> Callable[..., dict[str, Any]]:
    def write(context: TaskContext, trained: Trained, quants: list[str]) -> dict[str, Any]:
        folder = _single(context, trained, name)
        with files.replacing_folder(folder) as temporary:
            fused.write(trained.model, trained.adapter, temporary, made_for, context.progress)
            found = _fused_parity(trained, temporary)
            problems = [] if found.mean_kl < FUSED_KL else [f"予測の差（KL）が {found.mean_kl:.3g}"]
            if problems:
                raise ExportNotProven(path=str(folder), problems=problems)
        return _one(folder, _same(f"mlx-lmで読み直して、KL {found.mean_kl:.2g}"), asdict(found))

    return write


def _fused_parity(trained: Trained, folder: Path) -> LogitParity:
    found = layerwise.logits(folder, None, [one.tokens for one in trained.references])
    return parity.compare(zip(trained.references, found, strict=True))


def _single(context: TaskContext, trained: Trained, name: str, suffix: str = "") -> Path:
    out = context.config.get("out")
    if out:
        return Path(out)
    return context.workspace.gguf_folder(context.run_id) / f"{trained.name}-{name}{suffix}"


def _same(figures: str) -> str:
    return f"学習したモデルと同じ動きをします（{figures}）。"


def _one(path: Path, verdict: str, details: dict[str, Any]) -> dict[str, Any]:
    parts = [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
    size = sum(part.stat().st_size for part in parts)
    summary = {"path": str(path), "size_bytes": size, "verdict": verdict, **details}
    return {"path": str(path), "verdict": verdict, "files": {path.name: summary}}


FORMATS: dict[str, Callable[[TaskContext, Trained, list[str]], dict[str, Any]]] = {
    "gguf": _gguf,
    "gguf-lora": _gguf_lora,
    "peft": _peft,
    "mlx": _folder("mlx", "mlx"),
    "safetensors": _folder("pt", "safetensors"),
}
