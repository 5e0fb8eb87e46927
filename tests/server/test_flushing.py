"""FLUSHALL of more keys than fit into one entry: piece by piece, and one answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from resplock import limits
from resplock.errors import CommandError
from resplock.node.runs import Client, Result
from resplock.operations import (
    Acquire,
    Busy,
    DeleteAll,
    Done,
    Flush,
    InDoubt,
    KeyPage,
    NoLeader,
    Number,
    Operation,
    Query,
    SetString,
)
from resplock.server.flushing import Flushing
from resplock.state import queries
from resplock.state.table import LockTable
from resplock.types import lock_name

KEYS = [lock_name(db, b"%d" % number) for db in (0, 1) for number in range(2_500)]


class Engine:
    """Applies what it is asked at once, unless it has an answer ready."""

    def __init__(self) -> None:
        self.table = LockTable()
        self.index = 1
        self.apply([Acquire(name, b"me", 0) for name in KEYS])
        self.asked: list[Operation | Query] = []
        self.canned: dict[int, Result] = {}
        self.waiting: list[tuple[Client, Result]] = []

    def apply(self, operations: Sequence[Operation]) -> list[Result]:
        outcomes = self.table.apply(self.index, 1, operations)
        self.index += len(operations)
        return list(outcomes)

    def submit(self, client: Client, operations: Sequence[Operation]) -> None:
        (operation,) = operations
        self.answer(client, operation, lambda: self.apply(operations)[0])

    def ask(self, client: Client, query: Query) -> None:
        self.answer(client, query, lambda: queries.answer(self.table, query, 1))

    def answer(self, client, asked, compute) -> None:  # type: ignore[no-untyped-def]
        result = self.canned.get(len(self.asked)) or compute()
        self.asked.append(asked)
        self.waiting.append((client, result))

    def run(self) -> None:
        while self.waiting:
            client, result = self.waiting.pop(0)
            client.deliver([result])


class Asker:
    """A client that flushes."""

    def __init__(self, engine: Engine, db: int = -1) -> None:
        self.answers: list[Result] = []
        self.engine = engine
        Flushing(engine, self, Flush(db)).begin()
        engine.run()

    def deliver(self, results: Sequence[Result]) -> None:
        self.answers += results

    def abort(self) -> None:
        raise AssertionError("it could be answered")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(limits, "KEYS_PER_ENTRY", 2_000)
    return engine


def test_few_keys_are_flushed_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEYS_PER_ENTRY", 20_000)
    assert Asker(engine).answers == [Done()]
    assert (engine.asked, len(engine.table.locks)) == ([Flush()], 0)


@pytest.mark.parametrize(("db", "left"), [(-1, 0), (0, 2_500)])
def test_many_keys_are_flushed_in_pieces(engine: Engine, db: int, left: int) -> None:
    assert Asker(engine, db).answers == [Done()]
    pieces = [asked for asked in engine.asked if isinstance(asked, DeleteAll)]
    assert len(pieces) >= (5_000 - left) // limits.SCAN_COUNT_MAX
    assert max(len(piece.names) for piece in pieces) <= limits.SCAN_COUNT_MAX + 1
    assert sum(engine.table.locks_by_db) == left
    engine.table.check()


def test_a_piece_that_finds_the_entry_full_is_tried_again(engine: Engine) -> None:
    engine.canned = {2: Busy("too much"), 3: Busy("too much")}
    assert Asker(engine).answers == [Done()]
    assert engine.asked[2] == engine.asked[3] == engine.asked[4]
    assert sum(engine.table.locks_by_db) == 0


def test_what_is_in_the_way_is_answered(engine: Engine) -> None:
    refusal = CommandError("no", "NOPERM")
    engine.canned = {0: NoLeader()}
    assert Asker(engine).answers == [NoLeader()]
    engine.asked, engine.canned = [], {0: Busy("too much"), 1: refusal}
    assert Asker(engine).answers == [refusal]


def test_nobody_is_told_that_nothing_was_done_when_something_was(engine: Engine) -> None:
    engine.canned = {4: NoLeader()}
    assert Asker(engine).answers == [InDoubt()]
    assert 0 < sum(engine.table.locks_by_db) < 5_000


def test_keys_that_come_meanwhile_are_left(engine: Engine) -> None:
    engine.canned = {1: KeyPage(0, (KEYS[0],)), 2: Number(1)}
    engine.apply([SetString(lock_name(0, b"new"), b"me")])
    assert Asker(engine).answers == [Done()]
    assert engine.table.locks.get(lock_name(0, b"new")) is not None
