"""Checks of single examples: what cannot be trained on, and what deserves a look.

Each is an exact test, made only where the flags of `characters` leave it open. Judges only:
`usable` leaves out the examples with errors, nothing else is dropped or changed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from mlx_finetuning.data_processor import leftovers, traces
from mlx_finetuning.data_processor.chats import Turn
from mlx_finetuning.data_processor.checks import characters
from mlx_finetuning.data_processor.checks.characters import Flags
from mlx_finetuning.data_processor.examples import Example, findings_at
from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.language import _
from mlx_finetuning.tokenization.reasoning import TAG
from mlx_finetuning.utils.japanese_utils import foreign_language, has_mixed_width, is_mojibake
from mlx_finetuning.utils.validators import KINDS_JA, is_control, personal_data

IMBALANCE = 10
"""Times that the largest category outnumbers one that is called small."""
_SHOWN_CATEGORIES = 5
SAMPLE = 1000
"""Examples that are enough to tell what most are like."""
FEW = 0.2
"""Share of examples up to which those that look like none are taken for notes beside the data."""
MOSTLY = 0.7
"""Share of answers that ask, from which they are taken for questions."""
_ENOUGH_PAIRS = 5
_ASKS = re.compile(r"(?:[?？]|(?:です|ます|でしょう|ません|ました)か。?)\s*$")


def usable(
    examples: Sequence[Example], flags: Flags, progress: StageProgress = SILENT
) -> tuple[list[int], list[Finding]]:
    """The indices of the examples that can be trained on, and findings about the others. `flags`: those
    of the examples."""
    findings, unusable = [], set[int]()
    for check in _ERRORS:
        hits = [at for at in check.hits(examples, flags, progress) if at not in unusable]
        unusable.update(hits)
        findings += findings_at(check.code, (examples[at] for at in hits))
    return [at for at in range(len(examples)) if at not in unusable], findings


def wording(
    examples: Sequence[Example], flags: Flags, progress: StageProgress = SILENT
) -> tuple[list[Finding], dict[str, set[int]]]:
    """Findings about the wording of usable examples, and the indices of those examples by code."""
    hits = {check.code: check.hits(examples, flags, progress) for check in _WARNINGS}
    findings = []
    for check in _WARNINGS:
        concerned = [examples[at] for at in hits[check.code]]
        details = check.details(concerned) if check.details else {}
        findings += findings_at(check.code, concerned, **details)
    return findings, {code: set(indices) for code, indices in hits.items()}


def imbalance(examples: Sequence[Example]) -> list[Finding]:
    """Examples of categories that the largest one outnumbers tenfold."""
    counts = Counter(example.category for example in examples if example.category)
    if len(counts) < 2:
        return []
    [(largest, most)] = counts.most_common(1)
    small = {name: count for name, count in counts.items() if count * IMBALANCE <= most}
    shown = list(small.items())[:_SHOWN_CATEGORIES]
    listed = _("、").join(
        _("{name}（{count}行）").format(name=name, count=count) for name, count in shown
    )
    concerned = (example for example in examples if example.category in small)
    return findings_at("CATEGORY_IMBALANCE", concerned, largest=largest, count=most, small=listed)


def swapped(examples: Sequence[Example]) -> list[Finding]:
    """Whether most answers ask, and most of what they answer does not."""
    pairs = [
        (example.turns[-2].content, example.turns[-1].content)
        for example in examples
        if [turn.role for turn in example.turns[-2:]] == ["user", "assistant"]
    ]
    if len(pairs) < _ENOUGH_PAIRS:
        return []
    questions, answers = (
        sum(_ASKS.search(text) is not None for text in texts) for texts in zip(*pairs, strict=True)
    )
    if answers <= MOSTLY * len(pairs) or questions >= (1 - MOSTLY) * len(pairs):
        return []
    return [finding("ANSWERS_ASK", count=answers)]


def without_question(examples: Sequence[Example]) -> list[int]:
    """The indices of examples whose question is a date, a remark or the like, where few are."""
    hits = [
        at
        for at, example in enumerate(examples)
        if example.turns[0].role == "user" and leftovers.asks_nothing(example.turns[0].content)
    ]
    return hits if len(hits) <= FEW * len(examples) else []


def marked(examples: Sequence[Example]) -> list[Finding]:
    """Whether most questions or most answers have a mark before them (Q1. or A：)."""
    seen = examples[:: max(1, len(examples) // SAMPLE)]
    pairs = [[turn.content for turn in each.turns if turn.role in _PAIR] for each in seen]
    sides = zip(*(pair for pair in pairs if len(pair) == 2), strict=True)
    most = max((sum(map(leftovers.begins_with_mark, texts)) for texts in sides), default=0)
    if len(seen) < _ENOUGH_PAIRS or most < MOSTLY * len(seen):
        return []
    return [finding("CELL_MARKS", share=round(100 * most / len(seen)))]


def reasoning(examples: Sequence[Example]) -> list[Finding]:
    """What is learned where answers come with reasoning; the examples without it, where some are."""
    answered = [example for example in examples if example.turns[-1].role == "assistant"]
    without = [example for example in answered if not any(turn.reasoning for turn in example.turns)]
    count = len(answered) - len(without)
    if not count:
        return []
    if not without:
        return [finding("REASONING", count=count)]
    return findings_at("REASONING_MIXED", without, count=count, without=len(without))


@dataclass(frozen=True)
class _Check:
    code: str
    is_hit: Callable[[Example], bool]
    needs: int = 0
    """Flags of `characters` of which an example must have one; 0 stands for every example."""
    details: Callable[[Sequence[Example]], dict[str, str]] | None = None

    def hits(self, examples: Sequence[Example], flags: Flags, progress: StageProgress) -> list[int]:
        """The indices of the examples that the check is about."""
        candidates = np.flatnonzero(flags & self.needs) if self.needs else np.arange(len(flags))
        return [at for at in progress.over(candidates.tolist()) if self.is_hit(examples[at])]


def _any_text(test: Callable[[str], object]) -> Callable[[Example], bool]:
    return lambda example: any(test(text) for turn in example.turns for text in turn.texts)


def _any_turn(roles: tuple[str, ...], test: Callable[[Turn], bool]) -> Callable[[Example], bool]:
    return lambda example: any(test(turn) for turn in example.turns if turn.role in roles)


# --- examples that cannot be trained on --------------------------------------------------


@cache
def _is_bad_order(roles: tuple[str, ...], has_calls: bool) -> bool:
    """system first or never; then user and assistant in turn, tools in between; assistant last."""
    if roles[0] in ("text", "prompt"):
        return False
    speakers = [role for role in roles[roles[0] == "system" :] if role != "tool"]
    if not speakers or speakers[0] != "user" or roles[-1] != "assistant" or "system" in speakers:
        return True
    # After a tool's result the assistant speaks again.
    return not has_calls and any(a == b for a, b in pairwise(speakers))


def _is_empty(turn: Turn) -> bool:
    return not turn.content.strip() and not turn.has_calls


_ASKING = ("user", "prompt", "text")
_ANSWERING = ("assistant", "chosen", "rejected")
_SAID = (*_ASKING, *_ANSWERING)
_PAIR = ("user", "assistant")


_ERRORS = (
    _Check("EMPTY_QUESTION", _any_turn(_ASKING, _is_empty), needs=characters.BLANK),
    _Check("EMPTY_ANSWER", _any_turn(_ANSWERING, _is_empty), needs=characters.BLANK),
    _Check(
        "ROLE_ORDER",
        lambda example: (
            (roles := tuple([turn.role for turn in example.turns])) != _PAIR
            and _is_bad_order(
                roles, any(turn.has_calls or turn.role == "tool" for turn in example.turns)
            )
        ),
    ),
    _Check("MOJIBAKE", _any_text(is_mojibake), needs=characters.SUSPECT),
    _Check(
        "SPREADSHEET_ERROR",
        _any_turn(_SAID, lambda turn: leftovers.is_spreadsheet_error(turn.content)),
        characters.MARK | characters.SHORT,
    ),
    _Check(
        "SAME_ANSWERS",
        lambda example: (
            example.turns[0].role == "prompt"
            and example.turns[1].content.split() == example.turns[2].content.split()
        ),
    ),
    _Check(
        "REASONING_UNCLOSED",  # closed reasoning was put apart when the record was read
        _any_turn(
            _ANSWERING,
            lambda turn: (
                turn.content.lstrip().startswith(TAG.opening) and TAG.closing not in turn.content
            ),
        ),
        characters.MARK,
    ),
)


# --- examples that deserve a look --------------------------------------------------------


def _repeats_question(example: Example) -> bool:
    """Whether an answer says no more than what it answers."""
    for asked, answer in pairwise(example.turns):
        is_answered = asked.role in ("user", "prompt") and answer.role in ("assistant", "chosen")
        if is_answered and _says_the_same(asked.content, answer.content):
            return True
    return False


def _says_the_same(asked: str, answer: str) -> bool:
    # The cheap test first: comparing letters alone takes a hundred times as long.
    if asked[:1] != answer[:1] or abs(len(asked) - len(answer)) > max(4, len(asked) // 4):
        return False
    letters = ("".join(filter(str.isalnum, text)) for text in (asked, answer))
    short, long = sorted(letters, key=len)
    return short == long or (
        len(short) >= 8 and long.startswith(short) and len(long) - len(short) <= 4
    )


def _answers_with_made_date(example: Example) -> bool:
    """Whether an answer is a date that a spreadsheet made."""
    return any(
        answer.role in _ANSWERING and traces.is_made_date(asked.content, answer.content)
        for asked, answer in pairwise(example.turns)
    )


def _foreign(text: str) -> str:
    return "" if text.isascii() and len(text) < 15 else foreign_language(text)


def _languages(examples: Sequence[Example]) -> dict[str, str]:
    counts = Counter(
        name for example in examples for turn in example.turns if (name := _foreign(turn.content))
    )
    return {"languages": _("、").join(_(name) for name, __ in counts.most_common())}


def _kinds_of_personal_data(examples: Sequence[Example]) -> dict[str, str]:
    counts = Counter(
        item.kind
        for example in examples
        for turn in example.turns
        for text in turn.texts
        for item in personal_data(text)
    )
    listed = (
        _("{kind} {count}件").format(kind=_(KINDS_JA[kind]), count=count)
        for kind, count in counts.most_common()
    )
    return {"kinds": _("、").join(listed)}


_WARNINGS = (
    _Check("ANSWER_REPEATS_QUESTION", _repeats_question),
    _Check(
        "REASONING_UNOPENED",
        _any_turn(
            _ANSWERING,
            lambda turn: TAG.closing in turn.content and TAG.opening not in turn.content,
        ),
        characters.MARK,
    ),
    _Check(
        "CONTROL_CHARACTER",
        _any_text(lambda text: any(map(is_control, text))),
        needs=characters.CONTROL,
    ),
    _Check("ZERO_WIDTH", _any_text(characters.has_invisible), characters.ZERO_WIDTH),
    _Check("HIDDEN_TEXT", characters.hides_text, characters.ZERO_WIDTH),
    _Check(
        "PLACEHOLDER",
        _any_turn(_SAID, lambda turn: leftovers.stands_for_nothing(turn.content)),
        characters.SHORT,
    ),
    _Check(
        "SEE_OTHER",
        _any_turn(_SAID, lambda turn: leftovers.points_elsewhere(turn.content)),
        characters.SHORT,
    ),
    _Check(
        "CUT_OFF",
        _any_turn(_ANSWERING, lambda turn: leftovers.is_cut_off(turn.content)),
        characters.ENDS_SHORTENED | characters.LONG,
    ),
    _Check(
        "PAGE_NUMBER",
        _any_turn(_ANSWERING, lambda turn: leftovers.has_page_number(turn.content)),
        characters.LINE_END,
    ),
    _Check(
        "EMBEDDED_DATA",
        _any_turn(_SAID, lambda turn: leftovers.has_embedded_data(turn.content)),
        characters.SEMICOLON | characters.LONG,
    ),
    _Check(
        "SPEAKER_IN_TEXT",
        _any_turn(
            ("user", "assistant", "prompt"), lambda turn: leftovers.names_speakers(turn.content)
        ),
        characters.LINE_END | characters.MARK,
    ),
    _Check(
        "FORMULA",
        _any_turn(_SAID, lambda turn: leftovers.is_formula(turn.content)),
        characters.MARK,
    ),
    _Check(
        "ROUNDED_NUMBER",
        _any_turn(_SAID, lambda turn: leftovers.is_rounded_number(turn.content)),
        characters.SHORT,
    ),
    _Check(
        "REFUSAL",
        _any_turn(("assistant", "chosen"), lambda turn: leftovers.is_refusal(turn.content)),
        characters.REFUSING,
    ),
    _Check("MADE_DATE", _answers_with_made_date, characters.SHORT),
    _Check("FILL_IN", _any_text(traces.has_fill_in), characters.TRACE),
    _Check("REVIEW_MARK", _any_text(traces.has_review_mark), characters.TRACE),
    _Check("LOST_LETTER", _any_text(traces.has_lost_letter), characters.TRACE),
    _Check("RADICAL", _any_text(traces.has_radical), characters.TRACE),
    _Check("SPACED_LETTERS", _any_text(traces.is_spaced)),
    _Check("ESCAPED_TEXT", _any_text(leftovers.has_escaped_text), characters.MARK),
    _Check("HTML", _any_text(leftovers.has_markup), characters.MARK),
    _Check("CHAT_MARKUP", _any_text(leftovers.has_chat_markup), characters.MARK),
    _Check("EXCEL_ESCAPE", _any_text(leftovers.has_spreadsheet_escape), characters.MARK),
    _Check("CONTROL_TOKEN", _any_text(leftovers.has_control_token), characters.MARK),
    _Check("HALF_WIDTH_KANA", _any_text(re.compile("[｡-ﾟ]").search), characters.HALF_KANA),
    _Check("MIXED_WIDTH", _any_text(has_mixed_width), characters.FULL_ALNUM),
    _Check("EDGE_SPACE", _any_text(lambda text: text[-1:].isspace()), characters.ENDS_IN_SPACE),
    _Check("NOT_JAPANESE", _any_text(_foreign), characters.NO_KANA, _languages),
    _Check(
        "PERSONAL_DATA",
        _any_text(personal_data),
        characters.DIGITS | characters.AT_SIGN,
        _kinds_of_personal_data,
    ),
)
