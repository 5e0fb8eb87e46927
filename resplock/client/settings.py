"""What a lock is told when it is made, and what its rules need from outside."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import msgspec

ANSWER_S = 5.0
"""How long a command that does not wait may take before its connection is given up. The server says
-CLUSTERDOWN after about a second without a leader."""
SLICE_S = 15.0
"""How long a wait hears nothing before it asks again on another connection, and keeps its place: a
server that is gone without a word is noticed within so long."""
PATIENCE_S = 10.0


class Settings(msgspec.Struct, frozen=True):
    """Of one lock. Times in seconds.

    ttl_s             0 for a hold that does not expire
    blocking_timeout  None for ever
    pause_most_s      the longest pause between tries, without the queue; None: as advised
    patience_s        how long trouble (no connection, no leader) is retried before it is raised
    """

    ttl_s: float
    blocking: bool
    blocking_timeout: float | None
    renews: bool
    queues: bool
    pause_most_s: float | None
    patience_s: float

    @property
    def ttl_ms(self) -> int:
        """As the commands want it; a hold that expires does so after 1 ms at least."""
        return max(round(self.ttl_s * 1000), 1) if self.ttl_s else 0


class Surroundings(msgspec.Struct, frozen=True):
    """What is injected. `clock` is monotonic, in seconds; `new_id` never gives the same text twice."""

    clock: Callable[[], float]
    rng: random.Random
    new_id: Callable[[], str]

    def until(self, seconds: float | None) -> float:
        """The moment on the clock that is so far away; None is for ever."""
        return math.inf if seconds is None else self.clock() + seconds
