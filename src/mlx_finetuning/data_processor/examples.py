"""Records to examples: turns of text with their source row, category and group. Splits nothing,
drops nothing in silence: a record of which no example can be made becomes a finding."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from json.encoder import encode_basestring
from typing import Any

from mlx_finetuning.data_processor import leftovers
from mlx_finetuning.data_processor.chats import (
    NotAChat,
    Turn,
    answer_turn,
    chat_turns,
    history_turns,
)
from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.column_content import is_good
from mlx_finetuning.data_processor.readers.column_names import is_variant
from mlx_finetuning.data_processor.readers.columns import ColumnMap
from mlx_finetuning.data_processor.readers.json_records import are_messages
from mlx_finetuning.data_processor.readers.roles import ROLE_KEYS
from mlx_finetuning.data_processor.readers.tables import Table, cell_text
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.data_processor.values import is_plain, parsed
from mlx_finetuning.data_processor.values import read as read_cell
from mlx_finetuning.language import _
from mlx_finetuning.tokenization.reasoning import TAG

_SHOWN_REASONS = 4
_PAIR_IN_TEXT = re.compile(
    r"""(?mx)
    \A[\#>*\s-]{0,9} (?:[QAＱＡ]|質問|回答|問|答|User|Human|[Qq]uestion|[Ii]nstruction) [ ]?[0-9０-９]{0,4}\*{0,2} [.．:：)）] # Q1. …
    | \A[【［\[<＜] (?:[QAＱＡ]|質問|回答|問|答) [0-9０-９]{0,4} [】］\]>＞] # 【質問】
    | \A[■□●○◆◇▼★*]?(?:質問|回答|問|答) [0-9０-９]{0,4} [ \u3000\n]
    | \A[^\n]{4,80} (?:[?？]|か|ください|たい) 。? \n\s*\S | \A[^\n]{4,80}\n\s*(?:→|⇒) # the answer below
    | \A[-*+・][ ]?[^\n]{4,80}\n\s+[-*+・][ ]
    | \A[^\n→⇒]{4,80} (?:→|⇒) [^\n→⇒]{4,}$ # question → answer
    | \{\s*+[=~](?=[^{}]*+\}\s*+\Z) # Moodle's GIFT
    | \A(?:差出人|送信者|From)[ ]?[:：][^\n]*\n # a mail, with what it answers
    | <summary>
    | ^\#{2,3}[ ](?:Instruction|Input|Response|指示|応答|質問|回答)\b | <\|im_start\|> | \[INST\]
    | \A\|[^\n]*\|[ ]*\n\|[ :|-]+\|[ ]*$ # a table of Markdown
    """
)
"""Questions and answers that are written out as text."""


@dataclass(frozen=True, slots=True)
class Example:
    """What is learned from one record."""

    row: int
    """Of the source file; the header is 1."""
    turns: tuple[Turn, ...]
    category: str = ""
    group: str = ""
    source: str = ""
    """The file's name, where a dataset has several."""
    tools: tuple[Any, ...] = ()
    """What the assistant may call, as JSON schemas; handed to the chat template."""
    split: str = ""
    """`train`, `valid` or `test`, where the source says so."""
    times: int = 1
    """How often it is trained."""
    refusal: bool = False
    """It asks what the data does not answer, and says so."""
    is_wording: bool = False
    """It was added as another wording of a row."""
    is_desirable: bool | None = None
    """Of an answer that is marked as good or bad, and learned with its mark."""

    def to_row(self, group: str) -> dict[str, object]:
        """The row of a split's file."""
        if self.turns[0].role in ("text", "prompt"):
            fields: dict[str, object] = {turn.role: turn.content for turn in self.turns}
        else:
            fields = {"messages": [turn.to_message() for turn in self.turns]}
        if self.is_desirable is not None:
            fields["label"] = self.is_desirable
        if self.tools:
            fields["tools"] = list(self.tools)
        origin = {"source": self.source} if self.source else {}
        mark = {"refusal": True} if self.refusal else {}
        return {**fields, "row": self.row, "group": group, **origin, **mark}

    def to_line(self, group: str) -> str:
        """`to_row` as JSON; of a plain chat put together here, in a third of the time."""
        is_plain = self.is_desirable is None and not self.refusal and not self.tools
        is_chat = self.turns[0].role not in ("text", "prompt")
        if not (is_plain and is_chat) or any(turn.extra or turn.reasoning for turn in self.turns):
            return _encode(self.to_row(group))
        messages = ", ".join(
            [
                f'{{"role": "{turn.role}", "content": {encode_basestring(turn.content)}}}'
                for turn in self.turns
            ]
        )
        origin = f', "source": {encode_basestring(self.source)}' if self.source else ""
        return f'{{"messages": [{messages}], "row": {self.row}, "group": "{group}"{origin}}}'


_encode = json.JSONEncoder(ensure_ascii=False).encode


def findings_at(code: str, examples: Iterable[Example], **details: Any) -> list[Finding]:
    """One finding per source file in which the examples stand; none without examples."""
    rows: defaultdict[str, set[int]] = defaultdict(set)
    for example in examples:
        rows[example.source].add(example.row)
    return [
        replace(finding(code, sorted(numbers), **details), source=source)
        for source, numbers in sorted(rows.items())
    ]


def build(
    table: Table,
    columns: ColumnMap,
    system: str,
    source: str = "",
    progress: StageProgress = SILENT,
    several: str = "first",
) -> tuple[list[Example], list[Finding]]:
    """The examples of each record that can be one: usually one, more of several questions, or with
    `several` "all" of several answers. `columns.kind` is set; `system` goes first in chats that bring no
    system turn of their own."""
    builder = _Builder(table.columns, columns, system, several)
    examples: list[Example] = []
    noted: defaultdict[str, list[Example]] = defaultdict(list)
    unread: defaultdict[str, list[Example]] = defaultdict(list)
    for row, values in progress.over(table.records):
        pair = builder.plain_pair(values)
        if pair is not None:
            labels = (
                builder.text(values, "category").strip(),
                builder.text(values, "group").strip(),
            )
            examples.append(Example(row, pair, *labels, source))
            continue
        notes: set[str] = set()
        try:
            conversations = builder.conversations(values, notes)
            tools = builder.tools(values)
        except NotAChat as problem:
            unread[str(problem)].append(Example(row, (), source=source))
            continue
        for code in notes:
            noted[code].append(Example(row, (), source=source))
        category = builder.text(values, "category").strip()
        group = builder.text(values, "group").strip()
        if not group and builder.asks_several and len(conversations) > 1:
            group = f"{row}行目の聞き方"
        origin = (category, group, source, tools)
        is_desirable = builder.judgement(values) if columns.kind == "judged" else None
        examples += [
            Example(row, turns, *origin, is_desirable=is_desirable) for turns in conversations
        ]
    findings = _notes(noted, unread)
    if columns.kind == "text":
        pairs = [example for example in examples if _PAIR_IN_TEXT.search(example.turns[0].content)]
        if len(pairs) * 3 >= len(examples):
            findings += findings_at("PAIRS_IN_TEXT", pairs)
    if builder.asks_several:
        findings.append(finding("SEVERAL_QUESTIONS", columns=_("、").join(builder.asks_several)))
    return examples, findings


def _notes(noted: dict[str, list[Example]], unread: dict[str, list[Example]]) -> list[Finding]:
    """What was found while records were read: by code, and chats that are none with the reasons."""
    findings = [note for code, rows in noted.items() for note in findings_at(code, rows)]
    if unread:
        reasons = sorted(unread, key=lambda reason: -len(unread[reason]))
        first = [
            _("{reason}: {row}行目").format(reason=each, row=unread[each][0].row)
            for each in reasons[:_SHOWN_REASONS]
        ]
        if len(reasons) > len(first):
            first.append(_("ほか", "list"))
        listed = _("、").join(first)
        concerned = [each for rows in unread.values() for each in rows]
        findings += findings_at("BAD_CHAT", concerned, reason=listed)
    return findings


class _Builder:
    """Makes turns of a record's values, by the positions of the mapped columns."""

    def __init__(self, names: Sequence[str], columns: ColumnMap, system: str, several: str) -> None:
        self._positions = {
            choice.role: [names.index(name) for name in choice.columns]
            for choice in columns.choices
        }
        self._kind = columns.kind
        self._system = system
        self._takes_all = several == "all"
        questions = {c.role: c.columns for c in columns.choices}.get("question", ())
        answers = self._positions.get("answer", ())
        # 質問1 回答1 質問2 回答2: pairs by their number, not four ways to ask.
        self._is_paired = len(questions) > 1 and len(questions) == len(answers)
        self.asks_several = () if self._is_paired or len(questions) < 2 else questions
        # Other ways to ask may stand in one cell, a line each.
        self._in_lines = {names.index(name) for name in self.asks_several if is_variant(name)}
        """The columns that ask the same in other words."""

        is_plain_pair = (
            columns.kind == "chat"
            and {*self._positions} <= {"question", "answer", "category", "group"}
            and all(len(places) == 1 for places in self._positions.values())
            and not system.strip()
        )
        self._pair = (
            (self._positions["question"][0], self._positions["answer"][0])
            if is_plain_pair
            else None
        )

    def plain_pair(self, values: Sequence[Any]) -> tuple[Turn, Turn] | None:
        """The turns of a record that is a question and an answer in words, as nearly all are: what
        `conversations` gives, in a fifth of the time. None for others."""
        if self._pair is None:
            return None
        question, answer = values[self._pair[0]], values[self._pair[1]]
        if (
            is_plain(question)
            and is_plain(answer)
            and question.strip()
            and answer.strip()
            and TAG.opening not in answer
        ):
            return Turn("user", question), Turn("assistant", answer)
        return None

    def text(self, values: Sequence[Any], role: str) -> str:
        """The cell of a role; empty where no column plays it."""
        value = self._value(values, role)
        return value if isinstance(value, str) else cell_text(value)

    def judgement(self, values: Sequence[Any]) -> bool | None:
        """Whether the record's answer is marked as good or as bad; None where it is not."""
        return is_good(self._value(values, "desirable"))

    def tools(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """The tools of a chat. Raises NotAChat if the column holds something else than a list."""
        value = self._value(values, "tools") or []
        if isinstance(value, str):
            value = parsed(value)[0]
        if not isinstance(value, list):
            raise NotAChat(_("ツール（tools）がJSONの一覧ではありません"))
        return tuple(value)

    def conversations(self, values: Sequence[Any], notes: set[str]) -> list[tuple[Turn, ...]]:
        """The turns of each example; codes of what is to be said of the record go to `notes`.

        Raises NotAChat where the record is not of the kind that its columns promise. Nothing for a record
        that is marked as bad, or not to be learned.
        """
        judgement = self.judgement(values)
        if self._kind == "judged" and judgement is None:
            notes.add("UNJUDGED")
            return []
        if self._kind != "judged" and judgement is False:
            notes.add("UNDESIRABLE")
            return []
        if self._kind == "text":
            return [(Turn("text", self._texts([self._value(values, "text")], notes)[0]),)]
        if self._kind == "preference":
            return [self._preference(values, notes)]
        if "messages" in self._positions:
            value = self._value(values, "messages")
            if isinstance(value, str) and parsed(value)[1]:
                notes.add("PYTHON_TEXT")
            conversations = [chat_turns(value)]
        else:
            conversations = self._pairs(values, notes)
        for at, whole in enumerate(conversations):
            begins = next((place for place, turn in enumerate(whole) if turn.role == "user"), 0)
            if begins and any(turn.role == "assistant" for turn in whole[:begins]):
                # Most templates refuse a greeting before the first question.
                notes.add("GREETING")
                opening = whole[:1] if whole[0].role == "system" else ()
                conversations[at] = (*opening, *whole[begins:])
        for at, turns in enumerate(conversations):
            if not any(turn.extra for turn in turns):
                continue
            answers = [turn.is_trained for turn in turns if turn.role == "assistant"]
            if not all(answers):
                notes.add("UNTRAINED_TURN" if any(answers) else "UNTRAINED_ROW")
                # What follows the last answer that is learned leads to nothing.
                ends = [
                    end
                    for end, turn in enumerate(turns, 1)
                    if turn.role == "assistant" and turn.is_trained
                ]
                conversations[at] = turns[: max(ends, default=0)]
        conversations = [turns for turns in conversations if turns]
        system = self._beside(values, "system", notes) or self._system
        if not system.strip():
            return conversations
        return [
            turns if turns and turns[0].role == "system" else (Turn("system", system), *turns)
            for turns in conversations
        ]

    def _value(self, values: Sequence[Any], role: str) -> Any:
        return values[self._positions[role][0]] if role in self._positions else ""

    def _texts(self, cells: Iterable[Any], notes: set[str]) -> list[str]:
        """What the cells say, without blank texts; one blank text where they say nothing."""
        texts = []
        for value in cells:
            if is_plain(value):
                if value.strip():
                    texts.append(value)
                continue
            cell = read_cell(value)
            if cell.is_json:
                notes.add("JSON_TEXT")
            if cell.is_python:
                notes.add("PYTHON_TEXT")
            texts += [text for text in cell.texts if text.strip()]
        return texts or [""]

    def _beside(self, values: Sequence[Any], role: str, notes: set[str]) -> str:
        """What stands beside question and answer; nothing for words that stand for nothing."""
        if role not in self._positions:
            return ""
        text = "\n".join(self._texts([self._value(values, role)], notes))
        if not text.strip():
            return ""
        if leftovers.stands_for_nothing(text) or leftovers.is_spreadsheet_error(text):
            notes.add("NOTHING_BESIDE")
            return ""
        if leftovers.points_elsewhere(text):
            notes.add("SEE_OTHER_BESIDE")
        return text

    def _pairs(self, values: Sequence[Any], notes: set[str]) -> list[tuple[Turn, ...]]:
        """Questions with their answers, each with the turns before it."""
        asked: list[Any] = []
        for at in self._positions["question"]:
            cell = values[at]
            asked += cell.splitlines() if at in self._in_lines and is_plain(cell) else [cell]
        answered = [values[at] for at in self._positions["answer"]]
        history = history_turns(self._value(values, "history"))
        if self._is_paired:
            pairs = [
                (question, answer)
                for at, cell in enumerate(asked)
                for question in self._questions([cell], values, notes)
                for answer in self._answers([answered[at]], values, notes)
                if at == 0 or question[-1].content.strip() or answer[-1].content.strip()
            ]
        else:
            answers = self._answers(answered, values, notes)
            questions = self._questions(asked, values, notes)
            pairs = [(question, answer) for question in questions for answer in answers]
        return [(*history, *question, *answer) for question, answer in pairs]

    def _questions(
        self, cells: Sequence[Any], values: Sequence[Any], notes: set[str]
    ) -> list[tuple[Turn, ...]]:
        context = self._beside(values, "context", notes)
        behind = f"\n\n{context}" if context else ""
        if len(cells) == 1 and _holds_messages(cells[0]):
            *turns, last = chat_turns(cells[0])
            return [(*turns, last._replace(content=last.content + behind))]
        return [(Turn("user", text + behind),) for text in self._texts(cells, notes)]

    def _answers(
        self, cells: Sequence[Any], values: Sequence[Any], notes: set[str]
    ) -> list[tuple[Turn, ...]]:
        """The answers of the cells: the first, or all of them where they are asked for."""
        if len(cells) == 1 and _holds_messages(cells[0]):
            return [chat_turns(cells[0])]
        texts = self._texts(cells, notes)
        if len({*texts}) > 1:
            notes.add("SEVERAL_ANSWERS")
        thought = self.text(values, "reasoning")
        return [(answer_turn(text, thought),) for text in texts[: None if self._takes_all else 1]]

    def _preference(self, values: Sequence[Any], notes: set[str]) -> tuple[Turn, ...]:
        """Prompt, chosen and rejected answer: a text each or, as many sets have it, messages of
        which the last one counts. Raises NotAChat for a prompt of several turns."""
        turns = []
        system = self._beside(values, "system", notes) or self._system
        for column, role in (
            ("question", "prompt"),
            ("chosen", "chosen"),
            ("rejected", "rejected"),
        ):
            value = self._value(values, column)
            if _holds_messages(value):
                messages = chat_turns(value)
                if role == "prompt" and messages[0].role == "system":
                    system, messages = messages[0].content, messages[1:]
                if role == "prompt" and len(messages) != 1:
                    raise NotAChat(_("比較の質問（prompt）が、1つの発言ではありません"))
                text = messages[-1].content
            elif role == "prompt":
                text = self._questions([value], values, notes)[0][0].content
            else:
                text = self._texts([value], notes)[0]
            turns.append(Turn(role, text))
        # Behind the prompt, which tells such rows from chats.
        return (*turns, Turn("system", system)) if system.strip() else tuple(turns)


def _holds_messages(value: Any) -> bool:
    """Whether a cell holds a list of messages, or the text of one."""
    if isinstance(value, str):
        if not value.startswith("[{"):
            return False
        value = parsed(value)[0]
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and {*item} & {*ROLE_KEYS} for item in value)
        # Answers have authors, too.
        and ("role" in value[0] or "from" in value[0] or are_messages(value))
    )
