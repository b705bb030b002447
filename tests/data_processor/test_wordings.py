"""Other wordings and near misses: what rules make of Japanese questions, and what checks catch."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from mlx_finetuning.data_processor import SAMPLE_DATA, prepare, read_rows
from mlx_finetuning.data_processor.edits import EditedTable
from mlx_finetuning.data_processor.readers.tables import Table
from mlx_finetuning.data_processor.wordings import adding, near_misses, rules
from mlx_finetuning.data_processor.wordings.checks import Checker
from mlx_finetuning.data_processor.wordings.kinds import KINDS_JA, Wording
from mlx_finetuning.data_processor.wordings.made import Known, MadeRow
from mlx_finetuning.data_processor.wordings.verbs import plain_past, plain_present
from mlx_finetuning.studio import Studio
from mlx_finetuning.utils.japanese_utils import comparison_key
from mlx_finetuning.workspace import Workspace


def sample(name: str = "sample_data.csv") -> list[Known]:
    path = Path(__file__).parents[2] / "data" / name
    with path.open(encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    return [Known(at, row["質問"], row["回答"]) for at, row in enumerate(rows, 2)]


# --- rules -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "kind", "expected"),
    [
        ("A社の定休日はいつですか？", "polite", "A社の定休日はいつでしょうか？"),
        ("A社の定休日はいつですか？", "casual", "A社の定休日っていつ？"),
        ("A社の定休日はいつですか？", "keyword", "A社 定休日 いつ"),
        ("A社の定休日はいつですか？", "asked", "A社の定休日を教えてください。"),
        ("A社の定休日はいつですか？", "order", "A社についてですが、定休日はいつですか？"),
        ("A社の定休日はいつですか？", "synonym", "A社の休業日は？"),
        ("A社の住所を教えてください。", "polite", "A社の住所を教えていただけますか？"),
        ("A社の住所を教えてください。", "kana", "A社のじゅうしょをおしえてください"),
        ("A社の本社はどこにありますか？", "asked", "A社の本社の場所を教えてください。"),
        ("返品はどうすればいいですか？", "polite", "返品はどうすればよろしいでしょうか？"),
        ("カードは使えますか？", "casual", "カードは使える？"),
        ("いつ設立されましたか？", "casual", "いつ設立された？"),
        ("どこで買えますか？", "typo", "ど個で買えますか"),
        ("ノギス「ハヤセ」は防水ですか？", "name", "ハヤセは防水ですか？"),
        ("ノギスの「ハヤセ」の色を教えてください。", "name", "「ハヤセ」の色を教えてください"),
        ("「ハヤセ」は防水ですか？", "name", "ハヤセは防水ですか？"),
        ("A社はいつ設立されましたか？", "recast", "A社が設立された時期を教えてください。"),
        ("A社ではどんな払い方が使えますか？", "recast", "A社で使える払い方は？"),
        ("見学はどうやって予約しますか？", "recast", "見学の予約方法は？"),
        ("資料を読みたいときはどうすればいいですか？", "recast", "資料を読む方法は？"),
        ("商品は何日以内なら返せますか？", "recast", "商品を返せる日数は？"),
        ("A社では何人の人が働いていますか？", "recast", "A社で働いている人数は？"),
        ("A社には支店がいくつありますか？", "recast", "A社の支店の数は？"),
        ("A社は何時から何時まで開いていますか？", "recast", "A社が開いている時間は？"),
        ("A社を始めたのは誰ですか？", "recast", "A社を始めた人は？"),
        ("検査には何日かかりますか？", "recast", "検査にかかる日数は？"),
        ("A社の返品期限を教えてください。", "recast", "A社の返品はいつまでですか？"),
        ("A社の社員数は何人ですか？", "recast", "A社には社員が何人いますか？"),
        ("A社の発売日を知りたいです。", "recast", "A社はいつ発売されましたか？"),
        ("A社ではどんな支払い方法が使えますか？", "synonym", "A社の決済方法は？"),
        ("A社に駐車場はありますか？", "asked", "A社の駐車場を教えてください。"),
    ],
)
def test_question_is_put_in_other_words(question: str, kind: str, expected: str) -> None:
    made = rules.wordings(question, [kind], per_kind=20)
    assert expected in [one.text for one in made]
    assert {one.kind for one in made} == {kind}


@pytest.mark.parametrize(
    ("stem", "present", "past"),
    [
        ("使え", "使える", "使えた"),
        ("買い", "買う", "買った"),
        ("予約し", "予約する", "予約した"),
        ("貸し", "貸す", "貸した"),
        ("キャンセルし", "キャンセルする", "キャンセルした"),
        ("でき", "できる", "できた"),
        ("開いてい", "開いてる", "開いていた"),
        ("行き", "行く", "行った"),
        ("ください", "くださう", "くださった"),
        ("ござい", "", ""),
        ("読み", "読む", "読んだ"),
        ("泳ぎ", "泳ぐ", "泳いだ"),
        ("あり", "ある", "あった"),
    ],
)
def test_verb_becomes_plain(stem: str, present: str, past: str) -> None:
    if stem != "ください":  # 「くださいますか」 is asked by nobody; it must only not break
        assert plain_present(stem) == present
    assert plain_past(stem) == past


@pytest.mark.parametrize(
    "question",
    [
        "A社は防水ですか？",
        "A社の休日は何日ですか？",
        "A社の理念は何ですか？",
        "返品したいです。",
        "申請は何日前までに出しますか？",
        "予約すると送料はいつまで無料になりますか？",
        "住宅手当の金額はいくらですか？",
        "館に入るにはいくらかかりますか？",
        "再雇用は何歳まで続きますか？",
    ],
)
def test_question_of_an_unknown_form_is_not_recast(question: str) -> None:
    assert rules.wordings(question, ["recast"], per_kind=20) == []


def test_what_stands_before_a_long_question_passes_the_checks() -> None:
    of = KNOWN[1]
    made = rules.wordings(of.question, ["long"], per_kind=20)
    assert len(made) >= 8
    assert not [one.text for one in made if Checker(KNOWN).problems_of_wording(one, of)]


def test_wordings_are_deterministic_and_never_the_question() -> None:
    for one in sample():
        made = rules.wordings(one.question, per_kind=3)
        assert made == rules.wordings(one.question, per_kind=3)
        keys = [comparison_key(wording.text) for wording in made]
        assert len(keys) == len({*keys})
        assert comparison_key(one.question) not in keys
        assert max(Counter(wording.kind for wording in made).values()) <= 3
    assert rules.wordings("A社の色は？", seed=1) != rules.wordings("A社の色は？", seed=2)


@pytest.mark.parametrize("text", ["", "。", "？？？", "a", "1行目\n2行目は何ですか？", "!" * 500])
def test_odd_questions_break_nothing(text: str) -> None:
    for one in rules.wordings(text, per_kind=5):
        assert one.kind in KINDS_JA


def test_nearly_all_that_rules_make_of_the_samples_passes_the_checks() -> None:
    known = sample("sample_data_extended.csv")
    checker = Checker(known)
    found = [
        checker.problems_of_wording(wording, one)
        for one in known[::3]
        for wording in rules.wordings(one.question)
    ]
    assert len(found) > 400
    assert sum(map(bool, found)) <= 0.02 * len(found)


# --- checks ------------------------------------------------------------------------------

KNOWN = [
    Known(2, "ミナモ精機の営業時間を教えてください。", "営業時間は午前9時から午後6時までです。"),
    Known(3, "ミナモ精機の定休日はいつですか？", "定休日は水曜日です。"),
    Known(4, "ノギス「ハヤセ」の価格はいくらですか？", "「ハヤセ」の価格は12,800円です。"),
    Known(5, "ノギス「シオン」の価格はいくらですか？", "「シオン」の価格は9,800円です。"),
    Known(6, "1週間以内の返品は無料ですか？", "はい、1週間以内なら無料です。"),
]


@pytest.mark.parametrize(
    ("of", "text", "problem"),
    [
        (4, "「ハヤセ」の値段を教えていただけますか？", ""),
        (2, "何時から何時まで開いてますか、ミナモ精機は", ""),
        (6, "返品は1週間以内なら無料？", ""),
        (4, "ノギス「シオン」の値段は？", "名前（ハヤセ）がなくなっています"),
        (4, "「ハヤセ」は「シオン」よりいくら高いですか？", "ほかの行の名前（シオン）"),
        (6, "2週間以内の返品は無料ですか？", "数が変わっています（1週 → 2週）"),
        (6, "返品は無料ですか？", "数が変わっています"),
        (3, "ミナモ精機の定休日は水曜日ですか？", "答え（水曜日）が質問に入っています"),
        (3, "ミナモ精機の定休日はいつですか", "元の質問と同じ"),
        (4, "ノギス「シオン」の価格はいくらですか？", "同じ質問が、別の答えで"),
        (3, "ミナモ精機の営業時間はいつですか？", "2行目の質問に近く"),
        (3, "When is the regular holiday of Minamo Seiki?", "日本語ではありません"),
        (3, "米納茂精机的定期休息日是什么时候呢请告诉我", "日本語ではありません"),
        (3, "", "文がありません"),
        (3, "定休日はいつですか" + "、ねえ" * 60, "長すぎます"),
        (3, "言い換え：定休日はいつでしょう？", "質問ではない部分"),
        (3, '{"text": "定休日は"', "質問ではない部分"),
        (3, "上記の会社の定休日はいつですか？", "「上記」が何を指すか"),
        (3, "縺薙ｓ縺ｫ縺｡縺ｯ縲ょｮ壻ｼ第律縺ｯ", "文字が壊れて"),
        (3, "定休日は水曜日です。", "答えになっています"),
    ],
)
def test_wording_that_means_something_else_is_caught(of: int, text: str, problem: str) -> None:
    known = next(one for one in KNOWN if one.row == of)
    found = "。".join(Checker(KNOWN).problems_of_wording(Wording("polite", text), known))
    assert problem in found
    assert bool(problem) is bool(found)


def test_slips_may_hide_a_name_but_no_number() -> None:
    checker = Checker(KNOWN)
    assert not checker.problems_of_wording(
        Wording("kana", "のぎす「はやせ」のねだんは？"), KNOWN[2]
    )
    assert checker.problems_of_wording(Wording("typo", "2週間以内の返品は無料でうか"), KNOWN[4])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ミナモ精機の資本金を教えてください。", ""),
        ("ノギス「ミドリ」の価格はいくらですか？", ""),
        ("ミナモ精機の定休日はいつですか", "データに答えのある質問"),
        ("定休日はいつ？", "違う言葉がありません"),
        ("「シオン」の価格は？", "5行目が答えて"),
        ("What is the capital of the company?", "日本語ではありません"),
    ],
)
def test_question_that_the_data_answers_is_never_refused(text: str, problem: str) -> None:
    of = KNOWN[2] if "シオン" in text else KNOWN[1]
    found = "。".join(Checker(KNOWN).problems_of_near_miss(text, of))
    assert problem in found
    assert bool(problem) is bool(found)


# --- near misses -------------------------------------------------------------------------


def test_near_misses_are_about_other_things_and_contradict_no_row() -> None:
    known = sample("sample_data_extended.csv")
    made = near_misses.near_misses(known, 80, near_misses.POLITE)
    assert len(made) == 80
    assert made == near_misses.near_misses(known, 80, near_misses.POLITE)
    assert {row.kind for row in made} == {"attribute", "entity", "year"}
    asked = {comparison_key(one.question) for one in known}
    assert not asked & {comparison_key(row.question) for row in made}
    assert len({comparison_key(row.question) for row in made}) == 80
    held_out = sum(row.split == "test" for row in made)
    assert 8 <= held_out <= 36


def test_refusal_takes_the_tone_of_the_answers() -> None:
    assert near_misses.refusal_text(["水曜日です。", "はい、できます。"]) == near_misses.POLITE
    assert near_misses.refusal_text(["水曜日だ。", "できる。", "10円。"]) == near_misses.PLAIN


def test_data_without_any_attribute_gets_no_near_misses() -> None:
    assert near_misses.near_misses([Known(2, "元気？", "はい。")], 5, "わかりません。") == []


# --- rows in the data --------------------------------------------------------------------


def added(columns: tuple[str, ...], values: list[object], *rows: MadeRow) -> list[list[object]]:
    table = EditedTable(Table("csv", columns, [(2, values)]))
    adding.add(table, {}, rows)
    return [values for _, values in table.records()]


def test_wording_has_the_other_cells_of_its_row_and_a_refusal_its_category() -> None:
    wording = MadeRow(2, "polite", "おいくらですか？", "10円です。")
    refusal = MadeRow(2, "attribute", "色は？", "わかりません。")
    columns = ("No", "質問", "回答", "カテゴリ")
    assert added(columns, ["1", "値段は？", "10円です。", "商品"], wording, refusal) == [
        ["1", "値段は？", "10円です。", "商品"],
        ["", "色は？", "わかりません。", "商品"],
        ["1", "おいくらですか？", "10円です。", "商品"],
    ]


def test_last_question_of_a_conversation_is_put_in_other_words() -> None:
    talk = [
        {"role": "system", "content": "短く。"},
        {"role": "user", "content": "値段は？"},
        {"role": "assistant", "content": "10円です。"},
    ]
    [_, made] = added(("messages",), [talk], MadeRow(2, "polite", "おいくらですか？", "10円です。"))
    assert '"おいくらですか？"' in str(made[0])
    assert '"短く。"' in str(made[0])


def test_added_wordings_stay_in_the_group_of_their_row(tmp_path: Path) -> None:
    """Also of labels, whose answers are no facts and bind nothing together."""
    lines = [
        "文,ラベル",
        *(f"件名{n}の件で連絡がほしい,{'急ぎ' if n % 2 else '通常'}" for n in range(80)),
    ]
    source = tmp_path / "labels.csv"
    source.write_text("\n".join(lines), encoding="utf-8")
    studio = Studio(Workspace(tmp_path / "workspace"))
    studio.data.prepare(source, "labels", mapping={"question": "文", "answer": "ラベル"})
    table = studio.data.edited("labels")
    for row in range(2, 82):
        for at in range(3):
            table.add(row, (("文", f"至急{at}番{row}" * 3), ("ラベル", "急ぎ")), wording_of=row)
    studio.data.edit("labels", table.edits, "more")
    rows = {
        split: read_rows(studio.workspace.dataset("more").split(split))
        for split in ("train", "valid", "test")
    }
    groups = {split: {row["group"] for row in of_split} for split, of_split in rows.items()}
    assert rows["test"]
    assert not groups["train"] & groups["test"]
    assert sum(len(of_split) for of_split in rows.values()) == 320
    sizes = Counter(row["group"] for of_split in rows.values() for row in of_split)
    assert min(sizes.values()) >= 4


def test_many_wordings_do_not_make_a_fact_a_label(tmp_path: Path) -> None:
    """A fact with forty wordings is held out in some and taught in the others."""
    studio = Studio(Workspace(tmp_path))
    studio.data.prepare(SAMPLE_DATA, "sample")
    known = sample()
    checker = Checker(known)
    made = [
        MadeRow(one.row, wording.kind, wording.text, one.answer)
        for one in known
        for wording in rules.wordings(one.question)
        if not checker.problems_of_wording(wording, one)
    ]
    made += near_misses.near_misses(known, 20, near_misses.POLITE)
    table = studio.data.edited("sample")
    adding.add(table, {}, made)
    summary = studio.data.edit("sample", table.edits, "more")
    assert summary.goal == "faq"
    paths = studio.workspace.dataset("more")
    test, train = read_rows(paths.split("test")), read_rows(paths.train)
    facts = [row for row in test if not row.get("refusal")]
    assert len(facts) >= 8
    taught = {row["messages"][-1]["content"] for row in train}
    assert all(row["messages"][-1]["content"] in taught for row in facts)
    assert {row["group"] for row in facts} <= {row["group"] for row in train}
    refusals = [row for row in (*train, *test) if row.get("refusal")]
    assert len(refusals) == 20
    assert 0 < sum(row in test for row in refusals) < 20
    assert studio.data.reproduce(paths.manifest, "again").counts == summary.counts


def test_prepare_still_knows_nothing_of_wordings(tmp_path: Path) -> None:
    """Rows carry no mark unless a step gave them one."""
    paths = Workspace(tmp_path).dataset("plain")
    from mlx_finetuning.config import PrepareConfig

    prepare(SAMPLE_DATA, "plain", paths, PrepareConfig())
    assert not any("refusal" in row for row in read_rows(paths.train))
