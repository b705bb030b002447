"""Files from the browser: names that would leave the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_finetuning.data_processor.uploads import keep, safe_name


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("質問と回答.csv", "質問と回答.csv"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\a.csv", "a.csv"),
        ("a/../b.csv", "b.csv"),
        ("..", "data"),
        ("a\0b\n.csv", "a_b_.csv"),
        (".hidden.csv", "hidden.csv"),
        ("-rf.csv", "-rf.csv"),
        ("", "data"),
        ("x" * 300 + ".jsonl", "x" * 194 + ".jsonl"),
        ("あ" * 300 + ".csv", "あ" * 65 + ".csv"),
        ("a." + "x" * 300, "a." + "x" * 19),
    ],
)
def test_name_is_made_harmless(name: str, kept: str, tmp_path: Path) -> None:
    assert safe_name(name) == kept
    assert keep(name, b"1", tmp_path).parents[1] == tmp_path


def test_same_content_is_kept_once_and_unchanged(tmp_path: Path) -> None:
    first, again = (keep("a.csv", b"\x83\x65", tmp_path) for _ in range(2))
    assert first == again
    assert first.read_bytes() == b"\x83\x65"
    assert keep("a.csv", b"other", tmp_path) != first
