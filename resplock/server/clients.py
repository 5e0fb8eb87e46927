"""Who is connected: admission, deadlines, memory, and what the log says of clients.

I/O layer. A connection's deadlines are watched by one sweep a second over all connections, so that
they cost nothing per command; it goes in small parts, so that ten thousand of them stall nobody. The
memory that all clients together hold back (begun commands,
replies not read) is bounded too: beyond limits.CLIENTS_BYTES_MAX, whoever holds most is disconnected.

Whatever clients do, the log has at most one line a minute of each kind about it, with a count.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import resource
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import structlog

from resplock import limits
from resplock.config import Settings
from resplock.errors import CommandError
from resplock.operations import Execute, Watch
from resplock.resp.commands import Call, Command, Flag, Meets
from resplock.resp.replies import Failure
from resplock.server import transactions
from resplock.server.clocks import now_ms
from resplock.server.connection import Connection, Pausing
from resplock.server.engine import Engine
from resplock.server.events import Events
from resplock.server.monitors import Monitors
from resplock.server.pubsub import PubSub

if TYPE_CHECKING:
    from resplock.server.local import LocalCommands

logger = structlog.get_logger()

_SWEEP_EVERY_S = 1.0
_SWEEP_PARTS = 10
_CHARGED_BYTES_MAX = 32 << 20
_DENIED = (
    "resplock is running in protected mode: no password is set, and you are not on this machine. "
    "Set one with --requirepass, or, if every host that reaches this port may take locks, start it "
    "with --no-protected-mode."
)


class _Watched:
    """What the sweep remembers of a connection from its last look. A moment of 0 is "not now"."""

    __slots__ = (
        "commands_run",
        "idle_since_ms",
        "partial_since_ms",
        "strange_since_ms",
        "unread_since_ms",
        "unsent",
    )

    def __init__(self, stamp_ms: int) -> None:
        self.commands_run = 0
        self.idle_since_ms = stamp_ms
        self.partial_since_ms = 0
        self.strange_since_ms = 0
        self.unread_since_ms = 0
        self.unsent = 0


class _Complaint:
    """One kind of trouble with clients, as far as the log has it."""

    __slots__ = ("count", "logged_ms", "who")

    def __init__(self) -> None:
        self.count = 0
        self.logged_ms = -limits.COMPLAINT_EVERY_MS
        self.who: dict[str, object] = {}


class Clients:
    """All connections of one server, by id."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.local: LocalCommands | None = None
        self.pubsub = PubSub()
        self.received = 0
        self.refused = 0
        self.commands_of_gone = 0
        """Less those that CONFIG RESETSTAT has made forget."""
        self._engine = engine
        self.maxclients = settings.maxclients
        """What the setting says, or less: see `start`."""
        self.timeout_s = settings.timeout
        """After how many seconds an idle connection is closed; 0 is never."""
        self._connections: dict[int, Connection] = {}
        self._watched: dict[int, _Watched] = {}
        self._loop = asyncio.get_running_loop()
        self._sweeping: asyncio.TimerHandle | None = None
        self._to_sweep: list[Connection] = []
        self._part = 1
        self._held = 0
        self._serial = 0
        self._charged = 0
        self._complaints: dict[str, _Complaint] = {}
        self.call_soon: Callable[[Callable[[], None]], object] = self._loop.call_soon
        self.monitors = Monitors(self._tell_connections, self._loop.call_soon)
        self.pausing = Pausing.NOTHING
        self._paused_until_ms = 0
        self._unpausing: asyncio.TimerHandle | None = None
        self.events = Events(self.pubsub, self._keep_events, self.call_soon)

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._connections.values()))

    def _keep_events(self, keep: bool) -> None:
        node = self._engine.node
        node.keeps_events = keep
        if not keep:
            node.take_events()  # nobody is left to tell, and who comes later does not mean these

    @property
    def open_to_all(self) -> bool:
        """Whether no password is required."""
        return not self.settings.requirepass

    @property
    def blocked(self) -> int:
        """How many wait in line."""
        return sum(connection.blocked for connection in self._connections.values())

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
        # A client that is gone already has no address any more.
        peer = transport.get_extra_info("peername") or ("", 0)
        local = transport.get_extra_info("sockname") or ("", 0)
        connection.address = _address(peer)
        connection.local_address = _address(local)
        if len(self._connections) >= self.maxclients:
            self.refused += 1
            self.complain("client refused: there are maxclients already", connection)
            return Failure("ERR", "max number of clients reached")
        if self.settings.protected_mode and self.open_to_all and not _is_loopback(peer[0]):
            self.refused += 1
            self.complain(
                "client refused: protected mode, and it is not on this machine", connection
            )
            return Failure("DENIED", _DENIED)
        connection.id = self.new_serial()
        connection.created_ms = now_ms()
        connection.authenticated = connection.parser.authenticated = self.open_to_all
        self._connections[connection.id] = connection
        self._watched[connection.id] = _Watched(connection.created_ms)
        connection.follow()
        return None

    def new_serial(self) -> int:
        """A number that no connection of this process has had, as its id or in the log."""
        self._serial += 1
        return self._serial

    def turn_away(self) -> None:
        """This node shuts down: end what is attached to its clients while it can still say so."""
        for connection in self:
            connection.turn_away()

    def remove(self, connection: Connection) -> None:
        """A connection is gone."""
        if self._connections.pop(connection.id, None) is not None:
            del self._watched[connection.id]
            self.commands_of_gone += connection.commands_run
            self.pubsub.leave(connection)
            self.events.leave(connection)
            self.monitors.leave(connection)

    def get(self, client_id: int) -> Connection | None:
        """The connection with this id, if it is there."""
        return self._connections.get(client_id)

    def _tell_connections(self) -> None:
        """What holds for all of them has changed."""
        for connection in self:
            connection.follow()

    # --- CLIENT PAUSE ----------------------------------------------------------------------------

    def pause(self, what: Pausing, for_ms: int) -> None:
        """Let commands of all clients wait. As in Redis, the longer of two pauses counts."""
        until_ms = max(self._paused_until_ms, now_ms() + for_ms)
        if self.pausing is not Pausing.ALL:
            self.pausing = what
        self._paused_until_ms = until_ms
        if self._unpausing is not None:
            self._unpausing.cancel()
        self._unpausing = self._loop.call_later((until_ms - now_ms()) / 1000, self.unpause)
        self._tell_connections()

    def unpause(self) -> None:
        """Let them go on."""
        if self._unpausing is not None:
            self._unpausing.cancel()
            self._unpausing = None
        self.pausing = Pausing.NOTHING
        self._paused_until_ms = 0
        self._tell_connections()

    def holds_back(self, command: Command) -> bool:
        """Whether a command has to wait because of a pause, which UNPAUSE may end from anywhere."""
        if self.pausing is Pausing.NOTHING:
            return False
        if self.pausing is Pausing.WRITES:
            return command.meets is Meets.PROPOSE
        return command.name != "CLIENT UNPAUSE"

    # --- commands --------------------------------------------------------------------------------

    def permit(self, connection: Connection, command: Command) -> None:
        """Raise NOAUTH unless the client may run this command now."""
        if not connection.authenticated and Flag.NO_AUTH not in command.flags:
            raise CommandError("Authentication required.", "NOAUTH")

    def check_password(self, connection: Connection, user: bytes, password: bytes) -> None:
        """Authenticate, or raise WRONGPASS. The only user is `default`."""
        expected = self.settings.requirepass.encode(errors="surrogateescape")
        right = hmac.compare_digest(password, expected)
        if user != b"default" or not (right or self.open_to_all):
            self.complain("wrong user or password", connection)
            raise CommandError("invalid username-password pair or user is disabled.", "WRONGPASS")
        connection.authenticate()

    def run(self, connection: Connection, call: Call) -> None:
        """Run a command that concerns only this server or this connection."""
        assert self.local is not None
        self.local.run(connection, call)

    def transact(self, connection: Connection, bound: Watch | Execute) -> None:
        """Run WATCH or EXEC, which are answered with their outcome."""
        assert self.local is not None
        if isinstance(bound, Watch):
            transactions.watch(connection, self._engine, bound)
        else:
            transactions.execute(connection, self._engine, self.local.answer)

    # --- the sweep -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch the connections. Call it before the first one is there.

        As many clients are admitted as the system allows file descriptors for, up to the setting.
        """
        self.maxclients = self.possible(self.settings.maxclients)
        if self.maxclients < self.settings.maxclients:
            logger.warning(
                "fewer clients than maxclients: the limit of open files (ulimit -n) is low",
                wanted=self.settings.maxclients,
                maxclients=self.maxclients,
            )
        self._sweeping = self._loop.call_later(_SWEEP_EVERY_S / _SWEEP_PARTS, self._sweep)

    def possible(self, wanted: int) -> int:
        """How many of `wanted` clients the system allows."""
        return min(wanted, _descriptors(wanted))

    def reset_statistics(self) -> None:
        """Count anew."""
        self.received = self.refused = 0
        self.commands_of_gone -= self.commands_run

    def stop(self) -> None:
        """Close every connection, after what was delivered is sent."""
        for timer in (self._sweeping, self._unpausing):
            if timer is not None:
                timer.cancel()
        for connection in self:
            connection.close()

    def idle_ms(self, connection: Connection) -> int:
        """How long this client has sent nothing, to about a second."""
        watched = self._watched[connection.id]
        if connection.commands_run != watched.commands_run:
            return 0
        return now_ms() - watched.idle_since_ms

    def _sweep(self) -> None:
        """Look at the next part of the connections, or begin anew."""
        self._sweeping = self._loop.call_later(_SWEEP_EVERY_S / _SWEEP_PARTS, self._sweep)
        stamp_ms = now_ms()
        if not self._to_sweep:
            self._begin_sweep(stamp_ms)
        part = self._to_sweep[-self._part :]
        del self._to_sweep[-self._part :]
        for connection in part:
            watched = self._watched.get(connection.id)
            if watched is None:
                continue  # it has gone since the sweep began
            overdue = self._overdue(connection, watched, stamp_ms)
            if overdue:
                self.close(connection, overdue)
            else:
                self._held += connection.parser.buffered + watched.unsent + connection.queued_bytes
                self._held += self.pubsub.of(connection).bytes + self.events.bytes_of(connection)

    def _begin_sweep(self, stamp_ms: int) -> None:
        """The last sweep is over: what it has found, and whom the next one is to look at."""
        if self._held > limits.CLIENTS_BYTES_MAX:
            self._relieve()
        self._held = 0
        for kind, complaint in self._complaints.items():
            if complaint.count and stamp_ms - complaint.logged_ms >= limits.COMPLAINT_EVERY_MS:
                self._log(kind, complaint, stamp_ms)
        self._to_sweep = list(self._connections.values())
        self._part = len(self._to_sweep) // _SWEEP_PARTS + 1

    def _overdue(self, connection: Connection, watched: _Watched, stamp_ms: int) -> str:
        """Which deadline the connection has missed; empty for none."""
        if self._is_stranger(connection, watched, stamp_ms):
            return "it did not authenticate"
        if self._leaves_unread(connection, watched, stamp_ms):
            return "it does not read its replies"
        if connection.holds_on_close and self._engine.node.is_cut_off:
            return "there is no leader, and it may have holds that end with it"
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
        timeout_ms = self.timeout_s * 1000
        if (
            timeout_ms
            and not connection.subscriptions
            and connection not in self.monitors
            and not self.events.watched(connection)
            and stamp_ms - watched.idle_since_ms > timeout_ms
        ):
            return "it was idle"
        return ""

    def _is_stranger(self, connection: Connection, watched: _Watched, stamp_ms: int) -> bool:
        """Whether it has sent something and does not authenticate. Silence is allowed: pools wait."""
        if connection.authenticated or connection.was_authenticated:
            return False
        if not watched.strange_since_ms:
            if connection.commands_run or connection.parser.partial:
                watched.strange_since_ms = stamp_ms
            return False
        return stamp_ms - watched.strange_since_ms > limits.UNAUTHENTICATED_MS_MAX

    def _leaves_unread(self, connection: Connection, watched: _Watched, stamp_ms: int) -> bool:
        """Whether it has read nothing for too long of too much."""
        unsent, before = connection.unsent, watched.unsent
        watched.unsent = unsent
        if unsent <= (0 if connection.ending else limits.OUTPUT_BUFFER_BYTES_MAX):
            watched.unread_since_ms = 0
        elif not watched.unread_since_ms or unsent < before:
            watched.unread_since_ms = stamp_ms
        else:
            return stamp_ms - watched.unread_since_ms > limits.UNREAD_MS_MAX
        return False

    # --- memory ----------------------------------------------------------------------------------

    def charge(self, size: int) -> None:
        """Note that a client makes this process keep `size` bytes, perhaps only for a moment."""
        self._charged += size
        if self._charged >= _CHARGED_BYTES_MAX:
            self._relieve()

    def _relieve(self) -> None:
        """Disconnect those who hold most back while all together hold back too much."""
        self._charged = 0
        held = [(connection.memory, connection.id) for connection in self._connections.values()]
        total = sum(size for size, _ in held)
        if total <= limits.CLIENTS_BYTES_MAX:
            return
        for size, client_id in sorted(held, reverse=True):
            self.close(
                self._connections[client_id], "clients hold too much memory, and it the most"
            )
            total -= size
            if total <= limits.CLIENTS_BYTES_MAX // 2:
                return

    # --- what the log says of clients ------------------------------------------------------------

    def close(self, connection: Connection, reason: str) -> None:
        """Disconnect a client at once, and complain about it."""
        self.complain("client closed: " + reason, connection)
        connection.abort()

    def complain(self, kind: str, connection: Connection) -> None:
        """Log trouble with a client: at most a line a minute of each kind, `count` tells of how many.

        `kind` is one of a few texts and holds nothing that a client has sent.
        """
        complaint = self._complaints.setdefault(kind, _Complaint())
        complaint.count += 1
        complaint.who = connection.describe()
        stamp_ms = now_ms()
        if stamp_ms - complaint.logged_ms >= limits.COMPLAINT_EVERY_MS:
            self._log(kind, complaint, stamp_ms)

    def _log(self, kind: str, complaint: _Complaint, stamp_ms: int) -> None:
        logger.warning(kind, count=complaint.count, **complaint.who)
        complaint.count = 0
        complaint.logged_ms = stamp_ms


def _descriptors(wanted: int) -> int:
    """How many of `wanted` connections this process can have open; raises its own limit if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + limits.DESCRIPTORS_RESERVED
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (OSError, ValueError):
            pass  # some systems have a lower bound of their own
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(soft - limits.DESCRIPTORS_RESERVED, 1)


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
