"""A lock as people see it: what LOCK.GET and LOCK.LIST show.

Pure. Moments are shown in unix time. `now_ms` is the replicated clock as the reader knows it; it only
decides how much of a TTL is left.
"""

from __future__ import annotations

from resplock import limits
from resplock.operations import HoldInfo, LockInfo, Metadata, WaiterInfo
from resplock.state.ledger import Ledger
from resplock.state.records import USUAL, Hold, Lock, Mode, mode_of
from resplock.types import LockName, UnixMs


def lock_info(
    table: Ledger,
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


def _kind(table: Ledger, name: LockName, lock: Lock) -> tuple[Mode, int]:
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
        room -= 200 + len(hold.owner) + metadata_bytes(hold.metadata)
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


def _waiters(table: Ledger, name: LockName, room: int) -> tuple[WaiterInfo, ...]:
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


def reply_bytes(info: LockInfo) -> int:
    """About how long one lock is in the reply."""
    texts = len(info.name) + len(info.owner or b"")
    holders = sum(200 + len(each.owner) + metadata_bytes(each.metadata) for each in info.holders)
    return 300 + texts + metadata_bytes(info.metadata) + holders


def metadata_bytes(metadata: Metadata) -> int:
    """About how long metadata is in the reply."""
    return sum(len(field) + len(value) + 16 for field, value in metadata)
