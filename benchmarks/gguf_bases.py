"""GGUF files as bases: how alike llama.cpp answers after training, by family and type of the file.

    python benchmarks/gguf_bases.py [--families "llama 3" qwen3 …] [--updates 30]
    python benchmarks/gguf_bases.py --workspace FOLDER --run ID [--rows 60]

A small model of each family learns sentences with all its weights and is written as F16, Q8_0 and
Q4_K_M. Each file is a base of its own: it is taught questions through an adapter, and both ways out are
compared with MLX on MLX's own greedy answers: the base's file with the GGUF adapter, and a new file whose
touched weights are Q8_0. A whole answer is equal where every one of its tokens is the likeliest. The
questions that the adapter was taught are counted apart from those that the base had learned before: the
second are partly forgotten by then, and what is half forgotten is a close call.

With `--run`, a run on a real GGUF file instead: what was exported of it beside MLX, and, to compare with,
the file itself without training, which llama.cpp computes otherwise than MLX, too.
"""

# ruff: noqa: E402

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from mlx_finetuning.utils import blas

blas.preload()  # before MLX: an update takes a ninth of the time

import mlx.core as mx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from mlx_finetuning import bases
from mlx_finetuning.jobs import runs
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.quantizer.verify.written import ADAPTER
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.tokenization.rows import read_rows
from mlx_finetuning.utils import gguf_base, gguf_reader
from mlx_finetuning.workspace import Workspace
from support.gguf_bases import (
    FAMILIES,
    QUANTS,
    Agreement,
    changed,
    compared,
    pretrained,
    said,
    taught_base,
)


def told(found: Agreement) -> str:
    return (
        f"prompts {found.prompts:.3f}  top-1 {found.top1:.4f}  answers {found.answers:.3f}  "
        f"KL {found.divergence:.2g}  widest {found.widest:.2g}  "
        f"all tokens: top-1 {found.all_top1:.4f}  KL {found.all_divergence:.2g}"
    )


def untouched_share(before: Path, after: Path) -> float:
    """Share of the base's tensors that have the same bytes in the new file."""
    return 1 - len(changed(before, after)) / len(gguf_reader.read(before).tensors)


def measure(family: str, quant: str, file: Path, updates: int) -> None:
    sha256 = gguf_base.sha256(file)
    base = taught_base(file, updates)
    for name, files in base.ways.items():
        for group, answers in base.answers.items():
            found = compared(answers, *files)
            print(
                f"{family:8} {quant:6} {name:8} {group}  loss {base.loss:.1e}  {told(found)}  "
                f"untouched {untouched_share(file, files[0]):.2f}  "
                f"base {'unchanged' if gguf_base.sha256(file) == sha256 else 'CHANGED'}",
                flush=True,
            )


def measure_run(workspace: Workspace, run_id: str, most: int) -> None:
    """Every GGUF file that was exported of a run, and its base as it was before."""
    run = runs.show(workspace, run_id)
    folder = bases.of_run(run, workspace)
    base = gguf_base.read(folder)
    assert base is not None
    made = sorted(workspace.gguf_folder(run_id).glob("*.gguf"))
    data = workspace.dataset(run.dataset)
    splits = {"taught": data.train, "held out": data.test}
    rows = {
        group: of_group for group, path in splits.items() if (of_group := list(read_rows(path)))
    }
    for name, adapter in (("untrained", None), ("trained", workspace.adapter(run_id).folder)):
        loaded = load(folder, adapter)
        for group, of_group in rows.items():
            chosen = of_group[:: max(1, len(of_group) // most)][:most]
            answers = [said(loaded, row) for row in chosen]
            right = [
                loaded.tokenizer.decode(one.tokens[len(one.prompt) : -1])
                == row["messages"][-1]["content"]
                for one, row in zip(answers, chosen, strict=True)
            ]
            print(f"{name} {group}: MLX answers {sum(right)} of {len(right)} as written")
            for path in made if adapter else [base.file]:
                is_adapter = path.stem.endswith(ADAPTER)
                of_files = (base.file, path) if is_adapter else (path, None)
                kept = untouched_share(base.file, of_files[0])
                found = told(compared(answers, *of_files))
                size = f"{path.stat().st_size / 1e6:.1f} MB"
                print(f"  {path.name} ({size})  {found}  untouched {kept:.3f}", flush=True)


def main() -> None:
    # Compiling for the CPU takes longer than models of this size.
    mx.disable_compile()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--rows", type=int, default=60, help="asked of each split")
    chosen = parser.parse_args()
    if chosen.run:
        measure_run(Workspace(chosen.workspace), chosen.run, chosen.rows)
        return
    for family in chosen.families:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            pretrained(folder, family, chosen.updates)
            files = {quant: Path(scratch) / f"{quant}.gguf" for quant in QUANTS}
            export_gguf(folder, None, files)
            for quant, file in files.items():
                measure(family, quant, file, chosen.updates)


if __name__ == "__main__":
    main()
