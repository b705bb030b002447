"""Cleaning as named steps, each with the rows it changed and samples of before and after.

On by default is what no writer means and no reader sees. Width, signs and wording change only on
request (NFKC would turn ① into 1). Works on copies: a dataset prepared without a step has the
text as it was.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlx_finetuning.data_processor.checks import characters
from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.findings import Finding, findings_at
from mlx_finetuning.data_processor.watching import Tick, still, watched
from mlx_finetuning.errors import InvalidSettings
from mlx_finetuning.utils.japanese_utils import to_fullwidth_kana, to_halfwidth_alnum
from mlx_finetuning.utils.validators import is_control, mask_personal_data

MAX_SAMPLES = 3

# Zero-width space, non-joiner, word joiner, BOM. The joiner U+200D and variation selectors are
# parts of emoji and of some kanji, and stay.
_ZERO_WIDTH = re.compile("[\u200b\u200c\u2060\ufeff]")
_EDGES = re.compile(r"\A(?:[ \t　]*\n)+|\s+\Z")


@dataclass(frozen=True)
class CleaningStep:
    name: str
    description: str
    """Japanese."""
    rows: int
    """Rows that the step changed."""
    samples: tuple[tuple[int, str, str], ...] = ()
    """The first few changes: row, before, after."""


def line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def zero_width(text: str) -> str:
    return _ZERO_WIDTH.sub("", text)


def nfc(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def trim(text: str) -> str:
    """Without trailing whitespace and leading blank lines; indentation stays."""
    return _EDGES.sub("", text)


def control(text: str) -> str:
    return "".join(character for character in text if not is_control(character))


def nfkc(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


@dataclass(frozen=True)
class _Step:
    change: Callable[[str], str]
    description: str
    needs: int = 0
    """Flags of `scan`: texts without any of them stay as they are; 0 stands for every text."""


STEPS: dict[str, _Step] = {
    "line_ends": _Step(line_ends, "改行をLFに統一", characters.RETURN),
    "zero_width": _Step(zero_width, "BOMと幅のない文字を削除", characters.ZERO_WIDTH),
    "nfc": _Step(nfc, "結合文字を1文字に（NFC）", characters.COMBINING),
    "trim": _Step(trim, "末尾の空白と先頭の空行を削除"),
    "control": _Step(control, "制御文字を削除", characters.CONTROL),
    "halfwidth_kana": _Step(to_fullwidth_kana, "半角カナを全角に", characters.HALF_KANA),
    "fullwidth_alnum": _Step(to_halfwidth_alnum, "全角の英数字を半角に", characters.FULL_ALNUM),
    "nfkc": _Step(nfkc, "互換文字を普通の文字に（NFKC。①は1に、㈱は(株)になります）"),
    "mask_personal": _Step(
        mask_personal_data, "個人情報らしい部分を伏せる", characters.DIGITS | characters.AT_SIGN
    ),
}
DEFAULT = ("line_ends", "zero_width", "nfc")


def steps_named(names: str) -> tuple[str, ...]:
    """Steps from a comma-separated setting. Raises InvalidSettings."""
    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    unknown = [name for name in wanted if name not in STEPS]
    if unknown:
        known = ", ".join(STEPS)
        problems = [f"clean: 「{name}」という整え方はありません（{known}）。" for name in unknown]
        raise InvalidSettings(problems=problems)
    return wanted


def clean(
    examples: Sequence[Example], steps: Sequence[str] = DEFAULT, tick: Tick = still
) -> tuple[list[Example], tuple[CleaningStep, ...], list[Finding]]:
    """`examples` after the named steps in turn, what each did, and rows that deserve a word."""
    cleaned, report, found = list(examples), [], []
    flags = characters.flags_of_examples(cleaned, tick)
    for name in steps:
        step = STEPS[name]
        candidates = np.flatnonzero(flags & step.needs) if step.needs else np.arange(len(flags))
        changed, samples = _apply(step, cleaned, candidates.tolist(), tick)
        flags[changed] = characters.flags_of_examples([cleaned[at] for at in changed], tick)
        report.append(CleaningStep(name, step.description, len(changed), samples))
        if name == "zero_width":
            found += findings_at("ZERO_WIDTH", (cleaned[at] for at in changed))
    return cleaned, tuple(report), found


def _apply(
    step: _Step, examples: list[Example], candidates: Sequence[int], tick: Tick
) -> tuple[list[int], tuple[tuple[int, str, str], ...]]:
    """Change the candidates in place; the indices of those that did change, and samples."""
    changed: list[int] = []
    samples: list[tuple[int, str, str]] = []
    for at in watched(candidates, tick):
        example = examples[at]
        turns = tuple(turn.changed(step.change) for turn in example.turns)
        if turns == example.turns:
            continue
        changed.append(at)
        examples[at] = replace(example, turns=turns)
        if len(samples) < MAX_SAMPLES:
            samples.append((example.row, *_first_change(example, examples[at])))
    return changed, tuple(samples)


def _first_change(before: Example, after: Example) -> tuple[str, str]:
    pairs = zip(before.turns, after.turns, strict=True)
    texts = (both for old, new in pairs for both in zip(old.texts, new.texts, strict=False))
    return next((before, after) for before, after in texts if before != after)
