"""From what was measured to verdicts: the figures each one rests on, beside its words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from mlx_finetuning.experiment_tracker.evaluation import (
    comparison,
    outcome,
    preference,
    verdict,
)
from mlx_finetuning.experiment_tracker.evaluation.comparison import (
    Exchange,
    Grade,
    Measured,
    per_token,
)
from mlx_finetuning.experiment_tracker.evaluation.measured import Findings, Origin
from mlx_finetuning.experiment_tracker.evaluation.refusals import is_refusal
from mlx_finetuning.experiment_tracker.evaluation.results import (
    Forgetting,
    GeneralKind,
    Memorising,
    Outcome,
    Preference,
    Stopping,
    Tally,
    Thinking,
    Verdict,
    rows_of,
)
from mlx_finetuning.experiment_tracker.evaluation.rightness import (
    RIGHT,
    Rightness,
    by_person,
    rightness,
)
from mlx_finetuning.experiment_tracker.evaluation.statistics import ratio, share
from mlx_finetuning.experiment_tracker.evaluation.verdict import Learning, Link
from mlx_finetuning.language import N_, _
from mlx_finetuning.tokenization.reasoning import answer_of
from mlx_finetuning.utils.japanese_utils import comparison_key, contains, exact_match
from mlx_finetuning.utils.validators import KINDS_JA, personal_data

HELD_OUT_JA = {
    "paraphrase": N_("別の聞き方"),
    "reworded": N_("機械的に作った言い換え"),
    "new": N_("教えていない質問"),
}
"""Held-out questions, by how near they are to what was trained; for a FAQ the first that there are."""
NEARNESS = {"style": "chrf", "rewrite": "rouge_l"}
"""By goal, the score that says how near an answer is to its model."""
LONG_ANSWER = 8
"""Characters from which a trained answer, said elsewhere, is no accident."""
OFTEN = 2
"""General questions from which a shorter one, wrong and by itself, is none either."""


# --- learning ----------------------------------------------------------------------------


def learning(origin: Origin, findings: Findings, seed: int) -> Verdict:
    """Judged on the strictest split with enough rows."""
    split = judged_split({name: len(one.rows) for name, one in findings.splits.items()})
    if not split:
        return verdict.learned(None)
    evidence = _by_preference if findings.worse else _by_loss
    return verdict.learned(evidence(origin, findings, split, seed))


def judged_split(rows: dict[str, int]) -> str:
    """The strictest split with enough rows, else the largest; nothing without any row."""
    enough = (
        name for name in ("test", "valid", "train") if rows.get(name, 0) >= verdict.ENOUGH_ROWS
    )
    return next(enough, max(rows, key=lambda name: rows[name], default=""))


def _by_loss(origin: Origin, findings: Findings, split: str, seed: int) -> Learning | None:
    measured = findings.splits[split]
    base = comparison.loss(measured.base, seed)
    tuned = comparison.loss(measured.tuned, seed)
    change = comparison.loss_change(measured, seed)
    if base is None or tuned is None or change is None:
        return None
    trained = findings.splits.get("train")
    return Learning(
        name=rows_of(split),
        before=base.value,
        after=tuned.value,
        change=change,
        trained_change=comparison.loss_change(trained, seed) if trained else None,
        link=_link(findings, seed),
        adapter_is_zero=findings.adapter_is_zero,
        error=origin.error,
    )


def _by_preference(origin: Origin, findings: Findings, split: str, seed: int) -> Learning | None:
    """Judged by what such a run trains; the loss of the better answers may well rise."""
    judged, trained = (preferred(findings, name, seed) for name in (split, "train"))
    if judged is None:
        return None
    others = [
        _(
            "よい答えのほうが出やすい組: {base_accuracy:.0%} → {tuned_accuracy:.0%}（差が広がった組は{widened:.0%}）"
        ).format(
            base_accuracy=judged.base_accuracy,
            tuned_accuracy=judged.tuned_accuracy,
            widened=judged.widened,
        )
    ]
    rise = comparison.loss_change(findings.splits[split], seed)
    if rise is not None:
        others.append(_("よい答えそのものの損失の変化: {value:+.3f}").format(value=rise.value))
    return Learning(
        name=rows_of(split),
        before=judged.base_margin,
        after=judged.tuned_margin,
        change=judged.change,
        trained_change=None if trained is None else trained.change,
        adapter_is_zero=findings.adapter_is_zero,
        error=origin.error,
        measure=preference.MEASURE,
        falls=False,
        others=tuple(others),
    )


def preferred(findings: Findings, split: str, seed: int) -> Preference | None:
    """Of a split's pairs; None where it has none."""
    if split not in findings.worse:
        return None
    if split not in findings.splits:  # of answers judged by themselves all may be bad
        return None
    better, worse = findings.splits[split], findings.worse[split]
    if findings.objective == "kto":
        return preference.unpaired(better, worse, seed)
    return preference.preference(better, worse, findings.objective, seed)


def _link(findings: Findings, seed: int) -> Link | None:
    """How much easier a question's own answer is than others, before and after; per question."""
    others = findings.mismatched
    if others is None or not findings.mismatches:
        return None
    own = findings.splits[findings.link_split]
    mismatches_of = defaultdict(list)
    for at, mismatch in enumerate(findings.mismatches):
        mismatches_of[mismatch.owner].append(at)

    def gaps(own_grades: Sequence[Grade], other_grades: Sequence[Grade]) -> list[float]:
        """Nats per token: the mean over other answers minus its own answer."""
        return [
            sum(per_token(other_grades[at]) for at in mismatches) / len(mismatches)
            - per_token(own_grades[owner])
            for owner, mismatches in mismatches_of.items()
        ]

    base = ratio(gaps(own.base, others.base), seed=seed)
    tuned = ratio(gaps(own.tuned, others.tuned), seed=seed)
    if base is None or tuned is None:
        return None
    falls = [per_token(own.base[at]) - per_token(own.tuned[at]) for at in set(mismatches_of)]
    return Link(base, tuned, sum(falls) / len(falls))


# --- the first line ----------------------------------------------------------------------


def first_line(
    origin: Origin,
    findings: Findings,
    by_kind: dict[str, list[Exchange]],
    others: tuple[Verdict, Forgetting, Memorising, Stopping],
    seed: int,
) -> Outcome:
    """What the run came to; by_kind: exchanges by how near they are to what was trained; others: the
    judgements that have been made already."""
    learning, forgetting, memorising, stopping = others
    kinds = ("paraphrase", "reworded") if findings.goal == "faq" else ("new", "paraphrase")
    held_out = next((name for name in kinds if name in by_kind), "")
    asked = by_kind.get(held_out, [])
    measure, moved = measured_change(findings, asked, seed)
    labels = Counter(one.expected for one in asked)
    validated = [
        (line.valid_loss, line.update) for line in origin.metrics if line.valid_loss is not None
    ]
    return outcome.judge(
        outcome.Evidence(
            goal=findings.goal,
            learning=learning.state,
            measure=measure,
            moved=moved,
            taught=tally(by_kind.get("trained", []), findings),
            held_out=tally(asked, findings),
            held_out_ja=HELD_OUT_JA.get(held_out, ""),
            commonest=max(labels.values(), default=0) / max(len(asked), 1),
            others=len(by_kind.get("new", [])) if findings.goal == "faq" else 0,
            ended=stopping.tuned,
            adapter_is_zero=findings.adapter_is_zero,
            answers_changed=findings.has_changed,
            forgot=forgetting.state == "forgot",
            parrots=memorising.state == "parrots",
            ending=origin.ending,
            updates=max((line.update for line in origin.metrics), default=0),
            best_update=min(validated, default=(0.0, 0))[1],
        )
    )


def tally(asked: Sequence[Exchange], findings: Findings) -> Tally | None:
    """How right the tuned model's answers are; None of no questions."""
    if not asked:
        return None
    tuned = Counter(how_right(one.tuned, one, findings) for one in asked)
    return Tally(
        asked=len(asked),
        exact=tuned["exact"],
        contains=tuned["contains"],
        unsure=tuned["unsure"],
        empty=tuned["empty"],
        base_right=sum(how_right(one.base, one, findings) in RIGHT for one in asked),
    )


def how_right(answer: str, exchange: Exchange, findings: Findings) -> Rightness:
    """Of either model's answer: as a person said, or as it is found; a refusal is right in any words."""
    found = _found(answer, exchange, findings)
    turns = (turn for turn in exchange.row["messages"][:-1] if turn["role"] != "system")
    good = findings.marks.get((tuple(str(turn["content"]) for turn in turns), answer))
    return found if good is None else by_person(found, good=good)


def _found(answer: str, exchange: Exchange, findings: Findings) -> Rightness:
    if exchange.row.get("refusal"):
        refuses = is_refusal(answer, frozenset([exchange.expected]))
        is_exact = exact_match(answer, exchange.expected)
        return "exact" if is_exact else "contains" if refuses else "wrong" if answer else "empty"
    is_label = findings.goal == "labels"
    return rightness(
        answer, exchange.expected, exchange.question, findings.common, is_label=is_label
    )


def measured_change(findings: Findings, asked: Sequence[Exchange], seed: int) -> tuple[str, bool]:
    """In words how the goal's measure moved on rows that were not taught, and whether it surely did."""
    nearness = NEARNESS.get(findings.goal)
    if nearness and asked:
        before, after = (
            sum(getattr(scores, nearness) for scores in both) / len(asked)
            for both in (
                [one.base_scores for one in asked],
                [one.tuned_scores for one in asked],
            )
        )
        change = comparison.score_changes(asked, seed)[nearness]
        text = _(
            "教えていない{asked}問の答えの、お手本への近さは {before:.0%} → {after:.0%}。"
        ).format(asked=len(asked), before=before, after=after)
        return text, change is not None and change.is_above_zero
    split = judged_split({name: len(one.rows) for name, one in findings.splits.items()})
    name = rows_of(split)
    pairs = preferred(findings, split, seed)
    if pairs is not None:
        before, after = (
            round(pairs.pairs * share) for share in (pairs.base_accuracy, pairs.tuned_accuracy)
        )
        text = _("{name}{pairs}組中、よい答えを選ぶのは {before}組 → {after}組。").format(
            name=name, pairs=pairs.pairs, before=before, after=after
        )
        return text, True
    losses = [
        comparison.loss(grades, seed)
        for measured in ([findings.splits[split]] if split else [])
        for grades in (measured.base, measured.tuned)
    ]
    shown = [loss.value for loss in losses if loss is not None]
    if not shown:
        return "", True
    moves = " → ".join(f"{loss:.3f}" for loss in shown)
    return _("{name}の損失は {moves}。").format(name=name, moves=moves), True


# --- forgetting, memorising --------------------------------------------------------------


def forgetting(findings: Findings, seed: int) -> Forgetting:
    """By the general questions that the base answers rightly: of the others it had nothing to lose."""
    asked, measured = findings.asked, findings.general
    answered = zip(asked, measured.rows, measured.base, measured.tuned, strict=True)
    known = [one for one in answered if one[0].is_right(one[2].answer)]
    could = [(question, base, tuned) for question, __, base, tuned in known]
    still_can = [question for question, __, tuned in could if question.is_right(tuned.answer)]
    kept = share(len(still_can), len(could))
    if known:
        rows, base_grades, tuned_grades = zip(*(one[1:] for one in known), strict=True)
        measured = Measured(rows, base_grades, tuned_grades, len(rows))
    rise = comparison.loss_change(measured, seed)
    return Forgetting(
        **vars(verdict.forgot(rise, kept, len(could))),
        kept=kept,
        questions=len(asked),
        could=len(could),
        still_can=len(still_can),
        base=comparison.loss_figures(measured.base, seed),
        tuned=comparison.loss_figures(measured.tuned, seed),
        change=rise,
        kinds=tuple(
            GeneralKind(
                kind=kind,
                questions=sum(question.kind == kind for question in asked),
                could=sum(question.kind == kind for question, __, __ in could),
                still_can=sum(question.kind == kind for question in still_can),
            )
            for kind in dict.fromkeys(question.kind for question in asked)
        ),
        lost=tuple(
            {"question": question.question, "base": base.answer, "tuned": tuned.answer}
            for question, base, tuned in could
            if not question.is_right(tuned.answer)
        ),
    )


def memorising(findings: Findings, exchanges: dict[str, list[Exchange]]) -> Memorising:
    """exchanges: by split."""
    parroted = _parroted(findings)
    leaked = {
        kind
        for of_split in exchanges.values()
        for one in of_split
        for kind, __ in _personal(one.tuned) - _personal(one.base) - _personal(one.question)
    }
    personal = sorted(KINDS_JA[kind] for kind in leaked)
    trained = exchanges.get("train", [])
    return Memorising(
        **vars(verdict.memorised(len(parroted), len(findings.asked), personal)),
        verbatim=sum(one.tuned_scores.exact > one.base_scores.exact for one in trained),
        of=len(trained),
        parroted=parroted,
        personal=tuple(personal),
    )


def _parroted(findings: Findings) -> tuple[dict[str, str], ...]:
    """General questions that only the tuned model answers by a trained answer: a long one anywhere in what
    it says; a short one alone, where it is wrong, and more than once."""
    # To refuse what has nothing to do with the data is no parroting.
    trained = {
        answer_of(row["messages"][-1])
        for row in (findings.splits["train"].rows if "train" in findings.splits else ())
        if row.get("messages") and not row.get("refusal")
    }
    long_answers = sorted(text for text in trained if len(text) >= LONG_ANSWER)
    short_keys = {comparison_key(text) for text in trained if len(text) < LONG_ANSWER} - {""}

    def repeats(answer: str) -> bool:
        return any(contains(answer, text) for text in long_answers)

    found: list[tuple[str, dict[str, str]]] = []
    """A short answer's key, or nothing for a long one; the question with the answer."""
    general = findings.general
    for question, base, tuned in zip(findings.asked, general.base, general.tuned, strict=True):
        before, after = base.answer or "", tuned.answer or ""
        key, told = comparison_key(after), {"question": question.question, "answer": after}
        if repeats(after):
            if not repeats(before):
                found.append(("", told))
        elif key in short_keys - {comparison_key(before)} and not question.is_right(after):
            found.append((key, told))
    times = Counter(key for key, __ in found)
    return tuple(told for key, told in found if not key or times[key] >= OFTEN)


def _personal(text: str) -> set[tuple[str, str]]:
    """Kind and text of what looks like personal data."""
    return {(one.kind, text[one.start : one.end]) for one in personal_data(text)}


# --- answers -----------------------------------------------------------------------------


def stopping(exchanges: Sequence[Exchange]) -> Stopping:
    """Of all questions that were asked."""
    base = ratio([float(one.base_ended) for one in exchanges])
    tuned = ratio([float(one.tuned_ended) for one in exchanges])
    share = None if tuned is None else tuned.value
    return Stopping(
        **vars(verdict.ends(share)),
        answers=len(exchanges),
        base=None if base is None else base.value,
        tuned=share,
    )


def thinking(exchanges: Sequence[Exchange], thinks: bool | None) -> Thinking | None:
    """thinks: as in `Findings`; None: nothing to say."""
    if thinks is None:
        return None
    answers = len(exchanges)
    base = tuned = None
    if exchanges:
        base = sum(bool(one.base_reasoning) for one in exchanges) / answers
        tuned = sum(bool(one.tuned_reasoning) for one in exchanges) / answers
    base_unfinished = sum(bool(one.base_reasoning) and not one.base for one in exchanges)
    tuned_unfinished = sum(bool(one.tuned_reasoning) and not one.tuned for one in exchanges)
    return Thinking(
        **vars(verdict.thinks(thinks, base, tuned, tuned_unfinished, answers)),
        trained=thinks,
        answers=answers,
        base=base,
        tuned=tuned,
        base_unfinished=base_unfinished,
        tuned_unfinished=tuned_unfinished,
    )
