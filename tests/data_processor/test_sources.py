"""Parquet, message trees, tools, and several files as one dataset."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from mlx_finetuning import errors
from mlx_finetuning.config import PrepareConfig, load
from mlx_finetuning.data_processor import DatasetSummary, inspect, prepare, read_rows
from mlx_finetuning.data_processor.findings import Finding
from mlx_finetuning.workspace import DatasetPaths
from support.japanese_rows import clean_rows

ALL = PrepareConfig(valid_share=0.0, test_share=0.0)


@pytest.fixture
def paths(tmp_path: Path) -> DatasetPaths:
    return DatasetPaths(tmp_path / "datasets" / "new")


def _prepare(paths: DatasetPaths, *sources: Path, **settings: object) -> DatasetSummary:
    config = load(PrepareConfig, {"valid_share": 0.0, "test_share": 0.0, **settings})
    return prepare(sources, "new", paths, config)


def _csv(path: Path, rows: list[list[str]], encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def _jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def _by_code(found: tuple[Finding, ...]) -> dict[str, tuple[int, ...]]:
    return {item.code: item.rows for item in found}


# --- Parquet -----------------------------------------------------------------------------


def _parquet(path: Path, columns: dict[str, Any]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    return path


def test_parquet_rows_are_counted_from_one(tmp_path: Path) -> None:
    questions = ["住所は？", "", "休みは？"]
    source = _parquet(tmp_path / "a.parquet", {"質問": questions, "回答": ["東京", "い", None]})
    found = inspect(source)
    assert (found.format, found.encoding, found.source_rows) == ("parquet", "parquet", 3)
    assert _by_code(found.findings) == {"EMPTY_QUESTION": (2,), "EMPTY_ANSWER": (3,)}


def test_chats_in_parquet_lose_the_nulls_that_it_fills_in(
    tmp_path: Path, paths: DatasetPaths
) -> None:
    messages = [
        {"role": "user", "content": "天気は？", "tool_calls": None},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "weather"}]},
        {"role": "tool", "content": "晴れ", "tool_calls": None},
        {"role": "assistant", "content": "晴れです。", "tool_calls": None},
    ]
    _prepare(paths, _parquet(tmp_path / "a.parquet", {"messages": [messages]}))
    [row] = read_rows(paths.train)
    assert row["messages"][0] == {"role": "user", "content": "天気は？"}
    assert row["messages"][1]["tool_calls"] == [{"name": "weather"}]


def test_damaged_parquet_gets_its_error(tmp_path: Path, paths: DatasetPaths) -> None:
    whole = _parquet(tmp_path / "a.parquet", {"質問": ["あ"], "回答": ["い"]}).read_bytes()
    for number, raw in enumerate((b"PAR1", whole[:-9], b"PAR1" + b"x" * 99 + b"PAR1")):
        source = tmp_path / f"bad{number}.parquet"
        source.write_bytes(raw)
        with pytest.raises(errors.SourceMalformed):
            _prepare(paths, source)
    assert not paths.folder.exists()


def test_parquet_under_another_name_is_named(tmp_path: Path) -> None:
    source = _parquet(tmp_path / "a.parquet", {"質問": ["あ"]}).rename(tmp_path / "a.csv")
    with pytest.raises(errors.SourceBinary) as caught:
        inspect(source)
    assert "Parquet" in caught.value.data["kind"]


# --- message trees -----------------------------------------------------------------------


def _message(name: str, parent: str | None, role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"message_id": name, "parent_id": parent, "role": role, "text": text, **more}


TREE = [
    _message("q", None, "prompter", "山の高さは？", message_tree_id="t1"),
    _message("a1", "q", "assistant", "知りません。", rank=1, message_tree_id="t1"),
    _message("a0", "q", "assistant", "3776mです。", rank=0, message_tree_id="t1"),
    _message("f1", "a0", "prompter", "場所は？", message_tree_id="t1"),
    _message("f2", "a0", "prompter", "季節は？", message_tree_id="t1"),
    _message("b1", "f1", "assistant", "静岡と山梨です。", message_tree_id="t1"),
    _message("b2", "f2", "assistant", "夏です。", message_tree_id="t1"),
    _message("f3", "b2", "prompter", "ありがとう。", message_tree_id="t1"),
]


def test_flat_tree_becomes_one_conversation_per_path(tmp_path: Path, paths: DatasetPaths) -> None:
    _prepare(paths, _jsonl(tmp_path / "a.jsonl", TREE))
    rows = {row["row"]: row for row in read_rows(paths.train)}
    assert [turn["content"] for turn in rows[6]["messages"]] == [
        *("山の高さは？", "3776mです。", "場所は？", "静岡と山梨です。")
    ]
    assert [turn["content"] for turn in rows[7]["messages"]][-2:] == ["季節は？", "夏です。"]
    assert set(rows) == {6, 7}
    assert rows[6]["messages"][0]["role"] == "user"
    assert rows[6]["group"] == rows[7]["group"]


def test_nested_tree_gives_the_same_conversations(tmp_path: Path, paths: DatasetPaths) -> None:
    def nested(message: dict[str, Any]) -> dict[str, Any]:
        replies = [nested(reply) for reply in TREE if reply["parent_id"] == message["message_id"]]
        return {**message, "replies": replies}

    record = {"message_tree_id": "t1", "prompt": nested(TREE[0])}
    _prepare(paths, _jsonl(tmp_path / "a.jsonl", [record]))
    ends = {row["messages"][-1]["content"] for row in read_rows(paths.train)}
    assert ends == {"静岡と山梨です。", "夏です。"}


def test_messages_without_their_parent_are_named(tmp_path: Path) -> None:
    lost = _message("x", "nowhere", "assistant", "あ")
    found = inspect(_jsonl(tmp_path / "a.jsonl", [*TREE, lost]))
    assert _by_code(found.findings)["BAD_TREE"] == (9,)
    assert found.usable_rows == 2


def test_circle_of_messages_ends(tmp_path: Path) -> None:
    circle = [_message("a", "b", "prompter", "あ"), _message("b", "a", "assistant", "い")]
    assert inspect(_jsonl(tmp_path / "a.jsonl", TREE + circle)).usable_rows == 2


# --- tools -------------------------------------------------------------------------------

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {}}}


@pytest.mark.parametrize("as_text", [False, True])
def test_tools_of_a_row_are_written_with_it(
    tmp_path: Path, paths: DatasetPaths, as_text: bool
) -> None:
    tools: Any = [WEATHER]
    chat = [{"role": "user", "content": "天気は？"}, {"role": "assistant", "content": "晴れです。"}]
    record = {"messages": chat, "tools": json.dumps(tools) if as_text else tools}
    _prepare(paths, _jsonl(tmp_path / "a.jsonl", [record, {"messages": [*chat[:1], chat[1]]}]))
    assert read_rows(paths.train)[0]["tools"] == [WEATHER]


def test_unreadable_tools_are_named(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "あ"}, {"role": "assistant", "content": "い"}]
    found = inspect(_jsonl(tmp_path / "a.jsonl", [{"messages": chat, "tools": "{"}]))
    assert _by_code(found.findings)["BAD_CHAT"] == (1,)


# --- preference pairs --------------------------------------------------------------------


def test_answers_given_as_messages_are_read(tmp_path: Path, paths: DatasetPaths) -> None:
    def turns(*texts: str) -> list[dict[str, str]]:
        roles = ("user", "assistant")
        return [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]

    records = [
        {"prompt": "色は？", "chosen": turns("色は？", "青"), "rejected": turns("色は？", "赤")},
        {"prompt": turns("形は？"), "chosen": "丸", "rejected": "四角"},
        {"prompt": turns("味は？", "何の？", "飴の"), "chosen": "甘い", "rejected": "苦い"},
    ]
    summary = _prepare(paths, _jsonl(tmp_path / "a.jsonl", records))
    rows = {row["row"]: row for row in read_rows(paths.train)}
    assert [rows[1][key] for key in ("prompt", "chosen", "rejected")] == ["色は？", "青", "赤"]
    assert rows[2]["prompt"] == "形は？"
    assert _by_code(summary.findings)["BAD_CHAT"] == (3,)


# --- several files -----------------------------------------------------------------------


def _two(tmp_path: Path) -> tuple[Path, Path]:
    rows = clean_rows(60)
    first = _csv(tmp_path / "a.csv", [["質問", "回答", "分類"], *rows[:40]], "cp932")
    second = _jsonl(
        tmp_path / "b.jsonl",
        [{"instruction": row[0], "output": row[1]} for row in [*rows[40:], rows[0]]],
    )
    return first, second


def test_files_of_different_form_become_one_dataset(tmp_path: Path, paths: DatasetPaths) -> None:
    first, second = _two(tmp_path)
    summary = _prepare(paths, first, second)
    rows = read_rows(paths.train)
    assert Counter(row["source"] for row in rows) == {"a.csv": 40, "b.jsonl": 20}
    assert [source.encoding for source in summary.sources] == ["cp932", "utf-8"]
    assert summary.sources[1].mapping == {"question": "instruction", "answer": "output"}
    [double] = [item for item in summary.findings if item.code == "DUPLICATE"]
    assert (double.source, double.rows) == ("b.jsonl", (21,))


@pytest.mark.parametrize(
    ("weights", "first", "second"), [("2,1", 80, 20), ("1,3", 40, 60), ("1,0", 40, 0)]
)
def test_weight_says_how_often_training_rows_are_written(
    tmp_path: Path, paths: DatasetPaths, weights: str, first: int, second: int
) -> None:
    summary = _prepare(paths, *_two(tmp_path), weights=weights)
    counts = Counter(row["source"] for row in read_rows(paths.train))
    assert (counts["a.csv"], counts["b.jsonl"]) == (first, second)
    assert summary.counts["train"] == first + second


def test_weight_below_one_takes_a_share_and_leaves_held_out_rows_alone(
    tmp_path: Path, paths: DatasetPaths
) -> None:
    source = _csv(tmp_path / "a.csv", [["質問", "回答", "分類"], *clean_rows(1000)])
    summary = prepare(source, "new", paths, PrepareConfig(weights=(0.5,)))
    assert 330 <= summary.counts["train"] <= 470
    assert summary.counts["valid"] == summary.counts["test"] == 100


def test_wrong_weights_are_refused(tmp_path: Path, paths: DatasetPaths) -> None:
    for weights in ("1", "a,b", "1,-1", "1,1000"):
        with pytest.raises(errors.InvalidSettings):
            _prepare(paths, *_two(tmp_path), weights=weights)
    assert not paths.folder.exists()


def test_files_of_different_kinds_are_refused(tmp_path: Path, paths: DatasetPaths) -> None:
    text = _jsonl(tmp_path / "t.jsonl", [{"text": "本文です。"}])
    with pytest.raises(errors.SourceKindsDiffer):
        _prepare(paths, _two(tmp_path)[0], text)


def test_mapping_applies_to_the_files_that_have_the_column(
    tmp_path: Path, paths: DatasetPaths
) -> None:
    first, second = _two(tmp_path)
    summary = prepare([first, second], "new", paths, ALL, {"category": "分類"})
    assert summary.sources[0].mapping["category"] == "分類"
    with pytest.raises(errors.InvalidMapping):
        prepare([first, second], "new", paths, ALL, {"category": "なし"}, replace=True)


def test_groups_of_two_files_are_not_mixed_up(tmp_path: Path, paths: DatasetPaths) -> None:
    rows = clean_rows(20)
    heading = ["質問", "回答", "グループ"]
    files = [
        _csv(tmp_path / name, [heading, *([*row[:2], "1"] for row in part)])
        for name, part in (("a.csv", rows[:10]), ("b.csv", rows[10:]))
    ]
    assert _prepare(paths, *files).groups == 2


# --- limits ------------------------------------------------------------------------------

_LIMITED = """
import resource, sys, time
from pathlib import Path
from mlx_finetuning.data_processor import inspect
from mlx_finetuning.errors import CellTooLong
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
start = time.process_time()
try:
    inspect(Path(sys.argv[1]))
except CellTooLong:
    assert time.process_time() - start < 5
    sys.exit(7)
"""


@pytest.mark.parametrize("encoding", ["utf-8", "cp932"])
def test_cell_of_a_hundred_megabytes_is_refused_in_time(tmp_path: Path, encoding: str) -> None:
    source = tmp_path / "a.csv"
    cell = ("漢字かな" * 250_000).encode(encoding)
    with source.open("wb") as stream:
        stream.write("質問,回答\nあ,".encode(encoding))
        for _ in range(100_000_000 // len(cell)):
            stream.write(cell)
    # One thread: the limit is of addresses, and every thread of a library reserves some.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _LIMITED, str(source)]
    assert subprocess.run(command, check=False, env=environment).returncode == 7
    source.unlink()
