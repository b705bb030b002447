"""行を増やす on the page データセット, through Streamlit's own test driver."""

from __future__ import annotations

import pytest

from mlx_finetuning.data_processor import SAMPLE_DATA
from mlx_finetuning.data_processor.wordings.made import RewordConfig
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support.ui_pages import click, open_page, shown_errors, texts


@pytest.fixture(autouse=True)
def studio(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Studio:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))
    made = Studio(workspace)
    made.data.prepare(SAMPLE_DATA, "faq")
    return made


def test_made_rows_are_shown_with_reasons_and_added_as_chosen(studio: Studio) -> None:
    assert "作った行" not in texts(open_page("dataset", view="saved"))
    made = studio.wordings.reword(RewordConfig("faq", ("polite", "synonym"))).follow()
    page = open_page("dataset", view="saved")
    assert not shown_errors(page)
    passed = len(made.passed)
    assert 0 < passed < len(made.rows)
    assert "同じ質問がデータにあります" in list(page.dataframe[-1].value["理由"])
    click(page, f"{passed:,} 行を足して保存")
    counts = {
        entry.name: sum((entry.manifest or {})["counts"].values()) for entry in studio.data.list()
    }
    assert counts["faq-more"] == counts["faq"] + passed


def test_buttons_start_jobs_and_wrong_addresses_are_told(studio: Studio) -> None:
    page = open_page("dataset", view="saved")
    page.selectbox(key="refuse-model").set_value("tiny-ja")
    page.text_input(key="refuse-address").set_value("ftp://example.com").run()
    assert "住所" in shown_errors(page)[0]
    page.text_input(key="refuse-address").set_value("https://example.com/v1").run()
    assert "example.com に送られます" in texts(page)
    page.selectbox(key="refuse-model").set_value(None)
    page.text_input(key="refuse-address").set_value("").run()
    click(page, "データにない質問を作る")
    [job] = studio.wordings.jobs("faq")
    assert job.kind == "refuse"
    assert studio.wordings.resume(job.name).follow().rows
