"""Message trees (Open Assistant) as conversations: rows of single messages that name their parent,
or nested replies.

Of several answers to one message the best ranked is taken, so no question gets two; of several
questions each begins a conversation of its own. All of a tree forms one group.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from mlx_finetuning.data_processor.findings import finding
from mlx_finetuning.data_processor.readers.tables import Table

ASSISTANT = ("assistant", "gpt", "bot")
# The Japanese text of a translated set comes first.
_TEXTS = ("text_ja", "text", "content")


class _Node(NamedTuple):
    row: int
    role: str
    text: str
    rank: float
    parent: str
    tree: str


def unfold(table: Table) -> Table:
    """`table` itself, or one row per conversation if it holds message trees."""
    columns = set(table.columns)
    if {"message_id", "parent_id", "role"} <= columns and columns & set(_TEXTS):
        return _conversations(table, _flat_nodes(table))
    if "prompt" in columns and any(_is_tree(value) for value in _column(table, "prompt")):
        return _conversations(table, dict(_nested_nodes(table)))
    return table


def _column(table: Table, name: str) -> Iterator[Any]:
    at = table.columns.index(name)
    return (values[at] for _, values in table.rows)


def _flat_nodes(table: Table) -> dict[str, _Node]:
    nodes = {}
    text_name = next(name for name in _TEXTS if name in table.columns)
    for row, values in table.rows:
        record = dict(zip(table.columns, values, strict=True))
        if record.get("deleted") in (True, "True", "true"):
            continue
        nodes[str(record["message_id"])] = _Node(
            row,
            str(record["role"]),
            str(record[text_name] or ""),
            _rank(record.get("rank")),
            str(record["parent_id"] or ""),
            str(record.get("message_tree_id") or ""),
        )
    return nodes


def _nested_nodes(table: Table) -> Iterator[tuple[str, _Node]]:
    for row, values in table.rows:
        root = dict(zip(table.columns, values, strict=True))["prompt"]
        waiting = [(root, "")] if _is_tree(root) else []
        while waiting:
            message, parent = waiting.pop()
            name = f"{row}:{id(message)}"
            role, rank = str(message.get("role", "")), _rank(message.get("rank"))
            yield name, _Node(row, role, str(message.get("text") or ""), rank, parent, str(row))
            waiting += [(reply, name) for reply in message.get("replies") or ()]


def _is_tree(value: Any) -> bool:
    return isinstance(value, dict) and "replies" in value and "text" in value


def _rank(value: Any) -> float:
    """The place among siblings, 0 the best; last if the message has none."""
    try:
        rank = float(value)
    except (TypeError, ValueError):
        return sys.float_info.max
    return rank if rank == rank else sys.float_info.max


def _conversations(table: Table, nodes: dict[str, _Node]) -> Table:
    """A row per path from a root to a last answer, by the order of those answers' rows."""
    replies: defaultdict[str, list[str]] = defaultdict(list)
    for name, node in nodes.items():
        replies[node.parent].append(name)
    lost = [
        node.row
        for parent, names in replies.items()
        if parent and parent not in nodes
        for node in (nodes[name] for name in names)
    ]
    paths = [path for root in replies[""] for path in _paths(root, nodes, replies)]
    rows = sorted(
        (_row_of([nodes[name] for name in path]) for path in paths), key=lambda row: row[0]
    )
    notes = [finding("TREES", messages=len(nodes), conversations=len(rows))]
    if lost:
        notes.append(finding("BAD_TREE", sorted(lost)))
    findings = (*table.findings, *notes)
    return replace(table, columns=("messages", "group"), rows=rows, findings=findings)


def _paths(
    root: str, nodes: dict[str, _Node], replies: dict[str, list[str]]
) -> Iterator[list[str]]:
    """Paths that end with an answer, without recursion: a tree may be deep."""
    waiting = [[root]]
    while waiting:
        path = waiting.pop()
        following = _followed(replies.get(path[-1], ()), nodes)
        going_on = [[*path, name] for name in following]
        if nodes[path[-1]].role in ASSISTANT and not any(
            replies.get(name) for name in following if nodes[name].role not in ASSISTANT
        ):
            yield path
        else:
            waiting += going_on


def _followed(names: Iterable[str], nodes: dict[str, _Node]) -> list[str]:
    """The best answer, and every question."""
    answers = [name for name in names if nodes[name].role in ASSISTANT]
    questions = [name for name in names if nodes[name].role not in ASSISTANT]
    return [*sorted(answers, key=lambda name: nodes[name].rank)[:1], *questions]


def _row_of(path: list[_Node]) -> tuple[int, list[Any]]:
    messages = [{"role": node.role, "content": node.text} for node in path]
    return path[-1].row, [messages, path[0].tree or f"tree{path[0].row}"]
