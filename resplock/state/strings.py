"""Redis's string commands on the lock table: a key is a lock, and its value the owner.

Pure and deterministic. One record, two views: whatever LOCK.* and these do to a key, both see.

- A value that differs from the one before is a new grant, with a new version; an equal one keeps the
  hold and its version, and only its end changes.
- SET without NX overwrites whatever is there, as in Redis, and so do INCR and APPEND: who waits for
  the lock goes on waiting. SET NX is a try, which passes nobody who waits.
- A shared lock or a semaphore has no one value: what would read or set it is answered WrongType.
- DEL takes the lock from its holders, and so does a time that is past; DELIFEQ is their RELEASE.

`execute` is how scripts call these commands, from within `apply`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, assert_never

from msgspec.structs import replace

from resplock.errors import CommandError
from resplock.limits import ARGUMENT_BYTES_MAX, INTEGER_MAX, KEYS_PER_ENTRY, VALUES_BYTES_MAX
from resplock.operations import (
    KEEP_TTL,
    Append,
    Bulk,
    Busy,
    CountKeys,
    Delete,
    DeleteAll,
    DeleteIf,
    Done,
    Expire,
    GetDelete,
    GetExpire,
    GetLength,
    GetRange,
    GetString,
    GetStrings,
    GetTtl,
    GetType,
    Increment,
    Number,
    Persist,
    Refused,
    Replied,
    SetAll,
    SetString,
    Status,
    StringQuery,
    Values,
    WrongType,
)
from resplock.state import ends
from resplock.state.granting import PLAIN, is_free_for
from resplock.state.handover import promote, unqueue
from resplock.state.ledger import Ledger, Slot
from resplock.state.records import NOBODYS, Hold, Lock, Mode, heard, with_hold
from resplock.strings import TOO_LONG, integer
from resplock.types import LockName

DONE: Final = Done()
NOTHING: Final = Bulk(None)
NO: Final = Number(0)
YES: Final = Number(1)
WRONG_TYPE: Final = WrongType()
_NEVER_ENDS: Final = Number(-1)
_NO_KEY: Final = Number(-2)
_BUSY: Final = Busy(f"commands name more than {KEYS_PER_ENTRY} keys at once")
_OVERFLOW: Final = Refused("increment or decrement would overflow")

Answer: TypeAlias = Replied | Done | Refused | Busy


def execute(ledger: Ledger, operation: Any, index: int) -> Answer:
    """Run within `apply` what the grammar of one string command has made of its words.

    Its errors are answers: Refused (-ERR and its text), WrongType and Busy.
    """
    try:
        handler = HANDLERS.get(type(operation))
        if handler is not None:
            return handler(ledger, operation, index)
        for name in names_of_query(operation):
            ends.settle(ledger, name, index)
        return read(ledger, operation, ledger.clock_ms)
    except CommandError as error:
        return Refused(error.text)


# --- what is there -------------------------------------------------------------------------------


def hold_of(lock: Lock | None) -> Hold | WrongType | None:
    """The hold whose owner is the value; None when there is no key."""
    if lock is None or not lock.holds:
        return None
    return lock.holds[0] if lock.mode is Mode.EXCLUSIVE else WRONG_TYPE


def _settled(
    ledger: Ledger, name: LockName, index: int
) -> tuple[Lock | None, Hold | WrongType | None]:
    """A lock without what is overdue, and its hold."""
    ends.settle(ledger, name, index)
    lock = ledger.locks.get(name)
    return lock, hold_of(lock)


def _bulk(hold: Hold | None) -> Bulk:
    return NOTHING if hold is None else Bulk(hold.owner)


# --- setting -------------------------------------------------------------------------------------


def set_string(ledger: Ledger, operation: SetString, index: int) -> Replied | Done:
    """SET and its relatives."""
    name = operation.name
    _, hold = _settled(ledger, name, index)
    if isinstance(hold, WrongType) and operation.gives_old:
        return hold
    if not _may_be_set(ledger, operation, is_there=hold is not None):
        ledger.totals.refusals += 1
        return _not_set(operation, hold)
    if isinstance(hold, WrongType):
        return hold
    _put(ledger, name, operation.value, _end(ledger, hold, operation), index)
    if operation.gives_old:
        return _bulk(hold)
    return YES if operation.counts else DONE


def _may_be_set(ledger: Ledger, operation: SetString, *, is_there: bool) -> bool:
    if operation.condition == "NX":
        return not is_there and is_free_for(ledger, operation.name, PLAIN)
    return is_there or operation.condition != "XX"


def _not_set(operation: SetString, hold: Hold | WrongType | None) -> Replied:
    if operation.counts:
        return NO
    return Bulk(hold.owner) if operation.gives_old and isinstance(hold, Hold) else NOTHING


def _end(ledger: Ledger, hold: Hold | None, operation: SetString | GetExpire) -> int:
    """The deadline that is asked for, on the replicated clock; it may be past. 0 is never."""
    if operation.at_ms:
        return _deadline(operation.at_ms - ledger.unix_offset_ms)
    if operation.ttl_ms == KEEP_TTL:
        return 0 if hold is None else hold.deadline_ms
    return ledger.clock_ms + operation.ttl_ms if operation.ttl_ms else 0


def _deadline(moment_ms: int) -> int:
    """A moment as a deadline, of which 0 would be never."""
    return min(max(moment_ms, 1), INTEGER_MAX)


def _put(ledger: Ledger, name: LockName, value: bytes, deadline_ms: int, index: int) -> None:
    """Give the key this value and end. A deadline that is past ends it before anybody sees it."""
    lock = ledger.locks.get(name)
    if lock is not None and lock.holds and lock.holds[0].owner == value:
        set_deadline(ledger, name, lock, lock.holds[0], deadline_ms)
        _end_past(ledger, name, deadline_ms, index)
        return
    place = ledger.queues.place_of((name,), value)
    if place is not None:  # who waits for the lock has taken it in another way
        unqueue(ledger, place, "replaced", index)
        lock = ledger.locks.get(name)
    if lock is not None and lock.holds:
        lock = _take_away(ledger, name, lock, b"replaced")
    now = ledger.now_unix_ms
    hold = Hold(
        owner=value,
        version=ledger.next_version(index),
        deadline_ms=deadline_ms,
        ttl_ms=_ttl_until(ledger, deadline_ms),
        acquired_ms=ledger.clock_ms,
        acquired_at=now,
        modified_at=now,
    )
    ledger.add_hold(name, ledger.locks.get(name), with_hold(lock or NOBODYS, hold, PLAIN), hold)
    if place is not None:
        promote(ledger, place.names, index, ledger.clock_ms + 1)
    _end_past(ledger, name, deadline_ms, index)


def _end_past(ledger: Ledger, name: LockName, deadline_ms: int, index: int) -> None:
    if _is_past(ledger, deadline_ms):
        ends.settle(ledger, name, index)


def _ttl_until(ledger: Ledger, deadline_ms: int) -> int:
    return max(deadline_ms - ledger.clock_ms, 1) if deadline_ms else 0


def _is_past(ledger: Ledger, deadline_ms: int) -> bool:
    return 0 < deadline_ms <= ledger.clock_ms


def set_deadline(ledger: Ledger, name: LockName, lock: Lock, hold: Hold, deadline_ms: int) -> None:
    """Make a hold end then, or never: 0. Its version stays."""
    changed = replace(
        hold,
        deadline_ms=deadline_ms,
        ttl_ms=_ttl_until(ledger, deadline_ms),
        modified_at=ledger.now_unix_ms,
        terms=hold.terms and heard(hold.terms),
    )
    ledger.put_hold(name, lock, hold, changed)
    ledger.totals.renewals += 1
    ledger.tell("renewed", name, hold.owner, hold.version)


def _set_all(ledger: Ledger, operation: SetAll, index: int) -> Number | Done | WrongType | Busy:
    """MSET and MSETNX: all of the keys are set, or none."""
    names = operation.names
    if not _may_touch(ledger, names):
        return _BUSY
    holds = [_settled(ledger, name, index)[1] for name in names]
    if operation.if_absent:
        if any(holds) or not all(is_free_for(ledger, name, PLAIN) for name in names):
            ledger.totals.refusals += 1
            return NO
    elif WRONG_TYPE in holds:
        return WRONG_TYPE
    for name, value in zip(names, operation.values, strict=True):
        _put(ledger, name, value, 0, index)
    return YES if operation.if_absent else DONE


def _may_touch(ledger: Ledger, names: Sequence[LockName]) -> bool:
    """Whether a command on several keys still fits into the entry, which is then charged for it."""
    if ledger.keys_left <= 0:
        return False
    ledger.keys_left -= len(names)
    return True


# --- changing values -----------------------------------------------------------------------------


def _increment(ledger: Ledger, operation: Increment, index: int) -> Number | WrongType | Refused:
    _, hold = _settled(ledger, operation.name, index)
    if isinstance(hold, WrongType):
        return hold
    try:
        total = (integer(hold.owner) if hold else 0) + operation.by
    except CommandError as error:
        return Refused(error.text)
    if not -INTEGER_MAX - 1 <= total <= INTEGER_MAX:
        return _OVERFLOW
    _change(ledger, operation.name, hold, b"%d" % total, index)
    return Number(total)


def _append(ledger: Ledger, operation: Append, index: int) -> Number | WrongType | Refused:
    _, hold = _settled(ledger, operation.name, index)
    if isinstance(hold, WrongType):
        return hold
    value = (hold.owner if hold else b"") + operation.value
    if len(value) > ARGUMENT_BYTES_MAX:
        return Refused(TOO_LONG)
    _change(ledger, operation.name, hold, value, index)
    return Number(len(value))


def _change(ledger: Ledger, name: LockName, hold: Hold | None, value: bytes, index: int) -> None:
    """Give the key another value, which is a new grant, with the end that it has."""
    if hold is None or hold.owner != value:
        _put(ledger, name, value, hold.deadline_ms if hold else 0, index)


# --- deleting ------------------------------------------------------------------------------------


def delete(ledger: Ledger, operation: Delete, index: int) -> Number:
    """DEL of one key."""
    return YES if delete_key(ledger, operation.name, index) else NO


def delete_plain(ledger: Ledger, slot: Slot, name: LockName, lock: Lock) -> None:
    """DEL of a plain lock that is not overdue (`Lock.extra` is None), in its slot."""
    hold = lock.holds[0]
    ledger.means.observe(name, ledger.clock_ms - hold.acquired_ms)
    ledger.drop_plain(slot, name, lock)
    ledger.totals.releases += 1
    if ledger.keeps_events or ledger.watched:
        ledger.tell("deleted", name, hold.owner, hold.version)


def _delete_all(ledger: Ledger, operation: DeleteAll, index: int) -> Number | Busy:
    if not _may_touch(ledger, operation.names):
        return _BUSY
    return Number(sum(delete_key(ledger, name, index) for name in operation.names))


def delete_key(ledger: Ledger, name: LockName, index: int) -> bool:
    """Take a key from its holders; who waits for the lock is next. Says whether it was there."""
    lock, hold = _settled(ledger, name, index)
    if lock is None or hold is None:
        return False
    _take_away(ledger, name, lock, b"")
    for gone in lock.holds:
        ends.delay(ledger, name, gone)
    promote(ledger, (name,), index, ledger.clock_ms + 1)
    return True


def _take_away(ledger: Ledger, name: LockName, lock: Lock, reason: bytes) -> Lock:
    """Take the lock from its holders, who did not ask for it. Whoever is next is not served yet."""
    gone = list(lock.holds)
    without = ledger.take_holds(name, lock, gone)
    for hold in gone:
        ledger.means.observe(name, ledger.clock_ms - hold.acquired_ms)
        ledger.totals.releases += 1
        ledger.tell("deleted", name, hold.owner, hold.version, reason)
    return without


def _delete_if(ledger: Ledger, operation: DeleteIf, index: int) -> Replied:
    """Who knows the value is its owner: this is a release."""
    name = operation.name
    lock, hold = _settled(ledger, name, index)
    if lock is None or hold is None:
        return NO
    if isinstance(hold, WrongType):
        return hold
    if (hold.owner == operation.value) is not operation.is_equal:
        return NO
    if not operation.is_equal:
        return YES if delete_key(ledger, name, index) else NO
    ledger.means.observe(name, ledger.clock_ms - hold.acquired_ms)
    ends.give_up(ledger, name, lock, hold, b"")
    promote(ledger, (name,), index, ledger.clock_ms + 1)
    return YES


def _get_delete(ledger: Ledger, operation: GetDelete, index: int) -> Replied:
    _, hold = _settled(ledger, operation.name, index)
    if isinstance(hold, WrongType):
        return hold
    if hold is not None:
        delete_key(ledger, operation.name, index)
    return _bulk(hold)


# --- when they end -------------------------------------------------------------------------------


def _get_expire(ledger: Ledger, operation: GetExpire, index: int) -> Replied:
    lock, hold = _settled(ledger, operation.name, index)
    if isinstance(hold, WrongType):
        return hold
    if lock is None or hold is None:
        return NOTHING
    deadline_ms = _end(ledger, hold, operation)
    if deadline_ms != hold.deadline_ms:
        _move_end(ledger, operation.name, lock, hold, deadline_ms, index)
    return _bulk(hold)


def _expire(ledger: Ledger, operation: Expire, index: int) -> Replied:
    name = operation.name
    lock, hold = _settled(ledger, name, index)
    if isinstance(hold, WrongType):
        return hold
    if lock is None or hold is None:
        return NO
    moment_ms = operation.ms + (-ledger.unix_offset_ms if operation.is_unix else ledger.clock_ms)
    if not all(_holds(each, hold.deadline_ms, moment_ms) for each in operation.conditions):
        return NO
    _move_end(ledger, name, lock, hold, _deadline(moment_ms), index)
    return YES


def _holds(condition: str, deadline_ms: int, moment_ms: int) -> bool:
    """Whether the condition of EXPIRE holds for an end at `moment_ms` in the place of the deadline."""
    match condition:
        case "NX":
            return not deadline_ms
        case "XX":
            return deadline_ms > 0
        case "GT":
            return 0 < deadline_ms < moment_ms
        case _:
            return not deadline_ms or moment_ms < deadline_ms


def _move_end(
    ledger: Ledger, name: LockName, lock: Lock, hold: Hold, deadline_ms: int, index: int
) -> None:
    """As Redis: who gives a key an end that is past deletes it."""
    if _is_past(ledger, deadline_ms):
        delete_key(ledger, name, index)
    else:
        set_deadline(ledger, name, lock, hold, deadline_ms)


def _persist(ledger: Ledger, operation: Persist, index: int) -> Replied:
    lock, hold = _settled(ledger, operation.name, index)
    if isinstance(hold, WrongType):
        return hold
    if lock is None or hold is None or not hold.deadline_ms:
        return NO
    set_deadline(ledger, operation.name, lock, hold, 0)
    return YES


HANDLERS: Final[dict[type[Any], Callable[[Ledger, Any, int], Answer]]] = {
    SetString: set_string,
    SetAll: _set_all,
    Increment: _increment,
    Append: _append,
    Delete: delete,
    DeleteAll: _delete_all,
    DeleteIf: _delete_if,
    GetDelete: _get_delete,
    GetExpire: _get_expire,
    Expire: _expire,
    Persist: _persist,
}
"""What each operation does: (ledger, operation, log index) -> answer."""


# --- looking -------------------------------------------------------------------------------------


def names_of_query(query: StringQuery) -> Sequence[LockName]:
    """The keys that a query is about."""
    return query.names if isinstance(query, CountKeys | GetStrings) else (query.name,)


def read(ledger: Ledger, query: StringQuery, now_ms: int) -> Replied:
    """Answer a query from what is there. `now_ms`: see `queries`. Raises CommandError."""
    if isinstance(query, CountKeys):
        return Number(sum(hold_of(ledger.locks.get(name)) is not None for name in query.names))
    if isinstance(query, GetStrings):
        return _values(ledger, query.names)
    lock = ledger.locks.get(query.name)
    if isinstance(query, GetTtl):
        return _ttl(ledger, lock, query, now_ms)
    hold = hold_of(lock)
    if isinstance(hold, WrongType):
        return hold
    match query:
        case GetString():
            return _bulk(hold)
        case GetLength():
            return Number(0 if hold is None else len(hold.owner))
        case GetRange():
            return Bulk(b"" if hold is None else _part(hold.owner, query.first, query.last))
        case GetType():
            return _NONE if hold is None else _STRING
        case _:
            assert_never(query)


_NONE: Final = Status("none")
_STRING: Final = Status("string")


def _values(ledger: Ledger, names: Sequence[LockName]) -> Values:
    values: list[bytes | None] = []
    room = VALUES_BYTES_MAX
    for name in names:
        hold = hold_of(ledger.locks.get(name))
        value = hold.owner if isinstance(hold, Hold) else None
        room -= len(value or b"")
        if room < 0:
            raise CommandError(f"the values are together longer than {VALUES_BYTES_MAX} bytes")
        values.append(value)
    return Values(tuple(values))


def _part(value: bytes, first: int, last: int) -> bytes:
    """What GETRANGE gives: both ends are included, and below 0 they count from the value's end."""
    if last < first < 0:
        return b""
    size = len(value)
    begin = max(first + size, 0) if first < 0 else first
    end = max(last + size, 0) if last < 0 else last
    return value[begin : end + 1]


def _ttl(ledger: Ledger, lock: Lock | None, query: GetTtl, now_ms: int) -> Number:
    """Of several holds, that of the last one to end: then the key is gone."""
    if lock is None or not lock.holds:
        return _NO_KEY
    if not all(hold.deadline_ms for hold in lock.holds):
        return _NEVER_ENDS
    last_ms = max(hold.deadline_ms for hold in lock.holds)
    ms = last_ms + ledger.unix_offset_ms if query.is_unix else max(last_ms - now_ms, 0)
    return Number((ms + query.unit_ms // 2) // query.unit_ms)
