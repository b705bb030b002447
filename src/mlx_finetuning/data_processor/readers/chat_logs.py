"""Logs of people's chats (LINE, Slack, Teams, Discord, WhatsApp, transcripts) as a table of messages, or
as conversations once it is said whose words the model shall learn.

Nobody can tell from a log which side is to be learned, so without that choice its messages stay plain
text, and that is said.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.column_names import NameMatch, is_person, key, name_match
from mlx_finetuning.data_processor.readers.flat_messages import ID_NAMES, LOG_FORMAT
from mlx_finetuning.data_processor.readers.tables import Record, Table
from mlx_finetuning.data_processor.values import parts_text
from mlx_finetuning.errors import InvalidSettings
from mlx_finetuning.language import N_, _

TIME, SPEAKER, TEXT, PART = "日時", "話し手", "本文", "会話番号"
_DAY_S = 86400
_FEWEST = 3
"""Messages from which on something is a log."""
_MOST_SPEAKERS = 200
_SHOWN_SPEAKERS = 8

_DATE = r"\d{1,4}[./年-]\s?\d{1,2}[./月-]\s?\d{1,4}日?"
_DAY = rf"(?:{_DATE}|\d{{1,2}}/\d{{1,2}})"
"""Teams leaves the year out."""
_CLOCK = r"(?:(?:午前|午後|[AaPp][Mm])\s?)?\d{1,2}:\d{2}(?::\d{2})?(?:\s?[AaPp]\.?[Mm]\.?)?"
_TIME_LINE = re.compile(rf"(?:{_DAY}\s*(?:[(（][^)）]{{1,4}}[)）])?\s*)?{_CLOCK}")
"""A line that says when, and nothing else."""
_DAY_LINE = re.compile(
    rf"^(?:-+\s*)?(?:{_DATE}|[A-Z][a-z]{{2}}, {_DATE})(?:\s*[(（]?[日月火水木金土](?:曜日)?[)）]?|\s+[A-Z][a-z]+day)?(?:\s*-+)?$"
)
# One line that begins a message: when, who, what.
_STYLES = {
    "LINE": re.compile(rf"^(?P<time>{_CLOCK})\t(?P<who>[^\t]+)\t(?P<what>.*)$"),
    N_("LINE（PC）"): re.compile(rf"^(?P<time>{_CLOCK}) (?P<who>[^\s:：]+) (?P<what>.+)$"),
    N_("WhatsApp など"): re.compile(
        rf"^\[?(?P<time>{_DATE},?\s+{_CLOCK})\]?(?:\s+-)?\s+(?P<who>[^:：\t]{{1,40}})[:：]\s*(?P<what>.*)$"
    ),
    "Zoom": re.compile(
        rf"^(?P<time>{_CLOCK})\s+(?:開始|From)\s+(?P<who>.{{1,60}}?)\s+(?:に|から|[Tt]o)\s+[^:：]{{0,80}}[:：]\s*(?P<what>.*)$"
    ),
    "Discord": re.compile(
        rf"^(?P<who>\S[^:：\t]{{0,39}}?)\s+—\s+(?P<time>(?:{_DAY}\s+)?{_CLOCK})$"
    ),
    "IRC": re.compile(rf"^\[?(?P<time>{_CLOCK})\]?\s+<(?P<who>[^<>\s]{{1,40}})>\s*(?P<what>.*)$"),
    "Teams": re.compile(
        rf"^\[(?P<time>(?:{_DAY}\s+)?{_CLOCK})\]\s*(?P<who>[^:：\t]{{1,40}}?)(?:[:：]\s*(?P<what>.*))?$"
    ),
    "Slack": re.compile(rf"^(?P<who>\S[^:：\t]{{0,39}}?)\s+\[?(?P<time>{_CLOCK})\]?$"),
    N_("日時と名前の行"): re.compile(
        rf"^(?P<time>{_DATE}\s+{_CLOCK})\s+(?P<who>[^\s:：<>]{{1,20}}(?:\s[^\s:：<>]{{1,20}})?)$"
    ),
    N_("発言の記録"): re.compile(
        r"^(?!\d+\s?[:：．.])(?P<who>[^\s:：.。、「」]{1,12})\s?[:：．.]\s*(?P<what>\S.*)$"
    ),
}
_QUOTED = N_("台本")
_STYLES[_QUOTED] = re.compile(r"^(?P<who>[^\s「」『』:：。、]{1,12})\s?「(?P<what>[^「」]+)」$")
_CUE = re.compile(r"(?P<time>(?:\d+:)?\d{1,2}:\d{2})[.,]\d{3}\s+-->\s.*")
_VOICE = re.compile(r"<v(?:\.\S+)?\s+(?P<who>[^<>]{1,60})>(?P<what>.*)")
"""What stands above a caption of WebVTT, and who says it."""
_NUMBERED = re.compile("^([QqAaＱＡ問答])[0-9０-９]{1,4}$")
"""The sides of a list of questions, which count on (Q1, A1, Q2)."""
_NOISE = re.compile(
    r"^(?:\[(?:スタンプ|写真|動画|ボイスメッセージ|ファイル|連絡先|位置情報|アルバム|ノート|Sticker|Photo|Video|Voice message"
    r"|File|Contact)\]|☎.*|.*(?:メッセージの送信を取り消しました|がグループに参加しました|が退出しました"
    r"|unsent a message|has joined the channel|has left the channel)。?|<Media omitted>|)$"
)
_TIMES = frozenset(
    (
        *(
            "日時",
            "日付",
            "時刻",
            "送信日時",
            "投稿日時",
            "タイムスタンプ",
            "date",
            "time",
            "timestamp",
            "ts",
        ),
        *(
            "datetime",
            "createdat",
            "sentat",
            "createddatetime",
            "timestampms",
            "送信時刻",
            "送信日",
        ),
        *("createddate", "createtime", "createdate", "sendtime"),
        *("開始", "開始時刻", "開始秒", "start", "starttime", "投稿日"),
    )
)
_SPEAKERS = frozenset(
    (
        *(
            "話し手",
            "話者",
            "発言者",
            "送信者",
            "投稿者",
            "発話者",
            "名前",
            "氏名",
            "ユーザー名",
            "差出人",
        ),
        *("user", "username", "sender", "from", "author", "speaker", "name", "displayname"),
        *(
            "creator",
            "screenname",
            "fromname",
            "sendername",
            "送信者名",
            "発信者",
            "書き込み者",
            "speakerid",
            "interlocutorid",
            "participant",
            "participantid",
        ),
    )
)
_TEXTS = frozenset(
    "本文 メッセージ 発言 発言内容 発話 発話内容 台詞 utterance 内容 投稿 テキスト text message content body fulltext messagetext".split()
)


_BOTS = ("username", "bot_profile", "bot_id")
_SPEAKING = frozenset(
    "speaker 話者 話し手 発言者 発話者 speakerid interlocutorid participant participantid".split()
)
"""Names below which nothing else stands: such a table is a log without times, too."""


_DIRECTIONS = frozenset(
    "received sent incoming outgoing inbound outbound in out 受信 送信 着信 発信 inbox".split()
)
_SAMPLE = 200


class _Message(NamedTuple):
    row: int
    day: str
    """Of a log's day, or thread: a conversation does not go beyond it."""
    time: str
    speaker: str
    text: str


@dataclass(frozen=True)
class Log:
    """What people said."""

    kind: str
    """Japanese: what it looks like."""
    messages: tuple[_Message, ...]

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who spoke, the most frequent first."""
        counts = Counter(message.speaker for message in self.messages)
        return tuple(name for name, __ in counts.most_common())

    def table(self, assistant: str) -> Table:
        """A record per message, or with `assistant` one per conversation, that speaker's words as the
        answers. Raises InvalidSettings for a speaker that the log does not have."""
        if assistant and assistant not in self.speakers:
            named = _("、").join(self.speakers[:_SHOWN_SPEAKERS])
            problem = _(
                "assistant_speaker: 「{speaker}」という話し手はいません（{speakers}）。"
            ).format(speaker=assistant, speakers=named)
            raise InvalidSettings(problems=[problem])
        if assistant:
            return self._conversations(assistant)
        records: list[Record] = [
            (message.row, [message.time, message.speaker, message.text, message.day])
            for message in self.messages
        ]
        named = _("、").join(self.speakers[:_SHOWN_SPEAKERS])
        note = finding("CHAT_LOG", kind=_(self.kind), speakers=named, example=self.speakers[-1])
        return Table(LOG_FORMAT, (TIME, SPEAKER, TEXT, PART), records, (note,))

    def _conversations(self, assistant: str) -> Table:
        records: list[Record] = []
        turns: list[dict[str, str]] = []
        row, day = 0, ""

        def close() -> None:
            # Nobody asked for what opens a conversation, nobody answered what ends it.
            while turns and turns[0]["role"] == "assistant":
                turns.pop(0)
            while turns and turns[-1]["role"] == "user":
                turns.pop()
            if turns:
                records.append((row, [[*turns]]))
            turns.clear()

        for message in self.messages:
            if message.day != day or not turns:
                close()
                row, day = message.row, message.day
            role = "assistant" if message.speaker == assistant else "user"
            if turns and turns[-1]["role"] == role:
                turns[-1]["content"] += f"\n{message.text}"
            else:
                turns.append({"role": role, "content": message.text})
        close()
        note = finding("CHAT_LOG_TURNS", kind=_(self.kind), speaker=assistant, count=len(records))
        return Table(LOG_FORMAT, ("messages",), records, (note,))


def in_text(text: str) -> Log | None:
    """The log that a text file is, if it is one."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = _captions(lines) if text.startswith("WEBVTT") else _in_one_line(lines)
    written = sum(bool(line.strip()) for line in lines)
    # LINE on a PC leaves its first lines out where a part is copied, but not the days.
    is_line = text.startswith("[LINE]") or "保存日時" in text[:200]
    has_days = any(_DAY_LINE.match(line.strip()) for line in lines)
    for kind, style in _STYLES.items():
        begins = sum(style.match(line) is not None for line in lines)
        loose = kind in ("発言の記録", "LINE（PC）", _QUOTED)
        enough = 0.8 if loose and not is_line else 0.3
        if (
            begins < _FEWEST
            or begins < enough * written
            or (kind == "LINE（PC）" and not (is_line or has_days))
        ):
            continue
        messages = tuple(_messages(lines, style))
        log = Log(kind, messages)
        # A list of terms has a name a line; people who talk come again.
        if 2 <= len(log.speakers) <= max(2, len(messages) // 2):
            return log
    return None


def _in_one_line(lines: Sequence[str]) -> list[str]:
    """Messages whose name, time and words stand on lines of their own in Teams' form, line by line: the time
    below the name (Teams and Chatwork, copied), or below what was said. Other lines as they are."""
    bare = [line.strip() for line in lines]
    times = [at for at, line in enumerate(bare) if _TIME_LINE.fullmatch(line)]
    if len(times) < _FEWEST:
        return [*lines]
    above = [at - 1 for at in times]
    begins = [at for at in range(len(bare)) if bare[at] and (at == 0 or not bare[at - 1])]
    below = [max((each for each in begins if each < at), default=at) for at in times]
    for heads in (above, below):
        names = Counter(bare[at] for at in heads if at >= 0)
        # People who talk come again; what they say does not.
        if len(names) * 2 > len(times) or any(len(name) > 40 or not name for name in names):
            continue
        written = [*lines]
        for head, at in zip(heads, times, strict=True):
            first = min(head, at)
            written[head] = written[at] = ""
            who = bare[head].strip("[]【】:：")
            written[first] = f"[{bare[at]}] {who}:"
        return written
    return [*lines]


def _captions(lines: Sequence[str]) -> list[str]:
    """The captions of WebVTT in Teams' form, line by line; what stands around them becomes blank."""
    written, time = [], ""
    for line in lines:
        cue = _CUE.match(line.strip())
        voice = _VOICE.match(line.strip()) if time else None
        if cue:
            time = cue["time"]
        who, colon, what = (voice["who"], ":", voice["what"]) if voice else line.partition(": ")
        is_named = bool(time and colon and not cue)
        said = re.sub("</?[a-z][^<>]*>", "", what if is_named else line)
        written.append(f"[{time}] {who}: {said}" if is_named else said if time and not cue else "")
        if not line.strip():
            time = ""
    return written


def _messages(lines: Sequence[str], style: re.Pattern[str]) -> Iterator[_Message]:
    """Each message with the lines that go on from it, but stickers, calls and the like."""
    day, begun, body, block = "", None, [], 0
    starts = [at for at, line in enumerate(lines) if style.match(line)][1:]
    after_blank = sum(not lines[at - 1].strip() for at in starts)
    parts_by_blank = after_blank < 0.9 * len(starts)  # else they stand between any two
    for row, line in enumerate([*lines, ""], 1):
        match = style.match(line)
        is_day = match is None and _DAY_LINE.match(line.strip()) is not None
        if begun is not None and (match or is_day or row > len(lines)):
            text = "\n".join(body).strip()
            if text.count("\n") and text.startswith('"') and text.endswith('"'):
                text = text[1:-1].replace('""', '"')
            if not _NOISE.match(text):
                at, started, when, who = begun
                shown = when if when.startswith(started) or not when else f"{started} {when}"
                yield _Message(at, started, shown.strip(), who, text)
            begun = None
        if is_day:
            day = line.strip().strip("- ")
        elif match:
            parts = match.groupdict()
            when = parts.get("time") or ""
            if not when:  # a transcript: a blank line, or the next question, begins another one
                who = parts["who"]
                is_question = name_match(who, "question") is NameMatch.EXACT and not is_person(who)
                block += is_question or (parts_by_blank and not lines[row - 2].strip())
                day = str(block)
            dated = re.match(_DAY, when)
            who = _NUMBERED.sub(r"\1", parts["who"].strip())
            begun = (row, dated.group() if dated else day, when, who)
            body = [parts.get("what") or ""]
        elif begun is not None:
            body.append(line)


def in_table(table: Table) -> Log | None:
    """The log whose messages are a table's records, if it is one: a time, somebody, what was said."""
    if any(
        name_match(name, role) is NameMatch.EXACT and key(name) not in _SPEAKERS
        for name in table.columns
        for role in ("question", "answer")
    ):
        return None
    found = [
        next((at for at, name in enumerate(table.columns) if key(name) in names), None)
        for names in (_TIMES, _SPEAKERS, _TEXTS)
    ]
    when, who, what = found
    who = _direction(table) if who is None else who
    if who is None or what is None or len(table.records) < _FEWEST:
        return None
    if when is None and key(table.columns[who]) not in _SPEAKING:
        return None
    columns = {name: at for at, name in enumerate(table.columns)}
    parts = (at for name, at in columns.items() if name == "thread_ts" or key(name) in ID_NAMES)
    part = next(parts, None)
    messages = []
    for row, values in table.records:
        profile = values[columns["user_profile"]] if "user_profile" in columns else None
        speaker = _name(profile) or _name(values[who])
        for name in _BOTS:  # of Slack, where nobody wrote it
            speaker = speaker or (_name(values[columns[name]]) if name in columns else "")
        text = values[what]
        text = parts_text(text) if isinstance(text, dict | list) else text
        thread = values[part] if part is not None else None
        subtype = values[columns["subtype"]] if "subtype" in columns else None
        is_said = isinstance(text, str) and not _NOISE.match(text.strip())
        if speaker and is_said and subtype not in ("channel_join", "channel_leave"):
            time = "" if when is None else str(values[when] or "")
            # Slack counts seconds; elsewhere the day stands before the clock.
            is_seconds = re.fullmatch(r"\d{9,}(?:\.\d+)?", time)
            dated = re.match(_DAY, time)
            day = str(int(float(time)) // _DAY_S) if is_seconds else dated.group() if dated else ""
            messages.append(_Message(row, str(thread or day), time, speaker, str(text)))
    log = Log("Slack" if "ts" in columns else N_("チャット"), tuple(messages))
    many = max(2, min(_MOST_SPEAKERS, len(messages) // 2))
    return log if len(messages) >= _FEWEST and 2 <= len(log.speakers) <= many else None


def _direction(table: Table) -> int | None:
    """The column that says of each message whether it came or went, which tells two sides apart."""
    for at in range(len(table.columns)):
        cells = {str(values[at]).strip().casefold() for __, values in table.records[:_SAMPLE]}
        if len(cells) == 2 and cells <= _DIRECTIONS:
            return at
    return None


def _name(value: Any) -> str:
    """A speaker's name: a text, or the name in an object (Discord, Teams, Slack's profiles)."""
    if isinstance(value, dict):
        for name in ("display_name", "displayName", "real_name", "nickname", "name", "user"):
            inner = _name(value.get(name))
            if inner:
                return inner
        return ""
    return value.strip() if isinstance(value, str) else ""


def unfold(table: Table, assistant: str) -> tuple[Table, tuple[str, ...]]:
    """`table` and nobody, or its messages or conversations and who speaks in it."""
    log = in_table(table)
    if log is None:
        return table, ()
    made = log.table(assistant)
    notes: tuple[Finding, ...] = (*table.findings, *made.findings)
    return replace(made, findings=notes), log.speakers
