"""The words that are explained, and the words that may not stand on the pages."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlx_finetuning
from mlx_finetuning.config import SECTIONS
from mlx_finetuning.data_processor.findings import KINDS
from mlx_finetuning.data_processor.settings import DROPPABLE
from mlx_finetuning.errors import StudioError
from mlx_finetuning.experiment_tracker.evaluation.outcome import ACTIONS_JA
from mlx_finetuning.messages import catalogue
from mlx_finetuning.ui.components.errors import LABELLED, described, in_words
from mlx_finetuning.ui.components.form import tooltip
from mlx_finetuning.ui.dataset.findings import REMEDIES
from mlx_finetuning.ui.messages_ja import FIXES_JA, NEXT_STEPS_JA
from mlx_finetuning.ui.training.setup import GROUPS
from mlx_finetuning.utils.glossary import TERMS_JA, terms_in
from mlx_finetuning.utils.settings_ja import CHOICES_JA, EXPLANATIONS_JA, label_of

PAGES = Path(mlx_finetuning.__file__).parent / "ui"
JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龥]")
BANNED = {
    "an option of the command line": re.compile(r"(?<![-\w])--[a-z]"),
    "a setting's name in files": re.compile(
        r"\b(?:" + "|".join(name for name in LABELLED if "_" in name) + r")\b"
    ),
    "a command": re.compile(r"mlx-finetuning [a-z]|\bdata prepare\b"),
    "量子化, which is 軽くする": re.compile("量子化"),
    "評価, which is 確かめる": re.compile(r"評価(?!に使う|用|セット)"),
    "メモリ, which is メモリー": re.compile(r"メモリ(?!ー)"),
    "アダプタ, which is アダプター": re.compile(r"アダプタ(?!ー)"),
    "完全一致, which is 一字一句同じ": re.compile("完全一致"),
}
OF_THE_TERMINAL = {
    *("SERVER_RUNNING", "SERVER_FAILED", "PORT_TAKEN"),
    *("DATASET_NOT_REPRODUCED", "DATASET_OF_SEVERAL_SOURCES"),
}
"""Errors that no page can meet."""


def page_texts() -> Iterator[tuple[str, str]]:
    """Every Japanese string of the pages' code but docstrings, with where it stands."""
    for path in sorted(PAGES.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and id(node) not in alone
            if is_text and isinstance(node.value, str) and JAPANESE.search(node.value):
                yield f"{path.relative_to(PAGES)}:{node.lineno}", node.value


def faults(text: str) -> list[str]:
    """What a text holds that may not stand on a page; placeholders are not seen there."""
    text = re.sub(r"\{\w+[^{}]*\}", "", text)
    return [name for name, pattern in BANNED.items() if pattern.search(text)]


def test_no_text_of_a_page_has_an_option_a_settings_name_or_a_second_name() -> None:
    wrong = [(place, text, found) for place, text in page_texts() if (found := faults(text))]
    assert not wrong


@pytest.mark.parametrize("code", sorted(catalogue().keys() - OF_THE_TERMINAL))
def test_no_error_on_a_page_has_them(code: str) -> None:
    message = described(StudioError.registry[code]())
    assert not faults(re.sub(r"\{\w+\}", "", message.text)), message


def test_no_finding_and_no_advice_has_them() -> None:
    told = [*FIXES_JA.values(), *NEXT_STEPS_JA.values(), *ACTIONS_JA.values()]
    told += [kind.message for kind in KINDS.values()]
    with_buttons = {item.upper() for item in DROPPABLE} | REMEDIES.keys()
    told += [kind.fix for code, kind in KINDS.items() if code not in FIXES_JA.keys() | with_buttons]
    assert not [(text, found) for text in told if (found := faults(re.sub(r"\{.*?\}", "", text)))]


def test_faults_are_noticed() -> None:
    text = "--set learning_rate=1 で量子化の評価のメモリ"
    assert len(faults(text)) == 5


def test_settings_in_an_error_are_called_by_their_labels() -> None:
    assert in_words("rank: 0 は小さすぎます。") == "「LoRAのランク」0 は小さすぎます。"
    assert in_words("batch_size を小さくする") == "「1回の更新に使う例の数」 を小さくする"
    assert in_words("seed という列、rank の列") == "seed という列、rank の列"


SHOWN = [(SECTIONS["train"], name) for names in GROUPS.values() for name in names] + [
    (SECTIONS["generate"], field.name) for field in dataclasses.fields(SECTIONS["generate"])
]


@pytest.mark.parametrize(("kind", "name"), SHOWN)
def test_tooltip_explains_more_than_the_label(kind: type, name: str) -> None:
    label, told = label_of(kind, name), tooltip(kind, name)
    assert EXPLANATIONS_JA[name] in told and not told.startswith(label)
    assert label.count("（") == label.count("）"), "a label is cut off"
    assert all(f"**{term}**: {meaning}" in told for term, meaning in terms_in(label).items())
    assert not faults(told)


def test_every_choice_of_a_run_has_a_name() -> None:
    for field in dataclasses.fields(SECTIONS["train"]):
        if choices := field.metadata["choices"]:
            assert set(CHOICES_JA[field.name]) == set(choices), field.name


@pytest.mark.parametrize("term", TERMS_JA)
def test_term_is_explained_in_other_words(term: str) -> None:
    meaning = TERMS_JA[term]
    assert JAPANESE.search(meaning) and meaning.endswith("。")
    assert not meaning.startswith(term)
    assert not BANNED["an option of the command line"].search(meaning)
