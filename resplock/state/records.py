"""The records of the lock table: frozen, replaced and never mutated.

Pure. Also the format in which snapshots keep them: fields are only ever added at the end, with a
default that means "as before".

One model for every kind of lock: a lock is a set of holds (and, with waiting, a queue). Memory per
lock decides how many fit, so a record has no more fields than its kind of lock needs, integers that
are equal within an entry (`acquired_ms`, `acquired_at`) are one object, and `gc=False` keeps a
million of them out of the collector's way: no record can be part of a reference cycle.
"""

from __future__ import annotations

import enum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from resplock.limits import INTEGER_MAX
from resplock.operations import Metadata, Outcome
from resplock.types import LockName, Natural, StampMs

Moment: TypeAlias = Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]


class Mode(enum.IntEnum):
    """What kind of holds a lock has while it is held."""

    EXCLUSIVE = 0


class Hold(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One owner's grant.

    `deadline_ms` (0: it never ends) and `acquired_ms` are on the replicated clock, which decides;
    `acquired_at` and `modified_at` are unix milliseconds, by the offset of that time, for people.
    """

    owner: bytes
    version: Natural
    deadline_ms: Natural
    ttl_ms: Natural
    acquired_ms: Natural
    acquired_at: Moment
    modified_at: Moment
    metadata: Metadata = ()

    def overdue(self, stamp_ms: int) -> bool:
        """Whether the hold ends at or before `stamp_ms`."""
        return 0 < self.deadline_ms <= stamp_ms

    def remaining_ms(self, stamp_ms: int) -> int:
        """How much of the TTL is left at `stamp_ms`; 0 when it never ends."""
        return max(self.deadline_ms - stamp_ms, 1) if self.deadline_ms else 0


class Lock(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Everything about one lock that somebody holds. `holds` is never empty, oldest first.

    `next_deadline_ms` is the earliest end among the holds, 0 when none ever ends: what `lock_of`
    computes, kept because every command asks for it.
    """

    holds: tuple[Hold, ...]
    next_deadline_ms: Natural
    mode: Mode = Mode.EXCLUSIVE

    def hold_of(self, owner: bytes) -> Hold | None:
        """The hold of this owner, or None."""
        for hold in self.holds:
            if hold.owner == owner:
                return hold
        return None


def lock_of(holds: tuple[Hold, ...], mode: Mode) -> Lock:
    """A lock with these holds, of which there is at least one."""
    return Lock(holds, earliest(holds), mode)


def earliest(holds: tuple[Hold, ...]) -> int:
    """The earliest end among holds; 0 when none ever ends."""
    return min((hold.deadline_ms for hold in holds if hold.deadline_ms), default=0)


class Remembered(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The answer to a REQUEST id, kept until `deadline_ms`. `index` is its command's log index."""

    owner: bytes
    request: bytes
    index: Natural
    deadline_ms: Natural
    name: LockName
    outcome: Outcome


class Totals(msgspec.Struct, array_like=True):
    """Counters since the cluster began. The only record that is mutated: there is one of it."""

    acquisitions: int = 0
    refusals: int = 0
    releases: int = 0
    renewals: int = 0
    expired: int = 0
    broken: int = 0
    hold_mean_us: int = 0
    """Exponentially weighted mean of all hold times, in microseconds; 0 before the first release."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot says of the table as a whole, before its records."""

    format: int
    feature_level: Natural
    clock_ms: StampMs
    unix_offset_ms: int
    last_version: Natural
    totals: Totals
