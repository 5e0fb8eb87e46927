"""When to try again: advice from how long a lock is really held.

Pure and deterministic: integers only, and a bounded map that is part of the snapshot. A TTL says how
long a lock may be held; the mean of the hold times says how long it is.
"""

from __future__ import annotations

from resplock import limits
from resplock.operations import Advice
from resplock.state.records import Lock, Totals
from resplock.types import LockName

FREE = Advice(retry_after_ms=0)
"""For a lock that nobody holds."""

_WEIGHT_SHIFT = 3
"""A new hold time counts 1/8 in the mean."""
_INITIAL_US = 50_000
"""The mean that is assumed before anything was ever released."""
_MAX_MS_LEAST = 1_000
_MAX_MS_MOST = 60_000


class HoldMeans:
    """The mean hold time of the locks that differ from the mean over all locks.

    A lock whose hold times are near the mean of all has no entry: that mean serves it as well. So
    the map stays small, and a steady load of many short locks does not touch it.

    The order of `means` is the order in which entries were made. Replicas make them in the same
    order and snapshots keep it, so all drop the same entry when there are too many.
    """

    __slots__ = ("_totals", "means")

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self.means: dict[LockName, int] = {}

    def observe(self, name: LockName, held_ms: int) -> None:
        """A hold ended by its owner's release after `held_ms`."""
        held_us = held_ms * 1000 + 500  # the clock counts whole milliseconds: take their middle
        overall = self._totals.hold_mean_us
        if overall:
            overall += (held_us - overall) >> _WEIGHT_SHIFT
        else:
            overall = held_us
        self._totals.hold_mean_us = overall
        mean = self.means.get(name)
        if mean is not None:
            self.means[name] = mean + ((held_us - mean) >> _WEIGHT_SHIFT)
        elif held_us > 2 * overall + 2000 or overall > 2 * held_us:
            self._add(name, overall + ((held_us - overall) >> _WEIGHT_SHIFT))

    def _add(self, name: LockName, mean_us: int) -> None:
        if len(self.means) >= limits.HOLD_MEANS_MAX:
            del self.means[next(iter(self.means))]
        self.means[name] = mean_us

    def mean_ms(self, name: LockName) -> int:
        """The mean hold time of this lock, or of all, rounded up to at least 1 ms."""
        mean_us = self.means.get(name) or self._totals.hold_mean_us or _INITIAL_US
        return -(-mean_us // 1000)

    def wait_ms(self, name: LockName, lock: Lock, ahead: int, stamp_ms: int) -> int:
        """How long until it is the turn of whoever has `ahead` places before their own, at least 1.

        A hold lasts as long as holds of this lock do, but not beyond its TTL; a semaphore has as
        many at once as it has permits.
        """
        mean_ms = self.mean_ms(name)
        first_ms = mean_ms
        if not lock.holds and lock.delayed_until_ms:
            first_ms = lock.delayed_until_ms - stamp_ms
        elif lock.next_deadline_ms:
            first_ms = min(mean_ms, lock.next_deadline_ms - stamp_ms)
        return max(first_ms + mean_ms * ahead // max(lock.limit, 1), 1)

    def advice(self, name: LockName, lock: Lock, ahead: int, stamp_ms: int) -> Advice:
        """Advice for a lock that is not to be had, with `ahead` places before the asker's."""
        mean_ms = self.mean_ms(name)
        return Advice(
            retry_after_ms=self.wait_ms(name, lock, ahead, stamp_ms),
            initial_ms=min(mean_ms, _MAX_MS_LEAST),
            max_ms=min(max(_MAX_MS_LEAST, 8 * mean_ms), _MAX_MS_MOST),
        )
