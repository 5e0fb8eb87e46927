"""Programs that take locks: each has an owner's name, one thing to do at a time, and little patience.

They use any node, and go to another when one does not lead, is gone or is slow. They hold locks and
write to a resource under them, pipeline, ask again with the same REQUEST, or vanish and leave what
they hold to its TTL.

They wait in line, too, and then something may happen to them: they leave, for good or to come back
elsewhere with the same REQUEST; or their wait is ended, given up or taken over from another
connection (an `Errand`).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from resplock.node import Result
from resplock.operations import (
    KEEP_TTL,
    Acquire,
    AcquireAll,
    Break,
    Cancel,
    CheckVersion,
    CountLocks,
    GetBackoff,
    GetLock,
    GetStats,
    Granted,
    InDoubt,
    KeepAlive,
    ListLocks,
    Operation,
    Options,
    Query,
    Release,
    Released,
    Renew,
    Renewed,
    Unblock,
)
from resplock.types import LockName, lock_name
from tests.sim.asking import (
    Asking,
    from_connection,
    is_exclusive,
    names_of,
    options_of,
    wait_us,
    waits,
)
from tests.sim.history import Call, tag_of
from tests.sim.linearizable import NEVER
from tests.sim.strings import Strings
from tests.sim.world import MS, Violation, chance

if TYPE_CHECKING:
    from tests.sim.host import Process
    from tests.sim.simulation import Simulation

_DISCONNECT = 1 * MS
KEYS = [lock_name(0, b"k%d" % number) for number in range(6)] + [
    lock_name(0, b"a{k}"),
    lock_name(3, b"k0"),
]
_TTLS_MS = (0, 150, 400, 400, 1500, 1500, 5000, 20_000)
_WRITES = (5 * MS, 50 * MS, 600 * MS)


class Resource:
    """What a lock protects: a counter that clients read, and write one higher (H8).

    The fenced one refuses a version below the highest that it has seen. The other one is the control:
    that it loses updates shows that the faults are hard enough.
    """

    def __init__(self) -> None:
        self.value = self.unfenced_value = 0
        self.version = 0
        self.lost = self.unfenced_lost = 0

    def read(self, version: int) -> tuple[int, int] | None:
        """Both values; None when refused."""
        if version < self.version:
            return None
        self.version = version
        return self.value, self.unfenced_value

    def write(self, version: int, read: tuple[int, int]) -> None:
        """Write one more than was read."""
        value, unfenced = read
        self.unfenced_lost += unfenced != self.unfenced_value
        self.unfenced_value = unfenced + 1
        if version >= self.version:
            self.lost += value != self.value
            self.value = value + 1


class Caller(Protocol):
    """Whoever has a connection."""

    def answered(self, answers: list[tuple[Call, Result]]) -> None:
        """Calls have their results."""

    def disconnected(self) -> None:
        """The connection broke."""


class Connection:
    """A client's connection to one process. The node knows it as its Client."""

    def __init__(self, client: Caller, process: Process) -> None:
        self.client = client
        self.process = process
        self.id = process.client_id()
        self.is_open = True
        self.calls: deque[Call] = deque()
        self.is_named = False
        """Its id was sent."""
        # The node's end.
        self.is_attached = False
        """Its id was submitted, so that the log must know when it closes."""
        self.is_tied = False
        """Holds may end with it."""
        self.left_at = NEVER
        """When the node was told that it is closed."""
        self.told: set[int | None] = set()
        """The numbers of the calls that it has answered."""
        self._owed: deque[Call] = deque()
        process.connections.append(self)
        process.simulation.connections[self.id] = self

    @property
    def has_left(self) -> bool:
        return self.left_at < NEVER

    @property
    def gone_at(self) -> int:
        """Since when nothing should be attached to it."""
        return min(self.left_at, self.process.ended_at)

    # --- the client's end ------------------------------------------------------------------------

    def send(self, calls: list[Call]) -> None:
        """One pipeline: operations, or one query."""
        self.calls.extend(calls)
        self._owed.extend(calls)
        process = self.process
        world = process.world
        delay = process.simulation.network.delay_us()
        command: Query | list[Operation]
        if isinstance(calls[0].command, Query):
            command = calls[0].command
        else:
            command = [call.command for call in calls]
            self.is_named |= any(options_of(each).client for each in command)
        world.after(delay, process.call_from_client, self, command)

    def close(self) -> None:
        """The client leaves."""
        if not self.is_open:
            return
        self.is_open = False
        self.process.connections.remove(self)
        if self.is_named:
            delay = self.process.simulation.network.delay_us()
            self.process.world.after(delay, self.process.call_closed, self)

    # --- the node's end --------------------------------------------------------------------------

    def arrived(self, operations: Sequence[Operation]) -> None:
        """The node is about to be asked for these."""
        for operation in operations:
            options = options_of(operation)
            if options.client is not None:
                self.is_attached = True
                self.is_tied |= options.on_close

    def deliver(self, results: Sequence[Result]) -> None:
        """Answers to the oldest calls."""
        if len(results) > len(self._owed):
            raise Violation(f"{self.id} is told {results}, and has asked nothing more")
        for result in results:
            command = self._owed.popleft().command
            if not self.has_left:
                self.told.add(tag_of(command))
            elif waits(command) and isinstance(result, Granted):
                self.process.node.give_back(command, result)
        self._reply(list(results))

    def abort(self) -> None:
        """It cannot be answered."""
        self.process.world.after(_DISCONNECT, self.break_off)

    def _reply(self, results: list[Result]) -> None:
        delay = self.process.simulation.network.delay_us()
        self.process.world.after(delay, self._answered, results)

    def _answered(self, results: list[Result]) -> None:
        if self.is_open:
            self.client.answered([(self.calls.popleft(), result) for result in results])

    def break_off(self) -> None:
        """The process has ended: its machine says so."""
        if self.is_open:
            self.is_open = False
            self.client.disconnected()


class Client:
    """See the module."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        self.simulation = simulation
        self.world = simulation.world
        self.history = simulation.history
        self.number = number
        self.owner = b"c%d" % number
        self.rng: random.Random = self.world.rng(f"client/{number}")
        self.keys = simulation.history.keys
        self.connection: Connection | None = None
        self.holds: dict[LockName, int] = {}
        self._options: dict[LockName, Options] = {}
        """How it asked for what it holds."""
        self.is_stopped = False
        self._used: set[int] = set()
        self._waiting: list[Call] = []
        self._turn = 0
        self._requests = 0
        self._again: Acquire | AcquireAll | None = None
        knobs = simulation.knobs
        self._line: random.Random = self.world.rng(f"line/{number}")
        self._asking = Asking(self._line, knobs, self.keys) if knobs.has_lines else None
        self._strings: Strings | None = None
        if knobs.strings:
            self._strings = Strings(self.world.rng(f"strings/{number}"), self.keys, self.owner)
        self._think = knobs.clients * 1_000_000 // knobs.operations_per_s
        self._vanishes = knobs.vanishes
        self.is_watcher = number % 4 == 3
        """It only looks, now here and now there, and soon looks elsewhere."""
        self.patience = 500 * MS if self.is_watcher else knobs.patience
        self._write_takes = self.rng.choice(_WRITES)

    def start(self) -> None:
        """Begin to do something now and then."""
        self._rest()

    def stop(self) -> None:
        """Ask nothing more."""
        self.is_stopped = True

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def _rest(self, share: float = 1.0) -> None:
        self._turn += 1
        self.world.after(chance(self.rng, int(self._think * share)), self._act, self._turn)

    # --- doing something -------------------------------------------------------------------------

    def _act(self, turn: int) -> None:
        if turn != self._turn or self.is_stopped or self._waiting:
            return
        if self.rng.random() < self._vanishes:
            self._vanish()
            return
        connection = self._connected()
        if connection is None:
            self._rest(0.3)
            return
        self._send(connection, self._choose())

    def _vanish(self) -> None:
        """Another program comes in its place and knows nothing of its holds."""
        self.holds.clear()
        self._again = None
        if self._strings is not None:
            self._strings.forget()
        self._leave()
        self._rest()

    def _leave(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _connected(self) -> Connection | None:
        """A connection to a process that is up, whichever it is."""
        if self.connection is None or self.connection.process.is_dead or self.is_watcher:
            self._leave()
            process = self._pick()
            if process is not None:
                self.connection = Connection(self, process)
        return self.connection

    def _pick(self) -> Process | None:
        processes = self.simulation.processes()
        if not processes:
            return None
        leaders = [process for process in processes if process.core.is_leader]
        if leaders and self.rng.random() < (0.7 if self.is_watcher else 0.3):
            return self.rng.choice(leaders)  # also one that does not know yet that it leads no more
        return self.rng.choice(processes)

    def _send(self, connection: Connection, commands: Sequence[Operation | Query]) -> None:
        previous: Call | None = None
        for command in commands:
            sent = from_connection(self.history.tagged(command), connection.id)
            call = self.history.call(self.number, sent, self.world.now)
            call.previous, previous = previous, call
            self._waiting.append(call)
        self._turn += 1
        patience = self.patience + wait_us(commands[0])
        self.world.after(patience, self._give_up, self._turn)
        connection.send(self._waiting.copy())
        if waits(commands[0]) and self._line.random() < self.simulation.knobs.disturbs:
            delay = int(self._line.random() * 1.2 * wait_us(commands[0])) + 1
            self.world.after(delay, self._disturb, self._turn)

    # --- choosing what ---------------------------------------------------------------------------

    def _choose(self) -> Sequence[Operation | Query]:
        rng = self.rng
        if self._strings is not None and self._strings.rng.random() < self.simulation.knobs.strings:
            return [self._strings.query()] if self.is_watcher else self._strings.choose()
        if self.is_watcher:
            return [self._query()]
        if self._again is not None and rng.random() < 0.8:
            again, self._again = self._again, None
            return [again]
        self._again = None
        dice = rng.random()
        if dice < 0.2:
            return [self._query()]
        if dice < 0.3:
            return [self._operation() for _ in range(rng.randrange(2, 6))]
        return [self._operation(may_request=True)]

    def _operation(self, may_request: bool = False) -> Operation:
        rng = self.rng
        dice = rng.random()
        if self.holds and dice < 0.75:
            return self._on_a_hold(dice)
        name = rng.choice(self.keys)
        if dice > 0.97:
            return Break(name)
        if dice > 0.94:
            return Release(name, self.owner)
        request = b""
        if may_request and rng.random() < 0.3:
            request = self._next_request()
        return self._acquisition(name, request, may_wait=may_request)

    def _acquisition(
        self, name: LockName, request: bytes, *, may_wait: bool
    ) -> Acquire | AcquireAll:
        plain = Acquire(name, self.owner, self.rng.choice(_TTLS_MS), request)
        if self._asking is None:
            return plain
        if may_wait and not request and self._line.random() < self.simulation.knobs.requests:
            plain = replace(plain, request=self._next_request())
        return self._asking.of(plain, may_wait=may_wait)

    def _next_request(self) -> bytes:
        self._requests += 1
        return b"r%d" % self._requests

    def _on_a_hold(self, dice: float) -> Operation:
        rng = self.rng
        name = rng.choice(sorted(self.holds))
        version = self.holds[name]
        given = version if rng.random() < 0.7 else 0
        if dice < 0.45:
            return Release(name, self.owner, given)
        if dice < 0.58:
            return Renew(name, self.owner, given, rng.choice((KEEP_TTL, *_TTLS_MS)))
        if dice < 0.65:
            return KeepAlive(self.owner, KEEP_TTL, tuple(sorted(self.holds.items())))
        if dice < 0.70:
            plain = Acquire(name, self.owner, rng.choice(_TTLS_MS))
            if self._asking is None:
                return plain
            return self._asking.again(plain, self._options.get(name, Options()))
        return Break(name, given)

    def _query(self) -> Query:
        rng = self.rng
        name = rng.choice(self.keys)
        match rng.randrange(8):
            case 0 | 1 | 2:
                return GetLock(name)
            case 3:
                return CheckVersion(name, self.holds.get(name, 1))
            case 4:
                return ListLocks(0)
            case 5:
                return GetStats()
            case 6:
                return GetBackoff(name)
            case _:
                return CountLocks(0)

    # --- hearing ---------------------------------------------------------------------------------

    def answered(self, answers: list[tuple[Call, Result]]) -> None:
        """Calls of this client have their results."""
        now = self.world.now
        for call, result in answers:
            call.returned, call.result = now, result
            self._waiting.remove(call)
            if call.is_answered:
                self._learn(call)
            elif isinstance(result, InDoubt):
                self._doubt(call)
        if self._waiting:
            return
        refused = any(call.is_refused for call, _ in answers)
        if refused:
            self._leave()
        self._rest(0.2 if refused else 1.0)

    def _learn(self, call: Call) -> None:
        match call.command, call.result:
            case ((Acquire() | AcquireAll()), Granted(version=version)):
                self._learn_grant(call.command, version)
            case Renew(), Renewed():
                pass
            case Release(), Released(holds=holds) if holds:
                pass
            case ((Release(name=name) | Renew(name=name)), _):
                self.holds.pop(name, None)
        if self._strings is not None:
            learnt = self._strings.learn(call.command, call.result)
            if learnt is not None and learnt[1] not in self._used:
                self._used.add(learnt[1])
                self._use(*learnt)

    def _learn_grant(self, command: Acquire | AcquireAll, version: int) -> None:
        is_new = version not in self._used
        self._used.add(version)
        for name in names_of(command):
            self.holds[name] = version
            self._options[name] = options_of(command)
            if is_new and is_exclusive(command):
                self._use(name, version)

    def _doubt(self, call: Call) -> None:
        match call.command:
            case Acquire(request=request) | AcquireAll(request=request) if request:
                self._again = call.command
            case Release(name=name):
                self.holds.pop(name, None)

    def _use(self, name: LockName, version: int) -> None:
        """Read what the lock protects, and write it back some time later, however late that is."""
        resource = self.simulation.resources[name]
        read = resource.read(version)
        if read is not None:
            takes = chance(self.rng, self._write_takes)
            self.world.after(takes, resource.write, version, read)

    # --- while waiting in line -------------------------------------------------------------------

    def _disturb(self, turn: int) -> None:
        """Something happens to a client that waits in line."""
        if turn != self._turn or not self._waiting or self.connection is None:
            return
        command = self._waiting[0].command
        assert isinstance(command, Acquire | AcquireAll)
        name = self._line.choice(names_of(command))
        match self._line.randrange(8):
            case 0:
                self._leave_behind()
                self._waiting.clear()
                self._vanish()
            case 1 | 2:
                self._leave_behind()
                self._abandon()
            case 3:
                self._send_errand(Cancel(name, self.owner))
            case 4 | 5:
                request = command.request if self._line.random() < 0.5 else b""
                again = replace(command, request=request, metadata=())
                self._send_errand(again)
            case 6:
                self._send_errand(Unblock(self.connection.id, self._line.random() < 0.5))
            case _:
                self._send_errand(Acquire(name, self.owner, 400))

    def _leave_behind(self) -> None:
        for call in self._waiting:
            call.is_left = True

    def _send_errand(self, command: Operation) -> None:
        process = self._pick()
        if process is not None:
            Errand(self, process, command)

    def learn(self, call: Call) -> None:
        """An errand has brought an answer."""
        self._learn(call)

    # --- giving up -------------------------------------------------------------------------------

    def _give_up(self, turn: int) -> None:
        if turn == self._turn and self._waiting:
            self._abandon()

    def disconnected(self) -> None:
        """The connection broke."""
        self.connection = None
        if self._waiting:
            self._abandon()

    def _abandon(self) -> None:
        """What was asked has no answer; go elsewhere."""
        for call in self._waiting:
            self._doubt(call)
        self._waiting.clear()
        self._leave()
        self._rest(0.2)


class Errand:
    """One command of a client on a connection of its own, because the client's other one is blocked.

    The connection stays for a while after the answer, with what is tied to it.
    """

    _STAYS = 1_000 * MS

    def __init__(self, client: Client, process: Process, command: Operation) -> None:
        self._client = client
        self._connection = Connection(self, process)
        history, world = client.history, client.world
        sent = from_connection(history.tagged(command), self._connection.id)
        call = history.call(client.number, sent, world.now)
        self._connection.send([call])
        world.after(client.patience + wait_us(command), self._connection.close)

    def answered(self, answers: list[tuple[Call, Result]]) -> None:
        """It is done."""
        call, result = answers[0]
        world = self._client.world
        call.returned, call.result = world.now, result
        if call.is_answered:
            self._client.learn(call)
        world.after(self._STAYS, self._connection.close)

    def disconnected(self) -> None:
        """Nobody knows what came of it."""


def first_keys(count: int) -> list[LockName]:
    """The names that clients of a world with `count` locks use."""
    return KEYS[:count]
