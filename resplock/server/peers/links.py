"""A link: everything that connects this node with one other.

I/O layer. A session is a pair of streams, `raft` and `commands`, which one side has dialed and which
live and die together: votes and appends never queue behind forwarded commands. Two nodes that know
each other dial each other, so a link has up to two sessions.

What a node sends goes through one of them until that one breaks, preferably one that it dialed. So
all that is sent between `link_up` and `link_down` arrives in order, or its end is noticed: a peer
that begins to send through its other session has lost the first, which is then closed here too.

Invariants: `link_up`, then what was received, then `link_down`; a session that breaks ends the link,
and what is left of it begins another.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from resplock import limits
from resplock.raft import messages
from resplock.raft.messages import PeerError
from resplock.server.clocks import now_ms
from resplock.server.peers.greeting import Hello, Kind
from resplock.server.peers.stream import Payload, Stream
from resplock.types import NodeId

if TYPE_CHECKING:
    from resplock.server.peers.peers import Peers

logger = structlog.get_logger()

_LOGGED_EVERY_MS = 1_000


class Session:
    """Two streams with a peer."""

    def __init__(self, link: Link, theirs: Hello, number: int, dialed: bool) -> None:
        """number: which of the dialer's sessions it is."""
        self.link = link
        self.theirs = theirs
        self.number = number
        self.dialed = dialed
        self.up = False
        self.looks = 0
        """How often the sweep has seen it."""
        self.ended = asyncio.Event()
        self.streams: dict[Kind, Stream] = {}

    @property
    def incarnation(self) -> int:
        return self.theirs.incarnation

    def attach(self, kind: Kind, stream: Stream) -> None:
        """One more of its streams is there; with the last, the session is up."""
        assert kind not in self.streams
        self.streams[kind] = stream
        stream.hold()
        stream.on_lost = self._lost
        if kind is Kind.RAFT:
            stream.allow(messages.MESSAGE_BYTES_MAX)
            stream.on_frame = self._raft_frame
        else:
            stream.allow(limits.PEER_COMMANDS_BYTES_MAX)
            stream.on_frame = self._commands_frame
        if len(self.streams) == 2:
            self.up = True
            self.link.session_up(self)
            for attached in self.streams.values():
                attached.release()

    def end(self, reason: str) -> None:
        """Close it. Raises an event: never to be called from within a call of the node's."""
        if self.ended.is_set():
            return
        self.ended.set()
        for stream in self.streams.values():
            stream.abort(reason)
        self.link.session_ended(self, reason)

    def close(self, reason: str) -> None:
        """Close it after what was written has gone out, without a word to anybody."""
        self.ended.set()
        for stream in self.streams.values():
            stream.close(reason)

    def _lost(self, stream: Stream, reason: str, strange: bool) -> None:
        if strange:
            self.link.complain("link closed: a peer did what no node does", error=reason)
        self.end(reason)

    def _raft_frame(self, payload: Payload) -> None:
        link = self.link
        if link.receiving is not self:
            link.receives_on(self)
        message = messages.decode(payload)
        if message.from_id != link.id:
            raise PeerError(f"{link.id} sent a message in the name of {message.from_id!r:.80}")
        link.peers.events.raft_message(message)

    def _commands_frame(self, payload: Payload) -> None:
        link = self.link
        if link.receiving is not self:
            link.receives_on(self)
        link.peers.events.node_message(link.id, link.peers.decode(payload))


class Link:
    """One peer: its sessions, and through which of them to send."""

    def __init__(self, peers: Peers, id: NodeId) -> None:
        self.id = id
        self.peers = peers
        self.dialed: Session | None = None
        self.accepted: Session | None = None
        self.sending: Session | None = None
        """Not None exactly while the link is up."""
        self.receiving: Session | None = None
        """The one on which the peer sends, once it has."""
        self.since_ms = 0
        """When the link last came up or went down."""
        self.last_error = ""
        self._logged_ms = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost with this object."""
        return self.dialed is None and self.accepted is None

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        if self.sending is None:
            return 0
        return sum(stream.unsent for stream in self.sending.streams.values())

    def session_up(self, session: Session) -> None:
        """Both streams of a session are there."""
        self.last_error = ""
        self.peers.events.member_seen(session.theirs.member)
        for other in (self.dialed, self.accepted):
            if other is not None and other.incarnation != session.incarnation:
                other.end("it was restarted")
        if self.sending is None and session.up and not session.ended.is_set():
            self._begin()
        if not session.dialed:
            self.peers.wake_dialer(self.id)

    def session_ended(self, session: Session, reason: str) -> None:
        """A session is over; if it was up, so is the link, or this one of its lives."""
        if self.dialed is session:
            self.dialed = None
        if self.accepted is session:
            self.accepted = None
        if self.sending is None or not session.up:
            self.peers.tidy(self)
            return
        self.last_error = reason
        self.receiving = None
        if self.sending is session:
            self.sending = None
        self.since_ms = now_ms()
        self.peers.route(self)
        self.complain("link lost", error=reason)
        self.peers.events.link_down(self.id)
        self._begin()
        self.peers.tidy(self)

    def receives_on(self, session: Session) -> None:
        """The peer sends through this session: if it sent through another, that one is over."""
        before, self.receiving = self.receiving, session
        if before is not None and before is not session:
            before.end("the peer goes on through another connection")
            self.receiving = session

    def end(self, reason: str) -> None:
        """Close all sessions."""
        for session in (self.dialed, self.accepted):
            if session is not None:
                session.end(reason)

    def complain(self, kind: str, **fields: object) -> None:
        """Log trouble with this peer."""
        self.peers.complaints.complain(kind, self.id, **fields)

    def _begin(self) -> None:
        """Begin a link's life, if a session is up. What is used stays in use while it lasts."""
        if self.sending is None:
            self.sending = next(
                (
                    session
                    for session in (self.dialed, self.accepted)
                    if session is not None and session.up
                ),
                None,
            )
        session = self.sending
        if session is None:
            return
        self.since_ms = now_ms()
        self.peers.route(self)
        if self.since_ms - self._logged_ms >= _LOGGED_EVERY_MS:
            self._logged_ms = self.since_ms
            logger.info(
                "linked",
                peer=self.id,
                address=session.streams[Kind.RAFT].address,
                incarnation=session.incarnation,
            )
        self.peers.events.link_up(self.id, session.incarnation)
