"""RAFT.STATUS, RAFT.SNAPSHOT and RAFT.HEALTH: the node for its operators."""

from __future__ import annotations

from typing import Any

import msgspec

from resplock.raft.status import PeerStatus
from resplock.resp.binding import Call
from resplock.server.connection import Connection
from resplock.server.local.context import LATER, Context, Handler
from resplock.server.snapshotting import SnapshotTaken
from resplock.server.topology import NodeView


def status(context: Context, connection: Connection, _: Call) -> Any:
    state = context.engine.node.core.status()
    nodes = {node.id: node for node in context.view(connection).nodes}
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


def health(context: Context, _: Connection, __: Call) -> Any:
    node = context.engine.node
    serving = node.core.is_leader
    return {
        "status": "SERVING" if serving else "NOT_SERVING",
        "message": "this node leads" if serving else "no leader is known",
        "leader": node.core.leader_id,
        "term": node.core.term,
        "applied": node.core.applied_index,
        "locks": sum(node.table.locks_by_db),
        "waiters": 0,
        "uptime_ms": context.uptime_ms,
    }


HANDLERS: dict[str, Handler] = {
    "RAFT.STATUS": status,
    "RAFT.SNAPSHOT": snapshot,
    "RAFT.HEALTH": health,
}
