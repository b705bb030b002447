"""Examples into train, valid and test. Deterministic for a seed, over Python versions and machines.

`group`: rows that say the same thing go to one split together. `paraphrase`: every fact is
trained, and one or two of its phrasings are held out. Near-identical questions never straddle
splits in either. Does not deduplicate.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.groups import UnionFind, near_pairs
from mlx_finetuning.utils.japanese_utils import comparison_key

SPLITS = ("train", "valid", "test")
SMALL = 5
"""Held-out rows below which a result is only a hint."""


@dataclass(frozen=True)
class Leakage:
    """What held-out rows share with the training rows."""

    same_questions: int
    near_questions: int
    """Character 5-gram Jaccard of 0.7 or more; includes the same questions."""
    same_answers: int
    """Meant when phrasings are held out; otherwise stock answers."""


@dataclass(frozen=True)
class Split:
    assigned: tuple[str, ...]
    """The split of each example."""
    groups: tuple[str, ...]
    """`g1`, `g2` … for each example: rows that say the same thing."""
    leakage: Leakage
    findings: tuple[Finding, ...]


def split(examples: Sequence[Example], config: PrepareConfig) -> Split:
    links = _linked(examples)
    if config.hold_out == "paraphrase":
        groups = links.facts.sets()
        assigned, findings = _hold_out_phrasings(examples, links, config)
    else:
        groups = _merged(links, len(examples)).sets()
        assigned, findings = _hold_out_groups(examples, groups, config)
    leakage = _leakage(examples, links, assigned)
    findings += links.findings
    if leakage.near_questions:
        findings.append(finding("LEAKAGE", count=leakage.near_questions))
    return Split(tuple(assigned), _names(groups, len(examples)), leakage, tuple(findings))


def _names(groups: Sequence[Sequence[int]], size: int) -> tuple[str, ...]:
    names = [""] * size
    for number, members in enumerate(groups, 1):
        for member in members:
            names[member] = f"g{number}"
    return tuple(names)


# --- what belongs together ---------------------------------------------------------------


@dataclass(frozen=True)
class _Links:
    facts: UnionFind
    """Rows of one group column value, or with the same answer."""
    phrasings: UnionFind
    """Rows with the same or nearly the same question."""
    questions: tuple[str, ...]
    findings: list[Finding]


def _linked(examples: Sequence[Example]) -> _Links:
    questions = tuple(example.question_key for example in examples)
    answers = [example.answer_key for example in examples]
    stock = _stock_answers(answers)
    facts, phrasings = UnionFind(len(examples)), UnionFind(len(examples))
    _join_equal(facts, [comparison_key(example.group) for example in examples])
    _join_equal(facts, ["" if answer in stock else answer for answer in answers])
    _join_equal(phrasings, questions)
    first = {question: at for at, question in reversed(list(enumerate(questions)))}
    distinct = list(first)
    for left, right in near_pairs(distinct):
        phrasings.union(first[distinct[left]], first[distinct[right]])
    rows = [
        example.row for example, answer in zip(examples, answers, strict=True) if answer in stock
    ]
    return _Links(facts, phrasings, questions, [finding("LABEL_ANSWER", rows)] if rows else [])


def _stock_answers(answers: Sequence[str]) -> set[str]:
    """Answers to so many questions that they are labels or set phrases, not one fact."""
    limit = max(8, min(20, len(answers) // 4))
    return {answer for answer, count in Counter(answers).items() if answer and count > limit}


def _join_equal(sets: UnionFind, keys: Sequence[str]) -> None:
    """Join rows of the same key; the empty key joins nothing."""
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key:
            sets.union(first.setdefault(key, index), index)


def _merged(links: _Links, size: int) -> UnionFind:
    merged = UnionFind(size)
    for index in range(size):
        merged.union(index, links.facts.find(index))
        merged.union(index, links.phrasings.find(index))
    return merged


def _order(seed: int, key: str) -> bytes:
    """A pseudo-random place for `key`; unlike `random`, it hangs on nothing but seed and text."""
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


# --- whole groups ------------------------------------------------------------------------


def _hold_out_groups(
    examples: Sequence[Example], groups: list[list[int]], config: PrepareConfig
) -> tuple[list[str], list[Finding]]:
    assigned = ["train"] * len(examples)
    wanted = {"test": config.test_share, "valid": config.valid_share}
    if len(groups) < 3 and any(wanted.values()):
        return assigned, [finding("TOO_FEW_GROUPS", groups=len(groups))]
    keys = {
        members[0]: "\n".join(examples[at].question_key for at in members) for members in groups
    }
    waiting = sorted(groups, key=lambda members: _order(config.seed, keys[members[0]]))
    for name, share in wanted.items():
        taken = _fitting(waiting, share * len(examples))
        for members in taken:
            _assign(assigned, members, name)
        held_out = {members[0] for members in taken}
        waiting = [members for members in waiting if members[0] not in held_out]
    return assigned, _small(assigned, config)


def _fitting(waiting: Sequence[list[int]], target: float) -> list[list[int]]:
    """Groups, in order, that bring the number of rows nearest to `target`; one at least, if any
    rows are wanted."""
    taken: list[list[int]] = []
    rows = 0
    for members in waiting:
        if abs(rows + len(members) - target) < abs(rows - target):
            taken.append(members)
            rows += len(members)
    if not taken and target > 0:
        return [min(waiting, key=len)]
    return taken


def _small(assigned: Sequence[str], config: PrepareConfig) -> list[Finding]:
    counts = Counter(assigned)
    shares = {"valid": config.valid_share, "test": config.test_share}
    if any(share and counts[name] < SMALL for name, share in shares.items()):
        return [finding("SMALL_SPLIT", valid=counts["valid"], test=counts["test"])]
    return []


# --- phrasings of trained facts ----------------------------------------------------------


def _hold_out_phrasings(
    examples: Sequence[Example], links: _Links, config: PrepareConfig
) -> tuple[list[str], list[Finding]]:
    assigned = ["train"] * len(examples)
    units = _phrasings_by_fact(links)
    for members in units:
        if len(members) < 3:
            continue
        order = sorted(members, key=lambda unit: _order(config.seed, links.questions[unit[0]]))
        if config.test_share:
            _assign(assigned, order.pop(0), "test")
        if config.valid_share and len(members) >= 4:
            _assign(assigned, order.pop(0), "valid")
    if any(len(members) >= 3 for members in units):
        return assigned, _small(assigned, config)
    return assigned, [finding("NO_PARAPHRASES")]


def _assign(assigned: list[str], unit: Sequence[int], name: str) -> None:
    for at in unit:
        assigned[at] = name


def _phrasings_by_fact(links: _Links) -> list[list[list[int]]]:
    """For each fact its phrasings, as rows; a question that several facts share stays in train."""
    by_fact: defaultdict[int, list[list[int]]] = defaultdict(list)
    for unit in links.phrasings.sets():
        facts = {links.facts.find(at) for at in unit}
        if len(facts) == 1:
            by_fact[facts.pop()].append(unit)
    return list(by_fact.values())


# --- what leaked -------------------------------------------------------------------------


def _leakage(examples: Sequence[Example], links: _Links, assigned: Sequence[str]) -> Leakage:
    trained = [at for at, name in enumerate(assigned) if name == "train"]
    held_out = [at for at, name in enumerate(assigned) if name != "train"]
    questions = {links.questions[at] for at in trained}
    units = {links.phrasings.find(at) for at in trained}
    answers = {examples[at].answer_key for at in trained} - {""}
    return Leakage(
        same_questions=sum(links.questions[at] in questions for at in held_out),
        near_questions=sum(links.phrasings.find(at) in units for at in held_out),
        same_answers=sum(examples[at].answer_key in answers for at in held_out),
    )
