"""SENTINEL: every node answers as a Sentinel that watches one master, the leader."""

from __future__ import annotations

from typing import Any

from resplock.errors import CommandError
from resplock.resp.binding import Call
from resplock.resp.commands.sentinel_commands import MASTER_NAME
from resplock.resp.replies import Simple
from resplock.server.connection import Connection
from resplock.server.local.context import Context, Handler, Report
from resplock.server.topology import NodeView, View


def get_master_address(context: Context, connection: Connection, call: Call) -> Any:
    owner = context.view(connection).owner
    if call.values["master_name"] != MASTER_NAME or owner is None:
        return None
    return [owner.host, str(owner.port)]


def master(context: Context, connection: Connection, call: Call) -> Any:
    _check_name(call)
    return _master(context, context.view(connection))


def masters(context: Context, connection: Connection, _: Call) -> Any:
    return [_master(context, context.view(connection))]


def replicas(context: Context, connection: Connection, call: Call) -> Any:
    _check_name(call)
    view = context.view(connection)
    reports = context.reports(view)
    return [_replica(context, view, node, reports[node.id]) for node in view.replicas]


def sentinels(context: Context, connection: Connection, call: Call) -> Any:
    _check_name(call)
    view = context.view(connection)
    reports = context.reports(view)
    return [
        {
            **_instance(context, node.name, node, "sentinel", reports[node.id].is_up),
            "last-hello-message": "0",
            "voted-leader": view.leader.name if view.leader else "?",
            "voted-leader-epoch": str(view.term),
        }
        for node in view.others
    ]


def check_quorum(context: Context, connection: Connection, call: Call) -> Any:
    _check_name(call)
    view = context.view(connection)
    reports = context.reports(view)
    usable = sum(node.is_voter and reports[node.id].is_up for node in view.nodes)
    if not view.nodes or usable < view.quorum:
        text = f"{usable} usable Sentinels. Not enough to elect a leader: {view.quorum} are needed"
        raise CommandError(text, "NOQUORUM")
    return Simple(f"OK {usable} usable Sentinels. Quorum and failover authorization can be reached")


def my_id(context: Context, connection: Connection, _: Call) -> Any:
    return context.view(connection).me.name


def _check_name(call: Call) -> None:
    if call.values["master_name"] != MASTER_NAME:
        raise CommandError("No such master with that name")


def _master(context: Context, view: View) -> dict[str, str]:
    """The master's fields; this node stands in for it, as down, before it has heard of a leader."""
    node = view.owner or view.me
    down_after_ms = context.settings.election_timeout_ms
    flags = "master" if view.leader else "s_down,o_down,master"
    return {
        **_instance(context, MASTER_NAME.decode(), node, flags, view.leader is not None),
        "role-reported": "master",
        "role-reported-time": "0",
        "config-epoch": str(view.term),
        "num-slaves": str(len(view.replicas)),
        "num-other-sentinels": str(len(view.others)),
        "quorum": str(view.quorum),
        "failover-timeout": str(2 * down_after_ms),
        "parallel-syncs": "1",
    }


def _replica(context: Context, view: View, node: NodeView, report: Report) -> dict[str, str]:
    flags = "slave" if report.is_up else "s_down,slave,disconnected"
    owner = view.owner
    return {
        **_instance(context, node.address, node, flags, report.is_up),
        "role-reported": "slave",
        "role-reported-time": "0",
        "master-link-down-time": "0",
        "master-link-status": "ok" if view.leader and report.is_up else "err",
        "master-host": owner.host if owner else "?",
        "master-port": str(owner.port) if owner else "0",
        "slave-priority": "100",
        "slave-repl-offset": str(report.offset),
        "replica-announced": "1",
    }


def _instance(
    context: Context, name: str, node: NodeView, flags: str, is_up: bool
) -> dict[str, str]:
    """The fields that masters, replicas and Sentinels have in common."""
    return {
        "name": name,
        "ip": node.host,
        "port": str(node.port),
        "runid": node.name,
        "flags": flags,
        "link-pending-commands": "0",
        "link-refcount": "1",
        "last-ping-sent": "0",
        "last-ok-ping-reply": "0",
        "last-ping-reply": "0",
        **({} if is_up else {"s-down-time": str(context.settings.election_timeout_ms)}),
        "down-after-milliseconds": str(context.settings.election_timeout_ms),
        "info-refresh": "0",
    }


HANDLERS: dict[str, Handler] = {
    "SENTINEL CKQUORUM": check_quorum,
    "SENTINEL GET-MASTER-ADDR-BY-NAME": get_master_address,
    "SENTINEL MASTER": master,
    "SENTINEL MASTERS": masters,
    "SENTINEL MYID": my_id,
    "SENTINEL REPLICAS": replicas,
    "SENTINEL SENTINELS": sentinels,
    "SENTINEL SLAVES": replicas,
}
