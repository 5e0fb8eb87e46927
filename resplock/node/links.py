"""The leader's side of forwarding: peers that ask on behalf of their clients.

Pure. A RemoteRun and a RemoteReads are clients like any connection, only that their answers leave as
messages. What is sent to a link that is down goes nowhere: its peer knows from the break that the
fate of what it asked is unknown, or finds out by waiting (`Awaited`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from resplock.limits import ANSWER_MS_MAX
from resplock.node.messages import NodeMessage, NotProposed, Results, pack
from resplock.node.runs import Heads, Result
from resplock.types import NodeId


class Link:
    """A working link to another node, until it breaks."""

    __slots__ = ("_outbox", "incarnation", "is_up", "peer", "reads")

    def __init__(
        self, peer: NodeId, incarnation: int, outbox: list[tuple[NodeId, NodeMessage]]
    ) -> None:
        self.peer = peer
        self.incarnation = incarnation
        self.is_up = True
        self.reads = RemoteReads(self)
        self._outbox = outbox

    def send(self, message: NodeMessage) -> None:
        """Send it, unless the link broke meanwhile."""
        if self.is_up:
            self._outbox.append((self.peer, message))

    def give_back_reads(self) -> None:
        """Nothing will come of the queries that the peer asked, but for those that are answered.

        Answers that are still on their way to them here must not be taken for later ones.
        """
        reads, self.reads = self.reads, RemoteReads(self)
        reads.give_back()


class Remote:
    """A peer as a client of this node."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def deliver(self, results: Sequence[Result]) -> None:
        """Send it the answers to what it asked first."""
        raise NotImplementedError

    def give_back(self) -> None:
        """Nothing will come of what it asked: it may ask another leader."""
        raise NotImplementedError

    def abort(self) -> None:
        """Nothing is kept for it."""


class RemoteRun(Remote):
    """A run of commands, or an operator's request, that a peer forwarded: answered in one piece."""

    __slots__ = ("_serial", "heads")

    def __init__(self, link: Link, serial: int, heads: Heads = ()) -> None:
        super().__init__(link)
        self._serial = serial
        self.heads = heads
        """What the peer says of its clients."""

    def deliver(self, results: Sequence[Result]) -> None:
        self._link.send(Results(self._serial, pack(results)))

    def give_back(self) -> None:
        self._link.send(NotProposed(self._serial))


class RemoteReads(Remote):
    """All queries that a peer forwarded. One client, so that their answers keep their order."""

    __slots__ = ("_expected", "_results")

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._expected: deque[tuple[int, int]] = deque()
        self._results: list[Result] = []

    def expect(self, serial: int, count: int) -> None:
        """So many answers belong to this message."""
        self._expected.append((serial, count))

    def deliver(self, results: Sequence[Result]) -> None:
        self._results += results
        while self._expected and len(self._results) >= self._expected[0][1]:
            serial, count = self._expected.popleft()
            self._link.send(Results(serial, pack(self._results[:count])))
            del self._results[:count]

    def give_back(self) -> None:
        for serial, _ in self._expected:
            self._link.send(NotProposed(serial))
        self._expected.clear()


class Awaited:
    """How long a peer has left the same question unanswered."""

    __slots__ = ("_serial", "_since_ms")

    def __init__(self) -> None:
        self._serial = 0
        self._since_ms = 0

    def is_overdue(self, serial: int, now_ms: int) -> bool:
        """Whether `serial`, the oldest question, has been that for too long. 0: there is none."""
        if serial != self._serial:
            self._serial, self._since_ms = serial, now_ms
        return serial != 0 and now_ms - self._since_ms >= ANSWER_MS_MAX
