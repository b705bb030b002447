"""`bench`: runs the scripts of the checkout, and says so where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_finetuning.cli import bench
from mlx_finetuning.errors import BenchmarksMissing


@pytest.mark.parametrize("name", ["train", "export", "data"])
def test_every_benchmark_of_the_command_line_has_its_script(name: str) -> None:
    assert name in bench.bench.commands
    assert (bench.FOLDER / f"{name}.py").is_file()


def test_a_scripts_output_and_exit_code_are_the_answer(tmp_path: Path) -> None:
    lines = "import sys\nprint('| 表 |', *sys.argv[1:])\nsys.exit(3)\n"
    (tmp_path / "train.py").write_text(lines, encoding="utf-8")
    answer = bench.run("train", ("--rounds", "1"), tmp_path)
    assert answer.text == "| 表 | --rounds 1"
    assert answer.data["exit_code"] == 3
    assert answer.exit_code == 1


def test_without_a_checkout_the_error_names_the_missing_script(tmp_path: Path) -> None:
    with pytest.raises(BenchmarksMissing) as caught:
        bench.run("train", (), tmp_path)
    assert "ソースコード" in str(caught.value)
    assert str(tmp_path / "train.py") in str(caught.value)
