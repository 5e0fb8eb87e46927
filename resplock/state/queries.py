"""Looking at the lock table: LOCK.GET, LIST, CHECK, BACKOFF, STATS, and GET, TTL and the like.

Pure. Queries show applied state and change nothing. `now_ms` is the replicated clock as its reader
knows it, at least the table's; it only decides how much of a TTL is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from resplock.operations import (
    Advice,
    Answer,
    CheckVersion,
    CountKeys,
    CountLocks,
    DescribeKey,
    GetBackoff,
    GetLength,
    GetLock,
    GetRange,
    GetStats,
    GetString,
    GetStrings,
    GetTtl,
    GetType,
    ListKeys,
    ListLocks,
    Query,
    RandomKey,
    ScanKeys,
    ScriptsExist,
    Stats,
)
from resplock.state import backoff, keyspace, listing, scripting, strings
from resplock.state.showing import lock_info
from resplock.types import LockName

if TYPE_CHECKING:
    from resplock.state.table import LockTable


def answer(table: LockTable, query: Query, now_ms: int) -> Answer:
    """Answer one query. Raises CommandError for a cursor that no page gave, or an answer too long."""
    match query:
        case GetLock():
            lock = table.locks.get(query.name)
            if lock is None or not (lock.holds or lock.is_waited_for):
                return None
            return lock_info(table, query.name, lock, now_ms, waiters=query.waiters)
        case CheckVersion():
            return int(_is_current(table, query))
        case GetBackoff():
            return _advice(table, query.name, now_ms)
        case ListLocks():
            return listing.page(table, query, now_ms)
        case GetStats():
            return _stats(table)
        case CountLocks():
            return table.locks_by_db[query.db]
        case (
            GetString()
            | GetLength()
            | GetType()
            | GetTtl()
            | CountKeys()
            | GetRange()
            | GetStrings()
        ):
            return strings.read(table, query, now_ms)
        case ListKeys():
            return keyspace.list_keys(table, query)
        case ScanKeys():
            return keyspace.scan(table, query)
        case RandomKey():
            return keyspace.random_key(table, query)
        case DescribeKey():
            return keyspace.describe(table, query, now_ms)
        case ScriptsExist():
            return scripting.exist(table, query)
        case _:
            assert_never(query)


def _is_current(table: LockTable, query: CheckVersion) -> bool:
    lock = table.locks.get(query.name)
    return lock is not None and any(hold.version == query.version for hold in lock.holds)


def _advice(table: LockTable, name: LockName, now_ms: int) -> Advice:
    lock = table.locks.get(name)
    if lock is None:
        return backoff.FREE
    return table.means.advice(name, lock, table.queues.ahead_of(name, 0), now_ms)


def _stats(table: LockTable) -> Stats:
    totals = table.totals
    acquisitions_per_s, releases_per_s = table.rates.per_second(table.clock_ms)
    return Stats(
        active_locks=sum(table.locks_by_db),
        waiters=len(table.queues),
        contested_locks=table.queues.locks,
        average_hold_ms=-(-totals.hold_mean_us // 1000),
        acquisitions_per_s=acquisitions_per_s,
        releases_per_s=releases_per_s,
        acquisitions=totals.acquisitions,
        refusals=totals.refusals,
        releases=totals.releases,
        renewals=totals.renewals,
        expired=totals.expired,
        broken=totals.broken,
        last_version=table.last_version,
        clock_ms=table.clock_ms,
    )
