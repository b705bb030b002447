"""`data reword` and `data refuse` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlx_finetuning import cli
from mlx_finetuning.cli.data import data
from mlx_finetuning.data_processor import SAMPLE_DATA
from mlx_finetuning.data_processor.wordings.made import RefuseConfig
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace


@pytest.fixture
def root(workspace: Workspace) -> str:
    Studio(workspace).data.prepare(SAMPLE_DATA, "faq")
    return str(workspace.root)


def test_rows_are_shown_with_reasons_and_made_a_dataset(
    root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "reword", "faq", "--kinds", "polite,synonym", "--name", "more"]
    assert cli.main([*words, "--workspace", root]) == 0
    out, err = capsys.readouterr()
    assert "検査に通らなかった行" in out
    assert "同じ質問がデータにあります" in out
    assert "データセット more を作りました" in out
    [job] = [word for word in err.split() if word.startswith("reword-") and "（" not in word]
    assert (
        cli.main(["data", "refuse", "more", "--share", "0.1", "--workspace", root, "--json"]) == 0
    )
    made = json.loads(capsys.readouterr().out)
    assert {row["answer"] for row in made["rows"]} == {made["rows"][0]["answer"]}
    assert cli.main(["data", "reword", "faq", "--resume", job, "--workspace", root]) == 0
    assert job in capsys.readouterr().err


def test_share_that_is_not_said_is_that_of_the_settings() -> None:
    [share] = [option for option in data.commands["refuse"].params if option.name == "share"]
    assert share.default == RefuseConfig.share


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("reword", "faq", "--kinds", "loud"), "loud"),
        (("reword", "faq", "--no-rules"), "モデルを指定"),
        (("refuse", "faq", "--share", "2"), "share"),
        (("refuse", "faq", "--model", "m", "--address", "ftp://x"), "住所"),
        (("refuse", "faq", "--model", "no-such-model"), "no-such-model"),
        (("reword", "nobody"), "nobody"),
        (("reword", "faq", "--resume", "reword-1"), "reword-1"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_starts(
    root: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], problem: str
) -> None:
    assert cli.main(["data", *words, "--workspace", root]) == 1
    assert problem in capsys.readouterr().err
    assert not [*Path(root).glob("logs/jobs/re*")]
