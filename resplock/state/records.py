"""The records of the lock table: frozen, replaced and never mutated.

Pure. Also the format in which snapshots keep them: fields are only ever added at the end, with a
default that means "as before".

One model for every kind of lock: a lock is a set of holds and a queue of places (`queues.py`).
Memory per lock decides how many fit, so what most locks do not have is in records of their own
(`Terms` of a hold, `Extra` of a lock), integers that are equal within an entry (`acquired_ms`,
`acquired_at`) are one object, and `gc=False` keeps a million of them out of the collector's way: no
record can be part of a reference cycle.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from resplock.limits import INTEGER_MAX, OWNER_BYTES_MAX, OWNER_QUOTED_BYTES_MAX
from resplock.operations import ClientId, Metadata, Options, Outcome
from resplock.types import LockName, Natural, StampMs

Moment: TypeAlias = Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]


class Mode(enum.IntEnum):
    """What kind of holds a lock has while it is held."""

    EXCLUSIVE = 0
    SHARED = 1
    SEMAPHORE = 2


def mode_of(options: Options) -> Mode:
    """The kind of hold that is asked for."""
    if options.shared:
        return Mode.SHARED
    return Mode.SEMAPHORE if options.limit else Mode.EXCLUSIVE


class Terms(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What distinguishes a hold from the usual. A hold without any of it has no Terms.

    `holds` counts a re-entrant owner's acquisitions. `delay_ms` is for after an involuntary end. The
    hold ends with `client` (ONCLOSE RELEASE). `is_unheard`: it was given to a waiter, whose owner has
    not been heard from since; `claim_ms` (0: never) is when it ends unless its owner is.
    """

    permits: Natural = 1
    holds: Natural = 1
    delay_ms: Natural = 0
    client: ClientId | None = None
    is_unheard: bool = False
    claim_ms: Natural = 0


USUAL = Terms()


def heard(terms: Terms) -> Terms | None:
    """Terms of a hold whose owner has been heard from."""
    return terms_or_none(replace(terms, is_unheard=False, claim_ms=0))


def terms_or_none(terms: Terms) -> Terms | None:
    """None in the place of the usual."""
    return None if terms == USUAL else terms


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
    terms: Terms | None = None

    @property
    def ends_ms(self) -> int:
        """When it ends by itself: its TTL's end, or that of its claim; 0 for never."""
        terms = self.terms
        return self.deadline_ms if terms is None else sooner(self.deadline_ms, terms.claim_ms)

    @property
    def shown_owner(self) -> bytes:
        """The owner, to those who are refused: a value that was set may be too long to be told to all."""
        return self.owner[:OWNER_BYTES_MAX]

    @property
    def quoted_owner(self) -> bytes:
        """The owner, to those who are told in an error, which shows its beginning."""
        return self.owner[:OWNER_QUOTED_BYTES_MAX]

    @property
    def permits(self) -> int:
        """How much of a semaphore it takes."""
        return 1 if self.terms is None else self.terms.permits

    def remaining_ms(self, stamp_ms: int) -> int:
        """How much of the TTL is left at `stamp_ms`; 0 when it never ends."""
        return max(self.deadline_ms - stamp_ms, 1) if self.deadline_ms else 0


class Extra(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a lock has that is more than one exclusive, usual hold.

    `limit` and `used` are a semaphore's permits. Nobody is granted the lock before
    `delayed_until_ms` (0: no delay). `is_waited_for`: its queue is not empty.
    """

    limit: Natural = 0
    used: Natural = 0
    delayed_until_ms: Natural = 0
    is_waited_for: bool = False


class Lock(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Everything about one lock but its queue. `holds` has the oldest first.

    `next_deadline_ms` is the earliest end among the holds and the delay, 0 when none ever ends: kept
    because every command asks for it. `extra` is None exactly when there is one hold, exclusive and
    without Terms, and neither a queue nor a delay: what commands may then do is short.
    """

    holds: tuple[Hold, ...]
    next_deadline_ms: Natural
    mode: Mode = Mode.EXCLUSIVE
    extra: Extra | None = None

    def hold_of(self, owner: bytes) -> Hold | None:
        """The hold of this owner, or None."""
        for hold in self.holds:
            if hold.owner == owner:
                return hold
        return None

    @property
    def limit(self) -> int:
        """How many permits there are while it is held: 0 unless it is a semaphore."""
        return 0 if self.extra is None else self.extra.limit

    @property
    def delayed_until_ms(self) -> int:
        """Nobody is granted it before then; 0 when there is no delay."""
        return 0 if self.extra is None else self.extra.delayed_until_ms

    @property
    def is_waited_for(self) -> bool:
        """Whether its queue is not empty."""
        return self.extra is not None and self.extra.is_waited_for


NO_EXTRA = Extra()
NOBODYS = Lock((), 0, Mode.EXCLUSIVE, NO_EXTRA)
"""A lock that is free and nobody's concern. It is never in the table; changes begin with it."""


def with_hold(lock: Lock, hold: Hold, options: Options) -> Lock:
    """One more hold, which fits; the first decides what kind of lock it is."""
    extra = lock.extra or NO_EXTRA
    mode = lock.mode
    if not lock.holds:
        mode = mode_of(options)
    if mode is Mode.SEMAPHORE:
        extra = replace(extra, limit=options.limit, used=extra.used + hold.permits)
    next_ms = sooner(lock.next_deadline_ms, hold.ends_ms)
    return _made((*lock.holds, hold), next_ms, mode, extra)


def without_holds(lock: Lock, gone: Sequence[Hold]) -> Lock:
    """Without these holds, which it has. The last one takes the mode and the limit with it."""
    extra = lock.extra or NO_EXTRA
    holds = lock.holds
    if len(gone) == len(holds):
        holds = ()
    elif len(gone) == 1:
        place = holds.index(gone[0])
        holds = holds[:place] + holds[place + 1 :]
    else:
        versions = {hold.version for hold in gone}
        holds = tuple(hold for hold in holds if hold.version not in versions)
    if not holds:
        extra = replace(extra, limit=0, used=0)
        return _made((), extra.delayed_until_ms, Mode.EXCLUSIVE, extra)
    if lock.mode is Mode.SEMAPHORE:
        extra = replace(extra, used=extra.used - sum(hold.permits for hold in gone))
    next_ms = lock.next_deadline_ms
    if next_ms and any(hold.ends_ms == next_ms for hold in gone):
        next_ms = sooner(earliest(holds), extra.delayed_until_ms)
    return _made(holds, next_ms, lock.mode, extra)


def with_changed(lock: Lock, old: Hold, new: Hold) -> Lock:
    """With `new` in the place of `old`, for the same owner and permits."""
    place = lock.holds.index(old)
    holds = (*lock.holds[:place], new, *lock.holds[place + 1 :])
    next_ms = sooner(lock.next_deadline_ms, new.ends_ms)
    if old.ends_ms and old.ends_ms == lock.next_deadline_ms:
        next_ms = sooner(earliest(holds), lock.delayed_until_ms)
    return _made(holds, next_ms, lock.mode, lock.extra or NO_EXTRA)


def with_delay(lock: Lock, until_ms: int) -> Lock:
    """Delayed until then; 0 ends a delay."""
    extra = replace(lock.extra or NO_EXTRA, delayed_until_ms=until_ms)
    return _made(lock.holds, sooner(earliest(lock.holds), until_ms), lock.mode, extra)


def with_queue(lock: Lock, *, is_waited_for: bool) -> Lock:
    """With a queue, or without one."""
    extra = replace(lock.extra or NO_EXTRA, is_waited_for=is_waited_for)
    return _made(lock.holds, lock.next_deadline_ms, lock.mode, extra)


def _made(holds: tuple[Hold, ...], next_ms: int, mode: Mode, extra: Extra) -> Lock:
    plain = len(holds) == 1 and mode is Mode.EXCLUSIVE and holds[0].terms is None
    return Lock(holds, next_ms, mode, None if plain and extra == NO_EXTRA else extra)


def sooner(one_ms: int, other_ms: int) -> int:
    """The earlier of two moments, of which 0 is never."""
    return min(one_ms, other_ms) if one_ms and other_ms else one_ms or other_ms


def earliest(holds: tuple[Hold, ...]) -> int:
    """The earliest end among holds; 0 when none ever ends."""
    return min((hold.ends_ms for hold in holds if hold.ends_ms), default=0)


class Place(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An owner's place in the queue of a lock, or of several that it wants together.

    `index` is the log index of the command that made it: its identity, and the order among equal
    priorities. `ticket` is the log index of the command that is blocked for it, 0 when none is.
    The wait runs out at `deadline_ms`; a place whose client has gone is given up at `grace_ms`, 0
    while it need not be. `options.client` is who is attached to it.
    """

    index: Natural
    names: tuple[LockName, ...]
    owner: bytes
    deadline_ms: Natural
    ticket: Natural
    ttl_ms: Natural
    request: bytes
    metadata: Metadata
    options: Options
    enqueued_at: Moment
    grace_ms: Natural = 0

    @property
    def ends_ms(self) -> int:
        """When it ends by itself."""
        return sooner(self.deadline_ms, self.grace_ms)

    @property
    def has_lost_its_client(self) -> bool:
        """Whether its end is that of a grace."""
        return 0 < self.grace_ms < self.deadline_ms

    @property
    def client(self) -> ClientId | None:
        """Who goes away with it: nobody, unless a client waits or the hold will be its own."""
        options = self.options
        return options.client if self.ticket or options.on_close else None


class Remembered(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The answer to a REQUEST id, kept until `deadline_ms`.

    `index` is the log index of the command that gave it, and `nth` counts those that gave several.
    `name` and `others` are the locks that were asked for.
    """

    owner: bytes
    request: bytes
    index: Natural
    deadline_ms: Natural
    name: LockName
    outcome: Outcome
    others: tuple[LockName, ...] = ()
    nth: Natural = 0

    @property
    def names(self) -> tuple[LockName, ...]:
        """All the locks that were asked for."""
        return (self.name, *self.others)


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
