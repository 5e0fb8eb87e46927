"""Waiting in line, rule by rule: what the model comparison cannot show, or shows less clearly."""

from __future__ import annotations

import pytest

from resplock import limits
from resplock.operations import (
    Acquire,
    AcquireAll,
    Advice,
    Blocked,
    Break,
    Busy,
    Cancel,
    Cancelled,
    ClientId,
    Deadlock,
    Disconnect,
    Ended,
    GetBackoff,
    GetLock,
    GetStats,
    Granted,
    Held,
    KeepAlive,
    ListLocks,
    LockInfo,
    LockPage,
    NodeGone,
    NotWaiting,
    Operation,
    Options,
    Outcome,
    Queued,
    QueueFull,
    Refused,
    Release,
    Released,
    Settle,
    Stats,
    TimedOut,
    Unblocked,
    Undelivered,
)
from resplock.state import queries, snapshots
from resplock.state.table import LockTable
from resplock.types import LockName, NodeId, lock_name
from tests.state.twin import image

A, B, C = lock_name(0, b"a"), lock_name(0, b"b"), lock_name(0, b"c")


class Script:
    """A table, and a log that goes on by itself."""

    def __init__(self) -> None:
        self.table = LockTable()
        self.index, self.now = 1, 1
        self.ended: list[Ended] = []

    def run(self, *operations: Operation, after: int = 0) -> list[Outcome]:
        self.now += after
        outcomes = self.table.apply(self.index, self.now, list(operations))
        self.index += len(operations) or 1
        self.ended += self.table.take_ended()
        self.table.check()
        return outcomes

    def ends(self) -> list[tuple[int, Outcome]]:
        """Those since the last call, as (ticket, outcome)."""
        ended, self.ended = self.ended, []
        return [(end.ticket, end.outcome) for end in ended]

    def owner(self, name: LockName = A) -> bytes | None:
        info = queries.answer(self.table, GetLock(name), self.now)
        assert info is None or isinstance(info, LockInfo)
        return info and info.owner


@pytest.fixture
def script() -> Script:
    return Script()


def client(serial: int, node: str = "n1", life: int = 1) -> ClientId:
    return ClientId(NodeId(node), life, serial)


def wait(
    owner: bytes, name: LockName = A, wait_ms: int = 60_000, request: bytes = b"", **more: object
) -> Acquire:
    options = Options(wait_ms=wait_ms, **{"client": client(owner[-1]), **more})  # type: ignore[arg-type]
    return Acquire(name, owner, 5_000, request, (), options)


def enqueue(owner: bytes, name: LockName = A, lifetime_ms: int = 0) -> Acquire:
    return Acquire(name, owner, 5_000, options=Options(wait_ms=lifetime_ms, blocking=False))


# --- the line ------------------------------------------------------------------------------------


def test_a_release_hands_over_in_the_same_entry(script: Script) -> None:
    assert script.run(Acquire(A, b"me"), wait(b"w1"), wait(b"w2")) == [
        Granted(1, 30_000),
        Blocked(2),
        Blocked(3),
    ]
    assert script.run(Release(A, b"me")) == [Released(0, b"w1")]
    assert script.ends() == [(2, Granted(4, 5_000, 1))]
    assert script.run(Release(A, b"w1")) == [Released(0, b"w2")]
    assert script.ends() == [(3, Granted(5, 5_000, 0))]


def test_an_expiry_hands_over_by_the_first_index_of_its_entry(script: Script) -> None:
    script.run(Acquire(A, b"me", 10), wait(b"w1"))
    assert script.run(Acquire(A, b"late"), after=500)[0] == Held(
        b"w1", 3, 5_000, 0, Advice(50, 50, 1000)
    )
    assert script.ends() == [(2, Granted(3, 5_000))]


def test_a_wait_runs_out_on_the_replicated_clock(script: Script) -> None:
    script.run(Acquire(A, b"me"), wait(b"w1", wait_ms=100))
    script.run(after=99)
    assert script.ends() == []
    assert script.table.end_due(script.now + 1)
    script.run(after=1)
    ((ticket, outcome),) = script.ends()
    assert ticket == 2
    assert isinstance(outcome, TimedOut)
    assert (outcome.owner, outcome.version, outcome.waiters) == (b"me", 1, 0)


def test_a_hold_that_ends_with_a_wait_is_handed_to_it(script: Script) -> None:
    """Holds end before waits on ties."""
    script.run(Acquire(A, b"me", 100), wait(b"w1", wait_ms=100))
    script.run(after=100)
    assert script.ends() == [(2, Granted(3, 5_000))]


def test_a_wait_that_ended_before_the_hold_did_is_not_served_late(script: Script) -> None:
    script.run(Acquire(A, b"me", 101), wait(b"w1", wait_ms=100))
    script.run(after=5_000)
    assert isinstance(script.ends()[0][1], TimedOut)
    assert script.owner() is None


def test_the_deadline_of_a_place_without_a_wait_is_the_longest(script: Script) -> None:
    script.run(Acquire(A, b"me", 0))
    assert script.run(enqueue(b"w1"), enqueue(b"w2", lifetime_ms=50)) == [
        Queued(0, 50),
        Queued(1, 100),
    ]
    script.run(after=50)
    assert script.table.queues.count(A) == 1
    script.run(after=limits.WAIT_MS_MAX - 51)
    assert script.table.queues.count(A) == 1
    script.run(after=1)
    assert script.table.queues.count(A) == 0
    assert script.ends() == [], "nobody was blocked for them"


def test_a_cancel_that_comes_after_the_grant_finds_no_place(script: Script) -> None:
    script.run(Acquire(A, b"me"), wait(b"w1"))
    assert script.run(Release(A, b"me"), Cancel(A, b"w1")) == [Released(0, b"w1"), NotWaiting(A)]
    assert script.owner() == b"w1"


def test_a_cancel_that_comes_before_the_grant_takes_the_place_away(script: Script) -> None:
    script.run(Acquire(A, b"me"), wait(b"w1"))
    assert script.run(Cancel(A, b"w1"), Release(A, b"me")) == [Cancelled(1), Released()]
    assert script.ends() == [(2, Unblocked("cancelled"))]


def test_the_advice_counts_who_is_ahead(script: Script) -> None:
    """Mean hold time: the first 10 ms from one release."""
    script.run(Acquire(A, b"me"))
    script.run(Release(A, b"me"), Acquire(A, b"me"), after=10)
    script.run(*(enqueue(b"w%d" % number) for number in range(4)))
    (held,) = script.run(Acquire(A, b"late"))
    assert isinstance(held, Held)
    assert held.waiters == 4
    assert held.advice.retry_after_ms == 11 + 4 * 11
    assert script.run(enqueue(b"w2")) == [Queued(2, 11 + 2 * 11)]
    assert queries.answer(script.table, GetBackoff(A), script.now) == held.advice


def test_a_reader_passes_no_writer_but_one_of_lower_priority(script: Script) -> None:
    script.run(Acquire(A, b"r1", options=Options(shared=True)), wait(b"w1"))
    shared = Options(shared=True)
    (held,) = script.run(Acquire(A, b"r2", options=shared))
    assert isinstance(held, Held)
    assert (held.owner, held.version) == (b"w1", 0), "the writer in front is in the way"
    assert isinstance(
        script.run(Acquire(A, b"r3", options=Options(shared=True, priority=1)))[0], Granted
    )


def test_a_delay_is_shown_as_nobodys(script: Script) -> None:
    script.run(Acquire(A, b"me", 10, options=Options(delay_ms=300)))
    (held,) = script.run(Acquire(A, b"you"), after=20)
    assert isinstance(held, Held)
    assert (held.owner, held.version, held.ttl_ms) == (None, 0, 300)
    assert held.advice.retry_after_ms == 300
    assert script.owner() is None
    assert isinstance(script.run(Acquire(A, b"you"), after=300)[0], Granted)


# --- bounds --------------------------------------------------------------------------------------


def test_a_queue_has_a_bound(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITERS_PER_LOCK", 2)
    script.run(Acquire(A, b"me"), wait(b"w1"), enqueue(b"w2"))
    assert script.run(wait(b"w3"), enqueue(b"w4")) == [QueueFull(A, 2), QueueFull(A, 2)]
    several = AcquireAll((B, A), b"w5", options=Options(wait_ms=10))
    assert script.run(several) == [QueueFull(A, 2)]
    assert script.run(wait(b"w1"))[0] == Blocked(7), "who has a place keeps it"


def test_all_queues_together_have_a_bound(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITERS_MAX", 2)
    script.run(Acquire(A, b"me"), Acquire(B, b"me"), wait(b"w1"), wait(b"w2", B))
    (busy,) = script.run(wait(b"w3", request=b"r"))
    assert isinstance(busy, Busy)
    script.run(Release(A, b"me"))
    assert script.run(wait(b"w3", request=b"r")) == [Blocked(7)], "this refusal is not remembered"


def test_holders_have_a_bound(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HOLDERS_PER_LOCK", 2)
    reads = [Acquire(A, b"r%d" % n, options=Options(shared=True)) for n in range(3)]
    assert [type(outcome) for outcome in script.run(*reads)] == [Granted, Granted, Held]


def test_a_connection_has_a_bound_on_what_is_tied_to_it(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HOLDS_TIED_PER_CLIENT", 2)
    tied = Options(on_close=True, client=client(1))
    outcomes = script.run(*(Acquire(name, b"me", options=tied) for name in (A, B, C)))
    assert [type(outcome) for outcome in outcomes] == [Granted, Granted, Busy]


def test_a_keepalive_has_a_bound(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEEPALIVE_HOLDS_MAX", 1)
    script.run(Acquire(A, b"me", 10), Acquire(B, b"me", 10))
    (refused,) = script.run(KeepAlive(b"me", 5_000))
    assert isinstance(refused, Refused)
    assert "the owner holds 2 locks" in refused.text
    script.run(after=10)
    assert script.owner() is None


def test_ends_of_places_are_bounded_per_entry(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the cap a place stays for later entries, but nobody who is late is served."""
    monkeypatch.setattr(limits, "ENDS_PER_ENTRY", 3 * limits.PLACE_END_COST)
    script.run(Acquire(A, b"me"), *(wait(b"w%d" % n, wait_ms=10) for n in range(8)))
    script.run(after=10)
    assert len(script.ends()) == 3
    assert script.table.end_due(script.now)
    assert script.run(Release(A, b"me")) == [Released()]
    assert len(script.ends()) == 5
    assert script.owner() is None


def test_a_place_that_is_over_is_not_taken_over(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENDS_PER_ENTRY", 0)
    script.run(Acquire(A, b"me"), wait(b"w1", wait_ms=10), wait(b"w2"))
    (again,) = script.run(wait(b"w1"), after=10)
    assert again == Blocked(4)
    assert [ticket for ticket, _ in script.ends()] == [2]
    assert script.run(Release(A, b"me")) == [Released(0, b"w2")], "it is behind now"


# --- clients that go away ------------------------------------------------------------------------


def test_who_asks_again_in_time_takes_the_grant_that_was_made_meanwhile(script: Script) -> None:
    asked = Acquire(A, b"w1", 60_000, b"r", (), Options(wait_ms=60_000, client=client(1)))
    script.run(Acquire(A, b"me"), asked)
    script.run(Disconnect((client(1),)))
    assert script.ends() == [(2, Unblocked("disconnected"))]
    script.run(Release(A, b"me"), after=1_000)
    assert script.ends() == [], "nobody was blocked any more"
    assert script.run(asked, after=limits.WAITER_GRACE_MS - 1_001) == [Granted(4, 60_000)]
    script.run(after=10_000)
    assert script.owner() == b"w1", "it was claimed"


def test_a_grace_counts_from_the_disconnect(script: Script) -> None:
    script.run(Acquire(A, b"me"), wait(b"w1", request=b"r"), wait(b"w2"))
    script.run(Disconnect((client(ord("1")),)))
    patient = Release(A, b"me")
    script.run(patient, after=limits.WAITER_GRACE_MS - 10)
    assert script.owner() == b"w1"
    script.run(after=9)
    assert script.owner() == b"w1"
    script.run(after=1)
    assert script.owner() == b"w2"


def test_a_place_that_nobody_came_back_for_may_be_asked_for_anew(script: Script) -> None:
    script.run(Acquire(A, b"me", 0), wait(b"w1", request=b"r"))
    script.run(Disconnect((client(ord("1")),)))
    script.run(after=limits.WAITER_GRACE_MS)
    assert script.table.queues.count(A) == 0
    (again,) = script.run(wait(b"w1", request=b"r"))
    assert isinstance(again, Blocked)


def test_a_grant_that_could_not_be_told_is_released_by_version(script: Script) -> None:
    script.run(Acquire(A, b"me"), wait(b"w1"), wait(b"w2"))
    script.run(Release(A, b"me"))
    script.run(Undelivered((A,), b"w1", 3))
    assert script.owner() == b"w1", "another version"
    script.run(Undelivered((A,), b"w1", 4))
    assert script.owner() == b"w2"


def test_a_grant_is_not_taken_back_once_its_owner_knows(script: Script) -> None:
    """The client came over another connection before its node said that the first one had gone."""
    script.run(Acquire(A, b"me"), wait(b"w1"))
    script.run(Release(A, b"me"), Acquire(A, b"w1", 5_000), Undelivered((A,), b"w1", 3))
    assert script.owner() == b"w1"


def test_an_untold_grant_with_a_request_waits_for_its_owner(script: Script) -> None:
    script.run(Acquire(A, b"me"), wait(b"w1", request=b"r"))
    script.run(Release(A, b"me"), Undelivered((A,), b"w1", 3, b"r"))
    script.run(after=4_000)
    assert script.run(wait(b"w1", request=b"r")) == [Granted(3, 5_000)]


def test_what_is_tied_moves_with_a_second_ask(script: Script) -> None:
    tied = [Options(on_close=True, client=client(serial)) for serial in (1, 2)]
    script.run(*(Acquire(A, b"me", options=options) for options in tied))
    script.run(Disconnect((client(1),)))
    assert script.owner() == b"me"
    script.run(Disconnect((client(2),)))
    assert script.owner() is None


def test_clients_that_go_together_end_bit_by_bit(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENDS_PER_ENTRY", 2 * limits.PLACE_END_COST)
    names = [lock_name(0, b"k%d" % number) for number in range(5)]
    script.run(
        *(
            Acquire(name, b"me", 0, options=Options(on_close=True, client=client(number // 3)))
            for number, name in enumerate(names)
        )
    )
    assert script.table.attached_lives() == [(NodeId("n1"), 1)]
    script.run(NodeGone(NodeId("n1")))
    assert sum(script.table.locks_by_db) == 3
    assert script.table.end_due(script.now), "the clock is to be carried on"
    script.table = snapshots.restore(iter(image(script.table)))
    script.run(Settle(()))
    assert sum(script.table.locks_by_db) == 1
    script.run()
    assert sum(script.table.locks_by_db) == 0
    assert not script.table.end_due(script.now)
    assert script.table.attached_lives() == []


def test_the_table_knows_which_waits_go_on(script: Script) -> None:
    asked = wait(b"w1")
    script.run(Acquire(A, b"me"), asked)
    assert script.table.is_waiting(asked, 2)
    assert not script.table.is_waiting(asked, 1)
    script.run(Release(A, b"me"))
    assert not script.table.is_waiting(asked, 2)


# --- several locks -------------------------------------------------------------------------------


def several(owner: bytes, *names: LockName) -> AcquireAll:
    return AcquireAll(names, owner, 5_000, options=Options(wait_ms=60_000))


def test_several_locks_come_together_with_one_version(script: Script) -> None:
    script.run(Acquire(B, b"me"), several(b"w1", A, B))
    (held,) = script.run(Acquire(A, b"you"))
    assert isinstance(held, Held)
    assert (held.owner, held.version) == (b"w1", 0), "A is free, and w1 comes first"
    script.run(Release(B, b"me"))
    assert script.ends() == [(2, Granted(4, 5_000, 0))]
    assert [script.owner(A), script.owner(B)] == [b"w1", b"w1"]
    assert script.run(several(b"w1", A, B))[0] == Granted(4, 5_000), "asked again"
    script.run(Release(A, b"w1"))
    assert isinstance(script.run(several(b"w1", A, B))[0], Refused), "B is held, A is not"


def test_places_of_several_locks_never_wait_for_each_other_in_a_circle(script: Script) -> None:
    script.run(Acquire(A, b"me"), Acquire(B, b"you"))
    outcomes = script.run(several(b"w1", A, B), several(b"w2", B, A))
    assert outcomes == [Blocked(3), Blocked(4)]
    script.run(Release(A, b"me"), Release(B, b"you"))
    script.run(Release(A, b"w1"), Release(B, b"w1"))
    assert [ticket for ticket, _ in script.ends()] == [3, 4]


# --- deadlocks -----------------------------------------------------------------------------------


def test_a_cycle_is_refused_and_named(script: Script) -> None:
    script.run(Acquire(A, b"o1"), Acquire(B, b"o2"), Acquire(C, b"o3"))
    script.run(wait(b"o1", B), wait(b"o2", C))
    assert script.run(wait(b"o3", A)) == [Deadlock(((A, b"o1"), (B, b"o2"), (C, b"o3")))]
    assert script.table.queues.count(A) == 0
    assert isinstance(script.run(enqueue(b"o3", A))[0], Queued), "nobody is blocked for it"


def test_a_semaphore_closes_no_cycle(script: Script) -> None:
    permits = {"limit": 1}
    script.run(
        Acquire(A, b"o1", options=Options(limit=1)), Acquire(B, b"o2", options=Options(limit=1))
    )
    assert script.run(wait(b"o1", B, **permits), wait(b"o2", A, **permits)) == [
        Blocked(3),
        Blocked(4),
    ]


def test_a_search_has_a_bound_past_which_the_wait_is_admitted(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DEADLOCK_STEPS_MAX", 2)
    script.run(Acquire(A, b"o1"), Acquire(B, b"o2"), Acquire(C, b"o3"))
    script.run(wait(b"o1", B), wait(b"o2", C))
    assert script.run(wait(b"o3", A)) == [Blocked(6)]


# --- looking -------------------------------------------------------------------------------------


def test_stats_and_listings_tell_who_is_waited_for(script: Script) -> None:
    script.run(Acquire(A, b"me"), Acquire(B, b"me"), enqueue(b"w1"), enqueue(b"w2"))
    stats = queries.answer(script.table, GetStats(), script.now)
    assert isinstance(stats, Stats)
    assert (stats.active_locks, stats.waiters, stats.contested_locks) == (2, 2, 1)

    def listed(**filters: bool) -> list[LockName]:
        page = queries.answer(script.table, ListLocks(0, **filters), script.now)  # type: ignore[arg-type]
        assert isinstance(page, LockPage)
        return [info.name for info in page.locks]

    assert listed(contested=True) == [A]
    script.run(
        several(b"w3", A, C), Break(B), Acquire(B, b"me", 1, options=Options(delay_ms=10_000))
    )
    script.run(after=1)
    assert sorted(listed()) == [A, C], "nobody holds C, but somebody waits; B is only delayed"
    assert listed(held=True) == [A]
    assert sorted(listed(contested=True)) == [A, C]


def test_waiters_are_shown_from_the_front_as_many_as_fit(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WAITERS_LISTED_MAX", 3)
    script.run(Acquire(A, b"me"), *(enqueue(b"w%d" % number) for number in range(5)))
    info = queries.answer(script.table, GetLock(A, waiters=True), script.now)
    assert isinstance(info, LockInfo)
    assert info.waiters is not None
    assert info.waiter_count == 5
    assert [each.owner for each in info.waiters] == [b"w0", b"w1", b"w2"]
    bulky = [enqueue(b"%d" % number + b"x" * 4000, C) for number in range(200)]
    script.run(Acquire(C, b"me"), *bulky)
    monkeypatch.setattr(limits, "WAITERS_LISTED_MAX", 1_000)
    info = queries.answer(script.table, GetLock(C, waiters=True), script.now)
    assert isinstance(info, LockInfo)
    assert info.waiters is not None
    assert sum(len(each.owner) for each in info.waiters) < limits.LIST_BYTES_MAX
    assert 100 < len(info.waiters) < 200


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_a_crowded_slot_is_listed_while_it_changes(
    script: Script, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """What is there from the first page to the last is listed exactly once."""
    monkeypatch.setattr("resplock.state.listing.CROWDED", 10)
    monkeypatch.setattr("resplock.state.crowded._RUN", 16)
    names = [lock_name(0, b"{t}%03d" % number) for number in range(100)]
    table = script.table
    table.apply(1, 1, [Acquire(name, b"me") for name in [*names, A]])
    index, cursor, listed = 200, b"0", list[LockName]()
    going, coming = names[::10], iter(lock_name(0, b"{t}%03dx" % number) for number in range(999))
    while True:
        page = queries.answer(table, ListLocks(0, cursor, count=count), 1)
        assert isinstance(page, LockPage)
        listed += [info.name for info in page.locks]
        cursor = page.cursor
        if cursor == b"0":
            break
        table.apply(index, 1, [Acquire(next(coming), b"you"), *[Release(n, b"me") for n in going]])
        going = []
        index += 20
    assert len(set(listed)) == len(listed)
    assert {*names, A} - set(names[::10]) <= set(listed)


def test_a_listing_goes_on_when_its_sorting_was_lost(script: Script) -> None:
    """As after a failover: the cursor of another node."""
    names = [lock_name(0, b"{t}%04d" % number) for number in range(5_000)]
    script.table.apply(1, 1, [Acquire(name, b"me") for name in names])

    def page(cursor: bytes) -> LockPage:
        found = queries.answer(script.table, ListLocks(0, cursor, count=1_000), 1)
        assert isinstance(found, LockPage)
        return found

    first = page(b"0")
    for _ in range(8):
        page(b"0")  # other listings
    listed, cursor = [info.name for info in first.locks], first.cursor
    while cursor != b"0":
        again = page(cursor)
        listed += [info.name for info in again.locks]
        cursor = again.cursor
    assert listed == names
