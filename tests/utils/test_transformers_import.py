"""The shortcut into transformers finds what transformers finds by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import transformers
from transformers.utils import import_utils

from mlx_finetuning.utils import transformers_import


def test_it_is_in_use_and_the_folders_are_looked_through_once() -> None:
    assert hasattr(import_utils.fetch__all__, "__wrapped__")
    assert transformers.AutoTokenizer.__name__ == "AutoTokenizer"  # the second time
    folders = list((Path(transformers.__file__).parent / "models").glob("*/"))
    found = import_utils.create_import_structure_from_path.cache_info()
    assert found.hits > 100 < len(folders)
    assert found.misses < 1.5 * len(folders)


def test_names_of_every_file_are_those_that_transformers_finds() -> None:
    files = list((Path(transformers.__file__).parent / "models").rglob("*.py"))
    assert len(files) > 1000
    alone = import_utils.fetch__all__.__wrapped__
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert import_utils.fetch__all__(text) == alone(text), path


def test_places_of_the_name_make_no_difference() -> None:
    alone, here = import_utils.fetch__all__.__wrapped__, import_utils.fetch__all__
    for text in (
        "",
        "__all__ = ['A', 'B']",
        '__all__ = ["A"]\nx = 1\n',
        "import a\n\n__all__ = [\n    'A',\n    'B',\n]\n",
        "__all__ = ['A']\n__all__ = ['B']",
        "x = '__all__'\n",
        "    __all__ = ['A']\n",
    ):
        assert here(text) == alone(text), text


def test_later_and_repeated_calls_change_nothing() -> None:
    before = list(sys.meta_path)
    transformers_import.hasten()
    assert sys.meta_path == before
