"""Looking at the lock table: LOCK.GET, LIST, CHECK, BACKOFF, STATS.

Pure. Queries show applied state and change nothing. `now_ms` is the replicated clock as its reader
knows it, at least the table's; it only decides how much of a TTL is left.
"""

from __future__ import annotations

from typing import assert_never

from resplock import glob, limits
from resplock.errors import CommandError
from resplock.operations import (
    Advice,
    Answer,
    CheckVersion,
    CountLocks,
    GetBackoff,
    GetLock,
    GetStats,
    HoldInfo,
    ListLocks,
    LockInfo,
    LockPage,
    Metadata,
    Query,
    Stats,
    WaiterInfo,
)
from resplock.state import backoff
from resplock.state.records import USUAL, Hold, Lock, Mode, mode_of
from resplock.state.table import LockTable
from resplock.types import DB_PREFIXES, LockName, UnixMs, hash_slot, key_of

LAST_PAGE = b"0"
"""The cursor that begins a listing, and that ends it."""


def answer(table: LockTable, query: Query, now_ms: int) -> Answer:
    """Answer one query. Raises CommandError for a cursor that no page gave."""
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
            return _page(table, query, now_ms)
        case GetStats():
            return _stats(table)
        case CountLocks():
            return table.locks_by_db[query.db]
        case _:
            assert_never(query)


def lock_info(
    table: LockTable,
    name: LockName,
    lock: Lock,
    now_ms: int,
    *,
    waiters: bool = False,
    room: int = limits.LIST_BYTES_MAX,
) -> LockInfo:
    """A lock as people see it, with its moments in unix time, in about `room` bytes of reply."""
    hold = lock.holds[0] if lock.holds else _NO_HOLD
    offset_ms = table.unix_offset_ms
    mode, limit = _kind(table, name, lock)
    is_one = bool(lock.holds) and lock.mode is Mode.EXCLUSIVE
    return LockInfo(
        name=name,
        owner=hold.owner if is_one else None,
        mode=mode.name.lower(),
        version=hold.version,
        acquired_at=UnixMs(hold.acquired_at),
        expires_at=_unix(hold.deadline_ms, offset_ms),
        last_modified=UnixMs(hold.modified_at),
        ttl_ms=hold.remaining_ms(now_ms),
        limit=limit,
        waiter_count=table.queues.count(name),
        metadata=hold.metadata,
        holders=_holders(lock, offset_ms, now_ms, room // 2),
        waiters=_waiters(table, name, room // 2) if waiters else None,
    )


_NO_HOLD = Hold(b"", 0, 0, 0, 0, 0, 0)


def _kind(table: LockTable, name: LockName, lock: Lock) -> tuple[Mode, int]:
    """What kind of lock it is and how many permits it has; while nobody holds it, for who is next."""
    mode, limit = lock.mode, lock.limit
    if not lock.holds and (front := table.queues.front(name)) is not None:
        mode, limit = mode_of(front.options), front.options.limit
    return mode, 1 if mode is Mode.EXCLUSIVE else limit


def _unix(moment_ms: int, offset_ms: int) -> UnixMs:
    return UnixMs(moment_ms + offset_ms if moment_ms else 0)


def _holders(lock: Lock, offset_ms: int, now_ms: int, room: int) -> tuple[HoldInfo, ...]:
    """The oldest holds, as many as fit. Of an exclusive lock, the owner says enough."""
    shown: list[HoldInfo] = []
    if lock.mode is Mode.EXCLUSIVE:
        return ()
    for hold in lock.holds:
        room -= 200 + len(hold.owner) + _metadata_bytes(hold.metadata)
        if room < 0 and shown:
            break
        terms = hold.terms or USUAL
        shown.append(
            HoldInfo(
                owner=hold.owner,
                version=hold.version,
                acquired_at=UnixMs(hold.acquired_at),
                expires_at=_unix(hold.deadline_ms, offset_ms),
                ttl_ms=hold.remaining_ms(now_ms),
                permits=terms.permits,
                holds=terms.holds,
                metadata=hold.metadata,
            )
        )
    return tuple(shown)


def _waiters(table: LockTable, name: LockName, room: int) -> tuple[WaiterInfo, ...]:
    """The first places, as many as fit."""
    shown: list[WaiterInfo] = []
    for position, place in enumerate(table.queues.waiters(name)):
        room -= 250 + len(place.owner)
        if position >= limits.WAITERS_LISTED_MAX or (room < 0 and shown):
            break
        shown.append(
            WaiterInfo(
                owner=place.owner,
                client=place.options.client if place.ticket else None,
                enqueued_at=UnixMs(place.enqueued_at),
                timeout_at=_unix(place.ends_ms, table.unix_offset_ms),
                priority=place.options.priority,
                position=position,
                mode=mode_of(place.options).name.lower(),
                permits=place.options.permits,
            )
        )
    return tuple(shown)


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


# --- LOCK.LIST -----------------------------------------------------------------------------------


def _page(table: LockTable, query: ListLocks, now_ms: int) -> LockPage:
    """The next page: slot by slot and by name within a slot, so that a cursor stays valid.

    A lock that is there from the first page to the last is listed exactly once, whatever else
    comes and goes. A page ends at COUNT locks, at limits.LIST_BYTES_MAX, after looking at
    limits.LIST_LOOKED_AT_MAX locks, or when its filter has taken limits.LIST_STEPS_MAX steps, so that
    none stalls the server; it may be empty. It looks at one lock at least.
    """
    number, after = _read_cursor(query.cursor)
    wanted = _Filter(query, table.unix_offset_ms)
    found: list[LockInfo] = []
    room, looked_at = limits.LIST_BYTES_MAX, 0
    for slot in table.locks.used_slots(number):
        last = after if slot == number else None
        for name, lock in table.locks.sorted_slot(slot):
            if last is not None and name <= last:
                continue
            if looked_at >= limits.LIST_LOOKED_AT_MAX or wanted.steps >= limits.LIST_STEPS_MAX:
                return LockPage(_cursor(slot, last), tuple(found))
            looked_at += 1
            last = name
            if not wanted(name, lock):
                continue
            info = lock_info(table, name, lock, now_ms, room=room)
            found.append(info)
            room -= _reply_bytes(info)
            if len(found) >= query.count or room <= 0:
                return LockPage(_cursor(slot, name), tuple(found))
    return LockPage(LAST_PAGE, tuple(found))


def _cursor(slot: int, after: LockName | None) -> bytes:
    """Where the next page begins: a slot, and the name after which to go on in it."""
    return b"%d-%b" % (slot, after.hex().encode() if after else b"")


def _read_cursor(cursor: bytes) -> tuple[int, LockName]:
    if cursor == LAST_PAGE:
        return 0, LockName(b"")
    slot, dash, after = cursor.partition(b"-")
    try:
        number, name = int(slot), LockName(bytes.fromhex(after.decode("ascii")))
    except ValueError:
        dash = b""
    if not dash or not slot.isdigit() or number >= limits.SLOTS:
        raise CommandError(
            "LOCK.LIST: CURSOR must be 0 to begin, or what the last page gave", "ERR"
        )
    if name and hash_slot(name) != number:
        raise CommandError("LOCK.LIST: CURSOR was not given by any page", "ERR")
    return number, name


class _Filter:
    """What a listing wants, and how much work it was to find out."""

    __slots__ = (
        "_is_about_holds",
        "_key_matches",
        "_key_steps",
        "_offset_ms",
        "_owner_matches",
        "_owner_steps",
        "_prefix",
        "_query",
        "steps",
    )

    def __init__(self, query: ListLocks, unix_offset_ms: int) -> None:
        self.steps = 0
        """As `glob.steps_per_byte` counts; comparing two pairs of metadata is one."""
        self._query = query
        self._prefix = DB_PREFIXES[query.db]
        self._offset_ms = unix_offset_ms
        self._key_matches, self._key_steps = _compiled(query.match)
        self._owner_matches, self._owner_steps = _compiled(query.owner)
        expires = query.expires_before or query.expires_after
        self._is_about_holds = bool(query.owner or expires or query.metadata)

    def __call__(self, name: LockName, lock: Lock) -> bool:
        query = self._query
        if name[:1] != self._prefix or not _is_in_state(lock, query):
            return False
        self.steps += self._key_steps * len(name)
        if not self._key_matches(key_of(name)):
            return False
        if not self._is_about_holds:
            return True
        return any(self._is_wanted(hold) for hold in lock.holds)

    def _is_wanted(self, hold: Hold) -> bool:
        query = self._query
        if query.owner:
            self.steps += self._owner_steps * len(hold.owner)
            if not self._owner_matches(hold.owner):
                return False
        if not self._expires_in_time(hold.deadline_ms):
            return False
        self.steps += len(query.metadata) * len(hold.metadata)
        return all(pair in hold.metadata for pair in query.metadata)

    def _expires_in_time(self, deadline_ms: int) -> bool:
        before, after = self._query.expires_before, self._query.expires_after
        if not (before or after):
            return True
        if not deadline_ms:
            return False
        expires_at = deadline_ms + self._offset_ms
        return not ((before and expires_at >= before) or (after and expires_at <= after))


def _is_in_state(lock: Lock, query: ListLocks) -> bool:
    """Whether it is held and waited for as the listing wants. One that is only delayed is not shown."""
    if query.held and not lock.holds:
        return False
    if query.contested:
        return lock.is_waited_for
    return bool(lock.holds) or lock.is_waited_for


def _compiled(pattern: bytes) -> tuple[glob.Matcher, int]:
    return glob.compile(pattern), glob.steps_per_byte(pattern)


def _reply_bytes(info: LockInfo) -> int:
    """About how long one lock is in the reply."""
    texts = len(info.name) + len(info.owner or b"")
    holders = sum(200 + len(each.owner) + _metadata_bytes(each.metadata) for each in info.holders)
    return 300 + texts + _metadata_bytes(info.metadata) + holders


def _metadata_bytes(metadata: Metadata) -> int:
    return sum(len(field) + len(value) + 16 for field, value in metadata)
