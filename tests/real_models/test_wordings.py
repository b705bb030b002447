"""Other wordings and near misses by real weights: SmolLM2-135M in the runtime within.

It writes next to no Japanese: what is tested is that the grammar holds it to the form, that what it
makes up is marked, and that the same comes again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_finetuning.data_processor.wordings.made import RefuseConfig, RewordConfig
from mlx_finetuning.studio import Studio
from mlx_finetuning.utils import facts
from mlx_finetuning.utils.text_generator import GeneratorChoice
from mlx_finetuning.workspace import Workspace
from support import smollm2

pytestmark = pytest.mark.models

ROWS = """質問,回答
ミナモ精機の定休日はいつですか？,ミナモ精機の定休日は水曜日です。
ミナモ精機の送料はいくらですか？,ミナモ精機の送料は全国一律660円です。
ノギス「ハヤセ」の価格はいくらですか？,ノギス「ハヤセ」の価格は12800円です。
ミナモ精機の社長は誰ですか？,ミナモ精機の社長は水守さゆりです。
"""


def test_a_real_model_makes_rows_each_of_which_is_judged(tmp_path: Path) -> None:
    source = tmp_path / "faq.csv"
    source.write_text(ROWS, encoding="utf-8")
    studio = Studio(Workspace(tmp_path / "work"))
    studio.data.prepare(source, "faq")
    choice = GeneratorChoice(str(smollm2.original()))
    settings = RewordConfig("faq", ("polite", "casual"), rules=False, generator=choice)
    made = studio.wordings.reword(settings).follow()
    assert {row.kind for row in made.rows} == {"polite", "casual"}  # the grammar asks for both
    assert len(made.rows) == 8
    for row in made.passed:
        assert facts.numbers(row.question) == frozenset()
        assert "ハヤセ" in row.question or row.row != 4
    assert studio.wordings.reword(settings).follow() == made
    refused = studio.wordings.refuse(RefuseConfig("faq", 0.5, rules=False, generator=choice))
    rows = refused.follow().rows
    assert len(rows) == 4
    assert all("手元の情報に" in row.answer for row in rows)
