"""The network between hosts: loss, repetition, delay, order; one-way and full partitions.

A Raft message is bound to the process that it was sent to, and to the one that sent it: a connection
does not outlive either end (the handshake tells incarnations apart). Whoever asks, asks only the
server that its configuration means, by its uuid, and takes only that one's answer; who is asked may
know less than who asks, and answers anybody.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from resplock.raft import messages
from resplock.raft.messages import (
    AppendReply,
    HeartbeatReply,
    Message,
    PreVoteReply,
    VoteReply,
)
from resplock.types import NodeId
from tests.sim.knobs import Knobs
from tests.sim.world import World

if TYPE_CHECKING:
    from tests.sim.host import Host, Process

_REPLIES = (AppendReply, HeartbeatReply, VoteReply, PreVoteReply)


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
        self._arrives: dict[tuple[NodeId, NodeId], int] = {}
        self.sent = 0

    def passes(self, from_id: NodeId, to_id: NodeId) -> bool:
        """Whether a packet that arrives now gets through."""
        return (from_id, to_id) not in self.cut

    def delay_us(self) -> int:
        """How long a packet is on its way."""
        return self.delay + int(self.rng.random() * self.jitter)

    def send(self, sender: Process, message: Message) -> None:
        """Try to bring a Raft message to its addressee."""
        self.sent += 1
        host = self.hosts.get(message.to_id)
        receiver = host.process if host is not None else None
        if receiver is None or (self.loss and self.rng.random() < self.loss):
            return
        self._launch(sender, receiver, message)
        if self.repeat and self.rng.random() < self.repeat:
            self._launch(sender, receiver, message)

    def _launch(self, sender: Process, receiver: Process, message: Message) -> None:
        world = self.world
        delay = self.delay_us()
        if not self.reorders:
            link = (sender.id, receiver.id)
            arrives = max(world.now + delay, self._arrives.get(link, 0))
            self._arrives[link] = arrives
            delay = arrives - world.now
        world.after(delay, self._arrive, sender, receiver, message)

    def _arrive(self, sender: Process, receiver: Process, message: Message) -> None:
        if receiver.is_dead or not self.passes(sender.id, receiver.id):
            return
        if isinstance(message, _REPLIES):
            if not receiver.knows(sender):
                return
        elif not sender.knows(receiver):
            return
        data = messages.encode(message)
        self.world.trace.update(data)
        if self.uses_codec:
            message = messages.decode(data)
        receiver.hear(sender, message)

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
        """Everything passes, at once and in order."""
        self.cut.clear()
        self.loss = self.repeat = 0.0
