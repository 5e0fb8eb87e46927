"""MULTI, DISCARD, UNWATCH: what of transactions concerns only the connection."""

from __future__ import annotations

from typing import Any

from resplock.resp.binding import Call
from resplock.server import transactions
from resplock.server.connection import Connection
from resplock.server.local.context import OK, Context, Handler


def multi(_: Context, connection: Connection, __: Call) -> Any:
    transactions.begin(connection)
    return OK


def discard(_: Context, connection: Connection, __: Call) -> Any:
    transactions.discard(connection)
    return OK


def unwatch(_: Context, connection: Connection, __: Call) -> Any:
    connection.watched = {}
    return OK


HANDLERS: dict[str, Handler] = {"MULTI": multi, "DISCARD": discard, "UNWATCH": unwatch}
