"""Redis's commands on all keys of a database: KEYS, SCAN, RANDOMKEY, FLUSHDB; and OBJECT.

Pure and deterministic, but for RANDOMKEY and for what `crowded` keeps, which change nothing that
replicas share. None of them stalls the server, however many keys there are: what would take too long
is refused, or comes page by page.

A page of SCAN begins at a place: a slot, and a number within it that is made from a key alone. So a
cursor says the same on every node and at any time, and a key that is there from the
first page to the last is on exactly one of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import msgspec

from resplock import glob, limits
from resplock.errors import CommandError
from resplock.operations import (
    ALL_DATABASES,
    Bulk,
    Busy,
    DescribeKey,
    Done,
    Flush,
    KeyPage,
    ListKeys,
    Number,
    RandomKey,
    Replied,
    ScanKeys,
    Values,
    WrongType,
)
from resplock.state import strings
from resplock.state.crowded import CROWDED, SCAN_NUMBER_MAX
from resplock.state.ledger import Ledger
from resplock.state.records import Lock, Mode
from resplock.strings import integer
from resplock.types import DB_PREFIXES, LockName, key_of

_NUMBER_BITS: Final = 35
_SORTING_BITS: Final = SCAN_NUMBER_MAX.bit_length()
"""Together with a slot's 14 bits they are whole numbers also to clients that have doubles only."""
_FLUSH_COST: Final = 1_000
"""Looking at all slots counts as so many keys."""
_KEY_BYTES: Final = 400
"""What a plain lock takes in memory besides its key and its value, about."""
_DONE: Final = Done()
_BUSY: Final = Busy(f"more than {limits.KEYS_PER_ENTRY} keys are there to be flushed at once")


# --- flushing ------------------------------------------------------------------------------------


def flush(ledger: Ledger, operation: Flush, index: int) -> Done | Busy:
    """FLUSHDB and FLUSHALL: as DEL of each key, if they are not too many for one entry."""
    flushed = _held(ledger, operation.db)
    if not flushed:
        return _DONE
    if _held(ledger, ALL_DATABASES) > ledger.keys_left:
        return _BUSY
    ledger.keys_left -= flushed + _FLUSH_COST
    wanted = _Wanted(operation.db)
    for name in [name for name, lock in ledger.locks if wanted(name, lock)]:
        strings.delete_key(ledger, name, index)
    return _DONE


def _held(ledger: Ledger, db: int) -> int:
    return sum(ledger.locks_by_db) if db == ALL_DATABASES else ledger.locks_by_db[db]


HANDLERS: Final = {Flush: flush}


# --- which keys there are ------------------------------------------------------------------------


class _Wanted:
    """Whether a lock is a key of a database that matches a glob, and how much work it was to tell.

    `kind`: empty for any, else Redis's name of one: all that is not `string` is nothing.
    """

    __slots__ = ("_kind", "_matches", "_prefix", "_steps_per_byte", "steps")

    def __init__(self, db: int, pattern: bytes = b"*", kind: bytes = b"") -> None:
        self.steps = 0
        self._prefix = b"" if db == ALL_DATABASES else DB_PREFIXES[db]
        self._matches = glob.compile(pattern) if pattern else None
        self._steps_per_byte = glob.steps_per_byte(pattern)
        self._kind = kind

    def __call__(self, name: LockName, lock: Lock) -> bool:
        if not lock.holds or not name.startswith(self._prefix) or self._matches is None:
            return False
        if self._kind and (self._kind != b"string" or lock.mode is not Mode.EXCLUSIVE):
            return False
        self.steps += self._steps_per_byte * len(name)
        return self._matches(key_of(name))


def list_keys(ledger: Ledger, query: ListKeys) -> Values:
    """KEYS. Raises CommandError when there are too many to look at, or to tell."""
    held = _held(ledger, ALL_DATABASES)
    if held > limits.KEYS_LOOKED_AT_MAX:
        raise _use_scan(f"there are more than {limits.KEYS_LOOKED_AT_MAX} keys")
    wanted = _Wanted(query.db, query.pattern)
    found: list[bytes | None] = []
    room = limits.VALUES_BYTES_MAX
    number = -1
    while (number := ledger.locks.next_used(number + 1)) < limits.SLOTS:
        for name, lock in ledger.locks.records(number):
            if wanted(name, lock):
                found.append(key_of(name))
                room -= len(name)
            if room < 0:
                raise _use_scan(f"they are together longer than {limits.VALUES_BYTES_MAX} bytes")
            if wanted.steps > limits.KEYS_STEPS_MAX:
                raise _use_scan("the pattern takes too long to match")
    return Values(tuple(found))


def _use_scan(why: str) -> CommandError:
    return CommandError(f"{why}: use SCAN")


def random_key(ledger: Ledger, query: RandomKey) -> Bulk:
    """RANDOMKEY. Raises CommandError when none is found among the locks that it looks at."""
    if not _held(ledger, query.db):
        return Bulk(None)
    ledger.draws += 1
    rng, wanted = random.Random(ledger.draws), _Wanted(query.db)
    left = limits.SCAN_LOOKED_AT_MAX
    begin = rng.randrange(limits.SLOTS)
    for first, last in ((begin, limits.SLOTS), (0, begin)):
        number = first - 1
        while left > 0 and (number := ledger.locks.next_used(number + 1)) < last:
            some = ledger.locks.some(number, left)
            left -= len(some)
            keys = [name for name in some if wanted(name, _lock(ledger, name))]
            if keys:
                return Bulk(key_of(rng.choice(keys)))
    raise CommandError("no key of this database is among those that were looked at: use SCAN")


def _lock(ledger: Ledger, name: LockName) -> Lock:
    lock = ledger.locks.get(name)
    assert lock is not None, "a name without a lock"
    return lock


# --- page by page --------------------------------------------------------------------------------


class _Place(msgspec.Struct):
    """Where a page begins: in a slot, at a number that is made from the keys there.

    `sorting` is that of a crowded slot, see `Scans`; 0 when there is none.
    """

    slot: int
    number: int = 0
    sorting: int = 0

    @classmethod
    def of(cls, cursor: int) -> _Place:
        slot, rest = divmod(cursor, 1 << (_NUMBER_BITS + _SORTING_BITS))
        return cls(slot, *divmod(rest, 1 << _SORTING_BITS))

    @property
    def cursor(self) -> int:
        return (((self.slot << _NUMBER_BITS) + self.number) << _SORTING_BITS) + self.sorting


def scan(ledger: Ledger, query: ScanKeys) -> KeyPage:
    """SCAN: the next page.

    It ends at COUNT keys, after looking at limits.SCAN_LOOKED_AT_MAX locks, or when its pattern has
    taken limits.LIST_STEPS_MAX steps; keys at one place stay together. It may be empty.
    """
    place = _Place.of(query.cursor)
    wanted = _Wanted(query.db, query.pattern, query.kind)
    found: list[LockName] = []
    looked_at = 0
    while (slot := ledger.locks.next_used(place.slot)) < limits.SLOTS:
        if slot != place.slot:
            place = _Place(slot)
        names = _names_from(ledger, place)
        if names is None:
            return KeyPage(place.cursor, tuple(found))
        for number, name in names:
            if number != place.number:
                place.number = number
                if (
                    len(found) >= query.count
                    or looked_at >= limits.SCAN_LOOKED_AT_MAX
                    or wanted.steps >= limits.LIST_STEPS_MAX
                ):
                    return KeyPage(place.cursor, tuple(found))
            looked_at += 1
            lock = ledger.locks.get(name)
            if lock is not None and wanted(name, lock):
                found.append(name)
        ledger.scans.end(place.sorting)
        place = _Place(slot + 1)
    return KeyPage(0, tuple(found))


def _number_of(name: LockName) -> int:
    """Where a name is in its slot. Nobody finds many names with one number."""
    digest = int.from_bytes(blake2b(name, digest_size=8).digest())
    return digest >> (64 - _NUMBER_BITS)


def _names_from(ledger: Ledger, place: _Place) -> Iterator[tuple[int, LockName]] | None:
    """The names in a slot from a place on, with their numbers; None while they are not sorted yet."""
    locks, begin = ledger.locks, place.number
    sorting = ledger.scans.get(place.sorting, place.slot)
    if sorting is None:
        place.sorting = 0
        if locks.count(place.slot) <= CROWDED:
            numbered = sorted([(_number_of(name), name) for name in locks.names(place.slot)])
            return (each for each in numbered if each[0] >= begin)
        names = locks.names(place.slot)
        place.sorting, sorting = ledger.scans.begin(place.slot, names, _number_of)
    if not sorting.go_on():
        return None
    return ((_number_of(name), name) for name in sorting.after(begin - 1))


# --- what a key is made of -----------------------------------------------------------------------


def describe(ledger: Ledger, query: DescribeKey, now_ms: int) -> Replied:
    """OBJECT and MEMORY USAGE. Raises CommandError for what is not kept."""
    hold = strings.hold_of(ledger.locks.get(query.name))
    if hold is None:
        return Bulk(None)
    if isinstance(hold, WrongType):
        return hold
    match query.aspect:
        case "encoding":
            return Bulk(_encoding(hold.owner))
        case "idletime":
            modified_ms = hold.modified_at - ledger.unix_offset_ms
            return Number(max(now_ms - modified_ms, 0) // 1000)
        case "refcount":
            return Number(1)
        case "memory":
            return Number(_KEY_BYTES + len(query.name) + len(hold.owner))
        case _:
            raise CommandError(
                "An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
                "that when switching between policies at runtime LRU and LFU data will take some "
                "time to adjust."
            )


_EMBEDDED_BYTES_MAX = 44


def _encoding(value: bytes) -> bytes:
    """What Redis would keep it as."""
    try:
        integer(value)
    except CommandError:
        return b"embstr" if len(value) <= _EMBEDDED_BYTES_MAX else b"raw"
    return b"int"
