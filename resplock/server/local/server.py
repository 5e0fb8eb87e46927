"""COMMAND, every HELP, INFO, TIME, ROLE, SAVE, LASTSAVE, MODULE and SHUTDOWN: the server."""

from __future__ import annotations

import time
from typing import Any

from resplock.resp import introspection
from resplock.resp.binding import Call
from resplock.resp.replies import Simple, Verbatim
from resplock.server.connection import Connection
from resplock.server.local.context import LATER, NOTHING, OK, Context, Handler
from resplock.server.local.info import info as info_text
from resplock.server.snapshotting import SnapshotTaken


def describe(_: Context, __: Connection, call: Call) -> Any:
    """COMMAND and its subcommands, and every HELP: what the command table says of itself."""
    return introspection.answer(call)


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


def modules(_: Context, __: Connection, ___: Call) -> Any:
    return []


def save(context: Context, connection: Connection, _: Call) -> Any:
    answer = connection.hold()

    def then(_: SnapshotTaken) -> None:
        answer(OK)

    context.engine.snapshots.start(then)
    return LATER


def save_in_background(context: Context, _: Connection, call: Call) -> Any:
    context.engine.snapshots.start()
    what = "saving" if call.command.name == "BGSAVE" else "append only file rewriting"
    return Simple(f"Background {what} started")


def last_save(context: Context, _: Connection, __: Call) -> Any:
    return context.last_save_s


def shutdown(context: Context, _: Connection, call: Call) -> Any:
    if call.values["abort"]:
        return OK  # a shutdown that has begun no longer reads commands
    context.shut_down()
    return NOTHING


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(introspection.ANSWERS, describe),
    "INFO": info,
    "TIME": time_,
    "ROLE": role,
    "SAVE": save,
    "BGSAVE": save_in_background,
    "BGREWRITEAOF": save_in_background,
    "LASTSAVE": last_save,
    "MODULE LIST": modules,
    "SHUTDOWN": shutdown,
}
