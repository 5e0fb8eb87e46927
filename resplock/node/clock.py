"""The replicated clock, as the leader carries it on.

Pure.
"""

from __future__ import annotations

from resplock.types import StampMs


class ReplicatedClock:
    """The leader's clock: the log's last stamp plus the time since this node came to lead.

    Time without a leader is added to nobody's deadline: it belongs to the holders.
    """

    __slots__ = ("_base_ms", "_since_ms", "term")

    def __init__(self) -> None:
        self._base_ms = 0
        self._since_ms = 0
        self.term = 0
        """The term for which the clock was started; 0 when this node does not lead."""

    def start(self, term: int, stamp_ms: int, now_ms: int) -> None:
        """Begin to advance from `stamp_ms`, as the leader of `term`."""
        self.term, self._base_ms, self._since_ms = term, stamp_ms, now_ms

    def stop(self) -> None:
        """This node leads no longer."""
        self.term = 0

    def read(self, now_ms: int) -> StampMs:
        """The replicated clock at `now_ms` of this process's monotonic clock."""
        return StampMs(self._base_ms + now_ms - self._since_ms)
