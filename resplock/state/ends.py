"""Ends of holds: by their owner, by time, by an operator, with a connection.

Pure. Timed ends come in one order: by their moment; at the same moment locks by name, holds before
the delay, and places last, by index. What a hold's end frees is granted at once.
"""

from __future__ import annotations

from msgspec.structs import replace

from resplock import limits
from resplock.operations import Break, Broken, NotHeld, Released, Stale
from resplock.state.handover import end_by_time, promote
from resplock.state.ledger import Ledger, Slot
from resplock.state.records import NOBODYS, Hold, Lock, heard, with_delay
from resplock.types import LockName


def end_due(ledger: Ledger, index: int) -> None:
    """Carry out the ends that are due, as far as `ledger.ends_left` goes."""
    stamp_ms = ledger.clock_ms
    locks, queues = ledger.timers, ledger.queues
    while ledger.ends_left > 0:
        waiting = len(queues)
        lock_due = locks.due(stamp_ms)
        place_due = queues.timers.due(stamp_ms) if waiting else None
        if lock_due is not None and (place_due is None or lock_due[0] <= place_due[0]):
            ledger.ends_left -= _end_first(ledger, lock_due, index)
        elif place_due is not None:
            place = queues.places[place_due[1]]
            end_by_time(ledger, place, index)
            promote(ledger, place.names, index, place_due[0])
        else:
            break
        ledger.ends_left -= limits.PLACE_END_COST * (waiting - len(queues))
    if ledger.ends_left > 0:
        ledger.ends_left -= ledger.requests.end_due(stamp_ms, ledger.ends_left)


def _end_first(ledger: Ledger, due: tuple[int, LockName], index: int) -> int:
    """End what comes first; says how many holds that were. Nearly always it is a plain lock's."""
    moment_ms, name = due
    slot = ledger.locks.writable(name)
    lock = slot[name]
    if lock.extra is not None:
        return end_overdue(ledger, name, moment_ms, index)
    expire_plain(ledger, slot, name, lock)
    return 1


def expire_plain(ledger: Ledger, slot: Slot, name: LockName, lock: Lock) -> None:
    """The hold of a plain lock is over, and nobody waits."""
    ledger.drop_plain(slot, name, lock)
    ledger.totals.expired += 1
    if ledger.keeps_events or ledger.watched:
        hold = lock.holds[0]
        ledger.tell("expired", name, hold.owner, hold.version)


def settle(ledger: Ledger, name: LockName, index: int) -> None:
    """End what is overdue on a lock before a command sees it, whatever the cap has left behind."""
    lock = ledger.locks.get(name)
    if lock is None:
        return
    if 0 < lock.next_deadline_ms <= ledger.clock_ms:
        end_overdue(ledger, name, ledger.clock_ms, index)
    if not lock.is_waited_for:
        return
    front = ledger.queues.front(name)
    if front is not None and front.ends_ms <= ledger.clock_ms:
        promote(ledger, (name,), index, ledger.clock_ms + 1)


def end_overdue(ledger: Ledger, name: LockName, until_ms: int, index: int) -> int:
    """End the holds of a lock, and its delay, that end by `until_ms`; says how many there were.

    While anybody waits, moment by moment: who comes next may differ between two ends.
    """
    ended = 0
    while (lock := ledger.locks.get(name)) is not None and 0 < lock.next_deadline_ms <= until_ms:
        moment_ms = lock.next_deadline_ms if lock.is_waited_for else until_ms
        overdue = [hold for hold in lock.holds if 0 < hold.ends_ms <= moment_ms]
        if overdue:
            _expire(ledger, name, lock, overdue)
            lock = ledger.locks.get(name)
        if lock is not None and 0 < lock.delayed_until_ms <= moment_ms:
            ledger.put(name, lock, with_delay(lock, 0))
        ended += len(overdue) or 1
        promote(ledger, (name,), index, moment_ms)
    return ended


def _expire(ledger: Ledger, name: LockName, lock: Lock, overdue: list[Hold]) -> None:
    """End holds by time: that of their TTL, or that in which their owner did not come back."""
    overdue.sort(key=lambda hold: (hold.ends_ms, hold.version))
    ledger.take_holds(name, lock, overdue)
    for hold in overdue:
        if hold.ends_ms == hold.deadline_ms:
            ledger.totals.expired += 1
            ledger.tell("expired", name, hold.owner, hold.version)
            delay(ledger, name, hold)
        else:
            ledger.totals.releases += 1
            ledger.tell("released", name, hold.owner, hold.version, b"unclaimed")


def delay(ledger: Ledger, name: LockName, hold: Hold) -> None:
    """A hold ended without its owner's release: keep the lock from everybody, if that was asked."""
    if hold.terms is None or not hold.terms.delay_ms:
        return
    lock = ledger.locks.get(name)
    until_ms = ledger.clock_ms + hold.terms.delay_ms
    if lock is None or lock.delayed_until_ms < until_ms:
        ledger.put(name, lock, with_delay(lock or NOBODYS, until_ms))


# --- ends by somebody's will ---------------------------------------------------------------------


def release(ledger: Ledger, name: LockName, lock: Lock, hold: Hold, index: int) -> Released:
    """The owner gives its hold back, or one of its re-entrant acquisitions."""
    terms = hold.terms
    if terms is not None and terms.holds > 1:
        left = terms.holds - 1
        ledger.put_hold(name, lock, hold, replace(hold, terms=heard(replace(terms, holds=left))))
        return Released(holds=left)
    ledger.means.observe(name, ledger.clock_ms - hold.acquired_ms)
    give_up(ledger, name, lock, hold, b"")
    return Released(promoted=promote(ledger, (name,), index, ledger.clock_ms + 1))


def give_up(ledger: Ledger, name: LockName, lock: Lock, hold: Hold, reason: bytes) -> None:
    """End a hold that nobody needs any more. Whoever is next is not served yet."""
    ledger.take_holds(name, lock, [hold])
    ledger.totals.releases += 1
    ledger.tell("released", name, hold.owner, hold.version, reason)


def lose(ledger: Ledger, name: LockName, owner: bytes, index: int) -> None:
    """The connection has closed that this hold was tied to."""
    lock = ledger.locks.get(name)
    hold = lock.hold_of(owner) if lock is not None else None
    assert lock is not None, "a tie to a lock that is not there"
    assert hold is not None, "a tie without a hold"
    give_up(ledger, name, lock, hold, b"disconnected")
    delay(ledger, name, hold)
    promote(ledger, (name,), index, ledger.clock_ms + 1)


def break_lock(ledger: Ledger, operation: Break, index: int) -> Broken | NotHeld | Stale:
    """An operator takes the lock from all its holders, or from the one with this version."""
    name = operation.name
    settle(ledger, name, index)
    lock = ledger.locks.get(name)
    if lock is None or not lock.holds:
        return NotHeld(name)
    gone = list(lock.holds)
    if operation.version:
        gone = [hold for hold in gone if hold.version == operation.version]
        if not gone:
            return Stale(name, operation.version, lock.holds[0].version)
    ledger.take_holds(name, lock, gone)
    for hold in gone:
        ledger.totals.broken += 1
        ledger.tell("broken", name, hold.owner, hold.version, operation.reason)
        delay(ledger, name, hold)
    promote(ledger, (name,), index, ledger.clock_ms + 1)
    return Broken(gone[0].quoted_owner, gone[0].version)
