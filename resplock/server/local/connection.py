"""PING, ECHO, QUIT, RESET, HELLO, AUTH, SELECT and CLIENT: the connection itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from resplock.errors import CommandError
from resplock.node import Result
from resplock.operations import Cancelled, Unblock
from resplock.resp.binding import Call
from resplock.resp.replies import Members, Simple, Verbatim
from resplock.server.clocks import now_ms
from resplock.server.connection import Connection, Pausing
from resplock.server.local.context import LATER, NOTHING, OK, Context, Handler

REDIS_VERSION = "7.2.5"
"""The Redis that clients may take this for: below 8, which some probe for more commands."""
USER = b"default"

_HELLO_NOAUTH = (
    "HELLO must be called with the client already authenticated, otherwise the HELLO <proto> "
    "AUTH <user> <pass> option can be used to authenticate the client and select the RESP "
    "protocol version at the same time"
)


def ping(_: Context, connection: Connection, call: Call) -> Any:
    return connection.ping(call.values["message"])


def echo(_: Context, __: Connection, call: Call) -> Any:
    return call.values["message"]


def quit_(_: Context, connection: Connection, __: Call) -> Any:
    connection.reply(OK)
    connection.close()
    return NOTHING


def reset(_: Context, connection: Connection, __: Call) -> Any:
    connection.reset()
    return Simple("RESET")


def hello(context: Context, connection: Connection, call: Call) -> Any:
    values = call.values
    if values["password"] is not None:
        context.clients.check_password(connection, values["username"], values["password"])
    if not connection.authenticated:
        raise CommandError(_HELLO_NOAUTH, "NOAUTH")
    if values["name"] is not None:
        connection.name = values["name"]
    if values["protover"] is not None:
        connection.speak(values["protover"])
    return {
        "server": "redis",
        "version": REDIS_VERSION,
        "proto": connection.protocol_version,
        "id": connection.id,
        "mode": redis_mode(context),
        "role": "master" if context.engine.node.core.is_leader else "replica",
        "modules": [],
    }


def redis_mode(context: Context) -> str:
    """What clients take this for. Cluster clients find the leader in either mode."""
    return "cluster" if context.settings.announce_cluster else "standalone"


def auth(context: Context, connection: Connection, call: Call) -> Any:
    user, password = call.values["username"], call.values["password"]
    if user is None and context.clients.open_to_all:
        raise CommandError(
            "AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        )
    context.clients.check_password(connection, USER if user is None else user, password)
    return OK


def select(_: Context, connection: Connection, call: Call) -> Any:
    connection.db = call.values["index"]
    return OK


# --- CLIENT --------------------------------------------------------------------------------------


def client_id(_: Context, connection: Connection, __: Call) -> Any:
    return connection.id


def client_getname(_: Context, connection: Connection, __: Call) -> Any:
    return connection.name or None


def client_setname(_: Context, connection: Connection, call: Call) -> Any:
    connection.name = call.values["name"]
    return OK


def client_setinfo(_: Context, connection: Connection, call: Call) -> Any:
    if call.values["lib_name"] is not None:
        connection.library_name = call.values["lib_name"]
    else:
        connection.library_version = call.values["lib_ver"]
    return OK


def client_info(context: Context, connection: Connection, _: Call) -> Any:
    return Verbatim(_line(context, connection) + "\n")


def client_list(context: Context, _: Connection, call: Call) -> Any:
    ids = call.values["ids"]
    lines = [
        _line(context, other) + "\n"
        for other in context.clients
        if (not ids or other.id in ids) and _is_type(other, call.values["type"])
    ]
    return Verbatim("".join(lines))


def client_kill(context: Context, connection: Connection, call: Call) -> Any:
    address = call.values["address"]
    if address is not None:
        for other in context.clients:
            if other.address.encode() == address:
                _kill(other, connection)
                return OK
        raise CommandError("No such client")
    killed = 0
    for other in _matching(context, connection, call.values):
        _kill(other, connection)
        killed += 1
    return killed


def client_unblock(context: Context, asker: Connection, call: Call) -> Any:
    """1 when the connection was blocked and is no more because of this, else 0."""
    other = context.clients.get(call.values["client_id"])
    if other is None or not other.blocked or other.log_id is None:
        return 0
    is_error = call.values["unblock_type"] == "ERROR"
    asker.await_delivery()
    context.engine.submit(_Unblocker(asker), [Unblock(other.log_id, is_error)])
    return LATER


class _Unblocker:
    """The client of an Unblock: the outcome is a number, or why there is none."""

    def __init__(self, asker: Connection) -> None:
        self._asker = asker

    def deliver(self, results: Sequence[Result]) -> None:
        result = results[0]
        self._asker.deliver([result.count if isinstance(result, Cancelled) else result])

    def abort(self) -> None:
        self._asker.abort()


def client_capa(_: Context, __: Connection, ___: Call) -> Any:
    return OK


def client_pause(context: Context, _: Connection, call: Call) -> Any:
    what = Pausing(call.values["mode"] or "ALL")
    context.clients.pause(what, call.values["timeout"])
    return OK


def client_unpause(context: Context, _: Connection, __: Call) -> Any:
    context.clients.unpause()
    return OK


def client_tracking(_: Context, __: Connection, call: Call) -> Any:
    if call.values["status"] == "ON":
        raise CommandError(
            "client-side caching is not offered, because a lock must not be read from a cache: "
            "turn it off in the client. LOCK.WATCH tells when holds end"
        )
    return OK


def client_trackinginfo(_: Context, __: Connection, ___: Call) -> Any:
    return {"flags": Members(("off",)), "redirect": -1, "prefixes": []}


def client_getredir(_: Context, __: Connection, ___: Call) -> Any:
    return -1


def client_flag(_: Context, connection: Connection, call: Call) -> Any:
    """NO-EVICT and NO-TOUCH: kept for CLIENT LIST, and without any other effect."""
    enabled = call.values["enabled"] == "ON"
    if call.command.name.endswith("NO-EVICT"):
        connection.no_evict = enabled
    else:
        connection.no_touch = enabled
    return OK


def client_reply(_: Context, connection: Connection, call: Call) -> Any:
    connection.set_replies(call.values["mode"])
    return OK if call.values["mode"] == "ON" else NOTHING


def _matching(context: Context, asker: Connection, wanted: dict[str, Any]) -> Iterator[Connection]:
    for other in context.clients:
        if other is asker and wanted["skipme"] != "NO":
            continue
        if wanted["id"] is not None and other.id != wanted["id"]:
            continue
        if wanted["addr"] is not None and other.address.encode() != wanted["addr"]:
            continue
        if wanted["laddr"] is not None and other.local_address.encode() != wanted["laddr"]:
            continue
        if wanted["user"] is not None and wanted["user"] != USER:
            continue
        if _is_type(other, wanted["type"]):
            yield other


def _is_type(connection: Connection, wanted: str | None) -> bool:
    return wanted in (None, "PUBSUB" if connection.subscriptions else "NORMAL")


def _kill(victim: Connection, asker: Connection) -> None:
    """Close a connection; the one that asks gets its reply first."""
    if victim is asker:
        victim.close_when_answered()
    else:
        victim.abort()


def _line(context: Context, connection: Connection) -> str:
    """A connection as CLIENT LIST shows it, with the fields of Redis 7.2."""
    subscriptions = context.clients.pubsub.of(connection)
    fields = {
        "id": connection.id,
        "addr": connection.address,
        "laddr": connection.local_address,
        "fd": connection.file_descriptor,
        "name": connection.name.decode(errors="replace"),
        "age": (now_ms() - connection.created_ms) // 1000,
        "idle": context.clients.idle_ms(connection) // 1000,
        "flags": _flags(context, connection),
        "db": connection.db,
        "sub": len(subscriptions.channels),
        "psub": len(subscriptions.patterns),
        "ssub": len(subscriptions.shard_channels),
        "multi": -1 if connection.transaction is None else len(connection.transaction),
        "qbuf": connection.unparsed,
        "qbuf-free": 0,
        "argv-mem": 0,
        "multi-mem": connection.queued_bytes,
        "rbs": 0,
        "rbp": 0,
        "obl": 0,
        "oll": 0,
        "omem": connection.unsent,
        "tot-mem": connection.unparsed + connection.unsent,
        "events": "r",
        "cmd": connection.last_command,
        "user": USER.decode(),
        "redir": -1,
        "resp": connection.protocol_version,
        "lib-name": connection.library_name.decode(errors="replace"),
        "lib-ver": connection.library_version.decode(errors="replace"),
    }
    return " ".join(f"{name}={value}" for name, value in fields.items())


def _flags(context: Context, connection: Connection) -> str:
    """In Redis's order; N for none."""
    flags = {
        "O": connection in context.clients.monitors,
        "P": connection.subscriptions,
        "x": connection.transaction is not None,
        "b": connection.blocked,
        "r": connection.read_only,
        "e": connection.no_evict,
        "T": connection.no_touch,
    }
    return "".join(letter for letter, is_set in flags.items() if is_set) or "N"


HANDLERS: dict[str, Handler] = {
    "PING": ping,
    "ECHO": echo,
    "QUIT": quit_,
    "RESET": reset,
    "HELLO": hello,
    "AUTH": auth,
    "SELECT": select,
    "CLIENT CAPA": client_capa,
    "CLIENT GETREDIR": client_getredir,
    "CLIENT ID": client_id,
    "CLIENT GETNAME": client_getname,
    "CLIENT SETNAME": client_setname,
    "CLIENT SETINFO": client_setinfo,
    "CLIENT INFO": client_info,
    "CLIENT LIST": client_list,
    "CLIENT KILL": client_kill,
    "CLIENT NO-EVICT": client_flag,
    "CLIENT NO-TOUCH": client_flag,
    "CLIENT REPLY": client_reply,
    "CLIENT PAUSE": client_pause,
    "CLIENT UNPAUSE": client_unpause,
    "CLIENT TRACKING": client_tracking,
    "CLIENT TRACKINGINFO": client_trackinginfo,
    "CLIENT UNBLOCK": client_unblock,
}
