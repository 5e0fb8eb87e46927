"""Waiting in line: asking for a lock, taking a place, taking it over, giving it up.

Pure. One place for each owner and lock: who asks again takes it over, and whoever was blocked for it
before is told so. A place that would close a cycle of blocked waits is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from resplock import limits
from resplock.operations import (
    Blocked,
    Busy,
    Cancel,
    Cancelled,
    Deadlock,
    Held,
    NotWaiting,
    Options,
    Outcome,
    Queued,
    QueueFull,
    Refused,
    Unblock,
    Unblocked,
)
from resplock.state import deadlocks, ends
from resplock.state.granting import (
    PLAIN,
    Asking,
    contradiction,
    extend,
    grant,
    in_the_way,
    is_free_for,
    names_of,
    waiters_of,
)
from resplock.state.handover import end_by_time, leave, promote, remember, time_out
from resplock.state.ledger import Ledger
from resplock.state.records import Hold, Lock, Place, mode_of
from resplock.types import LockName

# --- asking --------------------------------------------------------------------------------------


def ask(ledger: Ledger, operation: Asking, index: int) -> Outcome:
    """Acquire one lock or several: the general case of what `LockTable` does for plain ones."""
    names, options = names_of(operation), operation.options or PLAIN
    for name in names:
        ends.settle(ledger, name, index)
    place = _place_of(ledger, names, operation.owner, index)
    if place is not None:
        return _ask_again(ledger, place, operation, index)
    held: list[tuple[LockName, Lock, Hold]] = []
    for name in names:
        lock = ledger.locks.get(name)
        hold = _hold_of(ledger, name, lock, operation.owner)
        refusal = contradiction(lock, hold, options)
        if refusal is not None:
            return refusal
        if lock is not None and hold is not None:
            held.append((name, lock, hold))
    if options.on_close and options.client is not None:
        ties = ledger.tied.count(options.client) + ledger.queues.by_client.count(options.client)
        if ties + len(names) > limits.HOLDS_TIED_PER_CLIENT:
            return Busy(f"the connection has {ties} holds or places ONCLOSE already")
    if held:
        return _ask_as_holder(ledger, names, held, operation)
    if all(is_free_for(ledger, name, options) for name in names):
        return grant(ledger, names, operation, index, is_unheard=_may_block(options))
    if not _waits(options):
        return _refuse(ledger, names, options)
    return _enqueue(ledger, names, operation, index)


def _place_of(ledger: Ledger, names: Sequence[LockName], owner: bytes, index: int) -> Place | None:
    """The owner's place in one of these queues, unless it is over."""
    place = ledger.queues.place_of(names, owner)
    if place is None or place.ends_ms > ledger.clock_ms:
        return place
    end_by_time(ledger, place, index)
    promote(ledger, place.names, index, ledger.clock_ms + 1)
    return _place_of(ledger, names, owner, index)


def _hold_of(ledger: Ledger, name: LockName, lock: Lock | None, owner: bytes) -> Hold | None:
    """The owner's hold, without a search among many when it has none."""
    if lock is None or not ledger.owners.has(owner, name):
        return None
    return lock.hold_of(owner)


def _may_block(options: Options) -> bool:
    """Whether a connection waits for the answer, and may have gone when it comes."""
    return options.blocking and options.wait_ms > 0


def _waits(options: Options) -> bool:
    return options.wait_ms > 0 or not options.blocking


def _ask_as_holder(
    ledger: Ledger,
    names: Sequence[LockName],
    held: list[tuple[LockName, Lock, Hold]],
    operation: Asking,
) -> Outcome:
    """The owner has the lock already; of several, it must have all by one grant.

    It is told when the first of them ends.
    """
    versions = {hold.version for _, _, hold in held}
    if len(held) < len(names) or len(versions) > 1:
        return Refused("the owner holds some of these locks already, not all by one grant")
    outcomes = [extend(ledger, *each, operation, counts=True) for each in held]
    ttl_ms = min((outcome.ttl_ms for outcome in outcomes if outcome.ttl_ms), default=0)
    return replace(outcomes[0], ttl_ms=ttl_ms, waiters=waiters_of(ledger, names))


def _refuse(ledger: Ledger, names: Sequence[LockName], options: Options) -> Held:
    ledger.totals.refusals += 1
    return in_the_way(ledger, names, options)


# --- taking a place ------------------------------------------------------------------------------


def _enqueue(ledger: Ledger, names: tuple[LockName, ...], operation: Asking, index: int) -> Outcome:
    if len(ledger.queues) >= limits.WAITERS_MAX:
        return Busy(f"{limits.WAITERS_MAX} places are taken in all queues together")
    for name in names:
        waiters = ledger.queues.count(name)
        if waiters >= limits.WAITERS_PER_LOCK:
            return QueueFull(name, waiters)
    place = _place(ledger, names, operation, index)
    ledger.add_place(place)
    if (cycle := deadlocks.cycle(ledger, place)) is not None:
        ledger.remove_place(place)
        return Deadlock(cycle)
    for name in names:
        ledger.tell("queued", name, place.owner, 0)
    return _answer(ledger, place)


def _place(ledger: Ledger, names: tuple[LockName, ...], operation: Asking, index: int) -> Place:
    """The place that a command asks for."""
    options = operation.options or PLAIN
    return Place(
        index=index,
        names=names,
        owner=operation.owner,
        deadline_ms=ledger.clock_ms + (options.wait_ms or limits.WAIT_MS_MAX),
        ticket=index if options.blocking else 0,
        ttl_ms=operation.ttl_ms,
        request=operation.request,
        metadata=operation.metadata,
        options=options,
        enqueued_at=ledger.now_unix_ms,
    )


def _answer(ledger: Ledger, place: Place) -> Blocked | Queued:
    """What the command that took a place is told now."""
    if place.ticket:
        return Blocked(place.ticket)
    position = max(ledger.queues.position(name, place) for name in place.names)
    return Queued(position, _estimated_wait_ms(ledger, place))


def _estimated_wait_ms(ledger: Ledger, place: Place) -> int:
    """The longest of the waits that its locks' hold times let expect."""
    waits: list[int] = []
    for name in place.names:
        lock = ledger.locks.get(name)
        assert lock is not None, "a lock with a queue is not in the table"
        ahead = ledger.queues.position(name, place)
        waits.append(ledger.means.wait_ms(name, lock, ahead, ledger.clock_ms))
    return max(waits)


def _ask_again(ledger: Ledger, place: Place, operation: Asking, index: int) -> Outcome:
    """The owner has a place already: a wait takes it over, a try leaves it as it is."""
    options = operation.options or PLAIN
    if names_of(operation) != place.names:
        return Refused("the owner waits for this lock already, together with other locks")
    if not _waits(options):
        ledger.totals.refusals += 1
        return in_the_way(ledger, place.names, place.options, place)
    if _differs(options, place.options):
        return Refused("the owner waits for this lock already, in another mode")
    newer = replace(
        _place(ledger, place.names, operation, index),
        index=place.index,
        metadata=operation.metadata or place.metadata,
        options=replace(options, priority=place.options.priority),
        enqueued_at=place.enqueued_at,
    )
    ledger.queues.replace(place, newer)
    if newer.ticket and not place.ticket and (cycle := deadlocks.cycle(ledger, newer)) is not None:
        ledger.queues.replace(newer, place)
        return Deadlock(cycle)
    _forsake(ledger, place, newer, index)
    return _answer(ledger, newer)


def _differs(options: Options, others: Options) -> bool:
    return mode_of(options) is not mode_of(others) or (
        bool(options.limit) and (options.limit, options.permits) != (others.limit, others.permits)
    )


def _forsake(ledger: Ledger, place: Place, newer: Place, index: int) -> None:
    """Whoever was blocked for the place is told that another has taken it over."""
    outcome = Unblocked("replaced")
    ledger.end_ticket(place, outcome)
    if place.request and place.request != newer.request:
        remember(ledger, place, outcome, index)


# --- operations on places ------------------------------------------------------------------------


def cancel(ledger: Ledger, operation: Cancel, index: int) -> Cancelled | NotWaiting:
    """LOCK.CANCEL: the owner gives its place up, in all its queues."""
    names = (operation.name,)
    ends.settle(ledger, operation.name, index)
    place = _place_of(ledger, names, operation.owner, index)
    if place is None:
        return NotWaiting(operation.name)
    leave(ledger, place, "cancelled", index)
    return Cancelled(1)


def unblock(ledger: Ledger, operation: Unblock, index: int) -> Cancelled:
    """CLIENT UNBLOCK: the wait that a connection is blocked in ends."""
    for number in ledger.queues.by_client.members_of(operation.client):
        place = ledger.queues.places[number]
        if not place.ticket:
            continue
        if operation.error:
            leave(ledger, place, "unblocked", index)
        else:
            time_out(ledger, place, index)
            promote(ledger, place.names, index, ledger.clock_ms + 1)
        return Cancelled(1)
    return Cancelled(0)
