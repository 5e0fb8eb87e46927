"""Who leads and who else belongs: what every discovery command is formatted from.

I/O layer, though it does none: the view of a node is made from its configuration and its core, once
for each change of term, leader or configuration.

For Redis clients the leader owns everything. While no leader is known, the last one that was does:
a client that asks there finds out by itself, and asks again.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import msgspec

from resplock.addresses import EVERY_ADDRESS, join_host, split_host
from resplock.config import Settings
from resplock.raft.entries import Configuration, Member
from resplock.types import NodeId, Term

SHARD_NAME = hashlib.sha1(b"resplock shard", usedforsecurity=False).hexdigest()
"""The one shard, as cluster clients name it."""


class NodeView(msgspec.Struct, frozen=True):
    """One node, as clients may see it."""

    id: NodeId
    name: str
    """40 hex digits: what Redis calls a node's id. A wiped data directory is another node."""
    host: str
    port: int
    peer_port: int
    is_voter: bool
    """Learners are no replicas yet: they have not caught up."""

    @property
    def address(self) -> str:
        """`host:port`."""
        return join_host(self.host, self.port)


class View(msgspec.Struct, frozen=True):
    """What one node knows of its cluster."""

    term: Term
    me: NodeView
    nodes: tuple[NodeView, ...]
    """All of them, this one too, sorted by id."""
    leader: NodeView | None
    owner: NodeView | None
    """The leader, or the last one that is still a member; None when none was heard of."""

    @property
    def leads(self) -> bool:
        """Whether this node is the leader."""
        return self.leader is self.me

    @property
    def replicas(self) -> tuple[NodeView, ...]:
        """The voters beside the owner."""
        return tuple(node for node in self.nodes if node.is_voter and node is not self.owner)

    @property
    def others(self) -> tuple[NodeView, ...]:
        """The nodes beside this one."""
        return tuple(node for node in self.nodes if node is not self.me)

    @property
    def quorum(self) -> int:
        """How many voters elect a leader."""
        return sum(node.is_voter for node in self.nodes) // 2 + 1


class Core(Protocol):
    """What is read of the consensus core."""

    @property
    def term(self) -> Term: ...
    @property
    def leader_id(self) -> NodeId | None: ...
    @property
    def configuration(self) -> Configuration: ...


class Topology:
    """Makes the view of one node, and remembers who led last."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._owner_id: NodeId | None = None
        self._made_from: tuple[object, ...] = ()
        self._view: View | None = None

    def host_for(self, asked_at: str) -> str:
        """The host of this node while it is alone.

        asked_at: the `host:port` at which the client that asks has reached it, which is right for
        this client when the node listens on every address.
        """
        settings = self._settings
        if settings.announce_host:
            return settings.announce_host
        if settings.host not in EVERY_ADDRESS:
            return settings.host
        return split_host(asked_at)[0]

    def view(self, core: Core, port: int, asked_at: str = "") -> View:
        """The view as it is now. `port`: where this node listens for clients."""
        made_from = (core.term, core.leader_id, core.configuration, port, self.host_for(asked_at))
        if self._view is None or made_from != self._made_from:
            self._made_from = made_from
            self._view = self._make(core, port, self.host_for(asked_at))
        return self._view

    def _make(self, core: Core, port: int, host: str) -> View:
        configuration, settings = core.configuration, self._settings
        members = {member.id: (member, True) for member in configuration.voters}
        members |= {member.id: (member, False) for member in configuration.learners}
        my_id = NodeId(settings.node_id)
        members.setdefault(my_id, (Member(my_id), False))
        nodes = {}
        for id, (member, is_voter) in sorted(members.items()):
            node = _node_view(member, is_voter)
            if id == my_id and (len(members) == 1 or not node.port):
                # Alone, it may listen elsewhere than when it began; others have it as it was added.
                node = msgspec.structs.replace(
                    node, host=host, port=port, peer_port=settings.peer_port_beside(port)
                )
            nodes[id] = node
        leader = nodes.get(core.leader_id) if core.leader_id is not None else None
        if leader is not None:
            self._owner_id = leader.id
        return View(
            term=core.term,
            me=nodes[my_id],
            nodes=tuple(nodes.values()),
            leader=leader,
            owner=nodes.get(self._owner_id) if self._owner_id is not None else None,
        )


def _node_view(member: Member, is_voter: bool) -> NodeView:
    host, port = split_host(member.client_address)
    _, peer_port = split_host(member.peer_address)
    identity = f"{member.id}/{member.uuid}".encode()
    name = hashlib.sha1(identity, usedforsecurity=False).hexdigest()
    return NodeView(member.id, name, host, port, peer_port, is_voter)
