"""COMMAND, every HELP, CONFIG, INFO, TIME, ROLE and SHUTDOWN: the server."""

from __future__ import annotations

import time
from typing import Any

from resplock import glob, limits
from resplock.errors import CommandError
from resplock.resp import introspection
from resplock.resp.binding import Call
from resplock.resp.replies import Verbatim
from resplock.server.connection import Connection
from resplock.server.local.context import NOTHING, OK, Context, Handler
from resplock.server.local.info import info as info_text


def describe(_: Context, __: Connection, call: Call) -> Any:
    """COMMAND and its subcommands, and every HELP: what the command table says of itself."""
    return introspection.answer(call)


def config_get(context: Context, _: Connection, call: Call) -> Any:
    patterns: tuple[bytes, ...] = call.values["parameters"]
    count_max, bytes_max = limits.CONFIG_PATTERNS_MAX, limits.CONFIG_PATTERNS_BYTES_MAX
    if len(patterns) > count_max or sum(map(len, patterns)) > bytes_max:
        raise CommandError(
            f"CONFIG GET: at most {count_max} parameters, together of at most {bytes_max} bytes"
        )
    matchers = [glob.compile(pattern.lower()) for pattern in patterns]
    return {
        name: str(value)
        for name, value in sorted(_configuration(context).items())
        if any(matches(name.encode()) for matches in matchers)
    }


def info(context: Context, _: Connection, call: Call) -> Any:
    return Verbatim(info_text(context, call.values["sections"]))


def time_(_: Context, __: Connection, ___: Call) -> Any:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return [str(seconds), str(nanoseconds // 1000)]


def role(context: Context, connection: Connection, _: Call) -> Any:
    view = context.view(connection)
    reports = context.reports(view)
    offset = context.engine.node.core.applied_index
    if view.leads:
        return [
            "master",
            offset,
            [
                [node.host, str(node.port), str(reports[node.id].offset)]
                for node in view.replicas
                if reports[node.id].is_up
            ],
        ]
    owner = view.owner
    state = "connected" if view.leader else "connect"
    return ["slave", owner.host if owner else "", owner.port if owner else 0, state, offset]


def shutdown(context: Context, _: Connection, call: Call) -> Any:
    if call.values["abort"]:
        return OK  # a shutdown that has begun no longer reads commands
    context.shut_down()
    return NOTHING


def _configuration(context: Context) -> dict[str, object]:
    """What CONFIG GET shows: Redis's names that clients and tools ask for, and our own settings."""
    settings = context.settings
    return {
        "appendfsync": "always",
        "appendonly": "yes",
        "bind": settings.host,
        "data-dir": settings.data_dir.absolute(),
        "databases": limits.DATABASES,
        "dir": settings.data_dir.absolute(),
        "election-timeout-ms": settings.election_timeout_ms,
        "maxclients": context.clients.maxclients,
        "maxmemory": 0,
        "maxmemory-policy": "noeviction",
        "node-id": settings.node_id,
        "notify-keyspace-events": "AKE",
        "port": context.port,
        "proto-max-bulk-len": limits.ARGUMENT_BYTES_MAX,
        "protected-mode": "yes" if settings.protected_mode else "no",
        "replica-read-only": "yes",
        "requirepass": "********" if settings.requirepass else "",
        "save": "",
        "slave-read-only": "yes",
        "snapshot-entries": settings.snapshot_entries,
        "tcp-keepalive": 300,
        "timeout": settings.timeout,
    }


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(introspection.ANSWERS, describe),
    "CONFIG GET": config_get,
    "INFO": info,
    "TIME": time_,
    "ROLE": role,
    "SHUTDOWN": shutdown,
}
