"""The commands that a node answers by itself, without the log: what Meets.LOCAL declares.

I/O layer. One handler per command, by its name; a test compares the handlers with the command table.

    connection.py    PING, HELLO, AUTH, SELECT, CLIENT ...
    acl.py           ACL ...
    server.py        COMMAND, INFO, TIME, ROLE, SAVE, SHUTDOWN
    config.py        CONFIG ...
    memory.py        MEMORY ...
    observing.py     MONITOR, SLOWLOG, LATENCY, DEBUG
    info.py          the sections of INFO
    raft.py          RAFT.STATUS, RAFT.SNAPSHOT, RAFT.HEALTH
    cluster.py       CLUSTER ..., READONLY, READWRITE, ASKING
    replication.py   WAIT
    sentinel.py      SENTINEL ...
    pubsub.py        (P|S)SUBSCRIBE, (P|S)UNSUBSCRIBE, PUBSUB ..., LOCK.WATCH, LOCK.UNWATCH
    transactions.py  MULTI, DISCARD, UNWATCH
"""

from __future__ import annotations

import time
from typing import Any

from resplock.resp.binding import Call
from resplock.resp.command import Flag
from resplock.server.connection import Connection
from resplock.server.local import acl as acl_handlers
from resplock.server.local import cluster as cluster_handlers
from resplock.server.local import config as config_handlers
from resplock.server.local import connection as connection_handlers
from resplock.server.local import memory as memory_handlers
from resplock.server.local import observing as observing_handlers
from resplock.server.local import pubsub as pubsub_handlers
from resplock.server.local import raft as raft_handlers
from resplock.server.local import replication as replication_handlers
from resplock.server.local import sentinel as sentinel_handlers
from resplock.server.local import server as server_handlers
from resplock.server.local import transactions as transaction_handlers
from resplock.server.local.context import LATER, NOTHING, Context, Handler

__all__ = ["HANDLERS", "Context", "LocalCommands"]

HANDLERS: dict[str, Handler] = {
    **connection_handlers.HANDLERS,
    **acl_handlers.HANDLERS,
    **server_handlers.HANDLERS,
    **config_handlers.HANDLERS,
    **memory_handlers.HANDLERS,
    **observing_handlers.HANDLERS,
    **raft_handlers.HANDLERS,
    **cluster_handlers.HANDLERS,
    **replication_handlers.HANDLERS,
    **sentinel_handlers.HANDLERS,
    **pubsub_handlers.HANDLERS,
    **transaction_handlers.HANDLERS,
}
"""Each command that is answered here, by its name in capitals."""


class LocalCommands:
    """Runs local commands for the connections of one server."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def answer(self, connection: Connection, call: Call) -> Any:
        """Run the command; gives the value of the reply. Raises CommandError."""
        return HANDLERS[call.command.name](self._context, connection, call)

    def run(self, connection: Connection, call: Call) -> None:
        """Run the command and reply, unless it has no reply or replies later."""
        if Flag.FAST in call.command.flags:
            self._run(connection, call)
            return
        start_ns = time.monotonic_ns()
        try:
            self._run(connection, call)
        finally:
            taken_ns = time.monotonic_ns() - start_ns
            name = call.command.name
            self._context.engine.observer.ran(name, call.argv, connection, taken_ns)

    def _run(self, connection: Connection, call: Call) -> None:
        value = self.answer(connection, call)
        if value is not NOTHING and value is not LATER:
            connection.reply(value)
