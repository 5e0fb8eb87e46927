"""One client's connection: bytes in, commands to the engine, replies out, in order.

I/O layer: a thin asyncio.Protocol round the pure parser and the command table.

Program order: a command that changes the table is proposed as soon as it is read, while earlier ones
are outstanding, because the log keeps their order; so are consecutive reads. Where the kind changes
(a read behind operations, a local command behind either), the rest of what was read waits in the
backlog until everything outstanding is answered.

Waiting in line blocks the connection as BLPOP does in Redis: what is sent behind it waits in the
backlog. Its socket is read on, so that it is noticed when the client leaves: then its place is given
up. A client that shuts down its sending side while it waits has left.

Back-pressure, never a close: nothing more of a client is run while PIPELINE_DEPTH_MAX of its commands
wait for their reply, or while it leaves OUTPUT_PAUSE_BYTES of replies unread; its socket is read no
further than QUERY_BUFFER_BYTES_MAX ahead of that. `Clients` closes those who take far too much.

Fairness: what one client may run in one turn of the event loop is bounded, so that the others wait
for milliseconds, whatever it sends. After PIPELINE_DEPTH_MAX commands, or one local command that is
not flagged FAST, the rest of what was read waits for the next turn.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from resplock.errors import CommandError, ProtocolError
from resplock.limits import (
    DISCONNECTS_QUEUED_MAX,
    OUTPUT_PAUSE_BYTES,
    PIPELINE_DEPTH_MAX,
    PUSHED_BYTES_MAX,
    QUERY_BUFFER_BYTES_MAX,
)
from resplock.node import Result
from resplock.operations import (
    Acquire,
    AcquireAll,
    ClientId,
    Execute,
    Flush,
    Granted,
    Operation,
    Options,
    Query,
    Watch,
)
from resplock.resp.alike import LIKENESS_KEY_BYTES, Likeness, learn
from resplock.resp.commands import COMMANDS, Call, Command, Group, Meets, find
from resplock.resp.parser import Parser
from resplock.resp.replies import (
    ENCODERS,
    PIPELINE_ENCODERS,
    Failure,
    Push,
    Simple,
    encode,
    encode_error,
    encode_results,
)
from resplock.server import transactions
from resplock.server.flushing import Flushing
from resplock.server.transactions import AT_ONCE, Transaction
from resplock.types import LockName

if TYPE_CHECKING:
    from resplock.server.clients import Clients
    from resplock.server.engine import Engine

PROPOSALS = {
    spelling: cast("Callable[[list[bytes], int], Operation]", command.bind)
    for name, command in COMMANDS.items()
    if command.meets is Meets.PROPOSE and command.goes_along
    if command.group is not Group.TRANSACTIONS
    for spelling in (name, name.lower())
}
"""The binders of the commands that are proposed, by the name in capitals or in small letters. What
this buys: one lookup for each command on the hottest path; `find` takes care of every other spelling
and command, which then goes alone. So does what is not FAST: a KEEPALIVE costs as much as its owner
has holds, and a pipeline of them must not become one entry."""

_ENCODERS = {protocol: ENCODERS[protocol] | {CommandError: encode_error} for protocol in ENCODERS}
"""How each result of the node becomes bytes; it may also be an error that a query met."""

_READS_OUTSTANDING_MAX = 16
"""Each answer may have some 15 KB."""

_LEARN_EVERY = 17
"""Which of the lone operations that are like no other shows what later ones may be like: every one
would cost clients that never repeat themselves too much. (Odd, so that of two kinds by turns, such as
ACQUIRE and RELEASE, both are met.)"""

_FOR_SUBSCRIBERS = frozenset(
    {
        *("SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE"),
        *("PING", "QUIT", "RESET"),
    }
)
"""In RESP2 a message cannot be told from a reply: a subscriber may call nothing else there."""

_LARGE_READ_BYTES = 32 * 1024
"""What comes in smaller pieces is counted by the sweep of `Clients` alone."""


class Skip(enum.Enum):
    """How far CLIENT REPLY SKIP has come."""

    NO = 0
    NEXT = 1
    THIS = 2


_PROPOSE = Meets.PROPOSE
"""A name that the hottest path finds with one look."""

_QUEUED = Simple("QUEUED")

_SHUTTING_DOWN = Failure(
    "UNBLOCKED",
    "this node is shutting down: your place is given up, unless you ask another node with the same "
    "REQUEST",
)


class Pausing(enum.Enum):
    """What waits, of all clients of a node, because of CLIENT PAUSE."""

    NOTHING = "NOTHING"
    WRITES = "WRITE"
    ALL = "ALL"


class _Muted(dict[type, Callable[[Any], bytes]]):
    """The encoders of CLIENT REPLY OFF: every reply is empty."""

    def __missing__(self, _: type) -> Callable[[Any], bytes]:
        return _nothing


def _nothing(_: Any) -> bytes:
    return b""


_MUTED = _Muted()


class Connection(asyncio.Protocol):
    """A client. Its fields are what CLIENT LIST shows and what the local commands change."""

    def __init__(self, clients: Clients, engine: Engine) -> None:
        self._clients = clients
        self._engine = engine
        self.id = 0
        self.address = ""
        self.local_address = ""
        self.name = b""
        self.library_name = b""
        self.library_version = b""
        self.db = 0
        self.protocol_version = 2
        self.authenticated = False
        self.no_evict = False
        self.no_touch = False
        self.read_only = False
        self.subscriptions = 0
        self.commands_run = 0
        self._last: Command | bytes | None = None
        self.created_ms = 0
        self.parser = Parser()
        self._transport: asyncio.Transport | None = None
        self._write: Callable[[bytes], object] = _nothing
        self._alone = (self, 1)  # how the engine counts a lone operation of this client
        self._encoders = _ENCODERS[2]
        self._pipeline_encoders = PIPELINE_ENCODERS[2]
        self._likes: dict[bytes, Likeness] = {}
        self._muted = False
        self._skip = Skip.NO
        self._plain = True  # no MULTI, no CLIENT REPLY SKIP, no subscriber in RESP2, no pause
        self._told = False  # somebody is told what it sends
        self._direct = True  # it is plain, and nobody is told
        self._backlog: deque[list[bytes]] = deque()
        self._outstanding = 0
        self._outstanding_meets: Meets | None = (
            Meets.PROPOSE
        )  # None: the last of it may wait in line
        self._wanted: Acquire | AcquireAll | None = None  # what it waited for last
        self.transaction: Transaction | None = None
        """What it has queued since MULTI."""
        self.watched: dict[LockName, int] = {}
        """The keys that it watches, with what WATCH was told of each."""
        self._client_id: ClientId | None = None  # its name in the log, once it has one
        self._log_serial = 0
        self.holds_on_close = False
        """Whether it has ever asked for a hold that ends with it."""
        self._out: list[bytes] = []
        self._reading = True
        self._writable = True
        self._more = False  # what was read is not all taken yet
        self._ended = False  # nothing more comes in: close once everything is answered
        self._failure: ProtocolError | None = None  # to be told then
        self._closing = False
        self._gone = False  # it is told nothing more
        self._yielding = False  # it has had its turn
        self._yield_at = PIPELINE_DEPTH_MAX  # the count of commands that ends its turn
        self.was_authenticated = False

    # --- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop does not derive from it
        self._write = self._transport.write
        self._transport.set_write_buffer_limits(OUTPUT_PAUSE_BYTES)
        refusal = self._clients.admit(self, self._transport)
        if refusal is not None:
            self.reply(refusal)
            self.close()

    def data_received(self, data: bytes) -> None:
        # What `_take` and `_run` do, without what only a mixed pipeline needs. For operations like
        # earlier ones it takes a third off what each costs in process (a tenth where they are not
        # pipelined), and for another lone operation it saves a quarter.
        if not (self._outstanding or self._more) and self._direct and self._writable:
            like = self._likes.get(data[:LIKENESS_KEY_BYTES])
            if like is not None and self._propose_alike(like, data):
                return
            argv = self.parser.lone(data)
            if argv is not None and (bind := PROPOSALS.get(argv[0])) is not None:
                self._propose_one(bind, argv)
                return
        self.parser.feed(data)
        self._take()
        if self._more:
            self._regulate()
        if len(data) > _LARGE_READ_BYTES:
            self._clients.charge(len(data))

    def eof_received(self) -> bool:
        """The client sends no more; what it has sent is still answered, then the end."""
        self._ended = True
        if self._only_waits:
            self.close()
        return self._more or self._outstanding > 0

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._write = _nothing
        del self._alone  # a cycle
        self._leave()  # what it has sent and was not begun is dropped as a whole
        self._backlog.clear()
        self._out.clear()
        self._clients.remove(self)

    def pause_writing(self) -> None:
        self._writable = False
        self._clients.charge(self.unsent)
        self._regulate()

    def resume_writing(self) -> None:
        self._writable = True
        self._resume()

    # --- commands in -----------------------------------------------------------------------------

    def _propose_alike(self, like: Likeness, data: bytes) -> bool:
        """Propose what was read, if it is one command or more of this likeness and nothing waits."""
        if self._yielding or not self.parser.idle or (taken := like.take(data, self.db)) is None:
            return False
        self._last = like.name
        if isinstance(taken, list):
            self._submit(taken)
            self._count(len(taken))
        else:
            self.commands_run += 1
            self._engine.submit_one(self._alone, taken)
            self._outstanding = 1
            self._outstanding_meets = _PROPOSE
        return True

    def _propose_one(
        self, bind: Callable[[list[bytes], int], Operation], argv: list[bytes]
    ) -> None:
        """Propose all that was read: one command, while nothing waits."""
        self.commands_run += 1
        self._last = argv[0]
        try:
            operation = bind(argv, self.db)
            if type(operation) is Acquire and operation.options is not None:
                if self._attach(operation, operation.options):
                    return
        except CommandError as error:
            self.reply(Failure(error.code, error.text))
            self._send()
            return
        if self.commands_run % _LEARN_EVERY == 0:
            learn(self._likes, argv, operation)
        self._engine.submit_one(self._alone, operation)
        self._outstanding = 1
        self._outstanding_meets = _PROPOSE

    def _take(self) -> None:
        """Run what is parsed, as far as the pipeline's depth allows."""
        parser = self.parser
        try:
            while True:
                room = PIPELINE_DEPTH_MAX - self._outstanding
                if (
                    room <= 0
                    or self._backlog
                    or self._yielding
                    or self._closing
                    or not self._writable
                ):
                    self._more = True
                    break
                commands = parser.commands(room if self.authenticated else 1)
                if commands:
                    self._run(commands)
                if not parser.again:
                    self._more = bool(self._backlog)
                    break
        except ProtocolError as error:
            self._failure = error
            self._ended = True
            self._more = False
        if self._out:
            self._send()
        if self._ended:
            self._finish()

    def _run(self, commands: Sequence[list[bytes]]) -> None:
        """Run commands up to the first that has to wait; the rest becomes the backlog."""
        if not self._told:
            self._run_together(commands)
            return
        for number, argv in enumerate(commands, 1):
            db, authenticated = self.db, self.authenticated
            self._run_together([argv])
            if self._backlog:
                self._backlog.extend(commands[number:])
                return
            self._clients.monitors.tell(argv, db, self.address, authenticated=authenticated)
            if self._closing:
                return

    def _run_together(self, commands: Sequence[list[bytes]]) -> None:
        """As `_run`, while nobody is told of each."""
        flows = self._may_propose()
        if flows and self._propose_all(commands):
            return
        operations: list[Operation] = []
        done = 0
        for argv in commands:
            try:
                if flows and (bind := PROPOSALS.get(argv[0])) is not None:
                    operation = bind(argv, self.db)
                    if type(operation) is Acquire and operation.options is not None:
                        operations = self._submit(operations)
                        if self._attach(operation, operation.options):
                            flows = self._may_propose()
                            done += 1
                            continue
                    operations.append(operation)
                else:
                    operations = self._submit(operations)
                    if not self._run_in_turn(self._find(argv), argv):
                        break
                    flows = self._may_propose()
            except CommandError as error:
                operations = self._submit(operations)
                if self._outstanding:
                    break
                self.reply(Failure(error.code, error.text))
            done += 1
            if self._closing:
                break
        if operations:
            self._last = commands[done - 1][0]
            self._submit(operations)
        self._count(done)
        if done < len(commands) and not self._closing:
            self._backlog.extend(commands[done:])

    def _propose_all(self, commands: Sequence[list[bytes]]) -> bool:
        """Propose a whole pipeline, if there is nothing in it but operations without an error."""
        db = self.db
        try:
            operations = [PROPOSALS[argv[0]](argv, db) for argv in commands]
        except (KeyError, CommandError):
            return False
        for operation in operations:
            if type(operation) is Acquire and operation.options is not None:
                return False
        last = commands[-1]
        if len(commands) > 1 and last[0] == commands[-2][0] and last[2:] == commands[-2][2:]:
            learn(self._likes, last, operations[-1])
        self._last = last[0]
        self._submit(operations)
        self._count(len(commands))
        return True

    def _count(self, commands: int) -> None:
        self.commands_run += commands
        if self.commands_run >= self._yield_at:
            self._yield()

    def _submit(self, operations: list[Operation]) -> list[Operation]:
        """Propose what was bound so far, in one go; returns an empty list to go on with."""
        if not operations:
            return operations
        self._outstanding += len(operations)
        self._outstanding_meets = Meets.PROPOSE
        self._engine.submit(self, operations)
        return []

    def _attach(self, operation: Acquire | AcquireAll, options: Options) -> bool:
        """Propose what is attached to this connection: it may wait in line, or hold ONCLOSE.

        False when this is neither. Raises BUSY.
        """
        may_block = options.wait_ms > 0 and options.blocking
        if not may_block and not options.on_close:
            return False
        operation = self._named(operation, options)
        if not may_block:
            self._submit([operation])
            return True
        self._outstanding += 1
        self._outstanding_meets = None
        self._wanted = operation
        self._engine.submit_waiting(self, operation)
        return True

    def _named(self, operation: Acquire | AcquireAll, options: Options) -> Acquire | AcquireAll:
        """The operation with the name of this connection, to which it is attached. Raises BUSY."""
        node = self._engine.node
        if node.departing >= DISCONNECTS_QUEUED_MAX:
            raise CommandError(
                "too many clients have gone while there is no leader; nothing was done", "BUSY"
            )
        if self._client_id is None:
            self._client_id = node.client_id(self._log_serial or self.id)
        self.holds_on_close = self.holds_on_close or options.on_close
        return replace(operation, options=replace(options, client=self._client_id))

    def named(self, operation: Operation) -> Operation:
        """The operation, attached to this connection if it asks for a hold ONCLOSE. Raises BUSY."""
        if not isinstance(operation, Acquire | AcquireAll) or operation.options is None:
            return operation
        options = operation.options
        return self._named(operation, options) if options.on_close else operation

    def _find(self, argv: list[bytes]) -> Command:
        """The command; one that there is not is skipped by CLIENT REPLY SKIP like any other."""
        try:
            return find(argv)
        except CommandError:
            if self._skip is not Skip.NO and not self._outstanding:
                self._go_on_skipping()
            if self.transaction is not None:
                self.transaction.break_off()
            raise

    def _may_propose(self) -> bool:
        """Whether an operation may go on its way at once, behind those that are outstanding."""
        if self._outstanding and self._outstanding_meets is not Meets.PROPOSE:
            return False
        return self.authenticated and self._plain

    def _run_in_turn(self, command: Command, argv: list[bytes]) -> bool:
        """Run a command that nothing outstanding may pass; False if it has to wait for its turn."""
        fast = command.goes_along
        if self._outstanding and not (
            command.meets is Meets.READ is self._outstanding_meets
            and self._outstanding < _READS_OUTSTANDING_MAX
            and fast
            and self._skip is Skip.NO
            and not self._peeks(command)
        ):
            return False
        held_back = not self._plain and self._clients.holds_back(command)
        if self._yielding or not self._writable or held_back:
            return False
        if self._skip is not Skip.NO:
            self._go_on_skipping()
        self._clients.permit(self, command)
        if self.transaction is not None and self._queues(self.transaction, command, argv):
            return True
        bound = command.bind(argv, self.db)
        if self._only_subscribes and command.name not in _FOR_SUBSCRIBERS:
            raise CommandError(
                f"Can't execute '{command.full_name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "
                "PING / QUIT / RESET are allowed in this context"
            )
        self._last = command
        if isinstance(bound, Call):
            if not fast:
                self._yield()
            self._clients.run(self, bound)
        elif self._peeks(command):
            if not fast:
                self._yield()
            result = self._engine.node.peek(cast(Query, bound))
            self._out.append(self._encoders[type(result)](result))
            if len(self._out) >= _READS_OUTSTANDING_MAX:
                self._send()
        elif command.meets is Meets.READ:
            # The answer to a slow one may be a page of a megabyte: no other goes with it.
            self._outstanding_meets = Meets.READ if fast else Meets.LOCAL
            self._outstanding += 1
            self._engine.ask(self, cast(Query, bound))
        elif isinstance(bound, Flush):
            self.await_delivery()
            Flushing(self._engine, self, bound).begin()
        elif isinstance(bound, Watch | Execute):
            self._clients.transact(self, bound)
        elif not (
            isinstance(bound, Acquire | AcquireAll)
            and bound.options is not None
            and self._attach(bound, bound.options)
        ):
            self._submit([cast(Operation, bound)])
        return True

    def _peeks(self, command: Command) -> bool:
        """Whether READONLY lets this be read at once from what this node has applied."""
        return self.read_only and command.meets is Meets.READ and command.group is not Group.LOCK

    def _queues(self, transaction: Transaction, command: Command, argv: list[bytes]) -> bool:
        """Keep a command for EXEC; False for one that is run at once."""
        if command.name in AT_ONCE and command.has_arity(argv):
            return False
        self._last = command
        try:
            transaction.queue(command, argv)
        except CommandError:
            if command.name == "EXEC":
                transactions.abandon(self)
            raise
        self.reply(_QUEUED)
        return True

    # --- replies out -----------------------------------------------------------------------------

    def deliver(self, results: Sequence[Result]) -> None:
        """Take the answers to the oldest outstanding commands, and go on with what waited."""
        if self._gone:
            self._miss(results)
            return
        encoders = self._encoders
        if len(results) == 1:
            result = results[0]
            self._write(encoders[type(result)](result))
        else:
            self._write(encode_results(results, encoders, self._pipeline_encoders))
        self._outstanding -= len(results)
        if self._more or self._ended:
            self._resume()

    def reply(self, value: Any) -> None:
        """Answer a local command."""
        if self._encoders is _MUTED:
            return
        self._out.append(encode(value, self.protocol_version))
        if len(self._out[-1]) > OUTPUT_PAUSE_BYTES:
            self._send()

    def confirm(self, value: Push, subscriptions: int) -> None:
        """Tell of a change of its subscriptions, which CLIENT REPLY does not mute."""
        self._out.append(encode(value, self.protocol_version))
        self.subscriptions = subscriptions
        self._follow_mode()

    def hold(self) -> Callable[[Any], None]:
        """A local command answers later: everything behind it waits. Call what this returns."""
        self.await_delivery()

        def answer(value: Any) -> None:
            self._outstanding -= 1
            self.reply(value)
            self._send()
            self._resume()

        return answer

    def await_delivery(self) -> None:
        """A local command is answered through `deliver`: everything behind it waits."""
        self._outstanding_meets = Meets.LOCAL
        self._outstanding += 1

    def _send(self) -> None:
        """Send the replies that local commands made."""
        if self._out:
            self._write(b"".join(self._out))
            self._out.clear()

    def push(self, data: bytes) -> None:
        """Send bytes that no command of this connection asked for, so that none can be held back."""
        if self._transport is not None:
            self._send()
            self._transport.write(data)
            if self.unsent > PUSHED_BYTES_MAX:
                self._clients.close(self, "it does not read what it is sent")

    def cut_off(self, reason: str) -> None:
        """Close it, because it was not told of everything that it listens for."""
        self._clients.close(self, f"not all could be told to it: {reason}")

    # --- back-pressure ---------------------------------------------------------------------------

    def _yield(self) -> None:
        """Let the others have their turn: what is left of this client's waits for the next one."""
        if not self._yielding:
            self._yielding = True
            self._clients.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._yielding = False
        self._yield_at = self.commands_run + PIPELINE_DEPTH_MAX
        if self._more:
            self._resume()

    def _regulate(self) -> None:
        """Read on exactly while what was read can be worked on."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        wanted = (
            (not self._backlog or self.blocked)
            and self._writable
            and (not self._more or self.parser.buffered <= QUERY_BUFFER_BYTES_MAX)
        )
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _resume(self) -> None:
        """Something was answered or sent: run the backlog, then what is still unparsed."""
        if self._backlog and self._writable:
            backlog, self._backlog = self._backlog, deque()
            self._run(list(backlog))
        self._take()
        self._regulate()

    # --- the end ---------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Nothing more comes in: close as soon as everything is answered, but for a wait."""
        if self._only_waits:
            self.close()
            return
        if self._outstanding or (self._more and not self._closing):
            return
        if self._failure is not None and not self._closing:
            self.reply(Failure("ERR", str(self._failure)))
            self._clients.complain("client closed: its bytes are not RESP", self)
        self.close()

    def close(self) -> None:
        """Send what was delivered, then close. What is still outstanding is not answered."""
        self._leave()
        if self._transport is not None:
            self._send()
            self._transport.close()

    def close_when_answered(self) -> None:
        """Run nothing more of this client, and close once it was told what is under way."""
        self._ended = True
        self._closing = True

    def abort(self) -> None:
        """Close at once."""
        self._leave()
        if self._transport is not None:
            self._transport.abort()

    def turn_away(self) -> None:
        """This node shuts down: what is attached to the connection ends, and so does its wait."""
        if self.blocked:
            if self._only_waits:
                self.reply(_SHUTTING_DOWN)
            self.close()
        else:
            self._detach()

    def _leave(self) -> None:
        """Nothing more is run for this client, and it is told no outcome any more."""
        self._closing = self._gone = True
        self._detach()

    def _detach(self) -> None:
        """End what is attached to this client in the log."""
        if self._client_id is not None:
            self._engine.disconnect(self._client_id)
            self._client_id = None

    def _miss(self, results: Sequence[Result]) -> None:
        """These can no longer be received. A grant that was waited for is given back."""
        if self._wanted is not None and self.blocked and isinstance(results[-1], Granted):
            self._engine.give_back(self._wanted, results[-1])
        self._outstanding -= len(results)

    # --- state that commands change --------------------------------------------------------------

    def speak(self, protocol_version: int) -> None:
        """Answer in RESP2 or RESP3 from now on. In RESP2 nothing can be told of watched owners."""
        self.protocol_version = protocol_version
        if protocol_version == 2:
            self._clients.events.leave(self)
        self._follow_mode()

    def enter(self, transaction: Transaction | None) -> None:
        """Queue commands there from now on, or run them again."""
        self.transaction = transaction
        self._follow_mode()

    def set_replies(self, mode: str) -> None:
        """CLIENT REPLY ON, OFF or SKIP."""
        self._muted = mode == "OFF" or (mode == "SKIP" and self._muted)
        self._skip = Skip.NEXT if mode == "SKIP" and not self._muted else Skip.NO
        self._follow_mode()

    def follow(self) -> None:
        """What holds for all clients of this node has changed: who monitors, or whether they pause."""
        self._follow_mode()
        if self._more:
            self._clients.call_soon(self._resume)

    def _go_on_skipping(self) -> None:
        """A command begins while CLIENT REPLY SKIP is in force: mute it, or end the muting."""
        self._skip = Skip.THIS if self._skip is Skip.NEXT else Skip.NO
        self._follow_mode()

    def _follow_mode(self) -> None:
        """What follows from the protocol, CLIENT REPLY and PAUSE, subscriptions, MULTI and MONITOR."""
        muted = self._muted or self._skip is Skip.THIS
        self._encoders = _MUTED if muted else _ENCODERS[self.protocol_version]
        self._pipeline_encoders = {} if muted else PIPELINE_ENCODERS[self.protocol_version]
        clients = self._clients
        self._plain = (
            self._skip is Skip.NO
            and not self._only_subscribes
            and self.transaction is None
            and clients.pausing is Pausing.NOTHING
        )
        self._told = len(clients.monitors) > 0
        self._direct = self._plain and not self._told

    @property
    def _only_subscribes(self) -> bool:
        return self.subscriptions > 0 and self.protocol_version == 2

    def ping(self, message: bytes | None) -> Any:
        """What it is answered to PING."""
        if self._only_subscribes:
            return [b"pong", message or b""]
        return Simple("PONG") if message is None else message

    def reset(self) -> None:
        """RESET: as if newly connected."""
        self.db = 0
        self.name = b""
        self.no_evict = self.no_touch = self.read_only = self._muted = False
        self.protocol_version = 2
        self._detach()
        self._log_serial = self._clients.new_serial()
        self.holds_on_close = False
        self._clients.pubsub.leave(self)
        self._clients.events.leave(self)
        self._clients.monitors.leave(self)
        self.subscriptions = 0
        self.transaction, self.watched = None, {}
        self._follow_mode()
        self.authenticated = self.parser.authenticated = self._clients.open_to_all

    def authenticate(self) -> None:
        """The password was right."""
        self.authenticated = self.parser.authenticated = self.was_authenticated = True

    @property
    def last_command(self) -> str:
        """The command that was run last, as CLIENT LIST names it; `NULL` before the first."""
        if isinstance(self._last, bytes):  # a name in PROPOSALS, so that it is harmless to show
            return self._last.decode().lower()
        return self._last.full_name if self._last else "NULL"

    @property
    def file_descriptor(self) -> int:
        """The socket's number, -1 when it is closed."""
        socket = self._transport.get_extra_info("socket") if self._transport else None
        return socket.fileno() if socket is not None else -1

    @property
    def unparsed(self) -> int:
        """Bytes that were read and make no complete command, or wait for their turn."""
        return self.parser.buffered

    @property
    def memory(self) -> int:
        """About how many bytes wait in this process for this client to go on."""
        held = (
            self.parser.buffered
            + self.unsent
            + self.queued_bytes
            + self._clients.pubsub.of(self).bytes
        )
        held += self._clients.events.bytes_of(self)
        if self._backlog:
            held += QUERY_BUFFER_BYTES_MAX + 64 * sum(map(len, self._backlog))
        return held

    @property
    def queued_bytes(self) -> int:
        """About how many bytes are kept for EXEC."""
        queued = 0 if self.transaction is None else self.transaction.bytes
        return queued + sum(map(len, self.watched))

    @property
    def unsent(self) -> int:
        """Bytes of replies that the client has not taken."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    @property
    def blocked(self) -> bool:
        """Whether it may wait in line: its last command is a WAIT that is not answered."""
        return self._outstanding_meets is None and self._outstanding > 0

    @property
    def _only_waits(self) -> bool:
        """Whether everything is answered but a WAIT."""
        return self._outstanding_meets is None and self._outstanding == 1

    @property
    def log_id(self) -> ClientId | None:
        """Its name in the log, once something may be attached to it."""
        return self._client_id

    @property
    def idle(self) -> bool:
        """Whether nothing of this client is under way."""
        return not self._outstanding and not self._backlog

    @property
    def ending(self) -> bool:
        """Whether nothing more is expected of this client than that it reads its replies."""
        return self._closing or self._ended

    def describe(self) -> dict[str, Any]:
        """Who this is, for logs."""
        return {"client": self.id, "address": self.address}
