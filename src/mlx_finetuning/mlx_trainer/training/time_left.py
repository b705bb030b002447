"""How long a run takes yet: what its next updates, validations and sample answers will take, each timed
for itself.

The first update compiles kernels and is no example of the others, unless it takes far longer than that.
Before there is a second one, an update is taken to cost three passes over a batch that was validated:
forward, and twice that backward.
"""

from __future__ import annotations

from mlx_finetuning.config import TrainConfig

RECENT = 32
"""The last half of all updates stands for those to come, but no fewer than these: later ones are faster
where outputs are kept, and a machine with other work is now slower, now faster."""
PASSES = 3
COMPILING_S = 10.0
"""A first update that takes longer is mostly computing."""


class TimeLeft:
    """Hears how long each part took."""

    def __init__(self, config: TrainConfig, held_out_batches: int) -> None:
        self._config = config
        self._batches = held_out_batches
        self._ends_s = [0.0]
        """When each update behind the first one was done, were there nothing else."""
        self._first_s = 0.0
        self._first_batch_s = 0.0
        self._batch_s: float | None = None
        self._samples_s = 0.0

    def updated(self, seconds: float) -> None:
        """An update took so long."""
        if not self._first_s:
            self._first_s = seconds
        else:
            self._ends_s.append(self._ends_s[-1] + seconds)

    def validated(self, batches: int, seconds: float) -> None:
        """So many batches of a validation took so long; the first one compiles, too."""
        if batches == 1:
            self._first_batch_s = seconds
        elif batches:
            self._batch_s = (seconds - self._first_batch_s) / (batches - 1)

    def sampled(self, seconds: float) -> None:
        """Sample answers took so long."""
        self._samples_s = seconds

    def left_s(self, update: int, batches: int | None = None) -> float | None:
        """Right behind an update, or in the validation behind it with so many `batches` yet to do; None
        where nothing was timed that tells."""
        update_s = self._update_s()
        if update_s is None:
            return None
        config = self._config
        batch_s = update_s / PASSES if self._batch_s is None else self._batch_s
        next_one = update if batches is None else update + 1
        validations = _due(config.validate_every, next_one, config.iterations)
        left_s = (config.iterations - update) * update_s
        left_s += (validations * self._batches + (batches or 0)) * batch_s
        left_s += _due(config.sample_every, update, config.iterations) * self._samples_s
        return round(left_s, 1)

    def _update_s(self) -> float | None:
        done = len(self._ends_s) - 1
        if done:
            recent = min(done, max(RECENT, done // 2))
            return (self._ends_s[-1] - self._ends_s[-1 - recent]) / recent
        guess_s = None if self._batch_s is None else PASSES * self._batch_s
        if guess_s is None:
            return self._first_s if self._first_s > COMPILING_S else None
        return min(self._first_s or guess_s, guess_s)


def _due(every: int, first: int, last: int) -> int:
    """How often what is done each `every` updates (0 for never), and at the end, is done from the
    update `first` on."""
    if not every or first > last:
        return 0
    return last // every - (first - 1) // every + (last % every != 0)
