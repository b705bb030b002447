"""What people in offices leave in a sheet: flags of rows that no longer hold, struck text, footers, marks before
each question, the correction of a few answers in a column beside. Each case is a kind, with what is right."""

from __future__ import annotations

import csv
import datetime
import io
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import xlsxwriter
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.styles import Font

from mlx_finetuning.config import PrepareConfig, load
from mlx_finetuning.data_processor import Inspection, inspect, prepare, read_rows
from mlx_finetuning.workspace import Workspace
from support.facts import FACTS

TODAY = datetime.date.today()


def source(folder: Path, *rows: Any, name: str = "a.csv") -> Path:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    (folder / name).write_text(out.getvalue(), encoding="utf-8")
    return folder / name


def with_last(header: str, cell: str, others: str = "") -> list[Any]:
    """A table whose last row has the cell in a third column."""
    cells = [others] * (len(FACTS) - 1) + [cell]
    return [
        ("質問", "回答", header),
        *((*pair, cell) for pair, cell in zip(FACTS, cells, strict=True)),
    ]


def codes(path: Path, **settings: Any) -> dict[str, tuple[int, ...]]:
    found: Inspection = inspect(path, config=load(PrepareConfig, settings))
    return {each.code: each.rows for each in found.findings}


def pairs(path: Path, **settings: Any) -> list[tuple[str, ...]]:
    """Questions and answers that are written, in the order of the source."""
    paths = Workspace(path.parent).dataset("d")
    prepare(path, "d", paths, load(PrepareConfig, settings), replace=True)
    rows = [row for split in ("train", "valid", "test") for row in read_rows(paths.split(split))]
    rows.sort(key=lambda row: int(row["row"]))
    return [tuple(turn["content"] for turn in row["messages"]) for row in rows]


LAST = (len(FACTS) + 1,)


@pytest.mark.parametrize(
    ("column", "cell", "others"),
    [
        *(("ステータス", "差し戻し", "承認済"), ("承認状況", "承認待ち", "承認済")),
        *(("公開状態", "掲載終了", "公開"), ("有効/無効", "無効", "有効"), ("状況", "廃止", "")),
        *(("post_status", "trash", "publish"), ("PublishStatus", "Archived", "Online")),
        *(("使用可否", "不可", "可"), ("掲載可否", "否", "可"), ("IsLatestVersion", "0", "1")),
        *(("deleted_at", "2024-05-01 10:00:00", ""), ("削除日", "2024/5/1", "")),
        *(("備考", "廃止", "担当：総務"), ("備考", "古い回答なので使わないこと", "")),
    ],
)
def test_rows_that_their_table_withdraws_are_named(
    tmp_path: Path, column: str, cell: str, others: str
) -> None:
    path = source(tmp_path, *with_last(column, cell, others))
    assert codes(path).get("DRAFT") == LAST
    assert len(pairs(path, drop="draft")) == len(FACTS) - 1


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        *(
            ("ステータス", "完了"),
            ("対応状況", "対応済み"),
            ("status", "closed"),
            ("備考", "特になし"),
        ),
        *(("使用可否", "可"), ("削除日", ""), ("有効", "1"), ("IsLatestVersion", "1")),
    ],
)
def test_rows_that_hold_are_not_called_withdrawn(tmp_path: Path, column: str, cell: str) -> None:
    assert "DRAFT" not in codes(source(tmp_path, *with_last(column, cell, cell)))


@pytest.mark.parametrize("column", ["有効期限", "公開終了日時", "適用終了日", "expires_at"])
@pytest.mark.parametrize(
    "day", ["2020/3/31", "2020-03-31 00:00:00", "令和2年3月31日", "R2.3.31", "20200331"]
)
def test_rows_whose_day_is_over_are_named(tmp_path: Path, column: str, day: str) -> None:
    path = source(tmp_path, *with_last(column, day, "2999/12/31"))
    assert codes(path).get("EXPIRED") == LAST


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("有効期限", f"{TODAY:%Y/%m/%d}"),
        *(
            ("有効期限", "なし"),
            ("有効期限", "2024年度末"),
            ("有効期限", ""),
            ("更新日", "2020/3/31"),
        ),
        ("対応期限", "2020/3/31"),
    ],
)
def test_days_to_come_and_other_days_end_nothing(tmp_path: Path, column: str, cell: str) -> None:
    assert "EXPIRED" not in codes(source(tmp_path, *with_last(column, cell, cell)))


def struck_workbook(path: Path) -> Path:
    """Struck out: all of the second row, a part of the third row's answer. Bold: the fourth."""
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (("質問", "回答"), *FACTS):
        sheet.append(row)
    for column in "AB":
        sheet[f"{column}2"].font = Font(strike=True)
        sheet[f"{column}4"].font = Font(bold=True)
    old = TextBlock(InlineFont(strike=True), "毎週月曜日が休館日です。")
    sheet["B3"] = CellRichText(old, "毎週火曜日が休館日です。")
    sheet["B5"] = CellRichText(TextBlock(InlineFont(b=True), "建物の北側に"), "20台分あります。")
    book.save(path)
    return path


def test_struck_text_of_a_workbook_is_named(tmp_path: Path) -> None:
    path = struck_workbook(tmp_path / "a.xlsx")
    assert codes(path)["STRUCK_OUT"] == (2, 3)
    assert len(pairs(path, drop="struck_out")) == len(FACTS) - 2


def test_struck_text_among_shared_strings_is_named(tmp_path: Path) -> None:
    with xlsxwriter.Workbook(str(tmp_path / "a.xlsx")) as book:
        sheet = book.add_worksheet()
        struck, bold = book.add_format({"font_strikeout": True}), book.add_format({"bold": True})
        for at, row in enumerate((("質問", "回答"), *FACTS)):
            sheet.write_row(at, 0, row)
        sheet.write_rich_string(2, 1, struck, "毎週月曜日", "毎週火曜日が休館日です。")
        sheet.write_rich_string(3, 1, bold, "一度に8冊", "まで借りられます。")
    assert codes(tmp_path / "a.xlsx")["STRUCK_OUT"] == (3,)


def test_struck_text_of_a_page_is_named(tmp_path: Path) -> None:
    rows = "".join(f"<tr><td>{q}</td><td>{a}</td></tr>" for q, a in FACTS)
    old = "<tr><td>館長は誰ですか</td><td><del>森です。</del>林です。</td></tr>"
    page = f"<table><tr><th>質問</th><th>回答</th></tr>{rows}{old}</table>"
    (tmp_path / "a.html").write_text(page, encoding="utf-8")
    assert codes(tmp_path / "a.html")["STRUCK_OUT"] == (len(FACTS) + 2,)


def open_document(path: Path, *rows: Sequence[str], struck: int = 0, hidden: int = 0) -> Path:
    """`struck`, `hidden`: numbers of rows."""
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "style", "text", "table")
    )
    styles = "".join(
        f'<style:style style:name="{name}" style:family="table-cell">'
        f'<style:text-properties style:text-line-through-style="{line}"/></style:style>'
        for name, line in (("gone", "solid"), ("plain", "none"))
    )
    lines = []
    for number, row in enumerate(rows, 1):
        style = "gone" if number == struck else "plain"
        shown = "collapse" if number == hidden else "visible"
        cells = (
            f'<table:table-cell table:style-name="{style}"><text:p>{text}</text:p></table:table-cell>'
            for text in row
        )
        lines.append(
            f'<table:table-row table:visibility="{shown}">{"".join(cells)}</table:table-row>'
        )
    content = (
        f"<office:document-content {spaces}><office:automatic-styles>{styles}"
        "</office:automatic-styles><office:body><office:spreadsheet>"
        f'<table:table table:name="表">{"".join(lines)}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
        archive.writestr("content.xml", content)
    return path


def test_struck_text_of_an_open_document_is_named(tmp_path: Path) -> None:
    path = open_document(tmp_path / "a.ods", ("質問", "回答"), *FACTS, struck=3)
    assert codes(path)["STRUCK_OUT"] == (3,)


def test_hidden_rows_of_a_small_open_document_are_named_and_can_be_skipped(tmp_path: Path) -> None:
    path = open_document(tmp_path / "a.ods", ("質問", "回答"), *FACTS, hidden=3)
    assert codes(path)["HIDDEN_ROWS"] == (3,)
    assert len(pairs(path, hidden="skip")) == len(FACTS) - 1


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "No.2の回答をご参照ください。",
            "上記5に同じです。",
            "→No.8",
            "項番9と同様の対応",
            "1と同じ。",
        ),
        *("こちら", "詳細はこちらをご覧ください。", "下記URLをご確認ください", "リンク先を参照"),
        "詳しくはこちらのページをご覧ください。",
    ],
)
def test_pointers_to_other_places_are_named(tmp_path: Path, answer: str) -> None:
    assert codes(source(tmp_path, ("質問", "回答"), *FACTS, ("館長は誰ですか", answer)))[
        "SEE_OTHER"
    ] == (len(FACTS) + 2,)


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "No.8",
            "こちらこそ、よろしくお願いします。",
            "Q3",
            "こちらの窓口です。",
            "上記3点です。",
        ),
        *("8番の窓口へどうぞ", "リンクの色は青です。", "同じフロアの3番窓口です。"),
    ],
)
def test_answers_that_say_something_point_nowhere(tmp_path: Path, answer: str) -> None:
    found = codes(source(tmp_path, ("質問", "回答"), *FACTS, ("館長は誰ですか", answer)))
    assert "SEE_OTHER" not in found


@pytest.mark.parametrize(
    "row",
    [
        *(("2024/4/1", "初版"), ("令和6年4月", "初版を作成"), ("出典：総務省", "令和5年版白書")),
        *(("※社外秘", "取扱注意"), ("- 3 -", "総務課"), ("例：送料は？", "例：500円です")),
        *(("以上", "総務部"), ("12", "ページ"), ("作成：総務部", "2024年版")),
    ],
)
def test_notes_where_questions_stand_are_named(tmp_path: Path, row: tuple[str, str]) -> None:
    path = source(tmp_path, ("質問", "回答"), *FACTS, row)
    assert codes(path)["NO_QUESTION"] == (len(FACTS) + 2,)
    assert len(pairs(path, drop="no_question")) == len(FACTS)


def test_questions_that_are_numbers_throughout_are_questions(tmp_path: Path) -> None:
    rows = [(str(100 + at), f"{answer}（{at}）") for at, (__, answer) in enumerate(FACTS)]
    assert "NO_QUESTION" not in codes(source(tmp_path, ("質問", "回答"), *rows))


@pytest.mark.parametrize(
    "question", ["出典は何ですか", "以上の書類で足りますか", "例を教えて", "注文"]
)
def test_questions_about_notes_are_questions(tmp_path: Path, question: str) -> None:
    path = source(tmp_path, ("質問", "回答"), *FACTS, (question, "窓口でお尋ねください。"))
    assert "NO_QUESTION" not in codes(path)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("Q{n}. ", "A{n}. "),
        ("問{n}：", "答：{n}"),
        ("【質問】", "【回答】"),
        ("", "→"),
        ("Ｑ．", "Ａ．"),
    ],
)
def test_marks_in_the_cells_are_named_and_can_be_taken_away(
    tmp_path: Path, asked: str, answered: str
) -> None:
    rows = [
        (asked.format(n=n) + q, answered.format(n="" if "：" in answered else n) + a)
        for n, (q, a) in enumerate(FACTS, 1)
    ]
    path = source(tmp_path, ("質問", "回答"), *rows)
    assert "CELL_MARKS" in codes(path)
    assert pairs(path, clean="line_ends,zero_width,nfc,marks") == list(FACTS)


def test_labels_of_choices_are_no_marks(tmp_path: Path) -> None:
    rows = [(q, f"{letter}. {a}") for letter, (q, a) in zip("ABCDEA", FACTS, strict=True)]
    assert "CELL_MARKS" not in codes(source(tmp_path, ("質問", "回答"), *rows))


def test_page_numbers_inside_answers_are_named(tmp_path: Path) -> None:
    path = source(
        tmp_path, ("質問", "回答"), *FACTS, ("館長は誰ですか", "森です。\n- 12 -\n任期は2年。")
    )
    assert codes(path)["PAGE_NUMBER"] == (len(FACTS) + 2,)
    path = source(tmp_path, ("質問", "回答"), *FACTS, ("式は何ですか", "次の式です。\n- 12\n- 13"))
    assert "PAGE_NUMBER" not in codes(path)


def test_answers_that_were_not_put_right_are_those_of_before(tmp_path: Path) -> None:
    rows = [(q, a, "改めました。" if at == 1 else "") for at, (q, a) in enumerate(FACTS)]
    path = source(tmp_path, ("質問", "回答", "修正回答"), *rows)
    expected = [(q, fixed or a) for q, a, fixed in rows]
    assert pairs(path) == expected
    assert "EMPTY_ANSWER" not in codes(path)
    assert "COLUMN_DOUBTFUL" in codes(path)


def test_drafts_of_a_model_stand_in_for_no_answer(tmp_path: Path) -> None:
    rows = [(q, "下書き。" + a, "" if at == 1 else a) for at, (q, a) in enumerate(FACTS)]
    path = source(tmp_path, ("質問", "AIの回答", "修正後の回答"), *rows)
    assert codes(path)["EMPTY_ANSWER"] == (3,)


def test_languages_in_brackets_are_no_days(tmp_path: Path) -> None:
    header = ("質問(日)", "回答(日)", "Question(EN)", "Answer(EN)")
    rows = [(q, a, f"How much is no. {at}?", f"{at} yen.") for at, (q, a) in enumerate(FACTS)]
    assert pairs(source(tmp_path, header, *rows)) == list(FACTS)


def test_questions_that_differ_in_punctuation_may_contradict(tmp_path: Path) -> None:
    assert FACTS[0][0] == "青葉館の開館時間は何時ですか"
    again = ("青葉館の、開館時間は何時ですか。", "午前10時からです。")
    assert codes(source(tmp_path, ("質問", "回答"), *FACTS, again))["CONFLICT"] == (2, 8)


@pytest.mark.parametrize(
    "lines",
    [
        [f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n{a}\n" for n, (__, a) in enumerate(FACTS)],
        [f"From: a@example.com\nTo: b@example.com\nSubject: {q}\n\n{a}\n" for q, a in FACTS],
        [f"{q} - {a}" for q, a in FACTS],
    ],
)
def test_subtitles_mails_and_pairs_in_lines_are_no_prose(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert "FORMED_TEXT" in codes(path)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        *(
            ("FAQ", "Q：{q}\nA：{a}"),
            ("内容", "Q{n}. {q}\n\nA{n}. {a}"),
            ("質問と回答", "Q. {q}？ A. {a}"),
        ),
        *(("Ｑ＆Ａ", "【質問】{q}【回答】{a}"), ("本文", "質問：{q}\n回答：{a}")),
    ],
)
def test_pairs_in_one_cell_are_split(tmp_path: Path, column: str, cell: str) -> None:
    rows = [("館内", cell.format(q=q, a=a, n=n)) for n, (q, a) in enumerate(FACTS, 1)]
    path = source(tmp_path, ("分類", column), *rows)
    assert [(q.rstrip("？"), a) for q, a in pairs(path)] == list(FACTS)
    assert "PAIRS_IN_CELLS" in codes(path)


def test_cell_without_an_answer_among_pairs_is_named(tmp_path: Path) -> None:
    rows = [(f"Q：{q}\nA：{a}",) for q, a in FACTS * 2]
    assert codes(source(tmp_path, ("FAQ",), *rows, ("館長は誰ですか",)))["EMPTY_ANSWER"]


def test_answers_that_hold_questions_stay_whole(tmp_path: Path) -> None:
    rows = [(q, f"Q. もっと？\nA. {a}") for q, a in FACTS]
    assert pairs(source(tmp_path, ("質問", "回答"), *rows)) == rows


def test_statements_to_be_judged_have_the_judgement_as_answer(tmp_path: Path) -> None:
    rows = [(q + "。", "○×"[n % 2], a) for n, (q, a) in enumerate(FACTS)]
    path = source(tmp_path, ("問題文", "正誤", "解説"), *rows)
    assert pairs(path) == [(q, mark) for q, mark, __ in rows]
    assert "COLUMN_DOUBTFUL" in codes(path)
    path = source(tmp_path, ("問題", "正誤", "回答"), *rows)  # there it judges the answer
    assert len(pairs(path)) == len(FACTS) / 2


@pytest.mark.parametrize(
    ("answer", "is_markup"),
    [
        *(("<@U0123ABC> 森です。", True), ("<https://a.example|ここ>にあります。", True)),
        *(("<https://a.example> にあります。", False), ("`<@U0123ABC>` と書きます。", False)),
    ],
)
def test_signs_of_chat_programs_are_named(tmp_path: Path, answer: str, is_markup: bool) -> None:
    path = source(tmp_path, ("質問", "回答"), *FACTS, ("館長は誰ですか", answer))
    assert ("CHAT_MARKUP" in codes(path)) == is_markup


def test_cells_of_blanks_take_no_time(tmp_path: Path) -> None:
    blanks = " " * 200_000
    rows = [(f"Q：{q}{blanks}", f"{blanks}Q{blanks}\n{blanks}- 1{blanks}") for q, __ in FACTS]
    path = source(tmp_path, ("FAQ", "備考"), *rows)
    begin = time.process_time()
    codes(path)
    assert time.process_time() - begin < 10


@pytest.mark.parametrize(
    ("question", "answer", "code"),
    [
        *(("開始日はいつ？", "45383", "MADE_DATE"), ("部屋は？", "2-Mar", "MADE_DATE")),
        *(
            ("遺伝子は？", "Mar-01", "MADE_DATE"),
            ("呼び方は？", "{{顧客名}}様と書きます。", "FILL_IN"),
        ),
        *(
            ("宛名は？", "○○様、こんにちは。", "FILL_IN"),
            ("誰が？", "【担当者名】が伺います。", "FILL_IN"),
        ),
        *(
            ("いくら？", "600円です【要確認】", "REVIEW_MARK"),
            ("何時？", "9時です（★要修正 佐藤）", "REVIEW_MARK"),
        ),
        *(("いくら？", "（旧）10円\n（新）20円", "REVIEW_MARK"),),
        *(("館長は？", "森〓です。", "LOST_LETTER"),),
        *(
            ("館長は？", "\ue023田です。", "LOST_LETTER"),
            ("国は？", "⽇本の⾼い⼭です。", "RADICAL"),
        ),
        ("国は？", "に ほ ん の ま ん な か で す 。", "SPACED_LETTERS"),
        *(("絵は？", "はいðŸ˜€", "MOJIBAKE"), ("店は？", "Aさんâ€™s の店", "MOJIBAKE")),
    ],
)
def test_traces_of_work_are_named(tmp_path: Path, question: str, answer: str, code: str) -> None:
    path = source(tmp_path, ("質問", "回答"), *FACTS, (question, answer))
    assert codes(path).get(code) == (len(FACTS) + 2,)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        *(("番号はいくつ？", "45383"), ("色は？", "○と△です。"), ("印は？", "◎○△×の4つです。")),
        *(("書き方は？", "`{{name}}` と書きます。"), ("飾りは？", "〓〓〓のように引きます。")),
        *(("確認は？", "（詳細は窓口で確認してください）"), ("手順は？", "[設定]を押します。")),
        *(("範囲は？", "10~20です。~5まで。"), ("単語は？", "a b c d e f g h i jです。")),
        *(("新旧は？", "新しい方です（旧館ではありません）。"), ("字は？", "日本の高い山です。")),
    ],
)
def test_ordinary_signs_are_no_traces(tmp_path: Path, question: str, answer: str) -> None:
    found = codes(source(tmp_path, ("質問", "回答"), *FACTS, (question, answer)))
    assert not found.keys() & {
        *("MADE_DATE", "FILL_IN", "REVIEW_MARK", "STRUCK_OUT", "LOST_LETTER", "RADICAL"),
        "SPACED_LETTERS",
    }


def test_radicals_become_the_signs_that_they_look_like(tmp_path: Path) -> None:
    path = source(tmp_path, ("質問", "回答"), *FACTS, ("⻑さは？", "⽇本の⾼い⼭です①。"))
    assert pairs(path, clean="nfc,radicals")[-1] == ("長さは？", "日本の高い山です①。")


def test_line_ends_of_filemaker_make_no_binary(tmp_path: Path) -> None:
    rows = [(q, a.replace("。", "。\x0b") * 2) for q, a in FACTS]
    assert len(pairs(source(tmp_path, ("質問", "回答"), *rows))) == len(FACTS)
