"""Queries on the leader: rounds, overdue holds, and the order of one client's answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from resplock.errors import CommandError
from resplock.node.reads import Reads, answer
from resplock.node.runs import Answers, Client, Result
from resplock.operations import (
    CheckVersion,
    CountLocks,
    GetBackoff,
    GetLock,
    GetStats,
    ListLocks,
    Operation,
    Query,
    Stats,
)
from resplock.raft.core import RaftCore
from resplock.raft.ready import ReadState
from resplock.state.table import LockTable
from resplock.types import Index, StampMs
from tests.node.servers import Server, acquire, name


class Somebody:
    """A client that is only compared."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def deliver(self, results: Sequence[Result]) -> None:
        raise AssertionError("reads call nobody")

    def abort(self) -> None:
        raise AssertionError("reads call nobody")


ONE, TWO = Somebody("one"), Somebody("two")


class Fixture:
    """Reads of a leader, and a table in which `a` ends at 100 and `b` does not."""

    def __init__(self) -> None:
        self.core: RaftCore = Server().lead().node.core
        self.reads = Reads()
        self.answers: Answers = []
        self.table = LockTable()
        self.last_index = 0
        self.apply(0, acquire("a", ttl_ms=100), acquire("b", ttl_ms=0))

    def apply(self, stamp_ms: int, *operations: Operation) -> None:
        self.table.apply(Index(self.last_index + 1), StampMs(stamp_ms), operations)
        self.last_index += max(len(operations), 1)

    def ask(self, *asked: tuple[Client, Query]) -> ReadState:
        self.reads.asked += asked
        self.reads.start(self.core)
        assert self.reads.asked == []
        return ReadState(self.round(), Index(2))

    def round(self) -> int:
        [read] = self.core.ready().reads
        self.core.advance()
        return read.context

    def finish(self, read: ReadState, stamp_ms: int) -> list[bytes] | None:
        names = self.reads.finish(read, self.table, StampMs(stamp_ms), self.answers)
        return None if names is None else [bytes(each) for each in names]

    def settle(self, stamp_ms: int) -> None:
        """An entry is applied that ends what is due."""
        self.apply(stamp_ms)
        self.reads.finish_deferred(self.table, StampMs(stamp_ms), self.answers)

    def take(self) -> list[tuple[Client | None, Result]]:
        answers = [(client, result) for client, [result] in self.answers]
        self.answers.clear()
        return answers


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


def version(key: str, number: int) -> CheckVersion:
    return CheckVersion(name(key), number)


# --- rounds --------------------------------------------------------------------------------------


def test_one_round_serves_all_that_were_asked(fixture: Fixture) -> None:
    read = fixture.ask((ONE, version("a", 1)), (TWO, version("b", 2)), (ONE, version("b", 3)))
    assert fixture.take() == []
    assert fixture.finish(read, 99) is None
    assert fixture.take() == [(ONE, 1), (TWO, 1), (ONE, 0)]


def test_a_round_is_answered_once(fixture: Fixture) -> None:
    read = fixture.ask((ONE, version("a", 1)))
    fixture.finish(read, 99)
    assert fixture.finish(read, 99) is None
    assert fixture.take() == [(ONE, 1)]


def test_what_cannot_be_asked_now_waits(fixture: Fixture) -> None:
    fixture.core.step_down()
    fixture.reads.asked.append((ONE, version("a", 1)))
    fixture.reads.start(fixture.core)
    assert fixture.reads.asked == [(ONE, version("a", 1))]


def test_a_lost_round_is_asked_again_before_what_was_asked_since(fixture: Fixture) -> None:
    first = fixture.ask((ONE, version("a", 1)), (TWO, version("a", 2)))
    second = fixture.ask((ONE, version("a", 3)))
    fixture.reads.asked.append((ONE, version("a", 4)))
    fixture.reads.lose([first.context, second.context])
    assert fixture.reads.asked == [
        (ONE, version("a", 1)),
        (TWO, version("a", 2)),
        (ONE, version("a", 3)),
        (ONE, version("a", 4)),
    ]
    assert fixture.finish(first, 99) is None
    assert fixture.take() == [], "it is asked again, so it must not be answered too"


def test_a_refused_query_is_answered_with_the_error(fixture: Fixture) -> None:
    result = answer(fixture.table, ListLocks(0, cursor=b"nonsense"), StampMs(1))
    assert isinstance(result, CommandError)


# --- overdue holds -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (GetLock(name("a")), [name("a")]),
        (version("a", 1), [name("a")]),
        (GetBackoff(name("a")), [name("a")]),
        (GetLock(name("b")), None),
        (version("b", 2), None),
        (GetBackoff(name("b")), None),
        (ListLocks(0), []),
        (GetStats(), []),
        (CountLocks(0), []),
    ],
)
def test_what_meets_an_overdue_hold_is_answered_once_the_log_has_ended_it(
    fixture: Fixture, query: Query, names: list[bytes] | None
) -> None:
    assert fixture.finish(fixture.ask((ONE, query)), 99) is None
    [(client, before)] = fixture.take()
    assert client is ONE
    assert fixture.finish(fixture.ask((ONE, query)), 100) == names
    if names is None:
        assert not fixture.reads.are_deferred
        assert len(fixture.take()) == 1
        return
    assert fixture.reads.are_deferred
    assert fixture.take() == []
    fixture.settle(100)
    [(client, after)] = fixture.take()
    assert client is ONE
    assert after == answer(fixture.table, query, StampMs(100))
    assert after != before
    assert not fixture.reads.are_deferred


def test_an_entry_that_ends_nothing_of_it_answers_nothing(fixture: Fixture) -> None:
    fixture.finish(fixture.ask((ONE, version("a", 1))), 150)
    fixture.settle(99)
    assert fixture.take() == []
    fixture.settle(150)
    assert fixture.take() == [(ONE, 0)]


def test_one_clients_queries_wait_for_those_before_them(fixture: Fixture) -> None:
    read = fixture.ask(
        (ONE, version("b", 2)),
        (ONE, version("a", 1)),
        (ONE, version("b", 2)),
        (TWO, version("b", 2)),
    )
    assert fixture.finish(read, 100) == [name("a")]
    assert fixture.take() == [(ONE, 1), (TWO, 1)]
    assert fixture.finish(fixture.ask((ONE, CountLocks(1)), (TWO, version("b", 9))), 101) == []
    assert fixture.take() == [(TWO, 0)], "of a later round too"
    fixture.settle(101)
    assert fixture.take() == [(ONE, 0), (ONE, 1), (ONE, 0)]


def test_all_overdue_holds_of_a_round_are_settled(fixture: Fixture) -> None:
    fixture.apply(0, acquire("c", ttl_ms=50))
    read = fixture.ask((ONE, version("a", 1)), (TWO, version("c", 3)), (ONE, GetStats()))
    assert fixture.finish(read, 100) == [name("a"), name("c")]


def test_when_the_leadership_is_lost_all_is_asked_again_in_the_old_order(fixture: Fixture) -> None:
    deferred = [(ONE, version("a", 1)), (ONE, version("b", 2))]
    fixture.finish(fixture.ask(*deferred), 100)
    first = fixture.ask((ONE, version("b", 3)), (TWO, version("b", 4)))
    second = fixture.ask((ONE, version("b", 5)))
    fixture.reads.asked.append((ONE, GetStats()))
    fixture.reads.lose_all()
    assert fixture.reads.asked == [
        *deferred,
        (ONE, version("b", 3)),
        (TWO, version("b", 4)),
        (ONE, version("b", 5)),
        (ONE, GetStats()),
    ]
    fixture.settle(100)
    for read in (first, second):
        assert fixture.finish(read, 100) is None
    assert fixture.take() == []


def test_the_totals_have_the_end_that_was_waited_for(fixture: Fixture) -> None:
    fixture.finish(fixture.ask((ONE, GetStats())), 100)
    fixture.settle(100)
    [(_, stats)] = fixture.take()
    assert isinstance(stats, Stats)
    assert (stats.active_locks, stats.expired) == (1, 1)
