"""The engine's turn: gathered into one synced write, and nobody is answered before it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from resplock.errors import StorageError
from resplock.node import Result
from resplock.operations import Acquire, CheckVersion, Granted
from resplock.raft.entries import Entry, HardState, Member
from resplock.server import engine as engine_module
from resplock.server.engine import Engine
from resplock.types import NodeId, lock_name
from tests.node.servers import Server
from tests.server.fakes import FakeLoop

NAME = lock_name(0, b"a")


class FakeLog:
    """Writes down what is saved, and fails when a test says so."""

    def __init__(self, server: Server, events: list[str]) -> None:
        self.saved: list[tuple[HardState | None, Sequence[Entry]]] = []
        self.failure: Exception | None = None
        self._server = server
        self._events = events
        self.snapshot_directory = Path("snapshots")

    def save(self, hard_state: HardState | None, entries: Sequence[Entry], *, sync: bool) -> None:
        assert sync, "a sole voter needs its own disk"
        self._events.append("save")
        if self.failure is not None:
            raise self.failure
        self.saved.append((hard_state, entries))
        log = self._server.log
        if hard_state is not None:
            log.hard_state = hard_state
        log.kept.extend(entries)


class FakeSnapshots:
    """Stands for the snapshot job."""

    def __init__(self) -> None:
        self.running = False
        self.started = 0

    def start(self) -> None:
        self.running = True
        self.started += 1


class Caller:
    """A client."""

    def __init__(self, events: list[str], *, broken: bool = False) -> None:
        self.results: list[Result] = []
        self._events = events
        self._broken = broken

    def deliver(self, results: Sequence[Result]) -> None:
        self._events.append("deliver")
        if self._broken:
            raise KeyError("a bug in an encoder")
        self.results += results

    def abort(self) -> None:
        self._events.append("abort")


class FakePeers:
    """Links that note what is done with them."""

    def __init__(self, events: list[str]) -> None:
        self.sent: list[Any] = []
        self.members: list[NodeId] = []
        self._events = events

    def send(self, message: Any) -> None:
        self.sent.append(message)
        self._events.append(f"send {type(message).__name__}")

    def send_node(self, peer_id: NodeId, message: Any) -> None:
        self.sent.append((peer_id, message))
        self._events.append(f"send {type(message).__name__}")

    def flush(self) -> None:
        pass

    def set_members(self, members: Sequence[Member], removed: Sequence[str]) -> None:
        self.members = [member.id for member in members]


class Bench:
    """An engine whose loop, log and clock are a test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.events: list[str] = []
        self.fatal: list[Exception] = []
        self.loop = FakeLoop()
        self.now_ms = 1_000
        self.beats = 0
        server = Server(**settings)
        self.log = FakeLog(server, self.events)
        self.node = server.node
        monkeypatch.setattr(engine_module, "now_ms", lambda: self.now_ms)
        monkeypatch.setattr(engine_module, "unix_ms", lambda: 1_800_000_000_000 + self.now_ms)
        monkeypatch.setattr(engine_module, "SnapshotJob", lambda *_: self.snapshots)
        monkeypatch.setattr(engine_module, "SnapshotTransfers", lambda *_: None)
        self.snapshots = FakeSnapshots()
        self.peers = FakePeers(self.events)
        with mock.patch.object(asyncio, "get_running_loop", return_value=self.loop):
            self.engine = Engine(
                self.node,
                self.log,  # type: ignore[arg-type]
                self.peers,  # type: ignore[arg-type]
                lambda _: None,
                SimpleNamespace(beat=self._beat),  # type: ignore[arg-type]
                self.fatal.append,
            )
        self.node.core.campaign()
        self.engine.schedule()
        self.loop.run()
        self.events.clear()
        self.log.saved.clear()

    def _beat(self) -> None:
        self.beats += 1

    def caller(self, **settings: Any) -> Caller:
        return Caller(self.events, **settings)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def acquire(owner: str) -> Acquire:
    return Acquire(NAME, owner.encode())


def test_what_many_clients_submit_is_one_write_and_then_the_answers(bench: Bench) -> None:
    callers = [bench.caller() for _ in range(20)]
    for caller in callers:
        bench.engine.submit(caller, [acquire("me"), acquire("me")])
    assert bench.events == [], "nothing is done before the loop turns"
    assert len(bench.loop.soon) == 1, "one turn for all"
    bench.loop.turn()
    assert bench.events == [], "it looks once more whether others come"
    bench.loop.turn()
    assert bench.events == ["save"] + ["deliver"] * 20
    assert all(len(caller.results) == 2 for caller in callers)
    assert not bench.loop.soon


def test_a_client_that_is_alone_does_not_wait_for_others(bench: Bench) -> None:
    bench.engine.submit(bench.caller(), [acquire("me")])
    bench.loop.turn()
    assert bench.events == ["save", "deliver"]


def test_many_clients_are_written_at_once(bench: Bench) -> None:
    for _ in range(100):
        bench.engine.submit(bench.caller(), [acquire("me")])
    bench.loop.turn()
    assert bench.events == ["save"] + ["deliver"] * 100


def test_clients_that_keep_coming_share_a_write_but_not_for_ever(bench: Bench) -> None:
    callers = [bench.caller(), bench.caller()]
    for caller in callers:
        bench.engine.submit(caller, [acquire("me")])
    while not bench.events:
        callers.append(bench.caller())
        bench.engine.submit(callers[-1], [acquire("me")])
        bench.loop.turn()
    assert 3 < len(callers) < 20
    assert bench.events == ["save"] + ["deliver"] * len(callers)


def test_a_read_writes_nothing(bench: Bench) -> None:
    caller = bench.caller()
    bench.engine.ask(caller, CheckVersion(NAME, 1))
    bench.loop.run()
    assert caller.results == [0]
    assert bench.events == ["deliver"]


def test_a_failed_write_ends_the_process_and_answers_nobody(bench: Bench) -> None:
    caller = bench.caller()
    bench.log.failure = StorageError("the disk is gone")
    bench.engine.submit(caller, [acquire("me")])
    with pytest.raises(StorageError):
        bench.loop.run()
    assert bench.fatal == [bench.log.failure]
    assert bench.events == ["save"], "not tried again"
    assert caller.results == []


def test_a_client_that_cannot_be_answered_harms_nobody_else(bench: Bench) -> None:
    one, broken, other = bench.caller(), bench.caller(broken=True), bench.caller()
    for caller in (one, broken, other):
        bench.engine.submit(caller, [acquire("me")])
    with mock.patch.object(bench.engine, "_fatal"):
        bench.loop.run()
    assert len(one.results) == len(other.results) == 1
    assert bench.events == ["save", "deliver", "deliver", "abort", "deliver"]


def test_what_is_submitted_while_answers_are_given_has_the_next_turn(bench: Bench) -> None:
    class Eager(Caller):
        def deliver(self, results: Sequence[Result]) -> None:
            super().deliver(results)
            if len(self.results) < 3:
                bench.engine.submit(self, [acquire("me")])

    caller = Eager(bench.events)
    bench.engine.submit(caller, [acquire("me")])
    bench.loop.turn()
    assert bench.events == ["save", "deliver"]
    bench.loop.run()
    assert bench.events == ["save", "deliver"] * 3


def test_a_tick_beats_the_watchdog_and_carries_the_clock(bench: Bench) -> None:
    bench.engine.start()
    bench.engine.submit(bench.caller(), [Acquire(NAME, b"me", 500)])
    bench.loop.run()
    for _ in range(100):
        bench.now_ms += 10
        bench.loop.fire()
        bench.loop.run()
    assert bench.beats == 100
    assert len(bench.node.table.locks) == 0, "the hold has ended without any traffic"


def test_an_idle_engine_writes_nothing(bench: Bench) -> None:
    bench.engine.start()
    for _ in range(1_000):
        bench.now_ms += 10
        bench.loop.fire()
        bench.loop.run()
    assert bench.log.saved == []


def test_a_last_turn_answers_what_was_submitted(bench: Bench) -> None:
    bench.engine.start()
    caller = bench.caller()
    bench.engine.submit(caller, [acquire("me")])
    bench.engine.stop()
    assert isinstance(caller.results[0], Granted)
    bench.loop.fire()
    assert bench.beats == 0, "no more ticks"


def test_a_snapshot_is_taken_when_it_is_due_and_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, snapshot_entries=10)
    for number in range(30):
        bench.engine.submit(bench.caller(), [acquire("me")])
        bench.loop.run()
        assert bench.snapshots.started == (bench.node.core.applied_index >= 10), number
