"""LATENCY: when something took long enough to be noted, and how long.

Pure. Each kind of event has its last samples, one a second at most, of which the longest counts.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from resplock import limits


class Sample(NamedTuple):
    """The longest of one second."""

    unix_s: int
    taken_ms: int


class LatencyEvent:
    """One kind of event."""

    __slots__ = ("longest_ms", "samples")

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=limits.LATENCY_SAMPLES_MAX)
        """The newest last; never empty once it was noted."""
        self.longest_ms = 0
        """Of all that were noted, also of those that are forgotten."""

    def note(self, unix_s: int, taken_ms: int) -> None:
        self.longest_ms = max(self.longest_ms, taken_ms)
        if self.samples and self.samples[-1].unix_s == unix_s:
            taken_ms = max(taken_ms, self.samples.pop().taken_ms)
        self.samples.append(Sample(unix_s, taken_ms))


class LatencyEvents:
    """All kinds that were noted, by their names."""

    def __init__(self) -> None:
        self._events: dict[str, LatencyEvent] = {}

    def note(self, event: str, unix_s: int, taken_ms: int) -> None:
        """`event` is one of a few names."""
        self._events.setdefault(event, LatencyEvent()).note(unix_s, taken_ms)

    def latest(self) -> list[tuple[str, LatencyEvent]]:
        """Every kind that was noted."""
        return list(self._events.items())

    def history(self, event: str) -> list[Sample]:
        """The samples of one kind, the oldest first."""
        found = self._events.get(event)
        return list(found.samples) if found else []

    def reset(self, events: tuple[str, ...]) -> int:
        """Forget these kinds, or all when none is named; how many there were."""
        names = [name for name in (events or tuple(self._events)) if name in self._events]
        for name in dict.fromkeys(names):
            del self._events[name]
        return len(dict.fromkeys(names))
