"""From what was measured to verdicts: the figures each one rests on, beside its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from mlx_finetuning.experiment_tracker.evaluation import (
    comparison,
    general_questions,
    preference,
    verdict,
)
from mlx_finetuning.experiment_tracker.evaluation.comparison import (
    Exchange,
    Grade,
    Measured,
    per_token,
)
from mlx_finetuning.experiment_tracker.evaluation.measured import SPLITS_JA, Findings, Origin
from mlx_finetuning.experiment_tracker.evaluation.preference import Preference
from mlx_finetuning.experiment_tracker.evaluation.questions import Row
from mlx_finetuning.experiment_tracker.evaluation.statistics import ratio
from mlx_finetuning.experiment_tracker.evaluation.verdict import Learning, Link, Verdict
from mlx_finetuning.tokenization.reasoning import answer_of
from mlx_finetuning.utils.japanese_utils import contains
from mlx_finetuning.utils.validators import KINDS_JA, personal_data

LONG_ANSWER = 8
"""Characters from which a trained answer, said elsewhere, is no accident."""


def _as_record(found: Verdict) -> dict[str, Any]:
    return {**asdict(found), "evidence": list(found.evidence)}


def learning(origin: Origin, found: Findings, seed: int) -> dict[str, Any]:
    judged = verdict.learned(_learning(origin, found, seed))
    return {"learned": judged.state == "learned", **_as_record(judged)}


def judged_split(rows: dict[str, int]) -> str:
    """The strictest split with enough rows, else the largest; nothing without any row."""
    enough = (
        name for name in ("test", "valid", "train") if rows.get(name, 0) >= verdict.ENOUGH_ROWS
    )
    return next(enough, max(rows, key=lambda name: rows[name], default=""))


def _learning(origin: Origin, found: Findings, seed: int) -> Learning | None:
    name = judged_split({name: len(one.rows) for name, one in found.splits.items()})
    if not name:
        return None
    judge = _by_preference if found.worse else _by_loss
    judged = judge(found, name, seed)
    is_zero = bool(found.layers) and not any(one.norm for one in found.layers)
    return judged and replace(judged, adapter_is_zero=is_zero, error=origin.error)


def _by_loss(found: Findings, name: str, seed: int) -> Learning | None:
    base = comparison.loss(found.splits[name].base, seed)
    tuned = comparison.loss(found.splits[name].tuned, seed)
    change = comparison.loss_change(found.splits[name], seed)
    if base is None or tuned is None or change is None:
        return None
    trained = found.splits.get("train")
    return Learning(
        name=SPLITS_JA[name],
        before=base.value,
        after=tuned.value,
        change=change,
        trained_change=comparison.loss_change(trained, seed) if trained else None,
        link=_link(found, seed),
    )


def _by_preference(found: Findings, name: str, seed: int) -> Learning | None:
    """Judged by what such a run trains; the loss of the better answers may well rise."""
    judged, trained = (preferred(found, split, seed) for split in (name, "train"))
    if judged is None:
        return None
    rise = comparison.loss_change(found.splits[name], seed)
    lines = (
        f"よい答えのほうが出やすい組: {judged.base_accuracy:.0%} → {judged.tuned_accuracy:.0%}"
        f"（差が広がった組は{judged.widened:.0%}）",
        "" if rise is None else f"よい答えそのものの損失の変化: {rise.value:+.3f}",
    )
    return Learning(
        name=SPLITS_JA[name],
        before=judged.base_margin,
        after=judged.tuned_margin,
        change=judged.change,
        trained_change=None if trained is None else trained.change,
        measure=preference.MEASURE,
        falls=False,
        others=tuple(line for line in lines if line),
    )


def preferred(found: Findings, split: str, seed: int) -> Preference | None:
    """Of a split's pairs; None where it has none."""
    if split not in found.worse:
        return None
    worse = found.worse[split]
    return preference.preference(found.splits[split], worse, found.objective, seed)


def _link(found: Findings, seed: int) -> Link | None:
    if found.mismatched is None or not found.mismatches:
        return None
    own = found.splits[found.link_split]
    owners = [mismatch.owner for mismatch in found.mismatches]
    base = ratio(_gaps(own.base, found.mismatched.base, owners), seed=seed)
    tuned = ratio(_gaps(own.tuned, found.mismatched.tuned, owners), seed=seed)
    if base is None or tuned is None:
        return None
    falls = [per_token(own.base[at]) - per_token(own.tuned[at]) for at in set(owners)]
    return Link(base, tuned, sum(falls) / len(falls))


def _gaps(own: Sequence[Grade], others: Sequence[Grade], owners: Sequence[int]) -> list[float]:
    """Per question, nats per token: the mean over other answers minus its own answer."""
    by_owner: dict[int, list[float]] = {}
    for owner, grade in zip(owners, others, strict=True):
        by_owner.setdefault(owner, []).append(per_token(grade))
    return [sum(values) / len(values) - per_token(own[owner]) for owner, values in by_owner.items()]


def forgetting(measured: Measured, seed: int) -> dict[str, Any]:
    asked = general_questions.questions()
    pairs = list(zip(asked, measured.base, measured.tuned, strict=True))
    could = [one for one in pairs if one[0].is_right(one[1].answer)]
    still = [one for one in could if one[0].is_right(one[2].answer)]
    rise = comparison.loss_change(measured, seed)
    kinds = dict.fromkeys(question.kind for question in asked)
    return {
        **_as_record(verdict.forgot(rise, len(could), len(still))),
        "questions": len(asked),
        "could": len(could),
        "still_can": len(still),
        "base": comparison.loss_figures(measured.base, seed),
        "tuned": comparison.loss_figures(measured.tuned, seed),
        "change": None if rise is None else asdict(rise),
        "kinds": [
            {
                "kind": kind,
                "questions": sum(one.kind == kind for one in asked),
                "could": sum(one[0].kind == kind for one in could),
                "still_can": sum(one[0].kind == kind for one in still),
            }
            for kind in kinds
        ],
        "lost": [
            {"question": one[0].question, "base": one[1].answer, "tuned": one[2].answer}
            for one in could
            if one not in still
        ],
    }


def memorising(found: Findings, asked: dict[str, list[Exchange]]) -> dict[str, Any]:
    answers = _long_answers(found.splits["train"].rows) if "train" in found.splits else []
    said = zip(general_questions.questions(), found.general.base, found.general.tuned, strict=True)
    parroted = [
        {"question": question.question, "answer": tuned.answer}
        for question, base, tuned in said
        if _repeats(tuned.answer, answers) and not _repeats(base.answer, answers)
    ]
    told = [item for one in asked.values() for item in one]
    leaked = {
        kind
        for item in told
        for kind, _ in _personal(item.tuned) - _personal(item.base) - _personal(item.question)
    }
    found_kinds = sorted(KINDS_JA[kind] for kind in leaked)
    record = _as_record(
        verdict.memorised(len(parroted), len(general_questions.questions()), found_kinds)
    )
    verbatim = sum(
        item.tuned_scores.exact > item.base_scores.exact for item in asked.get("train", [])
    )
    return {
        **record,
        "verbatim": verbatim,
        "of": len(asked.get("train", [])),
        "parroted": parroted,
        "personal": found_kinds,
    }


def _long_answers(rows: Sequence[Row]) -> list[str]:
    turns = (answer_of(row["messages"][-1]) for row in rows if row.get("messages"))
    return sorted({text for text in turns if len(text) >= LONG_ANSWER})


def _repeats(answer: str | None, trained: Sequence[str]) -> bool:
    return answer is not None and any(contains(answer, text) for text in trained)


def _personal(text: str) -> set[tuple[str, str]]:
    return {(one.kind, text[one.start : one.end]) for one in personal_data(text)}


def stopping(told: Sequence[Exchange]) -> dict[str, Any]:
    share = ratio([float(item.tuned_ended) for item in told])
    base = ratio([float(item.base_ended) for item in told])
    return {
        **_as_record(verdict.ends(None if share is None else share.value)),
        "answers": len(told),
        "base": None if base is None else base.value,
        "tuned": None if share is None else share.value,
    }


def thinking(told: Sequence[Exchange], thinks: bool | None) -> dict[str, Any] | None:
    """Shares of answers with reasoning, and how many never came from it to an answer.

    thinks: as in `Findings`; None: nothing to say.
    """
    if thinks is None:
        return None
    base = [(item.base_reasoning, item.base) for item in told]
    tuned = [(item.tuned_reasoning, item.tuned) for item in told]
    before, after = _thinking_share(base), _thinking_share(tuned)
    unfinished = [
        sum(bool(thought) and not text for thought, text in said) for said in (base, tuned)
    ]
    return {
        **_as_record(verdict.thinks(thinks, before, after, unfinished[1], len(told))),
        "trained": thinks,
        "answers": len(told),
        "base": before,
        "tuned": after,
        "base_unfinished": unfinished[0],
        "tuned_unfinished": unfinished[1],
    }


def _thinking_share(said: Sequence[tuple[str, str]]) -> float | None:
    return sum(bool(thought) for thought, _ in said) / len(said) if said else None
