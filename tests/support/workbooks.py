"""Spreadsheets as people make them, with what should be read of them: `python workbooks.py FOLDER`.

A sheet is drawn from a seed: titles and notes above the header, headers of one row or two, merged
cells, formulas, dates and numbers in formats, blank columns, hidden sheets, other sheets, totals.
"""

from __future__ import annotations

import datetime
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import xlsxwriter
import xlwt

QUESTIONS = ("質問", "問い合わせ内容", "お困りごと", "質問（必須）", "Question", "ご相談", "質問文")
ANSWERS = ("回答", "回答内容", "ご案内", "回答例", "Answer", "お返事", "回答文")
EXTRAS = ("番号", "カテゴリ", "備考", "担当者", "更新日", "単価", "公開", "達成率", "受付時刻")
TITLES = (
    "よくある質問一覧",
    "青葉館 FAQ 2024年度版",
    "お問い合わせ対応表（社外秘）",
    "ヘルプデスク台帳",
)
SUBJECTS = (
    "開館時間",
    "休館日",
    "駐車場",
    "会議室",
    "貸し出し",
    "予約",
    "返却",
    "コピー機",
    "団体利用",
    "展示",
)


@dataclass(frozen=True)
class Cell:
    """A value as the file holds it, and as it is shown."""

    value: Any
    shown: str
    format: str = ""
    formula: str = ""


@dataclass
class Sheet:
    """The grid of one sheet."""

    name: str
    rows: list[list[Cell | None]] = field(default_factory=list)
    merged: list[tuple[int, int, int, int]] = field(default_factory=list)
    """First and last row, first and last column, from 0."""
    is_hidden: bool = False


@dataclass
class Book:
    """A workbook, and the table that is to be found in it."""

    sheets: list[Sheet]
    columns: list[str]
    records: list[list[str]]
    first_row: int
    """Of the records, as numbered in the sheet."""
    sheet: str


def text(value: str) -> Cell:
    return Cell(value, value)


def draw(seed: int, largest: int = 20_000) -> Book:
    """The workbook of this seed, of 20 to `largest` rows."""
    rng = random.Random(seed)
    extras = rng.sample(EXTRAS, rng.randrange(0, 5))
    names = [rng.choice(QUESTIONS), rng.choice(ANSWERS)]
    columns = extras[: len(extras) // 2] + names + extras[len(extras) // 2 :]
    if rng.random() < 0.15:
        columns.insert(rng.randrange(len(columns)), names[1] + "2")
    count = min(largest, int(20 * 10 ** rng.uniform(0, 3)))
    sheet = Sheet(rng.choice(("Sheet1", "FAQ", "質問と回答", "一覧")))
    indent = rng.random() < 0.15
    _draw_top(rng, sheet, len(columns))
    header_at = len(sheet.rows)
    is_double = len(extras) > 1 and rng.random() < 0.2
    if is_double:
        upper: list[Cell | None] = [text(name) for name in columns]
        lower: list[Cell | None] = [None] * len(columns)
        at = columns.index(extras[0]) if extras[0] in columns else 0
        span = [at, at + 1] if at + 1 < len(columns) and columns[at + 1] in extras else [at]
        if len(span) == 2:
            upper[at], upper[at + 1] = text("管理情報"), None
            for column in span:
                lower[column] = text(columns[column])
            sheet.merged.append((header_at, header_at, at, at + 1))
            for column in range(len(columns)):
                if column not in span:
                    sheet.merged.append((header_at, header_at + 1, column, column))
            sheet.rows += [upper, lower]
            columns = [
                f"管理情報 {name}" if at in span else name for at, name in enumerate(columns)
            ]
        else:
            is_double = False
    if not is_double:
        sheet.rows.append([text(name) for name in columns])
    first = len(sheet.rows)
    table = [[_cell(rng, name, number) for name in columns] for number in range(1, count + 1)]
    sheet.rows += table  # type: ignore[arg-type]  # lists of cells alone
    records = [[cell.shown for cell in row] for row in table]
    if "カテゴリ" in columns and rng.random() < 0.4:
        at = columns.index("カテゴリ")
        for start in range(0, count - 4, 5):
            for row in range(start + 1, start + 5):
                records[row][at] = records[start][at]
                sheet.rows[first + row][at] = None
            sheet.merged.append((first + start, first + start + 4, at, at))
    if "単価" in columns and rng.random() < 0.5:
        total: list[Cell | None] = [None] * len(columns)
        total[0] = text(rng.choice(("合計", "総計")))
        at = columns.index("単価")
        if at:
            total[at] = Cell(12345, "12345")
            sheet.rows.append(total)
    if indent:
        sheet.rows = [[None, *row] for row in sheet.rows]
        sheet.merged = [(a, b, left + 1, right + 1) for a, b, left, right in sheet.merged]
    return Book(_with_others(rng, sheet), columns, records, first + 1, sheet.name)


def _draw_top(rng: random.Random, sheet: Sheet, width: int) -> None:
    """Nothing, a title, notes, or both, with or without a blank row."""
    kind = rng.randrange(6)
    if kind in (1, 2, 3):
        sheet.rows.append([text(rng.choice(TITLES))])
        if rng.random() < 0.5 and width > 1:
            sheet.merged.append((0, 0, 0, width - 1))
    if kind in (2, 3):
        sheet.rows.append([text("作成日"), _date(rng)])
    if kind == 3:
        sheet.rows.append([text("※ この表は窓口で使うものです。外に出さないでください。")])
    if kind == 4:
        sheet.rows += [[text("部署"), text("総務部")], [text("作成者"), text("山田 太郎")]]
    if kind == 5:
        sheet.rows.append([])
    if kind in (1, 2, 3, 4) and rng.random() < 0.6:
        sheet.rows.append([])


def _date(rng: random.Random) -> Cell:
    day = datetime.date(2024, 1, 1) + datetime.timedelta(days=rng.randrange(700))
    serial = (day - datetime.date(1899, 12, 30)).days
    if rng.random() < 0.5:
        return Cell(serial, f"{day.year}/{day.month:02d}/{day.day:02d}", "yyyy/mm/dd")
    return Cell(serial, f"{day.year}年{day.month}月{day.day}日", 'yyyy"年"m"月"d"日"')


def _cell(rng: random.Random, name: str, number: int) -> Cell:
    subject = f"{rng.choice(SUBJECTS)}{number}"
    match name.removeprefix("管理情報 "):
        case "番号":
            return Cell(number, f"{number:05d}", "00000")
        case "カテゴリ":
            return text(rng.choice(("施設", "料金", "予約", "その他")))
        case "備考":
            return text("" if rng.random() < 0.8 else "要確認")
        case "担当者":
            return text(rng.choice(("田中", "佐藤", "鈴木")))
        case "更新日":
            return _date(rng)
        case "単価":
            price = rng.randrange(100, 90_000)
            return Cell(price, f"{price:,}", "#,##0", f"{price}+0")
        case "公開":
            return text(rng.choice(("可", "不可")))
        case "達成率":
            share = rng.randrange(1000)
            return Cell(share / 1000, f"{share / 10:.1f}%", "0.0%")
        case "受付時刻":
            minutes = rng.randrange(480, 1200)
            return Cell(minutes / 1440, f"{minutes // 60}:{minutes % 60:02d}", "h:mm")
        case _ if name in QUESTIONS:
            return text(f"{subject}について教えてください" + rng.choice(("。", "", "？")))
        case _:
            ending = rng.choice(("", "\n詳しくは受付までお尋ねください。"))
            return text(
                f"{subject}は{number % 12}時から{number % 7 + 1}号室でご案内しています。{ending}"
            )


def _with_others(rng: random.Random, sheet: Sheet) -> list[Sheet]:
    """The sheet among a cover, a list of choices, figures, or a hidden one."""
    sheets = [sheet]
    if rng.random() < 0.25:
        rows: list[list[Cell | None]] = [
            [text("青葉館 問い合わせ台帳")],
            [],
            [text("版"), text("1.2")],
            [text("この文書は社外秘です。")],
        ]
        sheets.insert(0, Sheet("表紙", [*rows]))
    if rng.random() < 0.2:
        months: list[list[Cell | None]] = [
            [text(f"{month}月"), Cell(month * 3, str(month * 3))] for month in range(1, 13)
        ]
        sheets.append(Sheet("集計", [[text("月"), text("件数")], *months]))
    if rng.random() < 0.15:
        lists: list[list[Cell | None]] = [[text(name)] for name in ("施設", "料金", "予約")]
        sheets.insert(0, Sheet("選択肢", [[text("カテゴリ")], *lists], is_hidden=True))
    return sheets


def write_xlsx(book: Book, path: Path) -> None:
    out = xlsxwriter.Workbook(
        str(path), {"strings_to_formulas": False, "strings_to_numbers": False}
    )
    formats: dict[str, Any] = {"": None}
    for sheet in book.sheets:
        page = out.add_worksheet(sheet.name)
        for top, bottom, left, right in sheet.merged:
            if (top, left) != (bottom, right):
                page.merge_range(top, left, bottom, right, "")
        for row, cells in enumerate(sheet.rows):
            for column, cell in enumerate(cells):
                if cell is None or cell.value == "":
                    continue
                if cell.format not in formats:
                    formats[cell.format] = out.add_format({"num_format": cell.format})
                style = formats[cell.format]
                if cell.formula:
                    page.write_formula(row, column, f"={cell.formula}", style, cell.value)
                elif isinstance(cell.value, str):
                    page.write_string(row, column, cell.value, style)
                else:
                    page.write_number(row, column, cell.value, style)
        if sheet.is_hidden:
            page.hide()
    visible = next(at for at, sheet in enumerate(book.sheets) if not sheet.is_hidden)
    out.worksheets()[visible].activate()
    out.worksheets()[visible].set_first_sheet()
    out.close()


def write_xls(book: Book, path: Path) -> None:
    out = xlwt.Workbook(encoding="utf-8")
    styles: dict[str, Any] = {}
    for sheet in book.sheets:
        page = out.add_sheet(sheet.name, cell_overwrite_ok=True)
        page.visibility = int(sheet.is_hidden)
        for row, cells in enumerate(sheet.rows):
            for column, cell in enumerate(cells):
                if cell is not None and cell.value != "":
                    if cell.format not in styles:
                        styles[cell.format] = xlwt.XFStyle()
                        styles[cell.format].num_format_str = cell.format or "General"
                    page.write(row, column, cell.value, styles[cell.format])
        for top, bottom, left, right in sheet.merged:
            if (top, left) != (bottom, right):
                page.merge(top, bottom, left, right)
    out.active_sheet = next(at for at, sheet in enumerate(book.sheets) if not sheet.is_hidden)
    out.save(str(path))


_ODS = (
    '<?xml version="1.0" encoding="UTF-8"?><office:document-content '
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" office:version="1.2">'
    '<office:automatic-styles><style:style style:name="off" style:family="table">'
    '<style:table-properties table:display="false"/></style:style></office:automatic-styles>'
    "<office:body><office:spreadsheet>"
)
_MANIFEST = (
    '<?xml version="1.0"?><manifest:manifest '
    'xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
)


def write_ods(book: Book, path: Path) -> None:
    parts = [_ODS]
    for sheet in book.sheets:
        style = ' table:style-name="off"' if sheet.is_hidden else ""
        parts.append(f'<table:table table:name="{escape(sheet.name)}"{style}><table:table-column/>')
        spans = {(top, left): (bottom - top + 1, right - left + 1)
                 for top, bottom, left, right in sheet.merged}  # fmt: skip
        for row, cells in enumerate(sheet.rows):
            parts.append("<table:table-row>")
            for column, cell in enumerate(cells):
                parts.append(_ods_cell(cell, spans.get((row, column))))
            parts.append(
                '<table:table-cell table:number-columns-repeated="1000"/></table:table-row>'
            )
        parts.append('<table:table-row table:number-rows-repeated="1000000"><table:table-cell '
                     'table:number-columns-repeated="1024"/></table:table-row></table:table>')  # fmt: skip
    parts.append("</office:spreadsheet></office:body></office:document-content>")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", _MANIFEST)
        archive.writestr("content.xml", "".join(parts))


def _ods_cell(cell: Cell | None, span: tuple[int, int] | None) -> str:
    if cell is None or cell.value == "":
        return "<table:table-cell/>"
    size = ""
    if span:
        size = f' table:number-rows-spanned="{span[0]}" table:number-columns-spanned="{span[1]}"'
    kind = ' office:value-type="string"'
    if not isinstance(cell.value, str):
        kind = f' office:value-type="float" office:value="{cell.value}"'
    lines = "".join(f"<text:p>{escape(line)}</text:p>" for line in cell.shown.split("\n"))
    return f"<table:table-cell{kind}{size}>{lines}</table:table-cell>"


WRITERS: dict[str, Callable[[Book, Path], None]] = {
    ".xlsx": write_xlsx,
    ".xls": write_xls,
    ".ods": write_ods,
}
