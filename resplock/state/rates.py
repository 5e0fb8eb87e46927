"""Acquisitions and releases per second, over the last few seconds of the replicated clock.

Pure, derived: begins empty after a restore.
"""

from __future__ import annotations

from collections import deque

from resplock.state.records import Totals

_SAMPLE_EVERY_MS = 1_000
_SAMPLES = 6


class Rates:
    """Samples of the totals, one a second."""

    __slots__ = ("_next_ms", "_samples", "_totals")

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._samples: deque[tuple[int, int, int]] = deque(maxlen=_SAMPLES)
        self._next_ms = 0

    def sample(self, stamp_ms: int) -> None:
        """Take a sample if the last one is old enough; called once per entry."""
        if stamp_ms < self._next_ms:
            return
        self._next_ms = stamp_ms + _SAMPLE_EVERY_MS
        self._samples.append((stamp_ms, self._totals.acquisitions, self._totals.releases))

    def per_second(self, stamp_ms: int) -> tuple[int, int]:
        """(acquisitions, releases) per second up to `stamp_ms`, rounded."""
        if not self._samples:
            return 0, 0
        since_ms, acquisitions, releases = self._samples[0]
        elapsed_ms = max(stamp_ms - since_ms, 1_000)
        totals = self._totals
        return (
            (totals.acquisitions - acquisitions) * 1000 // elapsed_ms,
            (totals.releases - releases) * 1000 // elapsed_ms,
        )
