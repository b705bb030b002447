"""Which settings to try and which to keep: successive halving over a few comparable trials.

All that is tried stands in a `Plan`, made once from a measured speed and kept, so that the same plan
and seed give the same choice and a tuning that was killed goes on where it was. Successive halving is
that of Jamieson and Talwalkar (2016): a quarter of the updates for all, half of them for the better
half, all for the best and, beside it, for the usual settings: what is better when little was learned
need not be in the end. Time that is left is used for more of the choices. Each trial runs its schedule
to the end, as a run of its own. Trains nothing.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.experiment_tracker.evaluation.results import Interval
from mlx_finetuning.experiment_tracker.evaluation.statistics import ratio
from mlx_finetuning.language import _

RUNGS = (0.25, 0.5)
"""Shares of the updates at which choices are compared before the last runs get all."""
FINALISTS = 2
"""Choices that are trained to the end, where the time allows: the best and the usual ones."""
COUNTS = (16, 12, 8, 6, 5, 4, 3, 2)
"""How many choices are tried, the most that fit."""
LEAST_CHOICES = 5
"""With fewer no short trials are worth their time: the likeliest choice makes more of it."""
TOLD = 0.2
"""The goal's measure below which answers tell nothing yet, and the loss does."""
FORGETTING = 0.5
"""Points that a forgotten share costs, in points of the goal's measure."""
NEARLY_EQUAL = 0.02
"""Points below which a difference that is not sure is not worth another setting."""
LOWER_LOSS = 0.8
"""Of the usual settings' loss, at most, where it has to decide because answers say the same."""
LONGEST_FINAL = 0.5
"""Share of the time that the last run may take; with more, updates are cut."""
LEAST_UPDATES = 8
"""Of a run, and of a trial: shorter ones tell nothing."""
LAST_VALIDATIONS = 8
"""Of the last run, at its start and its end too."""
MARGIN = 0.95
"""Share of the time that is planned: speeds vary."""
LATE = 1.1
"""Of the time: by when a last run that was planned has to end. One that would end a little late was
still better than none."""
RANK_COSTS = 0.1
"""By which an update is longer for each time that a choice's rank is the usual one: of ten data sets on
tiny-ja at most 1.3 at four times, less on wider models."""
LENGTHS = (2.5, 2.25, 2.0, 1.8, 1.6, 1.4, 1.25, 1.1)
"""Updates of the likeliest choice, in multiples of the usual, where the time of two last runs leaves
room for them and for no comparison. Steps, so that speeds a little apart give the same choice."""
WITHOUT_GAIN = 3
"""Further choices in a row trained to the end for nothing, after which no more are."""
RATES, RANKS, UPDATES, WORDINGS = (1 / 3, 1.0, 3.0), (0.5, 1.0, 4.0), (0.5, 1.0, 2.0), (0.0, 0.5)
"""What choices multiply the usual rate, rank and updates by, and the shares of other wordings."""
USUAL_REPLAY = -1
"""Of a choice, as it stands in `plan.json`: what the usual settings replay."""
HIGHEST_RATE, HIGHEST_RANK = 5e-3, 128
"""A wider adapter than that takes an update's time for little: then more updates are tried first."""


@dataclass(frozen=True)
class Choice:
    """Settings to be tried."""

    learning_rate: float
    rank: int
    updates: int
    """In the end, not in a trial."""
    wordings: float = 0.0
    """Share of questions that are learned in other words, made mechanically."""
    replay: int = USUAL_REPLAY
    """Examples of an update, or `USUAL_REPLAY`."""

    def settings(self, base: TrainConfig, share: float = 1.0) -> TrainConfig:
        """Of a run with so much of the updates; its alpha keeps its proportion to the rank."""
        updates = max(round(share * self.updates), 1)
        chosen = dataclasses.replace(
            base,
            learning_rate=self.learning_rate,
            rank=self.rank,
            alpha=base.alpha * self.rank / base.rank,
            wordings=self.wordings,
            replay=base.replay if self.replay == USUAL_REPLAY else self.replay,
            iterations=updates,
            epochs=0.0,
            warmup=min(base.warmup, updates // 10),
            validate_every=max(min(base.validate_every, updates // 6), LEAST_UPDATES),
            sample_every=updates if base.sample_every else 0,
        )
        if share == 1:
            return chosen
        return dataclasses.replace(chosen, validate_every=updates, sample_every=0, patience=0)

    @property
    def text(self) -> str:
        """For people."""
        parts = [
            _("学習率 {learning_rate:g}、ランク {rank}、更新 {updates:,}回").format(
                learning_rate=self.learning_rate, rank=self.rank, updates=self.updates
            )
        ]
        if self.wordings:
            parts.append(_("言い換え{wordings:.0%}").format(wordings=self.wordings))
        if self.replay != USUAL_REPLAY:
            parts.append(_("忘れにくくする例 {replay}").format(replay=self.replay))
        return _("、").join(parts)


@dataclass(frozen=True)
class Speed:
    """What was measured before the first trial, in seconds."""

    update_s: float
    """Of an update of the usual settings."""
    score_s: float
    """To ask a model all questions of a trial."""
    validation_s: float
    start_s: float
    """Of a trial before its first update."""
    spent_s: float
    """Until the plan was made."""
    replayed: int = 0
    """Examples that an update of the usual settings replays."""
    replayed_s: float = 0.0
    """By which each of them lengthens an update."""

    def fixed_s(self, share: float) -> float:
        """What a trial with so much of the updates takes beside them."""
        validations = LAST_VALIDATIONS if share == 1 else 2
        return self.start_s + validations * self.validation_s + self.score_s


@dataclass(frozen=True)
class Plan:
    """All that is going to be tried, in order."""

    seconds: float
    """The whole time that was asked for."""
    speed: Speed
    choices: tuple[Choice, ...]
    """The usual settings first."""
    is_cut: bool = False
    """Whether updates are fewer than usual, for want of time."""
    rungs: tuple[float, ...] = RUNGS
    finalists: int = 1
    """How many are trained to the end for sure."""
    compared: int = 0
    """How many of the choices are compared by short trials; those behind them only have their turn
    where time is left. 0 in plans of older versions: all of them."""

    @property
    def short(self) -> tuple[Choice, ...]:
        """The choices that are compared by short trials."""
        return self.choices[: self.compared or None]

    def trial_s(self, choice: Choice, share: float) -> float:
        """What a trial is expected to take."""
        speed = self.speed
        more = 0 if choice.replay == USUAL_REPLAY else choice.replay - speed.replayed
        wider = 1 + RANK_COSTS * (choice.rank / self.choices[0].rank - 1)
        update_s = max(wider * speed.update_s + more * speed.replayed_s, 0.0)
        return share * choice.updates * update_s + speed.fixed_s(share)


@dataclass(frozen=True)
class Score:
    """How a trial answered: by question, from 0 to 1, and by known general question."""

    rows: tuple[float, ...]
    kept: tuple[float, ...]
    """Of the general questions that the base answers rightly: 1 where it is still right."""
    loss: float
    """Nats per token on held-out rows: tells apart what the answers do not."""

    @property
    def goal(self) -> float:
        """The goal's measure."""
        return _mean(self.rows)

    @property
    def forgotten(self) -> float:
        """Share of what the base could answer."""
        return 1 - _mean(self.kept) if self.kept else 0.0

    @property
    def value(self) -> float:
        """What trials are ordered by."""
        return self.goal - FORGETTING * self.forgotten


@dataclass(frozen=True)
class Trial:
    """One run that was made to compare: a line of `trials.jsonl`."""

    number: int
    choice: Choice
    share: float
    run_id: str
    score: Score
    seconds: float


def choices(
    base: TrainConfig, count: int, *, rewords: bool, replay: int | None = None
) -> tuple[Choice, ...]:
    """The usual settings, then others, the likeliest to matter first; always the same for a seed.

    rewords: whether other wordings of questions can be made. replay: how many examples are replayed
    where more is to be kept than usual; None where nothing else can be tried.
    """
    more = USUAL_REPLAY if replay is None else replay
    usual = Choice(base.learning_rate, base.rank, base.iterations)

    def changed(
        rate: float = 1.0,
        updates: float = 1.0,
        rank: float = 1.0,
        wordings: float = 0.0,
        replay: int = USUAL_REPLAY,
    ) -> Choice:
        return Choice(
            learning_rate=float(f"{min(rate * usual.learning_rate, HIGHEST_RATE):.2g}"),
            rank=max(round(rank * usual.rank), 1),
            updates=max(round(updates * usual.updates), 1),
            wordings=wordings,
            replay=replay,
        )

    is_wide = 4 * usual.rank > HIGHEST_RANK
    found = [usual, changed(updates=2.0) if is_wide else changed(rank=4.0), changed(rate=3.0)]
    found += [changed(rank=4.0, wordings=0.5), changed(wordings=0.5)] if rewords else []
    found += [changed(rate=3.0, replay=more), changed(rank=4.0, replay=more)]
    found += [changed(updates=2.0), changed(rank=4.0, rate=1 / 3), changed(rate=1 / 3)]
    others = [
        changed(rate, updates, rank, wordings, kept)
        for rate in RATES
        for updates in UPDATES
        for rank in RANKS
        for wordings in (WORDINGS if rewords else WORDINGS[:1])
        for kept in (USUAL_REPLAY, more)
    ]
    random.Random(base.seed).shuffle(others)
    return tuple(dict.fromkeys(found + others))[:count]


def plan(
    base: TrainConfig,
    seconds: float,
    speed: Speed,
    *,
    rewords: bool,
    replay: int | None = None,
) -> Plan:
    """As many choices as fit into the time, the usual ones at least; `rewords` and `replay` as for
    `choices`.

    Rather than be compared once more half-way, the best and the usual settings are both trained to
    the end, and rather than that a few are compared when little was learned, the two likeliest are. Where
    the usual training alone takes too much of the time, all choices get fewer updates.
    """
    left_s = MARGIN * (seconds - speed.spent_s)

    def made(count: int, share: float, rungs: tuple[float, ...], finalists: int) -> Plan:
        most = (share * left_s - speed.fixed_s(1.0)) / speed.update_s
        updates = max(min(base.iterations, int(most)), LEAST_UPDATES)
        start = dataclasses.replace(base, iterations=updates)
        tried = choices(start, COUNTS[0], rewords=rewords, replay=replay)
        is_cut = updates < base.iterations
        if not rungs:
            tried = (tried[0], dataclasses.replace(tried[1], updates=updates), *tried[2:])
        return Plan(seconds, speed, tried, is_cut, rungs, finalists, count)

    def largest(rungs: tuple[float, ...], finalists: int) -> Plan:
        for count in COUNTS if rungs else (FINALISTS,):
            compared = made(count, LONGEST_FINAL, rungs, finalists)
            is_told = not rungs or rungs[0] * compared.choices[0].updates >= LEAST_UPDATES
            # The length of a last run that follows no trials is made to fit when it begins.
            fits = needed_s(compared) <= (left_s if rungs else left_s / MARGIN)
            if is_told and fits and not (compared.is_cut and finalists > 1):
                return compared
        return made(1, 1.0, RUNGS, 1)

    both = max(
        (largest(rungs, FINALISTS) for rungs in (RUNGS, RUNGS[:1])),
        key=lambda one: one.compared,
    )
    if both.compared >= LEAST_CHOICES:
        return both
    found = (largest((), FINALISTS), largest(RUNGS, 1), largest(RUNGS[:1], 1))
    return next((one for one in found if one.compared > 1), found[0])


def lengthened(plan: Plan, choice: Choice, left_s: float) -> Choice:
    """With the most updates that end in that time, the usual number at least."""
    usual = plan.choices[0].updates
    longer = (dataclasses.replace(choice, updates=round(one * usual)) for one in LENGTHS)
    fitting = (one for one in longer if plan.trial_s(one, 1.0) <= left_s)
    return next(fitting, choice)


def needed_s(plan: Plan) -> float:
    """What all trials of a plan and the last runs take, with choices of middling length left."""
    short = plan.short
    count, total_s = len(short), 0.0
    for share in plan.rungs:
        if count > 1:
            total_s += count * _mean([plan.trial_s(choice, share) for choice in short])
            count = survivors_of(count)
    longest = _mean([plan.trial_s(choice, 1.0) for choice in short])
    return total_s + min(plan.finalists, len(short)) * longest


def survivors_of(count: int) -> int:
    """How many of so many choices go on to the next rung."""
    return max((count + 1) // 2, 1)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The best first; of equal ones the one with the lower loss, then the earlier choice. Where no
    trial answers much yet, what was forgotten must not decide: then by the loss alone."""
    is_told = max(one.score.goal for one in trials) >= TOLD
    return sorted(
        trials, key=lambda one: (-one.score.value if is_told else 0.0, one.score.loss, one.number)
    )


def difference(first: Trial, second: Trial, seed: int) -> Interval:
    """Of their values, first minus second: by question, paired, 95% bootstrap."""
    parts = [
        ratio([a - b for a, b in zip(ours, theirs, strict=True)], seed=seed)
        for ours, theirs in (
            (first.score.rows, second.score.rows),
            (first.score.kept, second.score.kept),
        )
    ]
    goal, kept = (part or Interval(0.0, 0.0, 0.0) for part in parts)
    value = goal.value + FORGETTING * kept.value
    # Questions of both kinds are drawn apart: their errors add up as squares do.
    below = _length(goal.value - goal.low, FORGETTING * (kept.value - kept.low))
    above = _length(goal.high - goal.value, FORGETTING * (kept.high - kept.value))
    return Interval(value, value - below, value + above)


def is_settled(trials: Sequence[Trial], seed: int) -> bool:
    """Whether no choice is surely, or by more than a little, another one than the best."""
    best, *others = ranked(trials)
    gaps = [difference(best, other, seed) for other in others]
    return all(not gap.is_above_zero and abs(gap.value) < NEARLY_EQUAL for gap in gaps)


def finalists(trials: Sequence[Trial], count: int, seed: int) -> list[int]:
    """Numbers of the choices that are trained to the end: the best, and beside it the usual one, or
    where that is the best the next, unless it is surely worse."""
    best, *others = ranked(trials)
    if best.number:
        beside = [0]
    else:
        beside = [one.number for one in others if not difference(best, one, seed).is_above_zero]
    return [best.number, *beside[: count - 1]]


def further(plan: Plan, compared: Sequence[Trial], trained: Sequence[Trial]) -> int | None:
    """The choice that is trained to the end next, where time is left: the best of those that were only
    compared, then those that were not tried yet. None where nothing is to be gained: all is answered
    and kept, or the last ones trained were no better than those before them."""
    best = max(trained, key=lambda one: one.score.value)
    is_perfect = best.score.value >= 1
    if is_perfect or len(trained) - 1 - list(trained).index(best) >= WITHOUT_GAIN:
        return None
    known = [trial.number for trial in ranked(compared)] if compared else []
    order = dict.fromkeys([*known, *range(len(plan.choices))])
    done = {trial.number for trial in trained}
    return next((number for number in order if number not in done), None)


def winner(trials: Sequence[Trial], seed: int) -> Trial:
    """The best of those that are no worse by the goal's measure than the usual settings; these, if
    the best is hardly better by answers and by the loss."""
    usual = min(trials, key=lambda one: one.number)
    if usual.number:
        return ranked(trials)[0]
    # What keeps more must not be paid for with what was to be learned.
    enough = usual.score.goal - NEARLY_EQUAL
    best = ranked([one for one in trials if one.score.goal >= enough])[0]
    gap = difference(best, usual, seed)
    is_better = gap.is_above_zero or gap.value >= NEARLY_EQUAL
    is_nearer = gap.value > -NEARLY_EQUAL and best.score.loss <= LOWER_LOSS * usual.score.loss
    return best if is_better or is_nearer else usual


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _length(first: float, second: float) -> float:
    return float((first**2 + second**2) ** 0.5)
