"""Source files: every format's rows and line numbers, and a Japanese error for each bad one."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from mlx_finetuning import errors
from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import inspect, prepare
from mlx_finetuning.data_processor.readers.read import read
from mlx_finetuning.data_processor.readers.tables import Table, parse
from mlx_finetuning.workspace import DatasetPaths


def _parsed(text: str, name: str) -> Table:
    return parse(text, Path(name))


def test_csv_rows_carry_the_line_they_begin_at() -> None:
    table = _parsed('質問,回答\n"1行目\n2行目",答え\n\n次,答え2\n', "a.csv")
    assert table.columns == ("質問", "回答")
    assert table.records == [(2, ["1行目\n2行目", "答え"]), (5, ["次", "答え2"])]


@pytest.mark.parametrize(("name", "sign"), [("a.tsv", "\t"), ("a.csv", "\t"), ("a.csv", ";")])
def test_delimiter_is_found(name: str, sign: str) -> None:
    assert _parsed(f"質問{sign}回答\nあ,い{sign}う\n", name).records == [(2, ["あ,い", "う"])]


def test_rows_with_other_column_counts_are_named_and_kept() -> None:
    table = _parsed("質問,回答\nあ\nい,う,え\nお,か\n,\n", "a.csv")
    assert [values for _, values in table.records] == [["あ", ""], ["い", "う"], ["お", "か"]]
    assert {found.code: found.rows for found in table.findings} == {
        "RAGGED_ROW": (2, 3),
        "BLANK_ROW": (5,),
    }


def test_loose_quotes_are_read_with_a_warning() -> None:
    table = _parsed('質問,回答\n"あ"い,う\n', "a.csv")
    assert table.records == [(2, ["あい", "う"])]
    assert table.findings[0].code == "LOOSE_QUOTES"


def test_unclosed_quote_names_the_line_where_it_opens() -> None:
    with pytest.raises(errors.SourceMalformed) as caught:
        _parsed('質問,回答\nあ,い\n"う,え\nお,か\n', "a.csv")
    assert caught.value.data["line"] == 3


def test_nameless_and_repeated_columns_stay_apart() -> None:
    assert _parsed("質問,,質問\na,b,c\n", "a.csv").columns == ("質問", "列2", "質問（3列目）")


def test_json_elements_carry_their_lines() -> None:
    text = '[\n  {"質問": "あ", "回答": "い"},\n\n  {"質問": "う",\n   "分類": 3}\n]\n'
    table = _parsed(text, "a.json")
    assert table.columns == ("質問", "回答", "分類")
    assert table.records == [(2, ["あ", "い", None]), (4, ["う", None, 3])]


def test_json_on_one_line_counts_its_records() -> None:
    assert [row for row, _ in _parsed('[{"a": 1}, {"a": 2}]', "a.json").records] == [1, 2]


def test_list_inside_an_object_and_lines_named_json_are_read() -> None:
    assert len(_parsed('{"版": 1, "data": [{"a": 1}, {"a": 2}]}', "a.json").records) == 2
    assert [row for row, _ in _parsed('{"a": 1}\n\n{"a": 2}\n', "a.json").records] == [1, 3]


def test_jsonl_keeps_unusual_line_separators_inside_strings() -> None:
    table = _parsed(json.dumps({"text": "a\u2028b"}, ensure_ascii=False) + "\r\n", "a.jsonl")
    assert table.records == [(1, ["a\u2028b"])]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.json", '[\n{"a": 1},\n{"a": }\n]', 3),
        ("a.json", '[\n{"a": 1}\n{"a": 2}\n]', 3),
        ("a.json", '[\n{"a": 1},\n]', 3),
        ("a.json", '[\n{"a": 1},\n{"a": 2}\n', 3),
        ("a.json", '[\n{"a": 1}\n] x', 3),
        ("a.json", '[{"a": 1},\n 5]', 2),
        ("a.json", '"text"', 1),
        ("a.json", "[" * 10_000, 1),
        ("a.json", "[" + "9" * 10_000 + "]", 1),
        ("a.jsonl", '{"a": 1}\n{"a": ' + "9" * 10_000 + "}", 2),
        ("a.jsonl", "".join(f'{{"{n}": 1}}\n' for n in range(2000)), 1),
        ("a.csv", ",".join(map(str, range(2000))) + "\n1,2\n", 1),
        ("a.jsonl", '{"a": 1}\n{"a": 2\n', 2),
        ("a.jsonl", '{"a": 1}\n{"a": 1} {"a": 2}\n', 2),
        ("a.jsonl", '{"a": 1}\n' + '{"a":' * 10_000, 2),
    ],
)
def test_malformed_json_names_the_line(name: str, text: str, line: int) -> None:
    with pytest.raises(errors.SourceMalformed) as caught:
        _parsed(text, name)
    assert caught.value.data["line"] == line


def test_long_blank_lines_take_no_long_time() -> None:
    table = _parsed(" " * 1_000_000 + "\n" + "\t" * 900_000 + "x\n\n" + " " * 1_000_000, "a.txt")
    assert [line for line, _ in table.records] == [2]


def test_text_is_read_by_paragraphs() -> None:
    table = _parsed("一段落目\n続き\r\n\r\n\n二段落目\n", "a.txt")
    assert table.records == [(1, ["一段落目\n続き"]), (5, ["二段落目"])]


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.csv", "質問,回答\n")
    return stream.getvalue()


BAD_FILES: list[tuple[str, bytes, type[errors.StudioError]]] = [
    ("empty.csv", b"", errors.SourceEmpty),
    ("blank.csv", b" \r\n\r\n", errors.SourceEmpty),
    ("bom.csv", b"\xef\xbb\xbf", errors.SourceEmpty),
    ("empty.json", b"[]", errors.SourceEmpty),
    ("header.csv", "質問,回答\n".encode(), errors.SourceHeaderOnly),
    ("header16.csv", "質問,回答\n".encode("utf-16"), errors.SourceHeaderOnly),
    ("zip.csv", _zip(), errors.SourceBinary),
    ("book.xlsx", _zip(), errors.SourceBinary),
    ("empty.xlsx", b"", errors.SourceEmpty),
    ("cut.xlsx", _zip()[:50], errors.WorkbookUnreadable),
    ("junk.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(5000), errors.WorkbookUnreadable),
    ("empty.xls", b"<html><body></body></html>", errors.SourceEmpty),
    ("nul.csv", "質問,回答\nあ\0い,う\n".encode(), errors.SourceBinary),
    ("noise.csv", bytes(range(1, 32)) * 20, errors.SourceBinary),
    ("a.docm", "質問,回答\nあ,い\n".encode(), errors.SourceUnsupported),
    ("plain", "質問,回答\nあ,い\n".encode(), errors.SourceUnsupported),
    ("names.csv", "名前,値段\nあ,い\n".encode(), errors.ColumnsNotFound),
    ("half.csv", "質問,値段\nあ,い\n".encode(), errors.ColumnsNotFound),
    ("hollow.csv", "質問,回答\nあ, \n　,い\n".encode(), errors.NoUsableRows),
    ("cell.csv", ("質問,回答\nあ," + "い" * 2_000_000).encode(), errors.CellTooLong),
    ("cell.jsonl", json.dumps({"text": "い" * 2_000_000}).encode(), errors.CellTooLong),
    ("cell.txt", ("い" * 2_000_000).encode(), errors.CellTooLong),
]


@pytest.mark.parametrize(("name", "raw", "error"), BAD_FILES, ids=[row[0] for row in BAD_FILES])
def test_bad_file_gets_its_error_and_leaves_nothing(
    tmp_path: Path, name: str, raw: bytes, error: type[errors.StudioError]
) -> None:
    source = tmp_path / name
    source.write_bytes(raw)
    _expect(error, source, tmp_path)
    assert source.read_bytes() == raw


def test_refused_file_is_told_every_ending_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.docm").write_text("あ")
    with pytest.raises(errors.SourceUnsupported) as caught:
        read(tmp_path / "a.docm")
    assert {".csv", ".xlsx", ".xls", ".htm", ".parquet", ".md"} <= set(
        caught.value.data["supported"]
    )


def test_missing_file_folder_and_device_get_their_errors(tmp_path: Path) -> None:
    _expect(errors.SourceNotFound, tmp_path / "no.csv", tmp_path)
    _expect(errors.SourceIsFolder, tmp_path, tmp_path)
    _expect(errors.SourceUnreadable, Path("/dev/null"), tmp_path)


def _expect(error: type[errors.StudioError], source: Path, tmp_path: Path) -> None:
    datasets = tmp_path / "datasets"
    with pytest.raises(error) as caught:
        prepare(source, "new", DatasetPaths(datasets / "new"), PrepareConfig())
    assert "不明" not in str(caught.value), "every placeholder of the wording is filled"
    assert not datasets.exists()


def test_wrong_override_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("質問,回答\n営業時間は？,9時です。\n", encoding="cp932")
    with pytest.raises(errors.EncodingMismatch):
        inspect(source, "utf-8")


def test_linked_source_is_read_and_named(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    target.write_text("質問,回答\nあ,い\n", encoding="utf-8")
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    found = {item.code: item.message for item in inspect(link).findings}
    assert str(target) in found["SYMLINK"]
