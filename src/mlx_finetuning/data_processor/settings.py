"""Comma-separated settings of `PrepareConfig` as what they mean. Raises InvalidSettings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.errors import InvalidSettings

DROPPABLE = (
    "near_duplicate",
    "conflict",
    "evaluation_set",
    "answer_repeats_question",
    "not_japanese",
    "personal_data",
    "control_character",
    "half_width_kana",
    "mixed_width",
    "zero_width",
    "edge_space",
)
MAX_WEIGHT = 100.0


def items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def codes_to_drop(config: PrepareConfig) -> list[str]:
    """Codes of findings whose rows are to be left out."""
    names = items(config.drop)
    unknown = [name for name in names if name.lower() not in DROPPABLE]
    if unknown:
        known = ", ".join(DROPPABLE)
        problems = [f"drop: 「{name}」は選べません（{known}）。" for name in unknown]
        raise InvalidSettings(problems=problems)
    return [name.upper() for name in names]


def weights(config: PrepareConfig, sources: int) -> list[float]:
    """How many times the training rows of each source are written."""
    if not items(config.weights):
        return [1.0] * sources
    try:
        found = [float(item) for item in items(config.weights)]
    except ValueError as error:
        problem = f"weights: 「{config.weights}」は数の並び（例: 1,0.5）ではありません。"
        raise InvalidSettings(problems=[problem]) from error
    if len(found) != sources:
        problem = (
            f"weights: ファイルは{sources}個、重みは{len(found)}個です。同じ数にしてください。"
        )
        raise InvalidSettings(problems=[problem])
    if not all(0 <= weight <= MAX_WEIGHT for weight in found):
        raise InvalidSettings(problems=[f"weights: 重みは0から{MAX_WEIGHT:g}までです。"])
    return found


def with_whole_paths(config: PrepareConfig) -> PrepareConfig:
    """The same settings for every current folder."""
    paths = [str(path.absolute()) for path in paths_of(config.evaluation_sets)]
    return replace(config, evaluation_sets=",".join(paths))


def paths_of(text: str) -> list[Path]:
    return [Path(item).expanduser() for item in items(text)]
