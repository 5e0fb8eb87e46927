"""What the handlers of local commands may use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import msgspec

from resplock.config import Settings
from resplock.resp.binding import Call
from resplock.resp.replies import Simple
from resplock.server.clients import Clients
from resplock.server.clocks import now_ms, unix_ms
from resplock.server.connection import Connection
from resplock.server.engine import Engine
from resplock.server.peers import Hello, Identity, LinkStatus
from resplock.server.topology import Topology, View
from resplock.types import NodeId

_RATE_OVER_MS = 1_000


class Transport(Protocol):
    """What commands ask of the links to the other nodes."""

    @property
    def identity(self) -> Identity:
        """Who this node is to the others."""

    def status(self, peer_id: NodeId) -> LinkStatus:
        """How the link to a node is."""

    async def probe(self, host: str, port: int) -> Hello:
        """Who listens on a peer port. Raises Unreachable, in words for the operator."""


class Report(msgspec.Struct, frozen=True):
    """How a node fares, as far as the node that is asked knows."""

    is_up: bool
    """True also when nothing is known."""
    offset: int
    """What it is known to have of the log; 0 when nothing is known."""


class Rate:
    """How fast a count grows, for those who look at it now and then.

    What is shown is the mean since a look that was made a second ago or earlier: two who look by
    turns do not spoil it for each other.
    """

    __slots__ = ("_earlier", "_last")

    def __init__(self, stamp_ms: int) -> None:
        self._earlier = self._last = (stamp_ms, 0)

    def look(self, stamp_ms: int, count: int) -> int:
        """The growth in a second."""
        if stamp_ms - self._last[0] >= _RATE_OVER_MS:
            self._earlier, self._last = self._last, (stamp_ms, count)
        since_ms, before = self._earlier
        return max(count - before, 0) * 1000 // max(stamp_ms - since_ms, 1)


@dataclass
class Context:
    """One server, as its local commands see it."""

    settings: Settings
    clients: Clients
    engine: Engine
    shut_down: Callable[[], None]
    """Begins a shutdown in good order."""
    run_id: str
    """40 hex digits, new with every start, as in Redis."""
    port: int = 0
    """The port that is listened on, which `settings.port` need not be."""
    started_ms: int = field(default_factory=now_ms)
    start_bytes: int = 0
    """What the process took of memory when it was ready, its locks included."""
    peers: Transport | None = None
    rate: Rate = field(init=False)
    """Of the commands of this node's clients."""
    topology: Topology = field(init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.topology = Topology(self.settings)
        self.rate = Rate(self.started_ms)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a handler that has to wait for others, which answers through its connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def view(self, connection: Connection | None = None) -> View:
        """The cluster as this node knows it, and as this connection may reach it."""
        asked_at = connection.local_address if connection else ""
        return self.topology.view(self.engine.node.core, self.port, asked_at)

    def link(self, id: NodeId) -> LinkStatus | None:
        """How the link to a node is; None when this node has no transport."""
        return self.peers.status(id) if self.peers else None

    def reports(self, view: View) -> dict[NodeId, Report]:
        """How each node fares. The leader knows of all, the others only of their links."""
        core = self.engine.node.core
        peers = {peer.id: peer for peer in core.status().peers}
        found = {}
        for node in view.nodes:
            if node is view.me:
                found[node.id] = Report(True, core.applied_index)
            elif (peer := peers.get(node.id)) is not None:
                found[node.id] = Report(peer.is_active, peer.match_index)
            else:
                link = self.link(node.id)
                found[node.id] = Report(link is None or link.connected, 0)
        return found

    @property
    def uptime_ms(self) -> int:
        """Milliseconds since the start."""
        return now_ms() - self.started_ms

    @property
    def last_save_s(self) -> int:
        """When this process has taken its last snapshot, or else was started, in unix seconds."""
        return (self.engine.snapshots.last_unix_ms or unix_ms() - self.uptime_ms) // 1000


Handler: TypeAlias = Callable[[Context, Connection, Call], Any]
"""Gives the value of the reply, NOTHING or LATER; raises CommandError."""

OK = Simple("OK")
NOTHING = object()
"""The command has no reply."""
LATER = object()
"""The reply comes through `Connection.hold`."""
