"""Splits: deterministic, without a leak, and with a word where there is too little to split."""

from __future__ import annotations

import csv
import itertools
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import pytest

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import prepare, read_rows
from mlx_finetuning.data_processor.chats import Turn
from mlx_finetuning.data_processor.checks.grams import gram_sets
from mlx_finetuning.data_processor.checks.keys import keys_of
from mlx_finetuning.data_processor.checks.near import near_groups
from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.split import Split
from mlx_finetuning.data_processor.split import split as split_keyed
from mlx_finetuning.utils.japanese_utils import comparison_key
from mlx_finetuning.workspace import DatasetPaths
from support.japanese_rows import clean_rows

PARAPHRASE = PrepareConfig(hold_out="paraphrase")
FORMS = (
    "{}はいくらですか？",
    "{}の値段を教えてください。",
    "おいくら円で{}を買えますか？",
    "価格を知りたいです、{}の。",
)


def _grams(text: str) -> frozenset[str]:
    return frozenset(text[at : at + 5] for at in range(max(len(text) - 4, 1)))


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / len(left | right)


def split(examples: list[Example], config: PrepareConfig) -> Split:
    keys = keys_of(examples)
    return split_keyed(examples, keys, near_groups(gram_sets(keys.questions)).labels, config)


def _example(row: int, question: str, answer: str, group: str = "") -> Example:
    return Example(row, (Turn("user", question), Turn("assistant", answer)), group=group)


def _word(rng: Random) -> str:
    return "".join(rng.choice("アイウエオカキクケコサシスセソタチツテト") for _ in range(8))


def _facts(count: int, phrasings: int = 4) -> list[Example]:
    rng = Random(3)
    words = [_word(rng) for _ in range(count)]
    return [
        _example(2 + at, form.format(word), f"{word}は{rank}00円です。")
        for at, ((rank, word), form) in enumerate(
            itertools.product(enumerate(words), FORMS[:phrasings])
        )
    ]


def _by(result: Split, examples: list[Example], name: str) -> list[Example]:
    return [example for example, at in zip(examples, result.assigned, strict=True) if at == name]


def _codes(result: Split) -> set[str]:
    return {item.code for item in result.findings}


def _components(texts: list[str]) -> list[int]:
    """For each text the smallest index it is connected with, by comparing all with all."""
    sets = [_grams(text) for text in texts]
    labels = list(range(len(texts)))
    for a, b in itertools.combinations(range(len(texts)), 2):
        if _jaccard(sets[a], sets[b]) >= 0.7 and labels[a] != labels[b]:
            low, high = sorted((labels[a], labels[b]))
            labels = [low if label == high else label for label in labels]
    return labels


def _similar_texts() -> list[str]:
    rng = Random(1)
    texts = [_word(rng) + rng.choice(FORMS).format(_word(rng)) for _ in range(150)]
    return [
        *texts,
        *(text[: rng.randint(4, 25)] + rng.choice("あいう") for text in texts),
        *("短い", "短"),
    ]


def test_near_groups_are_exactly_those_of_a_full_comparison() -> None:
    texts = _similar_texts()
    found = near_groups(gram_sets(texts))
    assert found.exact
    assert found.labels.tolist() == _components(texts)
    assert len(set(found.labels.tolist())) < len(texts) - 20


def test_near_groups_by_minhash_bands_are_the_same_here() -> None:
    texts = _similar_texts()
    found = near_groups(gram_sets(texts), per_text=-1_000_000)
    assert not found.exact
    assert found.labels.tolist() == _components(texts)


def test_texts_that_share_their_rare_grams_take_linear_time() -> None:
    texts = [
        f"商品番号{number}番の価格と在庫を教えてください。送料も知りたいです"
        for number in range(20_000)
    ]
    found = near_groups(gram_sets(texts))
    assert set(found.labels.tolist()) == {0}


def test_group_hold_out_keeps_same_answers_in_one_split() -> None:
    examples = _facts(40)
    result = split(examples, PrepareConfig())
    splits_of = defaultdict(set)
    for example, name in zip(examples, result.assigned, strict=True):
        splits_of[example.turns[-1].content].add(name)
    assert all(len(names) == 1 for names in splits_of.values())
    assert len(_by(result, examples, "test")) == len(_by(result, examples, "valid")) == 16
    assert result.leakage.same_answers == 0


def test_explicit_groups_stay_together_whatever_they_say() -> None:
    rng = Random(5)
    examples = [_example(at, _word(rng), _word(rng), group=f"話題{at % 10}") for at in range(60)]
    result = split(examples, PrepareConfig())
    assert len(set(zip(result.groups, result.assigned, strict=True))) == 10


@pytest.mark.parametrize("hold_out", ["group", "paraphrase"])
def test_no_near_duplicate_question_straddles_splits(hold_out: str) -> None:
    rng = Random(9)
    examples = []
    for at in range(300):
        question = f"{_word(rng)}と{_word(rng)}の違いを{_word(rng)}から教えてください"
        examples.append(_example(at, question, _word(rng), group=f"g{at % 60}"))
        if at % 5 == 0:
            examples.append(_example(at, question + "ね", _word(rng), group=f"g{at % 60}"))
    result = split(examples, PrepareConfig(hold_out=hold_out))
    keys = [_grams(example.turns[0].content) for example in examples]
    for a, b in itertools.combinations(range(len(examples)), 2):
        if result.assigned[a] != result.assigned[b]:
            assert _jaccard(keys[a], keys[b]) < 0.7
    assert result.leakage.near_questions == 0
    assert {"train", "valid", "test"} == set(result.assigned)


def test_planted_paraphrases_never_straddle_splits(tmp_path: Path) -> None:
    """2,000 rows of which a fifth rewords another; judged on the written files, all with all."""
    rng = Random(21)
    rows = clean_rows(1600)
    for _ in range(400):
        question, answer, category = rng.choice(rows[:1600])
        at = rng.randrange(len(question))
        form = rng.choice(
            ("{}すみません、{}", "{}{}ね", "あの、{}{}", "{0}{1}よろしくお願いします。")
        )
        rows.append(
            [form.format(question[:at], question[at:]), answer + rng.choice("いろは"), category]
        )
    source = tmp_path / "a.csv"
    with source.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["質問", "回答", "分類"], *rows])
    paths = DatasetPaths(tmp_path / "datasets" / "a")
    prepare(source, "a", paths, PrepareConfig())
    grams = {
        name: [
            _grams(comparison_key(row["messages"][0]["content"]))
            for row in read_rows(paths.split(name))
        ]
        for name in ("train", "valid", "test")
    }
    assert all(len(found) >= 150 for found in grams.values())
    for left, right in itertools.combinations(grams.values(), 2):
        assert max(_jaccard(a, b) for a in left for b in right) < 0.7


def test_paraphrase_hold_out_trains_every_fact_and_holds_phrasings_out() -> None:
    examples = _facts(10, phrasings=4)
    result = split(examples, PARAPHRASE)
    trained = {example.turns[-1].content for example in _by(result, examples, "train")}
    for name in ("test", "valid"):
        held_out = _by(result, examples, name)
        assert len(held_out) == 10
        assert {example.turns[-1].content for example in held_out} == trained
    assert result.leakage.same_answers == 20


def test_three_phrasings_give_a_test_row_and_no_valid_row() -> None:
    result = split(_facts(6, phrasings=3), PARAPHRASE)
    assert result.assigned.count("test") == 6
    assert result.assigned.count("valid") == 0


def test_share_of_zero_holds_nothing_out() -> None:
    result = split(_facts(10), PrepareConfig(valid_share=0.0, test_share=0.0))
    assert set(result.assigned) == {"train"}
    assert not result.findings


def test_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    examples = _facts(30)
    first = split(examples, PrepareConfig()).assigned
    assert split(examples, PrepareConfig()).assigned == first
    assert split(examples, PrepareConfig(seed=1)).assigned != first


def test_split_does_not_hang_on_the_order_of_rows() -> None:
    examples = _facts(30, phrasings=1)
    shuffled = Random(0).sample(examples, len(examples))
    first = dict(
        zip((e.row for e in examples), split(examples, PrepareConfig()).assigned, strict=True)
    )
    again = split(shuffled, PrepareConfig()).assigned
    assert dict(zip((e.row for e in shuffled), again, strict=True)) == first


def test_too_few_groups_train_on_all_and_say_so() -> None:
    result = split(_facts(2), PrepareConfig())
    assert set(result.assigned) == {"train"}
    assert _codes(result) == {"TOO_FEW_GROUPS"}


def test_single_phrasings_cannot_be_held_out_and_say_so() -> None:
    result = split(_facts(20, phrasings=2), PARAPHRASE)
    assert set(result.assigned) == {"train"}
    assert _codes(result) == {"NO_PARAPHRASES"}


def test_small_set_still_gets_valid_and_test_rows() -> None:
    result = split(_facts(3), PrepareConfig())
    assert {"train", "valid", "test"} == set(result.assigned)
    assert "SMALL_SPLIT" in _codes(result)


def test_labels_do_not_glue_a_classification_set_together() -> None:
    rng = Random(2)
    examples = [
        _example(at, _word(rng) + _word(rng), "良い" if at % 2 else "悪い") for at in range(100)
    ]
    result = split(examples, PrepareConfig())
    assert result.assigned.count("test") == 10
    assert "LABEL_ANSWER" in _codes(result)


def _classes(sizes: dict[str, int]) -> list[Example]:
    rng = Random(4)
    names = [name for name, size in sizes.items() for _ in range(size)]
    return [
        Example(at, (Turn("user", _word(rng) * 2), Turn("assistant", _word(rng))), category=name)
        for at, name in enumerate(names, 2)
    ]


def test_few_rows_with_labels_have_every_label_in_every_split() -> None:
    rng = Random(5)
    rows = [
        _example(2 + at, f"{_word(rng)}が{_word(rng)}", "返金配送故障契約"[at % 4 * 2 :][:2])
        for at in range(64)
    ]
    result = split(rows, PrepareConfig(goal="labels", valid_share=0.25, test_share=0.25))
    for name in ("train", "valid", "test"):
        found = {
            row.turns[-1].content
            for row, own in zip(rows, result.assigned, strict=True)
            if own == name
        }
        assert len(found) == 4


def test_stratified_split_keeps_the_shares_of_every_category() -> None:
    examples = _classes({"多い": 200, "中": 60, "少ない": 20})
    result = split(examples, PrepareConfig(stratify="分類"))
    for name in ("valid", "test"):
        counts = Counter(example.category for example in _by(result, examples, name))
        assert counts == {"多い": 20, "中": 6, "少ない": 2}


# --- what the goal asks for --------------------------------------------------------------

FAQ = PrepareConfig(goal="faq")


def _sheet(facts: int, wordings: int) -> list[Example]:
    """So many facts, of which every third is asked for in `wordings` ways."""
    rng = Random(facts)
    examples = []
    for rank in range(facts):
        word = _word(rng)
        for form in FORMS[: wordings if rank % 3 == 0 else 1]:
            examples.append(_example(len(examples) + 2, form.format(word), f"{rank}00円です。"))
    return examples


@pytest.mark.parametrize("facts", [3, 8, 20, 37, 60, 100, 150, 200, 250, 300])
@pytest.mark.parametrize("wordings", [1, 2, 4])
def test_every_fact_of_a_faq_is_taught(facts: int, wordings: int) -> None:
    examples = _sheet(facts, wordings)
    result = split(examples, FAQ)
    taught = {example.turns[-1].content for example in _by(result, examples, "train")}
    assert taught == {example.turns[-1].content for example in examples}
    held_out = len(examples) - result.assigned.count("train")
    assert result.leakage.same_answers == held_out
    assert result.leakage.near_questions == 0
    assert bool(held_out) == (wordings > 1)
    assert ("NO_OTHER_WORDINGS" in _codes(result)) == (wordings == 1)


def test_one_wording_of_two_is_held_out_only_up_to_the_share() -> None:
    examples = _facts(40, phrasings=2)
    result = split(examples, FAQ)
    assert result.assigned.count("test") == 8  # a tenth
    # What is left of those facts is one wording each: others give the rows of validation.
    assert result.assigned.count("valid") == 8


def test_set_phrases_are_no_fact_in_other_words() -> None:
    rng = Random(6)
    examples = [_example(at, _word(rng) + "はできますか？", "はい、できます。") for at in range(6)]
    result = split(examples, FAQ)
    assert set(result.assigned) == {"train"}


def test_split_that_was_asked_for_wins_over_the_goal_and_says_what_is_not_taught() -> None:
    examples = _facts(40)
    result = split(examples, PrepareConfig(goal="faq", hold_out="group"))
    assert result.assigned == split(examples, PrepareConfig()).assigned
    assert "FACTS_NOT_TAUGHT" in _codes(result)
    assert "FACTS_NOT_TAUGHT" not in _codes(split(examples, PrepareConfig(goal="style")))


def test_questions_that_differ_in_a_name_alone_are_other_facts() -> None:
    forms = (
        "{}の手続きは、どの部署に聞けばよいですか？",
        "{}について相談したいので、窓口を教えてください。",
    )
    names = ("会議室", "社用車", "制服", "社員証", "名刺", "研修", "備品", "郵便", "倉庫", "駐車場")
    examples = [
        _example(2 * at + n, form.format(name), f"内線{at}番の、{name}の係です。")
        for at, name in enumerate(names)
        for n, form in enumerate(forms)
    ]
    result = split(examples, FAQ)
    assert result.assigned.count("test") == result.assigned.count("valid") == 2
    assert "LEAKAGE" not in _codes(result)
