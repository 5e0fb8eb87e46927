"""RAFT.STATUS, RAFT.SNAPSHOT and RAFT.HEALTH: the node for its operators."""

from __future__ import annotations

from typing import Any

import msgspec

from resplock.resp.binding import Call
from resplock.server.connection import Connection
from resplock.server.local.context import LATER, Context, Handler
from resplock.server.snapshotting import SnapshotTaken


def status(context: Context, _: Connection, __: Call) -> Any:
    return msgspec.to_builtins(context.engine.node.core.status())


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
