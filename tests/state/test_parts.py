"""The lock table's parts by themselves: timers, request ids, ends per entry, what is derived."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resplock import limits
from resplock.operations import (
    Acquire,
    Granted,
    Held,
    KeepAlive,
    Kept,
    Lost,
    Operation,
    Release,
    Renew,
    Renewed,
    Settle,
)
from resplock.state.groups import Groups
from resplock.state.table import LockTable
from resplock.state.timers import Timers
from resplock.types import LockName, hash_slot, lock_name

A, B = lock_name(0, b"a"), lock_name(0, b"b")


# --- timers --------------------------------------------------------------------------------------


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.integers(0, 9), st.integers(1, 3000)),
            st.tuples(st.just("clear"), st.integers(0, 9), st.just(0)),
            st.tuples(st.just("pass"), st.just(0), st.integers(0, 900)),
            st.tuples(st.just("prepare"), st.just(0), st.integers(0, 400)),
        ),
        max_size=60,
    ),
    st.integers(1, 4),
)
def test_timers_give_what_is_due_in_order(steps: list[tuple[str, int, int]], prepared: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "ENDS_PREPARED", prepared)
        give_what_is_due_in_order(steps)


def give_what_is_due_in_order(steps: list[tuple[str, int, int]]) -> None:
    deadlines: dict[LockName, int] = {}
    timers = Timers(lambda name: deadlines.get(name, 0))
    now = 0

    def clear(name: LockName) -> None:
        if name in deadlines:
            timers.remove(name, deadlines.pop(name))

    for step, number, amount in steps:
        name = LockName(b"%d" % number)
        if step == "set":
            clear(name)
            deadlines[name] = now + amount
            timers.add(name, now + amount)
        elif step == "clear":
            clear(name)
        elif step == "prepare":
            timers.prepare(now + amount)
        else:
            now += amount
            expected = sorted((d, n) for n, d in deadlines.items() if d <= now)
            given_out = []
            while (due := timers.due(now)) is not None:
                given_out.append(due)
                clear(due[1])
            assert given_out == expected
        if deadlines:
            assert timers
        elif not timers._near:  # where stale names may lie
            assert not timers
        assert timers._filled == sum(map(bool, timers._buckets.values()))
        assert sorted(timers._order) == sorted(timers._buckets)


def test_what_is_prepared_need_not_be_moved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENDS_PREPARED", 10)
    timers: Timers[int] = Timers(lambda _: 5_000)
    for name in range(95):
        timers.add(name, 5_000)
    timers.prepare(4_000)
    assert len(timers._near) == 0, "it is not soon enough"
    moved = []
    for _ in range(20):
        before = len(timers._near)
        timers.prepare(4_800)
        moved.append(len(timers._near) - before)
    assert moved == [10] * 9 + [0] * 11
    assert timers.due(4_999) is None
    assert timers.due(5_000) == (5_000, 0)
    assert len(timers._near) == 95


# --- slots ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"foo", 12182),
        (b"123456789", 12739),
        (b"foo{hash_tag}", 2515),
        (b"hash_tag", 2515),
        (b"foo{}{bar}", 8363),
        (b"foo{{bar}}zap", 4015),
        (b"foo{bar}{zap}", 5061),
        (b"bar", 5061),
        (b"{", 4092),
    ],
)
def test_hash_slots_are_redis_clusters(key: bytes, slot: int) -> None:
    """Values from the Redis Cluster specification, and CLUSTER KEYSLOT of a real Redis."""
    assert hash_slot(lock_name(0, key)) == slot


# --- owners --------------------------------------------------------------------------------------


def test_an_owner_of_one_lock_and_of_many() -> None:
    owners = Groups()
    assert owners.members_of(b"me") == []
    owners.add(b"me", B)
    owners.add(b"me", B)
    assert owners.members_of(b"me") == [B]
    owners.add(b"me", A)
    assert owners.members_of(b"me") == [A, B]
    owners.remove(b"me", B)
    assert owners.members_of(b"me") == [A]
    owners.remove(b"me", A)
    assert len(owners) == 0


# --- ends ----------------------------------------------------------------------------------------


def test_ends_are_bounded_per_entry_and_never_seen_by_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Past the cap holds stay for later entries, but no command sees one that is overdue."""
    monkeypatch.setattr(limits, "ENDS_PER_ENTRY", 3)
    table = LockTable()
    names = [lock_name(0, b"k%02d" % i) for i in range(10)]
    table.apply(1, 1, [Acquire(name, b"me", 5) for name in names])
    last = names[-1]
    (outcome,) = table.apply(11, 6, [Acquire(last, b"you", 100)])
    assert outcome == Granted(11, 100)
    assert table.totals.expired == 4
    assert table.end_due(6)
    for _ in range(2):
        table.apply(12, 6, [])
    assert table.totals.expired == 10
    assert not table.end_due(6)
    table.check()


def test_ends_come_in_the_order_of_their_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENDS_PER_ENTRY", 1)
    table = LockTable()
    table.apply(1, 1, [Acquire(A, b"me", 9), Acquire(B, b"me", 5)])
    table.apply(3, 50, [])
    assert [name for name, _ in table.locks] == [A]


def test_settle_ends_what_is_overdue_on_its_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENDS_PER_ENTRY", 0)
    table = LockTable()
    table.apply(1, 1, [Acquire(A, b"me", 5), Acquire(B, b"me", 5)])
    assert table.overdue(A, 6)
    assert not table.overdue(A, 5)
    table.apply(3, 6, [Settle((A,))])
    assert [name for name, _ in table.locks] == [B]


def test_the_table_says_whether_anything_ends_with_time() -> None:
    table = LockTable()
    assert not table.has_deadlines
    table.apply(1, 1, [Acquire(A, b"me", 0)])
    assert not table.has_deadlines
    table.apply(2, 1, [Acquire(B, b"me", 5)])
    assert table.has_deadlines
    assert not table.end_due(5)
    assert table.end_due(6)


# --- request ids ---------------------------------------------------------------------------------


def acquire(request: bytes, name: LockName = A, owner: bytes = b"me") -> Operation:
    return Acquire(name, owner, 1000, request)


def test_a_repeated_request_has_one_effect_and_one_answer() -> None:
    table = LockTable()
    (first,) = table.apply(1, 1, [acquire(b"r1")])
    (again,) = table.apply(2, 500, [acquire(b"r1")])
    assert again == first == Granted(1, 1000)
    table.apply(3, 1001, [])
    assert not len(table.locks), "the repetition did not extend the hold"


def test_a_refusal_is_remembered_too() -> None:
    table = LockTable()
    table.apply(1, 1, [Acquire(A, b"you", 1000)])
    (refused,) = table.apply(2, 1, [acquire(b"r1")])
    table.apply(3, 2, [Release(A, b"you")])
    assert table.apply(4, 3, [acquire(b"r1")]) == [refused]
    assert isinstance(refused, Held)
    assert table.apply(5, 3, [acquire(b"r2")]) == [Granted(5, 1000)]


def test_a_grant_that_has_ended_since_is_lost() -> None:
    table = LockTable()
    table.apply(1, 1, [acquire(b"r1"), Release(A, b"me")])
    assert table.apply(3, 2, [acquire(b"r1")]) == [Lost(1)]
    table.apply(4, 2, [acquire(b"r2")])
    assert table.apply(5, 3, [acquire(b"r1")]) == [Lost(1)], "a newer hold is not this grant"


def test_request_ids_belong_to_their_owner() -> None:
    table = LockTable()
    table.apply(1, 1, [acquire(b"r", A, b"1:x"), acquire(b"xr", B, b"1:")])
    assert table.apply(3, 1, [acquire(b"r", A, b"1:x"), acquire(b"xr", B, b"1:")]) == [
        Granted(1, 1000),
        Granted(2, 1000),
    ]


def test_requests_are_forgotten_after_their_time() -> None:
    table = LockTable()
    table.apply(1, 1, [acquire(b"r1"), Release(A, b"me")])
    table.apply(3, limits.REQUEST_REMEMBERED_MS, [])
    assert len(table.requests) == 1
    table.apply(3, limits.REQUEST_REMEMBERED_MS + 1, [])
    assert len(table.requests) == 0
    assert table.apply(4, table.clock_ms, [acquire(b"r1")]) == [Granted(4, 1000)]


def test_an_owner_has_a_bounded_number_of_remembered_requests() -> None:
    table = LockTable()
    for number in range(limits.REQUESTS_PER_OWNER + 5):
        table.apply(number + 1, number + 1, [acquire(b"r%d" % number)])
    table.apply(1000, 1000, [acquire(b"r", A, b"you")])
    assert len(table.requests) == limits.REQUESTS_PER_OWNER + 1
    assert table.requests.get(b"me", b"r4") is None
    assert table.requests.get(b"me", b"r5") is not None


# --- renewal -------------------------------------------------------------------------------------


def test_renewal_sets_the_end_exactly_and_keeps_the_version() -> None:
    table = LockTable()
    table.apply(1, 1, [Acquire(A, b"me", 1000)])
    assert table.apply(2, 100, [Renew(A, b"me", 0, 50)]) == [Renewed(1, 50)]
    table.apply(3, 149, [])
    assert len(table.locks) == 1
    table.apply(3, 150, [])
    assert len(table.locks) == 0


def test_keepalive_renews_every_hold_and_names_the_lost() -> None:
    table = LockTable()
    table.apply(1, 1, [Acquire(A, b"me", 100), Acquire(B, b"me", 10)])
    (kept,) = table.apply(3, 50, [KeepAlive(b"me", 500, ((A, 1), (B, 2)))])
    assert kept == Kept(1, (B,))
    table.apply(4, 549, [])
    assert len(table.locks) == 1
