"""What the settings of `PrepareConfig` mean: names that must be known, numbers that must fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor.clean import STEPS
from mlx_finetuning.data_processor.readers.limits import TableOptions
from mlx_finetuning.errors import InvalidSettings
from mlx_finetuning.language import _

READING = ("encoding", "sheet", "header_row", "hidden", "delimiter", "assistant_speaker")
"""Settings by which a file is read; all others are about what was read."""
DROPPABLE = (
    "near_duplicate",
    "conflict",
    "evaluation_set",
    "answer_repeats_question",
    "not_japanese",
    "personal_data",
    "placeholder",
    "see_other",
    "html",
    "excel_escape",
    "control_token",
    "control_character",
    "half_width_kana",
    "mixed_width",
    "zero_width",
    "edge_space",
    "draft",
    "low_rated",
    "struck_out",
    "no_question",
    "fill_in",
    "review_mark",
    "made_date",
    "lost_letter",
    "radical",
    "spaced_letters",
    "chat_markup",
    "cut_off",
    "embedded_data",
)
MAX_WEIGHT = 100.0
DELIMITER_NAMES = {
    "auto": "",
    "comma": ",",
    "tab": "\t",
    r"\t": "\t",
    "semicolon": ";",
    "pipe": "|",
}


def table_options(config: PrepareConfig) -> TableOptions:
    """How tables are asked to be read. Raises InvalidSettings."""
    problems = []
    delimiter = DELIMITER_NAMES.get(config.delimiter, config.delimiter)
    if len(delimiter) > 1 or delimiter in ('"', "\n", "\r"):
        problems.append(
            _(
                "delimiter: 「{delimiter}」は使えません（comma, tab, semicolon, pipe か、1文字）。"
            ).format(delimiter=config.delimiter)
        )
    header_row = config.header_row.strip()
    rows = re.fullmatch(r"(\d{1,7})(?:-(\d{1,7}))?", header_row)
    first, last = (int(rows[1]), int(rows[2] or rows[1])) if rows else (0, 0)
    is_range = rows is not None and (first == last or 0 < first == last - 1)
    if header_row != "auto" and not is_range:
        problems.append(
            _(
                "header_row: 「{header_row}」は行の番号ではありません（auto、0、3、2-3 のように）。"
            ).format(header_row=config.header_row)
        )
    if problems:
        raise InvalidSettings(problems=problems)
    header = (first, last) if rows else None
    return TableOptions(config.sheet, header, delimiter, config.hidden == "skip")


def cleaning_steps(config: PrepareConfig) -> tuple[str, ...]:
    """Names of the cleaning steps, in their order. Raises InvalidSettings."""
    known = ", ".join(STEPS)
    problems = [
        _("clean: 「{name}」という整え方はありません（{known}）。").format(name=name, known=known)
        for name in config.clean
        if name not in STEPS
    ]
    if problems:
        raise InvalidSettings(problems=problems)
    return config.clean


def codes_to_drop(config: PrepareConfig) -> list[str]:
    """Codes of findings whose rows are to be left out. Raises InvalidSettings."""
    known = ", ".join(DROPPABLE)
    problems = [
        _("drop: 「{name}」は選べません（{known}）。").format(name=name, known=known)
        for name in config.drop
        if name.lower() not in DROPPABLE
    ]
    if problems:
        raise InvalidSettings(problems=problems)
    return [name.upper() for name in config.drop]


def weights(config: PrepareConfig, sources: int) -> Sequence[float]:
    """How many times the training rows of each source are written. Raises InvalidSettings."""
    numbers = config.weights
    if not numbers:
        return [1.0] * sources
    if len(numbers) != sources:
        problem = _(
            "weights: ファイルは{sources}個、重みは{weights}個です。同じ数にしてください。"
        ).format(sources=sources, weights=len(numbers))
        raise InvalidSettings(problems=[problem])
    if not all(0 <= number <= MAX_WEIGHT for number in numbers):
        raise InvalidSettings(
            problems=[_("weights: 重みは0から{most:g}までです。").format(most=MAX_WEIGHT)]
        )
    return numbers


def evaluation_files(config: PrepareConfig) -> list[Path]:
    """The files of further evaluation sets."""
    return [Path(item).expanduser() for item in config.evaluation_sets]


def with_absolute_paths(config: PrepareConfig) -> PrepareConfig:
    """The same settings, whatever the current folder is."""
    paths = tuple(str(path.absolute()) for path in evaluation_files(config))
    return replace(config, evaluation_sets=paths)
