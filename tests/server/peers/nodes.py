"""Nodes that only have links: they write down what they are told.

    async with nodes("n1", "n2") as (one, two):
        await one.linked(two)
        one.say(two, 7)                           a Raft message whose commit index is 7
        await eventually(lambda: two.heard("n1") == [7])

`eventually` polls with a deadline; nothing else waits for time to pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvloop

from resplock.addresses import split_host
from resplock.raft.entries import Member
from resplock.raft.messages import Heartbeat, Message, PeerError
from resplock.server.peers import Identity, Peers
from resplock.types import NodeId

CLUSTER = "c1"
DEADLINE_S = 10.0

_rng = random.Random(1)


async def eventually(condition: Callable[[], Any], what: str = "") -> None:
    """Wait until something holds."""
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, f"it never came to pass: {what or condition}"
        await asyncio.sleep(0.002)


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on uvloop, as the server runs."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        uvloop.run(test(*arguments, **named))

    return run


def decode(data: bytes | bytearray | memoryview) -> str:
    """A node message, in these tests: text."""
    try:
        return bytes(data).decode()
    except UnicodeDecodeError as error:
        raise PeerError("not a text") from error


class Node:
    """A node's links, and everything that it was told, in order."""

    def __init__(self, id: str, uuid: str = "", cluster: str = CLUSTER, open: bool = True) -> None:
        self.id = NodeId(id)
        self.events: list[tuple[Any, ...]] = []
        self.member = Member(self.id, uuid or f"uuid-{id}")
        self.identity = Identity(self.member, _rng.getrandbits(63), cluster)
        self.peers = Peers(self.identity, lambda text: text.encode(), decode, _rng)
        self._opens = open

    async def start(self, port: int = 0) -> Node:
        port = await self.peers.listen("127.0.0.1", port)
        self.member = Member(self.id, self.member.uuid, "", f"127.0.0.1:{port}")
        self.identity = Identity(
            self.member, self.identity.incarnation, self.identity.cluster_id, empty=True
        )
        self.peers.identity = self.identity
        if self._opens:
            self.peers.open(self.identity, self)
        return self

    @property
    def port(self) -> int:
        return split_host(self.member.peer_address)[1]

    def knows(self, *others: Node, removed: tuple[str, ...] = ()) -> None:
        self.peers.set_members([self.member, *(other.member for other in others)], removed)

    async def linked(self, *others: Node) -> None:
        for other in others:
            await eventually(lambda other=other: self.peers.status(other.id).connected)

    def say(self, other: Node | str, number: int) -> bool:
        sent = self.peers.send(self.message(other, number))
        self.peers.flush()
        return sent

    def message(self, other: Node | str, number: int) -> Message:
        to_id = NodeId(other if isinstance(other, str) else other.id)
        return Heartbeat(1, self.id, to_id, number, 1, 0, 0)

    def forward(self, other: Node, text: str) -> bool:
        sent = self.peers.send_node(other.id, text)
        self.peers.flush()
        return sent

    def heard(self, id: str) -> list[int]:
        """The numbers that came from a node."""
        return [what for kind, who, what in self.told("raft") if who == id]

    def told(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [event for event in self.events if event[0] in kinds]

    # --- PeerEvents ------------------------------------------------------------------------------

    def link_up(self, peer_id: NodeId, incarnation: int) -> None:
        assert self.peers.status(peer_id).connected
        self.events.append(("up", peer_id, incarnation))

    def link_down(self, peer_id: NodeId) -> None:
        self.events.append(("down", peer_id))

    def raft_message(self, message: Message) -> None:
        assert isinstance(message, Heartbeat)
        self.events.append(("raft", message.from_id, message.commit_index))

    def node_message(self, peer_id: NodeId, message: Any) -> None:
        self.events.append(("node", peer_id, message))

    def member_seen(self, member: Member) -> None:
        self.events.append(("seen", member))

    def adopt_cluster(self, cluster_id: str) -> None:
        self.events.append(("adopt", cluster_id))

    def removed(self, text: str) -> None:
        self.events.append(("removed", text))


@contextlib.asynccontextmanager
async def nodes(*wanted: str | Node, acquainted: bool = True) -> AsyncIterator[list[Node]]:
    """Started nodes, which know each other unless that is not wanted."""
    found = [Node(one) if isinstance(one, str) else one for one in wanted]
    try:
        for node in found:
            await node.start()
        if acquainted:
            for node in found:
                node.knows(*(other for other in found if other is not node))
        yield found
    finally:
        for node in found:
            node.peers.close()
        for _ in range(5):  # what was aborted is closed in later turns
            await asyncio.sleep(0)
