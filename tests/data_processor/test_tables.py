"""Where the table lies in a text: delimiter, header, repeated headers, totals; what was chosen is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_finetuning import errors
from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import inspect, prepare, read_manifest, reproduce
from mlx_finetuning.data_processor.readers.tables import Table, parse
from mlx_finetuning.data_processor.settings import table_options
from mlx_finetuning.workspace import DatasetPaths

FACTS = [
    ("営業時間を教えてください", "9時から18時までです。"),
    ("休みはいつですか", "毎週火曜日が休みです。"),
    ("駐車場はありますか", "建物の北側に20台分あります。"),
    ("会議室の料金は", "2時間で600円です。"),
]
RECORDS = [list(fact) for fact in FACTS]


def _text(sign: str = ",", header: str = "質問,回答", above: str = "") -> str:
    lines = [header, *(f"{question},{answer}" for question, answer in FACTS)]
    return above + "\n".join(lines).replace(",", sign) + "\n"


def _parsed(text: str, name: str = "a.csv", **settings: str) -> Table:
    return parse(text, Path(name), options=table_options(PrepareConfig(**settings)))


def _values(table: Table) -> list[list[str]]:
    return [values for _, values in table.records]


def _codes(table: Table) -> dict[str, tuple[int, ...]]:
    return {found.code: found.rows for found in table.findings}


@pytest.mark.parametrize("sign", ["\t", ";", "|", "，", "、"])
def test_delimiter_is_judged_over_the_records(sign: str) -> None:
    table = _parsed(_text(sign))
    assert table.columns == ("質問", "回答")
    assert _values(table) == RECORDS
    assert "DELIMITER" in _codes(table)


def test_comma_is_nothing_to_speak_of() -> None:
    assert _codes(_parsed(_text())) == {}


def test_signs_inside_names_and_answers_divide_nothing() -> None:
    table = _parsed("質問（本,雑誌）;回答\nあ,い;う、え\nか;き,く,け\n")
    assert table.columns == ("質問（本,雑誌）", "回答")
    assert _values(table) == [["あ,い", "う、え"], ["か", "き,く,け"]]
    assert _parsed('"質問; 詳細","回答"\n"a; b","c; d"\n').columns == ("質問; 詳細", "回答")
    assert _parsed('"質問\n（必須）"\t回答\nあ\tい\n').columns == ("質問 （必須）", "回答")


@pytest.mark.parametrize("line", ["sep=;\n", '"sep=;"\r\n', "SEP=;\r\n", "\ufeffsep=;\n"])
def test_sep_line_names_the_delimiter(line: str) -> None:
    table = _parsed(line + _text(";"))
    assert table.columns == ("質問", "回答")
    assert table.records[0] == (3, RECORDS[0])


def test_prose_with_commas_is_one_column() -> None:
    table = _parsed("本文\n今日は、晴れ、です\n明日は、雨\n")
    assert table.columns == ("本文",)
    assert "ONE_COLUMN" in _codes(table)


def test_table_of_bars_is_read_without_its_rule() -> None:
    table = _parsed("| 質問 | 回答 |\n|---|:---|\n| 営業は | 9時です |\n| 休みは | 火曜です |\n")
    assert table.columns == ("質問", "回答")
    assert _values(table) == [["営業は", "9時です"], ["休みは", "火曜です"]]


def test_fixed_width_is_split_below_known_names_and_named_below_others() -> None:
    text = "質問          回答\n営業時間は    9時です\n休みは        火曜です\n"
    table = _parsed(text)
    assert "FIXED_COLUMNS" in _codes(table)
    assert _values(table) == [["営業時間は", "9時です"], ["休みは", "火曜です"]]
    assert "FIXED_WIDTH" in _codes(_parsed(text.replace("質問", "項目").replace("回答", "内訳")))


def test_asked_delimiter_is_taken() -> None:
    assert _values(_parsed(_text("^"), delimiter="^")) == RECORDS
    assert _values(_parsed(_text("\t"), delimiter="tab")) == RECORDS
    for wrong in ("ab", '"', ""):
        with pytest.raises(errors.InvalidSettings):
            table_options(PrepareConfig(delimiter=wrong, header_row="x"))


@pytest.mark.parametrize(
    "above",
    [
        "よくある質問,\n",
        "よくある質問\n",
        "よくある質問,\n作成日,2024/05/01\n",
        "よくある質問,\n作成日,2024/05/01\n,\n",
        ",\n,\n",
        "\n\n",
        "作成者,山田 太郎\n,\n",
        "※ この表は社内用です。,\n\n",
        "# exported by a tool\n# 2024-05-01\n",
        "お客様,当館\n",
        "青葉館 FAQ,第2版\n",
    ],
)
@pytest.mark.parametrize("header", ["質問,回答", "【設問】,【アンサー】", "お困りごと,ご案内"])
def test_header_is_found_below_what_stands_above_it(above: str, header: str) -> None:
    table = _parsed(_text(header=header, above=above))
    if above in ("お客様,当館\n", "青葉館 FAQ,第2版\n") and header == "お困りごと,ご案内":
        assert "HEADER_DOUBTFUL" in _codes(table), "nothing tells a title from these names"
        return
    assert table.columns == tuple(header.split(","))
    assert _values(table) == RECORDS
    assert table.records[0][0] == above.count("\n") + 2
    if above.strip(",\n"):
        assert {"ABOVE_HEADER", "ROWS_LOST"} & _codes(table).keys()


def test_header_of_two_rows_names_each_column() -> None:
    table = _parsed(
        "番号,質問,回答,\n,,一次,二次\n1,営業は,9時です。,電話で。\n2,休みは,火曜です。,\n"
    )
    assert table.columns == ("番号", "質問", "回答 一次", "回答 二次")
    assert [row for row, _ in table.records] == [3, 4]
    grouped = _parsed("お客様,,当館,\n日付,内容,日付,内容\n2024/1/1,営業は,2024/1/2,9時です。\n")
    assert grouped.columns == ("お客様 日付", "お客様 内容", "当館 日付", "当館 内容")
    ignored = _parsed(
        "お客様,,当館,\n番号,質問,回答,備考\n1,営業は,9時です。,\n2,休みは,火曜です。,\n"
    )
    assert ignored.columns == ("番号", "質問", "回答", "備考")


@pytest.mark.parametrize("header", ["質問,回答,,質問,回答", "質問,回答,2023,2024,備考"])
def test_names_that_repeat_or_are_years_are_a_header(header: str) -> None:
    body = "営業は,9時です。,1,休みは,火曜です。\n駅は,北駅です。,2,道は,国道です。\n"
    table = _parsed(f"よくある質問\n{header}\n{body}")
    assert table.columns[:2] == ("質問", "回答")
    assert [row for row, _ in table.records] == [3, 4]


def test_file_without_a_header_loses_no_row() -> None:
    table = _parsed("\n".join(f"{question},{answer}" for question, answer in FACTS))
    assert (table.columns, _values(table)) == (("列1", "列2"), RECORDS)
    assert _codes(table) == {"NO_HEADER": (1,)}
    numbered = _parsed("".join(f"{n},{q},{a}\n" for n, (q, a) in enumerate(FACTS, 1)))
    assert len(numbered.records) == 4
    assert "NO_HEADER" in _codes(numbered)


@pytest.mark.parametrize(
    "text",
    [
        "タイムスタンプ,ご質問を教えてください。,担当からの回答\n2024/05/01 10:00,営業は？,9時です。\n",
        "英語,日本語\napple,りんご\n\nbanana,バナナ\ncat,猫\n",
        "question,answer\nWhat is it?,It is a pen.\nWho?,Me.\n",
        "x,y\n1,2\n3,4\n",
    ],
)
def test_plain_header_is_not_taken_for_data(text: str) -> None:
    table = _parsed(text)
    assert table.columns == tuple(text.split("\n")[0].split(","))
    assert not {"NO_HEADER", "HEADER_DOUBTFUL", "HEADER_ROW"} & _codes(table).keys()


def test_asked_header_row_is_taken() -> None:
    text = _text(above="青葉館 FAQ,第2版\n")
    assert _parsed(text, header_row="2").columns == ("質問", "回答")
    assert len(_parsed(text, header_row="0").records) == 6
    assert _parsed(text, header_row="1-2").columns == ("青葉館 FAQ 質問", "第2版 回答")
    for wrong in ("99", "7-8"):
        with pytest.raises(errors.HeaderRowNotFound) as caught:
            _parsed(text, header_row=wrong)
        assert "不明" not in str(caught.value)


def test_repeated_header_and_sums_are_no_records() -> None:
    table = _parsed("質問,回答,件数\nあ,い,1\n\ufeff質問,回答,件数\nう,え,2\n合計,,3\n")
    assert _values(table) == [["あ", "い", "1"], ["う", "え", "2"]]
    assert _codes(table) == {"REPEATED_HEADER": (3,), "TOTAL_ROW": (5,)}
    kept = _parsed("質問,回答\n合計は？,3です。\n合計,3つの数を足したものです。\n")
    assert len(kept.records) == 2


def test_header_is_said_once_more_in_another_language_and_numbered_rows_are_data() -> None:
    both = _parsed("No,質問,回答\nID,Question,Answer\n1,休みは？,日曜です。\n")
    assert _values(both) == [["1", "休みは？", "日曜です。"]]
    assert _codes(both) == {"REPEATED_HEADER": (2,)}
    numbered = _parsed("質問,回答\n質問0,答え0\n質問1,答え1\n")
    assert len(numbered.records) == 2


def test_words_of_a_dictionary_are_no_header() -> None:
    table = _parsed("英語,日本語\nquestion,質問\nanswer,回答\ntext,本文\n")
    assert len(table.records) == 3


def test_second_table_is_not_read_as_the_first() -> None:
    table = _parsed("質問,回答\nあ,い\n\n回答,質問\nう,え\n")
    assert _values(table) == [["あ", "い"]]
    assert _codes(table)["TABLE_ENDS"] == (4, 5)


def test_columns_without_name_and_value_are_left_out() -> None:
    assert _parsed("質問,回答,,\nあ,い,,\n").columns == ("質問", "回答")
    assert _parsed("質問,回答,\nあ,い,う\n").columns == ("質問", "回答", "列3")


def test_text_divided_by_tabs_is_a_table() -> None:
    table = _parsed(_text("\t"), "a.txt")
    assert (table.format, table.columns, _values(table)) == ("tsv", ("質問", "回答"), RECORDS)
    assert "TABLE_IN_TEXT" in _codes(table)
    assert _parsed(_text(","), "a.txt").columns == ("質問", "回答")
    bare = _parsed(_text("\t").split("\n", 1)[1], "a.txt")
    assert bare.columns == ("text",)
    assert "TABS_IN_TEXT" in _codes(bare)


@pytest.mark.parametrize("text", ["今日は,晴れ\n明日は,雨\n", "def f():\n\treturn 1\n\nprint()\n"])
def test_prose_stays_text(text: str) -> None:
    assert _parsed(text, "a.txt").columns == ("text",)


def test_excels_unicode_text_is_a_table(tmp_path: Path) -> None:
    source = tmp_path / "unicode.txt"
    source.write_text(_text("\t"), encoding="utf-16")
    found = inspect(source)
    assert (found.kind, found.usable_rows) == ("chat", 4)


def test_choices_are_kept_for_the_same_dataset_again(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text(_text("^", above="青葉館\n"), encoding="utf-8")
    config = PrepareConfig(delimiter="^", header_row="2", valid_share=0.0, test_share=0.0)
    first, again = (DatasetPaths(tmp_path / "datasets" / name) for name in ("first", "again"))
    prepare(source, "first", first, config)
    reproduce(read_manifest(first.manifest), "again", again)
    assert first.train.read_bytes() == again.train.read_bytes()
    assert len(first.train.read_text("utf-8").splitlines()) == 4
