"""Cleaning as named steps, each with how many rows it changed and samples of before and after.

On by default is what no writer means and no reader sees. Width, signs and wording change only on
request (NFKC would turn ① into 1). Works on copies: a dataset prepared without a step has the
text as it was.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from mlx_finetuning.data_processor import html_text, leftovers, traces
from mlx_finetuning.data_processor.checks import characters
from mlx_finetuning.data_processor.checks.characters import Flags
from mlx_finetuning.data_processor.examples import Example, findings_at
from mlx_finetuning.data_processor.findings import Finding
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.language import N_
from mlx_finetuning.utils.japanese_utils import to_fullwidth_kana, to_halfwidth_alnum
from mlx_finetuning.utils.validators import is_control, mask_personal_data

MAX_SAMPLES = 3

_EDGES = re.compile(r"\A(?:[ \t　]*\n)+|\s+\Z")


@dataclass(frozen=True)
class CleaningStep:
    """What a step did."""

    name: str
    description: str
    """Japanese."""
    rows: int
    """Rows that the step changed."""
    samples: tuple[tuple[int, str, str], ...] = ()
    """The first few changes: row, before, after."""


def line_ends(text: str) -> str:
    """Line feeds alone."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def nfc(text: str) -> str:
    """Combining marks joined with their letters."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def trim(text: str) -> str:
    """Without trailing whitespace and leading blank lines; indentation stays."""
    return _EDGES.sub("", text)


def control(text: str) -> str:
    """Without control characters."""
    return "".join(character for character in text if not is_control(character))


def nfkc(text: str) -> str:
    """Compatibility characters as ordinary ones."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


@dataclass(frozen=True)
class _Step:
    change: Callable[[str], str]
    description: str
    needs: int = 0
    """Flags of `characters`: texts without any of them stay as they are; 0 stands for every text."""


STEPS: dict[str, _Step] = {
    "line_ends": _Step(line_ends, N_("改行の書き方をそろえる（LF）"), characters.RETURN),
    "zero_width": _Step(
        characters.without_invisible,
        N_("目に見えない文字（BOMなど）を削除"),
        characters.ZERO_WIDTH,
    ),
    "nfc": _Step(nfc, N_("分かれた濁点などを1文字に（NFC）"), characters.COMBINING),
    "trim": _Step(trim, N_("末尾の空白と先頭の空行を削除")),
    "html": _Step(html_text.seen, N_("HTMLのタグと記号を、見える文章に"), characters.MARK),
    "excel": _Step(
        leftovers.without_escapes, N_('Excelの記号（_x000D_、="…"）を文字に'), characters.MARK
    ),
    "control_tokens": _Step(
        leftovers.without_control_tokens,
        N_("制御用の記号（<|im_end|> など）を削除"),
        characters.MARK,
    ),
    "radicals": _Step(
        traces.without_radicals,
        N_("形の似た別の文字（PDFから写した部首 ⽇ など）を、ふつうの漢字に"),
        characters.TRACE,
    ),
    "marks": _Step(leftovers.without_mark, N_("先頭の印（Q1.、A：、→ など）を削除")),
    "control": _Step(control, N_("制御文字を削除"), characters.CONTROL),
    "halfwidth_kana": _Step(to_fullwidth_kana, N_("半角カナを全角に"), characters.HALF_KANA),
    "fullwidth_alnum": _Step(to_halfwidth_alnum, N_("全角の英数字を半角に"), characters.FULL_ALNUM),
    "nfkc": _Step(nfkc, N_("互換文字を普通の文字に（NFKC。①は1に、㈱は(株)になります）")),
    "mask_personal": _Step(
        mask_personal_data, N_("個人情報らしい部分を伏せる"), characters.DIGITS | characters.AT_SIGN
    ),
}
DEFAULT = ("line_ends", "zero_width", "nfc")


def clean(
    examples: Sequence[Example], steps: Sequence[str] = DEFAULT, progress: StageProgress = SILENT
) -> tuple[list[Example], tuple[CleaningStep, ...], list[Finding], Flags]:
    """`examples` after the named steps in turn, what each did, rows that deserve a word, and what
    kinds of characters are left in each."""
    cleaned, report, findings = list(examples), [], []
    flags = characters.flags_of_examples(cleaned, progress)
    for name in steps:
        step = STEPS[name]
        candidates = np.flatnonzero(flags & step.needs) if step.needs else np.arange(len(flags))
        changed: list[int] = []
        hidden: list[Example] = []
        samples: list[tuple[int, str, str]] = []
        for at in progress.over(candidates.tolist()):
            before = cleaned[at]
            turns = tuple(turn.changed(step.change) for turn in before.turns)
            if turns == before.turns:
                continue
            changed.append(at)
            if name == "zero_width" and characters.hides_text(before):
                hidden.append(before)
            cleaned[at] = replace(before, turns=turns)
            if len(samples) < MAX_SAMPLES:
                pairs = zip(before.turns, turns, strict=True)
                texts = (zip(old.texts, new.texts, strict=False) for old, new in pairs)
                changes = (pair for pair in chain.from_iterable(texts) if pair[0] != pair[1])
                samples.append((before.row, *next(changes)))
        flags[changed] = characters.flags_of_examples([cleaned[at] for at in changed], progress)
        report.append(CleaningStep(name, step.description, len(changed), tuple(samples)))
        if name == "zero_width":
            rows = {example.row for example in hidden}
            visible = (cleaned[at] for at in changed if cleaned[at].row not in rows)
            findings += findings_at("ZERO_WIDTH", visible)
            findings += findings_at("HIDDEN_TEXT", hidden)
    return cleaned, tuple(report), findings, flags
