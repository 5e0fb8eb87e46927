"""LOCK.GET, LIST, CHECK, BACKOFF and STATS, as the lock table answers them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resplock import limits
from resplock.errors import CommandError
from resplock.operations import (
    Acquire,
    Advice,
    Break,
    CheckVersion,
    CountLocks,
    GetBackoff,
    GetLock,
    GetStats,
    Held,
    ListLocks,
    LockInfo,
    LockPage,
    Release,
    SetUnixOffset,
    Stats,
)
from resplock.state import queries
from resplock.state.table import LockTable
from resplock.types import LockName, key_of, lock_name

A = lock_name(0, b"a")


def table_with(*names: LockName, ttl_ms: int = 30_000) -> LockTable:
    table = LockTable()
    table.apply(1, 1, [Acquire(name, b"me", ttl_ms) for name in names])
    return table


def pages(table: LockTable, **query: object) -> list[LockPage]:
    found: list[LockPage] = []
    cursor = b"0"
    while True:
        page = queries.answer(table, ListLocks(0, cursor, **query), table.clock_ms)  # type: ignore[arg-type]
        assert isinstance(page, LockPage)
        found.append(page)
        cursor = page.cursor
        if cursor == b"0":
            return found


def listed(table: LockTable, **query: object) -> list[bytes]:
    return [key_of(lock.name) for page in pages(table, **query) for lock in page.locks]


def test_get_shows_unix_times_and_what_is_left_of_the_ttl() -> None:
    table = LockTable()
    table.apply(1, 100, [SetUnixOffset(1_700_000_000_000)])
    table.apply(2, 200, [Acquire(A, b"me", 5000, metadata=((b"host", b"x"),))])
    assert queries.answer(table, GetLock(A), 1200) == LockInfo(
        name=A,
        owner=b"me",
        mode="exclusive",
        version=2,
        acquired_at=1_700_000_000_200,
        expires_at=1_700_000_005_200,
        last_modified=1_700_000_000_200,
        ttl_ms=4000,
        limit=1,
        waiter_count=0,
        metadata=((b"host", b"x"),),
    )


def test_get_of_a_free_lock_is_none() -> None:
    assert queries.answer(LockTable(), GetLock(A), 1) is None


def test_a_lock_without_expiry_has_no_end() -> None:
    info = queries.answer(table_with(A, ttl_ms=0), GetLock(A), 10**9)
    assert isinstance(info, LockInfo)
    assert (info.ttl_ms, info.expires_at) == (0, 0)


def test_check_is_true_of_the_current_version_only() -> None:
    table = table_with(A)
    assert queries.answer(table, CheckVersion(A, 1), 1) == 1
    assert queries.answer(table, CheckVersion(A, 2), 1) == 0
    table.apply(2, 2, [Break(A)])
    assert queries.answer(table, CheckVersion(A, 1), 1) == 0


def test_backoff_of_a_free_lock() -> None:
    assert queries.answer(LockTable(), GetBackoff(A), 1) == Advice(0, 50, 1000, 150, 20)


def test_backoff_is_what_a_refusal_advises() -> None:
    table = table_with(A)
    (outcome,) = table.apply(2, 1, [Acquire(A, b"you")])
    assert isinstance(outcome, Held)
    assert queries.answer(table, GetBackoff(A), 1) == outcome.advice


def test_refusals_advise_from_observed_hold_times() -> None:
    """Advice for a lock that is held for 5 ms is milliseconds, whatever its TTL."""
    table = LockTable()
    index, stamp = 1, 1
    for _ in range(50):
        table.apply(index, stamp, [Acquire(A, b"me", 30_000)])
        table.apply(index + 1, stamp + 5, [Release(A, b"me")])
        index, stamp = index + 2, stamp + 6
    table.apply(index, stamp, [Acquire(A, b"me", 30_000)])
    (outcome,) = table.apply(index + 1, stamp, [Acquire(A, b"you", 30_000)])
    assert isinstance(outcome, Held)
    assert outcome.advice == Advice(retry_after_ms=6, initial_ms=6, max_ms=1000)


def test_advice_is_capped_by_what_is_left_of_the_ttl() -> None:
    table = table_with(A, ttl_ms=20)
    (outcome,) = table.apply(2, 11, [Acquire(A, b"you", 20)])
    assert isinstance(outcome, Held)
    assert outcome.ttl_ms == 10
    assert outcome.advice.retry_after_ms == 10


def test_a_lock_that_differs_from_the_rest_has_a_mean_of_its_own() -> None:
    table = LockTable()
    slow = lock_name(0, b"slow")
    index, stamp = 1, 1
    for turn in range(40):
        name = lock_name(0, b"quick-%d" % turn)
        table.apply(index, stamp, [Acquire(name, b"me"), Acquire(slow, b"me", 0)])
        table.apply(index + 2, stamp + 2, [Release(name, b"me")])
        table.apply(index + 3, stamp + 500, [Release(slow, b"me")])
        index, stamp = index + 4, stamp + 500
    assert 400 <= table.means.mean_ms(slow) <= 501
    assert table.means.mean_ms(lock_name(0, b"quick-0")) < 400


def test_hold_means_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HOLD_MEANS_MAX", 3)
    table = LockTable()
    for turn in range(20):
        name = lock_name(0, b"%d" % turn)
        held_ms = 10 ** (turn % 6)
        table.apply(2 * turn + 1, table.clock_ms, [Acquire(name, b"me", 0)])
        table.apply(2 * turn + 2, table.clock_ms + held_ms, [Release(name, b"me")])
    assert len(table.means.means) <= 3


def test_stats_count_and_average() -> None:
    table = table_with(A, lock_name(0, b"b"))
    table.apply(3, 11, [Acquire(A, b"you"), Release(A, b"me"), Break(lock_name(0, b"b"))])
    stats = queries.answer(table, GetStats(), 11)
    assert isinstance(stats, Stats)
    assert stats.active_locks == 0
    assert (stats.acquisitions, stats.refusals, stats.releases, stats.broken) == (2, 1, 1, 1)
    assert stats.average_hold_ms == 11
    assert stats.last_version == 2


def test_databases_are_counted_apart() -> None:
    table = table_with(A, lock_name(0, b"b"), lock_name(9, b"a"))
    assert queries.answer(table, CountLocks(0), 1) == 2
    assert queries.answer(table, CountLocks(9), 1) == 1
    assert queries.answer(table, CountLocks(1), 1) == 0


# --- LOCK.LIST -----------------------------------------------------------------------------------

MANY = [lock_name(0, b"k%d" % i) for i in range(500)]


def test_list_gives_every_lock_once() -> None:
    table = table_with(*MANY, lock_name(1, b"elsewhere"))
    assert sorted(listed(table, count=7)) == sorted(map(key_of, MANY))


def test_list_goes_on_within_a_slot() -> None:
    """Locks of one slot that do not fit on one page are listed over several."""
    names = [lock_name(0, b"{tag}%d" % i) for i in range(50)]
    table = table_with(*names)
    found = pages(table, count=7)
    assert sorted(lock.name for page in found for lock in page.locks) == sorted(names)
    assert max(len(page.locks) for page in found) == 7


@settings(max_examples=25)
@given(st.integers(1, 50), st.randoms(use_true_random=False))
def test_list_is_stable_while_the_table_changes(count: int, rng: object) -> None:
    """What is there from the first page to the last is listed exactly once."""
    table = table_with(*MANY[:100])
    index, cursor, found = 1000, b"0", []
    for turn in range(10_000):
        page = queries.answer(table, ListLocks(0, cursor, count=count), table.clock_ms)
        assert isinstance(page, LockPage)
        found.extend(key_of(lock.name) for lock in page.locks)
        cursor = page.cursor
        if cursor == b"0":
            break
        newcomer = lock_name(0, b"new%d" % turn)
        leaver = MANY[50 + turn % 50]
        table.apply(index, table.clock_ms, [Acquire(newcomer, b"me"), Release(leaver, b"me")])
        index += 2
    stayed = [key_of(name) for name in MANY[:50]]
    assert [found.count(key) for key in stayed] == [1] * len(stayed)


def test_list_filters() -> None:
    table = LockTable()
    table.apply(1, 1, [SetUnixOffset(1000)])
    a, b, c = (lock_name(0, key) for key in (b"job/1", b"job/2", b"other"))
    table.apply(
        2,
        1,
        [
            Acquire(a, b"alice", 100, metadata=((b"env", b"prod"), (b"n", b"1"))),
            Acquire(b, b"bob", 5000, metadata=((b"env", b"dev"),)),
            Acquire(c, b"alice", 0),
        ],
    )
    assert sorted(listed(table, match=b"job/*")) == [b"job/1", b"job/2"]
    assert sorted(listed(table, owner=b"al*")) == [b"job/1", b"other"]
    assert listed(table, metadata=((b"env", b"prod"),)) == [b"job/1"]
    assert listed(table, metadata=((b"env", b"prod"), (b"n", b"2"))) == []
    assert listed(table, expires_before=2000) == [b"job/1"]
    assert listed(table, expires_after=2000) == [b"job/2"]
    assert sorted(listed(table, held=True)) == [b"job/1", b"job/2", b"other"]
    assert listed(table, contested=True) == []


def test_a_page_ends_when_its_reply_grows_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIST_BYTES_MAX", 2000)
    table = table_with(*(lock_name(0, b"{t}%d" % i) for i in range(100)))
    assert all(len(page.locks) <= 7 for page in pages(table, count=1000))


def test_a_page_looks_at_a_bounded_number_of_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIST_LOOKED_AT_MAX", 50)
    table = table_with(*MANY)
    assert len(pages(table, match=b"nothing")) == len(MANY) // 50
    assert sorted(listed(table, count=1000)) == sorted(map(key_of, MANY))


def test_a_page_ends_within_a_slot_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIST_LOOKED_AT_MAX", 7)
    names = [lock_name(0, b"{tag}%d" % i) for i in range(50)]
    table = table_with(*names)
    assert len(pages(table, match=b"nothing")) == -(-50 // 7)
    assert sorted(listed(table, count=1000)) == sorted(map(key_of, names))


@pytest.mark.parametrize(
    ("query", "locks_per_page"),
    [
        ({"match": b"k*"}, 50),  # one comparison each
        ({"match": b"k?*"}, 10),
        ({"match": b"k" + b"*" * 126}, 10),
        ({"match": b"k" + b"*" * 127}, 5),
        ({"match": b"k?*", "owner": b"me*?"}, 3),  # ends behind the lock with which it is too much
        ({"owner": b"*" * 1000 + b"?"}, 1),
        ({"metadata": ((b"a", b"b"), (b"c", b"d"))}, 10),
    ],
)
def test_a_page_does_a_bounded_amount_of_work(
    monkeypatch: pytest.MonkeyPatch, query: dict[str, Any], locks_per_page: int
) -> None:
    """Long keys and slow globs make it look at fewer locks. All are found on the way."""
    monkeypatch.setattr(limits, "LIST_LOOKED_AT_MAX", 50)
    monkeypatch.setattr(limits, "LIST_STEPS_MAX", 40)
    names = [lock_name(0, b"k%02d" % i) for i in range(50)]
    assert {len(name) for name in names} == {4}
    owner, metadata = b"me-and-mine!", ((b"a", b"b"), (b"c", b"d"))
    table = LockTable()
    table.apply(1, 1, [Acquire(name, owner, metadata=metadata) for name in names])
    found = pages(table, count=1000, **query)
    assert len(found) == -(-50 // locks_per_page)
    if "owner" not in query:
        assert sorted(lock.name for page in found for lock in page.locks) == sorted(names)


@pytest.mark.parametrize(
    "cursor", [b"1", b"x", b"-1-", b"16384-", b"5-zz", b"5-00ff", b"", b"1-1", "٣-".encode()]
)
def test_a_cursor_that_no_page_gave_is_refused(cursor: bytes) -> None:
    with pytest.raises(CommandError, match=r"LOCK\.LIST: CURSOR"):
        queries.answer(table_with(A), ListLocks(0, cursor), 1)


def test_moments_stay_when_the_offset_to_unix_time_changes() -> None:
    """Time without a server moves the offset; when a hold was acquired does not move with it."""
    table = LockTable()
    table.apply(1, 100, [SetUnixOffset(1_000_000), Acquire(A, b"me", 60_000)])
    table.apply(3, 200, [SetUnixOffset(9_000_000)])
    info = queries.answer(table, GetLock(A), 200)
    assert isinstance(info, LockInfo)
    assert (info.acquired_at, info.last_modified) == (1_000_100, 1_000_100)
    assert info.expires_at == 9_060_100
