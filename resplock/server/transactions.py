"""MULTI, EXEC and WATCH of one connection: what it has queued, and what it watches.

I/O layer, but for the rules of what may be queued. `resplock.state.transactions` has the other half.

Between MULTI and EXEC a connection has a `Transaction`, to which it hands every command instead of
running it. Commands are bound when they are queued, in the database that SELECTs queued before them
choose; what a binder refuses is an element of EXEC's reply, as in Redis. EXEC makes of the
operations and queries one Execute, of which the log knows; calls for the node itself are run when its
outcome is there, each in its place among the replies. So they take effect exactly if the rest does.

Nothing is known to the log before EXEC but numbers that WATCH asks for, so that DISCARD, RESET and the
end of a connection leave nothing behind.

What may not be queued is refused at once, and EXEC then refuses the whole: what waits in line,
because an entry does not, and what answers later or otherwise than by one reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from resplock import limits
from resplock.errors import CommandError
from resplock.node import Result
from resplock.operations import (
    Acquire,
    AcquireAll,
    Execute,
    Executed,
    Look,
    Operation,
    Query,
    Scripted,
    Told,
    Watch,
    Watched,
)
from resplock.resp.commands import Bound, Call, Command, Meets
from resplock.resp.replies import ENCODERS, encode, encode_error

if TYPE_CHECKING:
    from resplock.server.connection import Connection
    from resplock.server.engine import Engine

RunLocally: TypeAlias = "Callable[[Connection, Call], Any]"
"""Gives the value of the reply to a local command; raises CommandError."""

AT_ONCE = frozenset({"MULTI", "EXEC", "DISCARD", "WATCH", "QUIT", "RESET"})
"""What is not queued, as in Redis."""

_QUEUED_CALLS = frozenset(
    {
        *("PING", "ECHO", "SELECT", "HELLO", "AUTH", "UNWATCH"),
        *("CLIENT GETNAME", "CLIENT ID", "CLIENT INFO", "CLIENT LIST", "CLIENT NO-EVICT"),
        *("CLIENT NO-TOUCH", "CLIENT SETINFO", "CLIENT SETNAME"),
        *("COMMAND", "COMMAND COUNT", "COMMAND DOCS", "COMMAND GETKEYS", "COMMAND INFO"),
        *("COMMAND LIST", "CONFIG GET", "INFO", "ROLE", "TIME", "LOCK.HELP"),
        *("ASKING", "READONLY", "READWRITE"),
    }
)
"""The local commands that may be queued: each is answered at once, by one reply."""

_NOT_ALLOWED = "Command not allowed inside a transaction"
_WAITS = "a transaction does not wait: WAIT and LOCK.ENQUEUE are not allowed between MULTI and EXEC"


class Transaction:
    """What a connection has queued since MULTI, in order."""

    __slots__ = ("_db", "_items", "_slow", "bytes", "is_broken")

    def __init__(self, db: int) -> None:
        """`db` is where its first command looks for its keys."""
        self._db = db
        self._items: list[Bound | CommandError] = []
        self._slow = 0
        self.bytes = 0
        """About how much memory it takes."""
        self.is_broken = False
        """A command was refused: EXEC runs none of them."""

    def __len__(self) -> int:
        return len(self._items)

    def queue(self, command: Command, argv: list[bytes]) -> None:
        """Take a command. Raises CommandError when it may not be queued; then nothing is kept."""
        try:
            bound = self._admit(command, argv)
        except CommandError:
            self.break_off()
            raise
        if not self.is_broken:
            self._items.append(bound)

    def break_off(self) -> None:
        """A command was refused."""
        self.is_broken = True
        self._items.clear()
        self.bytes = 0

    def _admit(self, command: Command, argv: list[bytes]) -> Bound | CommandError:
        if not command.has_arity(argv):
            raise command.wrong_arity()
        if command.meets is Meets.LOCAL and command.name not in _QUEUED_CALLS:
            raise CommandError(_NOT_ALLOWED)
        bound = self._bound(command, argv)
        if _waits(bound):
            raise CommandError(_WAITS)
        self._charge(command, argv)
        if isinstance(bound, Call) and command.name == "SELECT":
            self._db = bound.values["index"]
        return bound

    def _bound(self, command: Command, argv: list[bytes]) -> Bound | CommandError:
        try:
            return command.bind(argv, self._db)
        except CommandError as error:
            return error

    def _charge(self, command: Command, argv: list[bytes]) -> None:
        """Count a command against what one transaction may hold."""
        if len(self._items) >= limits.TRANSACTION_COMMANDS_MAX:
            raise CommandError(
                f"a transaction may have {limits.TRANSACTION_COMMANDS_MAX} commands at most"
            )
        self._slow += not command.goes_along
        if self._slow > limits.TRANSACTION_SLOW_MAX:
            raise CommandError(
                f"a transaction may have {limits.TRANSACTION_SLOW_MAX} commands like "
                f"{command.name} at most"
            )
        self.bytes += sum(map(len, argv)) + limits.TRANSACTION_ARGUMENT_BYTES * len(argv)
        if self.bytes > limits.TRANSACTION_BYTES_MAX:
            raise CommandError(
                f"the commands of a transaction may have {limits.TRANSACTION_BYTES_MAX} bytes at "
                f"most, with {limits.TRANSACTION_ARGUMENT_BYTES} for each argument"
            )

    def steps(self) -> Iterator[Operation]:
        """What the log is to carry out."""
        for item in self._items:
            if isinstance(item, Query):
                yield Look(item)
            elif not isinstance(item, Call | CommandError):
                yield item

    def replies(
        self, connection: Connection, results: Sequence[Told], run_locally: RunLocally
    ) -> bytes:
        """EXEC's reply. `results`: of the steps. Runs what is for this node itself."""
        parts = [b"*%d\r\n" % len(self._items)]
        left = iter(results)
        for item in self._items:
            if isinstance(item, CommandError):
                parts.append(encode_error(item))
            elif isinstance(item, Call):
                parts.append(_reply_to(item, connection, run_locally))
            else:
                result = next(left)
                parts.append(ENCODERS[connection.protocol_version][type(result)](result))
        return b"".join(parts)


def _waits(bound: Bound | CommandError) -> bool:
    """Whether it takes a place in line."""
    if not isinstance(bound, Acquire | AcquireAll) or bound.options is None:
        return False
    return bound.options.wait_ms > 0 or not bound.options.blocking


def _reply_to(call: Call, connection: Connection, run_locally: RunLocally) -> bytes:
    try:
        value = run_locally(connection, call)
    except CommandError as error:
        return encode_error(error)
    return encode(value, connection.protocol_version)


# --- what the commands do --------------------------------------------------------------------------


def begin(connection: Connection) -> None:
    """MULTI."""
    if connection.transaction is not None:
        raise CommandError("MULTI calls can not be nested")
    connection.enter(Transaction(connection.db))


def discard(connection: Connection) -> None:
    """DISCARD."""
    if connection.transaction is None:
        raise CommandError("DISCARD without MULTI")
    abandon(connection)


def abandon(connection: Connection) -> None:
    """Forget what is queued and what is watched."""
    connection.enter(None)
    connection.watched = {}


def watch(connection: Connection, engine: Engine, wanted: Watch) -> None:
    """WATCH: the reply comes with the numbers of the keys."""
    if connection.transaction is not None:
        raise CommandError("WATCH inside MULTI is not allowed")
    if len(connection.watched.keys() | wanted.names) > limits.WATCHED_PER_CONNECTION:
        raise CommandError(f"a connection may watch {limits.WATCHED_PER_CONNECTION} keys at most")
    connection.await_delivery()
    engine.submit(_Watcher(connection, wanted), [wanted])


def execute(connection: Connection, engine: Engine, run_locally: RunLocally) -> None:
    """EXEC: the reply comes with the outcome."""
    transaction, watched = connection.transaction, connection.watched
    if transaction is None:
        raise CommandError("EXEC without MULTI")
    abandon(connection)
    if transaction.is_broken:
        raise CommandError("Transaction discarded because of previous errors.", "EXECABORT")
    steps = tuple([connection.named(step) for step in transaction.steps()])
    connection.await_delivery()
    execution = _Execution(connection, transaction, run_locally)
    engine.submit(execution, [Execute(steps, tuple(watched.items()))])


class _Watcher:
    """The client of a Watch."""

    def __init__(self, connection: Connection, wanted: Watch) -> None:
        self._connection = connection
        self._wanted = wanted

    def deliver(self, results: Sequence[Result]) -> None:
        result = results[0]
        if isinstance(result, Watched):
            for name, number in zip(self._wanted.names, result.numbers, strict=True):
                self._connection.watched.setdefault(name, number)
        self._connection.deliver(results)

    def abort(self) -> None:
        self._connection.abort()


class _Execution:
    """The client of an Execute."""

    def __init__(
        self, connection: Connection, transaction: Transaction, run_locally: RunLocally
    ) -> None:
        self._connection = connection
        self._transaction = transaction
        self._run_locally = run_locally

    def deliver(self, results: Sequence[Result]) -> None:
        result = results[0]
        if isinstance(result, Executed) and result.results is not None:
            reply = self._transaction.replies(self._connection, result.results, self._run_locally)
            results = [Scripted(reply)]
        self._connection.deliver(results)

    def abort(self) -> None:
        self._connection.abort()
