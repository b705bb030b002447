"""From documents to checked pairs with real weights: SmolLM2-135M in the runtime within.

It writes poorly, and next to no Japanese: what is tested is that the grammar holds it to the form, that
what it makes up is marked, and that the same comes again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlx_finetuning import document_files
from mlx_finetuning.documents.plan import GenerateSettings
from mlx_finetuning.studio import Studio
from mlx_finetuning.utils import facts
from mlx_finetuning.utils.text_generator import GeneratorChoice
from mlx_finetuning.workspace import Workspace
from support import smollm2

pytestmark = pytest.mark.models


def test_documents_become_pairs_each_of_which_is_judged(tmp_path: Path) -> None:
    studio = Studio(Workspace(tmp_path / "work"))
    document = tmp_path / "hours.md"
    document.write_text(
        "# Opening hours\n\nThe library opens at 10:00. It closes at 18:00. Members borrow 5 books.\n",
        encoding="utf-8",
    )
    choice = GeneratorChoice(str(smollm2.original()))
    settings = GenerateSettings((str(document),), "real", choice)
    made = studio.documents.generate(settings).follow()
    pairs = studio.documents.pairs("real")
    assert made.pairs == len(pairs) > 0
    assert not made.failures
    text = document_files.read(document).text
    for pair in pairs:
        if pair.is_sound and pair.kind != "absent":
            assert facts.folded(pair.quote) in facts.folded(text)
            assert facts.numbers(pair.answer) <= facts.numbers(text)
    studio.documents.generate(replace(settings, name="again")).follow()
    assert studio.documents.pairs("again") == pairs
