"""Tables of two answers with a verdict (response_a, response_b, winner), and of whole conversations that were
chosen and rejected, as a question with its chosen and its rejected answer."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import Any

from mlx_finetuning.data_processor.findings import finding
from mlx_finetuning.data_processor.readers.column_names import NAMES, NameMatch, key, name_match
from mlx_finetuning.data_processor.readers.json_records import are_messages
from mlx_finetuning.data_processor.readers.tables import Record, Table
from mlx_finetuning.data_processor.values import parsed

_SIDE = re.compile(
    r"(?P<base>response|answer|completion|output|reply|humanref|conversation|回答|応答|返答|出力)"
    r"(?P<side>[abAB012１２])"
)
_VERDICTS = frozenset(
    "winner preference preferred preferredresponse better betterresponse betterresponseid choice vote labels label "
    "勝者 勝ち 良い方 よい方 優れている方 好ましい方 選択 好み 評価 判定 優劣".split()
)
_FIRST = re.compile(
    r"(?:model|response|answer|回答|応答)?(?:a|first|left|甲)(?:>+b)?|(?:回答|応答)1"
)
_SECOND = re.compile(
    r"(?:model|response|answer|回答|応答)?(?:b|second|right|乙)(?:>+a)?|(?:回答|応答)2"
)
_POINTS = frozenset("scores ratings rewards points 点数 得点 評点".split())
_SPOKEN = re.compile(r"(?:\A|\n)\s*(?P<who>Human|Assistant): ?")


def unfold(table: Table) -> Table:
    """`table` itself, or with columns `prompt`, `chosen`, `rejected` in place of what tells them; of answers
    with a list of points beside them the best comes first."""
    judged = _judged(_best_first(table))
    keys = {key(name): at for at, name in enumerate(judged.columns)}
    is_asked = any(name_match(name, "question") >= NameMatch.HEAD for name in judged.columns)
    if not {"chosen", "rejected"} <= keys.keys() or is_asked:
        return judged
    records: list[Record] = []
    for row, values in judged.records:
        prompt, answers = _parted([values[keys[name]] for name in ("chosen", "rejected")])
        if prompt is None:
            return judged
        cells = [*values, prompt]
        for name, answer in zip(("chosen", "rejected"), answers, strict=True):
            cells[keys[name]] = answer
        records.append((row, cells))
    names = (*judged.columns, "prompt")
    # A conversation beside them says the same.
    kept = [at for at, name in enumerate(names) if key(name) not in NAMES["messages"]]
    return replace(
        judged,
        columns=tuple(names[at] for at in kept),
        records=[(row, [cells[at] for at in kept]) for row, cells in records],
    )


def _best_first(table: Table) -> Table:
    """The table with lists ordered by the points that stand beside them in another list, the most first."""
    pointed = next((at for at, name in enumerate(table.columns) if key(name) in _POINTS), None)
    if pointed is None:
        return table
    records: list[Record] = []
    for row, values in table.records:
        points, cells = values[pointed], list(values)
        if isinstance(points, list) and all(isinstance(each, int | float) for each in points):
            order = sorted(range(len(points)), key=lambda at: -points[at])
            for at, value in enumerate(values):
                if (
                    isinstance(value, list)
                    and len(value) == len(points)
                    and not are_messages(value)
                ):
                    cells[at] = [value[place] for place in order]
        records.append((row, cells))
    return replace(table, records=records)


def _judged(table: Table) -> Table:
    """The table with `chosen` and `rejected` for two answers and the verdict on them; ties left out."""
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for at, name in enumerate(table.columns):
        match = _SIDE.fullmatch(key(name))
        if match:
            found[match["base"]][match["side"]] = at
    sides = next((places for places in found.values() if len(places) == 2), None)
    verdicts = [at for at, name in enumerate(table.columns) if key(name) in _VERDICTS]
    flags = [
        at
        for side in ("winnermodela", "winnermodelb")
        for at, name in enumerate(table.columns)
        if key(name) == side
    ]
    if sides is None:
        return table
    keys = [key(name) for name in table.columns]
    scores = [keys.index(f"score{side}") for side in sorted(sides) if f"score{side}" in keys]
    if not verdicts and len(flags) != 2:
        if len(scores) != 2:
            return table
        flags = scores
    names, places = sorted(sides), [sides[side] for side in sorted(sides)]
    records: list[Record] = []
    ties: list[int] = []
    for row, values in table.records:
        if len(flags) == 2:
            points = [_points(values[at]) for at in flags]
            better = None if points[0] == points[1] else points.index(max(points))
        else:
            better = _better(values[verdicts[0]], names)
        if better is None:
            ties.append(row)
            continue
        records.append((row, [*values, values[places[better]], values[places[1 - better]]]))
    if not records:
        return table
    used = {*places, *(flags or verdicts[:1])}
    kept = [at for at in range(len(table.columns) + 2) if at not in used]
    columns = (*table.columns, "chosen", "rejected")
    first, second = (table.columns[at] for at in places)
    verdict = table.columns[(flags or verdicts)[0]]
    notes = [finding("COMPARED", first=first, second=second, verdict=verdict)]
    notes += [finding("TIE", ties)] if ties else []
    return replace(
        table,
        columns=tuple(columns[at] for at in kept),
        records=[(row, [cells[at] for at in kept]) for row, cells in records],
        findings=(*table.findings, *notes),
    )


def _points(value: Any) -> float:
    """A mark or a score as a number; nothing counts as none."""
    said = str(value).strip().casefold()
    try:
        return float({"true": 1, "false": 0}.get(said, said))
    except ValueError:
        return 0.0


def _better(verdict: Any, sides: list[str]) -> int | None:
    """Which of the two sides is the better one; None for a tie, or a verdict that nobody can read."""
    said = key(str(verdict)).removesuffix(".0").removesuffix("の方").removesuffix("が良い")
    if said in sides:
        return sides.index(said)
    if _FIRST.fullmatch(said) or (said == "1" and not sides[0].isdigit()):
        return 0  # SHP's label is 1 where A is preferred
    if _SECOND.fullmatch(said) or (said in ("0", "2") and not sides[0].isdigit()):
        return 1
    return None


def _parted(conversations: list[Any]) -> tuple[list[dict[str, str]] | None, list[Any]]:
    """What two conversations begin with, and how each ends; None where they do not begin alike."""
    turns = [_turns(value) for value in conversations]
    if not all(turns) or turns[0][:-1] != turns[1][:-1] or len(turns[0]) < 2:
        return None, []
    return turns[0][:-1], [[each[-1]] for each in turns]


def _turns(value: Any) -> list[Any]:
    """The messages of a cell: a list of them, its text, or the text of Anthropic's HH set."""
    if isinstance(value, str) and _SPOKEN.match(value):
        _, *parts = _SPOKEN.split(value)
        roles = {"Human": "user", "Assistant": "assistant"}
        return [
            {"role": roles[who], "content": text.strip()}
            for who, text in zip(parts[::2], parts[1::2], strict=True)
        ]
    if isinstance(value, str) and value.startswith("["):
        value = parsed(value)[0]
    return value if are_messages(value) else []
