"""Virtual time: a heap of events, independent streams of chance, and the trace of what happened.

Times are whole microseconds. Events of one moment happen in the order in which they were planned.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

MS = 1_000
S = 1_000_000
EVENTS_MAX = 2_000_000
"""Ten times what the busiest seed takes: more means that something goes round in circles."""


class Violation(AssertionError):
    """Something happened that must never happen."""


class Trace:
    """What happened, hashed; and told in words to whoever wants to read it."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self.tell = tell
        self._hash = hashlib.blake2b(digest_size=16)
        self.update = self._hash.update

    def digest(self) -> str:
        """Equal for equal runs."""
        return self._hash.hexdigest()


class World:
    """Time, chance and the trace of one run."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.now = 0
        self.trace = Trace(tell)
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0

    def rng(self, concern: str) -> random.Random:
        """A stream of chance of its own: what one concern draws changes nothing for the others."""
        return random.Random(f"{self.seed}/{concern}")

    def after(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Plan an event."""
        self._serial += 1
        if self._serial > EVENTS_MAX:
            raise Violation("too many events: something goes round in circles")
        heappush(self._heap, (self.now + delay_us, self._serial, action, arguments))

    def run(self, until_us: int) -> None:
        """Let time pass."""
        heap = self._heap
        while heap and heap[0][0] <= until_us:
            self.now, _, action, arguments = heappop(heap)
            action(*arguments)
        self.now = until_us

    def note(self, who: str, what: str) -> None:
        """Put an event into the trace: for what is seldom. Messages go there as bytes."""
        line = f"{self.now / S:11.6f} {who:<4} {what}"
        self.trace.update(line.encode())
        if self.trace.tell is not None:
            self.trace.tell(line)


def chance(rng: random.Random, mean_us: int) -> int:
    """How long until the next of some events that come at random, `mean_us` apart on average."""
    return max(int(rng.expovariate(1.0) * mean_us), 1)
