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

import numpy as np

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor.checks.groups import Labels, join, join_equal, members
from mlx_finetuning.data_processor.checks.keys import NONE, Keys
from mlx_finetuning.data_processor.examples import Example
from mlx_finetuning.data_processor.findings import Finding, finding, findings_at
from mlx_finetuning.data_processor.watching import Tick, still, watched
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


def split(
    examples: Sequence[Example],
    keys: Keys,
    near: Labels,
    config: PrepareConfig,
    tick: Tick = still,
) -> Split:
    """`near` groups nearly equal questions."""
    links = _linked(examples, keys, near, tick)
    tick(0, 0)
    if config.hold_out == "paraphrase":
        groups = members(links.facts)
        assigned, findings = _hold_out_phrasings(examples, links, config)
    else:
        groups = members(_merged(links))
        assigned, findings = _hold_out_groups(examples, keys, groups, config, tick)
    tick(0, 0)
    leakage = _leakage(keys, links, assigned)
    tick(0, 0)
    findings += links.findings
    if leakage.near_questions:
        findings.append(finding("LEAKAGE", count=leakage.near_questions))
    return Split(tuple(assigned), _names(groups, len(examples)), leakage, tuple(findings))


def _names(groups: Sequence[Sequence[int]], size: int) -> tuple[str, ...]:
    names = [""] * size
    for number, group in enumerate(groups, 1):
        name = f"g{number}"
        for at in group:
            names[at] = name
    return tuple(names)


# --- what belongs together ---------------------------------------------------------------


@dataclass(frozen=True)
class _Links:
    facts: Labels
    """Rows of one group column value, or with the same answer."""
    phrasings: Labels
    """Rows with the same or nearly the same question."""
    questions: Sequence[str]
    findings: list[Finding]


def _linked(examples: Sequence[Example], keys: Keys, near: Labels, tick: Tick) -> _Links:
    stock = _stock_answers(keys.answers)
    facts = np.arange(len(examples))
    # Groups are of one file: another file's 「1」 is another group.
    named = [
        f"{example.source}\0{comparison_key(example.group)}" if example.group else ""
        for example in watched(examples, tick)
    ]
    join_equal(facts, named)
    join_equal(facts, [NONE if answer in stock else answer for answer in keys.answers])
    rows = [examples[at] for at, answer in enumerate(keys.answers) if answer in stock]
    return _Links(facts, near, keys.questions, findings_at("LABEL_ANSWER", rows))


def _stock_answers(answers: Sequence[bytes]) -> set[bytes]:
    """Answers to so many questions that they are labels or set phrases, not one fact."""
    limit = max(8, min(20, len(answers) // 4))
    return {answer for answer, count in Counter(answers).items() if answer and count > limit}


def _merged(links: _Links) -> Labels:
    merged = links.facts.copy()
    join(merged, links.phrasings, np.arange(len(merged)))
    return merged


def order(seed: int, key: str) -> bytes:
    """A pseudo-random place for `key`; unlike `random`, it hangs on nothing but seed and text."""
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


# --- whole groups ------------------------------------------------------------------------


def _hold_out_groups(
    examples: Sequence[Example],
    keys: Keys,
    groups: list[list[int]],
    config: PrepareConfig,
    tick: Tick,
) -> tuple[list[str], list[Finding]]:
    assigned = ["train"] * len(examples)
    wanted = {"test": config.test_share, "valid": config.valid_share}
    if len(groups) < 3 and any(wanted.values()):
        return assigned, [finding("TOO_FEW_GROUPS", groups=len(groups))]
    for stratum in _strata(examples, keys, groups, config, tick):
        waiting, rows = stratum, sum(map(len, stratum))
        for name, share in wanted.items():
            tick(0, 0)
            taken = _fitting(waiting, share * rows, at_least_one=not config.stratify)
            for group in taken:
                _assign(assigned, group, name)
            held_out = {group[0] for group in taken}
            waiting = [group for group in waiting if group[0] not in held_out]
    return assigned, _small(assigned, config)


def _strata(
    examples: Sequence[Example],
    keys: Keys,
    groups: list[list[int]],
    config: PrepareConfig,
    tick: Tick,
) -> list[list[list[int]]]:
    """The groups in the seed's order; with `stratify`, apart by the category most rows have."""
    places = {
        group[0]: order(config.seed, "\n".join([keys.questions[at] for at in group]))
        for group in watched(groups, tick)
    }
    tick(0, 0)
    ordered = sorted(groups, key=lambda group: places[group[0]])
    if not config.stratify:
        return [ordered]
    strata: defaultdict[str, list[list[int]]] = defaultdict(list)
    for group in ordered:
        counts = Counter(examples[at].category for at in group)
        strata[max(counts, key=lambda name: (counts[name], name))].append(group)
    return [strata[name] for name in sorted(strata)]


def _fitting(waiting: Sequence[list[int]], target: float, *, at_least_one: bool) -> list[list[int]]:
    """Groups, in order, that bring the number of rows nearest to `target`; one at least, if any
    rows are wanted and that is asked."""
    taken: list[list[int]] = []
    rows = 0
    for group in waiting:
        if abs(rows + len(group) - target) < abs(rows - target):
            taken.append(group)
            rows += len(group)
    if not taken and target > 0 and (at_least_one or len(waiting) > 2):
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
    for phrasings in units:
        if len(phrasings) < 3:
            continue
        waiting = sorted(phrasings, key=lambda unit: order(config.seed, links.questions[unit[0]]))
        if config.test_share:
            _assign(assigned, waiting.pop(0), "test")
        if config.valid_share and len(phrasings) >= 4:
            _assign(assigned, waiting.pop(0), "valid")
    if any(len(phrasings) >= 3 for phrasings in units):
        return assigned, _small(assigned, config)
    return assigned, [finding("NO_PARAPHRASES")]


def _assign(assigned: list[str], unit: Sequence[int], name: str) -> None:
    for at in unit:
        assigned[at] = name


def _phrasings_by_fact(links: _Links) -> list[list[list[int]]]:
    """For each fact its phrasings, as rows; a question that several facts share stays in train."""
    by_fact: defaultdict[int, list[list[int]]] = defaultdict(list)
    for unit in members(links.phrasings):
        facts = {int(links.facts[at]) for at in unit}
        if len(facts) == 1:
            by_fact[facts.pop()].append(unit)
    return list(by_fact.values())


# --- what leaked -------------------------------------------------------------------------


def _leakage(keys: Keys, links: _Links, assigned: Sequence[str]) -> Leakage:
    trained = [at for at, name in enumerate(assigned) if name == "train"]
    held_out = [at for at, name in enumerate(assigned) if name != "train"]
    questions = {keys.questions[at] for at in trained}
    answers = {keys.answers[at] for at in trained} - {NONE}
    phrasings = links.phrasings.tolist()
    units = {phrasings[at] for at in trained}
    return Leakage(
        same_questions=sum(keys.questions[at] in questions for at in held_out),
        near_questions=sum(phrasings[at] in units for at in held_out),
        same_answers=sum(keys.answers[at] in answers for at in held_out),
    )
