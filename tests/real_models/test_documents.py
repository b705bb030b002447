"""From documents to checked pairs with real weights: SmolLM2-135M in the runtime within.

It writes poorly, and next to no Japanese: what is tested is that the grammar holds it to the form, that
what it makes up is marked, and that the same comes again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_finetuning import document_files
from mlx_finetuning.documents import facts
from mlx_finetuning.documents.plan import GenerateSettings
from mlx_finetuning.studio import Studio
from mlx_finetuning.utils.text_generator import GeneratorChoice
from mlx_finetuning.workspace import Workspace
from support import smollm2
from support.twelve_documents import MAKERS

pytestmark = pytest.mark.models


def test_documents_become_pairs_each_of_which_is_judged(tmp_path: Path) -> None:
    studio = Studio(Workspace(tmp_path / "work"))
    paths = tuple(str(MAKERS[name](tmp_path).path) for name in ("price_list", "manual"))
    choice = GeneratorChoice(str(smollm2.original()))
    settings = GenerateSettings(paths, "real", choice, share=0.4)
    made = studio.documents.generate(settings).follow()
    pairs = studio.documents.pairs("real")
    assert made.pairs == len(pairs) > 0
    assert not made.failures
    text = "\n".join(document_files.read(Path(path)).text for path in paths)
    for pair in pairs:
        if pair.is_sound and pair.kind != "absent":
            assert facts.folded(pair.quote) in facts.folded(text)
            assert facts.numbers(pair.answer) <= facts.numbers(text)
    studio.documents.generate(GenerateSettings(paths, "again", choice, share=0.4)).follow()
    assert studio.documents.pairs("again") == pairs
