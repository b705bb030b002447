"""Files as people have them: which column is the answer, what records of other programs say, what is
named before it is learned. Each test is a kind of file, with its variations."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning.config import PrepareConfig, load
from mlx_finetuning.data_processor import Inspection, inspect, prepare, read_rows
from mlx_finetuning.data_processor.readers.columns import choose
from mlx_finetuning.errors import (
    ColumnsNotFound,
    HeaderMojibake,
    InvalidSettings,
    NoUsableRows,
    SourceMalformed,
)
from mlx_finetuning.mlx_trainer.batches.examples import conversations
from mlx_finetuning.workspace import Workspace
from support.facts import FACTS

QUESTIONS, ANSWERS = [q for q, _ in FACTS], [a for _, a in FACTS]
RECORDS = [{"質問": q, "回答": a} for q, a in FACTS]
Cells = list[list[Any]]


def table(header: str, *row: str) -> Cells:
    """A table by the forms of its cells: {q}, {a}, {n}."""
    filled = [[cell.format(q=q, a=a, n=n) for cell in row] for n, (q, a) in enumerate(FACTS, 1)]
    return [header.split(","), *filled]


def as_csv(rows: Cells) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def as_jsonl(records: list[Any]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def looked_at(folder: Path, name: str, text: str, **settings: Any) -> Inspection:
    source = folder / name
    source.write_text(text, encoding="utf-8")
    return inspect(source, config=load(PrepareConfig, settings))


def rows_of(folder: Path, name: str, text: str, **settings: Any) -> list[dict[str, Any]]:
    """The rows that are written of a file, in its order."""
    (folder / name).write_text(text, encoding="utf-8")
    paths = Workspace(folder).dataset("d")
    prepare(folder / name, "d", paths, load(PrepareConfig, settings), replace=True)
    rows = [row for split in ("train", "valid", "test") for row in read_rows(paths.split(split))]
    return sorted(rows, key=lambda row: int(row["row"]))


def said(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in row["messages"]]


def pairs(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["messages"][-2]["content"], row["messages"][-1]["content"]) for row in rows]


def codes(found: Inspection) -> dict[str, tuple[int, ...]]:
    return {item.code: item.rows for item in found.findings}


def pairs_of(folder: Path, name: str, text: str) -> list[tuple[str, ...]]:
    """What is said in each row, without who says it."""
    return [tuple(words for _, words in said(row)) for row in rows_of(folder, name, text)]


# --- columns -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "row", "question", "answer"),
    [
        (
            "受付番号,問い合わせ内容,回答日時,回答者,対応",
            ("{n:04}", "{q}", "2024/05/0{n} 10:00", "担当{n}", "{a}"),
            *("問い合わせ内容", "対応"),
        ),
        (
            "タイムスタンプ,ご質問をお書きください,担当からの回答,回答の公開可否",
            ("2024/05/0{n} 9:00", "{q}", "{a}", "可"),
            *("ご質問をお書きください", "担当からの回答"),
        ),
        (
            "回答者,回答日,回答済み,お問合せ,当館の回答",
            ("田中", "5/{n}", "済", "{q}", "{a}"),
            *("お問合せ", "当館の回答"),
        ),
        (
            "question_id,answered_at,answer_id,question_text,best_answer",
            ("{n}", "2024-05-0{n}", "{n}", "{q}", "{a}"),
            *("question_text", "best_answer"),
        ),
        (
            "Ticket,Inquiry,Response Time,Responder,Resolution",
            ("T-{n}", "{q}", "{n}0", "Sato", "{a}"),
            *("Inquiry", "Resolution"),
        ),
        ("質問,回答,回答内容", ("{q}", "済", "{a}"), "質問", "回答内容"),
        ("Name,回答,更新日", ("{q}", "{a}", "5/{n}"), "Name", "回答"),
        ("記事本文,要約文", ("{a}{a}{a}", "{a}"), "記事本文", "要約文"),
        (
            "区分,質問内容／要望,回答内容／対応",
            ("A", "{q}", "{a}"),
            "質問内容／要望",
            "回答内容／対応",
        ),
        ("ユーザー発話,ボット応答", ("{q}", "{a}"), "ユーザー発話", "ボット応答"),
        ("トラブル内容,発生日,対処", ("故障その{n}", "5/{n}", "{a}"), "トラブル内容", "対処"),
        ("回答状況,回答本文,質問", ("完了", "{a}", "{q}"), "質問", "回答本文"),
        ("AnsweredBy,AnswerText,QuestionText", ("a", "{a}", "{q}"), "QuestionText", "AnswerText"),
        ("Frage,Antwort", ("{q}", "{a}"), "Frage", "Antwort"),
        ("シツモン,カイトウ", ("{q}", "{a}"), "シツモン", "カイトウ"),
        ("Вопрос,Ответ", ("{q}", "{a}"), "Вопрос", "Ответ"),
        ("คำถาม,คำตอบ", ("{q}", "{a}"), "คำถาม", "คำตอบ"),
        ("お客様,オペレーター", ("{q}", "{a}"), "お客様", "オペレーター"),
        ("質問者の発言,回答者の発言", ("{q}", "{a}"), "質問者の発言", "回答者の発言"),
        (
            "customer_message,agent_name,agent_reply",
            ("{q}", "Mori", "{a}"),
            "customer_message",
            "agent_reply",
        ),
        ("日本語,英語", ("{q}", "{a}"), "日本語", "英語"),
        ("校正前,校正後", ("{q}", "{a}"), "校正前", "校正後"),
        ("pitanje,odgovor", ("{q}", "{a}"), "pitanje", "odgovor"),
        ("質問,当店より", ("{q}", "{a}"), "質問", "当店より"),
        ("うかがい,回答", ("{q}", "{a}"), "うかがい", "回答"),
    ],
)
def test_answer_is_the_column_with_the_answers(
    tmp_path: Path, header: str, row: tuple[str, ...], question: str, answer: str
) -> None:
    found = looked_at(tmp_path, "a.csv", as_csv(table(header, *row)))
    roles = {choice.role: choice.column for choice in found.mapping}
    assert (roles["question"], roles["answer"]) == (question, answer)
    assert found.usable_rows == len(FACTS)


@pytest.mark.parametrize(
    ("header", "cell"),
    [
        *(("質問,未回答", "0"), ("質問,回答者", "田中"), ("質問,回答日時", "2024/05/01")),
        *(("質問,回答の公開可否", "可"), ("質問,要回答", "要"), ("question,answered_at", "1")),
        *(("質問,回答済み", "済"), ("question,answer_id", "{n}"), ("質問,対応", "済")),
        *(("質問,回答の有無", "有"), ("質問,備考", "{a}"), ("question,response_time", "{n}")),
        *(
            ("質問,オペレーター", "森{n}郎"),
            ("sentence1,sentence2", "{a}"),
            ("日本語,中国語,英語", "{a}"),
        ),
    ],
)
def test_no_answer_column_is_better_than_a_wrong_one(
    tmp_path: Path, header: str, cell: str
) -> None:
    found = looked_at(tmp_path, "a.csv", as_csv(table(header, "{q}", cell)))
    assert found.kind is None
    assert "COLUMNS_NOT_FOUND" in codes(found)


def test_role_from_a_part_of_a_name_is_warned_of_and_whole_names_are_not(tmp_path: Path) -> None:
    part = looked_at(tmp_path, "a.csv", as_csv(table("質問,担当からの回答", "{q}", "{a}")))
    assert "COLUMN_DOUBTFUL" in codes(part)
    assert [choice.is_doubtful for choice in part.mapping] == [False, True]
    whole = looked_at(tmp_path, "b.csv", as_csv(table("ご質問,回答（必須）", "{q}", "{a}")))
    assert codes(whole) == {}


def test_two_columns_that_may_be_the_answer_are_named(tmp_path: Path) -> None:
    text = as_csv(table("質問,本部の回答,現場の回答", "{q}", "{a}", "{a}（現場）"))
    found = looked_at(tmp_path, "a.csv", text)
    (doubt,) = (item for item in found.findings if item.code == "COLUMN_DOUBTFUL")
    assert "現場の回答" in doubt.message


@pytest.mark.parametrize(
    "header", ["質問,回答1,回答2", "質問,回答①,回答②", "q,A1,A2", "質問,第1回答,第2回答"]
)
def test_first_of_several_answers_is_taken_or_all_of_them(tmp_path: Path, header: str) -> None:
    rows = [*table(header, "{q}", "{a}", "別の答え{n}"), ["館長は誰ですか", "", "森です。"]]
    expected = [*FACTS, ("館長は誰ですか", "森です。")]
    assert pairs(rows_of(tmp_path, "a.csv", as_csv(rows))) == expected
    assert "SEVERAL_ANSWERS" in codes(looked_at(tmp_path, "a.csv", as_csv(rows)))
    every = rows_of(tmp_path, "a.csv", as_csv(rows), several="all")
    assert len(every) == 2 * len(FACTS) + 1


@pytest.mark.parametrize("header", ["質問1,質問2,回答", "代表質問,言い換え1,回答"])
def test_several_questions_become_rows_of_one_group(tmp_path: Path, header: str) -> None:
    rows = table(header, "{q}", "{q}（言い換え{n}）", "{a}")
    written = rows_of(tmp_path, "a.csv", as_csv(rows))
    assert len(written) == 2 * len(FACTS)
    groups = {
        row["row"]: {each["group"] for each in written if each["row"] == row["row"]}
        for row in written
    }
    assert all(len(names) == 1 for names in groups.values())


def test_numbered_questions_with_numbered_answers_are_pairs(tmp_path: Path) -> None:
    rows = [["質問1", "回答1", "質問2", "回答2"], [*FACTS[0], *FACTS[1]], [*FACTS[2], "", ""]]
    assert pairs(rows_of(tmp_path, "a.csv", as_csv(rows))) == list(FACTS[:3])


def test_articles_are_named_and_become_pairs_by_choice(tmp_path: Path) -> None:
    rows = table("記事ID,タイトル,本文,公開状態", "{n}", "{q}", "{a}", "下書き")
    found = looked_at(tmp_path, "a.csv", as_csv(rows))
    assert {"ARTICLES", "DRAFT"} <= codes(found).keys()
    assert choose(rows[0], {"question": "タイトル"}).columns == {
        "question": "タイトル",
        "answer": "本文",
    }


# --- logs of people's chats ------------------------------------------------------------------

LINE = """[LINE] 田端とのトーク履歴
保存日時：2024/05/01 10:00

2024/04/30(火)
10:00\t田端\t青葉館は今日あいてる?
10:01\tわたし\t火曜は休みだよ
10:02\t田端\t[スタンプ]
10:03\tわたし\t☎ 通話時間 1:20

2024/05/01(水)
09:00\t田端\t"二行の
メッセージ"
09:01\tわたし\t了解
"""
SLACK = json.dumps(
    [
        {"type": "message", "user": f"U0{at % 2}", "text": text, "ts": f"{170000000 + at}.0001"}
        for at, text in enumerate(text for pair in FACTS for text in pair)
    ],
    ensure_ascii=False,
)
TEAMS = json.dumps(
    {
        "value": [
            {
                "messageType": "message",
                "createdDateTime": f"2024-05-01T10:0{at}:00Z",
                "from": {"user": {"displayName": ("田端", "青葉館")[at % 2]}},
                "body": {"contentType": "html", "content": text},
            }
            for at, text in enumerate(text for pair in FACTS for text in pair)
        ]
    },
    ensure_ascii=False,
)
WHATSAPP = "".join(
    f"2024/04/30, 10:0{n} - 田端: {q}\n2024/04/30, 10:0{n} - 青葉館: {a}\n"
    for n, (q, a) in enumerate(FACTS)
)
TRANSCRIPT = "".join(f"客：{q}\n店員：{a}\n\n" for q, a in FACTS)
SHEET = as_csv(
    [
        ["送信日時", "送信者", "メッセージ"],
        *(
            [f"2024/05/01 10:{at:02}", ("田端", "青葉館")[at % 2], text]
            for at, text in enumerate(text for pair in FACTS for text in pair)
        ),
    ]
)


COPIED = (
    "".join(
        f"田端 太郎\n2024/05/01 10:0{n}\n{q}\n[青葉館]\n2024/05/01 10:1{n}\n{a}\n"
        for n, (q, a) in enumerate(FACTS)
    ),
    "".join(
        f"田端 太郎\n{q}\n午前 10:0{n}\n\n青葉館\n{a}\n午前 10:1{n}\n\n"
        for n, (q, a) in enumerate(FACTS)
    ),
    "".join(
        f"2024/05/01 10:0{n} 田端\n{q}\n\n2024/05/01 10:1{n} 青葉館\n{a}\n\n"
        for n, (q, a) in enumerate(FACTS)
    ),
)
"""Of Teams and Chatwork: the time on a line of its own above or below what is said, or beside the name."""


@pytest.mark.parametrize(
    ("name", "text", "speaker", "count"),
    [
        *(
            ("a.txt", LINE, "わたし", 2),
            ("a.json", SLACK, "U01", 6),
            ("a.json", TEAMS, "青葉館", 6),
        ),
        *(("a.txt", WHATSAPP, "青葉館", 6), ("a.txt", TRANSCRIPT, "店員", 6)),
        ("a.csv", SHEET, "青葉館", 6),
        *(("a.txt", text, "青葉館", 6) for text in COPIED),
    ],
    ids=["LINE", "Slack", "Teams", "WhatsApp", "transcript", "sheet", "above", "below", "dated"],
)
def test_chat_log_is_named_and_becomes_conversations_by_choice(
    tmp_path: Path, name: str, text: str, speaker: str, count: int
) -> None:
    found = looked_at(tmp_path, name, text)
    assert found.kind == "text"
    assert "CHAT_LOG" in codes(found)
    assert speaker in found.speakers
    turned = rows_of(tmp_path, name, text, assistant_speaker=speaker)
    turns = [turn for row in turned for turn in said(row)]
    assert [role for role, _ in turns] == ["user", "assistant"] * count
    assert (("user", "二行の\nメッセージ") in turns) == (text == LINE)
    with pytest.raises(InvalidSettings):
        looked_at(tmp_path, name, text, assistant_speaker="いない人")


ZOOM = "".join(
    f"10:0{n}:01 From 田端 to Everyone:\n\t{q}\n10:0{n}:30 From 青葉館 to Everyone: {a}\n"
    for n, (q, a) in enumerate(FACTS)
)
TEAMS_PASTE = "".join(
    f"[11/{n} 10:00] 田端 太郎\n{q}\n[11/{n} 10:01] 青葉館\n{a}\n"
    for n, (q, a) in enumerate(FACTS, 1)
)
CAPTIONS = "WEBVTT\n\n" + "".join(
    f"{n}\n00:0{n}:01.000 --> 00:0{n}:04.000\n<v 田端>{q}</v>\n\n"
    f"00:0{n}:05.000 --> 00:0{n}:09.000\n<v 青葉館>{a}</v>\n\n"
    for n, (q, a) in enumerate(FACTS)
)
LINE_PC = "2025.11.01 土曜日\n" + "".join(
    f"10:0{n} 田端 {q}\n10:0{n} 青葉館 {a}\n" for n, (q, a) in enumerate(FACTS)
)
COUNTED = "".join(f"Q{n}. {q}\nA{n}. {a}\n\n" for n, (q, a) in enumerate(FACTS, 1))
TELEGRAM = json.dumps(
    {
        "name": "相談",
        "messages": [
            {"id": at, "date": f"2025-11-01T10:{at:02}:00", "from": who, "text": text}
            for at, (who, text) in enumerate(
                each
                for q, a in FACTS
                for each in (("田端", q), ("青葉館", [{"type": "bold", "text": a[:3]}, a[3:]]))
            )
        ],
    },
    ensure_ascii=False,
)


WHATSAPP_US = "".join(
    f"4/30/24, 10:0{n} AM - 田端: {q}\n4/30/24, 10:0{n} AM - 青葉館: {a}\n"
    for n, (q, a) in enumerate(FACTS)
)
IRC = "".join(f"[10:0{n}] <田端> {q}\n[10:0{n}] <青葉館> {a}\n" for n, (q, a) in enumerate(FACTS))
MESSENGER = json.dumps(
    {
        "participants": [{"name": "田端"}, {"name": "青葉館"}],
        "messages": [
            {
                "sender_name": ("田端", "青葉館")[at % 2],
                "timestamp_ms": 1714440000000 + at,
                "content": text,
            }
            for at, text in enumerate(text for pair in FACTS for text in pair)
        ],
    },
    ensure_ascii=False,
)
SPEAKERS = as_csv(
    [
        ["start", "end", "speaker", "text"],
        *(
            [at, at + 1, ("田端", "青葉館")[at % 2], text]
            for at, text in enumerate(text for pair in FACTS for text in pair)
        ),
    ]
)


@pytest.mark.parametrize(
    ("name", "text", "speaker"),
    [
        *(("a.txt", WHATSAPP_US, "青葉館"), ("a.txt", IRC, "青葉館")),
        *(("a.json", MESSENGER, "青葉館"), ("a.csv", SPEAKERS, "青葉館")),
        *(("a.txt", ZOOM, "青葉館"), ("a.txt", TEAMS_PASTE, "青葉館")),
        *(("a.txt", CAPTIONS, "青葉館"), ("a.txt", LINE_PC, "青葉館")),
        *(("a.txt", COUNTED, "A"), ("a.json", TELEGRAM, "青葉館")),
    ],
    ids=[
        "WhatsApp, American",
        "IRC",
        "Messenger",
        "speakers without times",
        "Zoom",
        "Teams, copied",
        "WebVTT",
        "LINE, copied",
        "Q1. A1.",
        "Telegram",
    ],
)
def test_whole_messages_of_a_log_are_kept(
    tmp_path: Path, name: str, text: str, speaker: str
) -> None:
    found = looked_at(tmp_path, name, text)
    assert len(found.speakers) == 2
    assert speaker in found.speakers
    assert ("CHAT_LOG" in codes(found)) == (text != COUNTED)
    turned = rows_of(tmp_path, name, text, assistant_speaker=speaker)
    turns = [text for row in turned for _, text in said(row)]
    assert turns == [text for pair in FACTS for text in pair]


@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_blank_lines_between_all_turns_part_nothing(tmp_path: Path, between: str) -> None:
    text = "".join(f"User: {q}{between}Assistant: {a}\n\n" for q, a in FACTS)
    assert len(rows_of(tmp_path, "a.txt", text)) == (6 if between == "\n" else 1)


def test_calls_of_a_table_stay_apart(tmp_path: Path) -> None:
    rows = [["通話ID", "開始秒", "話者", "テキスト"]]
    for n, (q, a) in enumerate(FACTS):
        rows += [[str(n), "1", "お客様", q], [str(n), "5", "オペレーター", a]]
    assert pairs(rows_of(tmp_path, "a.csv", as_csv(rows))) == list(FACTS)


def test_texts_with_clocks_and_colons_are_no_chat_log(tmp_path: Path) -> None:
    text = (
        "朝は10:00に開きます。\n\n注意：火気は使えません。\n\n名前：田端\n住所：東京\n備考：なし\n"
    )
    found = looked_at(tmp_path, "a.txt", text)
    assert (found.format, found.speakers) == ("text", ())


# --- records of other programs ----------------------------------------------------------------


def chat(*turns: tuple[str, Any], **extra: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text, **extra} for role, text in turns]}


Q, A = FACTS[0]
PAIR = [("user", Q), ("assistant", A)]


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        ({"instruction": Q, "output": [A, "別案"]}, PAIR),
        ({"question": Q, "context": "", "answers": {"text": [A], "answer_start": [0]}}, PAIR),
        ({"question": Q, "answers": [{"text": A, "answer_start": 0}]}, PAIR),
        (
            {
                "question": {"role": "user", "content": Q},
                "answer": {"role": "assistant", "content": A},
            },
            PAIR,
        ),
        (
            {
                "prompt": [{"role": "system", "content": "短く"}, {"role": "user", "content": Q}],
                "completion": [{"role": "assistant", "content": A}],
            },
            [("system", "短く"), *PAIR],
        ),
        (
            {"instruction": "何階？", "output": "1階", "history": [[Q, A]]},
            [*PAIR, ("user", "何階？"), ("assistant", "1階")],
        ),
        (
            {
                "instruction": "何階？",
                "output": "1階",
                "history": [{"role": "user", "content": Q}, {"role": "assistant", "content": A}],
            },
            [*PAIR, ("user", "何階？"), ("assistant", "1階")],
        ),
        (
            chat(*((role, [{"type": "text", "text": text}]) for role, text in PAIR)),
            PAIR,
        ),
        (chat(("developer", "短く"), *PAIR), [("system", "短く"), *PAIR]),
        (chat(("system", None), *PAIR), PAIR),
        (
            chat(("system", "短く"), ("assistant", "青葉館です。"), *PAIR),
            [("system", "短く"), *PAIR],
        ),
        (chat(*PAIR, ("user", None)), PAIR),
        (chat(("ユーザー", Q), ("アシスタント", A)), PAIR),
        ({"conversations": [{"from": "human", "value": Q}, {"from": "chatgpt", "value": A}]}, PAIR),
        ({"messages": [{"user": Q}, {"assistant": A}]}, PAIR),
        ({"messages": str(chat(*PAIR)["messages"])}, PAIR),
        (
            {
                "messages": f"[{{'content': '{Q}', 'role': 'user'}}\n"
                f" {{'content': '{A}', 'role': 'assistant'}}]"
            },
            PAIR,
        ),
        (
            {
                "question": Q,
                "answers": f"{{'text': array(['{A}'], dtype=object), 'answer_start': array([0])}}",
            },
            PAIR,
        ),
        ({"question": Q, "answer": [A[:3], {"type": "link", "text": A[3:]}]}, PAIR),
        ({"question": Q, "answer": {"text": A, "score": 0.9, "lang": "ja"}}, PAIR),
        ({"question": Q, "answer": json.dumps({"text": A, "score": 0.9})}, PAIR),
        ({"question": Q, "answer": [{"type": "text", "text": t} for t in (A[:3], A[3:])]}, PAIR),
        ({"system": [{"text": "短く"}], **chat(*PAIR)}, [("system", "短く"), *PAIR]),
        ({"system": ["短く"], "question": Q, "answer": A}, [("system", "短く"), *PAIR]),
        ({"instruction": Q, "input": "<noinput>", "output": A}, PAIR),
        (
            {
                "systemInstruction": {"parts": [{"text": "短く"}]},
                "contents": [
                    {"role": "user", "parts": [{"text": Q}]},
                    {"role": "model", "parts": [{"text": A}]},
                ],
            },
            [("system", "短く"), *PAIR],
        ),
        (
            {
                "name": "会話",
                "chat_messages": [
                    {"sender": "human", "text": Q, "content": [{"type": "text", "text": Q}]},
                    {"sender": "assistant", "text": A, "content": [{"type": "text", "text": A}]},
                ],
            },
            PAIR,
        ),
        (
            {
                "mapping": {
                    "r": {"message": None, "parent": None, "children": ["u"]},
                    **{
                        name: {
                            "parent": parent,
                            "children": children,
                            "message": {
                                "author": {"role": role},
                                "content": {"content_type": "text", "parts": [text]},
                            },
                        }
                        for name, parent, children, role, text in (
                            ("u", "r", ["v", "w"], "user", Q),
                            ("w", "u", [], "assistant", A),
                            ("v", "u", [], "assistant", "書き直す前の答え"),
                        )
                    },
                },
                "current_node": "w",
            },
            PAIR,
        ),
        ({"data": chat(*PAIR)}, PAIR),
        (
            {
                "request": chat(PAIR[0]),
                "response": {"choices": [{"message": {"role": "assistant", "content": A}}]},
            },
            PAIR,
        ),
        ({"input": chat(PAIR[0])["messages"], "ideal": A}, PAIR),
        ({"messages": [{"Role": "User", "Content": Q}, {"Role": "Assistant", "Content": A}]}, PAIR),
        (
            {
                "conversations": [
                    {"from": "human", "value": Q},
                    {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
                    {"from": "observation", "value": "9時"},
                    {"from": "gpt", "value": A},
                ]
            },
            [PAIR[0], ("assistant", ""), ("tool", "9時"), PAIR[1]],
        ),
        ({"instruction": Q, "input": "nan", "system": "NULL", "output": A}, PAIR),
        ({"translation": {"ja": Q, "en": A}}, PAIR),
        ({"id": 1, "qa": {"question": Q, "answer": A}}, PAIR),
        ({"question": Q, "answer": {"value": A, "aliases": ["別名"]}}, PAIR),
        ({"question": Q, "answers": [{"text": "低い", "score": 1}, {"text": A, "score": 7}]}, PAIR),
        (
            {
                "question": Q,
                "answers": [{"body": "別", "selected": False}, {"body": A, "selected": True}],
            },
            PAIR,
        ),
        ({"@type": "Question", "name": Q, "acceptedAnswer": {"@type": "Answer", "text": A}}, PAIR),
        ({"id": "1", "data": [Q, A]}, PAIR),
        ({"turns": [Q, "続けて"], "reference": [A]}, PAIR),
        ({"dialogue": [{"speaker": "USER", "text": Q}, {"speaker": "SYSTEM", "text": A}]}, PAIR),
        (
            {
                "messages": [
                    {"type": "human", "data": {"content": Q}},
                    {"type": "ai", "data": {"content": A}},
                ]
            },
            PAIR,
        ),
        ({"messages": [{"role": "user", "content": Q}], "completion": A}, PAIR),
        ({"input": chat(PAIR[0]), "output": {"role": "assistant", "content": A}}, PAIR),
        (
            {
                "messages": [
                    {"role": "user", "parts": [{"text": Q}]},
                    {"role": "model", "parts": [{"text": A}]},
                ]
            },
            PAIR,
        ),
        (
            {
                "data": {"question": Q},
                "annotations": [
                    {"was_cancelled": True, "result": []},
                    {
                        "result": [
                            {"from_name": "answer", "type": "textarea", "value": {"text": [A]}}
                        ]
                    },
                ],
            },
            PAIR,
        ),
    ],
)
def test_records_of_other_programs_say_what_they_mean(
    tmp_path: Path, record: dict[str, Any], turns: list[tuple[str, str]]
) -> None:
    (row,) = rows_of(tmp_path, "a.jsonl", as_jsonl([record]))
    assert said(row) == turns


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ('{"質問": "あ", "回答": NaN}', "EMPTY_ANSWER"),
        ('{"質問": "あ", "回答": -Infinity}', "EMPTY_ANSWER"),
        ('{"質問": NaN, "回答": "あ"}', "EMPTY_QUESTION"),
        ('{"instruction": "あ", "output": []}', "EMPTY_ANSWER"),
        ('{"instruction": "あ", "output": {}}', "EMPTY_ANSWER"),
        ('{"question": "あ", "answers": {"text": [], "answer_start": []}}', "EMPTY_ANSWER"),
        (as_jsonl([chat(("user", "あ"), ("assistant", " "), timestamp=1)]), "EMPTY_ANSWER"),
        (as_jsonl([chat(("user", ""), ("assistant", "い"), loss=True, id="1")]), "EMPTY_QUESTION"),
        (
            as_jsonl([chat(*(("user", "あ"), ("user", "い"), ("assistant", "う")), id="1")]),
            "ROLE_ORDER",
        ),
        ('{"instruction": "あ", "output": {"答え": "い", "根拠": null}}', "JSON_TEXT"),
        ('{"prompt": "あ", "chosen": "い", "rejected": " い\\n"}', "SAME_ANSWERS"),
        ('{"prompt": "あ", "chosen": "い", "rejected": "い", "system": "う"}', "SAME_ANSWERS"),
        (as_jsonl([chat(("user", "あ"), ("assistant", "い"), weight=0)]), "UNTRAINED_ROW"),
        ('{"question": "あ", "context": {"見出し": "い"}, "answer": "う"}', "JSON_TEXT"),
        ('{"question": "あ", "answer": [{"type": ["text"], "text": "い", "k": 1}]}', "JSON_TEXT"),
        ('{"instruction": "あ", "input": "#N/A", "output": "い"}', "NOTHING_BESIDE"),
        ('{"instruction": "あ", "input": "同上", "output": "い"}', "SEE_OTHER_BESIDE"),
    ],
)
def test_what_cannot_be_learned_as_it_stands_is_named(
    tmp_path: Path, record: str, code: str
) -> None:
    assert code in codes(looked_at(tmp_path, "a.jsonl", record))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", "".join(f"## Q{n}. {q}\n\nA. {a}\n\n" for n, (q, a) in enumerate(FACTS))),
        ("a.md", "| 質問 | 回答 |\n|---|:--|\n" + "".join(f"| {q} | {a} |\n" for q, a in FACTS)),
        ("a.jsonl", as_jsonl([{"text": f"### Instruction:\n{Q}\n\n### Response:\n{A}"}])),
    ],
)
def test_pairs_written_as_text_are_named(tmp_path: Path, name: str, text: str) -> None:
    found = looked_at(tmp_path, name, text)
    assert found.kind == "chat" or "PAIRS_IN_TEXT" in codes(found)


def test_headings_that_ask_are_questions(tmp_path: Path) -> None:
    text = "# 案内\n\n" + "".join(f"## Q{n}. {q}\n\n{a}\n\n" for n, (q, a) in enumerate(FACTS))
    assert pairs(rows_of(tmp_path, "a.md", text)) == list(FACTS)
    assert "QUESTION_HEADINGS" in codes(looked_at(tmp_path, "a.md", text))
    marked = "".join(f"### Q. 項目{n}\nA. {a}\n\n" for n, (_, a) in enumerate(FACTS))
    expected = [(f"項目{n}", a) for n, (_, a) in enumerate(FACTS)]
    assert pairs(rows_of(tmp_path, "c.md", marked)) == expected
    chapters = "# 規則\n\n" + "".join(
        f"## 第{n}章 総則\n\n{a}\n\n" for n, (_, a) in enumerate(FACTS)
    )
    assert looked_at(tmp_path, "b.md", chapters).kind == "text"


@pytest.mark.parametrize(
    "form",
    [
        *("【質問】{q}\n【回答】{a}\n\n", "■質問\n{q}\n■回答\n{a}\n\n", "問{n}　{q}\n答　{a}\n\n"),
        *("問題{n}．{q}\n正解　{a}\n", "- **Q:** {q}\n  **A:** {a}\n", "設問{n} {q}\n解答 {a}\n\n"),
    ],
)
def test_texts_under_marks_become_pairs(tmp_path: Path, form: str) -> None:
    text = "ご案内\n\n" + "".join(form.format(q=q, a=a, n=n) for n, (q, a) in enumerate(FACTS, 1))
    assert "MARKED_ROWS" in codes(looked_at(tmp_path, "a.txt", text))
    assert pairs_of(tmp_path, "a.txt", text) == [*FACTS]
    assert looked_at(tmp_path, "a.txt", text, header_row="0").kind == "text"


@pytest.mark.parametrize(
    "form",
    [
        *("{q} → {a}\n\n", "・{q}\n　→{a}\n\n", "{q}？\n{a}\n\n"),
        "差出人: 客{n}\n件名: 質問\n\n{q}\n\n> {a}\n\n",
        "::問{n}:: {q} {{\n={a}\n~違います\n}}\n\n",
    ],
)
def test_pairs_written_in_other_ways_are_named(tmp_path: Path, form: str) -> None:
    text = "".join(form.format(q=q, a=a, n=n) for n, (q, a) in enumerate(FACTS, 1))
    assert "PAIRS_IN_TEXT" in codes(looked_at(tmp_path, "a.txt", text))


@pytest.mark.parametrize(
    "text",
    [
        as_jsonl(RECORDS).replace("}\n", "},\n"),
        json.dumps(RECORDS, ensure_ascii=False, indent=1),
        "\n".join(json.dumps(each, ensure_ascii=False, indent=1) for each in RECORDS),
        "".join(json.dumps(json.dumps(each, ensure_ascii=False)) + "\n" for each in RECORDS),
        "".join(f"{each!r}\n" for each in RECORDS),
    ],
    ids=["commas", "a list", "over lines", "written twice", "Python"],
)
def test_json_lines_of_other_customs_are_read(tmp_path: Path, text: str) -> None:
    assert pairs(rows_of(tmp_path, "a.jsonl", text)) == list(FACTS)


def test_records_named_as_text_are_read(tmp_path: Path) -> None:
    assert pairs(rows_of(tmp_path, "a.txt", as_jsonl(RECORDS))) == list(FACTS)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "utf-7"])
def test_rare_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    rows = table("質問,回答", "{q}", "{a}")
    (tmp_path / "a.csv").write_bytes(as_csv(rows).encode(encoding))
    found = inspect(tmp_path / "a.csv")
    assert (found.encoding, found.usable_rows) == (encoding, len(FACTS))
    assert found.preview[0] == dict(zip(rows[0], rows[1], strict=True))


def test_sums_and_digests_are_no_utf7(tmp_path: Path) -> None:
    rows = [["question", "answer"], *([f"What is {n}+{n}+abcd?", f"+kLmN{n}/x-"] for n in range(9))]
    found = looked_at(tmp_path, "a.csv", as_csv(rows))
    assert (found.encoding, found.preview[0]["answer"]) == ("utf-8", "+kLmN0/x-")


TABLE_OF_PAGE = "<table><tr><th>質問</th><th>回答</th></tr>{}</table>"


@pytest.mark.parametrize(
    ("name", "page"),
    [
        (
            "a.html",
            "<h1>案内</h1><table><tr><td>ホーム</td></tr></table>"
            + TABLE_OF_PAGE.format("".join(f"<tr><td>{q}</td><td>{a}</td></tr>" for q, a in FACTS)),
        ),
        (
            "a.htm",
            f"<html><dl>{''.join(f'<dt>{q}</dt><dd>{a}</dd>' for q, a in FACTS)}</dl></html>",
        ),
        (
            "a.md",
            "# 案内\n\n| 質問 | 回答 |\n|:---|---:|\n"
            + "".join(f"| {q} | {a} |\n" for q, a in FACTS[:3])
            + "\n## 続き\n\n| 質問 | 回答 |\n|---|---|\n"
            + "".join(f"| {q} | {a} |\n" for q, a in FACTS[3:]),
        ),
    ],
    ids=["table", "list of terms", "Markdown"],
)
def test_pairs_of_a_page_are_read(tmp_path: Path, name: str, page: str) -> None:
    assert pairs(rows_of(tmp_path, name, page)) == list(FACTS)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (
            "'質問','回答'\n" + "".join(f"'{q}','{a}, \"it''s\"'\n" for q, a in FACTS),
            '{a}, "it\'s"',
        ),
        ("質問, 回答\n" + "".join(f'"{q}", "{a}, はい"\n' for q, a in FACTS), "{a}, はい"),
    ],
    ids=["single quotes", "spaces before quotes"],
)
def test_quotes_are_no_part_of_cells(tmp_path: Path, text: str, answer: str) -> None:
    assert pairs(rows_of(tmp_path, "a.csv", text)) == [(q, answer.format(a=a)) for q, a in FACTS]


SPOKEN = {"role": "assistant", "content": A}


@pytest.mark.parametrize(
    "record",
    [
        *(
            {"prompt": Q, "response_a": "さあ", "response_b": A, "winner": winner}
            for winner in ("model_b", "B", "response_b")
        ),
        {"質問": Q, "回答A": A, "回答B": "さあ", "良い方": "回答A"},
        {"prompt": Q, "response_0": "さあ", "response_1": A, "better_response_id": 1},
        {"instruction": Q, "output_1": "さあ", "output_2": A, "preference": 2},
        {"prompt": Q, "answer_0": A, "score_0": 1.0, "answer_1": "さあ", "score_1": -1.0},
        *(
            {"history": Q, "human_ref_A": A, "human_ref_B": "さあ", "labels": 1, "score_A": score}
            for score in (1, 9)
        ),
        {
            "prompt": Q,
            "response_a": A,
            "response_b": "さあ",
            "winner_model_a": 1,
            "winner_model_b": 0,
        },
        {
            "chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}",
            "rejected": f"\n\nHuman: {Q}\n\nAssistant: さあ",
        },
        {
            "chosen": chat(*PAIR)["messages"],
            "rejected": chat(PAIR[0], ("assistant", "さあ"))["messages"],
        },
        {
            "prompt": Q,
            "messages": chat(*PAIR)["messages"],
            "chosen": chat(*PAIR)["messages"],
            "rejected": chat(PAIR[0], ("assistant", "さあ"))["messages"],
        },
        {
            "conversations": [{"from": "human", "value": Q}],
            "chosen": {"from": "gpt", "value": A},
            "rejected": {"from": "gpt", "value": "さあ"},
        },
        {
            "input": {"messages": [{"role": "user", "content": Q}], "tools": []},
            "preferred_output": [SPOKEN],
            "non_preferred_output": [{**SPOKEN, "content": "さあ"}],
        },
    ],
)
def test_preferences_of_other_programs_are_compared(tmp_path: Path, record: dict[str, Any]) -> None:
    (row,) = rows_of(tmp_path, "a.jsonl", as_jsonl([record]))
    assert [row[name] for name in ("prompt", "chosen", "rejected")] == [Q, A, "さあ"]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": [{"role": "system", "content": "短く"}, {"role": "user", "content": Q}]},
        {"prompt": Q, "system": "短く"},
    ],
)
def test_preference_keeps_its_system_text(tmp_path: Path, record: dict[str, Any]) -> None:
    answers = {"chosen": [SPOKEN], "rejected": [{**SPOKEN, "content": "さあ"}]}
    (row,) = rows_of(tmp_path, "a.jsonl", as_jsonl([{**record, **answers}]))
    assert [row[name] for name in ("system", "prompt", "chosen")] == ["短く", Q, A]
    assert [turn["role"] for turn in conversations(row)[1]] == ["system", "user", "assistant"]


def test_ties_of_comparisons_are_named(tmp_path: Path) -> None:
    records = [
        {
            "prompt": q,
            "response_a": a,
            "response_b": "さあ",
            "winner": "tie" if n == 1 else "model_a",
        }
        for n, (q, a) in enumerate(FACTS)
    ]
    found = looked_at(tmp_path, "a.jsonl", as_jsonl(records))
    assert (codes(found)["TIE"], found.usable_rows) == ((2,), len(FACTS) - 1)


def test_system_text_of_the_settings_reaches_preferences(tmp_path: Path) -> None:
    record = {"prompt": Q, "chosen": A, "rejected": "さあ"}
    (row,) = rows_of(tmp_path, "a.jsonl", as_jsonl([record]), system="短く")
    assert row["system"] == "短く"


LISTED = f"{Q}\n\nA. 机\nB. {A}\nC. 空"


@pytest.mark.parametrize(
    "record",
    [
        *(
            {"問題": Q, "選択肢A": "机", "選択肢B": A, "選択肢C": "空", "正解": right}
            for right in ("B", "Ｂ", A)
        ),
        {"question": Q, "A": "机", "B": A, "C": "空", "answer": "B"},
        {"問題文": Q, "ア": "机", "イ": A, "ウ": "空", "正答": "イ"},
        {"設問": Q, "選択肢1": "机", "選択肢2": A, "選択肢3": "空", "解答番号": "2"},
        {"question": Q, "choice0": "机", "choice1": A, "choice2": "空", "label": 1},
        {"question": Q, "choices": ["机", A, "空"], "answer": 1},
        {
            "question": Q,
            "choices": {"text": ["机", A, "空"], "label": ["A", "B", "C"]},
            "answerKey": "B",
        },
        {"question": Q, "options": {"A": "机", "B": A, "C": "空"}, "answer": "B"},
    ],
)
def test_choices_stand_in_the_question_and_their_words_in_the_answer(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    (row,) = rows_of(tmp_path, "a.jsonl", as_jsonl([record]))
    assert said(row) == [("user", LISTED), ("assistant", f"B. {A}")]
    assert "CHOICES" in codes(looked_at(tmp_path, "a.jsonl", as_jsonl([record])))


def test_choices_that_nobody_can_count_are_doubted(tmp_path: Path) -> None:
    record = {"question": Q, "choices": ["机", A, "空"], "answer": 1}
    assert "CHOICES_COUNTED" in codes(looked_at(tmp_path, "a.jsonl", as_jsonl([record])))
    record = {"question": Q, "A": "机", "B": A, "C": "空", "answer": "E"}
    found = codes(looked_at(tmp_path, "a.jsonl", as_jsonl([record])))
    assert {"CHOICES_UNREAD", "EMPTY_ANSWER"} <= found.keys()


@pytest.mark.parametrize(
    ("column", "cells", "low"),
    [
        ("rating", (1, 5, 2, 4, 3, 5), (1, 3)),
        ("満足度", (0, 4, 3, 1, 2, 4), (1, 4)),
        ("score", (9, 3, 10, 8, 7, 2), (2, 6)),
        ("score", (0.1, 0.9, 0.5, 0.2, 0.3, 1.0), ()),
        ("rating", ("A", "B", "A", "C", "A", "B"), ()),
    ],
)
def test_low_rated_rows_are_named_and_can_be_dropped(
    tmp_path: Path, column: str, cells: tuple[Any, ...], low: tuple[int, ...]
) -> None:
    records = [
        {"質問": q, "回答": a, column: cell} for (q, a), cell in zip(FACTS, cells, strict=True)
    ]
    assert codes(looked_at(tmp_path, "a.jsonl", as_jsonl(records))).get("LOW_RATED", ()) == low
    kept = rows_of(tmp_path, "a.jsonl", as_jsonl(records), drop="low_rated")
    assert len(kept) == len(FACTS) - len(low)


def test_drafts_can_be_dropped(tmp_path: Path) -> None:
    rows = [
        *table("質問,回答,公開状態", "{q}", "{a}", "公開"),
        ["館長は誰ですか", "森です。", "下書き"],
    ]
    assert pairs(rows_of(tmp_path, "a.csv", as_csv(rows), drop="draft")) == list(FACTS)


def test_thinking_parts_are_reasoning(tmp_path: Path) -> None:
    parts = [{"type": "thinking", "thinking": "考え"}, {"type": "text", "text": A}]
    (row,) = rows_of(tmp_path, "a.jsonl", as_jsonl([chat(("user", Q), ("assistant", parts))]))
    assert said(row) == PAIR
    assert row["messages"][-1]["reasoning_content"] == "考え"


def test_unknown_role_is_named(tmp_path: Path) -> None:
    found = looked_at(tmp_path, "a.jsonl", as_jsonl([chat(("user", "あ"), ("reviewer", "い"))]))
    (bad,) = (item for item in found.findings if item.code == "BAD_CHAT")
    assert "reviewer" in bad.message


@pytest.mark.parametrize(
    "mark",
    [
        *({"weight": 0}, {"train": False}, {"loss": False}, {"weight": 0.0}),
        *({"mask": True}, {"trained": False}, {"loss_mask": 0}),
    ],
)
def test_marked_answer_is_kept_as_context(tmp_path: Path, mark: dict[str, Any]) -> None:
    record = chat(
        ("user", Q), ("assistant", "分かりません。"), ("user", "調べて"), ("assistant", A)
    )
    record["messages"][1] |= mark
    (row,) = rows_of(tmp_path, "a.jsonl", as_jsonl([record]))
    assert [turn.get("weight") for turn in row["messages"]] == [None, 0, None, None]


def judged(question: str, answer: str, label: str) -> list[dict[str, Any]]:
    return [
        {question: q, answer: a, label: n % 2 == 0 if label == "label" else "○×"[n % 2]}
        for n, (q, a) in enumerate(FACTS)
    ]


def test_rows_judged_bad_are_left_out_and_said(tmp_path: Path) -> None:
    records = judged("質問", "回答", "評価")
    found = looked_at(tmp_path, "a.jsonl", as_jsonl(records))
    assert (codes(found)["UNDESIRABLE"], found.kind) == ((2, 4, 6), "chat")
    assert found.usable_rows == 3
    trl = judged("prompt", "completion", "label")
    assert looked_at(tmp_path, "a.jsonl", as_jsonl(trl), goal="faq").usable_rows == 3
    categories = [{**record, "label": "施設"} for record in trl]
    assert looked_at(tmp_path, "a.jsonl", as_jsonl(categories)).usable_rows == 6
    only_good = [{**record, "label": True} for record in trl]
    assert looked_at(tmp_path, "a.jsonl", as_jsonl(only_good)).kind == "chat"


@pytest.mark.parametrize(
    ("names", "goal"),
    [(("prompt", "completion", "label"), "auto"), (("質問", "回答", "評価"), "preference")],
)
def test_judged_rows_keep_their_marks(
    tmp_path: Path, names: tuple[str, str, str], goal: str
) -> None:
    """TRL's unpaired preferences, and a table of ○ and × where preferences are to be learned."""
    records = judged(*names)
    records.append({**records[0], names[2]: records[1][names[2]]})  # good here, bad there
    found = looked_at(tmp_path, "a.jsonl", as_jsonl(records), goal=goal)
    assert (found.kind, found.goal, found.usable_rows) == ("judged", "preference", 7)
    assert not {"CONFLICT", "DUPLICATE", "UNDESIRABLE"} & set(codes(found))
    rows = rows_of(tmp_path, "a.jsonl", as_jsonl(records), goal=goal)
    assert [row["label"] for row in rows] == [n % 2 == 0 for n in range(6)] + [False]
    assert said(rows[1]) == [("user", QUESTIONS[1]), ("assistant", ANSWERS[1])]


def test_judged_rows_of_several_turns_and_without_a_mark(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "こんにちは"},
        {"role": "assistant", "content": "ご用件をどうぞ。"},
    ]
    records = [
        {
            "prompt": [*turns, {"role": "user", "content": q}],
            "completion": [{"role": "assistant", "content": a}],
            "label": n % 2 == 0,
        }
        for n, (q, a) in enumerate(FACTS)
    ]
    rows = rows_of(tmp_path, "a.jsonl", as_jsonl(records))
    assert said(rows[0])[1:3] == [("assistant", "ご用件をどうぞ。"), ("user", QUESTIONS[0])]
    assert [row["label"] for row in rows] == [n % 2 == 0 for n in range(6)]
    records[2]["label"] = None
    found = looked_at(tmp_path, "a.jsonl", as_jsonl(records))
    assert (codes(found)["UNJUDGED"], found.usable_rows) == ((3,), 5)


SHAPES: dict[str, Any] = {
    "columns": {
        name: {str(at): text for at, text in enumerate(texts)}
        for name, texts in (("質問", QUESTIONS), ("回答", ANSWERS))
    },
    "index": {str(at): record for at, record in enumerate(RECORDS)},
    "by id": {f"faq-{at}": record for at, record in enumerate(RECORDS)},
    "split": {
        "columns": ["質問", "回答"],
        "index": [*range(6)],
        "data": [[*pair] for pair in FACTS],
    },
    "table": {"schema": {"fields": [{"name": "質問"}]}, "data": RECORDS},
    "parts in columns": {
        "train": {"質問": QUESTIONS[:4], "回答": ANSWERS[:4]},
        "test": {"質問": QUESTIONS[4:], "回答": ANSWERS[4:]},
    },
    "data set parts": {"train": RECORDS[:4], "test": RECORDS[4:]},
    "by push id": {"faqs": {f"-N{at}": record for at, record in enumerate(RECORDS)}},
    "labelled": [
        {"id": at, "status": "completed", "fields": each, "responses": {"quality": []}, "meta": {}}
        for at, each in enumerate(RECORDS)
    ],
    "languages": [
        {"質問": {"ja": q, "en": "Where?"}, "回答": {"ja": [a], "en": ["Here."]}} for q, a in FACTS
    ],
    "export of chats": [
        {
            "uuid": str(at),
            "name": "会話",
            "chat_messages": [
                {"uuid": "1", "text": q, "sender": "human"},
                {"uuid": "2", "text": a, "sender": "assistant"},
            ],
        }
        for at, (q, a) in enumerate(FACTS)
    ],
    "lists": {"質問": QUESTIONS, "回答": ANSWERS},
    "values": [["質問", "回答"], *([*pair] for pair in FACTS)],
    "nested": {"result": {"items": RECORDS}},
    "map": dict(FACTS),
    "maps": [{q: a} for q, a in FACTS],
    "pairs": [[*pair] for pair in FACTS],
    "by category": {"館内": RECORDS[:2], "料金": RECORDS[2:]},
    "categories": {
        "groups": [{"name": "館内", "faqs": RECORDS[:2]}, {"name": "料金", "faqs": RECORDS[2:]}]
    },
    "maps by category": {"館内": dict(FACTS[:2]), "料金": dict(FACTS[2:])},
    "rows": {
        "rows": [{"row_idx": at, "row": each} for at, each in enumerate(RECORDS)],
        "features": [{"name": "質問"}],
    },
    "search hits": {
        "hits": {"total": {"value": 6}, "hits": [{"_id": "1", "_source": each} for each in RECORDS]}
    },
    "by question id": {f"Q{at}": record for at, record in enumerate(RECORDS)},
    "beside tags": {"faq": RECORDS, "tags": [{"id": 1, "name": "館内"}]},
    "squad": {
        "version": "2",
        "data": [
            {
                "title": "青葉館",
                "paragraphs": [
                    {
                        "context": "",
                        "qas": [
                            {"question": q, "answers": [{"text": a, "answer_start": 0}]}
                            for q, a in FACTS
                        ],
                    }
                ],
            }
        ],
    },
}


@pytest.mark.parametrize("index", ["{}", "row{}", "2026-04-{:02}"])
@pytest.mark.parametrize("orient", ["columns", "index"])
def test_tables_of_many_rows_are_read_in_the_orientations_of_pandas(
    tmp_path: Path, orient: str, index: str
) -> None:
    """So many sentences beside short names are no list of terms: the names number the rows."""
    facts = [(f"{at}番の窓口はどこですか", f"{at}番の窓口は{at}階です。") for at in range(1, 13)]
    by_index = {
        index.format(at): {"質問": question, "回答": answer}
        for at, (question, answer) in enumerate(facts, 1)
    }
    by_column = {name: {at: row[name] for at, row in by_index.items()} for name in ("質問", "回答")}
    text = json.dumps(by_index if orient == "index" else by_column, ensure_ascii=False)
    assert pairs(rows_of(tmp_path, "a.json", text)) == facts


@pytest.mark.parametrize("shape", SHAPES)
def test_json_in_other_shapes_gives_the_same_rows(tmp_path: Path, shape: str) -> None:
    text = json.dumps(SHAPES[shape], ensure_ascii=False, indent=1)
    assert pairs(rows_of(tmp_path, "a.json", text)) == list(FACTS)
    is_joined = "SPLITS_JOINED" in codes(looked_at(tmp_path, "a.json", text))
    assert is_joined == (shape in ("data set parts", "parts in columns"))


@pytest.mark.parametrize(
    "rows",
    [
        [
            ["区分", "内容"],
            *([side, text] for pair in FACTS for side, text in zip("QA", pair, strict=True)),
        ],
        [
            ["通話ID", "話者", "発話"],
            *(
                [n, side, text]
                for n, pair in enumerate(FACTS)
                for side, text in zip(("顧客", "オペレータ"), pair, strict=True)
            ),
        ],
        [
            ["会話ID", "ターン番号", "発言者", "発言内容"],
            *(
                [n, turn, side, pair[turn]]
                for turn, side in ((1, "回答者"), (0, "質問者"))
                for n, pair in enumerate(FACTS)
            ),
        ],
        [
            ["session_id", "speaker", "utterance"],
            *(
                [n, side, text]
                for n, pair in enumerate(FACTS)
                for side, text in zip(("user", "system"), pair, strict=True)
            ),
        ],
    ],
    ids=["Q and A", "call centre", "turn numbers", "a system that answers"],
)
def test_a_message_a_row_becomes_pairs(tmp_path: Path, rows: Cells) -> None:
    assert sorted(pairs(rows_of(tmp_path, "a.csv", as_csv(rows)))) == sorted(FACTS)


@pytest.mark.parametrize(
    "rows",
    [
        [row for n, (q, a) in enumerate(FACTS, 1) for row in ([f"Q{n}", q], [f"A{n}", a])],
        [row for q, a in FACTS for row in (["【質問】", q], ["【回答】", a], [])],
        [["よくある質問"], *([text] for q, a in FACTS for text in (f"Q：{q}", f"A：{a}"))],
        [row for n, (q, a) in enumerate(FACTS) for row in (["", f"問{n}", q], ["", f"答{n}", a])],
    ],
    ids=["Q1 A1", "in brackets", "one column", "second column"],
)
def test_rows_under_marks_become_pairs(tmp_path: Path, rows: Cells) -> None:
    assert pairs(rows_of(tmp_path, "a.csv", as_csv(rows))) == list(FACTS)
    assert "MARKED_ROWS" in codes(looked_at(tmp_path, "a.csv", as_csv(rows)))


def test_rows_that_go_on_belong_to_the_answer_above(tmp_path: Path) -> None:
    rows = [row for q, a in FACTS for row in (["Q", q], ["A", a], ["", "続きです。"])]
    wanted = [(q, f"{a}\n続きです。") for q, a in FACTS]
    assert pairs(rows_of(tmp_path, "a.csv", as_csv(rows))) == wanted


def test_fields_of_another_name_are_no_part_of_an_answer(tmp_path: Path) -> None:
    rows = [row for q, a in FACTS for row in (["質問", q], ["回答", a], ["担当", "森"])]
    assert "COLUMNS_NOT_FOUND" in codes(looked_at(tmp_path, "a.csv", as_csv(rows)))


@pytest.mark.parametrize("above", [[], [["青葉館の案内"], []]])
def test_table_on_its_side_is_turned_and_said(tmp_path: Path, above: Cells) -> None:
    rows = [*above, ["番号", *range(6)], ["質問", *QUESTIONS], ["回答", *ANSWERS]]
    assert pairs(rows_of(tmp_path, "a.csv", as_csv(rows))) == list(FACTS)
    assert "TRANSPOSED" in codes(looked_at(tmp_path, "a.csv", as_csv(rows)))


def test_one_conversation_alone_is_one_row(tmp_path: Path) -> None:
    turns = [
        {"role": role, "content": text}
        for pair in FACTS
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    for value in ({"messages": turns}, turns, {"id": 1, "conversations": turns}):
        (row,) = rows_of(tmp_path, "a.json", json.dumps(value, ensure_ascii=False, indent=1))
        assert len(row["messages"]) == 2 * len(FACTS)


def test_pandas_lists_in_a_csv_are_read_and_named(tmp_path: Path) -> None:
    rows = [
        ["", "messages"],
        *(
            [n, str(chat(("user", q), ("assistant", a))["messages"])]
            for n, (q, a) in enumerate(FACTS)
        ),
    ]
    assert pairs(rows_of(tmp_path, "a.csv", as_csv(rows))) == list(FACTS)
    assert "PYTHON_TEXT" in codes(looked_at(tmp_path, "a.csv", as_csv(rows)))


# --- dirt --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("html", "<p>9時から<br>開館&nbsp;&amp;&nbsp;案内</p>", "9時から\n開館 & 案内"),
        ("html", "<ul><li>一</li><li>二</li></ul>", "- 一\n- 二"),
        ("html", "<ol><li>一</li><li>二</li></ol>", "1. 一\n2. 二"),
        (
            "html",
            '詳しくは<a href="https://example.com/1">こちら</a>',
            "詳しくはこちら（https://example.com/1）",
        ),
        ("html", "x<3 かつ a<b、R&D、`<br>`", "x<3 かつ a<b、R&D、`<br>`"),
        ("html", "&lt;p&gt;は段落", "<p>は段落"),
        ("html", "9時から<!-- 注 -->[b]開館[/b]、<![CDATA[案内]]>&nbspへ", "9時から開館、案内 へ"),
        ("excel", "9時から_x000D_\n開館", "9時から\n開館"),
        ("excel", '="0001"', "0001"),
        ("excel", "snake_case_x1_", "snake_case_x1_"),
        ("control_tokens", "終わり<|im_end|>", "終わり"),
        (
            "zero_width",
            "旗🏴\U000e0067\U000e0062\U000e007f" + "".join(chr(0xE0000 + ord(c)) for c in "hi"),
            "旗🏴\U000e0067\U000e0062\U000e007f",
        ),
    ],
)
def test_clean_steps_keep_what_is_meant(tmp_path: Path, step: str, before: str, after: str) -> None:
    text = as_jsonl([{"質問": Q, "回答": before}])
    (row,) = rows_of(tmp_path, "a.jsonl", text, clean=step)
    assert row["messages"][-1]["content"] == after


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        *(
            (text, "SPREADSHEET_ERROR")
            for text in ("＃N/A", "#n/a", "#REF", "#DIV/0", "#スピル!", "#value!")
        ),
        *(
            (text, "PLACEHOLDER")
            for text in (
                "（例）ここに回答を記入",
                "こちらに入力してください",
                "ＮＡ",
                "準備中",
                "作成中",
                "未",
                "回答待ち",
                "（回答なし）",
            )
        ),
        *(
            (text, "SEE_OTHER")
            for text in ("別紙参照", "同じく", "3番目と同じです。", "別紙をご覧ください")
        ),
        *(
            (text, "FORMULA")
            for text in (
                "=VLOOKUP(A2,表!A:B,2,FALSE)",
                '=IF(B2="","",B2&"円")',
                "=Sheet1!$B$2",
                "＝B2",
            )
        ),
        *(
            (text, "REFUSAL")
            for text in (
                "申し訳ありませんが、その質問にはお答えできません。",
                "恐れ入りますが、こちらについては回答を差し控えさせていただきます。",
                "AI言語モデルとして、個人的な意見を持つことはできません。",
                "I'm sorry, but I can't assist with that.",
            )
        ),
        *((A + text, "HTML") for text in ("&nbsp", "<!-- 注 -->", "<![CDATA[x]]>", "[b]x[/b]")),
        (A + '<svg><path d="M0"/></svg>', "HTML"),
        *(
            (text, "CONTROL_TOKEN")
            for text in ("</s><s>はい", "はい</s>\n次", "<s>はい", "はい</s>")
        ),
        *(
            (text, "ESCAPED_TEXT")
            for text in (f"{A}\\n詳しくは受付へ。", "\\u5348\\u524d9時", "%E5%8D%88")
        ),
    ],
)
def test_what_other_programs_leave_is_named(tmp_path: Path, answer: str, code: str) -> None:
    assert code in codes(looked_at(tmp_path, "a.jsonl", as_jsonl([{"質問": Q, "回答": answer}])))


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "#python",
            "#value は見出しです。",
            "定価<s>500円</s>400円です。",
            "未来館です。",
            "R&D;部です。",
        ),
        *(
            "値段は\n<s>100円</s>\n80円です。",
            "改行は\\nです。",
            "AT&T社です。",
            "a[b]です。",
            "x&nbspace=1",
            'print("こんにちは\\n")と書きます。',
            "C:\\new です。",
        ),
        "https://example.com/%E5%8D%88%E5%89%8D を見てください。",
        *("`<!-- 注 -->`が注釈です。", "3番目の棚です。", "準備中の札を出します。"),
        *("=は等号です。", "=SUM(A1:A3) と入力します。", "=A1 のように書きます。"),
        *(
            "申し訳ございませんが、返品はお受けできません。",
            "AIの講座はありません。",
            "回答の期限は3日です。電話では答えられません。",
        ),
    ],
)
def test_what_is_meant_is_not_taken_for_dirt(tmp_path: Path, answer: str) -> None:
    found = codes(looked_at(tmp_path, "a.jsonl", as_jsonl([{"質問": Q, "回答": answer}])))
    assert found.keys() <= {"NOT_JAPANESE"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        *(("9時からです…続きを読む", "CUT_OFF"), ("We open at ... Read more", "CUT_OFF")),
        ("あ" * 32_767, "CUT_OFF"),
        ("data:image/png;base64,iVBORw0KGgo=", "EMBEDDED_DATA"),
        ("Human: 何時ですか\nAssistant: 9時です", "SPEAKER_IN_TEXT"),
        *(("該当なし", "PLACEHOLDER"), ("確認中です。", "PLACEHOLDER"), ("……", "PLACEHOLDER")),
        *(("XXXX", "PLACEHOLDER"), ("Q3をご覧ください。", "SEE_OTHER")),
        *(("読み込み中...", "SPREADSHEET_ERROR"), ("9時です。\\t以上", "ESCAPED_TEXT")),
        *(("3.11234E+09", "ROUNDED_NUMBER"), ("1E+12", "ROUNDED_NUMBER")),
    ],
)
def test_what_is_no_whole_answer_is_named(tmp_path: Path, answer: str, code: str) -> None:
    assert code in codes(looked_at(tmp_path, "a.jsonl", as_jsonl([{"質問": Q, "回答": answer}])))


@pytest.mark.parametrize("answer", ["3.11", "E+09", "4 E+10です", "1.5e3", "2E1"])
def test_other_numbers_have_lost_no_digits(tmp_path: Path, answer: str) -> None:
    text = as_jsonl([{"質問": Q, "回答": answer}])
    assert "ROUNDED_NUMBER" not in codes(looked_at(tmp_path, "a.jsonl", text))


ASKED = [f"{n}号室は{'何人まで泊まれますか' if n % 2 else 'どこにありますか？'}" for n in range(9)]
TOLD = [f"{n}人まで泊まれます。" for n in range(9)]


@pytest.mark.parametrize(
    ("questions", "answers", "is_told"),
    [
        (ASKED, TOLD, False),
        (TOLD, ASKED, True),
        (ASKED, [f"{one}とは、どういうことですか？" for one in TOLD], False),  # both ask
        (TOLD[:4], ASKED[:4], False),  # too few to say
    ],
)
def test_questions_in_the_place_of_answers_are_named(
    tmp_path: Path, questions: list[str], answers: list[str], is_told: bool
) -> None:
    rows = [{"質問": asked, "回答": told} for asked, told in zip(questions, answers, strict=True)]
    assert ("ANSWERS_ASK" in codes(looked_at(tmp_path, "a.jsonl", as_jsonl(rows)))) == is_told


@pytest.mark.parametrize(("written", "read"), [("utf-8", "latin-1"), ("euc-jp", "cp932")])
def test_a_garbled_header_is_called_so(tmp_path: Path, written: str, read: str) -> None:
    text = "よくある質問,その回答\n何時から？,9時からです。\n".encode(written).decode(
        read, "replace"
    )
    assert "HEADER_MOJIBAKE" in codes(looked_at(tmp_path, "a.csv", text))
    with pytest.raises(HeaderMojibake):
        rows_of(tmp_path, "a.csv", text)


@pytest.mark.parametrize("header", ["ﾅﾏｴ,ﾃﾞﾝﾜ", "ｺｰﾄﾞ,ｶｲｲﾝ", "réponse due,Größe", "名前,値段"])
def test_a_header_of_other_letters_is_not_called_garbled(tmp_path: Path, header: str) -> None:
    with pytest.raises(ColumnsNotFound):
        rows_of(tmp_path, "a.csv", f"{header}\nあ,い\n")


def test_quotes_that_swallow_the_answers_are_told_with_what_lacks(tmp_path: Path) -> None:
    text = "質問,回答\n" + "".join(f'"{n}号室は？,"{n}人です。"\n' for n in range(5))
    with pytest.raises(NoUsableRows) as error:
        rows_of(tmp_path, "a.csv", text)
    reasons = error.value.data["reasons"]
    assert sum("引用符" in reason for reason in reasons) == 1 and len(reasons) == 2


@pytest.mark.parametrize("name", ["scores", "ratings", "点数"])
def test_of_answers_with_points_beside_them_the_best_is_taught(tmp_path: Path, name: str) -> None:
    records = [
        {"質問": "何時から？", "回答": ["わかりません。", "9時です。"], name: [0.1, 0.9]},
        {"質問": "休みは？", "回答": ["水曜です。", "さあ。", "土曜です。"], name: [3, 1, 2]},
        {"質問": "場所は？", "回答": ["駅前です。", "知りません。"], name: None},
    ]
    assert pairs_of(tmp_path, "a.jsonl", as_jsonl(records)) == [
        ("何時から？", "9時です。"),
        ("休みは？", "水曜です。"),
        ("場所は？", "駅前です。"),
    ]


def test_a_small_object_of_questions_with_lists_of_answers_is_read(tmp_path: Path) -> None:
    text = json.dumps(
        {"何時からですか？": ["9時です。"], "休みはいつですか？": ["水曜です。", "土曜です。"]}
    )
    assert pairs_of(tmp_path, "a.json", text) == [
        ("何時からですか？", "9時です。"),
        ("休みはいつですか？", "水曜です。"),
    ]


LONG = 100_000
HOSTILE = (
    *(
        "<script" * (LONG // 7),
        "<a " * (LONG // 3),
        "<p>" + "\n" * LONG + "<p>x",
        "$B" * (LONG // 2),
    ),
    *("あ" + "a" * LONG, "あ" + " " * LONG + "x", "[" * LONG, "[" + "-" * (LONG // 2), "(" * LONG),
    *("éa" * (LONG // 2), "</s> " * (LONG // 5), "10:00 From " + "a に " * (LONG // 4)),
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_takes_long_to_look_at(tmp_path: Path, text: str) -> None:
    """Expressions that step back over what they have seen would take minutes here, and hours."""
    clean = "line_ends,zero_width,nfc,html,excel,control_tokens"
    began_s = time.process_time()
    for name, content in (
        ("a.csv", as_csv([["質問", "回答"], ["何", text], ["どれ", "あれです。"]])),
        ("b.csv", as_csv([["質問", text], ["何", "あれです。"]])),
        ("c.txt", f"{text}\n10:01\t田端\tはい\n"),
    ):
        looked_at(tmp_path, name, content, clean=clean)
    assert time.process_time() - began_s < 20


# --- what other programs write, once more ---------------------------------------------------


def as_office_xml(rows: Cells) -> str:
    """A workbook of Office 2003, with a cell that is left out."""
    lines = "".join(
        f'<Row><Cell ss:Index="2"><Data ss:Type="String">{q}</Data></Cell>'
        f'<Cell ss:MergeAcross="1"><Data ss:Type="String">{a}</Data></Cell></Row>'
        for q, a in rows
    )
    return (
        '<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?>'
        '<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"><Worksheet ss:Name="一覧">'
        f"<Table>{lines}</Table></Worksheet></Workbook>"
    )


ASKED = [(q, a) for q, a in FACTS if q.endswith("か")]


@pytest.mark.parametrize(
    ("name", "text", "pairs"),
    [
        ("a.xls", as_office_xml([["質問", "回答"], *map(list, FACTS)]), FACTS),
        ("a.html", "<h1>案内</h1>" + "".join(f"<h3>{q}</h3><p>{a}</p>" for q, a in ASKED), ASKED),
        (
            "a.html",
            "".join(f"<details><summary>{q}</summary>{a}</details>" for q, a in ASKED),
            ASKED,
        ),
        (
            "a.jsonl",
            as_jsonl([{"inputs": {"question": q}, "outputs": {"answer": a}} for q, a in FACTS]),
            FACTS,
        ),
        (
            "a.jsonl",
            as_jsonl(
                [
                    {
                        "prompt": q,
                        "answers": [
                            {"answer": "別の答え", "rank": 2.0},
                            {"answer": a, "rank": 1.0},
                        ],
                    }
                    for q, a in FACTS
                ]
            ),
            FACTS,
        ),
        (
            "a.json",
            json.dumps(
                {
                    f"d{n}": {"log": [{"text": q}, {"text": a, "metadata": {}}]}
                    for n, (q, a) in enumerate(FACTS)
                }
            ),
            FACTS,
        ),
        (
            "a.json",
            json.dumps(
                {
                    "tickets": [
                        {
                            "id": n,
                            "requester_id": 9,
                            "description": q,
                            "comments": [
                                {"author_id": 9, "body": q},
                                {"author_id": 2, "body": "社内メモ", "public": False},
                                {"author_id": 2, "body": a},
                            ],
                        }
                        for n, (q, a) in enumerate(FACTS)
                    ]
                }
            ),
            FACTS,
        ),
        (
            "a.json",
            json.dumps(
                [
                    {
                        "contact_id": 9,
                        "description_text": q,
                        "conversations": [{"user_id": 2, "incoming": False, "body_text": a}],
                    }
                    for q, a in FACTS
                ]
            ),
            FACTS,
        ),
        (
            "a.json",  # few of the names are sentences
            json.dumps(
                {f"用語{n}": "説明の文章です。" + a for n, (_, a) in enumerate([*FACTS, *FACTS])}
            ),
            [(f"用語{n}", "説明の文章です。" + a) for n, (_, a) in enumerate([*FACTS, *FACTS])],
        ),
        ("a.md", "# 案内\n\n" + "".join(f"**{q}**\n\n{a}\n\n" for q, a in ASKED), ASKED),
        ("a.csv", as_csv(table("番号,もんだい,こたえ", "{n}", "{q}", "{a}")), FACTS),
        ("a.csv", as_csv(table("件名,受信本文,返信本文", "お問い合わせ", "{q}", "{a}")), FACTS),
        (
            "a.csv",  # names once more, in English
            as_csv(
                [["番号", "質問", "回答"], ["No.", "Question", "Answer"]]
                + [["1", q, a] for q, a in FACTS]
            ),
            FACTS,
        ),
        (
            "a.csv",
            as_csv(
                table("質問,類似質問,回答", "{q}", "{n}番の別の聞き方\n{n}番のほかの聞き方", "{a}")
            ),
            [
                (asked, a)
                for n, (q, a) in enumerate(FACTS, 1)
                for asked in (q, f"{n}番の別の聞き方", f"{n}番のほかの聞き方")
            ],
        ),
        (
            "a.csv",
            as_csv(table("問,問題,選択肢1,選択肢2,答え", "{n}", "{q}", "{a}", "どれでもない", "1")),
            [(f"{q}\n\nA. {a}\nB. どれでもない", f"A. {a}") for q, a in FACTS],
        ),
        (
            "a.jsonl",
            as_jsonl([{"question": q, "passage": "館の案内です。", "answer": a} for q, a in FACTS]),
            [(f"{q}\n\n館の案内です。", a) for q, a in FACTS],
        ),
        (
            "a.csv",
            as_csv(
                table("レビュー本文,感情ラベル", "{q}", "良い")[:4]
                + table("x,y", "{q}", "悪い")[4:]
            ),
            [(q, "良い" if n < 3 else "悪い") for n, (q, _) in enumerate(FACTS)],
        ),
    ],
)
def test_files_of_other_programs_are_read(tmp_path: Path, name: str, text: str, pairs: Any) -> None:
    assert sorted(pairs_of(tmp_path, name, text)) == sorted(pairs)


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        (
            "a.txt",
            "".join(f"{q:　<24}{a}\n" for q, a in [("質問", "回答"), *FACTS]),
            "FIXED_COLUMNS",
        ),
        (
            "a.txt",
            "#separator:tab\n#html:true\n" + "".join(f"{q}\t{a}\n" for q, a in FACTS),
            "TABS_IN_TEXT",
        ),
        (
            "a.json",
            json.dumps(
                {
                    "utterances": [
                        {"interlocutor_id": who, "text": words}
                        for pair in FACTS
                        for who, words in zip("AB", pair, strict=True)
                    ]
                }
            ),
            "CHAT_LOG",
        ),
    ],
)
def test_what_is_no_plain_text_is_named(tmp_path: Path, name: str, text: str, code: str) -> None:
    assert code in codes(looked_at(tmp_path, name, text))


def test_page_without_questions_is_refused_for_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(SourceMalformed, match="見出し"):
        looked_at(tmp_path, "a.html", "<h1>案内</h1><p>青葉館は公園の隣にあります。</p>")
