"""Workbooks: cells as they are shown, which sheet is read, and what must not exhaust the machine."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import xlsxwriter
import xlwt

from mlx_finetuning import errors
from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import Inspection, inspect, prepare, read_rows
from mlx_finetuning.data_processor.readers.number_formats import BUILT_IN, shown
from mlx_finetuning.data_processor.readers.read import read
from mlx_finetuning.data_processor.readers.tables import Table
from mlx_finetuning.workspace import DatasetPaths
from support.workbooks import WRITERS, draw

HEADER = ["質問", "回答"]
ROWS = [["営業時間は？", "9時からです。"], ["休みは？", "火曜です。"], ["住所は？", "東京です。"]]


def _book(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def _plain(path: Path) -> dict[str, bytes]:
    """The parts of a workbook that keeps its texts in a table of strings, as Excel does."""
    book = xlsxwriter.Workbook(str(path))
    page = book.add_worksheet("a")
    for at, row in enumerate([HEADER, *ROWS]):
        page.write_row(at, 0, row)
    book.close()
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(path: Path, parts: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def _codes(found: Inspection | Table) -> dict[str, tuple[int, ...]]:
    return {item.code: item.rows for item in found.findings}


# --- numbers as they are shown -----------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (123, "00000", "00123"),
        (1.5, "0.00", "1.50"),
        (0.125, "0.0%", "12.5%"),
        (12345.6, "#,##0", "12,346"),
        (-1234, "#,##0;[Red]-#,##0", "-1,234"),
        (-5, "#,##0;▲ #,##0", "▲ 5"),
        (0, '#,##0;-#,##0;"-"', "-"),
        (1234, '"¥"#,##0;[Red]\\-"¥"#,##0', "¥1,234"),
        (1234, '#,##0"円"', "1,234円"),
        (312345678, "000-0000-0000", "003-1234-5678"),
        (1000001, '000"-"0000', "100-0001"),
        (1500000, '#,##0,"千円"', "1,500千円"),
        (12345, "0.00E+00", "1.23E+04"),
        (5, "[<10]0;[>=10]#,##0", "5"),
        (45296, 'yyyy"年"m"月"d"日"', "2024年1月5日"),
        (45296, "[$-411]ggge年m月d日(aaa)", "令和6年1月5日(金)"),
        (45296, "[$-ja-JP]yyyy/mm/dd;@", "2024/01/05"),
        (45296, BUILT_IN[14], "2024/1/5"),
        (45296.4375, BUILT_IN[22], "2024/1/5 10:30"),
        (0.4375, "h:mm", "10:30"),
        (0.75, "h:mm AM/PM", "6:00 PM"),
        (1.5, "[h]:mm", "36:00"),
        (0.5 / 1440, "mm:ss", "00:30"),
        (0.1 + 0.2, "General", "0.3"),
        (12345678901234, "General", "12345678901234"),
        (1e-5, "General", "0.00001"),
        (-1, "yyyy/m/d", "-1"),
        (59, "yyyy/m/d", "1900/2/28"),
    ],
)
def test_number_is_shown_as_in_the_sheet(number: float, code: str, text: str) -> None:
    assert shown(number, code) == text


def test_dates_since_1904_are_shown() -> None:
    assert shown(43834, "yyyy/m/d", is_1904=True) == "2024/1/5"


def _formatted(folder: Path) -> Iterator[Path]:
    """The same cells with formats, by two writers."""
    cells = [(123, "00000"), (45296, 'yyyy"年"m"月"d"日"'), (0.4375, "h:mm"), (1.5, "0.00")]
    book = xlsxwriter.Workbook(str(folder / "a.xlsx"))
    page = book.add_worksheet()
    old = xlwt.Workbook()
    sheet = old.add_sheet("a")
    for column, name in enumerate(["質問", "回答", "番号", "日付", "時刻", "量"]):
        page.write(0, column, name)
        sheet.write(0, column, name)
    for row in (1, 2, 3):
        for column, text in enumerate(ROWS[row - 1]):
            page.write(row, column, text)
            sheet.write(row, column, text)
        for column, (number, code) in enumerate(cells, 2):
            page.write_number(row, column, number, book.add_format({"num_format": code}))
            style = xlwt.XFStyle()
            style.num_format_str = code
            sheet.write(row, column, number, style)
    book.close()
    old.save(str(folder / "a.xls"))
    yield from (folder / "a.xlsx", folder / "a.xls")


def test_cells_read_as_they_are_shown(tmp_path: Path) -> None:
    for path in _formatted(tmp_path):
        [(_, values), *_] = read(path).table.records
        assert values == [*ROWS[0], "00123", "2024年1月5日", "10:30", "1.50"]


def test_errors_truths_and_long_numbers_keep_their_look(tmp_path: Path) -> None:
    row = ["=NA()", True, 1234567890123, datetime.date(2024, 1, 5), "'x", 0.1]
    path = _book(tmp_path / "a.xlsx", {"a": [["q", "質問", "回答", "d", "e", "f"], row]})
    book = openpyxl.load_workbook(path)
    cell = book["a"]["A2"]
    cell.value, cell.data_type = "#N/A", "e"
    book.save(path)
    [(_, values)] = read(path).table.records
    assert values == ["#N/A", "TRUE", "1234567890123", "2024-01-05", "'x", "0.1"]


def test_furigana_is_no_part_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    parts = _plain(path)
    reading = '<rPh sb="0" eb="2"><t>エイギョウ</t></rPh><phoneticPr fontId="1"/></si>'
    text = parts["xl/sharedStrings.xml"].decode()
    _zipped(path, parts | {"xl/sharedStrings.xml": text.replace("</si>", reading).encode()})
    assert [values for _, values in read(path).table.records] == ROWS


def test_styles_that_only_excel_takes_do_not_matter(tmp_path: Path) -> None:
    path, *_ = _formatted(tmp_path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    styles = parts["xl/styles.xml"].decode()
    parts["xl/styles.xml"] = styles.replace(
        "<fills ", "<fills x='?'><fill/></fills><fills "
    ).encode()
    sheet = parts["xl/worksheets/sheet1.xml"].decode()
    strange = '<dataValidations><dataValidation type="odd"/></dataValidations></worksheet>'
    parts["xl/worksheets/sheet1.xml"] = sheet.replace("</worksheet>", strange).encode()
    _zipped(path, parts)
    assert read(path).table.records[0][1][2:4] == ["00123", "2024年1月5日"]


# --- what a sheet holds ------------------------------------------------------------------


def test_merged_cells_are_filled_and_said(tmp_path: Path) -> None:
    rows = [["分類", *HEADER], ["料金", *ROWS[0]], ["", *ROWS[1]], ["予約", *ROWS[2]]]
    path = _book(tmp_path / "a.xlsx", {"a": rows})
    book = openpyxl.load_workbook(path)
    book["a"].merge_cells("A2:A3")
    book.save(path)
    table = read(path).table
    assert [values[0] for _, values in table.records] == ["料金", "料金", "予約"]
    assert _codes(table)["MERGED_CELLS"] == (3,)


def test_title_of_a_part_fills_no_row(tmp_path: Path) -> None:
    rows = [
        ["質問", "回答"],
        ["■ 館内について"],
        ["何時からですか", "9時からです。"],
        ["どこですか", "北側です。"],
    ]
    path = _book(tmp_path / "a.xlsx", {"FAQ": rows})
    book = openpyxl.load_workbook(path)
    book.active.merge_cells("A2:B2")
    book.save(path)
    found = inspect(path)
    assert (_codes(found)["EMPTY_ANSWER"], found.usable_rows) == ((2,), 2)


def test_strict_open_xml_is_read(tmp_path: Path) -> None:
    parts = _plain(tmp_path / "plain.xlsx")
    for usual, strict in (
        (b"spreadsheetml/2006/main", b"spreadsheetml/main"),
        (b"officeDocument/2006/relationships", b"officeDocument/relationships"),
        (b"officeDocument/2006/extended-properties", b"officeDocument/extendedProperties"),
    ):
        known = b"http://schemas.openxmlformats.org/" + usual
        parts = {
            n: p.replace(known, b"http://purl.oclc.org/ooxml/" + strict) for n, p in parts.items()
        }
    _zipped(tmp_path / "a.xlsx", parts)
    assert inspect(tmp_path / "a.xlsx").usable_rows == len(ROWS)


def test_formulas_give_their_saved_results_or_are_named(tmp_path: Path) -> None:
    book = xlsxwriter.Workbook(str(tmp_path / "a.xlsx"))
    page = book.add_worksheet()
    page.write_row(0, 0, HEADER)
    for at, row in enumerate(ROWS, 1):
        page.write(at, 0, row[0])
        page.write_formula(at, 1, f'="{row[1]}"', None, row[1])
    book.close()
    assert [values for _, values in read(tmp_path / "a.xlsx").table.records] == ROWS
    unsaved = _book(tmp_path / "b.xlsx", {"a": [HEADER, *ROWS, ["合否は？", '=A1&"x"']]})
    found = inspect(unsaved)
    assert _codes(found)["FORMULA_WITHOUT_RESULT"] == (5,)
    assert _codes(found)["EMPTY_ANSWER"] == (5,)


def test_hidden_rows_and_columns_are_said_and_can_be_skipped(tmp_path: Path) -> None:
    rows = [[*HEADER, "内部メモ"], *([*row, "秘"] for row in ROWS)]
    path = _book(tmp_path / "a.xlsx", {"a": rows})
    book = openpyxl.load_workbook(path)
    book["a"].row_dimensions[3].hidden = True
    book["a"].column_dimensions["C"].hidden = True
    book.save(path)
    found = inspect(path)
    assert _codes(found)["HIDDEN_ROWS"] == (3,)
    assert "HIDDEN_COLUMNS" in _codes(found)
    assert (found.source_rows, found.columns) == (3, (*HEADER, "内部メモ"))
    skipped = inspect(path, config=PrepareConfig(hidden="skip"))
    assert "列名だけ" not in skipped.columns
    assert [row["質問"] for row in skipped.preview] == ["営業時間は？", "住所は？"]


# --- sheets ------------------------------------------------------------------------------


def test_sheet_that_holds_the_data_is_read_and_said(tmp_path: Path) -> None:
    cover = [["問い合わせ台帳"], [], ["版", "1.2"], ["この文書は社外秘です。"]]
    sheets = {"表紙": cover, "一覧": [HEADER, *ROWS], "集計": [["月", "件数"], *[["4月", 3]] * 50]}
    path = _book(tmp_path / "a.xlsx", sheets)
    found = inspect(path)
    assert (found.sheet, found.sheets) == ("一覧", ("表紙", "一覧", "集計"))
    assert found.usable_rows == 3
    assert "SHEET" in _codes(found)


def test_asked_sheet_is_read_and_a_like_one_is_named(tmp_path: Path) -> None:
    path = _book(
        tmp_path / "a.xlsx",
        {"2023": [HEADER, *ROWS], "2024": [HEADER, *ROWS, ["駅は？", "北駅です。"]]},
    )
    found = inspect(path)
    assert found.sheet == "2024"
    assert "SHEETS_ALIKE" in _codes(found)
    assert inspect(path, config=PrepareConfig(sheet="2023")).usable_rows == 3
    with pytest.raises(errors.SheetNotFound) as caught:
        inspect(path, config=PrepareConfig(sheet="2022"))
    assert "2023" in str(caught.value)


def test_dataset_of_a_workbook_names_rows_of_the_sheet(tmp_path: Path) -> None:
    path = _book(tmp_path / "a.xlsx", {"a": [["よくある質問"], [], HEADER, *ROWS]})
    paths = DatasetPaths(tmp_path / "datasets" / "x")
    prepare(path, "x", paths, PrepareConfig(valid_share=0.0, test_share=0.0))
    assert sorted(row["row"] for row in read_rows(paths.train)) == [4, 5, 6]


# --- what hides under the name -----------------------------------------------------------

PAGE = """<html xmlns:x="urn:schemas-microsoft-com:office:excel"><head><meta charset="{charset}">
<style>td {{ color: red }}</style></head><body><table border=1>
<tr><td colspan=3>よくある<b>質問</b></td></tr>
<tr><th>分類</th><th>質問</th><th>回答</th></tr>
<tr><td rowspan="2">料金</td><td>いくら&nbsp;ですか？</td><td>600円です。<br>税込みです。</td></tr>
<tr><td>A&amp;Bは？</td><td>&lt;無料&gt;です。</td></tr>
<!-- <tr><td>消した行</td></tr> -->
</table></body></html>"""


@pytest.mark.parametrize("charset", ["utf-8", "cp932"])
def test_page_named_as_workbook_is_read(tmp_path: Path, charset: str) -> None:
    path = tmp_path / "export.xls"
    path.write_bytes(PAGE.format(charset=charset).encode(charset))
    table = read(path).table
    assert (table.format, table.columns) == ("html", ("分類", "質問", "回答"))
    assert [values for _, values in table.records] == [
        ["料金", "いくら ですか？", "600円です。\n税込みです。"],
        ["料金", "A&Bは？", "<無料>です。"],
    ]


def test_text_named_as_workbook_is_read(tmp_path: Path) -> None:
    path = tmp_path / "export.xls"
    path.write_text("質問\t回答\nあ\tい\n", encoding="utf-16")
    assert read(path).table.records == [(2, ["あ", "い"])]


def test_workbook_named_otherwise_is_read_by_its_bytes(tmp_path: Path) -> None:
    book = draw(3, 20)
    for ending, write in WRITERS.items():
        write(book, tmp_path / f"a{ending}")
        renamed = (tmp_path / f"a{ending}").rename(tmp_path / "b.xls")
        assert [values for _, values in read(renamed).table.records] == book.records


# --- generated workbooks -----------------------------------------------------------------


def _mistakes(seeds: range, folder: Path, largest: int) -> list[str]:
    """Workbooks of which something else was read than is in them."""
    wrong = []
    for seed in seeds:
        book = draw(seed, largest)
        ending = list(WRITERS)[seed % len(WRITERS)]
        path = folder / f"{seed}{ending}"
        WRITERS[ending](book, path)
        table = read(path).table
        values = [values for _, values in table.records]
        is_right = list(table.columns) == book.columns and values == book.records
        if not is_right or table.records[0][0] != book.first_row:
            wrong.append(path.name)
        path.unlink()
    return wrong


def test_generated_workbooks_are_read_right(tmp_path: Path) -> None:
    assert _mistakes(range(24), tmp_path, 60) == []


@pytest.mark.long
def test_two_hundred_generated_workbooks_are_read_right(tmp_path: Path) -> None:
    assert len(_mistakes(range(1000, 1200), tmp_path, 20_000)) <= 6


# --- hostile workbooks -------------------------------------------------------------------

_NAMESPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_SHEET = f'<worksheet xmlns="{_NAMESPACE}"><sheetData>'
_END = "</sheetData></worksheet>"
_FILLED = "".join(
    f'<row r="{row}"><c r="A{row}" t="inlineStr"><is><t>{a}</t></is></c>'
    f'<c r="B{row}" t="inlineStr"><is><t>{b}</t></is></c></row>'
    for row, (a, b) in enumerate([HEADER, ROWS[0]], 1)
)
_LAUGHS = "<!DOCTYPE x [<!ENTITY a0 'ha'>{}]>".format(
    "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))
)


def _hostile(path: Path, kind: str) -> None:
    """A workbook with this sheet or part in place of the honest one."""
    sheet = "xl/worksheets/sheet1.xml"
    cells = "".join(f'<c r="{openpyxl.utils.get_column_letter(n)}1"{{}}' for n in range(1, 16_385))
    made = {
        "zip bomb": lambda: {sheet: _SHEET + _FILLED + "<row/>" * (1 << 23) + _END},
        "laughs": lambda: {
            sheet: f'{_LAUGHS}{_SHEET}<row><c t="inlineStr"><is><t>&a9;</t></is></c></row>{_END}'
        },
        "laughs in strings": lambda: {
            "xl/sharedStrings.xml": f'{_LAUGHS}<sst xmlns="{_NAMESPACE}"><si><t>&a9;</t></si></sst>'
        },
        "columns": lambda: {
            sheet: f'{_SHEET}<row r="1">{cells.format(*["><v>1</v></c>"] * 16_384)}</row>{_END}'
        },
        "empty columns": lambda: {
            sheet: _SHEET + f"<row>{cells.format(*['/>'] * 16_384)}</row>" * 60 + _END
        },
        "empty rows": lambda: {
            sheet: _SHEET
            + _FILLED
            + "".join(f'<row r="{row}" ht="{row % 50 + 10}" customHeight="1"/>' for row in range(3, 1_048_577))
            + _END
        },
        "merged": lambda: {
            sheet: f'{_SHEET}{_FILLED}</sheetData><mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells></worksheet>'
        },
        "deep": lambda: {sheet: f'{_SHEET}<row>{"<a>" * 200_000}{"</a>" * 200_000}</row>{_END}'},
    }  # fmt: skip
    changed = {name: text.encode() for name, text in made[kind]().items()}
    _zipped(path, _plain(path) | changed)


_LIMITED = """
import resource, sys, time
from pathlib import Path
import openpyxl, xlrd
from mlx_finetuning.data_processor import inspect
from mlx_finetuning.errors import StudioError
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
start = time.process_time()
try:
    inspect(Path(sys.argv[1]))
except StudioError as error:
    print(error)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert time.process_time() - start < 5, time.process_time() - start
    assert peak < 1 << 30, peak
    sys.exit(7)
"""
KINDS = [
    "zip bomb",
    "laughs",
    "laughs in strings",
    "columns",
    "empty columns",
    "empty rows",
    "merged",
    "deep",
]


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_workbook_is_refused_in_time(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.xlsx"
    _hostile(path, kind)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _LIMITED, str(path)]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 7, done.stdout + done.stderr
    assert "不明" not in done.stdout


@pytest.mark.parametrize("name", ["a.xls", "b.xls", "c.xls"])
def test_page_made_to_exhaust_ends_in_time(tmp_path: Path, name: str) -> None:
    text = {
        "a.xls": "<table><tr>" + "<td" * 300_000,
        "b.xls": "<table><tr>" + "<td rowspan=99999 colspan=99999>あ" * 300,
        "c.xls": "<table>" + "<!--" * 300_000 + "<script>" * 300_000,
    }[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", _LIMITED, str(tmp_path / name)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    assert subprocess.run(command, check=False, env=environment).returncode == 7


def test_sizes_that_lie_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    _hostile(path, "zip bomb")
    raw = bytearray(path.read_bytes())
    entry = raw.rfind(b"xl/worksheets/sheet1.xml") - 46
    raw[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(errors.WorkbookUnreadable):
        inspect(path)


def test_macros_and_links_are_not_opened(tmp_path: Path) -> None:
    path = _book(tmp_path / "a.xlsm", {"a": [HEADER, *ROWS]})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("xl/vbaProject.bin", b"\0" * 100)
        archive.writestr("xl/externalLinks/externalLink1.xml", b"<not xml")
    assert inspect(path).usable_rows == 3


def test_protected_workbook_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    name = "EncryptedPackage".encode("utf-16-le")
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000) + name + bytes(1000))
    with pytest.raises(errors.WorkbookEncrypted):
        inspect(path)


def test_damaged_workbooks_get_their_error(tmp_path: Path) -> None:
    book = draw(5, 20)
    for ending, write in WRITERS.items():
        path = tmp_path / f"a{ending}"
        write(book, path)
        whole = path.read_bytes()
        for length in (9, len(whole) // 3, len(whole) * 9 // 10):
            path.write_bytes(whole[:length])
            with pytest.raises(errors.DataError):
                inspect(path)


# --- speed -------------------------------------------------------------------------------


@pytest.mark.long
def test_hundred_thousand_rows_are_read_in_time(tmp_path: Path) -> None:
    book = xlsxwriter.Workbook(str(tmp_path / "a.xlsx"))
    page = book.add_worksheet()
    page.write_row(0, 0, HEADER)
    for row in range(1, 100_001):
        page.write_row(row, 0, [f"商品{row}の値段は？", f"商品{row}は{row % 900}円です。" * 3])
    book.close()
    script = _LIMITED.replace("< 5", "< 20").replace("except StudioError as error", "finally")
    script = script.replace("    print(error)\n", "")
    command = [sys.executable, "-c", script, str(tmp_path / "a.xlsx")]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    assert subprocess.run(command, check=False, env=environment).returncode == 7
