"""Adapters as peft and mlx-lm write them: every changed layer with its factors, or a refusal.

Follows peft's `LoraConfig` (0.21) and mlx-lm's `adapter_config.json` (0.32). LoRA and DoRA of linear
layers are read; what else an adapter may hold (whole weights, biases, embeddings, new tokens, factors
for a base that was changed first) would be lost in silence, so it is refused by name. Reads no pickle.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.errors import AdapterNotImportable, WeightsUnreadable
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import N_, _
from mlx_finetuning.quantizer.formats import safetensors
from mlx_finetuning.quantizer.formats.safetensors import Tensor

CONFIG = "adapter_config.json"
PEFT_WEIGHTS, MLX_WEIGHTS = "adapter_model.safetensors", "adapters.safetensors"
PICKLES = ("adapter_model.bin", "adapters.npz")
PEFT_PREFIX = "base_model.model."
BASE_KEPT = (True, False, "gaussian", "orthogonal", "eva")
"""Of peft's `init_lora_weights`, those that leave the base as it is; others (PiSSA, OLoRA, …) take a part
out of its weights, and the adapter fits the rest only."""
REFUSED = {
    "modules_to_save": N_("重みをそのまま入れ替える層"),
    "trainable_token_indices": N_("トークンの埋め込み"),
    "target_parameters": N_("エキスパート（MoE）の重み"),
    "layer_replication": N_("層の複製"),
    "lora_bias": N_("LoRAのバイアス"),
    "use_qalora": "QALoRA",
    "use_bdlora": "BD-LoRA",
    "fan_in_fan_out": N_("転置された重み（fan_in_fan_out）"),
    "alora_invocation_tokens": N_("途中から効くアダプター（aLoRA）"),
    "arrow_config": N_("アダプターの切り替え（Arrow）"),
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "velora_config": "VeLoRA",
}
"""peft's settings that mean more than a LoRA of linear layers, with what each is."""
_EVERYTHING = slice(None)
_IN_BLOCK = re.compile(r"(?:(?:base_model|model|language_model)\.)*layers\.(\d+)\.(.+)")

Array = NDArray[np.float32]


@dataclass(frozen=True)
class LayerChange:
    """What becomes of one linear layer's weight W [out, in]: W + scale * (a @ b).T."""

    layer: int
    """Which block, counted from the lowest."""
    key: str
    """The layer's name within its block: `self_attn.q_proj`."""
    a: Array
    """[in, rank]; of a stack of experts [experts, rank, in]"""
    b: Array
    """[rank, out]; of a stack of experts [experts, out, rank]"""
    scale: float
    lengths: Array | None = None
    """[out]: DoRA brings the changed rows to these lengths."""

    @property
    def rank(self) -> int:
        """Of the change."""
        return int(self.a.shape[-1] if self.a.ndim == 2 else self.a.shape[-2])


@dataclass(frozen=True)
class ForeignAdapter:
    """An adapter that was made by another program."""

    form: str
    """`peft` or `mlx-lm`."""
    method: str
    """`lora` or `dora`."""
    base: str
    """What it says that it was trained on; empty where it is silent."""
    changes: tuple[LayerChange, ...]


def read(folder: Path) -> ForeignAdapter:
    """The adapter in `folder`. Raises AdapterNotImportable."""
    has_peft, has_mlx = (folder / PEFT_WEIGHTS).is_file(), (folder / MLX_WEIGHTS).is_file()
    if not (has_peft or has_mlx):
        raise AdapterNotImportable(path=str(folder), reason=_absent(folder))
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterNotImportable(
            path=str(folder), reason=_("{config} を読めません。").format(config=CONFIG)
        ) from error
    if not isinstance(config, dict):
        raise AdapterNotImportable(
            path=str(folder), reason=_("{config} の形が違います。").format(config=CONFIG)
        )
    try:
        if "peft_type" in config and has_peft:
            return _peft(config, _tensors(folder / PEFT_WEIGHTS))
        if has_mlx:
            return _mlx_lm(config, _tensors(folder / MLX_WEIGHTS))
    except (_Unfit, KeyError, TypeError, ValueError, re.error) as error:
        said = (
            str(error)
            if isinstance(error, _Unfit)
            else _("{config} の値が違います（{error}）。").format(config=CONFIG, error=error)
        )
        raise AdapterNotImportable(path=str(folder), reason=said) from error
    reason = _("{config} が peft のものではありません（peft_type がない）。").format(config=CONFIG)
    raise AdapterNotImportable(path=str(folder), reason=reason)


class _Unfit(Exception):
    """Its text is a Japanese sentence that says what cannot be taken over."""


def _absent(folder: Path) -> str:
    if not folder.is_dir():
        return _("フォルダーがありません。")
    if pickles := [name for name in PICKLES if (folder / name).is_file()]:
        return _(
            "重みが {file} です。読むのは safetensors だけです（pickle はプログラムを実行できるため）。"
        ).format(file=pickles[0])
    return _("重みのファイル（{first} か {second}）がありません。").format(
        first=PEFT_WEIGHTS, second=MLX_WEIGHTS
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.open_files([path])
    except WeightsUnreadable as error:
        raise _Unfit(f"{path.name}: {error.data['reason']}") from error


# --- peft --------------------------------------------------------------------------------


def _peft(config: JsonObject, tensors: Mapping[str, Tensor]) -> ForeignAdapter:
    _refuse_more_than_lora(config)
    uses_dora = config.get("use_dora") is True
    halves = {"lora_A": ".lora_A.weight", "lora_B": ".lora_B.weight"}
    if uses_dora:
        halves["lora_magnitude_vector"] = ".lora_magnitude_vector"
    changes = []
    for module, parts in _grouped(tensors, halves).items():
        a, b = parts["lora_A"].T, parts["lora_B"].T
        rank = a.shape[-1]
        alpha = _matching(config.get("alpha_pattern"), module, config["lora_alpha"])
        scale = float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)
        lengths = parts["lora_magnitude_vector"].reshape(-1) if uses_dora else None
        changes.append(_change(module.removeprefix(PEFT_PREFIX), a, b, scale, lengths))
    base = str(config.get("base_model_name_or_path") or "")
    return ForeignAdapter("peft", "dora" if uses_dora else "lora", base, _whole(changes))


def _refuse_more_than_lora(config: Mapping[str, object]) -> None:
    if config["peft_type"] != "LORA":
        raise _Unfit(
            _("種類が {kind} です。取り込めるのは LORA だけです。").format(kind=config["peft_type"])
        )
    if config.get("bias", "none") != "none":
        raise _Unfit(_("バイアスも学習したアダプターです。"))
    if config.get("init_lora_weights", True) not in BASE_KEPT:
        kind = config["init_lora_weights"]
        raise _Unfit(
            _(
                "初期化が {kind} です。"
                "ベースモデルの重みから一部を抜いて作るため、元のベースモデルには合いません（peft で path_initial_model_for_weight_conversion を付けて保存し直すと、取り込めます）。"
            ).format(kind=kind)
        )
    for key, meaning in REFUSED.items():
        if config.get(key):
            raise _Unfit(
                _("{meaning}のあるアダプターです（{key}）。").format(meaning=_(meaning), key=key)
            )


def _matching(pattern: object, module: str, default: float) -> float:
    """The value that peft's `rank_pattern` or `alpha_pattern` has for a module: its keys are matched with
    the end of the name, whole parts only."""
    for key, value in pattern.items() if isinstance(pattern, dict) else ():
        if re.fullmatch(rf"(.*\.)?({key})", module):
            return float(value)
    return float(default)


# --- mlx-lm ------------------------------------------------------------------------------


def _mlx_lm(config: JsonObject, tensors: Mapping[str, Tensor]) -> ForeignAdapter:
    method = config.get("fine_tune_type", "lora")
    if method not in ("lora", "dora"):
        raise _Unfit(
            _(
                "{method} の学習です。アダプターではなく重みそのものなので、mlx_lm.fuse でモデルのフォルダーにして使ってください。"
            ).format(method=method)
        )
    scale = float(config["lora_parameters"]["scale"])
    halves = {"lora_a": ".lora_a", "lora_b": ".lora_b"}
    if method == "dora":
        halves["m"] = ".m"
    changes = [
        _change(module, parts["lora_a"], parts["lora_b"], scale, parts.get("m"))
        for module, parts in _grouped(tensors, halves).items()
    ]
    return ForeignAdapter("mlx-lm", method, str(config.get("model") or ""), _whole(changes))


# --- both --------------------------------------------------------------------------------


def _grouped(
    tensors: Mapping[str, Tensor], halves: Mapping[str, str]
) -> dict[str, dict[str, Array]]:
    """By module, its arrays under the names of `halves`, which have the ends of their tensors' names.

    A tensor that belongs to none, or a module that lacks one, is refused.
    """
    grouped: dict[str, dict[str, Array]] = {}
    for name, tensor in sorted(tensors.items()):
        part = next((part for part, end in halves.items() if name.endswith(end)), None)
        if part is None:
            raise _Unfit(_("LoRAの組ではない重みがあります: {name}").format(name=name))
        module = name.removesuffix(halves[part])
        grouped.setdefault(module, {})[part] = tensor.rows(_EVERYTHING)
    for module, parts in grouped.items():
        if missing := sorted(halves.keys() - parts.keys()):
            raise _Unfit(
                _("{module} の {missing} がありません。").format(
                    module=module, missing=_("、").join(missing)
                )
            )
    return grouped


def _change(module: str, a: Array, b: Array, scale: float, lengths: Array | None) -> LayerChange:
    match = _IN_BLOCK.fullmatch(module)
    if match is None:
        raise _Unfit(
            _("層（layers）の外の重みを変えるアダプターです: {module}").format(module=module)
        )
    is_stack = a.ndim == b.ndim == 3
    ranks = (a.shape[1], b.shape[2]) if is_stack else (a.shape[-1], b.shape[0])
    if not (is_stack or a.ndim == b.ndim == 2) or ranks[0] != ranks[1] or not ranks[0]:
        raise _Unfit(
            _("{module} の行列の形が合いません（{shape} と {other}）。").format(
                module=module, shape=a.shape, other=b.shape
            )
        )
    if not all(np.isfinite(half).all() for half in (a, b)) or not math.isfinite(scale):
        raise _Unfit(_("{module} に、数でない値（nan、inf）があります。").format(module=module))
    return LayerChange(int(match[1]), match[2], a, b, scale, lengths)


def _whole(changes: list[LayerChange]) -> tuple[LayerChange, ...]:
    if not changes:
        raise _Unfit(_("重みのファイルが空です。"))
    return tuple(changes)
