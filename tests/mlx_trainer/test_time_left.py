"""What a run is said to take yet, against runs whose parts take known times."""

from __future__ import annotations

import pytest

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.training.time_left import TimeLeft

UPDATE_S, FIRST_S, BATCH_S, SAMPLES_S, BATCHES = 0.5, 30.0, 0.2, 4.0, 6


@pytest.mark.parametrize(
    ("iterations", "validate_every", "sample_every"), [(100, 50, 100), (105, 20, 0), (7, 50, 3)]
)
def test_time_left_is_right_from_the_second_update_and_near_before(
    iterations: int, validate_every: int, sample_every: int
) -> None:
    config = TrainConfig(
        iterations=iterations, validate_every=validate_every, sample_every=sample_every
    )
    left, clock_s = TimeLeft(config, BATCHES), 0.0
    told: list[tuple[int, float, float]] = []
    """Update, when it was told, and what."""

    def tell(update: int, batches: int | None = None) -> None:
        said = left.left_s(update, batches)
        if said is not None:
            told.append((update, clock_s, said))

    for update in range(iterations + 1):
        is_last = update == iterations
        if update % validate_every == 0 or is_last:
            for batch in range(BATCHES):
                left.validated(batch, batch * BATCH_S)
                tell(update, BATCHES - batch)
                clock_s += BATCH_S
            left.validated(BATCHES, BATCHES * BATCH_S)
        if sample_every and (update % sample_every == 0 or is_last):
            left.sampled(SAMPLES_S)
            clock_s += SAMPLES_S
        if not is_last:
            took_s = FIRST_S if update == 0 else UPDATE_S
            clock_s += took_s
            left.updated(took_s)
            tell(update + 1)
    for update, at_s, said in told:
        really = clock_s - at_s
        if update >= 2:
            assert said == pytest.approx(really, abs=0.06), update
        else:  # the first update takes long, and how long sample answers take is not known yet
            assert said <= 1.5 * really + 0.1
    assert told[0][0] == 0  # in the first validation already


def test_nothing_is_said_before_anything_was_timed_that_tells() -> None:
    assert TimeLeft(TrainConfig(), 0).left_s(0) is None
    left = TimeLeft(TrainConfig(iterations=11), 0)
    left.updated(2.0)  # most of it may be compiling
    assert left.left_s(1) is None
    left.updated(0.5)
    assert left.left_s(2) == 4.5
    left = TimeLeft(TrainConfig(iterations=11), 1)
    left.validated(1, 3.0)
    left.updated(2.0)
    assert left.left_s(1) is None
    slow = TimeLeft(TrainConfig(iterations=11), 0)
    slow.updated(60.0)
    assert slow.left_s(1) == 600.0


def test_time_left_follows_updates_that_get_faster_and_is_no_plaything_of_a_busy_machine() -> None:
    faster = TimeLeft(TrainConfig(iterations=300, sample_every=0), 0)
    for update in range(1, 100):
        faster.updated(2.0 if update < 20 else 0.5)
    assert faster.left_s(100) == pytest.approx(200 * 0.5)
    busy = TimeLeft(TrainConfig(iterations=300, sample_every=0), 0)
    for update in range(1, 201):  # slow and fast by turns of 40 updates
        busy.updated(0.4 if update // 40 % 2 else 0.2)
        if update > 120:
            said = busy.left_s(update)
            assert said is not None
            assert said == pytest.approx((300 - update) * 0.3, rel=0.15)
