"""CLUSTER, READONLY, READWRITE and ASKING: the cluster as Redis Cluster's clients understand it."""

from __future__ import annotations

from typing import Any

from resplock.limits import SLOTS
from resplock.resp.binding import Call
from resplock.resp.replies import Verbatim
from resplock.server.clocks import now_ms, unix_ms
from resplock.server.connection import Connection
from resplock.server.local.context import OK, Context, Handler
from resplock.server.topology import SHARD_NAME, NodeView, View
from resplock.types import hash_slot, key_of, lock_name

_LAST_SLOT = SLOTS - 1


def slots(context: Context, connection: Connection, _: Call) -> Any:
    view = context.view(connection)
    if view.owner is None:
        return []
    return [[0, _LAST_SLOT, *map(_endpoint, (view.owner, *view.replicas))]]


def _endpoint(node: NodeView) -> list[object]:
    return [node.host, node.port, node.name, {}]


def shards(context: Context, connection: Connection, _: Call) -> Any:
    view = context.view(connection)
    reports = context.reports(view)

    def described(node: NodeView) -> dict[str, object]:
        health = "online" if node.is_voter else "loading"
        return {
            "id": node.name,
            "port": node.port,
            "ip": node.host,
            "endpoint": node.host,
            "role": "master" if node is view.owner else "replica",
            "replication-offset": reports[node.id].offset,
            "health": health if reports[node.id].is_up else "fail",
        }

    owned = [0, _LAST_SLOT] if view.owner else []
    return [{"slots": owned, "nodes": [described(node) for node in view.nodes]}]


def nodes(context: Context, connection: Connection, _: Call) -> Any:
    view = context.view(connection)
    reports = context.reports(view)
    return Verbatim("".join(_line(view, node, reports[node.id].is_up) for node in view.nodes))


def _line(view: View, node: NodeView, is_up: bool) -> str:
    """A node as CLUSTER NODES shows it."""
    owns = node is view.owner
    flags = ["myself"] if node is view.me else []
    flags.append("master" if owns else "slave")
    if not is_up:
        flags.append("fail")
    words = [
        node.name,
        f"{node.host}:{node.port}@{node.peer_port}",
        ",".join(flags),
        "-" if owns or view.owner is None else view.owner.name,
        "0",  # the last ping that is not answered, and the last pong: links have no pings
        "0",
        str(view.term),
        "connected" if is_up else "disconnected",
        *([f"0-{_LAST_SLOT}"] if owns else []),
    ]
    return " ".join(words) + "\n"


def info(context: Context, connection: Connection, _: Call) -> Any:
    view = context.view(connection)
    assigned = SLOTS if view.owner else 0
    fields = {
        "cluster_state": "ok" if view.leader else "fail",
        "cluster_slots_assigned": assigned,
        "cluster_slots_ok": assigned if view.leader else 0,
        "cluster_slots_pfail": 0,
        "cluster_slots_fail": 0 if view.leader else assigned,
        "cluster_known_nodes": len(view.nodes),
        "cluster_size": 1,
        "cluster_current_epoch": view.term,
        "cluster_my_epoch": view.term,
    }
    return Verbatim("".join(f"{name}:{value}\r\n" for name, value in fields.items()))


def links(context: Context, connection: Connection, _: Call) -> Any:
    found = []
    for node in context.view(connection).others:
        link = context.link(node.id)
        if link is not None and link.connected:
            found.append(
                {
                    "direction": "to",
                    "node": node.name,
                    "create-time": unix_ms() - (now_ms() - link.since_ms),
                    "events": "rw" if link.unsent_bytes else "r",
                    "send-buffer-allocated": link.unsent_bytes,
                    "send-buffer-used": link.unsent_bytes,
                }
            )
    return found


def my_id(context: Context, connection: Connection, _: Call) -> Any:
    return context.view(connection).me.name


def my_shard_id(_: Context, __: Connection, ___: Call) -> Any:
    return SHARD_NAME


def key_slot(_: Context, __: Connection, call: Call) -> Any:
    return hash_slot(lock_name(0, call.values["key"]))


def count_keys_in_slot(context: Context, _: Connection, call: Call) -> Any:
    return context.engine.node.table.locks.count(call.values["slot"])


def get_keys_in_slot(context: Context, _: Connection, call: Call) -> Any:
    names = context.engine.node.table.locks.some(call.values["slot"], call.values["count"])
    return [key_of(name) for name in names]


def read_only(_: Context, connection: Connection, call: Call) -> Any:
    connection.read_only = call.command.name == "READONLY"
    return OK


def asking(_: Context, __: Connection, ___: Call) -> Any:
    return OK


HANDLERS: dict[str, Handler] = {
    "CLUSTER SLOTS": slots,
    "CLUSTER SHARDS": shards,
    "CLUSTER NODES": nodes,
    "CLUSTER INFO": info,
    "CLUSTER LINKS": links,
    "CLUSTER MYID": my_id,
    "CLUSTER MYSHARDID": my_shard_id,
    "CLUSTER KEYSLOT": key_slot,
    "CLUSTER COUNTKEYSINSLOT": count_keys_in_slot,
    "CLUSTER GETKEYSINSLOT": get_keys_in_slot,
    "READONLY": read_only,
    "READWRITE": read_only,
    "ASKING": asking,
}
