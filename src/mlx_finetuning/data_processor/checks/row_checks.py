"""Checks over examples: what cannot be trained on, and what deserves a look, by source row.

Each check is an exact test of one row, asked only where the flags of `scan` leave it open. Judges
only: `usable` leaves out the error rows, nothing else is dropped or changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from mlx_finetuning.data_processor.checks import characters
from mlx_finetuning.data_processor.checks.characters import Flags
from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.findings import Finding, finding, findings_at
from mlx_finetuning.data_processor.watching import Tick, still, watched
from mlx_finetuning.tokenization.reasoning import TAG
from mlx_finetuning.utils.japanese_utils import foreign_language, has_mixed_width, is_mojibake
from mlx_finetuning.utils.validators import KINDS_JA, is_control, personal_data

IMBALANCE = 10
"""Times that the largest category outnumbers one that is called small."""
_SHOWN_CATEGORIES = 5


def usable(examples: Sequence[Example], tick: Tick = still) -> tuple[list[Example], list[Finding]]:
    """The rows that can be trained on, and findings about those that cannot."""
    found, bad = [], set()
    flags = characters.flags_of_examples(examples, tick)
    for check in _ERRORS:
        hits = [at for at in check.hits(examples, flags, tick) if at not in bad]
        bad.update(hits)
        found += findings_at(check.code, (examples[at] for at in hits))
    if not bad:
        return list(examples), found
    return [example for at, example in enumerate(examples) if at not in bad], found


def look(
    examples: Sequence[Example], tick: Tick = still
) -> tuple[list[Finding], dict[str, set[int]]]:
    """Findings about the wording of usable rows, and the indices of those rows by code."""
    flags = characters.flags_of_examples(examples, tick)
    hits = {check.code: check.hits(examples, flags, tick) for check in _WARNINGS}
    found = []
    for check in _WARNINGS:
        rows = [examples[at] for at in hits[check.code]]
        found += findings_at(check.code, rows, **check.details(rows))
    return found, {code: set(at) for code, at in hits.items()}


def imbalance(examples: Sequence[Example]) -> list[Finding]:
    """Rows of categories that the largest one outnumbers tenfold."""
    counts = Counter(example.category for example in examples if example.category)
    if len(counts) < 2:
        return []
    [(largest, most)] = counts.most_common(1)
    small = {name: count for name, count in counts.items() if count * IMBALANCE <= most}
    shown = "、".join(
        f"{name}（{count}行）" for name, count in [*small.items()][:_SHOWN_CATEGORIES]
    )
    rows = (example for example in examples if example.category in small)
    return findings_at("CATEGORY_IMBALANCE", rows, largest=largest, count=most, small=shown)


def reasoning(examples: Sequence[Example]) -> list[Finding]:
    """What is learned where answers come with reasoning; the rows without it, where some are."""
    answered = [one for one in examples if one.turns[-1].role == "assistant"]
    without = [one for one in answered if not any(turn.reasoning for turn in one.turns)]
    count = len(answered) - len(without)
    if not count:
        return []
    if not without:
        return [finding("REASONING", count=count)]
    return findings_at("REASONING_MIXED", without, count=count, without=len(without))


def _no_details(examples: Sequence[Example]) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class _Check:
    code: str
    is_hit: Callable[[Example], bool]
    needs: int = 0
    """Flags of `scan` of which a row must have one; 0 stands for every row."""
    details: Callable[[Sequence[Example]], dict[str, str]] = _no_details

    def hits(self, examples: Sequence[Example], flags: Flags, tick: Tick) -> list[int]:
        """The indices of the rows that the check is about."""
        asked = np.flatnonzero(flags & self.needs) if self.needs else np.arange(len(flags))
        return [at for at in watched(asked.tolist(), tick) if self.is_hit(examples[at])]


# --- rows that cannot be trained on ------------------------------------------------------


def _has_empty(roles: tuple[str, ...]) -> Callable[[Example], bool]:
    def has_empty(example: Example) -> bool:
        return any(
            not turn.content.strip() and not turn.extra
            for turn in example.turns
            if turn.role in roles
        )

    return has_empty


def _has_bad_order(example: Example) -> bool:
    return _is_bad_order(
        tuple(turn.role for turn in example.turns),
        any(turn.extra or turn.role == "tool" for turn in example.turns),
    )


@cache
def _is_bad_order(roles: tuple[str, ...], calls: bool) -> bool:
    """system first or never; then user and assistant in turn, tools in between; assistant last."""
    if roles[0] in ("text", "prompt"):
        return False
    spoken = [role for role in roles[roles[0] == "system" :] if role != "tool"]
    if not spoken or spoken[0] != "user" or roles[-1] != "assistant" or "system" in spoken:
        return True
    # After a tool's result the assistant speaks again.
    return not calls and any(a == b for a, b in pairwise(spoken))


def _has_mojibake(example: Example) -> bool:
    return any(is_mojibake(text) for turn in example.turns for text in turn.texts)


def _has_open_reasoning(example: Example) -> bool:
    """Closed reasoning was put apart when the row was read."""
    return any(
        turn.content.lstrip().startswith(TAG.opening)
        for turn in example.turns
        if turn.role in ("assistant", "chosen", "rejected") and TAG.closing not in turn.content
    )


def _has_stray_closing(example: Example) -> bool:
    return any(
        TAG.closing in turn.content and TAG.opening not in turn.content
        for turn in example.turns
        if turn.role in ("assistant", "chosen", "rejected")
    )


_ERRORS = (
    _Check("EMPTY_QUESTION", _has_empty(("user", "prompt", "text")), needs=characters.BLANK),
    _Check("EMPTY_ANSWER", _has_empty(("assistant", "chosen", "rejected")), needs=characters.BLANK),
    _Check("ROLE_ORDER", _has_bad_order),
    _Check("MOJIBAKE", _has_mojibake, needs=characters.SUSPECT),
    _Check("REASONING_UNCLOSED", _has_open_reasoning),
)


# --- rows that deserve a look ------------------------------------------------------------


def _repeats(example: Example) -> bool:
    """Whether an answer says no more than what it answers."""
    pairs = pairwise(example.turns)
    return any(
        asked.role in ("user", "prompt")
        and answer.role in ("assistant", "chosen")
        and _says_the_same(asked.content, answer.content)
        for asked, answer in pairs
    )


def _says_the_same(asked: str, answer: str) -> bool:
    # The cheap test first: comparison keys take a hundred times as long.
    if abs(len(asked) - len(answer)) > max(4, len(asked) // 4) or asked[:1] != answer[:1]:
        return False
    ours, theirs = _bare(asked), _bare(answer)
    short, long = sorted((ours, theirs), key=len)
    return short == long or (
        len(short) >= 8 and long.startswith(short) and len(long) - len(short) <= 4
    )


def _bare(text: str) -> str:
    return "".join(character for character in text if character.isalnum())


def _holds(test: Callable[[str], object]) -> Callable[[Example], bool]:
    return lambda example: any(test(text) for turn in example.turns for text in turn.texts)


def _has_control(text: str) -> bool:
    return any(map(is_control, text))


def _has_half_kana(text: str) -> bool:
    return any("\uff61" <= character <= "\uff9f" for character in text)


def _has_zero_width(text: str) -> bool:
    return any(character in text for character in "\u200b\u200c\u2060\ufeff")


def _has_edge_space(text: str) -> bool:
    return text[-1:].isspace()


def _foreign(text: str) -> str:
    return "" if text.isascii() and len(text) < 15 else foreign_language(text)


def _languages(examples: Sequence[Example]) -> dict[str, str]:
    found = Counter(
        name for example in examples for turn in example.turns if (name := _foreign(turn.content))
    )
    return {"languages": "、".join(name for name, _ in found.most_common())}


def _kinds(examples: Sequence[Example]) -> dict[str, str]:
    found = Counter(
        item.kind
        for example in examples
        for turn in example.turns
        for text in turn.texts
        for item in personal_data(text)
    )
    return {
        "kinds": "、".join(f"{KINDS_JA[kind]} {count}件" for kind, count in found.most_common())
    }


_WARNINGS = (
    _Check("ANSWER_REPEATS_QUESTION", _repeats),
    _Check("REASONING_UNOPENED", _has_stray_closing),
    _Check("CONTROL_CHARACTER", _holds(_has_control), needs=characters.CONTROL),
    _Check("ZERO_WIDTH", _holds(_has_zero_width), needs=characters.ZERO_WIDTH),
    _Check("HALF_WIDTH_KANA", _holds(_has_half_kana), needs=characters.HALF_KANA),
    _Check("MIXED_WIDTH", _holds(has_mixed_width), needs=characters.FULL_ALNUM),
    _Check("EDGE_SPACE", _holds(_has_edge_space)),
    _Check("NOT_JAPANESE", _holds(_foreign), needs=characters.NO_KANA, details=_languages),
    _Check(
        "PERSONAL_DATA",
        _holds(personal_data),
        needs=characters.DIGITS | characters.AT_SIGN,
        details=_kinds,
    ),
)
