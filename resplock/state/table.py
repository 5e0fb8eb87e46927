"""The lock table's `apply`: how each operation changes it.

Pure and deterministic: two replicas that apply the same entries hold the same table.

Invariants (checked by `check`, which tests and the simulator call):
- a lock in the table is held; free locks take no memory;
- a lock has at most one hold while its mode is EXCLUSIVE;
- every version granted is above all earlier ones, over the whole table and for ever;
- timers, owners and counts say what the records say.

Time is the entry's stamp. A command first ends whatever is overdue on the locks that it touches, so
that no command ever sees an overdue hold, whatever the cap on ends per entry has left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from resplock import limits
from resplock.operations import (
    KEEP_TTL,
    Acquire,
    AcquireAll,
    Break,
    Broken,
    Cancel,
    Cancelled,
    Disconnect,
    Done,
    Ended,
    Event,
    Granted,
    Held,
    KeepAlive,
    Kept,
    Lost,
    NodeGone,
    NotHeld,
    NotOwner,
    NotWaiting,
    Operation,
    Outcome,
    Refused,
    Release,
    Released,
    Renew,
    Renewed,
    Settle,
    SetUnixOffset,
    Stale,
    Unblock,
    Undelivered,
)
from resplock.state.backoff import HoldMeans
from resplock.state.owners import OwnerIndex
from resplock.state.rates import Rates
from resplock.state.records import Head, Hold, Lock, Mode, Totals, lock_of
from resplock.state.requests import Requests
from resplock.state.slotmap import SlotMap
from resplock.state.timers import Timers
from resplock.types import LockName, NodeId, StampMs

FEATURE_LEVEL = 1
"""The newest rules of `apply` that this release knows. The log says which are in force."""

Slot = dict[LockName, Lock]


class LockTable:
    """All locks, and everything that decides about them.

    Read by `queries` and `snapshots`; changed by `apply` and, as a whole, by `snapshots.restore`.
    """

    def __init__(self) -> None:
        self.locks: SlotMap[Lock] = SlotMap()
        self.requests = Requests()
        self.totals = Totals()
        self.means = HoldMeans(self.totals)
        self.rates = Rates(self.totals)
        self.owners = OwnerIndex()
        self.timers = Timers(self._deadline_of)
        self.locks_by_db = [0] * limits.DATABASES
        self.clock_ms = StampMs(0)
        self.unix_offset_ms = 0
        self._now_unix_ms = 0  # the entry's stamp in unix time: one object for all that it grants
        self.last_version = 0
        self.feature_level = FEATURE_LEVEL
        self.keeps_events = False
        """Whether `take_events` has any. It changes nothing that replicas share."""
        self._handlers: dict[type, Callable[[Any, int], Outcome]] = {
            Acquire: self._acquire,
            Release: self._release,
            Renew: self._renew,
            KeepAlive: self._keep_alive,
            Break: self._break,
            Settle: self._settle_all,
            SetUnixOffset: self._set_unix_offset,
            AcquireAll: lambda operation, index: _NOT_YET,
            Cancel: lambda operation, index: NotWaiting(operation.name),
            Disconnect: lambda operation, index: Done(),
            NodeGone: lambda operation, index: Done(),
            Unblock: lambda operation, index: Cancelled(0),
            Undelivered: lambda operation, index: Done(),
        }

    # --- what the node asks ----------------------------------------------------------------------

    def apply(self, first: int, stamp_ms: int, operations: Sequence[Operation]) -> list[Outcome]:
        """Apply one entry: `operations[i]` has the log index `first + i`. One outcome for each.

        stamp_ms: the entry's replicated clock. An entry without operations only moves the clock.
        """
        assert stamp_ms >= self.clock_ms, "the replicated clock never goes back"
        self.clock_ms = StampMs(stamp_ms)
        self._now_unix_ms = stamp_ms + self.unix_offset_ms
        self._end_due(stamp_ms)
        self.rates.sample(stamp_ms)
        handlers = self._handlers
        return [
            handlers[type(operation)](operation, index)
            for index, operation in enumerate(operations, first)
        ]

    def take_ended(self) -> list[Ended]:
        """The waits that the last entry ended, in the order of the log. To be taken after each."""
        return []

    def is_waiting(self, wanted: Acquire | AcquireAll, ticket: int) -> bool:
        """Whether the wait for this, which was answered Blocked with this ticket, has not ended."""
        return False

    def attached_lives(self) -> list[tuple[NodeId, int]]:
        """The nodes, and their incarnations, to whose clients places or holds are attached; sorted."""
        return []

    def take_events(self) -> list[Event]:
        """What the last entry did, in the order of the log. Empty unless `keeps_events`."""
        return []

    def end_due(self, now_ms: int) -> bool:
        """Whether an end is due by `now_ms`: the leader then carries the clock there."""
        if self.timers.due(now_ms) is not None:
            return True
        return 0 < self.requests.next_deadline_ms <= now_ms

    @property
    def has_deadlines(self) -> bool:
        """Whether anything in the table ends with time, so that the clock must not be lost."""
        return bool(self.timers) or bool(self.requests)

    def overdue(self, name: LockName, now_ms: int) -> bool:
        """Whether a read of this lock at `now_ms` would show a hold that has ended by then."""
        lock = self.locks.get(name)
        return lock is not None and 0 < lock.next_deadline_ms <= now_ms

    # --- operations ------------------------------------------------------------------------------

    def _acquire(self, operation: Acquire, index: int) -> Outcome:
        if operation.options is not None:
            return _NOT_YET
        if operation.request:
            return self._acquire_once(operation, index)
        name = operation.name
        slot = self.locks.writable(name)
        lock = slot.get(name)
        if lock is not None and 0 < lock.next_deadline_ms <= self.clock_ms:
            lock = self._settle(slot, name, lock)
        if lock is None:
            return self._grant(slot, operation, index)
        hold = lock.hold_of(operation.owner)
        if hold is None:
            return self._refuse(name, lock)
        return self._extend(slot, lock, hold, operation)

    def _acquire_once(self, operation: Acquire, index: int) -> Outcome:
        """The same REQUEST id gets the same answer, and has no second effect."""
        name, owner, request = operation.name, operation.owner, operation.request
        earlier = self.requests.get(owner, request)
        if earlier is None:
            outcome = self._acquire(replace(operation, request=b""), index)
            self.requests.remember(
                owner, request, name, outcome, index=index, stamp_ms=self.clock_ms
            )
            return outcome
        outcome = earlier.outcome
        if isinstance(outcome, Granted) and not self._holds(earlier.name, owner, outcome.version):
            return Lost(outcome.version)
        return outcome

    def _grant(self, slot: Slot, operation: Acquire, index: int) -> Granted:
        """Give a free lock away, with a version above every earlier one and not below `index`."""
        name, owner, ttl_ms = operation.name, operation.owner, operation.ttl_ms
        stamp_ms = self.clock_ms
        version = self.last_version + 1
        if version < index:
            version = index
        self.last_version = version
        if ttl_ms:
            deadline_ms = stamp_ms + ttl_ms
            self.timers.add(name, deadline_ms)
        else:
            deadline_ms = 0
        now = self._now_unix_ms
        hold = Hold(owner, version, deadline_ms, ttl_ms, stamp_ms, now, now, operation.metadata)
        slot[name] = Lock((hold,), deadline_ms)
        self.owners.add(owner, name)
        self.locks_by_db[name[0]] += 1
        self.totals.acquisitions += 1
        return Granted(version, ttl_ms)

    def _extend(self, slot: Slot, lock: Lock, hold: Hold, operation: Acquire) -> Granted:
        """The holder asks again: same version, and an end that is never earlier than it was."""
        stamp_ms, ttl_ms = self.clock_ms, operation.ttl_ms
        deadline_ms = stamp_ms + ttl_ms if ttl_ms else 0
        if deadline_ms and (not hold.deadline_ms or deadline_ms < hold.deadline_ms):
            ttl_ms, deadline_ms = hold.ttl_ms, hold.deadline_ms
        extended = replace(
            hold,
            ttl_ms=ttl_ms,
            deadline_ms=deadline_ms,
            modified_at=self._now_unix_ms,
            metadata=operation.metadata or hold.metadata,
        )
        self._replace(slot, operation.name, lock, hold, extended)
        return Granted(hold.version, extended.remaining_ms(stamp_ms))

    def _refuse(self, name: LockName, lock: Lock) -> Held:
        self.totals.refusals += 1
        hold = lock.holds[0]
        advice = self.means.advice(name, hold, 1, self.clock_ms)
        return Held(hold.owner, hold.version, hold.remaining_ms(self.clock_ms), 0, advice)

    def _release(self, operation: Release, index: int) -> Outcome:
        name = operation.name
        slot = self.locks.writable(name)
        lock = slot.get(name)
        if lock is not None and 0 < lock.next_deadline_ms <= self.clock_ms:
            lock = self._settle(slot, name, lock)
        if lock is None:
            return NotHeld(name)
        first = lock.holds[0]  # nearly always the one
        hold = first if first.owner == operation.owner else lock.hold_of(operation.owner)
        if hold is None or (operation.version and operation.version != hold.version):
            return _not_yours(operation, lock, hold)
        self.means.observe(name, self.clock_ms - hold.acquired_ms)
        self._end(slot, name, lock, hold)
        self.totals.releases += 1
        return _RELEASED

    def _renew(self, operation: Renew, index: int) -> Outcome:
        name = operation.name
        slot = self.locks.writable(name)
        lock = self._settled(slot, name)
        if lock is None:
            return NotHeld(name)
        hold = lock.hold_of(operation.owner)
        if hold is None or (operation.version and operation.version != hold.version):
            return _not_yours(operation, lock, hold)
        ttl_ms = self._set_ttl(slot, name, lock, hold, operation.ttl_ms)
        return Renewed(hold.version, ttl_ms)

    def _keep_alive(self, operation: KeepAlive, index: int) -> Kept:
        renewed = 0
        for name in self.owners.names_of(operation.owner):
            slot = self.locks.writable(name)
            lock = self._settled(slot, name)
            hold = lock.hold_of(operation.owner) if lock else None
            if lock and hold:
                self._set_ttl(slot, name, lock, hold, operation.ttl_ms)
                renewed += 1
        if not operation.versions:
            return Kept(renewed)
        lost = tuple(
            name
            for name, version in operation.versions
            if not self._holds(name, operation.owner, version)
        )
        return Kept(renewed, lost)

    def _break(self, operation: Break, index: int) -> Outcome:
        name = operation.name
        slot = self.locks.writable(name)
        lock = self._settled(slot, name)
        if lock is None:
            return NotHeld(name)
        hold = lock.holds[0]
        if operation.version and operation.version != hold.version:
            return Stale(name, operation.version, hold.version)
        self._end(slot, name, lock, hold)
        self.totals.broken += 1
        return Broken(hold.owner, hold.version)

    def _settle_all(self, operation: Settle, index: int) -> Done:
        for name in operation.names:
            self._settled(self.locks.writable(name), name)
        return Done()

    def _set_unix_offset(self, operation: SetUnixOffset, index: int) -> Done:
        self.unix_offset_ms = operation.offset_ms
        self._now_unix_ms = self.clock_ms + operation.offset_ms
        return Done()

    # --- ends ------------------------------------------------------------------------------------

    def _end_due(self, stamp_ms: int) -> None:
        """Carry out the ends that are due, at most limits.ENDS_PER_ENTRY of them."""
        ended = 0
        while ended < limits.ENDS_PER_ENTRY and (due := self.timers.due(stamp_ms)) is not None:
            name = due[1]
            self._settled(self.locks.writable(name), name)
            ended += 1
        self.requests.end_due(stamp_ms, limits.ENDS_PER_ENTRY - ended)

    def _settled(self, slot: Slot, name: LockName) -> Lock | None:
        """The lock as it is once its overdue holds have ended; None when nobody holds it."""
        lock = slot.get(name)
        return self._settle(slot, name, lock) if lock is not None else None

    def _settle(self, slot: Slot, name: LockName, lock: Lock | None) -> Lock | None:
        while lock is not None and 0 < lock.next_deadline_ms <= self.clock_ms:
            overdue = min(
                (hold for hold in lock.holds if hold.overdue(self.clock_ms)),
                key=lambda hold: (hold.deadline_ms, hold.version),
            )
            lock = self._end(slot, name, lock, overdue)
            self.totals.expired += 1
        return lock

    def _end(self, slot: Slot, name: LockName, lock: Lock, hold: Hold) -> Lock | None:
        """Take one hold out of the lock; a lock without holds leaves the table."""
        if lock.next_deadline_ms:
            self.timers.remove(name, lock.next_deadline_ms)
        self.owners.remove(hold.owner, name)
        if len(lock.holds) == 1:
            del slot[name]
            self.locks_by_db[name[0]] -= 1
            return None
        left = tuple(other for other in lock.holds if other is not hold)
        lock = slot[name] = lock_of(left, lock.mode)
        if lock.next_deadline_ms:
            self.timers.add(name, lock.next_deadline_ms)
        return lock

    # --- shared steps ----------------------------------------------------------------------------

    def _set_ttl(self, slot: Slot, name: LockName, lock: Lock, hold: Hold, ttl_ms: int) -> int:
        """Make the hold end `ttl_ms` from now, exactly; KEEP_TTL means its own TTL."""
        if ttl_ms == KEEP_TTL:
            ttl_ms = hold.ttl_ms
        stamp_ms = self.clock_ms
        deadline_ms = stamp_ms + ttl_ms if ttl_ms else 0
        renewed = replace(
            hold, ttl_ms=ttl_ms, deadline_ms=deadline_ms, modified_at=self._now_unix_ms
        )
        self._replace(slot, name, lock, hold, renewed)
        self.totals.renewals += 1
        return ttl_ms

    def _replace(self, slot: Slot, name: LockName, lock: Lock, old: Hold, new: Hold) -> None:
        """Put `new` in the place of `old`, and the timer where the lock's next end is then."""
        before_ms = lock.next_deadline_ms
        holds = tuple(new if hold is old else hold for hold in lock.holds)
        lock = slot[name] = lock_of(holds, lock.mode)
        after_ms = lock.next_deadline_ms
        if before_ms == after_ms:
            return
        if before_ms:
            self.timers.remove(name, before_ms)
        if after_ms:
            self.timers.add(name, after_ms)

    def _holds(self, name: LockName, owner: bytes, version: int) -> bool:
        lock = self._settled(self.locks.writable(name), name)
        hold = lock.hold_of(owner) if lock else None
        return hold is not None and hold.version == version

    def _deadline_of(self, name: LockName) -> int:
        lock = self.locks.get(name)
        return lock.next_deadline_ms if lock else 0

    # --- for restore and for tests ---------------------------------------------------------------

    def adopt_head(self, head: Head) -> None:
        """Take over what a snapshot says of the table as a whole."""
        self.clock_ms = head.clock_ms
        self.unix_offset_ms = head.unix_offset_ms
        self.last_version = head.last_version
        self.feature_level = head.feature_level
        self.totals = head.totals
        self.means = HoldMeans(head.totals)
        self.rates = Rates(head.totals)

    def adopt_lock(self, name: LockName, lock: Lock) -> None:
        """Put a lock from a snapshot in its place, and into everything that is derived from it."""
        self.locks.writable(name)[name] = lock
        self.locks_by_db[name[0]] += 1
        for hold in lock.holds:
            self.owners.add(hold.owner, name)
        deadline_ms = lock.next_deadline_ms
        if deadline_ms:
            self.timers.add(name, deadline_ms)

    def check(self) -> None:
        """Recompute what is derived and compare; raises AssertionError. Slow: for tests."""
        owned: dict[bytes, list[LockName]] = {}
        by_db = [0] * limits.DATABASES
        versions: list[int] = []
        for name, lock in self.locks:
            assert lock.holds, "a free lock is in the table"
            assert lock.mode is Mode.EXCLUSIVE, "an unknown kind of lock"
            assert len(lock.holds) == 1, "two holders"
            by_db[name[0]] += 1
            for hold in lock.holds:
                owned.setdefault(hold.owner, []).append(name)
                versions.append(hold.version)
                assert hold.version <= self.last_version, "a version above the last one"
        assert len(set(versions)) == len(versions), "two holds with one version"
        assert by_db == self.locks_by_db, "the counts by database are off"
        assert len(owned) == len(self.owners), "the owner index has strangers or gaps"
        for owner, names in owned.items():
            assert self.owners.names_of(owner) == sorted(names), "the owner index is off"


_RELEASED = Released()
_NOT_YET = Refused("waiting and kinds of locks are not there yet")


def _not_yours(operation: Release | Renew, lock: Lock, hold: Hold | None) -> NotOwner | Stale:
    """Why an operation on a held lock is refused: another owner has it, or another version."""
    if hold is None:
        holder = lock.holds[0]
        return NotOwner(operation.name, holder.owner, holder.version)
    return Stale(operation.name, operation.version, hold.version)
