"""Answers that say the opposite of their source are told from those that say the same."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mlx_finetuning.utils.denials import contradiction


@pytest.mark.parametrize(
    ("question", "answer", "source"),
    [
        ("会議室で飲食できますか。", "できます。", "会議室での飲食はできません。"),
        ("会議室で飲食できますか。", "できません。", "会議室での飲食を認める。"),
        ("館内で撮影できますか。", "写真撮影ができます。", "館内の写真撮影はご遠慮ください。"),
        ("ペットの同伴は可能ですか。", "はい、可能です。", "ペットの同伴は禁止です。"),
        ("予約は必要ですか。", "必要ありません。", "来館には予約が必要です。"),
        ("予約は必要ですか。", "必要です。", "予約は不要です。"),
        ("承認は必要ですか。", "課長の承認は要りません。", "課長の承認を受けなければならない。"),
        ("駐車場は有料ですか。", "無料です。", "駐車場は有料（1時間300円）です。"),
        ("交通費は出ますか。", "支給しません。", "交通費は全額を支給する。"),
        ("交通費は出ますか。", "全額支給します。", "アルバイトの交通費は支給しない。"),
        ("送料は含まれますか。", "含まれます。", "価格に送料は含まれない。"),
        ("パートは対象ですか。", "対象外です。", "パート社員も対象とする。"),
        ("返金はできますか。", "返金はできます。", "返金はできませんが、交換はできます。"),
        ("電話で予約できますか。", "受け付けません。", "電話での予約は受け付ける。"),
    ],
)
def test_opposite_is_found(question: str, answer: str, source: str) -> None:
    assert contradiction(answer, question, source)


@pytest.mark.parametrize(
    ("question", "answer", "source"),
    [
        ("交換はできますか。", "交換はできます。", "返金はできませんが、交換はできます。"),
        ("土日は受け付けますか。", "受け付けていません。", "受付は平日のみ行う。"),
        ("申請は必要ですか。", "申請しなければなりません。", "申請する必要がある。"),
        ("いつ受け付けますか。", "平日しか受け付けません。", "平日のみ受け付ける。"),
        ("飲み物を持ち込めますか。", "持ち込んでもかまいません。", "飲み物の持ち込みは可能です。"),
        ("写真を撮れますか。", "撮影はできません。", "館内の写真撮影はご遠慮ください。"),
        ("退職後も使えますか。", "退職後は使えません。", "退職後は利用できない。"),
        ("期限はありますか。", "有効期限はありません。", "ポイントに有効期限はない。"),
        ("遅れるときは？", "遅れるかもしれないと連絡します。", "遅れる恐れがあれば連絡する。"),
        ("住所が変わったら？", "届け出ないと届きません。", "住所の変更は総務課に届け出る。"),
        ("返品できますか。", "開封後は返品できません。", "未開封であれば返品できる。"),
    ],
)
def test_the_same_in_other_words_is_none(question: str, answer: str, source: str) -> None:
    assert contradiction(answer, question, source) is None


def test_no_answer_contradicts_itself() -> None:
    data = Path(__file__).parents[2] / "data"
    rows = [
        row
        for path in data.glob("*.csv")
        for row in csv.DictReader(path.open(encoding="utf-8-sig"))
    ]
    pairs = [(row["質問"], row["回答"]) for row in rows if row.get("質問") and row.get("回答")]
    assert len(pairs) > 200
    assert not [pair for pair in pairs if contradiction(pair[1], pair[0], pair[1])]
