"""Successive halving: what is tried, what is kept, and what fits into the time."""

from __future__ import annotations

import dataclasses
import random

import pytest

from mlx_finetuning import tuning
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.tuning import Choice, Score, Speed, Trial

USUAL = TrainConfig(dataset="facts", iterations=200)
SPEED = Speed(update_s=0.1, score_s=2.0, validation_s=0.5, start_s=1.0, spent_s=10.0)


def trial(
    number: int, rows: list[float], kept: list[float] | None = None, loss: float = 1.0
) -> Trial:
    choice = Choice(1e-3 * (number + 1), 16, 200)
    return Trial(
        number, choice, 0.5, f"run-{number}", Score(tuple(rows), tuple(kept or ()), loss), 1.0
    )


def test_the_usual_settings_are_tried_first_and_no_choice_twice() -> None:
    made = tuning.choices(USUAL, 12, rewords=True)
    assert made[0] == Choice(1e-3, 16, 200)
    assert len(set(made)) == len(made) == 12
    assert {one.learning_rate for one in made} > {1e-3, 3e-3}
    assert made[1].rank == 64
    assert {one.wordings for one in made} == {0.0, 0.5}
    assert not any(one.wordings for one in tuning.choices(USUAL, 12, rewords=False))


def test_where_the_usual_rank_is_high_already_more_updates_are_tried_first() -> None:
    wide = dataclasses.replace(USUAL, rank=64, alpha=128.0)
    assert tuning.choices(wide, 12, rewords=True)[1] == Choice(1e-3, 64, 400)
    made = tuning.plan(wide, 85, SPEED, rewords=False)
    usual, likeliest = made.short
    longer = tuning.lengthened(made, likeliest, 60.0)
    assert longer.rank == usual.rank and longer.updates > usual.updates


def test_choices_follow_from_the_seed() -> None:
    other = dataclasses.replace(USUAL, seed=7)
    assert tuning.choices(USUAL, 12, rewords=True) == tuning.choices(USUAL, 12, rewords=True)
    assert tuning.choices(USUAL, 12, rewords=True) != tuning.choices(other, 12, rewords=True)


def test_a_trial_has_its_share_of_the_updates_and_keeps_alpha_in_proportion() -> None:
    settings = Choice(3e-3, 32, 200, 0.5).settings(USUAL, 0.25)
    assert (settings.iterations, settings.rank, settings.alpha) == (50, 32, 64.0)
    assert (settings.learning_rate, settings.wordings, settings.sample_every) == (3e-3, 0.5, 0)
    assert Choice(1e-3, 16, 200).settings(USUAL).iterations == 200


def test_what_is_replayed_is_tried_where_it_can_be_and_costs_its_time() -> None:
    made = tuning.choices(USUAL, 12, rewords=False, replay=4)
    assert {one.replay for one in made} == {tuning.USUAL_REPLAY, 4}
    assert {one.replay for one in tuning.choices(USUAL, 40, rewords=True)} == {tuning.USUAL_REPLAY}
    usual, replaying = Choice(1e-3, 16, 200), Choice(1e-3, 16, 200, replay=4)
    assert usual.settings(dataclasses.replace(USUAL, replay=7)).replay == 7
    assert replaying.settings(USUAL).replay == 4
    plan = tuning.Plan(600, dataclasses.replace(SPEED, replayed_s=0.025), (usual, replaying))
    more_s = plan.trial_s(replaying, 0.5) - plan.trial_s(usual, 0.5)
    assert more_s == pytest.approx(100 * 4 * 0.025)
    known = dataclasses.replace(plan.speed, replayed=4)  # the usual run replays as many
    same = dataclasses.replace(plan, speed=known)
    assert same.trial_s(replaying, 0.5) == pytest.approx(same.trial_s(usual, 0.5))


def test_three_times_the_usual_time_trains_the_usual_and_the_likeliest_to_the_end() -> None:
    made = tuning.plan(USUAL, 3 * 31 + SPEED.spent_s, SPEED, rewords=False)
    assert (made.finalists, made.rungs, len(made.short)) == (2, (), 2)
    more = tuning.plan(USUAL, 6 * 31 + SPEED.spent_s, SPEED, rewords=False)
    assert (more.finalists, more.rungs) == (2, (0.25,))
    assert len(more.short) >= tuning.LEAST_CHOICES
    assert tuning.plan(USUAL, 45, SPEED, rewords=False).finalists == 1


def test_where_nothing_can_be_compared_the_likeliest_choice_gets_the_time_that_is_left() -> None:
    made = tuning.plan(USUAL, 85, SPEED, rewords=False)
    usual, likeliest = made.short
    assert made.rungs == () and usual.updates == likeliest.updates == 200
    for left_s in (20.0, 45.0, 60.0, 80.0, 500.0):
        longer = tuning.lengthened(made, likeliest, left_s)
        assert dataclasses.replace(longer, updates=200) == likeliest
        assert longer == likeliest or made.trial_s(longer, 1.0) <= left_s
    updates = {tuning.lengthened(made, likeliest, 30.0 + 0.1 * at).updates for at in range(600)}
    assert updates == {200, *(round(200 * one) for one in tuning.LENGTHS)}


def test_time_that_is_left_goes_to_the_best_that_was_only_compared_then_to_what_was_not_tried() -> (
    None
):
    plan = tuning.plan(USUAL, 150, SPEED, rewords=True)
    compared = [trial(number, [0.1 * number] * 20) for number in range(4)]
    best, usual = trial(3, [0.8] * 20), trial(0, [0.5] * 20)
    assert tuning.further(plan, compared, [best, usual]) == 2
    trained = [trial(number, [0.5 + 0.1 * number] * 20) for number in range(4)]
    assert tuning.further(plan, compared, trained) == 4
    worse = [trial(number, [0.4] * 20) for number in (2, 1)]
    assert tuning.further(plan, compared, [best, usual, *worse]) is None


def test_nothing_more_is_tried_once_all_is_answered_and_kept() -> None:
    plan = tuning.plan(USUAL, 150, SPEED, rewords=True)
    perfect = trial(1, [1.0] * 20, [1.0] * 10)
    assert tuning.further(plan, [], [perfect, trial(0, [0.5] * 20)]) is None
    forgets = trial(1, [1.0] * 20, [0.5] * 10)
    assert tuning.further(plan, [], [forgets, trial(0, [0.5] * 20)]) == 2


def test_the_usual_settings_are_trained_beside_the_best_or_the_next_beside_them() -> None:
    usual, good, bad = trial(0, [0.5] * 20), trial(1, [0.9] * 20), trial(2, [0.0] * 20)
    assert tuning.finalists([usual, good, bad], 2, 42) == [1, 0]
    assert tuning.finalists([good, bad], 2, 42) == [1, 0]
    assert tuning.finalists([good, usual], 1, 42) == [1]
    near = trial(1, [0.4, 0.6] * 9 + [0.5, 0.4])
    assert tuning.finalists([usual, near, bad], 2, 42) == [0, 1]
    assert tuning.finalists([usual, bad], 2, 42) == [0]


@pytest.mark.parametrize("seconds", [60, 150, 300, 900, 3600])
def test_what_is_planned_fits_into_the_time(seconds: float) -> None:
    made = tuning.plan(USUAL, seconds, SPEED, rewords=True)
    assert tuning.needed_s(made) <= seconds - SPEED.spent_s
    assert made.choices[0].updates == 200 or made.is_cut


def test_more_time_tries_more_and_little_time_trains_only() -> None:
    counts = [len(tuning.plan(USUAL, s, SPEED, rewords=True).short) for s in (20, 120, 300, 3600)]
    assert counts == sorted(counts) and counts[0] == 1 and counts[-1] == tuning.COUNTS[0]


def test_slow_updates_get_fewer_of_them() -> None:
    slow = dataclasses.replace(SPEED, update_s=5.0)
    made = tuning.plan(USUAL, 300, slow, rewords=True)
    assert made.is_cut
    assert tuning.needed_s(made) <= 300


def test_forgetting_costs_half_of_what_it_takes() -> None:
    learned = trial(0, [1.0] * 10, [1.0] * 5 + [0.0] * 5)
    kept = trial(1, [0.8] * 10, [1.0] * 10)
    assert learned.score.value == pytest.approx(0.75)
    assert tuning.ranked([learned, kept])[0] == kept


def test_equal_answers_are_told_apart_by_the_loss() -> None:
    first, second = trial(0, [1.0, 0.0], loss=2.0), trial(1, [1.0, 0.0], loss=1.0)
    assert tuning.ranked([first, second]) == [second, first]


def test_before_anything_is_answered_the_loss_decides_and_not_what_was_forgotten() -> None:
    learned = trial(0, [0.1] * 10, [0.0] * 10, loss=1.0)
    kept = trial(1, [0.0] * 10, [1.0] * 10, loss=4.0)
    assert tuning.ranked([kept, learned])[0] == learned


def test_what_keeps_more_does_not_win_at_the_price_of_the_goal() -> None:
    usual = trial(0, [0.6] * 20, [0.0] * 10)
    kept = trial(1, [0.4] * 20, [1.0] * 10)
    assert kept.score.value > usual.score.value
    assert tuning.winner([usual, kept], 42) == usual
    both = trial(1, [0.6] * 20, [1.0] * 10)
    assert tuning.winner([usual, both], 42) == both


def test_choices_that_cannot_be_told_apart_are_settled() -> None:
    same = [float(at % 2) for at in range(40)]
    assert tuning.is_settled([trial(0, same), trial(1, same)], 42)
    assert not tuning.is_settled([trial(0, same), trial(1, [1.0] * 40)], 42)


def test_the_usual_settings_win_unless_another_is_better_by_more_than_a_little() -> None:
    usual = trial(0, [0.50] * 40)
    assert (
        tuning.winner([usual, trial(1, [0.61 if at % 2 else 0.40 for at in range(40)])], 42)
        == usual
    )
    better = trial(1, [0.9] * 40)
    assert tuning.winner([usual, better], 42) == better


def test_where_answers_say_the_same_a_much_lower_loss_decides() -> None:
    usual = trial(0, [0.5] * 8, loss=0.2)
    for loss, number in ((0.19, 0), (0.1, 1)):
        other = trial(1, [0.5] * 8, loss=loss)
        assert tuning.winner([usual, other], 42).number == number
    worse = trial(1, [0.4] * 8, loss=0.1)
    forgets = trial(1, [0.5] * 8, [0.5] * 10, loss=0.1)
    knows = trial(0, [0.5] * 8, [1.0] * 10, loss=0.2)
    assert tuning.winner([usual, worse], 42) == usual
    assert tuning.winner([knows, forgets], 42) == knows


def test_a_paired_difference_is_that_of_the_normal_theory() -> None:
    random_ = random.Random(3)
    first = [random_.random() for _ in range(300)]
    second = [value - 0.1 + 0.2 * random_.random() - 0.1 for value in first]
    gap = tuning.difference(trial(0, first), trial(1, second), 1)
    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean = sum(differences) / 300
    deviation = (sum((one - mean) ** 2 for one in differences) / 299) ** 0.5
    assert gap.value == pytest.approx(mean)
    assert gap.high - gap.low == pytest.approx(2 * 1.96 * deviation / 300**0.5, rel=0.1)
