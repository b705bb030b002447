"""Which of several columns is learned, which rows are marked as bad, and when nothing is to be said."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import Inspection, inspect, prepare
from mlx_finetuning.errors import NoUsableRows
from mlx_finetuning.workspace import Workspace
from support.facts import FACTS


def looked_at(folder: Path, header: str, *row: str) -> Inspection:
    """A CSV file by the forms of its cells: {q}, {a}, {n}."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header.split(","))
    for n, (q, a) in enumerate(FACTS, 1):
        writer.writerow(cell.format(q=q, a=a, n=n) for cell in row)
    source = folder / "a.csv"
    source.write_text(out.getvalue(), encoding="utf-8")
    return inspect(source)


def codes(found: Inspection) -> set[str]:
    return {item.code for item in found.findings}


def roles(found: Inspection) -> dict[str, str]:
    return {choice.role: choice.column for choice in found.mapping}


DRAFT = "下書きの文{n}です。"


@pytest.mark.parametrize(
    ("header", "row", "answer"),
    [
        ("質問,AIの回答,修正後の回答", ("{q}", DRAFT, "{a}"), "修正後の回答"),
        ("prompt,response,corrected_response", ("{q}", DRAFT, "{a}"), "corrected_response"),
        ("instruction,model_output,reference_answer", ("{q}", DRAFT, "{a}"), "reference_answer"),
        ("prompt,response,ground_truth", ("{q}", DRAFT, "{a}"), "ground_truth"),
        ("prompt,output,reference", ("{q}", DRAFT, "{a}"), "output"),
        ("質問,回答,修正版の回答", ("{q}", DRAFT, "{a}"), "修正版の回答"),
        ("質問,旧回答,新回答", ("{q}", DRAFT, "{a}"), "新回答"),
        ("質問,NG回答,OK回答", ("{q}", DRAFT, "{a}"), "OK回答"),
        ("設問,受験者の解答,模範解答", ("{q}", DRAFT, "{a}"), "模範解答"),
        ("質問,回答案,回答（確定）", ("{q}", DRAFT, "{a}"), "回答（確定）"),
        ("質問,回答,最終回答", ("{q}", DRAFT, "{a}"), "最終回答"),
        ("質問,最終回答,回答", ("{q}", "{a}", DRAFT), "最終回答"),
        ("質問,一次回答,回答", ("{q}", DRAFT, "{a}"), "回答"),
        ("質問,回答（担当者名）,対応内容", ("{q}", "鈴木{n}郎さん", "{a}"), "対応内容"),
        (
            "アンケートの質問,お客様の回答,当館の対応",
            ("{q}", "はい、{n}です。", "{a}"),
            "お客様の回答",
        ),
        ("質問,回答（担当者）,対応内容", ("{q}", "鈴木{n}", "{a}"), "対応内容"),
        ("質問,回答（英語）,回答（日本語）", ("{q}", "It is {n} here.", "{a}"), "回答（日本語）"),
    ],
)
def test_answer_that_was_put_right_is_learned_and_named(
    tmp_path: Path, header: str, row: tuple[str, ...], answer: str
) -> None:
    found = looked_at(tmp_path, header, *row)
    assert roles(found)["answer"] == answer
    assert "COLUMN_DOUBTFUL" in codes(found)


@pytest.mark.parametrize(
    ("header", "row", "question"),
    [
        ("ユーザー,内容,返信", ("田中太郎{n}", "{q}", "{a}"), "内容"),
        ("user,message,reply", ("tanaka{n}", "{q}", "{a}"), "message"),
        ("user,question_text,bot_reply", ("tanaka{n}", "{q}", "{a}"), "question_text"),
        ("ユーザー,質問,回答", ("田中{n}", "{q}", "{a}"), "質問"),
        ("user,assistant", ("{q}", "{a}"), "user"),
        ("質問（英語）,質問（日本語）,回答", ("What is {n}?", "{q}", "{a}"), "質問（日本語）"),
    ],
)
def test_question_is_what_is_asked_not_who_asks(
    tmp_path: Path, header: str, row: tuple[str, ...], question: str
) -> None:
    assert roles(looked_at(tmp_path, header, *row))["question"] == question


@pytest.mark.parametrize(
    "header",
    [
        *("よくある質問,回答", "【質問】,【回答】", "想定質問,想定回答", "質問,模範解答"),
        *(
            "お客様のご質問,弊社回答",
            "FAQ質問,FAQ回答",
            "質問（利用者）,回答（担当者）",
            "Q.,A.",
            "Q．,A．",
            "質問,当社からの回答",
        ),
    ],
)
def test_ordinary_names_give_no_warning(tmp_path: Path, header: str) -> None:
    found = looked_at(tmp_path, header, "{q}", "{a}")
    assert (codes(found), found.usable_rows) == (set(), len(FACTS))


def test_other_answers_put_the_best_one_in_no_doubt(tmp_path: Path) -> None:
    found = looked_at(tmp_path, "質問,ベストアンサー,その他の回答", "{q}", "{a}", DRAFT)
    assert roles(found)["answer"] == "ベストアンサー"
    assert "COLUMN_DOUBTFUL" not in codes(found)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("件名,対応内容", ("{q}", "{a}")),
        ("相談,アドバイス", ("{q}", "{a}")),
        ("問い,解", ("{q}", "{a}")),
        ("用語,説明", ("用語{n}の", "{a}")),
        ("単語,意味", ("word", "語{n}")),
        ("What is your question?,Reply from staff", ("{q}", "{a}")),
    ],
)
def test_pairs_of_other_names_are_found(tmp_path: Path, header: str, row: tuple[str, ...]) -> None:
    found = looked_at(tmp_path, header, *row)
    question, answer = header.split(",")
    assert roles(found) == {"question": question, "answer": answer}


@pytest.mark.parametrize(
    ("column", "bad", "good"),
    [
        *(("kto_tag", "false", "true"), ("label", "negative", "positive")),
        *(("評価", "低評価", "高評価"), ("is_correct", "FALSE", "TRUE"), ("採用", "×", "○")),
        *(("正誤", "×", "○"), ("feedback", "negative", "positive")),
        *(("status", "rejected", "approved"), ("weight", "0", "1"), ("weight", "0.0", "0.5")),
    ],
)
def test_rows_marked_as_bad_are_left_out(tmp_path: Path, column: str, bad: str, good: str) -> None:
    records = [
        {"質問": q, "回答": a, column: bad if n % 2 else good} for n, (q, a) in enumerate(FACTS)
    ]
    source = tmp_path / "a.jsonl"
    source.write_text(
        "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8"
    )
    found = inspect(source)
    assert ("UNDESIRABLE" in codes(found), found.usable_rows) == (True, 3)


def test_rejected_rows_among_undecided_ones_are_left_out(tmp_path: Path) -> None:
    looked_at(tmp_path, "質問,回答,status", "{q}", "{a}", "state{n}")
    source = tmp_path / "a.csv"
    text = source.read_text(encoding="utf-8")
    for n, state in enumerate(
        ("approved", "pending", "rejected", "approved", "approved", "rejected")
    ):
        text = text.replace(f"state{n + 1}", state)
    source.write_text(text, encoding="utf-8")
    assert inspect(source).usable_rows == 4


@pytest.mark.parametrize(
    ("column", "cell"),
    [("いいね", "0"), ("status", "1"), ("weight", "{n}"), ("label", "施設"), ("評価", "{n}")],
)
def test_numbers_and_categories_judge_no_row(tmp_path: Path, column: str, cell: str) -> None:
    found = looked_at(tmp_path, f"質問,回答,{column}", "{q}", "{a}", cell)
    assert found.usable_rows == len(FACTS)


def test_error_of_a_file_whose_rows_are_all_bad_says_so(tmp_path: Path) -> None:
    looked_at(tmp_path, "質問,回答,評価", "{q}", "{a}", "0")
    paths: Any = Workspace(tmp_path).dataset("d")
    with pytest.raises(NoUsableRows) as caught:
        prepare(tmp_path / "a.csv", "d", paths, PrepareConfig())
    assert "悪い回答の印" in str(caught.value)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        *(("公開フラグ", "非公開"), ("公開フラグ", "0"), ("published", "false"), ("掲載", "×")),
        *(("削除フラグ", "1"), ("deleted", "TRUE"), ("非表示", "○")),
    ],
)
def test_withdrawn_rows_are_named(tmp_path: Path, column: str, cell: str) -> None:
    assert "DRAFT" in codes(looked_at(tmp_path, f"質問,回答,{column}", "{q}", "{a}", cell))


@pytest.mark.parametrize(
    ("column", "cell"),
    [("公開フラグ", "1"), ("削除フラグ", "0"), ("公開", "公開"), ("deleted", "")],
)
def test_rows_in_use_are_no_drafts(tmp_path: Path, column: str, cell: str) -> None:
    assert "DRAFT" not in codes(looked_at(tmp_path, f"質問,回答,{column}", "{q}", "{a}", cell))


@pytest.mark.parametrize("header", ["text,label", "本文,分類"])
def test_labels_of_texts_that_are_not_learned_are_named(tmp_path: Path, header: str) -> None:
    assert "LABELED_TEXT" in codes(looked_at(tmp_path, header, "{q}", "種類{n}"))


def labelled(folder: Path, label: str, more: str = "", **asked: Any) -> dict[str, str]:
    """Roles of a table of texts with two labels."""
    rows = [
        f"{n}番の商品{more}を返したい,返品\n{n}番{more}はいつ届きますか,配送\n" for n in range(10)
    ]
    source = folder / "a.csv"
    source.write_text(f"text,{label}\n{''.join(rows)}", encoding="utf-8")
    return roles(inspect(source, **asked))


AS_LABELS = {"question": "text", "answer": "label"}


@pytest.mark.parametrize("name", ["label", "ラベル", "class", "intent", "感情"])
def test_short_texts_with_labels_become_questions_with_them(tmp_path: Path, name: str) -> None:
    assert labelled(tmp_path, name) == {**AS_LABELS, "answer": name}
    assert "COLUMN_DOUBTFUL" in codes(inspect(tmp_path / "a.csv"))


def test_labels_that_stand_beside_articles_too_are_learned_where_that_is_the_goal(
    tmp_path: Path,
) -> None:
    assert labelled(tmp_path, "カテゴリ").keys() == {"text", "category"}
    found = labelled(tmp_path, "カテゴリ", config=PrepareConfig(goal="labels"))
    assert found == {**AS_LABELS, "answer": "カテゴリ"}


def test_texts_that_somebody_chose_or_that_are_long_stay_texts(tmp_path: Path) -> None:
    assert "answer" not in labelled(tmp_path, "label", mapping={"text": "text"})
    assert "answer" not in labelled(tmp_path, "label", more="の商品" * 200)


def test_second_table_of_other_names_is_named(tmp_path: Path) -> None:
    looked_at(tmp_path, "質問,回答", "{q}", "{a}")
    source = tmp_path / "a.csv"
    text = source.read_text(encoding="utf-8")
    source.write_text(f"{text}\n用語,説明\nOPAC,蔵書を調べる仕組みです。\n", encoding="utf-8")
    assert "SECOND_TABLE" in codes(inspect(source))


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        (
            "a.csv",
            '"質問","回答"\n' + '"何、ですか","\\"9時\\", と答える C:\\n"\n' * 3,
            '"9時", と答える C:\\n',
        ),
        ("a.csv", '"質問","回答"\n' + '"何、ですか","\\"9,時\\""\n' * 3, '"9,時"'),
        ("a.tsv", '質問\t回答\n何ですか\t"9時から\n' + '休みは\t"火曜"\n' * 3, '"9時から'),
    ],
)
def test_quotes_of_other_customs_are_read_as_meant(
    tmp_path: Path, name: str, text: str, answer: str
) -> None:
    source = tmp_path / name
    source.write_text(text, encoding="utf-8")
    found = inspect(source)
    assert found.preview[0]["回答"] == answer
    assert "LOOSE_QUOTES" in codes(found)
    assert "RAGGED_ROW" not in codes(found)
