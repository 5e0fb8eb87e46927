"""Granting: who may have a lock now, and what a hold looks like.

Pure. One rule of compatibility for every kind of lock: `fits`. And one of precedence: nobody passes
a place of equal or higher priority, also when the lock is free at that moment.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from resplock import limits
from resplock.operations import Acquire, AcquireAll, Granted, Held, Options, Refused
from resplock.state.backoff import FREE
from resplock.state.ledger import Ledger
from resplock.state.records import (
    NOBODYS,
    USUAL,
    Hold,
    Lock,
    Mode,
    Place,
    Terms,
    mode_of,
    terms_or_none,
    with_hold,
)
from resplock.types import LockName

PLAIN = Options()
"""What an acquisition without options asks for."""

Asking = Acquire | AcquireAll


def names_of(operation: Asking) -> tuple[LockName, ...]:
    """The locks that are asked for, each once."""
    if isinstance(operation, Acquire):
        return (operation.name,)
    return tuple(dict.fromkeys(operation.names))


# --- may it be granted? --------------------------------------------------------------------------


def fits(lock: Lock | None, options: Options) -> bool:
    """Whether the lock's holds leave room for one more of this kind."""
    if lock is None or not lock.holds:
        return True
    mode = mode_of(options)
    if mode is Mode.EXCLUSIVE or mode is not lock.mode:
        return False
    if len(lock.holds) >= limits.HOLDERS_PER_LOCK:
        return False
    if mode is Mode.SHARED:
        return True
    extra = lock.extra
    assert extra is not None, "a semaphore without a limit"
    return extra.limit == options.limit and extra.used + options.permits <= extra.limit


def is_free_for(ledger: Ledger, name: LockName, options: Options) -> bool:
    """Whether a new ask may be granted: there is room, no delay, and nobody comes first."""
    lock = ledger.locks.get(name)
    if lock is None:
        return True
    if lock.delayed_until_ms or not fits(lock, options):
        return False
    if not lock.is_waited_for:
        return True
    front = ledger.queues.front(name)
    return front is None or front.options.priority < options.priority


def is_up(ledger: Ledger, place: Place) -> bool:
    """Whether a place may be granted: it is in front, and there is room, in all its queues."""
    for name in place.names:
        lock = ledger.locks.get(name)
        if lock is None or lock.delayed_until_ms or ledger.queues.front(name) is not place:
            return False
        if not fits(lock, place.options):
            return False
    return True


def contradiction(lock: Lock | None, hold: Hold | None, options: Options) -> Refused | None:
    """Why what is asked for contradicts what is held, whoever waits."""
    if options.limit and options.permits > options.limit:
        return Refused(f"PERMITS is {options.permits}, more than LIMIT, which is {options.limit}")
    if lock is None or not lock.holds:
        return None
    mode = mode_of(options)
    if hold is not None and mode is not lock.mode:
        return Refused(f"the owner holds the lock, and its hold is {_kind(lock.mode)}")
    if mode is Mode.SEMAPHORE and lock.mode is Mode.SEMAPHORE and lock.limit != options.limit:
        return Refused(f"LIMIT is {lock.limit} while the lock is held, not {options.limit}")
    if hold is not None and mode is Mode.SEMAPHORE and hold.permits != options.permits:
        return Refused(f"the owner holds {hold.permits} PERMITS, not {options.permits}")
    return None


def _kind(mode: Mode) -> str:
    return {
        Mode.EXCLUSIVE: "exclusive",
        Mode.SHARED: "SHARED",
        Mode.SEMAPHORE: "of a semaphore (LIMIT)",
    }[mode]


# --- why not? ------------------------------------------------------------------------------------


def in_the_way(
    ledger: Ledger, names: Sequence[LockName], options: Options, place: Place | None = None
) -> Held:
    """Why these locks are not granted to whoever asks like this, or to a place, and when to retry.

    The first lock with an obstacle tells: a hold, else who comes first, else a delay. There is none
    when a place is over that nobody had the time to serve.
    """
    for name in names:
        lock = ledger.locks.get(name)
        if lock is None:
            continue
        if place is not None:
            ahead = ledger.queues.position(name, place)
        else:
            ahead = ledger.queues.ahead_of(name, options.priority)
        if ahead or lock.delayed_until_ms or not fits(lock, options):
            return _obstacle(ledger, name, lock, options, ahead)
    return Held(None, 0, 0, waiters_of(ledger, names), FREE)


def _obstacle(ledger: Ledger, name: LockName, lock: Lock, options: Options, ahead: int) -> Held:
    now_ms = ledger.clock_ms
    owner, version = None, 0
    if not fits(lock, options):
        hold = lock.holds[0]
        owner, version, left_ms = hold.shown_owner, hold.version, hold.remaining_ms(now_ms)
    elif ahead and (front := ledger.queues.front(name)) is not None:
        owner, left_ms = front.owner, max(front.ends_ms - now_ms, 1)
    else:
        left_ms = max(lock.delayed_until_ms - now_ms, 1)
    advice = ledger.means.advice(name, lock, ahead, now_ms)
    return Held(owner, version, left_ms, ledger.queues.count(name), advice)


# --- grants --------------------------------------------------------------------------------------


def grant(
    ledger: Ledger,
    names: Sequence[LockName],
    operation: Asking | Place,
    index: int,
    *,
    is_unheard: bool = False,
    claim_ms: int = 0,
) -> Granted:
    """Grant locks that are free for this, all with one version."""
    options = operation.options or PLAIN
    ttl_ms = operation.ttl_ms
    version = ledger.next_version(index)
    terms = _terms(options, is_unheard=is_unheard, claim_ms=claim_ms)
    now = ledger.now_unix_ms
    hold = Hold(
        owner=operation.owner,
        version=version,
        deadline_ms=ledger.clock_ms + ttl_ms if ttl_ms else 0,
        ttl_ms=ttl_ms,
        acquired_ms=ledger.clock_ms,
        acquired_at=now,
        modified_at=now,
        metadata=operation.metadata,
        terms=terms,
    )
    for name in names:
        lock = ledger.locks.get(name)
        ledger.add_hold(name, lock, with_hold(lock or NOBODYS, hold, options), hold)
    return Granted(version, ttl_ms, waiters_of(ledger, names))


def waiters_of(ledger: Ledger, names: Sequence[LockName]) -> int:
    """How many places the queues of these locks have."""
    return sum(ledger.queues.count(name) for name in names)


def _terms(options: Options, *, is_unheard: bool, claim_ms: int) -> Terms | None:
    return terms_or_none(
        Terms(
            permits=options.permits if options.limit else 1,
            delay_ms=options.delay_ms,
            client=options.client if options.on_close else None,
            is_unheard=is_unheard,
            claim_ms=claim_ms,
        )
    )


def extend(
    ledger: Ledger, name: LockName, lock: Lock, hold: Hold, operation: Asking, *, counts: bool
) -> Granted:
    """The holder asks again: same version, and an end that is never earlier than it was.

    counts: this is one more acquisition of a re-entrant hold, if that was asked for.
    """
    ttl_ms = operation.ttl_ms
    deadline_ms = ledger.clock_ms + ttl_ms if ttl_ms else 0
    if deadline_ms and (not hold.deadline_ms or deadline_ms < hold.deadline_ms):
        ttl_ms, deadline_ms = hold.ttl_ms, hold.deadline_ms
    extended = replace(
        hold,
        ttl_ms=ttl_ms,
        deadline_ms=deadline_ms,
        modified_at=ledger.now_unix_ms,
        metadata=operation.metadata or hold.metadata,
        terms=_renewed_terms(hold.terms, operation.options or PLAIN, counts=counts),
    )
    ledger.put_hold(name, lock, hold, extended)
    ledger.tell("renewed", name, hold.owner, hold.version)
    return Granted(hold.version, extended.remaining_ms(ledger.clock_ms), waiters_of(ledger, [name]))


def claim(ledger: Ledger, name: LockName, hold: Hold, options: Options) -> None:
    """The owner of this hold was heard from, over `options.client` if the hold goes with it."""
    terms = _renewed_terms(hold.terms, options, counts=False)
    if terms != hold.terms:
        lock = ledger.locks.get(name)
        assert lock is not None, "a hold of a lock that is not there"
        ledger.put_hold(name, lock, hold, replace(hold, terms=terms))


def _renewed_terms(terms: Terms | None, options: Options, *, counts: bool) -> Terms | None:
    """A hold's terms once its owner has asked again: what the ask does not say stays."""
    terms = terms or USUAL
    return terms_or_none(
        Terms(
            permits=terms.permits,
            holds=terms.holds + (options.reentrant and counts),
            delay_ms=options.delay_ms or terms.delay_ms,
            client=options.client if options.on_close else terms.client,
        )
    )
