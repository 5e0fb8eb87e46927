"""RAFT.*: the node and its cluster, for their operators."""

from __future__ import annotations

from typing import Any

import msgspec

from resplock.addresses import Address, check_node_id, parse_address
from resplock.errors import CommandError, ConfigError
from resplock.node.administration import AddServer, RemoveServer, Request, Transfer
from resplock.raft.entries import Member
from resplock.raft.status import PeerStatus
from resplock.resp.binding import Call
from resplock.server.connection import Connection
from resplock.server.local.context import LATER, Context, Handler
from resplock.server.peers import Unreachable
from resplock.server.snapshotting import SnapshotTaken
from resplock.server.topology import NodeView, View
from resplock.types import NodeId


def status(context: Context, connection: Connection, _: Call) -> Any:
    state = context.engine.node.core.status()
    view = context.view(connection)
    nodes = {node.id: node for node in view.nodes}
    return {
        "id": state.id,
        "role": state.role,
        "term": state.term,
        "leader_id": state.leader_id,
        "last_log_index": state.last_log_index,
        "last_log_term": state.last_log_term,
        "commit_index": state.commit_index,
        "last_applied": state.last_applied,
        "snapshot_index": state.snapshot_index,
        "snapshot_term": state.snapshot_term,
        "removed": int(state.removed),
        "transferring_to": state.transferring_to,
        "members": [
            {"id": node.id, "address": node.address, "is_voter": int(node.is_voter)}
            for node in view.nodes
        ],
        "peers": [_peer(context, peer, nodes.get(peer.id)) for peer in state.peers],
    }


def _peer(context: Context, peer: PeerStatus, node: NodeView | None) -> dict[str, Any]:
    link = context.link(peer.id)
    return {
        "id": peer.id,
        "address": node.address if node else "",
        "is_voter": int(peer.is_voter),
        "next_index": peer.next_index,
        "match_index": peer.match_index,
        "is_active": int(peer.is_active),
        "last_active": peer.last_active * context.engine.node.settings.tick_ms,
        "snapshot_in_progress": int(peer.snapshot_in_progress),
        "replication_lag": peer.replication_lag,
        "consecutive_failures": peer.consecutive_failures,
        "connected": int(link is None or link.connected),
        "last_error": link.last_error if link else "",
        "pending_rpcs": peer.inflight_messages,
    }


def snapshot(context: Context, connection: Connection, _: Call) -> Any:
    """Take one, unless the last one has everything that is applied: then its data again."""
    last = context.engine.snapshots.last
    if last is not None and last.index == context.engine.node.core.applied_index:
        return msgspec.structs.asdict(last)
    answer = connection.hold()

    def then(taken: SnapshotTaken) -> None:
        answer(msgspec.structs.asdict(taken))

    context.engine.snapshots.start(then)
    return LATER


def proposals(context: Context, _: Connection, __: Call) -> Any:
    counts, latencies = context.engine.node.proposals, context.engine.latencies
    return {
        "total": counts.added - counts.given_back,
        "pending": context.engine.node.unresolved,
        "successful": counts.successful,
        "failed": counts.in_doubt,
        "cancelled": counts.refused,
        "expired": counts.unserved,
        "average_latency_ms": latencies.average_ms,
        "max_latency_ms": latencies.max_ms,
    }


# --- membership and leadership -------------------------------------------------------------------


def add(context: Context, connection: Connection, call: Call) -> Any:
    try:
        id = check_node_id(call.values["id"].decode(errors="replace"))
        address = parse_address(call.values["address"].decode(errors="replace"))
    except ConfigError as error:
        raise CommandError(str(error)) from error
    connection.await_delivery()
    context.begin(_add(context, connection, NodeId(id), address))
    return LATER


async def _add(context: Context, connection: Connection, id: NodeId, address: Address) -> None:
    """Ask the server who it is: its data directory's uuid is what it is added by."""
    try:
        uuid = await _probe(context, id, address)
    except CommandError as error:
        connection.deliver([error])
        return
    member = Member(id, uuid, address.for_clients, address.for_peers)
    context.engine.administer(connection, AddServer(member))


async def _probe(context: Context, id: NodeId, address: Address) -> str:
    """The uuid of the server that is to become `id`. Raises CommandError if it must not."""
    peers = context.peers
    assert peers is not None, "every server has a transport"
    try:
        theirs = await peers.probe(address.host, address.peer_port)
    except Unreachable as error:
        raise CommandError(f"{id} cannot be reached at {address.for_peers}: {error}") from error
    if theirs.server.id != id:
        raise CommandError(f"the node at {address} is called {theirs.server.id}, not {id}")
    own = peers.identity.cluster_id
    if theirs.cluster_id not in ("", own):
        raise CommandError(
            f"{id} at {address} belongs to another cluster, {theirs.cluster_id}; this one is {own}"
        )
    return theirs.server.uuid


def remove(context: Context, connection: Connection, call: Call) -> Any:
    return _administer(context, connection, RemoveServer(_id(call)))


def transfer(context: Context, connection: Connection, call: Call) -> Any:
    id = None if call.values["id"] is None else _id(call)
    return _administer(context, connection, Transfer(id))


def _administer(context: Context, connection: Connection, request: Request) -> Any:
    connection.await_delivery()
    context.engine.administer(connection, request)
    return LATER


def _id(call: Call) -> NodeId:
    return NodeId(call.values["id"].decode(errors="replace"))


# --- health --------------------------------------------------------------------------------------


def health(context: Context, connection: Connection, _: Call) -> Any:
    node = context.engine.node
    trouble, message = _judge(context, context.view(connection))
    return {
        "status": "NOT_SERVING" if trouble else "SERVING",
        "message": message,
        "leader": node.core.leader_id,
        "term": node.core.term,
        "applied": node.core.applied_index,
        "locks": sum(node.table.locks_by_db),
        "waiters": len(node.table.queues),
        "uptime_ms": context.uptime_ms,
    }


def _judge(context: Context, view: View) -> tuple[bool, str]:
    """Whether this node cannot have commands decided, and why it can or cannot."""
    if view.leads:
        return False, "this node leads"
    if context.engine.node.core.status().removed:
        return True, "this node was removed from the cluster"
    if view.leader is None:
        waits = view.nodes == (view.me,) and not view.me.is_voter
        return True, "it waits for RAFT.ADD to bring it in" if waits else "no leader is known"
    link = context.link(view.leader.id)
    follows = f"follows {view.leader.id}"
    if link is not None and not link.connected:
        return True, f"{follows}, and has no link to it: {link.last_error or 'not connected yet'}"
    return False, follows


HANDLERS: dict[str, Handler] = {
    "RAFT.ADD": add,
    "RAFT.REMOVE": remove,
    "RAFT.TRANSFER": transfer,
    "RAFT.PROPOSALS": proposals,
    "RAFT.STATUS": status,
    "RAFT.SNAPSHOT": snapshot,
    "RAFT.HEALTH": health,
}
