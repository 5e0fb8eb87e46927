"""Who is connected: admission, the connection sweep, and what CLIENT LIST tells.

I/O layer. A connection's deadlines are watched by one sweep a second over all connections, so that
they cost nothing per command.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog

from resplock import limits
from resplock.config import Settings
from resplock.errors import CommandError
from resplock.resp.commands import Call, Command, Flag
from resplock.resp.replies import Failure
from resplock.server.connection import Connection
from resplock.server.engine import Engine, now_ms

if TYPE_CHECKING:
    from resplock.server.local import LocalCommands

logger = structlog.get_logger()

_SWEEP_EVERY_S = 1.0
_DENIED = (
    "resplock is running in protected mode: no password is set, and you are not on this machine. "
    "Set one with --requirepass, or, if every host that reaches this port may take locks, start it "
    "with --no-protected-mode."
)


class _Watched:
    """What the sweep remembers of a connection from its last look."""

    __slots__ = ("commands_run", "idle_since_ms", "partial_since_ms")

    def __init__(self, stamp_ms: int) -> None:
        self.commands_run = 0
        self.idle_since_ms = stamp_ms
        self.partial_since_ms = 0


class Clients:
    """All connections of one server, by id."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.local: LocalCommands | None = None
        self.received = 0
        self.refused = 0
        self.commands_of_gone = 0
        self._engine = engine
        self._connections: dict[int, Connection] = {}
        self._watched: dict[int, _Watched] = {}
        self._loop = asyncio.get_running_loop()
        self._sweeping: asyncio.TimerHandle | None = None
        self._serial = 0

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._connections.values()))

    @property
    def open_to_all(self) -> bool:
        """Whether no password is required."""
        return not self.settings.requirepass

    @property
    def commands_run(self) -> int:
        """Commands since the start, of all connections."""
        return self.commands_of_gone + sum(
            connection.commands_run for connection in self._connections.values()
        )

    def connect(self) -> Connection:
        """The protocol of a new connection."""
        return Connection(self, self._engine)

    def admit(self, connection: Connection, transport: asyncio.Transport) -> Failure | None:
        """Take a connection in, or say why not."""
        self.received += 1
        peer = transport.get_extra_info("peername")
        local = transport.get_extra_info("sockname")
        if len(self._connections) >= self.settings.maxclients:
            self.refused += 1
            return Failure("ERR", "max number of clients reached")
        if self.settings.protected_mode and self.open_to_all and not _is_loopback(peer[0]):
            self.refused += 1
            return Failure("DENIED", _DENIED)
        self._serial += 1
        connection.id = self._serial
        connection.address = _address(peer)
        connection.local_address = _address(local)
        connection.created_ms = now_ms()
        connection.authenticated = connection.parser.authenticated = self.open_to_all
        self._connections[connection.id] = connection
        self._watched[connection.id] = _Watched(connection.created_ms)
        return None

    def remove(self, connection: Connection) -> None:
        """A connection is gone."""
        if self._connections.pop(connection.id, None) is not None:
            del self._watched[connection.id]
            self.commands_of_gone += connection.commands_run

    def get(self, client_id: int) -> Connection | None:
        """The connection with this id, if it is there."""
        return self._connections.get(client_id)

    # --- commands --------------------------------------------------------------------------------

    def permit(self, connection: Connection, command: Command) -> None:
        """Raise NOAUTH unless the client may run this command now."""
        if not connection.authenticated and Flag.NO_AUTH not in command.flags:
            raise CommandError("Authentication required.", "NOAUTH")

    def check_password(self, connection: Connection, user: bytes, password: bytes) -> None:
        """Authenticate, or raise WRONGPASS. The only user is `default`."""
        expected = self.settings.requirepass.encode()
        right = hmac.compare_digest(password, expected)
        if user != b"default" or not (right or self.open_to_all):
            logger.warning("wrong password", **connection.describe())
            raise CommandError("invalid username-password pair or user is disabled.", "WRONGPASS")
        connection.authenticate()

    def run(self, connection: Connection, call: Call) -> None:
        """Run a command that concerns only this server or this connection."""
        assert self.local is not None
        self.local.run(connection, call)

    # --- the sweep -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch the connections' deadlines."""
        self._sweeping = self._loop.call_later(_SWEEP_EVERY_S, self._sweep)

    def stop(self) -> None:
        """Close every connection, after what was delivered is sent."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in self:
            connection.close()

    def idle_ms(self, connection: Connection) -> int:
        """How long this client has sent nothing, to about a second."""
        watched = self._watched[connection.id]
        if connection.commands_run != watched.commands_run:
            return 0
        return now_ms() - watched.idle_since_ms

    def _sweep(self) -> None:
        self._sweeping = self._loop.call_later(_SWEEP_EVERY_S, self._sweep)
        stamp_ms = now_ms()
        for connection in self:
            overdue = self._overdue(connection, self._watched[connection.id], stamp_ms)
            if overdue:
                logger.info("client closed: " + overdue, **connection.describe())
                connection.abort()

    def _overdue(self, connection: Connection, watched: _Watched, stamp_ms: int) -> str:
        """Which deadline the connection has missed; empty for none."""
        if connection.commands_run != watched.commands_run or not connection.idle:
            watched.commands_run = connection.commands_run
            watched.idle_since_ms = stamp_ms
            watched.partial_since_ms = 0
            return ""
        if not connection.parser.partial:
            watched.partial_since_ms = 0
        elif not watched.partial_since_ms:
            watched.partial_since_ms = stamp_ms
        elif stamp_ms - watched.partial_since_ms > limits.PARTIAL_COMMAND_MS_MAX:
            return "it began a command and did not finish it"
        if not connection.authenticated and connection.parser.partial:
            if stamp_ms - connection.created_ms > limits.UNAUTHENTICATED_MS_MAX:
                return "it did not authenticate"
        timeout_ms = self.settings.timeout * 1000
        if timeout_ms and stamp_ms - watched.idle_since_ms > timeout_ms:
            return "it was idle"
        return ""


def _address(name: tuple[str, int]) -> str:
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
