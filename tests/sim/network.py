"""The network between hosts: links with loss, repetition, delay and disorder; partitions.

It follows `resplock.server.peers`. Two processes that reach each other have a session, until one of
them dies or nothing passes for a while; each end learns of its beginning and of its end at a moment
of its own. Raft messages may be lost, repeated and overtake each other within a session; node
messages are a stream: in order, each once, delayed while nothing passes, lost only at the end. Servers
that were removed are refused.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

from resplock.node import messages as node_messages
from resplock.node.messages import NodeMessage
from resplock.raft import messages
from resplock.raft.configurations import tombstone
from resplock.raft.messages import Message
from resplock.types import NodeId
from tests.sim.knobs import Knobs
from tests.sim.world import MS, World

if TYPE_CHECKING:
    from tests.sim.host import Host, Process

_LOOK_EVERY = 100 * MS
_STALL_TICK = 20 * MS


class Session:
    """A connection between two processes."""

    def __init__(self, one: Process, other: Process, patience: int) -> None:
        self.ends = (one, other)
        self.is_over = False
        self.patience = patience
        """How long nothing may pass before it is given up."""
        self.stalled = 0
        self.streams: dict[NodeId, deque[tuple[int, NodeMessage]]] = {
            one.id: deque(),
            other.id: deque(),
        }
        """By sender: node messages on their way, each with the moment at which it may arrive."""

    def peer_of(self, process: Process) -> Process:
        """The other end."""
        one, other = self.ends
        return other if process is one else one


class Network:
    """See the module. `hosts` has whoever can be reached, by id."""

    def __init__(self, world: World, knobs: Knobs) -> None:
        self.world = world
        self.rng: random.Random = world.rng("network")
        self.hosts: dict[NodeId, Host] = {}
        self.cut: dict[tuple[NodeId, NodeId], int] = {}
        """Directions in which nothing passes, with how many faults cut them."""
        self.delay, self.jitter = knobs.delay, knobs.jitter
        self.loss, self.repeat = knobs.loss, knobs.repeat
        self.reorders, self.uses_codec = knobs.reorders, knobs.uses_codec
        self._sessions: list[Session] = []
        self._arrives: dict[tuple[NodeId, NodeId], int] = {}
        world.after(_LOOK_EVERY, self._look)

    def passes(self, from_id: NodeId, to_id: NodeId) -> bool:
        """Whether a packet that arrives now gets through."""
        return (from_id, to_id) not in self.cut

    def pass_both(self, one: NodeId, other: NodeId) -> bool:
        """Whether packets get through in both directions."""
        return self.passes(one, other) and self.passes(other, one)

    def delay_us(self) -> int:
        """How long a packet is on its way."""
        return self.delay + int(self.rng.random() * self.jitter)

    # --- sessions --------------------------------------------------------------------------------

    def _look(self) -> None:
        """Give up sessions in which nothing passes; begin those that are missing."""
        self.world.after(_LOOK_EVERY, self._look)
        for session in list(self._sessions):
            one, other = session.ends
            if one.is_dead or other.is_dead or not self.pass_both(one.id, other.id):
                session.stalled += _LOOK_EVERY
                if session.stalled >= session.patience:
                    self.end(session)
            else:
                session.stalled = 0
        self.connect()

    def connect(self) -> None:
        """Begin the sessions that are missing between processes that can reach each other."""
        processes = [host.process for host in self.hosts.values() if host.process is not None]
        if len(self._sessions) == len(processes) * (len(processes) - 1) // 2:
            return
        linked = {session.ends for session in self._sessions}
        for number, one in enumerate(processes):
            for other in processes[number + 1 :]:
                if (one, other) in linked or (other, one) in linked:
                    continue
                if self._may_connect(one, other) and self.rng.random() < 0.7:
                    self._begin(one, other)

    def _may_connect(self, one: Process, other: Process) -> bool:
        return not (
            one.is_stopped
            or other.is_stopped
            or not self.pass_both(one.id, other.id)
            or tombstone(one.host.member) in other.core.configuration.removed
            or tombstone(other.host.member) in one.core.configuration.removed
        )

    def _begin(self, one: Process, other: Process) -> None:
        session = Session(one, other, self.rng.randrange(300 * MS, 3000 * MS))
        self._sessions.append(session)
        for end in session.ends:
            self.world.after(self.delay_us(), end.call, end.link_up, session)

    def end(self, session: Session) -> None:
        """It breaks; each end notices in its own time."""
        session.is_over = True
        self._sessions.remove(session)
        for end in session.ends:
            self.world.after(self.delay_us(), end.call, end.link_down, session)

    def process_ended(self, process: Process, is_seen: bool) -> None:
        """Its system closes its connections, unless that is gone too."""
        for session in list(self._sessions):
            if process in session.ends:
                peer = session.peer_of(process)
                if is_seen and self.passes(process.id, peer.id):
                    self.end(session)

    # --- Raft messages ---------------------------------------------------------------------------

    def send(self, sender: Process, message: Message) -> None:
        """Try to bring a Raft message to its addressee."""
        session = sender.sessions.get(message.to_id)
        if session is None or (self.loss and self.rng.random() < self.loss):
            return
        receiver = session.peer_of(sender)
        self._launch(session, sender, receiver, message)
        if self.repeat and self.rng.random() < self.repeat:
            self._launch(session, sender, receiver, message)

    def _launch(
        self, session: Session, sender: Process, receiver: Process, message: Message
    ) -> None:
        delay = self.delay_us()
        if not self.reorders:
            delay = self._in_order(sender.id, receiver.id, delay)
        self.world.after(delay, self._arrive, session, sender, receiver, message)

    def _in_order(self, from_id: NodeId, to_id: NodeId, delay: int) -> int:
        now = self.world.now
        arrives = max(now + delay, self._arrives.get((from_id, to_id), 0))
        self._arrives[from_id, to_id] = arrives
        return arrives - now

    def _arrive(
        self, session: Session, sender: Process, receiver: Process, message: Message
    ) -> None:
        if receiver.is_dead or receiver.sessions.get(sender.id) is not session:
            return
        if (sender.id, receiver.id) in self.cut:
            return
        data = messages.encode(message)
        self.world.trace.update(data)
        if self.uses_codec:
            message = messages.decode(data)
        receiver.call(receiver.node.step, message)

    # --- node messages ---------------------------------------------------------------------------

    def send_node(self, sender: Process, peer: NodeId, message: NodeMessage) -> None:
        """Put a node message into the stream to a peer."""
        session = sender.sessions.get(peer)
        if session is None:
            return
        data = node_messages.encode(message)
        self.world.trace.update(data)
        if self.uses_codec:
            message = node_messages.decode(data)
        stream = session.streams[sender.id]
        delay = self.delay_us()
        earliest = stream[-1][0] if stream else 0
        stream.append((max(self.world.now + delay, earliest), message))
        self.world.after(stream[-1][0] - self.world.now, self._pump, session, sender)

    def _pump(self, session: Session, sender: Process) -> None:
        """Let what is due in the stream arrive, unless nothing passes."""
        receiver = session.peer_of(sender)
        stream = session.streams[sender.id]
        if receiver.is_dead or receiver.sessions.get(sender.id) is not session:
            if session.is_over or receiver.is_dead:
                stream.clear()
            elif stream:
                self.world.after(_STALL_TICK, self._pump, session, sender)
            return
        if (sender.id, receiver.id) in self.cut:
            if stream:
                self.world.after(_STALL_TICK, self._pump, session, sender)
            return
        while stream and stream[0][0] <= self.world.now:
            _, message = stream.popleft()
            receiver.call(receiver.node.receive, sender.id, message)

    # --- partitions ------------------------------------------------------------------------------

    def block(self, directions: list[tuple[NodeId, NodeId]]) -> None:
        """Let nothing pass in these directions, until they are unblocked."""
        for direction in directions:
            self.cut[direction] = self.cut.get(direction, 0) + 1

    def unblock(self, directions: list[tuple[NodeId, NodeId]]) -> None:
        """The end of one such fault."""
        for direction in directions:
            left = self.cut.get(direction, 0) - 1
            if left > 0:
                self.cut[direction] = left
            else:
                self.cut.pop(direction, None)

    def heal(self) -> None:
        """Everything passes, and nothing is lost."""
        self.cut.clear()
        self.loss = self.repeat = 0.0
