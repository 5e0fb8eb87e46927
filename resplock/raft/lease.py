"""A leader's lease: reads without a round, for as long as nobody else can lead (thesis 6.4.1).

Pure. Optional, because its safety rests on clocks: on their rates, never on what they show.

A voter that hears a leader ignores candidates for an election timeout, whatever term it comes to
meanwhile, and so does one that has just started, for it may have heard a leader before. When a
quorum has answered heartbeats that left at time t, nobody else can therefore lead before the
shortest election timeout after t has passed by the fastest clock among them.

- Voters count ticks: at least `election_ticks - 2` whole ones pass in that time, for the first may
  come at once and the second early (see `Node.tick`). A late tick only makes a voter wait longer.
- The leader counts on the replicated clock, which its monotonic clock advances, also while its
  process stands still. The clock that goes into a heartbeat is read before it leaves.
- Their rates may differ by CLOCK_DRIFT_PERCENT.

The lease is checked when the Ready with the answer is made, which is after the read was asked for
and before it is answered, as linearizability wants. So the clock must be set before `ready`, and
must have been read after the request was. Any transfer of leadership ends the lease for the term,
because voters break it for who was asked to stand.
"""

from __future__ import annotations

from collections import deque

from resplock.types import StampMs


class Lease:
    """What the leader knows of how long nobody else can lead."""

    __slots__ = ("_began_ms", "_ended", "_lease_ms", "_rounds", "_until_ms")

    def __init__(self, lease_ms: int) -> None:
        self._lease_ms = lease_ms
        self._rounds: deque[tuple[int, int]] = deque()  # a round, and the clock when it left
        self._began_ms = 0
        self._until_ms = 0
        self._ended = True

    def begin(self, clock_ms: StampMs) -> None:
        """A term of leading begins. The clock may stand still until the node first advances it."""
        self._rounds.clear()
        self._began_ms = self._until_ms = clock_ms
        self._ended = False

    def end(self) -> None:
        """Nothing can be relied on for the rest of the term."""
        self._ended = True
        self._rounds.clear()

    def sent(self, round: int, clock_ms: StampMs) -> None:
        """Heartbeats of a new round leave. One round for each millisecond is enough."""
        last_ms = self._rounds[-1][1] if self._rounds else self._began_ms
        if clock_ms > last_ms and not self._ended:
            self._rounds.append((round, clock_ms))

    def confirm(self, round: int) -> None:
        """A quorum has answered heartbeats of `round` or later ones."""
        while self._rounds and self._rounds[0][0] <= round:
            self._until_ms = self._rounds.popleft()[1] + self._lease_ms

    def holds(self, clock_ms: StampMs) -> bool:
        """Whether nobody else can lead at `clock_ms`."""
        return not self._ended and clock_ms < self._until_ms
