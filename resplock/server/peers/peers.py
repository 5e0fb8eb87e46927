"""All links of a node to the others.

I/O layer. See `links` for what a link is and the order of its events. `send` and `send_node` only
queue; `flush` writes each stream's queue with one write, which reaches the kernel before it returns.

No event is raised from within a call of the node's: all come from the event loop, as bytes, ends of
connections and timers do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec
import structlog

from resplock import limits
from resplock.raft import messages
from resplock.raft.entries import Member
from resplock.raft.messages import Message
from resplock.server.peers import greeting
from resplock.server.peers import stream as streams
from resplock.server.peers.complaints import Complaints
from resplock.server.peers.dialer import Dialer
from resplock.server.peers.framing import prefix
from resplock.server.peers.greeting import Hello, Identity, Kind, Refusal, RefusalCode
from resplock.server.peers.links import Link, Session
from resplock.server.peers.listener import Listener
from resplock.server.peers.stream import Payload, Stream
from resplock.types import NodeId

logger = structlog.get_logger()

_SWEEP_EVERY_S = 0.5
_GREETING_LOOKS = round(limits.PEER_GREETING_MS_MAX / 1000 / _SWEEP_EVERY_S)
_PARTIAL_LOOKS = round(limits.PEER_PARTIAL_MS_MAX / 1000 / _SWEEP_EVERY_S)


class PeerEvents(Protocol):
    """What the node is told. It may send from within these, and change the members."""

    def link_up(self, peer_id: NodeId, incarnation: int) -> None:
        """A link works. Another incarnation than before: the peer's process was started anew."""

    def link_down(self, peer_id: NodeId) -> None:
        """It does not any more: the fate of what was sent since `link_up` is unknown. If another
        connection is left, `link_up` follows at once."""

    def raft_message(self, message: Message) -> None:
        """From the peer that it names as its sender."""

    def node_message(self, peer_id: NodeId, message: Any) -> None:
        """A forwarded command, or an answer to one."""

    def member_seen(self, member: Member) -> None:
        """A server has shown itself; the next `link_up` with this id is its. It may have another
        uuid than the configuration says, or not be in it."""

    def adopt_cluster(self, cluster_id: str) -> None:
        """This node belonged to none, and a member of this one talks to it. To be made durable."""

    def removed(self, text: str) -> None:
        """A member says that this server was removed from the cluster. May be told often."""


class LinkStatus(msgspec.Struct, frozen=True):
    """What RAFT.STATUS shows of a link."""

    connected: bool = False
    incarnation: int = 0
    uuid: str = ""
    since_ms: int = 0
    """When it last came up or went down, on this process's monotonic clock."""
    last_error: str = ""
    unsent_bytes: int = 0


class Peers:
    """The links of one node."""

    events: PeerEvents
    """Who is told what the others say; see `open`."""

    def __init__(
        self,
        identity: Identity,
        encode: Callable[[Any], bytes],
        decode: Callable[[Payload], Any],
        rng: random.Random,
    ) -> None:
        """encode, decode: for node messages; `decode` raises PeerError for what is none.

        Until `open` is called, only probes are answered.
        """
        self.identity = identity
        self.decode = decode
        self.rng = rng
        self.complaints = Complaints()
        self.is_open = False
        self.on_snapshot_stream: Callable[[Stream, Hello], Refusal | None] = _no_snapshots
        self._encode = encode
        self._listener = Listener(self._greeted, self.complaints)
        self._loop = asyncio.get_running_loop()
        self._links: dict[NodeId, Link] = {}
        self._members: dict[NodeId, Member] = {}
        self._dialers: dict[NodeId, Dialer] = {}
        self._farewells: dict[NodeId, asyncio.TimerHandle] = {}
        self._removed: frozenset[str] = frozenset()
        self._sessions = 0
        self._raft: dict[NodeId, Stream] = {}
        self._commands: dict[NodeId, Stream] = {}
        self._queued: list[Stream] = []
        self._sweeping = self._loop.call_later(_SWEEP_EVERY_S, self._sweep)

    # --- what the node calls ---------------------------------------------------------------------

    async def listen(self, host: str, port: int) -> int:
        """Listen on the peer port; which one it is, also when 0 was given. Raises ConfigError."""
        return await self._listener.open(host, port)

    def open(self, identity: Identity, events: PeerEvents) -> None:
        """From now on talk to others as this identity, and say what they say."""
        self.identity = identity
        self.events = events
        self.is_open = True

    def set_members(self, members: Iterable[Member], removed: Iterable[str] = ()) -> None:
        """Whom to dial, and the tombstones of whom to send away. This node itself may be there.

        Give the configuration in effect, and the tombstones of the committed one: a server whose
        removal may yet be undone must be heard.
        The links to members that are gone are closed after PEER_FAREWELL_MS.
        """
        self._removed = frozenset(removed)
        me = self.identity.member.id
        found = {member.id: member for member in members if member.id != me}
        for id in sorted(self._members.keys() - found.keys()):
            self._part(id)
        for id, member in sorted(found.items()):
            self._keep(id, member)
        self._members = found

    def send(self, message: Message) -> bool:
        """Queue a Raft message to `message.to_id`. False when there is no link: it is dropped."""
        stream = self._raft.get(message.to_id)
        if stream is None:
            return False
        self._queue(stream, messages.encode(message))
        return True

    def send_node(self, peer_id: NodeId, message: Any) -> bool:
        """Queue a node message. False: it is certain never to be sent.

        There is no link, or the message is longer than PEER_COMMANDS_BYTES_MAX, which ends it.
        """
        stream = self._commands.get(peer_id)
        if stream is None:
            return False
        payload = self._encode(message)
        if len(payload) > limits.PEER_COMMANDS_BYTES_MAX:
            self.complaints.complain(
                "link closed: a message is too long for it", peer_id, bytes=len(payload)
            )
            self._loop.call_soon(self.link(peer_id).end, "a message was too long")
            return False
        self._queue(stream, payload)
        return True

    def flush(self) -> None:
        """Send what is queued."""
        if self._queued:
            for stream in self._queued:
                stream.flush()
            self._queued.clear()

    def close(self) -> None:
        """Send what is queued, and close everything. No event is raised any more."""
        self.flush()
        self._sweeping.cancel()
        self._listener.close()
        for dialer in self._dialers.values():
            dialer.stop()
        for timer in self._farewells.values():
            timer.cancel()
        for link in self._links.values():
            for session in (link.dialed, link.accepted):
                if session is not None:
                    session.close("the server stops")
        self._links.clear()
        self._raft.clear()
        self._commands.clear()

    def status(self, peer_id: NodeId) -> LinkStatus:
        """How the link to a peer is."""
        link = self._links.get(peer_id)
        if link is None:
            return LinkStatus()
        session = link.sending
        return LinkStatus(
            connected=session is not None,
            incarnation=session.incarnation if session else 0,
            uuid=session.theirs.server.uuid if session else "",
            since_ms=link.since_ms,
            last_error=link.last_error,
            unsent_bytes=link.unsent,
        )

    async def probe(self, host: str, port: int) -> Hello:
        """Who listens on a peer port, in its own words. Raises Unreachable."""
        return await streams.probe(host, port, self.identity)

    # --- what links and dialers call -------------------------------------------------------------

    def link(self, id: NodeId) -> Link:
        """The link to a peer, up or not."""
        if id not in self._links:
            self._links[id] = Link(self, id)
        return self._links[id]

    def tidy(self, link: Link) -> None:
        """Forget a link that is over, unless it is a member's."""
        if link.is_idle and link.id not in self._members:
            self._links.pop(link.id, None)

    def route(self, link: Link) -> None:
        """Send to this peer through the session that the link has chosen."""
        session = link.sending
        if session is None:
            self._raft.pop(link.id, None)
            self._commands.pop(link.id, None)
        else:
            self._raft[link.id] = session.streams[Kind.RAFT]
            self._commands[link.id] = session.streams[Kind.COMMANDS]

    def wake_dialer(self, id: NodeId) -> None:
        """A peer has dialed this node, so it is there."""
        if id in self._dialers:
            self._dialers[id].wake()

    def next_session(self) -> int:
        """A number for a session that is dialed."""
        self._sessions += 1
        return self._sessions

    def judge(self, theirs: Hello) -> Refusal | None:
        """Why not to talk to a node; None when there is no reason."""
        return greeting.judge(self.identity, theirs, self._removed)

    # --- accepting -------------------------------------------------------------------------------

    def _greeted(self, stream: Stream, theirs: Hello) -> Refusal | None:
        """Somebody has connected and said who it is."""
        if theirs.kind is Kind.PROBE:
            stream.send(greeting.encode(greeting.hello(self.identity, Kind.PROBE)))
            stream.close("probed")
            return None
        if not self.is_open:
            return Refusal(RefusalCode.NOT_READY, f"{self.identity.member.id} is starting")
        refusal = self.judge(theirs) or self._rival(theirs)
        if refusal is not None:
            return refusal
        if not self.identity.cluster_id:
            self._adopt(theirs.cluster_id)
        if theirs.kind is Kind.SNAPSHOT:
            return self.on_snapshot_stream(stream, theirs)
        return self._accept(stream, theirs)

    def _adopt(self, cluster_id: str) -> None:
        logger.info("belongs to a cluster now", cluster=cluster_id)
        self.events.adopt_cluster(cluster_id)
        self.identity = msgspec.structs.replace(self.identity, cluster_id=cluster_id)

    def _rival(self, theirs: Hello) -> Refusal | None:
        """Refuse a second server with the id of a member that is connected, and too many guests."""
        id = theirs.server.id
        link, member = self._links.get(id), self._members.get(id)
        if member is None and link is None:
            guests = sum(known not in self._members for known in self._links)
            if guests >= limits.PEER_GUESTS_MAX:
                return Refusal(RefusalCode.BUSY, "too many servers that are no members")
        if link is None or link.sending is None or member is None:
            return None
        uuid = link.sending.theirs.server.uuid
        if uuid == member.uuid != theirs.server.uuid:
            return Refusal(
                RefusalCode.SAME_ID,
                f"another server called {id}, uuid {uuid}, is a member and connected; this one has "
                f"uuid {theirs.server.uuid}: two servers must not have one id",
            )
        return None

    def _accept(self, stream: Stream, theirs: Hello) -> Refusal | None:
        """Take a stream into the session that it belongs to, or begin that one with it."""
        link = self.link(theirs.server.id)
        session = link.accepted
        if session is not None and session.incarnation == theirs.incarnation:
            if theirs.session < session.number or (
                theirs.session == session.number and theirs.kind in session.streams
            ):
                return Refusal(RefusalCode.BUSY, "this session has been replaced")
        if session is None or (session.incarnation, session.number) != (
            theirs.incarnation,
            theirs.session,
        ):
            fresh = Session(link, theirs, theirs.session, dialed=False)
            link.accepted = fresh
            if session is not None:
                session.end("the peer has dialed again")
            session = fresh
        stream.send(greeting.encode(greeting.hello(self.identity, theirs.kind)))
        session.attach(theirs.kind, stream)
        return None

    # --- inside ----------------------------------------------------------------------------------

    def _queue(self, stream: Stream, payload: bytes) -> None:
        queue = stream.queue
        if not queue:
            self._queued.append(stream)
        queue.append(prefix(len(payload)))
        queue.append(payload)

    def _keep(self, id: NodeId, member: Member) -> None:
        """Dial a member, from now on or still."""
        farewell = self._farewells.pop(id, None)
        if farewell is not None:
            farewell.cancel()
        dialer = self._dialers.get(id)
        if dialer is not None and dialer.member.peer_address == member.peer_address:
            return
        if dialer is not None:
            dialer.stop()
        self._dialers[id] = Dialer(self, member)

    def _part(self, id: NodeId) -> None:
        """Let go of a member that is none any more."""
        self._dialers.pop(id).stop()
        self._farewells[id] = self._loop.call_later(
            limits.PEER_FAREWELL_MS / 1000, self._farewell, id
        )

    def _farewell(self, id: NodeId) -> None:
        del self._farewells[id]
        link = self._links.get(id)
        if link is not None:
            link.end("it is no member any more")
            self.tidy(link)

    def _sweep(self) -> None:
        """Look after strangers, frames that do not end, sessions that are not completed."""
        self._sweeping = self._loop.call_later(_SWEEP_EVERY_S, self._sweep)
        self.complaints.sweep()
        self._listener.sweep(_GREETING_LOOKS)
        for link in list(self._links.values()):
            for session in (link.dialed, link.accepted):
                if session is None:
                    continue
                for stream in list(session.streams.values()):
                    stream.look(_PARTIAL_LOOKS)
                session.looks += 1
                if not session.up and session.looks > _GREETING_LOOKS:
                    session.end("its second connection did not come")


def _no_snapshots(_: Stream, __: Hello) -> Refusal | None:
    return Refusal(RefusalCode.NOT_READY, "this node takes no snapshots yet")
