"""Tables that hold a question and its answer in one cell (Q：… A：…), as two columns."""

from __future__ import annotations

import re
from dataclasses import replace

from mlx_finetuning.data_processor.findings import finding
from mlx_finetuning.data_processor.readers.column_names import NameMatch, name_match
from mlx_finetuning.data_processor.readers.tables import Record, Table

_PAIR = re.compile(
    r"""(?xs) \A\s*
    (?:[【［\[](?:[QqＱ]|質問|問)\s?[0-9０-９]{0,4}[】］\]] | (?:[QqＱ]|質問|問)\s?[0-9０-９]{0,4}\s?[.．:：、)）]) \s*
    (?P<question>\S.*?)
    (?:[【［\[](?:[AaＡ]|回答|答え?)\s?[0-9０-９]{0,4}[】］\]]
      | (?<=[\s。？?！!])(?:[AaＡ]|回答|答え?)\s?[0-9０-９]{0,4}\s?[.．:：、)）]) \s*
    (?P<answer>\S.*) \Z"""
)
_MOST = 0.9
"""Share of a column's cells that are pairs, from which on it is one of pairs."""
_FEWEST = 3
_QUESTION, _ANSWER = "質問", "回答"


def unfold(table: Table) -> Table:
    """`table` itself, or with columns of questions and of answers in place of one that holds both."""
    if table.format in ("json", "jsonl", "text"):
        return table
    named = {
        name
        for name in table.columns
        if max(name_match(name, "question"), name_match(name, "answer")) >= NameMatch.HEAD
    }
    for at, column in enumerate(table.columns):
        cells = [str(values[at]) for __, values in table.records if values[at]]
        if named - {column} or len(cells) < _FEWEST:
            continue
        if sum(_PAIR.match(cell) is not None for cell in cells) >= _MOST * len(cells):
            return split(table, at)
    return table


def split(table: Table, at: int) -> Table:
    """The table with the pairs of a column apart; what is no pair is a question without an answer."""
    records: list[Record] = []
    for row, values in table.records:
        pair = _PAIR.match(str(values[at] or ""))
        sides = [pair["question"].strip(), pair["answer"].strip()] if pair else [values[at], None]
        records.append((row, [*values[:at], *sides, *values[at + 1 :]]))
    names = (*table.columns[:at], _QUESTION, _ANSWER, *table.columns[at + 1 :])
    note = finding("PAIRS_IN_CELLS", column=table.columns[at])
    return replace(table, columns=names, records=records, findings=(*table.findings, note))
