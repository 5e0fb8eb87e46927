"""Clients that go away before they are told that a lock is theirs."""

from __future__ import annotations

import pytest

from resplock.operations import (
    Acquire,
    ClientId,
    Done,
    Granted,
    KeepAlive,
    Operation,
    Options,
    Outcome,
    Undelivered,
)
from resplock.state.table import LockTable
from resplock.types import NodeId, lock_name

NAME = lock_name(0, b"jobs")
CLIENT = ClientId(NodeId("n1"), 1, 1)
WAITING = Options(wait_ms=1000, client=CLIENT)


def apply(table: LockTable, index: int, operation: Operation) -> Outcome:
    return table.apply(index, 1, [operation])[0]


@pytest.mark.parametrize("ttl_ms", [0, 5000])
def test_a_grant_without_a_wait_that_nobody_hears_of_is_given_back(ttl_ms: int) -> None:
    """It had asked to wait, the lock was free, and its connection broke before the answer came."""
    table = LockTable()
    assert apply(table, 1, Acquire(NAME, b"a", ttl_ms, options=WAITING)) == Granted(1, ttl_ms)
    assert apply(table, 2, Undelivered((NAME,), b"a", 1)) == Done()
    assert table.locks.get(NAME) is None
    table.check()


def test_a_grant_that_its_owner_has_used_since_stays() -> None:
    """It learned of it in another way, so it is its own."""
    table = LockTable()
    apply(table, 1, Acquire(NAME, b"a", 5000, options=WAITING))
    apply(table, 2, KeepAlive(b"a"))
    apply(table, 3, Undelivered((NAME,), b"a", 1))
    lock = table.locks.get(NAME)
    assert lock is not None
    assert [hold.owner for hold in lock.holds] == [b"a"]
    table.check()
