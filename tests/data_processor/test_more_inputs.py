"""Files of further programs and habits: tables with rare borders, rows of remarks, other languages' encodings,
values of databases, logs under other names. Each case is a kind, with the value that is right."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning.config import PrepareConfig, load
from mlx_finetuning.data_processor import Inspection, inspect, prepare, read_rows
from mlx_finetuning.errors import ColumnsNotFound, SourceMalformed
from mlx_finetuning.workspace import Workspace
from support.facts import FACTS

PAIRS = list(FACTS)
CHINESE = [("运费是多少？", "全国统一运费十元。"), ("可以退货吗？", "七天内可以退货。")] * 3
KOREAN = [
    ("배송비는 얼마인가요?", "전국 삼천 원입니다."),
    ("환불이 되나요?", "칠일 안에 됩니다."),
] * 3


def as_csv(*rows: Any, delimiter: str = ",") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(rows)
    return out.getvalue()


def as_jsonl(*records: Any) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def looked_at(folder: Path, name: str, raw: bytes | str, **settings: Any) -> Inspection:
    source = folder / name
    source.write_bytes(raw.encode() if isinstance(raw, str) else raw)
    return inspect(source, config=load(PrepareConfig, settings))


def written(folder: Path, name: str, raw: bytes | str, **settings: Any) -> list[dict[str, Any]]:
    """The rows that are written of a file, in its order."""
    (folder / name).write_bytes(raw.encode() if isinstance(raw, str) else raw)
    paths = Workspace(folder).dataset("d")
    prepare(folder / name, "d", paths, load(PrepareConfig, settings), replace=True)
    rows = [row for split in ("train", "valid", "test") for row in read_rows(paths.split(split))]
    return sorted(rows, key=lambda row: int(row["row"]))


def pairs(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [tuple(turn["content"] for turn in row["messages"]) for row in rows]


def codes(found: Inspection) -> set[str]:
    return {item.code for item in found.findings}


# --- tables --------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["^", "~", "§", "¦"])
@pytest.mark.parametrize("name", ["f.csv", "f.txt"])
def test_rare_delimiters_divide_below_known_names(tmp_path: Path, name: str, sign: str) -> None:
    text = "\n".join(
        sign.join(row) for row in [("番号", "質問", "回答"), *(("1", *p) for p in PAIRS)]
    )
    assert pairs(written(tmp_path, name, text)) == PAIRS


@pytest.mark.parametrize(
    "remarks",
    [
        ["Open-Ended Response", "Open-Ended Response"],
        ["（必須）", "（任意）"],
        ["string", "varchar(255)"],
        ["NOT NULL", "NULL"],
        ['{"ImportId":"QID1"}', '{"ImportId":"QID2"}'],
        ["【自由記述】", "200文字以内"],
    ],
)
def test_row_of_remarks_below_the_header_is_no_record(tmp_path: Path, remarks: list[str]) -> None:
    text = as_csv(["質問", "回答"], remarks, *PAIRS)
    assert pairs(written(tmp_path, "f.csv", text)) == PAIRS
    found = looked_at(tmp_path, "f.csv", text)
    assert [item.rows for item in found.findings if item.code == "BELOW_HEADER"] == [(2,)]


def drawn(form: str) -> str:
    """The facts as programs draw them in text."""
    if form == "mysql":
        lines = ["+----+------+", "| id | question | answer |", "+----+------+"]
        return "\n".join(
            [
                *lines,
                *(f"| {n} | {q} | {a} |" for n, (q, a) in enumerate(PAIRS)),
                "+----+------+",
                "6 rows in set (0.00 sec)",
            ]
        )
    if form == "psql":
        rows = (f"  {n} | {q} | {a}" for n, (q, a) in enumerate(PAIRS))
        return "\n".join([" id | question | answer ", "----+------+------", *rows, "(6 rows)"])
    rows = (f"│ {q} │ {a} │" for q, a in PAIRS)
    return "\n".join(["┌───┬───┐", "│ 質問 │ 回答 │", "├───┼───┤", *rows, "└───┴───┘"])


@pytest.mark.parametrize("form", ["mysql", "psql", "box"])
def test_tables_drawn_in_text_are_read(tmp_path: Path, form: str) -> None:
    assert pairs(written(tmp_path, "f.txt", drawn(form))) == PAIRS


def fixed(width: Any, *, ruled: bool = False) -> str:
    """The facts in columns of fixed width: `width` of a text in signs or in columns of a terminal."""

    def line(*cells: str) -> str:
        return "".join(
            cell + " " * (size - width(cell)) for cell, size in zip(cells, (6, 44), strict=True)
        )

    lines = [f"{line(str(n), q)}{a}" for n, (q, a) in enumerate(PAIRS, 1)]
    rule = [f"{line('----', '-' * 40)}{'-' * 40}"] if ruled else []
    return "\n".join([f"{line('番号', '質問')}回答", *rule, *lines]) + "\n"


def shown(text: str) -> int:
    return sum(1 if sign.isascii() else 2 for sign in text)


@pytest.mark.parametrize("name", ["f.txt", "f.csv"])
@pytest.mark.parametrize(("width", "ruled"), [(shown, False), (shown, True), (len, False)])
def test_columns_of_fixed_width_are_split(
    tmp_path: Path, name: str, width: Any, ruled: bool
) -> None:
    text = fixed(width, ruled=ruled)
    assert pairs(written(tmp_path, name, text)) == PAIRS
    assert "FIXED_COLUMNS" in codes(looked_at(tmp_path, name, text))


def test_columns_parted_alike_by_blanks_are_split(tmp_path: Path) -> None:
    text = "質問  回答\n" + "".join(f"{q}   {a}\n" for q, a in PAIRS)
    assert pairs(written(tmp_path, "f.txt", text)) == PAIRS


def test_fixed_width_whose_borders_nobody_can_tell_is_refused(tmp_path: Path) -> None:
    text = "番号  質問    回答\n" + "".join(
        f"{n}  {q}  詳しくは  {a}\n" for n, (q, a) in enumerate(PAIRS)
    )
    with pytest.raises(SourceMalformed, match="固定長"):
        looked_at(tmp_path, "f.txt", text)


def test_prose_with_blanks_stays_prose(tmp_path: Path) -> None:
    text = "\n\n".join(f"　むかし、質問　があった。{a}  それから回答  も。" for _, a in PAIRS)
    assert looked_at(tmp_path, "f.txt", text).kind == "text"


@pytest.mark.parametrize(
    "lines",
    [
        [f"INSERT INTO faq VALUES ('{q}','{a}');" for q, a in PAIRS],
        [f"{q} => {a}" for q, a in PAIRS],
        [f"<item>{q}<sep/>{a}</item>" for q, a in PAIRS],
        [f"{q[:5]}＝{a}".replace("＝", "=") for q, a in PAIRS],
    ],
)
def test_lines_of_one_form_are_no_prose(tmp_path: Path, lines: list[str]) -> None:
    assert codes(looked_at(tmp_path, "f.txt", "\n".join(lines))) & {"FORMED_TEXT", "PAIRS_IN_TEXT"}


def test_prose_has_no_form(tmp_path: Path) -> None:
    text = "\n".join(
        f"今日は{n}日。{a}と聞いた。" + "雨、風。" * n for n, (_, a) in enumerate(PAIRS)
    )
    assert "FORMED_TEXT" not in codes(looked_at(tmp_path, "f.txt", text))


def test_quotes_of_a_word_processor_are_no_part_of_cells(tmp_path: Path) -> None:
    text = "“質問”,“回答”\n" + "".join(f"“{q}”,“「{a}」と言う”\n" for q, a in PAIRS)
    assert pairs(written(tmp_path, "f.csv", text)) == [(q, f"「{a}」と言う") for q, a in PAIRS]


@pytest.mark.parametrize(
    ("encoding", "facts", "header"),
    [("gbk", CHINESE, "问题,答案"), ("big5", [], ""), ("euc-kr", KOREAN, "질문,답변")],
)
def test_chinese_and_korean_encodings_are_told_from_japanese(
    tmp_path: Path, encoding: str, facts: list[tuple[str, str]], header: str
) -> None:
    facts = (
        facts
        or [("可以退貨嗎？", "七天內可以退貨的。"), ("有發票嗎？", "有的，請說您的名字。")] * 3
    )
    text = (
        (header or "問題,答案")
        + "\n"
        + "".join(f"{q}{n},{a}{n}\n" for n, (q, a) in enumerate(facts))
    )
    found = looked_at(tmp_path, "f.csv", text.encode(encoding))
    assert found.encoding == {"gbk": "gb18030", "big5": "big5", "euc-kr": "euc-kr"}[encoding]
    assert "LOW_CONFIDENCE" in codes(found)
    assert len(written(tmp_path, "f.csv", text.encode(encoding))) == 6


# --- columns -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "row", "code"),
    [
        ("post_title,post_content,ID", ("案内その{n}", "{a}{a}{a}", "{n}"), "ARTICLES"),
        ("記事タイトル,記事本文,公開", ("案内その{n}", "{a}{a}", "公開"), "ARTICLES"),
        ("名前,本文,タグ", ("{q}", "{a}{a}{a}", "総務"), "ARTICLES"),
        ("本文,社内の補足説明", ("{a}{a}", "{q}という声があった。"), "COLUMN_DOUBTFUL"),
        ("質問,回答,公開ステータス", ("{q}", "{a}", "非公開"), "DRAFT"),
        ("QUESTION_TXT,ANSWER_TXT,DEL_FLG", ("{q}", "{a}", "1"), "DRAFT"),
        ("質問,回答,画像", ("{q}", "{a}", "{n}.png"), "MEDIA_UNUSED"),
        ("相談概要,応対者,応対内容", ("{q}", "担当{n}", "{a}"), "COLUMN_DOUBTFUL"),
    ],
)
def test_what_a_table_hides_is_named(
    tmp_path: Path, header: str, row: tuple[str, ...], code: str
) -> None:
    cells = [[cell.format(q=q, a=a, n=n) for cell in row] for n, (q, a) in enumerate(PAIRS)]
    found = looked_at(tmp_path, "f.csv", as_csv(header.split(","), *cells))
    assert found.kind in ("chat", "text") and code in codes(found)


def test_verdicts_under_a_question_leave_bad_rows_out(tmp_path: Path) -> None:
    rows = [(q, a, "true" if n % 3 else "false") for n, (q, a) in enumerate(PAIRS)]
    text = as_csv(["質問", "回答", "良い回答か"], *rows)
    kept = [pair for n, pair in enumerate(PAIRS) if n % 3]
    assert pairs(written(tmp_path, "f.csv", text)) == kept


@pytest.mark.parametrize(
    ("header", "sides"),
    [
        ("ticket_id,author_role,body", ("customer", "agent")),
        ("会話ID,だれ,本文", ("お客様", "スタッフ")),
    ],
)
def test_column_of_known_sides_tells_who_speaks(
    tmp_path: Path, header: str, sides: tuple[str, str]
) -> None:
    rows = [
        (n, side, text)
        for n, pair in enumerate(PAIRS)
        for side, text in zip(sides, pair, strict=True)
    ]
    assert pairs(written(tmp_path, "f.csv", as_csv(header.split(","), *rows))) == PAIRS


def test_people_in_a_written_log_are_asked_about(tmp_path: Path) -> None:
    text = "".join(f"客：{q}\n店員：{a}\n" for q, a in PAIRS)
    assert "CHAT_LOG" in codes(looked_at(tmp_path, "f.txt", text))
    quoted = "".join(f"客「{q}」\n店員「{a}」\n\n" for q, a in PAIRS)
    assert "CHAT_LOG" in codes(looked_at(tmp_path, "g.txt", quoted))


def test_messages_that_came_and_went_are_a_log(tmp_path: Path) -> None:
    rows = [
        ("2024-05-01", way, text)
        for pair in PAIRS
        for way, text in zip(("received", "sent"), pair, strict=True)
    ]
    text = as_csv(["date", "type", "body"], *rows)
    assert "CHAT_LOG" in codes(looked_at(tmp_path, "f.csv", text))
    chosen = written(tmp_path, "f.csv", text, assistant_speaker="sent")
    assert pairs(chosen) == [tuple(part for pair in PAIRS for part in pair)]


def test_bots_of_slack_speak(tmp_path: Path) -> None:
    messages = [
        message
        for n, (q, a) in enumerate(PAIRS)
        for message in (
            {
                "type": "message",
                "user": "U1",
                "text": q,
                "ts": f"171450000{n}.1",
                "thread_ts": str(n),
            },
            {
                "type": "message",
                "username": "bot",
                "text": a,
                "ts": f"171450000{n}.2",
                "thread_ts": str(n),
            },
        )
    ]
    found = looked_at(tmp_path, "f.json", json.dumps(messages))
    assert {*found.speakers} == {"U1", "bot"}


# --- records -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        lambda q, a: {
            "properties": {
                "質問": {"type": "title", "title": [{"plain_text": q[:3]}, {"plain_text": q[3:]}]},
                "回答": {"type": "rich_text", "rich_text": [{"plain_text": a}]},
            }
        },
        lambda q, a: {"question": {"rendered": q, "protected": False}, "answer": {"rendered": a}},
        lambda q, a: {"messages": [["user", q], ["assistant", a]]},
        lambda q, a: {"question": {"S": q}, "answer": {"S": a}, "n": {"N": "1"}},
        lambda q, a: {"question": {"stringValue": q}, "answer": {"stringValue": a}},
        lambda q, a: {
            "prompt": q,
            "response": {"role": "assistant", "content": a, "refusal": None},
        },
        lambda q, a: {
            "messages": [{"role": "user", "content": q}],
            "response": {
                "role": "assistant",
                "content": [{"type": "text", "text": a}],
                "stop": "x",
            },
        },
        lambda q, a: {
            "messages": [
                {"role": "system", "content": " "},
                {"role": "user", "content": q},
                {"role": "assistant", "content": a},
            ]
        },
        lambda q, a: {"segments": [{"label": False, "text": f"{q}\n"}, {"label": True, "text": a}]},
    ],
    ids=[
        "Notion",
        "WordPress",
        "tuples",
        "DynamoDB",
        "Firestore",
        "message",
        "apart",
        "empty system",
        "Axolotl",
    ],
)
def test_records_of_databases_and_trainers_say_what_they_mean(tmp_path: Path, record: Any) -> None:
    assert pairs(written(tmp_path, "f.jsonl", as_jsonl(*(record(q, a) for q, a in PAIRS)))) == PAIRS


def test_good_and_bad_are_compared(tmp_path: Path) -> None:
    text = as_jsonl(*({"prompt": q, "good": a, "bad": "さあ。"} for q, a in PAIRS))
    assert [(row["chosen"], row["rejected"]) for row in written(tmp_path, "f.jsonl", text)] == [
        (a, "さあ。") for _, a in PAIRS
    ]


def test_arrays_of_numpy_in_a_table_are_conversations(tmp_path: Path) -> None:
    cells = [
        [
            f"array([{{'role': 'user', 'content': '{q}'}},\n {{'role': 'assistant', 'content': '{a}'}}], dtype=object)"
        ]
        for q, a in PAIRS
    ]
    assert pairs(written(tmp_path, "f.csv", as_csv(["messages"], *cells))) == PAIRS


def test_place_of_a_picture_in_a_text_is_named(tmp_path: Path) -> None:
    text = as_jsonl(*({"question": f"<image>\n{q}", "answer": a} for q, a in PAIRS))
    assert "CONTROL_TOKEN" in codes(looked_at(tmp_path, "f.jsonl", text))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ('EEOC$GM=Ls$7!"<j?tNA$N7t$rE=$C$F=P$7$F$/$@$5$$!#', "MOJIBAKE"),
        ("### Human: 何時？ ### Assistant: 9時です。", "SPEAKER_IN_TEXT"),
    ],
)
def test_more_dirt_is_named(tmp_path: Path, answer: str, code: str) -> None:
    text = as_csv(["質問", "回答"], *[(q, answer if n else a) for n, (q, a) in enumerate(PAIRS)])
    assert code in codes(looked_at(tmp_path, "f.csv", text))


@pytest.mark.parametrize(
    "answer", ["合計は$10です。$5引きで$5。", "a=$1$2; b=$3 と書きます。", "$x$と$y$を足す"]
)
def test_dollars_are_no_lost_letters(tmp_path: Path, answer: str) -> None:
    text = as_csv(["質問", "回答"], *[(q, f"{answer}{n}") for n, (q, _) in enumerate(PAIRS)])
    assert "MOJIBAKE" not in codes(looked_at(tmp_path, "f.csv", text))


def test_only_flags_beside_questions_are_no_answers(tmp_path: Path) -> None:
    text = as_csv(
        ["質問", "回答率(%)", "回答期限"], *((q, n, "5/1") for n, (q, _) in enumerate(PAIRS))
    )
    with pytest.raises(ColumnsNotFound):
        written(tmp_path, "f.csv", text)
