"""Encodings: whole files read right, wrong overrides refused."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from mlx_finetuning.data_processor import SAMPLE_DATA
from mlx_finetuning.data_processor.readers.encoding import CERTAIN, decode
from mlx_finetuning.errors import EncodingMismatch, EncodingUnknown, EncodingUnsupported

CODECS = ("utf-8", "utf-8-sig", "cp932", "euc_jp", "iso2022_jp", "utf-16")
ALWAYS = {"utf-8", "utf-8-sig", "cp932", "utf-16"}
HERE = Path("sheet.csv")
SIZES = (1, 1, 2, 5, 50)
ODD_CELLS = ["①まず㈱ミナモへ", "髙橋さん", "ﾃｽﾄ", "はい", "価格～500円", "鬱と齟齬", "10％"]


def _sheets(count: int) -> Iterator[str]:
    """CSV texts of 1 to 10,000 rows: sentences, single words, numbers, odd signs."""
    with SAMPLE_DATA.with_name("sample_data_extended.csv").open(encoding="utf-8") as stream:
        rows = [row[:2] for row in csv.reader(stream)]
    rng = Random(7)
    for number in range(count):
        size = 10_000 if number == 50 else 1000 if number % 50 == 0 else rng.choice(SIZES)
        picked = [list(rng.choice(rows)) for _ in range(size)]
        if number % 5 == 0:
            picked[0][1] = rng.choice(ODD_CELLS)
        heading = rng.choice(("質問,回答", "question,answer"))
        yield "\r\n".join([heading, *(",".join(row) for row in picked)]) + "\r\n"


@pytest.mark.parametrize("codec", CODECS)
def test_generated_sheets_are_read_without_override(codec: str) -> None:
    wrong, total, sure_and_wrong = 0, 0, 0
    for text in _sheets(200):
        try:
            raw = text.encode(codec)
        except UnicodeEncodeError:
            continue
        total += 1
        decoded = decode(raw, HERE)
        if decoded.text.removeprefix("\ufeff") != text:
            wrong += 1
            sure_and_wrong += decoded.confidence >= CERTAIN
    assert total >= 160
    assert wrong <= (0 if codec in ALWAYS else total * 0.02)
    assert sure_and_wrong == 0


def test_signs_of_windows_are_read_from_every_japanese_encoding() -> None:
    text = "質問,回答\n①㈱ミナモの髙さは？,はい、①番です。\n"
    assert decode(text.encode("cp932"), HERE).text == text
    euc = "質問,回答\n①の高さは？,はい、①番です。\n"
    assert decode(euc.encode("euc_jis_2004"), HERE).text == euc


def test_ascii_file_is_utf8_with_full_confidence() -> None:
    decoded = decode(b"question,answer\na,b\n", HERE)
    assert (decoded.encoding, decoded.confidence) == ("utf-8", 1.0)


def test_short_doubtful_text_has_low_confidence() -> None:
    assert decode("q\n亜\n".encode("euc_jp"), HERE).confidence < CERTAIN


@pytest.mark.parametrize("encoding", ["cp932", "Shift_JIS", "sjis", "MS932"])
def test_names_of_shift_jis_all_mean_cp932(encoding: str) -> None:
    text = "質問,回答\n㈱の読みは？,かぶしきがいしゃです。\n"
    decoded = decode(text.encode("cp932"), HERE, encoding)
    assert (decoded.text, decoded.encoding) == (text, "cp932")


@pytest.mark.parametrize(
    ("written", "override"),
    [("cp932", "utf-8"), ("utf-8", "cp932"), ("euc_jp", "cp932"), ("utf-8", "euc-jp")],
)
def test_wrong_override_is_refused_with_the_right_guess(written: str, override: str) -> None:
    text = "question,answer\nok,ok\n営業時間を教えてください。,午前9時から午後6時までです。\n"
    with pytest.raises(EncodingMismatch) as caught:
        decode(text.encode(written), HERE, override)
    assert caught.value.data["guess"] == written.replace("_", "-")
    assert caught.value.data["line"] == 3


def test_unknown_encoding_name_lists_the_known_ones() -> None:
    with pytest.raises(EncodingUnsupported) as caught:
        decode(b"a", HERE, "klingon")
    assert "cp932" in caught.value.data["supported"]


def test_mixed_encodings_name_the_line() -> None:
    good = "質問,回答\n営業時間は？,9時からです。\n"
    mixed = good.encode("utf-8") + "定休日は？,水曜日です。\n".encode("cp932") + b"\xff\xfe\xfd\n"
    with pytest.raises(EncodingUnknown) as caught:
        decode(mixed, HERE)
    assert caught.value.data["line"] >= 3


@pytest.mark.parametrize("codec", ["cp932", "euc_jp"])
def test_sheets_without_hiragana_are_read_or_carry_low_confidence(codec: str) -> None:
    """Names in kanji, katakana or half-width kana under an ASCII heading, one row each."""
    rng = Random(5)
    alphabets = (
        "田中佐藤鈴木高橋東京大阪京都府県市",
        "アイウエオカキクケコサシスセソ",
        "ｱｲｳｴｵｶｷｸｹｺｻｼｽｾｿﾀﾁﾂﾃﾄﾞ",
    )
    wrong = 0
    for number in range(300):
        letters = alphabets[number % 3]
        first, second = ("".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(2))
        text = f"question,answer\n{first},{second}\n"
        decoded = decode(text.encode(codec), HERE)
        if decoded.text != text:
            wrong += 1
            assert decoded.confidence < CERTAIN
    assert wrong <= {"cp932": 0, "euc_jp": 20}[codec]


def test_accented_letters_stay_utf8_although_they_could_be_kanji() -> None:
    decoded = decode("question,answer\ncafé?,oui\n".encode(), HERE)
    assert (decoded.text, decoded.encoding) == ("question,answer\ncafé?,oui\n", "utf-8")
    assert decoded.confidence < CERTAIN
