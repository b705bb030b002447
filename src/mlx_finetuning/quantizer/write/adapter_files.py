"""A LoRA adapter as a file of its own: for llama.cpp (GGUF) and for Hugging Face's peft.

Only LoRA of linear layers can be written; everything else changes whole weights and must be fused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray

from mlx_finetuning import files
from mlx_finetuning.errors import AdapterMustBeFused, ExpertsNotInPeft, ExportNotProven
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.families import registry
from mlx_finetuning.quantizer.families.family import AS_IT_IS, Family, Form
from mlx_finetuning.quantizer.formats import experts, packed, safetensors
from mlx_finetuning.quantizer.formats.safetensors import Spec
from mlx_finetuning.quantizer.write import export, trained_weights
from mlx_finetuning.quantizer.write.trained_weights import Delta, ExpertDelta
from mlx_finetuning.utils import gguf_reader

PEFT_WEIGHTS = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
PEFT_PREFIX = "base_model.model."
BLOCK = 256
"""Rows of a weight compared at once."""

Deltas = dict[str, Delta | ExpertDelta]


def write_gguf(
    model: Path,
    adapter: Path,
    path: Path,
    name: str,
    covers: Callable[[str], bool] = lambda name: True,
) -> None:
    """The adapter for llama.cpp, in float32; `covers` chooses GGUF tensors by name.

    Raises AdapterMustBeFused, AdapterUnusable, and what reading the model raises.
    """
    family, deltas, tensors = _for_gguf(model, adapter)
    writer = GGUFWriter(path, family.name)
    writer.add_type("adapter")
    writer.add_name(name)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", _alpha(deltas))
    for tensor, down, up in tensors:
        if covers(tensor):
            writer.add_tensor(f"{tensor}.lora_a", down)
            writer.add_tensor(f"{tensor}.lora_b", up)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_gguf(model: Path, adapter: Path, path: Path) -> int:
    """Re-read a GGUF adapter and compare its scale and factors with the trained ones, bit by bit.

    Returns the number of changed tensors. Raises ExportNotProven, GgufUnreadable.
    """
    __, deltas, tensors = _for_gguf(model, adapter)
    stored = gguf_reader.read(path)
    expected = {
        f"{tensor}.lora_{half}": factor
        for tensor, down, up in tensors
        for half, factor in (("a", down), ("b", up))
    }
    wrong = sorted(expected.keys() ^ stored.tensors.keys())
    if stored.metadata["adapter.lora.alpha"] != np.float32(_alpha(deltas)):
        wrong.append("adapter.lora.alpha")
    for name in expected.keys() & stored.tensors.keys():
        found = stored.tensors[name]
        if found.shape != expected[name].shape or not np.array_equal(
            found.values().reshape(found.shape), expected[name]
        ):
            wrong.append(name)
    if wrong:
        raise ExportNotProven(
            path=str(path), problems=[_("{name} が違います。").format(name=name) for name in wrong]
        )
    return len(expected) // 2


def _for_gguf(
    model: Path, adapter: Path
) -> tuple[Family, Deltas, Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]]:
    """What GGUF holds of the adapter: tensor name, A [rank, columns] and B [rows, rank]."""
    config = export.read_config(model)
    family = registry.of(config)
    deltas = _deltas(model, adapter, "gguf-lora")
    mapped, __ = registry.mapping(family, config, list(deltas))

    def factors() -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
        for tensor in mapped:
            # Of experts that the folder holds one by one, all are written as one.
            halves = [_factors(deltas[name], tensor.form) for name in tensor.stored_names]
            if halves[0][0].size == 0:
                continue
            down, up = (
                one[0] if len(one) == 1 else np.stack(one) for one in zip(*halves, strict=True)
            )
            # B has the weight's rows, A its columns.
            if tensor.form.columns is not None:
                down = np.ascontiguousarray(down[:, tensor.form.columns])
            if tensor.form.rows is not None:
                up = up[tensor.form.rows]
            yield tensor.name, down, up

    return family, deltas, factors()


def write_peft(model: Path, adapter: Path, folder: Path, base_name: str) -> None:
    """The adapter for peft: weights and settings, in an existing folder.

    Raises AdapterMustBeFused, ExpertsNotInPeft, AdapterUnusable, and what reading the model raises.
    """
    deltas = _of_modules(_deltas(model, adapter, "peft"))
    arrays: dict[str, NDArray[np.float32]] = {}
    for name, delta in deltas.items():
        module = PEFT_PREFIX + name.removesuffix(".weight")
        arrays[f"{module}.lora_A.weight"], arrays[f"{module}.lora_B.weight"] = _factors(delta)
    specs = [Spec(name, "F32", array.shape) for name, array in arrays.items()]
    with files.replacing(folder / PEFT_WEIGHTS) as stream:
        safetensors.write(stream, specs, arrays.values(), "pt")
    # Of modules that are several side by side.
    wider = {
        name.removesuffix(".weight"): delta
        for name, delta in deltas.items()
        if delta.a.shape[1] != delta.rank
    }
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": next(iter(deltas.values())).rank,
        "lora_alpha": _alpha(deltas),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "use_rslora": False,
        "use_dora": False,
        "target_modules": [name.removesuffix(".weight") for name in deltas],
        "rank_pattern": {name: delta.a.shape[1] for name, delta in wider.items()},
        "alpha_pattern": {name: delta.scale * delta.a.shape[1] for name, delta in wider.items()},
    }
    text = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
    files.write_text(folder / PEFT_CONFIG, text)


def check_peft(model: Path, adapter: Path, folder: Path) -> int:
    """Re-read a peft folder and compare what its formula adds to each weight: alpha / r * (B @ A),
    both of them the module's own where the settings name it.

    Returns the number of changed weights. Raises ExportNotProven.
    """
    settings = json.loads((folder / PEFT_CONFIG).read_text(encoding="utf-8"))
    tensors = safetensors.open_files([folder / PEFT_WEIGHTS])
    deltas = _of_modules(_deltas(model, adapter, "peft"))
    modules = {name: name.removesuffix(".weight") for name in deltas}
    expected = {
        f"{PEFT_PREFIX}{module}.lora_{half}.weight" for module in modules.values() for half in "AB"
    }
    wrong = sorted(expected ^ set(tensors))
    wrong += sorted(set(settings["target_modules"]) ^ set(modules.values()))
    for name, delta in deltas.items() if not wrong else ():
        module = modules[name]
        rank = settings["rank_pattern"].get(module, settings["r"])
        scale = settings["alpha_pattern"].get(module, settings["lora_alpha"]) / rank
        down = tensors[f"{PEFT_PREFIX}{module}.lora_A.weight"].rows(trained_weights.EVERYTHING)
        up = tensors[f"{PEFT_PREFIX}{module}.lora_B.weight"]
        for block in (slice(top, top + BLOCK) for top in range(0, delta.shape[0], BLOCK)):
            added = scale * (up.rows(block) @ down)
            trained = delta.apply(np.zeros_like(added), block)
            if not np.allclose(added, trained, rtol=1e-4, atol=1e-6 * abs(trained).max()):
                wrong.append(name)
                break
    if wrong:
        raise ExportNotProven(
            path=str(folder),
            problems=[_("{name} が違います。").format(name=name) for name in wrong],
        )
    return len(deltas)


def _of_modules(deltas: Deltas) -> dict[str, Delta]:
    """Changes of what transformers has as linear layers. Raises ExpertsNotInPeft.

    Its experts are parameters of three dimensions, its routers are no linear layers.
    """
    for name, delta in deltas.items():
        if isinstance(delta, ExpertDelta) or experts.split_name(name) or experts.is_router(name):
            raise ExpertsNotInPeft(layer=name.removesuffix(".weight"))
    return {name: delta for name, delta in deltas.items() if isinstance(delta, Delta)}


def _deltas(model: Path, adapter: Path, made_for: str) -> Deltas:
    weights = packed.open_base(model, export.read_config(model))
    tuned = trained_weights.read_for(adapter, weights)
    deltas = tuned.deltas
    if len(deltas) < len(tuned.changes) or any("embed" in name for name in deltas):
        kind = tuned.kind.upper() if tuned.kind != "lora" else _("埋め込み層のLoRA")
        raise AdapterMustBeFused(kind=kind, format=made_for)
    return deltas


Factors = tuple[NDArray[np.float32], NDArray[np.float32]]
"""A [rank, in] and B [out, rank]; of experts, both with an axis for them first."""


def _factors(delta: Delta | ExpertDelta, form: Form = AS_IT_IS) -> Factors:
    """The factors of a tensor that is its source or a share of it; without rank, if unchanged."""
    if isinstance(delta, ExpertDelta):
        return delta.a, delta.b
    a, b = delta.a, delta.b
    if form.shares > 1:
        size = delta.shape[0] // form.shares
        own = delta.shares[form.share]
        a, b = a[:, own], b[own, form.share * size : (form.share + 1) * size]
    return np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)


def _alpha(deltas: Mapping[str, Delta | ExpertDelta]) -> float:
    """Readers divide it by the rank."""
    first = next(iter(deltas.values()))
    return first.scale * first.rank
