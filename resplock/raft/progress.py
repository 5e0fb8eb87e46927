"""What a leader knows of each other server, and how much it may have under way to it.

Pure. Three ways to feed a follower:

- PROBE: where its log agrees is not known. One AppendRequest at a time, and the next only after an
  answer, to that or to a heartbeat.
- REPLICATE: it agrees so far. AppendRequests are pipelined (thesis 10.2.1) until the window is
  full: `next_index` moves on as soon as one is sent.
- SNAPSHOT: what it needs next was compacted away. Nothing is sent until the runtime has brought it
  a snapshot.

Invariants: `match_index < next_index`; both `match_index` and `next_index - 1` are ends of entries
in the leader's log; `match_index` never goes back, but for a peer that restarted.
"""

from __future__ import annotations

import enum
from collections import deque

from resplock.types import Index, NodeId


class PeerState(enum.Enum):
    """How a follower is fed; see the module."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Window:
    """AppendRequests under way to one follower, oldest first, bounded in number and in bytes.

    A message may go when the window is not full, so it holds one message more than its bytes.
    """

    __slots__ = ("_bytes_max", "_messages", "_messages_max", "bytes")

    def __init__(self, bytes_max: int, messages_max: int) -> None:
        self._messages: deque[tuple[Index, int]] = deque()  # each one's last index and bytes
        self._bytes_max = bytes_max
        self._messages_max = messages_max
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def is_full(self) -> bool:
        return self.bytes >= self._bytes_max or len(self._messages) >= self._messages_max

    def add(self, last: Index, size: int) -> None:
        """A message with entries up to `last` was sent."""
        assert not self.is_full
        assert not self._messages or self._messages[-1][0] < last
        self._messages.append((last, size))
        self.bytes += size

    def free(self, match_index: Index) -> None:
        """All messages with entries up to `match_index` have arrived."""
        messages = self._messages
        while messages and messages[0][0] <= match_index:
            self.bytes -= messages.popleft()[1]

    def clear(self) -> None:
        self._messages.clear()
        self.bytes = 0


class Progress:
    """One follower or learner, as its leader sees it."""

    __slots__ = (
        "acked_round",
        "id",
        "last_active",
        "match_index",
        "next_index",
        "probe_sent",
        "seen_match_index",
        "state",
        "unanswered",
        "uuid",
        "window",
    )

    def __init__(
        self, id: NodeId, next_index: Index, now: int, window: Window, uuid: str = ""
    ) -> None:
        self.id = id
        self.uuid = uuid
        self.match_index = Index(0)
        """Its log is durable and agrees with the leader's up to here."""
        self.seen_match_index = Index(0)
        """`match_index` when it last answered a heartbeat."""
        self.next_index = next_index
        """The first index of the next entry to send."""
        self.state = PeerState.PROBE
        self.window = window
        self.probe_sent = False
        """In PROBE: it must answer before it is sent more."""
        self.last_active = now
        """The leader's tick at which it was last heard."""
        self.unanswered = 0
        """Heartbeats sent since it was last heard."""
        self.acked_round = 0
        """The newest ReadIndex round that it has answered."""

    @property
    def is_paused(self) -> bool:
        """Whether it must answer before it is sent more entries."""
        match self.state:
            case PeerState.REPLICATE:
                return self.window.is_full
            case PeerState.PROBE:
                return self.probe_sent
            case PeerState.SNAPSHOT:
                return True

    def has_to_send(self, last_index: Index) -> bool:
        """Whether there are entries for it, or, without any, its log's agreement is to be found."""
        if self.next_index <= last_index:
            return True
        return self.state is PeerState.PROBE and self.match_index + 1 < self.next_index

    def heard(self, now: int) -> None:
        """A message of the leader's term came from it."""
        self.last_active = now
        self.unanswered = 0

    def answered_heartbeat(self) -> bool:
        """It answered a heartbeat. Whether the pipeline has not moved since it last did.

        Then something was probably lost. While the pipeline moves, it needs no help.
        """
        has_moved = self.match_index != self.seen_match_index
        self.seen_match_index = self.match_index
        return not has_moved and self.match_index + 1 < self.next_index

    def sent(self, last: Index, size: int) -> None:
        """An AppendRequest from `next_index` up to `last` was sent: a probe may have no entries."""
        assert not self.is_paused
        if self.state is PeerState.PROBE:
            self.probe_sent = True
            return
        self.window.add(last, size)
        self.next_index = Index(last + 1)

    def accepted(self, match_index: Index) -> bool:
        """It agrees up to `match_index`, maybe no news. Whether it is."""
        is_news = match_index > self.match_index
        if is_news:
            self.match_index = match_index
            self.next_index = Index(max(self.next_index, match_index + 1))
            self.window.free(match_index)
        if self.state is PeerState.PROBE and match_index == self.match_index:
            self._become(PeerState.REPLICATE)
            self.next_index = Index(match_index + 1)
        return is_news

    def probe_from(self, next_index: Index) -> None:
        """Find out where its log agrees, beginning before `next_index`."""
        self._become(PeerState.PROBE)
        self.next_index = Index(max(next_index, self.match_index + 1))

    def pause(self) -> None:
        """Send nothing until it answers a heartbeat."""
        self._become(PeerState.PROBE)
        self.probe_sent = True

    def await_snapshot(self) -> None:
        """It needs a snapshot."""
        self._become(PeerState.SNAPSHOT)

    def restarted(self, next_index: Index) -> None:
        """It runs anew, and may have lost what it had: nothing is known any more."""
        self.match_index = Index(0)
        self.acked_round = 0
        self.probe_from(next_index)

    def _become(self, state: PeerState) -> None:
        self.state = state
        self.probe_sent = False
        self.window.clear()
