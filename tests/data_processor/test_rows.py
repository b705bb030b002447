"""From columns to examples: roles, cleaning and checks, by source row."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import TEMPLATES, Inspection, inspect, prepare, read_rows
from mlx_finetuning.data_processor.chats import Turn, chat_turns
from mlx_finetuning.data_processor.checks.folding import comparison_keys
from mlx_finetuning.data_processor.clean import clean
from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.readers.columns import choose
from mlx_finetuning.errors import InvalidMapping
from mlx_finetuning.utils.japanese_utils import comparison_key
from mlx_finetuning.workspace import Workspace


@pytest.mark.parametrize(
    ("columns", "roles", "kind"),
    [
        (["質問", "回答"], {"question": "質問", "answer": "回答"}, "chat"),
        (["問い", "答え"], {"question": "問い", "answer": "答え"}, "chat"),
        (["問題", "解答"], {"question": "問題", "answer": "解答"}, "chat"),
        (["Prompt", "Completion"], {"question": "Prompt", "answer": "Completion"}, "chat"),
        (["prompt", "response"], {"question": "prompt", "answer": "response"}, "chat"),
        (
            ["instruction", "input", "output", "category"],
            {
                "question": "instruction",
                "context": "input",
                "answer": "output",
                "category": "category",
            },
            "chat",
        ),
        (
            ["指示", "入力", "出力"],
            {"question": "指示", "context": "入力", "answer": "出力"},
            "chat",
        ),
        (["input", "output"], {"question": "input", "answer": "output"}, "chat"),
        (["ID", "text", "output"], {"question": "text", "answer": "output"}, "chat"),
        (
            ["お客様の質問", "担当者の回答"],
            {"question": "お客様の質問", "answer": "担当者の回答"},
            "chat",
        ),
        (["質問（必須）", "回 答"], {"question": "質問（必須）", "answer": "回 答"}, "chat"),
        (["messages", "source"], {"messages": "messages"}, "chat"),
        (["id", "conversations"], {"messages": "conversations"}, "chat"),
        (["text"], {"text": "text"}, "text"),
        (
            ["prompt", "chosen", "rejected"],
            {"question": "prompt", "chosen": "chosen", "rejected": "rejected"},
            "preference",
        ),
        (
            ["話題ID", "質問", "回答"],
            {"question": "質問", "answer": "回答", "group": "話題ID"},
            "chat",
        ),
    ],
)
def test_columns_get_their_roles(columns: list[str], roles: dict[str, str], kind: str) -> None:
    chosen = choose(columns)
    assert (chosen.columns, chosen.kind) == (roles, kind)
    assert set(chosen.unmapped) == set(columns) - set(roles.values())
    assert all(choice.reason for choice in chosen.choices)


def test_explicit_mapping_wins_and_takes_japanese_role_names() -> None:
    columns = ["質問", "回答", "模範回答", "種類"]
    chosen = choose(columns, {"answer": "模範回答", "カテゴリ": "種類"})
    assert chosen.columns == {"question": "質問", "answer": "模範回答", "category": "種類"}
    assert chosen.unmapped == ("回答",)


def test_role_given_no_column_is_left_out() -> None:
    assert "category" not in choose(["質問", "回答", "分類"], {"category": ""}).columns


def test_wrong_mapping_reports_all_problems() -> None:
    with pytest.raises(InvalidMapping) as caught:
        choose(["質問", "回答"], {"qestion": "質問", "answer": "なし"})
    assert len(caught.value.data["problems"]) == 2


def _inspected(tmp_path: Path, records: list[dict[str, Any]]) -> Inspection:
    source = tmp_path / "a.jsonl"
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    source.write_text("".join(lines), encoding="utf-8")
    return inspect(source)


def _rows(found: Inspection) -> dict[str, tuple[int, ...]]:
    return {item.code: item.rows for item in found.findings}


def test_columns_are_judged_by_the_whole_file() -> None:
    """Twice the sample less one: a step rounded down would look at the first half only."""
    answers = ["可"] * 200 + [f"窓口{n}で申し込んでください。" for n in range(199)]
    rows = [(n + 2, [f"質問{n}は？", answer]) for n, answer in enumerate(answers)]
    assert not any(choice.is_doubtful for choice in choose(["質問", "回答"], None, rows).choices)


def test_planted_problems_are_found_at_their_rows(tmp_path: Path) -> None:
    plain = [{"質問": f"品番{n}の値段は？", "回答": f"{n}円です。"} for n in range(10)]
    planted = [
        {"質問": "  ", "回答": "9時です。"},
        {"質問": "何時に開きますか？", "回答": "\n"},
        {"質問": "品番１の値段は", "回答": "1円です"},
        {"質問": "品番2の値段は？", "回答": "200円です。"},
        {"質問": "営業時間は？".encode().decode("cp932", "replace"), "回答": "9時です。"},
        {"質問": "駐車場はありますか？", "回答": "駐車場はありますか？"},
    ]
    found = _inspected(tmp_path, plain + planted)
    assert _rows(found) == {
        "EMPTY_QUESTION": (11,),
        "EMPTY_ANSWER": (12,),
        "DUPLICATE": (13,),
        "CONFLICT": (3, 14),
        "MOJIBAKE": (15,),
        "ANSWER_REPEATS_QUESTION": (16,),
    }
    assert (found.source_rows, found.usable_rows) == (16, 12)


def _chat(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": f"{role}{at}"} for at, role in enumerate(roles)]}


def test_chats_with_wrong_role_order_are_named(tmp_path: Path) -> None:
    good = [
        _chat("user", "assistant"),
        _chat("system", "user", "assistant", "user", "assistant"),
        _chat("user", "assistant", "tool", "assistant"),
    ]
    bad = [
        _chat("assistant", "user"),
        _chat("user", "assistant", "user"),
        _chat("user", "user", "assistant"),
        _chat("user", "system", "assistant"),
        _chat("system"),
    ]
    broken = [{"messages": "こんにちは"}, {"messages": [{"role": "alien", "content": "あ"}]}]
    found = _inspected(tmp_path, good + bad + broken)
    assert _rows(found)["ROLE_ORDER"] == (4, 5, 6, 7, 8)
    assert _rows(found)["BAD_CHAT"] == (9, 10)
    assert found.usable_rows == 3


def test_broken_unicode_escapes_are_named_and_shown_harmlessly(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text(
        '{"質問": "あ\\ud83d", "回答": "い"}\n{"質問": "う", "回答": "え"}\n', "utf-8"
    )
    found = inspect(source)
    assert _rows(found) == {"MOJIBAKE": (1,)}
    found.preview[0]["質問"].encode("utf-8")


def test_half_a_character_in_a_name_or_label_is_no_obstacle(tmp_path: Path) -> None:
    source = tmp_path / "a.json"
    record = r'{"質問": "あ%d", "回答": "い%d\ud83d\ude00", "カテゴリ": "う\ud83d", "え\udc00": 1}'
    source.write_text(f"[{','.join(record % (n, n) for n in range(9))}]", "utf-8")
    summary = prepare(source, "d", Workspace(tmp_path).dataset("d"), PrepareConfig())
    assert (summary.usable_rows, summary.unmapped) == (9, ("え\ufffd",))
    assert (
        read_rows(Workspace(tmp_path).dataset("d").split("train"))[0]["messages"][1]["content"][-1]
        == "😀"
    )


def test_sharegpt_turns_become_chat_turns() -> None:
    value = [{"from": "human", "value": "あ"}, {"from": "gpt", "value": "い"}]
    assert chat_turns(json.dumps(value)) == (Turn("user", "あ"), Turn("assistant", "い"))


def test_tool_calls_are_kept() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    turns = chat_turns([{"role": "user", "content": "天気は？"}, call])
    assert turns is not None
    row = Example(2, turns).to_row("g1")
    assert row["messages"][1]["tool_calls"] == [{"id": "1"}]


def test_line_of_a_row_is_its_json() -> None:
    plain = (
        Turn("system", 'A"\\\n\t\x01'),
        Turn("user", "質問😀"),
        Turn("assistant", "回答\u2028"),
    )
    for turns in (
        plain,
        (*plain[:2], plain[2]._replace(reasoning="考え")),
        (*plain[:2], plain[2]._replace(extra=(("weight", 0),))),
        (Turn("text", "本文"),),
        (Turn("prompt", "問"), Turn("chosen", "良"), Turn("rejected", "悪")),
    ):
        for source in ("", '1:名"前.csv'):
            example = Example(2, turns, source=source, tools=({"name": "f"},) if source else ())
            assert example.to_line("g1") == json.dumps(example.to_row("g1"), ensure_ascii=False)


def test_many_texts_fold_as_each_of_them() -> None:
    signs = [*"か\u3099 　\n？ＡｶﾞΣßİ…①㈱〜😀\0あaé", "\u2003", "\u1100\u1161", "\ufeff"]
    rng = random.Random(18)
    texts = ["".join(rng.choices(signs, k=rng.randrange(7))) for _ in range(5_000)]
    texts += ["あ" + chr(code) + "い" for code in range(0x10000)]
    assert comparison_keys(texts) == [comparison_key(text) for text in texts]


def test_cleaning_is_safe_and_says_what_it_changed() -> None:
    family = "👨\u200d👩\u200d👧と葛\U000e0100城"
    before = f"\ufeffか\u3099\u200bき\r\n  字下げ①㈱ｶﾅ～ {family} \n"
    cleaned, steps, found, _ = clean([Example(5, (Turn("user", before),))])
    assert cleaned[0].turns[0].content == f"がき\n  字下げ①㈱ｶﾅ～ {family} \n"
    assert {step.name: step.rows for step in steps} == dict.fromkeys(
        ("line_ends", "zero_width", "nfc"), 1
    )
    assert steps[0].samples[0][0] == 5
    assert [(item.code, item.rows) for item in found] == [("ZERO_WIDTH", (5,))]


def test_cleaning_leaves_clean_text_alone() -> None:
    examples = [Example(2, (Turn("user", "    def f():\n        return 1"),))]
    cleaned, steps, *_ = clean(examples)
    assert cleaned == examples
    assert not any(step.rows for step in steps)


@pytest.mark.parametrize(
    ("name", "kind", "rows"),
    [
        ("template.csv", "chat", 4),
        ("alpaca.json", "chat", 3),
        ("chat.jsonl", "chat", 3),
        ("text.jsonl", "text", 3),
        ("preference.jsonl", "preference", 3),
    ],
)
def test_templates_are_read_without_a_finding(name: str, kind: str, rows: int) -> None:
    found = inspect(TEMPLATES / name)
    assert (found.kind, found.usable_rows, found.findings) == (kind, rows, ())


def test_inspection_of_unknown_columns_lists_them_instead_of_failing(tmp_path: Path) -> None:
    found = _inspected(tmp_path, [{"名前": "あ", "値段": 5}])
    assert (found.kind, found.columns) == (None, ("名前", "値段"))
    assert "COLUMNS_NOT_FOUND" in _rows(found)
    assert found.preview == ({"名前": "あ", "値段": "5"},)


# --- reasoning ---------------------------------------------------------------------------


def prepared(folder: Path, *rows: dict[str, Any]) -> tuple[list[dict[str, Any]], Inspection]:
    """The written rows, and what was found in them."""
    source = folder / "rows.jsonl"
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    source.write_text("\n".join(lines), encoding="utf-8")
    settings = PrepareConfig(valid_share=0.0, test_share=0.0)
    paths = Workspace(folder).dataset("d")
    prepare(source, "d", paths, settings, replace=True)
    return [row for split in ("train", "valid", "test") for row in read_rows(paths.split(split))], (
        inspect(source)
    )


def codes(found: Inspection) -> dict[str, tuple[int, ...]]:
    return {one.code: one.rows for one in found.findings}


ASKED = {"role": "user", "content": "何ですか？"}


@pytest.mark.parametrize(
    "row",
    [
        {"質問": "何ですか？", "思考": "思い出す。", "回答": "本です。"},
        {"question": "何ですか？", "reasoning_content": "思い出す。", "answer": "本です。"},
        {"question": "何ですか？", "answer": "<think>\n思い出す。\n</think>\n\n本です。"},
        *(
            {"messages": [ASKED, {"role": "assistant", "content": "本です。", key: "思い出す。"}]}
            for key in ("reasoning_content", "reasoning", "thinking")
        ),
        {
            "conversations": [
                {"from": "human", "value": "何ですか？"},
                {"from": "gpt", "value": "<think>思い出す。</think>本です。"},
            ]
        },
    ],
    ids=",".join,
)
def test_reasoning_has_one_place_however_it_was_written(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    [made], found = prepared(tmp_path, row)
    answer = {"role": "assistant", "content": "本です。", "reasoning_content": "思い出す。"}
    assert made["messages"] == [ASKED, answer]
    assert "REASONING" in codes(found)
    assert found.unmapped == ()


def test_empty_reasoning_is_none(tmp_path: Path) -> None:
    row = {"question": "何ですか？", "answer": "<think>\n\n</think>\n\n本です。", "reasoning": ""}
    [made], found = prepared(tmp_path, row)
    assert made["messages"][1] == {"role": "assistant", "content": "本です。"}
    assert not {"REASONING", "REASONING_MIXED"} & codes(found).keys()


def test_reasoning_that_is_not_closed_leaves_the_row_out(tmp_path: Path) -> None:
    good = {"question": "誰？", "answer": "私です。"}
    made, found = prepared(tmp_path, {"question": "何？", "answer": "<think>長い"}, good)
    assert [row["messages"][1]["content"] for row in made] == ["私です。"]
    assert codes(found)["REASONING_UNCLOSED"] == (1,)


def test_answer_that_is_reasoning_alone_is_empty(tmp_path: Path) -> None:
    good = {"question": "誰？", "answer": "私です。"}
    empty = {"question": "何？", "answer": "<think>考え</think>"}
    assert codes(prepared(tmp_path, empty, good)[1])["EMPTY_ANSWER"] == (1,)


def test_rows_without_reasoning_among_others_are_named(tmp_path: Path) -> None:
    found = prepared(
        tmp_path,
        {"question": "何？", "answer": "本。", "thinking": "思い出す。"},
        {"question": "誰？", "answer": "私です。", "thinking": None},
    )[1]
    assert codes(found)["REASONING_MIXED"] == (2,)
    (one,) = (one for one in found.findings if one.code == "REASONING_MIXED")
    assert "（1行）" in one.message


def test_lost_opening_is_named_and_the_row_stays(tmp_path: Path) -> None:
    made, found = prepared(tmp_path, {"question": "何？", "answer": "考え</think>本。"})
    assert codes(found)["REASONING_UNOPENED"] == (1,)
    assert made[0]["messages"][1]["content"] == "考え</think>本。"


def test_reasoning_is_cleaned_and_looked_at_like_the_answer(tmp_path: Path) -> None:
    row = {"question": "何？", "answer": "本です。", "reasoning": "か\u3099ん\u200bs 090-1234-5678"}
    [made], found = prepared(tmp_path, row)
    assert made["messages"][1]["reasoning_content"] == "がんs 090-1234-5678"
    assert "PERSONAL_DATA" in codes(found)


def test_rows_that_differ_in_reasoning_alone_are_no_duplicates(tmp_path: Path) -> None:
    row = {"question": "何？", "answer": "本。", "reasoning": "一つ目。"}
    made, _ = prepared(tmp_path, row, {**row, "reasoning": "二つ目。"}, row)
    assert len(made) == 2


def test_reasoning_is_no_tool_call(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "本。", "reasoning": "考え"}
    twice = [ASKED, ASKED, said]
    good = {"messages": [{"role": "user", "content": "誰？"}, said]}
    assert codes(prepared(tmp_path, {"messages": twice}, good)[1])["ROLE_ORDER"] == (1,)
