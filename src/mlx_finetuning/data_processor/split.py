"""Examples into train, valid and test. Deterministic for a seed, over Python versions and machines.

`group`: examples that say the same thing go to one split together. `paraphrase`: every fact is
trained, and one or two of its phrasings are held out. For the goal `faq` every answer is trained, and
what is held out are some other wordings of questions whose answer is. Near-identical questions never
straddle splits in any. Does not deduplicate.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor.checks.groups import Labels, join, join_equal, members
from mlx_finetuning.data_processor.checks.keys import NONE, Keys
from mlx_finetuning.data_processor.examples import Example, findings_at
from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.utils.japanese_utils import comparison_key

SPLITS = ("train", "valid", "test")
SMALL = 5
"""Held-out rows below which a result is only a hint."""
ENOUGH = 8
"""Held-out wordings that are worth a question of which two more are trained."""
_SET_PHRASES = re.compile(
    r"はい|いいえ|ええ|可能|不可|対応|その通り|(でき|あり|おり|ござい|して|い)?(ます|ません)|です"
    r"|してください|ください|いる|ない|ある|\b(yes|no|it|is|not|possible|please)\b|[\s\W_]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Leakage:
    """What held-out examples share with the trained ones."""

    same_questions: int
    near_questions: int
    """Character 5-gram Jaccard of 0.7 or more; includes the same questions."""
    same_answers: int
    """Meant when phrasings are held out; otherwise stock answers."""


@dataclass(frozen=True)
class Split:
    """Which example goes where."""

    assigned: tuple[str, ...]
    """The split of each example."""
    groups: tuple[str, ...]
    """`g1`, `g2` … for each example: those that say the same thing."""
    leakage: Leakage
    findings: tuple[Finding, ...]


def split(
    examples: Sequence[Example],
    keys: Keys,
    near: Labels,
    config: PrepareConfig,
    progress: StageProgress = SILENT,
) -> Split:
    """`near` groups nearly equal questions."""
    facts, findings = _facts(examples, keys, config.goal, progress)
    progress.check_cancelled()
    if config.hold_out == "paraphrase":
        groups = members(facts)
        ties = near
        assigned, notes = _hold_out_phrasings(keys, facts, near, config)
    elif config.hold_out == "auto" and config.goal == "faq" and not config.stratify:
        groups = members(facts)
        near = ties = with_one_answer(keys, near)
        assigned, notes = _hold_out_wordings(examples, keys, near, config)
    else:
        merged = ties = facts.copy()
        join(merged, near, np.arange(len(merged)))
        groups = members(merged)
        assigned, notes = _hold_out_groups(examples, keys, groups, config, progress)
    # What the source itself says goes before.
    assigned = [own.split or name for own, name in zip(examples, assigned, strict=True)]
    # A corrected answer is trained; what asks nearly the same would be no test any more.
    of_group = ties.tolist()
    taught = {of_group[at] for at, own in enumerate(examples) if own.split == "train"}
    assigned = [
        "train" if not own.split and label in taught else name
        for own, name, label in zip(examples, assigned, of_group, strict=True)
    ]
    progress.check_cancelled()
    leakage = _leakage(keys, near, assigned)
    progress.check_cancelled()
    findings = [*notes, *findings]
    if leakage.near_questions:
        findings.append(finding("LEAKAGE", count=leakage.near_questions))
    untaught = len(examples) - assigned.count("train") - leakage.same_answers
    if config.goal == "faq" and untaught:
        findings.append(finding("FACTS_NOT_TAUGHT", count=untaught))
    names = [""] * len(examples)
    for number, group in enumerate(groups, 1):
        for at in group:
            names[at] = f"g{number}"
    return Split(tuple(assigned), tuple(names), leakage, tuple(findings))


def order(seed: int, key: str) -> bytes:
    """A pseudo-random sort key; unlike `random`, it depends on nothing but seed and text."""
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


def _facts(
    examples: Sequence[Example], keys: Keys, goal: str, progress: StageProgress
) -> tuple[Labels, list[Finding]]:
    """Labels of examples that state one fact: they have the same group cell, or the same answer."""
    # Of few rows each label has few; joined, a split would hold none of what another teaches.
    limit = 1 if goal == "labels" else _most_of_one_fact(keys)
    # Wordings that were added to a row ask for its fact, however many they are.
    counts = Counter(
        answer for one, answer in zip(examples, keys.answers, strict=True) if not one.is_wording
    )
    stock = {answer for answer, count in counts.items() if answer and count > limit}
    facts = np.arange(len(examples))
    # Groups are of one file: another file's 「1」 is another group.
    named = [
        f"{example.source}\0{comparison_key(example.group)}" if example.group else ""
        for example in progress.over(examples)
    ]
    join_equal(facts, named)
    # To refuse two questions is not to state one fact.
    refused = {keys.answers[at] for at, example in enumerate(examples) if example.refusal}
    apart = stock | refused
    join_equal(facts, [NONE if answer in apart else answer for answer in keys.answers])
    labelled = (examples[at] for at, answer in enumerate(keys.answers) if answer in stock - refused)
    return facts, findings_at("LABEL_ANSWER", labelled)


def _most_of_one_fact(keys: Keys) -> int:
    """An answer to more questions is a label or a set phrase, not one fact."""
    return max(8, min(20, len(keys.answers) // 4))


# --- whole groups ------------------------------------------------------------------------


def _hold_out_groups(
    examples: Sequence[Example],
    keys: Keys,
    groups: list[list[int]],
    config: PrepareConfig,
    progress: StageProgress,
) -> tuple[list[str], list[Finding]]:
    assigned = ["train"] * len(examples)
    shares = {"test": config.test_share, "valid": config.valid_share}
    if len(groups) < 3 and any(shares.values()):
        return assigned, [finding("TOO_FEW_GROUPS", groups=len(groups))]
    for stratum in _strata(examples, keys, groups, config, progress):
        remaining, size = stratum, sum(map(len, stratum))
        for name, share in shares.items():
            progress.check_cancelled()
            # The groups, in order, that bring the number of examples nearest to the target.
            taken: list[list[int]] = []
            taken_size, target = 0, share * size
            for group in remaining:
                if taken_size >= target:
                    break  # any more would be too many
                if abs(taken_size + len(group) - target) < abs(taken_size - target):
                    taken.append(group)
                    taken_size += len(group)
            if not taken and target > 0 and (not config.stratify or len(remaining) > 2):
                taken = [min(remaining, key=len)]
            for group in taken:
                _assign(assigned, group, name)
            held_out = {group[0] for group in taken}
            remaining = [group for group in remaining if group[0] not in held_out]
    return assigned, _small_splits(assigned, config)


def _strata(
    examples: Sequence[Example],
    keys: Keys,
    groups: list[list[int]],
    config: PrepareConfig,
    progress: StageProgress,
) -> list[list[list[int]]]:
    """The groups in the seed's order; with `stratify`, apart by the category most of them have."""
    sort_keys = {
        group[0]: order(config.seed, "\n".join([keys.questions[at] for at in group]))
        for group in progress.over(groups)
    }
    progress.check_cancelled()
    ordered = sorted(groups, key=lambda group: sort_keys[group[0]])
    if not config.stratify:
        return [ordered]
    strata: defaultdict[str, list[list[int]]] = defaultdict(list)
    for group in ordered:
        counts = Counter(examples[at].category for at in group)
        strata[max(counts, key=lambda name: (counts[name], name))].append(group)
    return [strata[name] for name in sorted(strata)]


def _small_splits(assigned: Sequence[str], config: PrepareConfig) -> list[Finding]:
    counts = Counter(assigned)
    shares = {"valid": config.valid_share, "test": config.test_share}
    if any(share and counts[name] < SMALL for name, share in shares.items()):
        return [finding("SMALL_SPLIT", valid=counts["valid"], test=counts["test"])]
    return []


# --- phrasings of trained facts ----------------------------------------------------------


def _hold_out_phrasings(
    keys: Keys, facts: Labels, near: Labels, config: PrepareConfig
) -> tuple[list[str], list[Finding]]:
    assigned = ["train"] * len(facts)
    # A question that several facts share stays in train.
    by_fact: defaultdict[int, list[list[int]]] = defaultdict(list)
    for phrasing in members(near):
        its_facts = {int(facts[at]) for at in phrasing}
        if len(its_facts) == 1:
            by_fact[its_facts.pop()].append(phrasing)
    divisible = [phrasings for phrasings in by_fact.values() if len(phrasings) >= 3]
    for phrasings in divisible:
        ordered = sorted(phrasings, key=lambda rows: order(config.seed, keys.questions[rows[0]]))
        if config.test_share:
            _assign(assigned, ordered.pop(0), "test")
        if config.valid_share and len(phrasings) >= 4:
            _assign(assigned, ordered.pop(0), "valid")
    return assigned, _small_splits(assigned, config) if divisible else [finding("NO_PARAPHRASES")]


def with_one_answer(keys: Keys, near: Labels) -> Labels:
    """Groups of nearly equal questions, apart by their answers: 「Aの値段は？」 is no 「Bの値段は？」."""
    labels = np.arange(len(near))
    join_equal(labels, list(zip(near.tolist(), keys.answers, strict=True)))
    return labels


def wordings_by_answer(
    examples: Sequence[Example], keys: Keys, near: Labels
) -> list[list[list[int]]]:
    """For each answer that says something, the ways to ask for it: groups of nearly equal questions
    `with_one_answer`.

    A question that has several answers, and an answer that anything may have (「はい、できます。」, or one
    to very many questions), are left out.
    """
    limit = _most_of_one_fact(keys)
    answers_to: defaultdict[str, set[bytes]] = defaultdict(set)
    for question, answer in zip(keys.questions, keys.answers, strict=True):
        answers_to[question].add(answer)
    by_answer: defaultdict[bytes, list[list[int]]] = defaultdict(list)
    for wording in members(near):
        answer = keys.answers[wording[0]]
        text = examples[wording[0]].turns[-1].content
        is_clear = all(
            len(answers_to[keys.questions[at]]) == 1 and not examples[at].refusal for at in wording
        )
        if answer != NONE and is_clear and len(_SET_PHRASES.sub("", text)) > 1:
            by_answer[answer].append(wording)
    return [
        wordings
        for wordings in by_answer.values()
        if sum(any(not examples[at].is_wording for at in one) for one in wordings) <= limit
    ]


def _hold_out_wordings(
    examples: Sequence[Example], keys: Keys, near: Labels, config: PrepareConfig
) -> tuple[list[str], list[Finding]]:
    """One wording of a fact at most for each split, and never its last one: those of the facts with
    most wordings first, up to the share, and up to `ENOUGH` where a fact has wordings to spare."""
    assigned = ["train"] * len(examples)
    facts = wordings_by_answer(examples, keys, near)
    if not any(len(wordings) > 1 for wordings in facts):
        return assigned, [finding("NO_OTHER_WORDINGS")]

    def drawn(wording: list[int]) -> bytes:
        return order(config.seed, keys.questions[wording[0]])

    spare = [sorted(wordings, key=drawn) for wordings in facts]
    for name, share in (("test", config.test_share), ("valid", config.valid_share)):
        taken = 0
        for wordings in sorted(spare, key=lambda of_fact: (-len(of_fact), drawn(of_fact[0]))):
            is_enough = taken >= share * len(examples)
            if len(wordings) < 2 or not share or (is_enough and taken >= ENOUGH):
                break
            if is_enough and len(wordings) < 3:
                break
            wording = wordings.pop(0)
            _assign(assigned, wording, name)
            taken += len(wording)
    return assigned, _small_splits(assigned, config)


def _assign(assigned: list[str], group: Sequence[int], name: str) -> None:
    for at in group:
        assigned[at] = name


def _leakage(keys: Keys, near: Labels, assigned: Sequence[str]) -> Leakage:
    trained = [at for at, name in enumerate(assigned) if name == "train"]
    held_out = [at for at, name in enumerate(assigned) if name != "train"]
    questions = {keys.questions[at] for at in trained}
    answers = {keys.answers[at] for at in trained} - {NONE}
    labels = near.tolist()
    trained_labels = {labels[at] for at in trained}
    return Leakage(
        same_questions=sum(keys.questions[at] in questions for at in held_out),
        near_questions=sum(labels[at] in trained_labels for at in held_out),
        same_answers=sum(keys.answers[at] in answers for at in held_out),
    )
