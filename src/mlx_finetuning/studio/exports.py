"""Writing tuned models for other programs, and verifying them."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning import bases, config
from mlx_finetuning.config import AUTO, QUANTIZATIONS, ExportConfig, as_dict
from mlx_finetuning.jobs import runs
from mlx_finetuning.quantizer.verify import written
from mlx_finetuning.quantizer.verify.results import Exported, Verification
from mlx_finetuning.quantizer.verify.written import WrittenModel
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.workspace import Workspace


@dataclass(frozen=True)
class Exports:
    """`studio.exports`."""

    workspace: Workspace

    def start(
        self,
        run_id: str,
        settings: ExportConfig | None = None,
        quants: Sequence[str] = (),
        out: Path | None = None,
        *,
        advise: bool = False,
    ) -> JobHandle[Exported]:
        """Write the tuned model and verify it; `quants` for several files from one pass.

        `out` is a file, or a folder for several. With `advise`, types are measured and none is
        kept. Raises RunError, InvalidSettings, DiskFull; following it, ExportError, Interrupted.
        """
        chosen = as_dict(settings or ExportConfig())
        for quant in quants or (chosen["quant"],):
            config.load(ExportConfig, {**chosen, "quant": quant})
        details = {
            **chosen,
            "quant": list(quants) or (None if advise else chosen["quant"]),
            "advise": advise,
            "out": None if out is None else str(out.absolute()),
        }
        return JobHandle(runs.start_later_job(self.workspace, run_id, "export", details), Exported)

    def usual_quant(self, run_id: str) -> str:
        """The type of a file that is written where none is asked for. Raises RunNotFound."""
        return bases.quant(AUTO, runs.show(self.workspace, run_id).model)

    def predicted_sizes(self, run_id: str) -> dict[str, int]:
        """Bytes that a GGUF file of each type would take, without reading a weight.

        Raises RunError, ModelError, ExportError.
        """
        from mlx_finetuning.quantizer.write import export  # loads NumPy

        run = runs.require_trained(self.workspace, run_id)
        return export.predicted_sizes(bases.of_run(run, self.workspace), QUANTIZATIONS)

    def list(self, run_id: str) -> builtins.list[WrittenModel]:
        """The files and folders made of the run so far, the newest first."""
        return written.read_all(self.workspace.gguf_folder(run_id))

    def verify(
        self, path: Path, run_id: str, settings: ExportConfig | None = None
    ) -> JobHandle[Verification]:
        """Compare a written model with what the run trained.

        Raises RunError, DiskFull; following it, ExportError, Interrupted.
        """
        tokens = (settings or ExportConfig()).verify_tokens
        details = {"path": str(path.absolute()), "verify_tokens": tokens}
        return JobHandle(
            runs.start_later_job(self.workspace, run_id, "verify", details), Verification
        )
