"""Clients that have gone, until the log knows of it; and, on the leader, nodes that have.

Pure. What a client waits for and what it holds ONCLOSE ends by a command in the log. Its node
proposes that, or forwards it, behind all that the client has asked; and again, until it is known to
be applied: through changes of the leader, and through times without one. The commands name clients
and grants that exist once, so that a repetition does nothing.

A node whose process has ended can propose nothing: the leader does, once a link to it has been down
for limits.NODE_GONE_MS, or another life of it is known to have begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from resplock import limits
from resplock.node.runs import Result
from resplock.operations import (
    Busy,
    ClientId,
    Disconnect,
    InDoubt,
    Moved,
    NodeGone,
    NoLeader,
    Operation,
    Undelivered,
)
from resplock.types import NodeId

_LOOK_EVERY_MS = 500


class Departures:
    """What one node has to tell the log of its clients. It is the Client that asks for it."""

    __slots__ = ("_gone", "_known", "_now_ms", "_to_tell", "_undelivered", "_under_way", "is_due")

    def __init__(self) -> None:
        self._gone: dict[ClientId, None] = {}
        """Of whom the log is not known to know."""
        self._known: deque[tuple[int, ClientId]] = deque()
        """Of whom it knows, and until when this node may have to apply what came before."""
        self._to_tell: deque[ClientId] = deque()
        self._undelivered: deque[Undelivered] = deque()
        self._under_way: list[Operation] = []
        self._now_ms = 0
        self.is_due = False
        """Whether `take` has something."""

    def __len__(self) -> int:
        """How many clients have gone of whom the log is not known to know."""
        return len(self._to_tell) + sum(
            len(each.clients) for each in self._under_way if isinstance(each, Disconnect)
        )

    def __contains__(self, id: ClientId | None) -> bool:
        """Whether this client has gone, as far as it may still matter."""
        return id in self._gone

    def left(self, id: ClientId) -> None:
        """A client has gone."""
        self._gone[id] = None
        self._to_tell.append(id)
        self.is_due = not self._under_way

    def undelivered(self, operation: Undelivered) -> None:
        """A grant came too late for a client that has gone."""
        self._undelivered.append(operation)
        self.is_due = not self._under_way

    def take(self) -> list[Operation]:
        """What to ask for now. The results come with `deliver`; until then, nothing more is due."""
        assert not self._under_way
        self.is_due = False
        told = min(len(self._to_tell), limits.DISCONNECTS_PER_COMMAND)
        if told:
            clients = tuple(self._to_tell.popleft() for _ in range(told))
            self._under_way.append(Disconnect(clients))
        while self._undelivered and len(self._under_way) < limits.UNDELIVERED_AT_ONCE:
            self._under_way.append(self._undelivered.popleft())
        return self._under_way

    def look(self, now_ms: int) -> None:
        """Let time pass: what failed is asked for again."""
        self._now_ms = now_ms
        self.is_due = not self._under_way and bool(self._to_tell or self._undelivered)
        while self._known and self._known[0][0] <= now_ms:
            del self._gone[self._known.popleft()[1]]

    # --- as a Client -----------------------------------------------------------------------------

    def deliver(self, results: Sequence[Result]) -> None:
        """What came of it. What is not known to be applied is asked for again, a little later."""
        under_way, self._under_way = self._under_way, []
        have_failed = False
        for operation, result in zip(under_way, results, strict=True):
            is_applied = not isinstance(result, InDoubt | NoLeader | Busy | Moved)
            have_failed = have_failed or not is_applied
            if isinstance(operation, Undelivered):
                if not is_applied:
                    self._undelivered.append(operation)
            elif isinstance(operation, Disconnect):
                if is_applied:
                    until_ms = self._now_ms + limits.ANSWER_MS_MAX
                    self._known.extend((until_ms, id) for id in operation.clients)
                else:
                    self._to_tell.extendleft(reversed(operation.clients))
        self.is_due = not have_failed and bool(self._to_tell or self._undelivered)

    def abort(self) -> None:
        """Nothing can go wrong with delivering to it."""


class Absences:
    """Which lives of which nodes are over, as one leader sees it."""

    __slots__ = ("_id", "_incarnation", "_next_look_ms", "_over", "_since_ms")

    def __init__(self, id: NodeId, incarnation: int) -> None:
        self._id = id
        self._incarnation = incarnation
        self._over: dict[NodeId, int] = {}
        """The last life of each node that another one has followed here."""
        self._since_ms: dict[tuple[NodeId, int], int] = {}
        """Since when a life seems to be over."""
        self._next_look_ms = 0

    def followed(self, node: NodeId, incarnation: int) -> None:
        """This life of a node is over: there is a link to another one."""
        self._over[node] = incarnation
        self._since_ms.pop((node, incarnation), None)

    def forget(self) -> None:
        """This node leads no longer: it is for the next leader to look."""
        self._since_ms.clear()

    def is_due(self, now_ms: int) -> bool:
        """Whether it is time to `look`."""
        return now_ms >= self._next_look_ms

    def look(
        self, attached: Iterable[tuple[NodeId, int]], linked: dict[NodeId, int], now_ms: int
    ) -> list[NodeGone]:
        """What to propose now.

        attached: the lives that anything in the table is attached to. linked: those to which there
        are links. A link to another life than an attached one may be an old link, which is broken
        and not yet known to be: so it proves something only with time, or when it is known here
        which of the two came later.
        """
        self._next_look_ms = now_ms + _LOOK_EVERY_MS
        found: dict[tuple[NodeId, int], int] = {}
        over: list[NodeGone] = []
        for node, incarnation in attached:
            life = node, incarnation
            present = self._incarnation if node == self._id else linked.get(node, 0)
            if present == incarnation:
                continue
            is_known = present and (node == self._id or self._over.get(node) == incarnation)
            since_ms = self._since_ms.get(life)
            if since_ms is None:
                found[life] = now_ms
                is_due = is_known
            else:
                found[life] = since_ms
                is_due = now_ms - since_ms >= limits.NODE_GONE_MS
            if is_due:
                over.append(NodeGone(node, present))
                found[life] = now_ms
        self._since_ms = found
        return over
