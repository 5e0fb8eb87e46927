"""LOCK.LIST: pages of locks, with a cursor that stays valid while the table changes.

Pure. The order is by slot, and by name within a slot.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from resplock import glob, limits
from resplock.errors import CommandError
from resplock.operations import ListLocks, LockInfo, LockPage
from resplock.state.crowded import CROWDED
from resplock.state.ledger import Ledger
from resplock.state.records import Hold, Lock
from resplock.state.showing import lock_info, reply_bytes
from resplock.types import DB_PREFIXES, LockName, hash_slot, key_of

LAST_PAGE = b"0"
"""The cursor that begins a listing, and that ends it."""
_FIRST = LockName(b"")


class _Cursor(msgspec.Struct):
    """Where a page begins: in a slot, after a name, with a sorting (0: none) that it goes through."""

    slot: int = 0
    after: LockName = _FIRST
    sorting: int = 0

    def encode(self) -> bytes:
        sorting = b"-%d" % self.sorting if self.sorting else b""
        return b"%d-%b%b" % (self.slot, self.after.hex().encode(), sorting)


def page(table: Ledger, query: ListLocks, now_ms: int) -> LockPage:
    """The next page. Raises CommandError for a cursor that no page gave.

    A lock that is there from the first page to the last is listed exactly once, whatever else
    comes and goes. A page ends at COUNT locks, at limits.LIST_BYTES_MAX, after looking at
    limits.LIST_LOOKED_AT_MAX locks, or when its filter has taken limits.LIST_STEPS_MAX steps, so that
    none stalls the server; it may be empty. It looks at one lock at least, or sorts some.
    """
    cursor = _read_cursor(query.cursor)
    wanted = _Filter(query, table.unix_offset_ms)
    found: list[LockInfo] = []
    room, looked_at = limits.LIST_BYTES_MAX, 0
    for slot in table.locks.used_slots(cursor.slot):
        if slot != cursor.slot:
            cursor = _Cursor(slot)
        locks = _locks_of(table, cursor)
        if locks is None:
            return LockPage(cursor.encode(), tuple(found))
        for name, lock in locks:
            if looked_at >= limits.LIST_LOOKED_AT_MAX or wanted.steps >= limits.LIST_STEPS_MAX:
                return LockPage(cursor.encode(), tuple(found))
            looked_at += 1
            cursor.after = name
            if not wanted(name, lock):
                continue
            info = lock_info(table, name, lock, now_ms, room=room)
            found.append(info)
            room -= reply_bytes(info)
            if len(found) >= query.count or room <= 0:
                return LockPage(cursor.encode(), tuple(found))
        table.sortings.drop(cursor.sorting)
    return LockPage(LAST_PAGE, tuple(found))


def _locks_of(table: Ledger, cursor: _Cursor) -> Iterator[tuple[LockName, Lock]] | None:
    """The locks of a slot behind the cursor, sorted; None while they are not sorted yet."""
    sorting = table.sortings.get(cursor.sorting)
    if sorting is None:
        cursor.sorting = 0
        if table.locks.count(cursor.slot) <= CROWDED:
            return (each for each in table.locks.sorted_slot(cursor.slot) if each[0] > cursor.after)
        cursor.sorting, sorting = table.sortings.add(table.locks.names(cursor.slot))
    if not sorting.go_on():
        return None
    return (
        (name, lock)
        for name in sorting.after(cursor.after)
        if (lock := table.locks.get(name)) is not None
    )


def _read_cursor(cursor: bytes) -> _Cursor:
    if cursor == LAST_PAGE:
        return _Cursor()
    slot, dash, rest = cursor.partition(b"-")
    after, _, sorting = rest.partition(b"-")
    try:
        read = _Cursor(
            int(slot), LockName(bytes.fromhex(after.decode("ascii"))), int(sorting or b"0")
        )
    except ValueError:
        dash = b""
    if not dash or not slot.isdigit() or read.slot >= limits.SLOTS:
        raise CommandError(
            "LOCK.LIST: CURSOR must be 0 to begin, or what the last page gave", "ERR"
        )
    if read.after and hash_slot(read.after) != read.slot:
        raise CommandError("LOCK.LIST: CURSOR was not given by any page", "ERR")
    return read


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
