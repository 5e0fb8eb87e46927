"""What a connection touches, in a test's hands: a loop, a socket and an engine that never act alone.

    server = FakeServer()
    client = server.connect()
    client.send(b"PING\\r\\nLOCK.ACQUIRE a me\\r\\n")     bytes reach the connection at once
    server.engine.answer()                              the lock table answers when it is told to
    server.loop.run()                                   what the connection has put off
    assert client.take() == [...]

The transport behaves like uvloop's: `pause_writing` comes from within `write`, `connection_lost` in a
later turn, no bytes come in while reading is paused, and after `close` what was written is still sent.
The lock table is the real one, so replies are real replies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from resplock.config import Settings
from resplock.errors import CommandError
from resplock.limits import OUTPUT_PAUSE_BYTES
from resplock.node import Client, NodeSettings, Result
from resplock.node.administration import Request
from resplock.node.pipeline import Counts
from resplock.operations import (
    Acquire,
    AcquireAll,
    Blocked,
    ClientId,
    Ended,
    Granted,
    Operation,
    Query,
)
from resplock.raft.entries import Configuration, Member, SnapshotMeta
from resplock.server.clients import Clients
from resplock.server.connection import Connection
from resplock.server.local import Context, LocalCommands
from resplock.server.observer import Observer
from resplock.state import queries
from resplock.state.table import LockTable
from resplock.types import Index, NodeId, StampMs
from tests.replies import parse_replies

LOOPBACK = ("127.0.0.1", 50_000)
STAMP_MS = StampMs(1_000)


class FakeTimer:
    """A callback for later."""

    def __init__(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.delay_s = delay_s
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Callbacks that a test runs when it wants to."""

    def __init__(self) -> None:
        self.soon: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.timers: list[FakeTimer] = []

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self.soon.append((callback, arguments))

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(delay_s, callback)
        self.timers.append(timer)
        return timer

    def turn(self) -> None:
        """Run what is there now; what it puts off waits for the next turn."""
        for _ in range(len(self.soon)):
            callback, arguments = self.soon.popleft()
            callback(*arguments)

    def run(self, turns_max: int = 10_000) -> int:
        """Turn until nothing is put off any more; how many turns it took."""
        for turns in range(turns_max):
            if not self.soon:
                return turns
            self.turn()
        raise AssertionError("the loop never comes to rest")

    def fire(self) -> None:
        """Let every timer that is set go off."""
        timers, self.timers = self.timers, []
        for timer in timers:
            if not timer.cancelled:
                timer.callback()


class FakeTransport:
    """A socket whose other end is a test."""

    def __init__(self, loop: FakeLoop, protocol: Connection, peer: Any, local: Any) -> None:
        self.sent = bytearray()
        """What has reached the client."""
        self.reading = True
        self.closing = False
        self.closed = False
        self.aborted = False
        self.stalled = False
        """The client does not read, and the kernel takes no more."""
        self._extra = {"peername": peer, "sockname": local}
        self._loop = loop
        self._protocol = protocol
        self._buffer = bytearray()
        self._high = 65_536
        self._paused = False
        self._incoming: deque[bytes | None] = deque()  # None: it sends no more

    # --- what the connection calls ---------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._extra.get(name, default)

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == OUTPUT_PAUSE_BYTES
        self._high = high

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after connection_lost"
        if self.aborted or (self.closing and not self._buffer):
            return  # as uvloop: dropped without a word
        if not self.stalled and not self._buffer:
            self.sent += data
            return
        self._buffer += data
        if len(self._buffer) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        if self.closing:
            return
        self.closing = True
        self.reading = False
        if not self._buffer:
            self._loop.call_soon(self.lose)

    def abort(self) -> None:
        if not self.aborted:
            self.closing = self.aborted = True
            self.reading = False
            self._buffer.clear()
            self._loop.call_soon(self.lose)

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        assert not self.closing
        self.reading = True
        self._loop.call_soon(self.pump)

    # --- what the test does ----------------------------------------------------------------------

    def feed(self, data: bytes | None) -> None:
        """The client sends; None: it shuts its side down."""
        self._incoming.append(data)
        self.pump()

    def pump(self) -> None:
        """Give the connection what has come in, as long as it reads."""
        while self._incoming and self.reading:
            data = self._incoming.popleft()
            if data is not None:
                self._protocol.data_received(data)
            elif not self._protocol.eof_received():
                self.close()

    @property
    def held_back(self) -> int:
        """Bytes that the connection has not read yet."""
        return sum(len(data) for data in self._incoming if data is not None)

    def drain(self, most: int | None = None) -> None:
        """The client reads what waits for it, `most` bytes of it."""
        count = len(self._buffer) if most is None else most
        self.sent += self._buffer[:count]
        del self._buffer[:count]
        if self._paused and len(self._buffer) <= self._high // 4:
            self._paused = False
            self._protocol.resume_writing()
        if self.closing and not self._buffer:
            self._loop.call_soon(self.lose)

    def lose(self, error: Exception | None = None) -> None:
        """The connection is gone."""
        if not self.closed:
            self.closed = self.closing = True
            self.reading = False
            self._protocol.connection_lost(error)


class FakeEngine:
    """Executes in the order of submission, and answers when a test says so."""

    def __init__(self) -> None:
        self.table = LockTable()
        self.waiting: deque[tuple[Client, Operation | Query, bool]] = deque()
        core = SimpleNamespace(
            is_leader=True,
            leader_id="n1",
            term=1,
            commit_index=0,
            applied_index=0,
            configuration=Configuration(voters=(Member(NodeId("n1"), "0" * 32),)),
            status=lambda: SimpleNamespace(role="leader", peers=()),
        )
        self.node = SimpleNamespace(
            core=core,
            table=self.table,
            snapshot=SnapshotMeta(),
            proposals=Counts(),
            unresolved=0,
            settings=NodeSettings(),
            client_id=lambda serial: ClientId(NodeId("n1"), 1, serial),
            departing=0,
            is_cut_off=False,
            keeps_events=False,
            take_events=list,
            peek=lambda query: self._execute(query, False),
        )
        self.latencies = SimpleNamespace(average_ms=0.0, max_ms=0.0)
        self.observer = Observer()
        self.administered: list[Request] = []
        self.snapshots = SimpleNamespace(
            start=self._start_snapshot, running=False, last=None, last_unix_ms=0
        )
        self.snapshot_waiters: list[Callable[[Any], None]] = []
        self._index = 0
        self._ends: list[Ended] = []
        self.blocked: dict[int, Client] = {}
        """Who waits in line, by ticket."""
        self.gone: list[ClientId] = []
        self.given_back: list[tuple[Acquire | AcquireAll, Granted]] = []

    def submit(self, client: Client, operations: list[Operation]) -> None:
        assert operations
        self.waiting.extend((client, operation, True) for operation in operations)

    def submit_one(self, alone: tuple[Client, int], operation: Operation) -> None:
        client, count = alone
        assert count == 1
        self.submit(client, [operation])

    def submit_waiting(self, client: Client, operation: Operation) -> None:
        self.submit(client, [operation])

    def disconnect(self, id: ClientId) -> None:
        self.gone.append(id)

    def give_back(self, wanted: Acquire | AcquireAll, granted: Granted) -> None:
        self.given_back.append((wanted, granted))

    def ask(self, client: Client, query: Query) -> None:
        self.waiting.append((client, query, False))

    def administer(self, client: Client, request: Request) -> None:
        self.administered.append(request)
        self.waiting.append((client, request, False))

    def _start_snapshot(self, then: Callable[[Any], None]) -> None:
        self.snapshot_waiters.append(then)

    def answer(self, most: int | None = None) -> int:
        """Execute and answer up to `most` of what waits; how many these were."""
        count = len(self.waiting) if most is None else min(most, len(self.waiting))
        answered = 0
        while answered < count:
            client = self.waiting[0][0]
            results: list[Result] = []
            while answered < count and self.waiting and self.waiting[0][0] is client:
                result = self._execute(*self.waiting.popleft()[1:])
                answered += 1
                if isinstance(result, Blocked):
                    self.blocked[result.ticket] = client
                else:
                    results.append(result)
            if results:
                client.deliver(results)
            self._tell_of_ends()
        return answered

    def _tell_of_ends(self) -> None:
        """Answer those whose wait has ended."""
        ends, self._ends = self._ends, []
        for ended in ends:
            client = self.blocked.pop(ended.ticket, None)
            if client is not None:
                client.deliver([ended.outcome])

    def deliver(self, results: Sequence[Result]) -> None:
        """Answer the oldest command with this."""
        client = self.waiting[0][0]
        for _ in results:
            assert self.waiting.popleft()[0] is client
        client.deliver(results)

    def _execute(self, command: Any, is_operation: bool) -> Result:
        if is_operation:
            self._index += 1
            [outcome] = self.table.apply(Index(self._index), STAMP_MS, [command])
            self._ends += self.table.take_ended()
            return outcome
        try:
            return queries.answer(self.table, command, STAMP_MS)
        except CommandError as refused:
            return refused


class FakeClient:
    """The other end of one connection."""

    def __init__(self, server: FakeServer, peer: Any, local: Any) -> None:
        self.connection = server.clients.connect()
        self.transport = FakeTransport(server.loop, self.connection, peer, local)
        self._server = server
        self._read = 0
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    def send(self, *parts: bytes) -> None:
        """Send each part as one chunk."""
        for part in parts:
            self.transport.feed(part)

    def call(self, *argv: bytes) -> None:
        self.send(array(*argv))

    def shut(self) -> None:
        """Send no more, but read on."""
        self.transport.feed(None)

    @property
    def received(self) -> bytes:
        """Everything that was received so far."""
        return bytes(self.transport.sent)

    def take(self) -> list[Any]:
        """The replies since the last call."""
        replies, whole = parse_replies(self.received[self._read :])
        assert whole, "half a reply"
        self._read = len(self.transport.sent)
        return replies

    @property
    def open(self) -> bool:
        return not self.transport.closing


class FakeServer:
    """Clients, connections and local commands, all real, on a loop and an engine that are not."""

    def __init__(self, **settings: Any) -> None:
        self.loop = FakeLoop()
        self.engine: Any = FakeEngine()
        self.stopped = 0
        self.settings = Settings(data_dir=Path("data"), **settings)
        with mock.patch.object(asyncio, "get_running_loop", return_value=self.loop):
            self.clients = Clients(self.settings, self.engine)
        self.context = Context(
            settings=self.settings,
            clients=self.clients,
            engine=self.engine,
            shut_down=self._stop,
            run_id="0" * 40,
            port=self.settings.port,
        )
        self.clients.local = LocalCommands(self.context)

    def _stop(self) -> None:
        self.stopped += 1

    def connect(self, peer: Any = LOOPBACK, local: Any = ("127.0.0.1", 7379)) -> FakeClient:
        return FakeClient(self, peer, local)

    def settle(self) -> None:
        """Answer and turn until nothing is left to do."""
        while self.engine.waiting or self.loop.soon:
            self.engine.answer()
            self.loop.run()


def array(*argv: bytes) -> bytes:
    """A command as clients send it."""
    parts = [b"*%d\r\n" % len(argv)]
    parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in argv]
    return b"".join(parts)


def ask(server: FakeServer, client: FakeClient, *argv: bytes) -> list[Any]:
    """Everything that the client is sent when it has called this."""
    client.call(*argv)
    server.settle()
    return client.take()
