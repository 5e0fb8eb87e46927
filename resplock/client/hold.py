"""A hold as its holder knows it: until when it certainly lasts, and that it is lost.

Invariant: the local deadline is never later than the moment at which the server may give the lock to
somebody else. The server counts a TTL from when it carries the command out, which is after the command
was sent: so the deadline is counted from the sending, on the monotonic clock, less a margin for clocks
that do not run alike.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resplock.client.effects import Mutex

MARGIN_PART = 0.02
"""Of the TTL, left out of the local deadline. Clocks that NTP disciplines differ by 0.001."""
MARGIN_S = 0.002
RENEWED_AFTER_PART = 1 / 3
"""Of the time that the hold has at least."""


class State(Enum):
    """What became of a hold."""

    HELD = auto()
    LOST = auto()
    ENDED = auto()
    """Given back, or no longer asked for."""


class Hold:
    """One grant, from the reply to its release or loss. Safe to use from several threads."""

    def __init__(
        self,
        *,
        title: str,
        token: bytes,
        version: int,
        ttl_s: float,
        sent_at: float,
        clock: Callable[[], float],
        mutex: Mutex,
    ) -> None:
        """ttl_s: 0 for a hold that does not expire. sent_at: before the grant was made."""
        self.title = title
        self.token = token
        self.version = version
        self.ttl_s = ttl_s
        self.mutex = mutex
        """Whoever changes the TTL has it."""
        self.reason: str | None = None
        """Why it was lost."""
        self.when_over: Callable[[], None] = _nothing
        """Called once, when the hold is lost or ended, by whoever found out."""
        self._clock = clock
        self._state = State.HELD
        self._guard = threading.Lock()
        self._doubtful_s = math.inf
        self.deadline = math.inf
        """On the clock: until then the hold certainly lasts."""
        self.renewed(sent_at, ttl_s)

    # --- time ------------------------------------------------------------------------------------

    def renewed(self, sent_at: float, ttl_s: float) -> None:
        """The server has confirmed a TTL by a command that was sent at `sent_at`."""
        if not ttl_s:
            self.deadline = math.inf
            return
        least_s = min(ttl_s, self._doubtful_s)
        self.deadline = sent_at + least_s - margin_s(least_s)

    def renewal_in_doubt(self, ttl_s: float) -> None:
        """A command that sets this TTL was sent and its reply is missing: it may come into force at
        any later time, also after a longer one."""
        self._doubtful_s = min(self._doubtful_s, ttl_s)

    @property
    def remaining_s(self) -> float:
        """How long the hold certainly lasts still."""
        return self.deadline - self._clock()

    @property
    def renew_at(self) -> float:
        """When it is time to renew it."""
        if self.deadline == math.inf:
            return math.inf
        return self.deadline - self.ttl_s * (1 - RENEWED_AFTER_PART) + margin_s(self.ttl_s)

    # --- its end ---------------------------------------------------------------------------------

    @property
    def is_held(self) -> bool:
        """Whether it lasts. Notices by itself that its deadline has passed."""
        if self._state is State.HELD and self.remaining_s <= 0:
            self.lose("it was not renewed in time")
        return self._state is State.HELD

    @property
    def is_lost(self) -> bool:
        """Whether it ended without its holder's doing."""
        return not self.is_held and self._state is State.LOST

    def lose(self, reason: str) -> None:
        """It is lost, unless it has ended already."""
        self._leave(State.LOST, reason)

    def end(self) -> None:
        """Its holder gives it up; from now on it cannot be lost any more."""
        self._leave(State.ENDED, None)

    def _leave(self, state: State, reason: str | None) -> None:
        with self._guard:
            if self._state is not State.HELD:
                return
            self._state = state
            self.reason = reason
        self.when_over()


def margin_s(ttl_s: float) -> float:
    """How much earlier than the TTL says a holder stops to rely on its hold."""
    return ttl_s * MARGIN_PART + MARGIN_S


def _nothing() -> None:
    pass
